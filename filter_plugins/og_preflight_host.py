# SPDX-License-Identifier: Apache-2.0
"""Checks of one host before anything is installed on it. A problem says what, where it is set, and how to mend it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# Kernel options, and what does not work without them. A host that does not tell its options is not judged by them.
# `agent` is og_agent_mode: ebpf. The role og_agent tries what the mode `kernel` needs beyond these.
OPTIONS: dict[str, dict[str, str]] = {
    "agent": {
        "CONFIG_NET_CLS_BPF": "the agent's egress program (og_agent_mode: ebpf)",
        "CONFIG_BPF_JIT": "the agent's programs at full speed (og_agent_mode: ebpf)",
    },
    "agent_kernel": {
        "CONFIG_IPV6_SEG6_LWTUNNEL": "SRv6 in the kernel (og_agent_mode: kernel)",
        "CONFIG_NF_TABLES": "nftables, which guards the SIDs (og_agent_mode: kernel)",
    },
    "gateway": {"CONFIG_XDP_SOCKETS": "the data plane's port (og_dataplane_port: af_xdp)"},
}

# Who may already listen where: the programs that this project itself installs there.
PORTS: dict[str, dict[int, tuple[str, ...]]] = {
    "gateway": {179: ("gobgpd",), 9441: ("python3",)},
    "consul": {8300: ("consul",), 8301: ("consul",), 8302: ("consul",), 8500: ("consul",)},
    "monitor": {8086: ("influxd",), 3000: ("grafana", "grafana-server")},
    "network": {179: ("bgpd",)},
}
SMALLEST_MEMORY_KB = 900 * 1024
HUGEPAGE_KB = 2048
ETHERNET_CLASS = "0x0200"
BIFURCATED_DRIVERS = ("mlx4_core", "mlx5_core", "mana")  # DPDK, Linux Drivers, "Bifurcated Driver"
VFIO_DRIVERS = ("vfio-pci", "pci-stub", "pcieport")  # these leave an IOMMU group to vfio


@dataclass
class Facts:
    """What the host told (roles/og_preflight/files/host_facts.sh)."""

    values: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    free_mb: dict[str, int] = field(default_factory=dict)
    listeners: dict[int, set[str]] = field(default_factory=dict)
    pci_interfaces: list[str] = field(default_factory=list)  # and the bonds or bridges they are in
    pci_group: list[tuple[str, str]] = field(default_factory=list)  # others in its IOMMU group, and their drivers


def read_facts(lines: Iterable[str]) -> Facts:
    """Read the lines `key value`. Raises AnsibleFilterError for one that is none."""
    facts = Facts()
    for line in lines:
        key, _, value = line.strip().partition(" ")
        try:
            match key:
                case "option":
                    name, _, state = value.partition("=")
                    facts.options[name] = state
                case "free_mb":
                    path, _, number = value.rpartition(" ")
                    facts.free_mb[path] = int(number)
                case "listener":
                    number, _, program = value.partition(" ")
                    facts.listeners.setdefault(int(number), set()).add(program)
                case "pci_interface" | "pci_master":
                    facts.pci_interfaces.append(value)
                case "pci_group":
                    address, _, driver = value.partition(" ")
                    facts.pci_group.append((address, driver))
                case _:
                    facts.values[key] = value
        except ValueError as error:
            raise AnsibleFilterError(f"host facts: not understood: {line!r}") from error
    return facts


def _version(text: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def _processors(text: str) -> set[int]:
    """Return the numbers of a list such as `2-5,8`. Raises ValueError."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        span = range(int(first), int(last if dash else first) + 1)
        if not span:
            raise ValueError(part)
        numbers |= set(span)
    return numbers


class _Checker:
    """Collects the problems of one host."""

    def __init__(self, facts: Facts, wanted: Mapping[str, Any]) -> None:
        self.facts = facts
        self.wanted = wanted
        self.role = str(wanted["role"])
        self.is_gateway = self.role in ("hasher", "router")
        self.agent_mode = str(wanted["agent_mode"]) if self.role == "agent" else ""
        self.problems: list[str] = []

    def say(self, what: str, where: str, how: str) -> None:
        """Note a problem."""
        self.problems.append(f"{what}. Set by {where}. {how}")

    def value(self, key: str) -> str:
        return self.facts.values.get(key, "")

    def kernel(self) -> None:
        """New enough, with SRv6 and the options that this role, or mode of the agent, needs."""
        if _version(self.value("kernel")) < _version(str(self.wanted["kernel_min"])):
            self.say(
                f"Linux {self.value('kernel')} is older than {self.wanted['kernel_min']}",
                "the host's operating system; the limit is og_preflight_kernel_min",
                "Install a newer kernel and reboot.",
            )
        if self.role == "network":
            return
        if not self.value("seg6"):
            self.say(
                "the kernel knows no SRv6: no /proc/sys/net/ipv6/conf/all/seg6_enabled",
                "the kernel's option CONFIG_IPV6_SEG6_LWTUNNEL",
                "Use a kernel that has it, such as Debian's.",
            )
        kind = "gateway" if self.is_gateway else "agent_kernel" if self.agent_mode == "kernel" else self.role
        for name, reason in OPTIONS.get(kind, {}).items():
            if name == "CONFIG_XDP_SOCKETS" and self.wanted["port"] != "af_xdp":
                continue
            if self.facts.options.get(name) == "n":
                self.say(f"{name} is off: {reason}", "the kernel's build", "Use a kernel that has it.")

    def system(self) -> None:
        """What programs of a release run on is the Debian that they are built for."""
        wanted = f"debian {self.wanted['debian']}"
        if self.role not in ("client", "network") and self.value("system") != wanted:
            self.say(
                f"the host runs {self.value('system') or 'an unknown system'}, releases are built for {wanted}",
                "the host's operating system; the limit is og_preflight_debian",
                "Install that one: packages and libraries of another do not fit.",
            )

    def memory(self) -> None:
        """Enough for what is asked for."""
        total = int(self.value("memory_kb") or 0)
        if total < SMALLEST_MEMORY_KB:
            self.say(f"{total // 1024} MiB of memory, less than 1 GiB", "the machine", "Give it more.")
        pages = int(self.wanted["hugepages"])
        if not self.is_gateway or not pages:
            return
        if not self.value("hugepages"):
            self.say(
                "no hugepages of 2 MiB (/sys/kernel/mm/hugepages/hugepages-2048kB)",
                f"og_dataplane_hugepages: {pages}",
                "Use a kernel with CONFIG_HUGETLBFS, or set it to 0.",
            )
        elif pages * HUGEPAGE_KB > total * 3 // 4:
            self.say(
                f"{pages} hugepages are {pages * 2} MiB of {total // 1024} MiB of memory",
                "og_dataplane_hugepages",
                "Leave the system at least a quarter.",
            )

    def processors(self) -> None:
        """The processors of the data plane are there, and one is left for the rest."""
        text = str(self.wanted["cpus"])
        if self.is_gateway and self.wanted["isolate"] and not text:
            self.say(
                "no processors are named that could be isolated",
                "og_dataplane_isolate_cpus",
                "Name them in og_dataplane_cpus, or switch it off.",
            )
        if not self.is_gateway or not text:
            return
        there = int(self.value("processors") or 1)
        try:
            numbers = _processors(text)
        except ValueError:
            self.say(f"not a list of processors: {text!r}", "og_dataplane_cpus", 'Write it as "2-5" or "2,4,6".')
            return
        if max(numbers) >= there:
            self.say(f"processor {max(numbers)} of {there} (0 to {there - 1})", "og_dataplane_cpus", "Name others.")
        elif len(numbers) >= there:
            self.say("no processor is left for the system", "og_dataplane_cpus", "Leave at least processor 0.")
        if int(self.wanted["threads"]) > len(numbers):
            self.say(
                f"{self.wanted['threads']} threads on {len(numbers)} processors",
                "og_dataplane_threads and og_dataplane_cpus",
                "Each thread polls and needs a processor of its own.",
            )

    def port(self) -> None:
        """The data port is there and can carry the fabric; a whole device is not the one the host lives by."""
        interface = str(self.wanted["interface"])
        if "interface_mtu" not in self.facts.values:
            if interface:
                self.say(f"there is no interface {interface}", "og_data_port", "`ip -br link` lists what there is.")
        # Where the role og_node sets the port up, it will set the MTU too.
        elif not self.wanted["sets_port"] and int(self.value("interface_mtu")) < int(self.wanted["mtu"]):
            self.say(
                f"{interface} has an MTU of {self.value('interface_mtu')}, the fabric needs {self.wanted['mtu']}",
                "the host's network configuration (og_node_port_enabled is off); the need is og_fabric_mtu",
                "Raise it there, and on the switch.",
            )
        if self.is_gateway and self.wanted["port"] == "pci":
            self._pci(interface)
            self._next_hop()
        elif self.is_gateway and self.value("interface_master"):
            self.say(
                f"{interface} is a {self.value('interface_master')}: packets come in by its members' queues, to which "
                "no socket of the data plane is bound",
                "og_data_port and og_dataplane_port: af_xdp",
                "Name a port that is in no bond or bridge, or use pci.",
            )

    def _next_hop(self) -> None:
        mac = str(self.wanted["next_hop_mac"])
        if not re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", mac):
            self.say(
                f"not a MAC address of the next hop: {mac!r}; the kernel knows none for a port that it does not have",
                "og_dataplane_next_hop_mac (og_dataplane_port: pci)",
                "Give the link address of the router at the port's other end.",
            )

    def numa(self) -> str:
        """Return a note if the data plane polls on another NUMA node than its NIC's."""
        pci = self.wanted["port"] == "pci"
        node, _, there = self.value("pci_node" if pci else "interface_node").partition(" ")
        text = str(self.wanted["cpus"])
        if not self.is_gateway or not text or not there:
            return ""
        try:
            others = _processors(text) - _processors(there)
        except ValueError:  # a problem, and told as such
            return ""
        nic = self.wanted["pci_address"] if pci else self.wanted["interface"]
        if not others:
            return ""
        numbers = ", ".join(map(str, sorted(others)))
        return (
            f"processors {numbers} (og_dataplane_cpus) are not on NUMA node {node} of {nic}, which has {there}: "
            "packets cross between the nodes"
        )

    def _pci(self, interface: str) -> None:
        address = str(self.wanted["pci_address"])
        if not re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", address):
            self.say(
                f"not a PCI address: {address!r}",
                "og_dataplane_pci_address",
                "`lspci -D | grep Ethernet` lists them: 0000:3b:00.0.",
            )
            return
        if "pci_class" not in self.facts.values:
            self.say(
                f"there is no PCI device {address}",
                "og_dataplane_pci_address",
                "`lspci -D | grep Ethernet` lists what there is.",
            )
            return
        if self.value("pci_driver") in BIFURCATED_DRIVERS:
            self.say(
                f"{address} has the driver {self.value('pci_driver')}: its poll-mode driver runs beside it, and "
                "vfio-pci, which the port pci binds, would take the NIC away from it",
                "og_dataplane_port",
                "Use af_xdp with this NIC.",
            )
        if not self.value("pci_class").startswith(ETHERNET_CLASS):
            self.say(
                f"{address} is no Ethernet controller (class {self.value('pci_class')})",
                "og_dataplane_pci_address",
                "`lspci -D | grep Ethernet` lists them.",
            )
        if not self.value("vfio"):
            self.say(
                "the kernel has no vfio-pci",
                "og_dataplane_port: pci",
                "Install the kernel's package of modules, or use af_xdp.",
            )
        if not self.value("pci_iommu"):
            self.say(
                f"{address} is in no IOMMU group, so vfio-pci does not take it",
                "the firmware (VT-d, AMD-Vi) and the kernel's command line",
                "Switch it on; on Intel boot with intel_iommu=on.",
            )
        for other, driver in self.facts.pci_group:
            if driver not in VFIO_DRIVERS:
                self.say(
                    f"{other} is in the IOMMU group of {address} with driver {driver}: vfio-pci takes whole groups",
                    "og_dataplane_pci_address and the machine's slots",
                    f"Take a port with a group of its own, or bind {other} to vfio-pci too.",
                )
        if interface in self.facts.pci_interfaces:
            names = dict.fromkeys((self.facts.pci_interfaces[0], interface))
            self.say(
                f"{address} is {' in '.join(names)}, by which the host itself is reached: vfio-pci would take it away",
                "og_dataplane_pci_address and og_data_port",
                "Give the data plane another port, or use af_xdp.",
            )

    def disk(self) -> None:
        """There is room for releases and state."""
        for path, free in self.facts.free_mb.items():
            if free < int(self.wanted["free_mb"]):
                self.say(
                    f"{path} has {free} MiB free, less than {self.wanted['free_mb']}",
                    "the host's disk; the limit is og_preflight_free_mb",
                    "Make room, or keep fewer releases (og_release_keep).",
                )

    def time(self) -> None:
        """The clock is set by something. A container has its machine's."""
        if not self.value("container") and self.value("time") != "yes":
            self.say(
                "the clock is not synchronised",
                "the host (`timedatectl`)",
                "Run a time service: `apt install chrony` or systemd-timesyncd.",
            )

    def ports(self) -> None:
        """Nobody else listens where we will."""
        kinds = [self.role]
        if self.is_gateway:
            kinds = ["gateway", "consul"]
        elif self.role in ("agent", "monitor"):
            kinds.append("consul")
        for number, ours in [item for kind in kinds for item in PORTS.get(kind, {}).items()]:
            others = self.facts.listeners.get(number, set()) - set(ours)
            if others:
                self.say(
                    f"TCP port {number} is taken by {', '.join(sorted(others)) or 'another program'}",
                    "the host",
                    f"It is needed by {ours[0]}: stop the other one (`ss -ltnp`).",
                )

    def secrets(self) -> None:
        """The one secret that all gateway nodes share is a seed, not a placeholder."""
        seed = self.wanted.get("flow_seed")
        if self.is_gateway and seed is not None and not re.fullmatch("[0-9a-f]{32}", str(seed)):
            self.say(
                "the flow seed is not 32 hex digits",
                "og_dataplane_flow_seed (vault_og_flow_seed)",
                "Make one with `openssl rand -hex 16` and keep it in the vault.",
            )


def og_host_problems(lines: Iterable[str], wanted: Mapping[str, Any]) -> list[str]:
    """Return the problems of a host; empty if there are none.

    `lines` is what host_facts.sh printed. `wanted` holds role, agent_mode, port, interface, pci_address, next_hop_mac,
    mtu, sets_port, hugepages, cpus, threads, kernel_min, debian, free_mb, and flow_seed where it is given.
    """
    checker = _Checker(read_facts(lines), wanted)
    for check in (
        checker.system,
        checker.kernel,
        checker.memory,
        checker.processors,
        checker.port,
        checker.disk,
        checker.time,
        checker.ports,
        checker.secrets,
    ):
        check()
    return checker.problems


def og_host_notes(lines: Iterable[str], wanted: Mapping[str, Any]) -> list[str]:
    """Return what will work less well on a host, and is no reason to stop. Arguments as of og_host_problems."""
    checker = _Checker(read_facts(lines), wanted)
    notes = [checker.numa()]
    if checker.agent_mode == "ebpf" and not checker.value("btf"):
        notes.append(
            "no /sys/kernel/btf/vmlinux (the kernel's option CONFIG_DEBUG_INFO_BTF): load-aware accept will be off"
        )
    return [note for note in notes if note]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"og_host_problems": og_host_problems, "og_host_notes": og_host_notes}
