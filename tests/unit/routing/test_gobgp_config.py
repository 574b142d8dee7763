# SPDX-License-Identifier: Apache-2.0
"""GoBGP's configuration and unit as the role writes them, with and without TTL security and BFD."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
ROLE = REPOSITORY / "roles/gobgp"
NEIGHBORS = [{"address": f"2001:db8:f001:11::{last}", "asn": 64601} for last in "ab"]


def render(tmp_path: Path, **variables: Any) -> tuple[dict[str, Any], str]:
    """Return the configuration and the unit."""
    copies = [
        {
            "ansible.builtin.template": {
                "src": str(ROLE / f"templates/{name}.j2"),
                "dest": str(tmp_path / name),
                "mode": "0644",
            }
        }
        for name in ("gobgpd.toml", "gobgpd.service")
    ]
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(ROLE / "defaults/main.yml")],
        "tasks": copies,
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    given = {
        "ansible_python_interpreter": sys.executable,
        "gobgp_asn": 64701,
        "gobgp_router_id": "0.1.0.17",
        "gobgp_local_address": "2001:db8:f001:11::2",
        "gobgp_neighbors": NEIGHBORS,
    }
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    done = subprocess.run(
        [program, "-i", "localhost,", "-c", "local", tmp_path / "play.yml", "-e", json.dumps(given | variables)],
        capture_output=True, text=True, check=False, env=os.environ | {"ANSIBLE_NOCOLOR": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return tomllib.loads((tmp_path / "gobgpd.toml").read_text()), (tmp_path / "gobgpd.service").read_text()


@pytest.mark.parametrize("ttl_security", [True, False])
@pytest.mark.parametrize("bfd", [True, False])
def test_both_can_be_left_out(tmp_path: Path, *, ttl_security: bool, bfd: bool) -> None:
    config, unit = render(tmp_path, gobgp_ttl_security_enabled=ttl_security, gobgp_bfd_enabled=bfd)
    assert [peer["config"]["neighbor-address"] for peer in config["neighbors"]] == [n["address"] for n in NEIGHBORS]
    for peer in config["neighbors"]:
        assert peer.get("ttl-security") == ({"config": {"enabled": True, "ttl-min": 255}} if ttl_security else None)
        assert ("bfd" in peer) is bfd
        assert peer["afi-safis"] == [{"config": {"afi-safi-name": "ipv6-unicast"}}]
    assert ("ExecStopPost=/bin/sleep 0.9" in unit) is bfd


def setting(unit: str, name: str) -> str:
    """What the unit sets to this name."""
    return next(line.partition("=")[2] for line in unit.splitlines() if line.startswith(f"{name}="))


@pytest.mark.parametrize(("multiplier", "sleep", "limit"), [(3, "0.9", "10"), (100, "30.0", "40")])
def test_a_stop_may_last_until_the_neighbours_bfd_session_is_over(
    tmp_path: Path, multiplier: int, sleep: str, limit: str
) -> None:
    """systemd would kill the sleep, and the next process start too early."""
    config, unit = render(tmp_path, gobgp_bfd_multiplier=multiplier)
    assert config["neighbors"][0]["bfd"]["config"]["detection-multiplier"] == multiplier
    assert setting(unit, "ExecStopPost") == f"/bin/sleep {sleep}"
    assert setting(unit, "TimeoutStopSec") == limit


def test_both_are_the_default(tmp_path: Path) -> None:
    config, _ = render(tmp_path)
    assert config["neighbors"][0]["ttl-security"]["config"]["enabled"]
    assert config["neighbors"][0]["bfd"]["config"]["desired-minimum-tx-interval"] == 300_000
