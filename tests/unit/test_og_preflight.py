# SPDX-License-Identifier: Apache-2.0
"""Preflight: a good inventory passes; each kind of bad one is told what, where, and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from filter_plugins.og_preflight import GROUPS, Sources, check_inventory
from tests.scale.inventory import SECRETS

ROOT = Path(__file__).resolve().parents[2]
INVENTORIES = sorted(path.parent for path in (ROOT / "inventories").glob("*/hosts.yml"))

SITE: dict[str, Any] = {
    "og_lab": True,
    "og_sid_block": "5f00::/16",
    "og_fabric_block": "2001:db8:f000::/36",
    "og_client_block": "2001:db8:c000::/36",
    "og_vip_block": "2001:db8:1::/48",
    "og_fabric_mtu": 2000,
    "og_sites": {"west": {"number": 1, "asn": 64601, "gateway_asn": 64701}},
    "og_services": [{"name": "web", "vip": "2001:db8:1::80", "protocol": "tcp", "port": 80, "index": 0}],
}
HOSTS: dict[str, Any] = {
    f"h{number}": {"og_site": "west", "og_node": number, "groups": [group, "site_west"]}
    for number, group in enumerate(GROUPS, start=1)
}

# The same roles once more in east, and a core router between the two.
TWO_SITES: dict[str, Any] = SITE | {
    "og_sites": SITE["og_sites"] | {"east": {"number": 2, "asn": 64602, "gateway_asn": 64702}},
    "og_transit": {"core": {"number": 255, "asn": 64600}},
    "og_trunks": [{"a": "core", "b": "h1", "number": 0x101}, {"a": "core", "b": "e1", "number": 0x102}],
}
TWO_SITES_HOSTS: dict[str, Any] = (
    HOSTS
    | {
        f"e{number}": {"og_site": "east", "og_node": number, "groups": [group, "site_east"]}
        for number, group in enumerate(GROUPS, start=1)
    }
    | {"core": {"og_site": "core", "og_node": 1, "groups": ["network_routers", "site_core"]}}
)


def problems(site: dict[str, Any] | None = None, hosts: dict[str, Any] | None = None) -> list[str]:
    return check_inventory(SITE | (site or {}), deepcopy(HOSTS) | (hosts or {}), ["inventories/none"])


def test_a_good_inventory_passes() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("site", "hosts", "wanted"),
    [
        ({"og_sid_block": "5f00::/200"}, {}, ["og_sid_block: not an IPv6 prefix: '5f00::/200'"]),
        ({"og_sid_block": None}, {}, ["og_sid_block: not an IPv6 prefix: None"]),
        (
            {"og_client_block": "2001:db8:f800::/40"},
            {},
            ["og_fabric_block: 2001:db8:f000::/36 overlaps og_client_block"],
        ),
        ({"og_sites": {}}, {}, ["og_sites: not a map of sites", "og_site: unknown site 'west'"]),
        ({"og_sites": {"west": {"number": 0, "asn": 1, "gateway_asn": 2}}}, {}, ["og_sites.west.number: not a number"]),
        (
            {"og_sites": SITE["og_sites"] | {"east": {"number": 2, "asn": 64602, "gateway_asn": 64702}}},
            {},
            ["og_sites.east: no host has og_site east: add its hosts, or remove it"],
        ),
        (
            {"og_sites": {"west": {"number": 5000, "asn": 64601, "gateway_asn": 64701}}},
            {},
            [
                "og_sites.west.number: 5000 does not fit into og_fabric_block, which has room for 1 to 4095",
                "og_sites.west.number: 5000 does not fit into og_client_block",
            ],
        ),
        ({"og_transit": ["core"]}, {}, ["og_transit: not a map of networks between sites"]),
        ({"og_trunks": "core"}, {}, ["og_trunks: not a list of trunks"]),
        (
            {},
            {"h1": {"og_site": "west", "og_node": 1, "groups": ["site_west"]}},
            ["network_routers: the group is missing or empty"],
        ),
        (
            {},
            {"h1": HOSTS["h1"] | {"og_site": "wset"}},
            ["network_routers: no host of site west", "og_site: unknown site 'wset' of h1; og_sites has west"],
        ),
        (
            {},
            {"h1": HOSTS["h1"] | {"og_node": 2}},
            ["h2.og_node: 0x2 is the number of h1 too, so their locators overlap"],
        ),
        ({}, {"h1": HOSTS["h1"] | {"og_node": "0x21"}}, ["h1.og_node: not a number of 1 to 0xffff: '0x21'"]),
        ({}, {"h1": HOSTS["h1"] | {"og_node": None}}, ["h1.og_node: not a number of 1 to 0xffff: None"]),
        (
            {},
            {"h1": HOSTS["h1"] | {"groups": ["network_routers"]}},
            ["h1.og_site: is west, but the host is not in the group"],
        ),
        ({}, {"a-long-name-for-a-port": HOSTS["h1"] | {"og_node": 99}}, ["a-long-name-for-a-port: a name is 1 to 12"]),
        ({"og_services": []}, {}, ["og_services: not a list of services"]),
        ({"og_services": [{"name": "web"}]}, {}, ["og_services[0]: has no vip, protocol, port, index"]),
        ({"og_fabric_mtu": 1755}, {}, ["og_fabric_mtu: 1755 is too small"]),
    ],
)
def test_one_problem_is_told_once(site: dict[str, Any], hosts: dict[str, Any], wanted: list[str]) -> None:
    found = problems(site, hosts)
    assert len(found) == len(wanted), found
    for problem, start in zip(found, wanted, strict=True):
        assert problem.startswith(start), found


def test_only_a_lab_makes_its_network_and_clients() -> None:
    hosts = {name: host for name, host in HOSTS.items() if not {"network_routers", "clients"} & set(host["groups"])}
    assert check_inventory(SITE | {"og_lab": False}, hosts, ["inventories/none"]) == []
    assert [problem.split(":")[0] for problem in check_inventory(SITE, hosts, ["inventories/none"])] == [
        "network_routers",
        "clients",
    ]


def two_sites(site: dict[str, Any], hosts: dict[str, Any]) -> list[str]:
    wanted = deepcopy(TWO_SITES_HOSTS) | hosts
    present = {name: host for name, host in wanted.items() if host is not None}
    return check_inventory(TWO_SITES | site, present, ["inventories/none"])


def test_two_sites_pass() -> None:
    assert two_sites({}, {}) == []


EAST = TWO_SITES["og_sites"]["east"]
TRUNKS = TWO_SITES["og_trunks"]


@pytest.mark.parametrize(
    ("site", "hosts", "wanted"),
    [
        (
            {"og_sites": SITE["og_sites"] | {"east": EAST | {"number": 1}}},
            {},
            ["og_sites.east.number: 1 is og_sites.west.number too"],
        ),
        (
            {"og_sites": SITE["og_sites"] | {"east": EAST | {"gateway_asn": 64601}}},
            {},
            ["og_sites.east.gateway_asn: 64601 is og_sites.west.asn too"],
        ),
        (
            {"og_transit": {"core": {"number": 2, "asn": 64702}}},
            {},
            [
                "og_transit.core.number: 2 is og_sites.east.number too",
                "og_transit.core.asn: 64702 is og_sites.east.gateway_asn too",
            ],
        ),
        ({"og_transit": {"core": {"number": 255}}}, {}, ["og_transit.core.asn: not a number of 1 to 4294967295: None"]),
        (
            {"og_transit": TWO_SITES["og_transit"] | {"east": {"number": 3, "asn": 64603}}},
            {},
            [
                "og_transit.east: is the name of a site too",
                *(f"e{number}.og_site: east is one of og_transit" for number in range(2, 7)),
            ],
        ),
        *(
            ({}, {f"e{number}": None}, [f"{group}: no host of site east is in the group"])
            for number, group in enumerate(GROUPS, start=1)
            if group != "network_routers"
        ),
        (
            {},
            {"core": TWO_SITES_HOSTS["core"] | {"groups": ["network_routers", "routers", "site_core"]}},
            ["core.og_site: core is one of og_transit, where only network routers can be, but the host is in routers"],
        ),
        ({"og_trunks": TRUNKS[:1]}, {}, ["og_trunks: no way between (core, west) and (east)"]),
        ({"og_trunks": []}, {}, ["og_trunks: no way between (core) and (east) and (west)"]),
        (
            {"og_trunks": [*TRUNKS, {"a": "core", "b": "h2", "number": 9}]},
            {},
            ["og_trunks[2].b: not a network router: 'h2'"],
        ),
        ({"og_trunks": [*TRUNKS, {"a": "h1", "b": "h1", "number": 9}]}, {}, ["og_trunks[2]: both ends are h1"]),
        (
            {"og_trunks": [*TRUNKS, {"a": "h1", "b": "e1", "number": 3}]},
            {},
            ["og_trunks[2].number: 0x3 is the number of h3 in west, so their links overlap"],
        ),
        (
            {"og_trunks": [*TRUNKS, {"a": "core", "b": "e1", "number": 0x101}]},
            {},
            ["og_trunks[2].number: 0x101 is the number of og_trunks[0] in core"],
        ),
        (
            {"og_trunks": [*TRUNKS, {"a": "h1", "b": "e1"}]},
            {},
            ["og_trunks[2].number: not a number of 1 to 0xffff: None"],
        ),
    ],
)
def test_problems_of_two_sites(site: dict[str, Any], hosts: dict[str, Any], wanted: list[str]) -> None:
    found = two_sites(site, hosts)
    assert len(found) == len(wanted), found
    for problem, start in zip(found, wanted, strict=True):
        assert problem.startswith(start), found


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"vip": "5f00:1::80"}, "og_services[0].vip: 5f00:1::80 lies inside og_sid_block 5f00::/16"),
        ({"vip": "2001:db8:f001::1"}, "og_services[0].vip: 2001:db8:f001::1 lies inside og_fabric_block"),
        ({"vip": "2001:db8:2::80"}, "og_services[0].vip: 2001:db8:2::80 lies outside og_vip_block 2001:db8:1::/48"),
        ({"vip": "192.0.2.1"}, "og_services[0].vip: not an IPv6 address: '192.0.2.1'"),
        ({"protocol": "sctp"}, "og_services[0].protocol: neither tcp nor udp: 'sctp'"),
        ({"port": 0}, "og_services[0].port: not a port: 0"),
        ({"port": True}, "og_services[0].port: not a port: True"),
        ({"index": 64}, "og_services[0].index: not a number of 0 to 63: 64"),
        ({"unit": "shop.service"}, "og_services[0].unit: not the name of a systemd unit, without .service"),
        ({"unit": "a b"}, "og_services[0].unit: not the name of a systemd unit"),
        ({"health_url": "/up"}, "og_services[0].health_url: not an http or https URL: '/up'"),
    ],
)
def test_a_bad_service(change: dict[str, Any], wanted: str) -> None:
    (problem,) = problems({"og_services": [SITE["og_services"][0] | change]})
    assert problem.startswith(wanted)


def test_services_that_collide() -> None:
    found = problems({"og_services": [SITE["og_services"][0], SITE["og_services"][0]]})
    assert [problem.split(":")[0] for problem in found] == [
        f"og_services[1].{key}" for key in ("name", "index", "address")
    ]


def test_places_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "hosts.yml").write_text("all:\n  children:\n    site_west:\n      hosts:\n        a: {og_node: 1}\n")
    (tmp_path / "group_vars/all.yml").write_text("x: 1\nog_sites:\n  west: {number: 1}\n")
    (tmp_path / "group_vars/broken.yml").write_text("a: [\n")
    (tmp_path / "group_vars/secret.yml").write_text("password: !vault |\n  $ANSIBLE_VAULT\n")
    monkeypatch.chdir(tmp_path)
    sources = Sources(["."])
    assert sources.place("a") == "hosts.yml:5"
    assert sources.place("og_sites", "west") == "group_vars/all.yml:3"
    assert sources.place("password") == "group_vars/secret.yml:1"
    assert sources.place("nowhere") == "."


def play(inventory: Path, playbook: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook as an operator would."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), playbook, *arguments],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.name)
def test_every_inventory_of_the_project_passes(inventory: Path) -> None:
    vault = ["-e", json.dumps(SECRETS)] if inventory.name == "example" else []
    done = play(inventory, "playbooks/preflight.yml", *vault)
    assert done.returncode == 0, done.stdout + done.stderr


def ran_on(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Where tasks ran: the last name in `ok: [host -> delegate]`."""
    return set(re.findall(r"^(?:ok|changed|fatal|failed): \[(?:\S+ -> )?(\w+)", done.stdout, re.MULTILINE))


def test_a_policy_circle_is_refused_for_a_part_of_the_hosts_too(tmp_path: Path) -> None:
    inventory = tmp_path / "circle"
    shutil.copytree(ROOT / "inventories/lab", inventory)
    main = inventory / "group_vars/all/main.yml"
    main.write_text(main.read_text() + "\nog_policy: {defaults: {spill: {target: 0.8, limit: 0.9}}}\n")

    done = play(inventory, "playbooks/policy.yml", "--limit", "site_west")

    assert done.returncode != 0
    assert "circle" in done.stdout + done.stderr
    assert ran_on(done) == {"localhost"}


@pytest.mark.parametrize("playbook", ["drain", "restore"])
@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["-e", "og_drain_target=agent_w1", "--limit", "site_west"], "--limit (site_west) has no place here"),
        (["-e", "og_drain_target=agent_w9"], "og_drain_target (agent_w9) is neither a server"),
        ([], "og_drain_target (not set) is neither a server"),
    ],
)
def test_who_is_drained_is_said_by_the_target_alone(playbook: str, arguments: list[str], wanted: str) -> None:
    done = play(ROOT / "inventories/lab", f"playbooks/{playbook}.yml", *arguments)
    assert done.returncode != 0
    assert wanted in " ".join((done.stdout + done.stderr).split())
    assert done.stdout.count("PLAY [") == 1, "no host was touched"


def test_a_bad_inventory_of_two_sites_stops_before_any_host(tmp_path: Path) -> None:
    inventory = tmp_path / "bad"
    shutil.copytree(ROOT / "inventories/lab", inventory)
    hosts = inventory / "hosts.yml"
    hosts.write_text(hosts.read_text().replace("        ogr_e1:\n        ogr_e2:\n", ""))
    main = inventory / "group_vars/all/main.yml"
    main.write_text(main.read_text().replace("gateway_asn: 64702", "gateway_asn: 64701"))
    line = 1 + next(number for number, row in enumerate(main.read_text().splitlines()) if row.startswith("  east:"))

    done = play(inventory, "site.yml")

    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert "The inventory has 2 problem(s). No host was touched." in said
    assert f"og_sites.east.gateway_asn: 64701 is og_sites.west.gateway_asn too ({main}:{line})" in said
    assert "routers: no host of site east is in the group" in said
    assert ran_on(done) == {"localhost"}


def test_a_bad_inventory_stops_before_any_host(tmp_path: Path) -> None:
    inventory = tmp_path / "bad"
    shutil.copytree(ROOT / "inventories/recovery", inventory)
    hosts = inventory / "hosts.yml"
    hosts.write_text(hosts.read_text().replace("ogr_w2: {og_node: 0x22}", "ogr_w2: {og_node: 0x21}"))
    main = inventory / "group_vars/all/main.yml"
    main.write_text(main.read_text().replace("vip: 2001:db8:1::80", "vip: 5f00:1::80"))
    line = 1 + hosts.read_text().splitlines().index("        ogr_w2: {og_node: 0x21}")

    done = play(inventory, "site.yml")

    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert "The inventory has 2 problem(s). No host was touched." in said
    assert "ogr_w2.og_node: 0x21 is the number of ogr_w1 too, so their locators overlap" in said
    assert f"({hosts}:{line})" in said
    assert "og_services[0].vip: 5f00:1::80 lies inside og_sid_block 5f00::/16" in said
    assert f"({main}:" in said
    assert ran_on(done) == {"localhost"}


def test_every_yaml_of_the_inventories_is_read() -> None:
    for inventory in INVENTORIES:
        for path in inventory.rglob("*.yml"):
            assert yaml.safe_load(path.read_text()), path
