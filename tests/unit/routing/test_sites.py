# SPDX-License-Identifier: Apache-2.0
"""The routing configuration of the two-site lab, rendered from its inventory: what each router says to whom."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Lines of frr.conf by router."""
    folder = tmp_path_factory.mktemp("frr")
    tasks = [
        {"ansible.builtin.include_role": {"name": "quagga", "tasks_from": "preflight", "public": True}},
        {
            "ansible.builtin.template": {
                "src": str(REPOSITORY / "roles/quagga/templates/frr.conf.j2"),
                "dest": f"{folder}/{{{{ inventory_hostname }}}}",
                "mode": "0644",
            }
        },
    ]
    (folder / "play.yml").write_text(json.dumps([{"hosts": "network_routers", "gather_facts": False, "tasks": tasks}]))
    variables = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *(
                "-i",
                str(REPOSITORY / "inventories/lab"),
                "--extra-vars",
                json.dumps(variables),
                str(folder / "play.yml"),
            ),
        ],
        cwd=REPOSITORY,
        env=os.environ
        | {
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_ROLES_PATH": str(REPOSITORY / "roles"),
            "ANSIBLE_FILTER_PLUGINS": str(REPOSITORY / "filter_plugins"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: (folder / name).read_text().splitlines() for name in ("rtr_w1", "rtr_e1", "rtr_c1")}


def lines(config: list[str], start: str) -> list[str]:
    return [line.strip() for line in config if line.strip().startswith(start)]


@pytest.mark.parametrize(("router", "number"), [("rtr_w1", 1), ("rtr_e1", 2)])
def test_a_site_announces_its_aggregate_and_takes_it_from_nobody(
    rendered: dict[str, list[str]], router: str, number: int
) -> None:
    own, far = f"5f00:{number}::/32", f"5f00:{3 - number}::"
    config = rendered[router]
    assert lines(config, "router bgp") == [f"router bgp {64600 + number}"]
    assert f"ipv6 route {own} reject" in config
    assert lines(config, "ipv6 prefix-list to-rtr_c1")[0] == f"ipv6 prefix-list to-rtr_c1 seq 5 permit {own}"
    assert lines(config, "ipv6 prefix-list from-rtr_c1")[:2] == [
        f"ipv6 prefix-list from-rtr_c1 seq 5 deny {own} le 128",
        "ipv6 prefix-list from-rtr_c1 seq 10 permit 5f00::/16 ge 32 le 32",
    ]
    neighbour = f"2001:db8:f0ff:10{number}::1"
    assert f" neighbor {neighbour} remote-as 64600" in config
    assert f" neighbor {neighbour} bfd profile og" in config
    assert not [line for line in config if far in line], "nothing of the other site is configured here"


def test_a_router_between_sites_hands_on_aggregates_and_has_none(rendered: dict[str, list[str]]) -> None:
    config = rendered["rtr_c1"]
    assert lines(config, "router bgp") == ["router bgp 64600"]
    assert lines(config, "ipv6 route") == ["ipv6 route 2001:db8:1::/48 blackhole"]
    assert "ipv6 prefix-list og-aggregate seq 5 deny any" in config
    for name in ("rtr_w1", "rtr_e1"):
        for direction in ("from", "to"):
            assert lines(config, f"ipv6 prefix-list {direction}-{name}") == [
                f"ipv6 prefix-list {direction}-{name} seq {number} permit {rule}"
                for number, rule in (
                    (5, "5f00::/16 ge 32 le 32"),
                    (10, "2001:db8:1::/48 ge 128"),
                    (15, "2001:db8:f000::/36 ge 48 le 64"),
                    (20, "2001:db8:c000::/36 ge 48 le 64"),
                )
            ]
    assert len(lines(config, "neighbor 2001:db8:f0ff")) == len([x for x in config if "neighbor 2001" in x])


def test_router_ids_differ(rendered: dict[str, list[str]]) -> None:
    found = [lines(config, "bgp router-id")[0].split()[-1] for config in rendered.values()]
    assert sorted(found) == ["0.1.0.1", "0.2.0.1", "0.255.0.1"]
