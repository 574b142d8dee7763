# SPDX-License-Identifier: Apache-2.0
"""The production inventory: what a copy of it makes of every host, computed by Ansible itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from netaddr import IPNetwork

from filter_plugins.og_address import og_gateways

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "inventories/example"
GOSSIP_KEY = "A" * 43 + "="
SECRETS = {"vault_og_flow_seed": "0" * 32, "vault_consul_gossip_key": GOSSIP_KEY, "vault_grafana_admin_password": "p"}
VALUES = (
    "og_site", "og_address", "og_locator", "og_gateway_address", "og_role", "consul_mode", "consul_servers",
    "consul_servers_wan", "consul_config_extra", "monitoring_server", "monitoring_influxdb_sites",
)  # fmt: skip


def ansible(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name(program)), "-i", str(EXAMPLE), *arguments]
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)


def write(folder: Path, host_values: str, hosts: str, roles: tuple[str, ...] = ()) -> Path:
    """Make a play that writes a value per host. Of `roles` it has the defaults, and checks their arguments."""
    task = {"ansible.builtin.copy": {"content": host_values, "dest": f"{folder}/{{{{ inventory_hostname }}}}.json"}}
    play = {
        "hosts": hosts,
        "gather_facts": False,
        "connection": "local",
        "roles": list(roles),
        "tasks": [task | {"tags": ["probe"]}],
    }
    path = folder / "play.yml"
    path.write_text(yaml.safe_dump([play]))
    return path


def evaluate(folder: Path, host_values: str, hosts: str, secrets: dict[str, str], *roles: str) -> dict[str, Any]:
    """Have Ansible compute an expression for hosts."""
    variables = json.dumps({**secrets, "ansible_python_interpreter": sys.executable})
    done = ansible(
        "ansible-playbook", "--tags", "probe", str(write(folder, host_values, hosts, roles)), "-e", variables
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    values = "{{ {" + ", ".join(f"'{name}': {name}" for name in VALUES) + "} | to_json }}"
    return evaluate(tmp_path_factory.mktemp("hosts"), values, "all:!build", SECRETS)


def test_two_whole_sites(hosts: dict[str, Any]) -> None:
    listed = json.loads(ansible("ansible-inventory", "--list").stdout)
    for site in ("west", "east"):
        here = set(listed[f"site_{site}"]["hosts"])
        assert {name for name in here if hosts[name]["og_site"] == site} == here
        assert [len(here & set(listed[group]["hosts"])) for group in ("hashers", "routers", "agents", "monitors")] == [
            2,
            2,
            3,
            3,
        ]
    assert "network_routers" not in {
        group for group, data in listed.items() if isinstance(data, dict) and data.get("hosts")
    }


def test_addresses_follow_from_numbers_and_are_nobody_elses(hosts: dict[str, Any]) -> None:
    assert hosts["ogh_e2"]["og_locator"] == "5f00:2:12::/64"
    assert hosts["ogh_e2"]["og_address"] == "2001:db8:f002:12::2"
    for key in ("og_locator", "og_address"):
        assert len({host[key] for host in hosts.values()}) == len(hosts)
    assert all(IPNetwork(host["og_locator"]) in IPNetwork("5f00::/16") for host in hosts.values())


def test_gateways_of_both_sites(hosts: dict[str, Any]) -> None:
    listed = json.loads(ansible("ansible-inventory", "--list").stdout)
    groups = {name: listed[name]["hosts"] for name in ("hashers", "routers")}
    sites = {"west": {"number": 1}, "east": {"number": 2}}
    variables = {
        name: {"og_site": hosts[name]["og_site"], **facts}
        for name, facts in listed["_meta"]["hostvars"].items()
        if name in hosts
    }
    gateways = og_gateways(groups, variables, sites, "5f00::/16")
    assert {(gateway["name"], f"{gateway['locator']}/64") for gateway in gateways} == {
        (name, host["og_locator"]) for name, host in hosts.items() if host["og_role"] in ("hasher", "router")
    }


def test_consul_and_statistics(hosts: dict[str, Any]) -> None:
    west = [hosts[f"mon_w{number}"]["og_address"] for number in (1, 2, 3)]
    east = [hosts[f"mon_e{number}"]["og_address"] for number in (1, 2, 3)]
    assert (hosts["agent_w1"]["consul_servers"], hosts["mon_w1"]["consul_servers_wan"]) == (west, east)
    assert {name for name, host in hosts.items() if host["consul_mode"] == "server"} == {
        f"mon_{s}{n}" for s in "we" for n in (1, 2, 3)
    }
    assert [name for name, host in sorted(hosts.items()) if host["monitoring_server"]] == ["mon_e1", "mon_w1"]
    assert hosts["agent_w1"]["consul_config_extra"] == {"encrypt": GOSSIP_KEY}
    assert hosts["mon_e2"]["monitoring_influxdb_sites"] == {
        site: f"http://[{hosts[name]['og_address']}]:8086" for site, name in (("west", "mon_w1"), ("east", "mon_e1"))
    }, "the monitors that keep statistics"


def test_the_controller_needs_no_root() -> None:
    assert "ansible_become" not in json.loads(ansible("ansible-inventory", "--host", "ogh_w1").stdout)


def test_data_planes_take_a_device_hugepages_and_processors(tmp_path: Path) -> None:
    values = (
        "{{ {'options': __og_dataplane_options, 'peers': gobgp_neighbors, 'seed': og_dataplane_flow_seed,"
        " 'packages': __og_dataplane_wanted_packages, 'device': __og_dataplane_device,"
        " 'kernel': __og_dataplane_kernel_arguments} | to_json }}"
    )
    extra = SECRETS | {"og_dataplane_role": "hasher"}
    made = evaluate(tmp_path, values, "gateways", extra, "og_dataplane")
    assert len(made) == 8
    options = made["ogh_e1"]["options"]
    assert options["port"] == {"kind": "pci", "address": "0000:5e:00.1", "interface": "bond0"}
    assert options["eal"] == ["-m", "3072", "--lcores", "0@2,1@3,2@4,3@5"]
    assert options["next_hop"] == {"mode": "fixed", "mac": "02:00:00:00:02:01"}
    assert (options["threads"], options["fabric_mtu"]) == (4, 9000)
    assert made["ogh_e1"]["peers"] == [{"address": f"2001:db8:f002:11::{end}", "asn": 64602} for end in "ab"]
    assert made["ogh_e1"]["seed"] == "0" * 32
    assert {"dpdk", "driverctl", "librte-meta-net"} <= set(made["ogh_e1"]["packages"])
    assert made["ogh_e1"]["device"] == "/sys/bus/pci/devices/0000:5e:00.1"
    assert made["ogh_e1"]["kernel"] == "isolcpus=2-5 nohz_full=2-5 rcu_nocbs=2-5"


def test_a_port_shared_with_the_kernel_needs_no_driver_of_dpdk(tmp_path: Path) -> None:
    values = "{{ {'packages': __og_dataplane_wanted_packages, 'device': __og_dataplane_device} | to_json }}"
    extra = SECRETS | {"og_dataplane_role": "hasher", "og_dataplane_port": "af_xdp"}
    made = evaluate(tmp_path, values, "ogh_e1", extra, "og_dataplane")["ogh_e1"]
    assert not {"dpdk", "driverctl", "librte-meta-net"} & set(made["packages"])
    assert made["device"] == "/sys/class/net/bond0/device"


def test_every_secret_has_a_plain_name_and_a_place_in_the_vault() -> None:
    aliases = (EXAMPLE / "group_vars/all/secrets.yml").read_text()
    vault = yaml.safe_load((ROOT / "inventories/_shared/vault.example.yml").read_text())
    assert set(vault) == set(SECRETS)
    assert all(f"{{{{ {name} |" in aliases for name in vault)
    assert not any(vault.values()), "an example holds no secret"


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        ({"vault_consul_gossip_key": ""}, "a secret is not set: copy inventories/_shared/vault.example.yml"),
        ({"vault_grafana_admin_password": ""}, "a secret is not set: copy inventories/_shared/vault.example.yml"),
        (
            {"vault_consul_gossip_key": "k"},
            "Consul's gossip key (consul_config_extra.encrypt) must be 32 bytes in base64",
        ),
        ({}, ""),
    ],
)
def test_preflight_refuses_a_vault_that_is_not_filled_in(secrets: dict[str, str], said: str) -> None:
    done = ansible("ansible-playbook", "playbooks/preflight.yml", "-e", json.dumps(SECRETS | secrets))
    assert said in " ".join((done.stdout + done.stderr).split())
    assert (done.returncode != 0) == bool(said), done.stdout + done.stderr


def test_a_missing_vault_is_said(tmp_path: Path) -> None:
    done = ansible("ansible-playbook", str(write(tmp_path, "{{ og_dataplane_flow_seed }}", "ogh_w1")))
    assert done.returncode != 0
    assert "copy inventories/_shared/vault.example.yml to this inventory as group_vars/all/vault.yml" in " ".join(
        (done.stdout + done.stderr).split()
    )


# Port 1 of this machine: nobody answers.
DEAD = ("playbooks/validate.yml", "-e", "ansible_host=127.0.0.1 ansible_port=1")


def test_a_part_of_the_hosts_is_judged_though_dead() -> None:
    done = ansible("ansible-playbook", *DEAD, "--limit", "ogr_w1,mon_e2")
    assert done.returncode != 0, done.stdout + done.stderr
    assert "2 problem(s):" in done.stdout
    for name in ("ogr_w1", "mon_e2"):
        assert f"- {name}: not asked: " in done.stdout
    assert "No request was sent through the gateway" in done.stdout


def test_nothing_is_judged_in_check_mode() -> None:
    done = ansible("ansible-playbook", *DEAD, "--limit", "ogr_w1", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "VERDICT" in done.stdout
