# SPDX-License-Identifier: Apache-2.0
"""The generated inventory is a good one, and its hosts are nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from filter_plugins.og_preflight import check_inventory
from tests.scale.inventory import ROOT, hosts, write

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("count", [12, 50, 201])
def test_it_has_so_many_hosts_of_all_roles(count: int) -> None:
    made = hosts(count)["all"]["children"]
    members = [name for site in ("site_west", "site_east") for name in made[site]["hosts"]]
    assert len(members) == len(set(members)) == count
    groups = ("hashers", "routers", "agents", "monitors")
    assert sorted(name for group in groups for name in made[group]["hosts"]) == sorted(members)


def test_too_few() -> None:
    with pytest.raises(ValueError, match="need 12 hosts, not 11"):
        hosts(11)


def test_it_passes_preflight_and_runs_nothing(tmp_path: Path) -> None:
    inventory = write(tmp_path, 20)
    environment = os.environ | {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_CONNECTION_PLUGINS": str(ROOT / "tests/scale/connection"),
    }
    bin_dir = os.path.dirname(sys.executable)  # noqa: PTH120 - the environment's own programs, not the interpreter's
    listed = subprocess.run(
        [f"{bin_dir}/ansible-inventory", "-i", inventory, "--list"],
        capture_output=True, text=True, env=environment, check=True,
    )  # fmt: skip
    variables = json.loads(listed.stdout)["_meta"]["hostvars"]
    site = next(iter(variables.values()))
    data = {
        name: {"og_site": host["og_site"], "og_node": host["og_node"], "groups": groups(name, host["og_site"])}
        for name, host in variables.items()
    }
    assert check_inventory(site, data, [str(inventory)]) == []
    marker = tmp_path / "ran"
    done = subprocess.run(
        [f"{bin_dir}/ansible", "-i", inventory, "agents", "-m", "ansible.builtin.command", "-a", f"touch {marker}"],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert not marker.exists()


def groups(name: str, site: str) -> list[str]:
    kinds = {"ogh": "hashers", "ogr": "routers", "agent": "agents", "mon": "monitors"}
    return [kinds[name.partition("_")[0]], f"site_{site}"]
