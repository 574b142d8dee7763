# SPDX-License-Identifier: Apache-2.0
"""Shipped profiles, the inventory's overrides over them, and what becomes of both in preflight."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from filter_plugins.og_policy import PROFILES, og_accept_limits, og_effective_policy, og_site_policies
from og.policy.check import Inventory, load_policy
from og.policy.loops import is_drained

ROOT = Path(__file__).resolve().parents[3]
NAMES = ["active-active", "drain-site", "failover-only", "spill-at-90"]


def effective(overrides, profile):
    return load_policy(yaml.safe_dump(og_effective_policy(overrides, profile)), profile)


def test_the_profiles_are_these():
    assert sorted(path.stem for path in PROFILES.glob("*.yml")) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("other", NAMES)
def test_profiles_are_valid_and_fit_together(name, other):
    inventory = Inventory(["web"], "west", ["west", "east"], {"east": effective({}, other)})
    text = (PROFILES / f"{name}.yml").read_text()
    if name == other == "drain-site":
        with pytest.raises(Exception, match="nobody is left"):
            load_policy(text, name, inventory)
    else:
        policy = load_policy(text, name, inventory)
        assert policy.name == name
        assert is_drained("west", policy, policy.service("web")) == (name == "drain-site")


def test_overrides_go_over_the_profile():
    overrides = {"defaults": {"spill": {"target": 0.8}}, "services": {"web": {"capacity": {"new_per_s": 50}}}}
    policy = effective(overrides, "spill-at-90")
    web = policy.service("web")
    assert (web.spill.target, web.spill.limit, web.capacity_unit, web.capacity) == (0.8, 0.9, "new_per_s", 50)
    assert policy.service("other").spill.target == 0.8


def test_another_unit_of_capacity_replaces_the_profiles(tmp_path):
    file = tmp_path / "mine.yml"
    file.write_text("version: 1\ndefaults: {capacity: {connections: 9}}\n")
    policy = og_effective_policy({"defaults": {"capacity": {"mbit_s": 5}}}, str(file))
    assert policy["defaults"]["capacity"] == {"mbit_s": 5}


def test_bad_profiles(tmp_path):
    with pytest.raises(AnsibleFilterError, match="no profile 'half'; there are active-active, drain-site"):
        og_effective_policy({}, "half")
    (tmp_path / "x.yml").write_text("[1\n")
    with pytest.raises(AnsibleFilterError, match=r"x\.yml"):
        og_effective_policy({}, str(tmp_path / "x.yml"))
    with pytest.raises(AnsibleFilterError, match="not a mapping"):
        og_effective_policy([1], "failover-only")


def test_accept_limits_reach_the_agents():
    services: list[dict[str, Any]] = [{"name": "web"}, {"name": "db", "accept_limit": 3}]
    assert og_accept_limits(services, {"version": 1}) == services
    policy = {"defaults": {"accept_limit": 7}, "services": {"web": {"accept_limit": 9}}}
    assert [service["accept_limit"] for service in og_accept_limits(services, policy)] == [9, 7]


def test_every_site_has_the_policy_of_its_gateways():
    hosts: dict[str, dict[str, Any]] = {
        "ogr_w1": {"og_policy": {"drain": ["a"]}, "og_policy_profile": "spill-at-90"},
        "ogr_e1": {"og_dataplane_policy": {"version": 1}},
    }
    groups = {"site_west": ["ogr_w1", "cli_w1"], "site_east": ["ogr_e1"], "routers": ["ogr_w1", "ogr_e1"]}
    policies = og_site_policies(hosts, groups, ["west", "east", "south"])
    assert policies["east"] == {"version": 1}
    assert (policies["west"]["name"], policies["west"]["drain"]) == ("spill-at-90", ["a"])
    assert "south" not in policies


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"og_policy_profile": "half"}, "there is no profile 'half'"),
        ({"og_policy": {"services": {"web": {"spill": {"sites": ["south"]}}}}}, "no such site 'south'"),
    ],
)
def test_preflight(variables, expected):
    playbook = Path(sys.executable).with_name("ansible-playbook")
    command = [
        str(playbook),
        "-i",
        str(ROOT / "inventories/recovery"),
        str(ROOT / "playbooks/preflight.yml"),
        "-e",
        json.dumps(variables),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)
    said = " ".join(done.stdout.split())
    assert (done.returncode == 0) is (expected is None), said
    assert expected is None or expected in said, said
