# SPDX-License-Identifier: Apache-2.0
"""A bad inventory stops the roles before they touch a host, and the message names the variable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
ADDRESSES = {
    "ogh_w1": {"og_address": "2001:db8:f001:11::2", "og_locator": "5f00:1:11::/64"},
    "rtr_w1": {"og_address": "2001:db8:f001:1::1", "og_locator": "5f00:1:1::/64"},
}


def inventory(change: dict[str, Any], host_change: dict[str, Any]) -> dict[str, Any]:
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "og_site": "west",
        "og_node": 1,
        "og_sid_block": "5f00::/16",
        "og_fabric_block": "2001:db8:f000::/36",
        "og_client_block": "2001:db8:c000::/36",
        "og_vip_block": "2001:db8:1::/48",
        "og_gateway_address": "2001:db8:f001:11::1",
        "og_sites": {"west": {"number": 1, "asn": 64601, "gateway_asn": 64701}},
    }
    hosts = {name: dict(values) for name, values in ADDRESSES.items()}
    hosts["ogh_w1"] = {key: value for key, value in (hosts["ogh_w1"] | host_change).items() if value is not None}
    groups = {"network_routers": ["rtr_w1"], "hashers": ["ogh_w1"], "site_west": list(hosts)}
    children: dict[str, Any] = {group: {"hosts": {name: {} for name in members}} for group, members in groups.items()}
    return {"all": {"hosts": hosts, "vars": variables | change, "children": children}}


def preflight(
    tmp_path: Path, role: str, change: dict[str, Any], host_change: dict[str, Any] | None = None
) -> subprocess.CompletedProcess[str]:
    (tmp_path / "hosts.json").write_text(json.dumps(inventory(change, host_change or {})))
    host = "rtr_w1" if role == "quagga" else "ogh_w1"
    (tmp_path / "play.yml").write_text(json.dumps([{"hosts": host, "gather_facts": False, "roles": [role]}]))
    environment = os.environ | {
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_ROLES_PATH": str(REPOSITORY / "roles"),
        "ANSIBLE_FILTER_PLUGINS": str(REPOSITORY / "filter_plugins"),
        "ANSIBLE_NOCOLOR": "1",
    }
    playbook = Path(sys.executable).with_name("ansible-playbook")
    return subprocess.run(
        [playbook, "-i", tmp_path / "hosts.json", "--tags", "preflight", tmp_path / "play.yml"],
        capture_output=True, text=True, timeout=300, check=False, env=environment,
    )  # fmt: skip


@pytest.mark.parametrize("role", ["quagga", "gobgp"])
def test_a_good_inventory_passes(tmp_path: Path, role: str) -> None:
    done = preflight(tmp_path, role, {})
    assert done.returncode == 0, done.stdout + done.stderr


UPLINK = {"name": "core", "address": "2001:db8:f001:1::2", "asn": 64600, "port": "to-core"}


@pytest.mark.parametrize(
    ("role", "change", "host_change", "said"),
    [
        ("quagga", {}, {"og_locator": None}, "ogh_w1 is in quagga_hashers or quagga_routers, but has no"),
        (
            "quagga",
            {"og_sites": {"west": {"number": 1, "asn": 64701, "gateway_asn": 64701}}},
            {},
            "og_sites.west.gateway_asn is 64701",
        ),
        ("quagga", {"quagga_uplinks": [UPLINK, UPLINK]}, {}, "two entries share a name or an address"),
        ("quagga", {"quagga_uplinks": [{"name": "core"}]}, {}, "missing required arguments"),
        ("quagga", {"quagga_sid_discard": "forward"}, {}, "value of quagga_sid_discard must be one of"),
        ("gobgp", {"gobgp_version": "4.2.0"}, {}, "gobgp_version is 4.2.0"),
        ("gobgp", {"gobgp_sources": ["pip"]}, {}, "value of gobgp_sources must be one or more of"),
    ],
)
def test_a_bad_one_stops_before_anything_is_done(
    tmp_path: Path, role: str, change: dict[str, Any], host_change: dict[str, Any], said: str
) -> None:
    done = preflight(tmp_path, role, change, host_change)
    assert done.returncode != 0
    assert said in " ".join(done.stdout.split()), done.stdout
    assert "changed=0" in done.stdout
