# SPDX-License-Identifier: Apache-2.0
"""Preflight of a host: a good one passes; each thing that is wrong is said with where it is set and how to mend it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from filter_plugins.og_preflight_host import og_host_notes, og_host_problems, read_facts

SCRIPT = Path(__file__).resolve().parents[2] / "roles/og_preflight/files/host_facts.sh"
PCI = "0000:3b:00.0"
HOST = {
    "system": "debian 13",
    "kernel": "6.12.48+deb13-amd64",
    "processors": "8",
    "container": "",
    "option": "CONFIG_XDP_SOCKETS=y",
    "seg6": "yes",
    "btf": "yes",
    "hugepages": "0",
    "memory_kb": "16000000",
    "interface_mtu": "9000",
    "free_mb": "/opt/og 20000",
    "time": "yes",
    "listener": "22 sshd",
    "pci_class": "0x020000",
    "pci_driver": "ice",
    "pci_node": "0 0-7",
    "pci_iommu": "yes",
    "vfio": "yes",
}
WANTED: dict[str, Any] = {
    "role": "hasher",
    "agent_mode": "ebpf",
    "port": "pci",
    "interface": "bond0",
    "pci_address": PCI,
    "next_hop_mac": "02:00:00:00:01:01",
    "mtu": 9000,
    "sets_port": False,
    "hugepages": 1024,
    "cpus": "2-5",
    "threads": 4,
    "isolate": True,
    "kernel_min": "6.12",
    "debian": "13",
    "free_mb": 1024,
    "flow_seed": "0" * 32,
}


def problems(host: dict[str, str | None] | None = None, **wanted: Any) -> list[str]:
    facts = {key: value for key, value in (HOST | (host or {})).items() if value is not None}
    return og_host_problems([f"{key} {value}" for key, value in facts.items()], WANTED | wanted)


@pytest.mark.parametrize("role", ["hasher", "router", "agent", "monitor", "client", "network"])
def test_a_good_host_passes(role: str) -> None:
    assert problems(role=role) == []


def test_a_container_has_no_clock_and_no_kernel_options_of_its_own() -> None:
    assert problems({"container": "docker", "time": "", "option": "CONFIG_XDP_SOCKETS=?"}, port="af_xdp") == []


@pytest.mark.parametrize(
    ("host", "wanted", "said"),
    [
        ({"kernel": "6.1.0-40-amd64"}, {}, ["Linux 6.1.0-40-amd64 is older than 6.12", "og_preflight_kernel_min"]),
        ({"system": "debian 12"}, {}, ["runs debian 12, releases are built for debian 13", "og_preflight_debian"]),
        ({"system": "ubuntu 24.04"}, {"role": "agent"}, ["runs ubuntu 24.04"]),
        ({"system": "debian"}, {"role": "monitor"}, ["runs debian, releases"]),
        ({"seg6": None}, {}, ["knows no SRv6", "CONFIG_IPV6_SEG6_LWTUNNEL"]),
        ({"option": "CONFIG_NET_CLS_BPF=n"}, {"role": "agent"}, ["CONFIG_NET_CLS_BPF is off", "og_agent_mode: ebpf"]),
        (
            {"option": "CONFIG_IPV6_SEG6_LWTUNNEL=n"},
            {"role": "agent", "agent_mode": "kernel"},
            ["CONFIG_IPV6_SEG6_LWTUNNEL is off", "og_agent_mode: kernel"],
        ),
        (
            {"option": "CONFIG_NF_TABLES=n"},
            {"role": "agent", "agent_mode": "kernel"},
            ["CONFIG_NF_TABLES is off", "og_agent_mode: kernel"],
        ),
        ({"option": "CONFIG_XDP_SOCKETS=n"}, {"port": "af_xdp"}, ["CONFIG_XDP_SOCKETS is off"]),
        ({"memory_kb": "500000"}, {"hugepages": 0}, ["488 MiB of memory"]),
        ({"hugepages": None}, {}, ["no hugepages", "og_dataplane_hugepages: 1024"]),
        ({}, {"hugepages": 7000}, ["14000 MiB of 15625 MiB", "og_dataplane_hugepages"]),
        ({}, {"cpus": "2-8"}, ["processor 8 of 8", "og_dataplane_cpus"]),
        ({}, {"cpus": ""}, ["no processors are named that could be isolated", "og_dataplane_isolate_cpus"]),
        ({}, {"cpus": "2:5"}, ["not a list of processors: '2:5'", "og_dataplane_cpus"]),
        ({}, {"cpus": "5-2"}, ["not a list of processors: '5-2'", "og_dataplane_cpus"]),
        ({}, {"cpus": "0-7"}, ["no processor is left", "og_dataplane_cpus"]),
        ({}, {"cpus": "2-3"}, ["4 threads on 2 processors", "og_dataplane_threads"]),
        ({"interface_mtu": None}, {}, ["there is no interface bond0", "og_data_port"]),
        ({"interface_mtu": "1500"}, {}, ["bond0 has an MTU of 1500, the fabric needs 9000", "og_fabric_mtu"]),
        ({}, {"pci_address": "3b:00.0"}, ["not a PCI address: '3b:00.0'", "og_dataplane_pci_address"]),
        ({"pci_class": None}, {}, [f"there is no PCI device {PCI}", "og_dataplane_pci_address"]),
        ({"pci_class": "0x010802"}, {}, [f"{PCI} is no Ethernet controller"]),
        ({"vfio": None}, {}, ["no vfio-pci", "og_dataplane_port"]),
        ({"pci_driver": "mlx5_core"}, {}, [f"{PCI} has the driver mlx5_core", "og_dataplane_port", "Use af_xdp"]),
        ({"pci_iommu": None}, {}, ["no IOMMU group", "intel_iommu=on"]),
        (
            {"pci_group": "0000:3b:00.1 ice"},
            {},
            ["0000:3b:00.1 is in the IOMMU group of", "with driver ice", "bind 0000:3b:00.1"],
        ),
        ({}, {"next_hop_mac": ""}, ["not a MAC address of the next hop: ''", "og_dataplane_next_hop_mac"]),
        ({}, {"next_hop_mac": "2001:db8::1"}, ["not a MAC address of the next hop: '2001:db8::1'"]),
        ({"interface_master": "bond"}, {"port": "af_xdp"}, ["bond0 is a bond", "no bond or bridge, or use pci"]),
        ({"interface_master": "bridge"}, {"port": "af_xdp"}, ["bond0 is a bridge"]),
        ({"pci_interface": "bond0"}, {}, [f"{PCI} is bond0", "og_data_port"]),
        (
            {"pci_interface": "eno1", "pci_master": "bond0"},
            {},
            [f"{PCI} is eno1 in bond0, by which", "og_dataplane_pci_address and og_data_port"],
        ),
        ({"free_mb": "/opt/og 1000"}, {}, ["/opt/og has 1000 MiB free", "og_preflight_free_mb"]),
        ({"time": "no"}, {}, ["the clock is not synchronised", "chrony"]),
        ({"listener": "179 bird"}, {}, ["TCP port 179 is taken by bird", "gobgpd"]),
        ({"listener": "8500 nginx"}, {"role": "agent"}, ["TCP port 8500 is taken by nginx", "consul"]),
        ({}, {"flow_seed": "CHANGE ME"}, ["the flow seed is not 32 hex digits", "vault_og_flow_seed"]),
    ],
)
def test_one_problem_is_told_once(host: dict[str, str | None], wanted: dict[str, Any], said: list[str]) -> None:
    (problem,) = problems(host, **wanted)
    for text in said:
        assert text in problem
    assert ". Set by " in problem


@pytest.mark.parametrize("option", ["CONFIG_NET_CLS_BPF=n", "CONFIG_BPF_JIT=n"])
def test_an_agent_without_ebpf_needs_none_of_it(option: str) -> None:
    wanted = WANTED | {"role": "agent", "agent_mode": "kernel"}
    facts = HOST | {"option": option}
    del facts["btf"]
    lines = [f"{key} {value}" for key, value in facts.items()]
    assert og_host_problems(lines, wanted) == []
    assert og_host_notes(lines, wanted) == []


def test_the_agent_s_own_programs_need_no_srv6_in_the_kernel() -> None:
    assert problems({"option": "CONFIG_IPV6_SEG6_LWTUNNEL=n"}, role="agent") == []


def test_missing_type_information_is_told_and_stops_nothing() -> None:
    lines = [f"{key} {value}" for key, value in HOST.items() if key != "btf"]
    assert problems({"btf": None}, role="agent") == []
    (note,) = og_host_notes(lines, WANTED | {"role": "agent"})
    assert "CONFIG_DEBUG_INFO_BTF" in note
    assert "load-aware accept will be off" in note
    assert og_host_notes(lines, WANTED) == []  # a gateway node reads none


def test_clients_may_be_of_any_system() -> None:
    assert problems({"system": "fedora 43"}, role="client") == []


def test_a_bond_is_fine_where_the_data_plane_has_another_port() -> None:
    assert problems({"interface_master": "bond"}) == []
    assert problems({"interface_master": "bond"}, role="agent", port="af_xdp") == []


@pytest.mark.parametrize("driver", ["vfio-pci", "pcieport"])
def test_others_in_the_iommu_group_that_do_not_matter(driver: str) -> None:
    assert problems({"pci_group": f"0000:3b:00.1 {driver}"}) == []


@pytest.mark.parametrize(("port", "nic"), [("pci", PCI), ("af_xdp", "bond0")])
def test_processors_of_another_numa_node_are_told_and_stop_nothing(port: str, nic: str) -> None:
    host = HOST | {"pci_node": "1 1,3,5,7", "interface_node": "1 1,3,5,7"}
    lines = [f"{key} {value}" for key, value in host.items()]
    (note,) = og_host_notes(lines, WANTED | {"port": port})
    assert f"processors 2, 4 (og_dataplane_cpus) are not on NUMA node 1 of {nic}, which has 1,3,5,7" in note
    assert og_host_problems(lines, WANTED | {"port": port}) == []
    for fine in ({"cpus": "1,3,5,7"}, {"cpus": ""}, {"role": "agent"}, {"cpus": "2:5"}):
        assert not any("NUMA" in note for note in og_host_notes(lines, WANTED | {"port": port, "btf": "yes"} | fine))


def test_a_port_that_a_role_sets_up_may_be_anything_now() -> None:
    assert problems({"interface_mtu": "1500"}, sets_port=True) == []


def test_our_own_programs_may_listen() -> None:
    assert problems({"listener": "179 gobgpd"}) == []


def test_lines_that_are_none() -> None:
    with pytest.raises(AnsibleFilterError, match="not understood: 'listener x sshd'"):
        read_facts(["listener x sshd"])


def test_the_script_tells_about_this_machine() -> None:
    environment = os.environ | {"OG_INTERFACE": "lo", "OG_PCI_ADDRESS": "", "OG_PATHS": "/nonexistent/og /"}
    done = subprocess.run(["sh", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    facts = read_facts(done.stdout.splitlines())
    assert facts.values["kernel"] == os.uname().release
    assert int(facts.values["interface_mtu"]) == int(Path("/sys/class/net/lo/mtu").read_text())
    assert facts.free_mb["/nonexistent/og"] == facts.free_mb["/"] > 0
    assert "pci_class" not in facts.values


def test_the_script_tells_where_a_device_is(tmp_path: Path) -> None:
    """A machine of two nodes: a port and its neighbour in one IOMMU group, the neighbour in a bond."""
    devices, net = tmp_path / "sys/bus/pci/devices", tmp_path / "sys/class/net"
    group, driver, node = tmp_path / "sys/groups/7", tmp_path / "sys/drivers/ice", tmp_path / "sys/devices/system/node"
    for path in (
        group / "devices",
        driver,
        node / "node0",
        node / "node1",
        net / "bond0/bonding",
        net / "bond0/device",
    ):
        path.mkdir(parents=True)
    for number in (0, 1):
        (node / f"node{number}/cpulist").write_text(f"{number * 8}-{number * 8 + 7}\n")
    for function in "01":
        device = devices / f"0000:3b:00.{function}"
        device.mkdir(parents=True)
        for name, text in (("class", "0x020000\n"), ("numa_node", "1\n")):
            (device / name).write_text(text)
        for name, target in (("driver", driver), ("iommu_group", group)):
            (device / name).symlink_to(target)
        (group / "devices" / device.name).symlink_to(device)
    (net / "bond0/mtu").write_text("9000\n")
    (net / "bond0/device/numa_node").write_text("-1\n")
    script = SCRIPT.read_text().replace("/sys/", f"{tmp_path}/sys/")
    environment = os.environ | {"OG_INTERFACE": "bond0", "OG_PCI_ADDRESS": PCI, "OG_PATHS": "/"}
    done = subprocess.run(["sh", "-s"], input=script, env=environment, capture_output=True, text=True, check=True)
    facts = read_facts(done.stdout.splitlines())
    assert facts.values["interface_master"] == "bond"
    assert facts.values["pci_node"] == "1 8-15"
    assert "interface_node" not in facts.values
    assert facts.pci_group == [("0000:3b:00.1", "ice")]
