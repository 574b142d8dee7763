# SPDX-License-Identifier: Apache-2.0
"""Checks of an inventory, before any host is touched. Every problem names the variable and the file it is set in."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

BLOCKS = ("og_sid_block", "og_fabric_block", "og_client_block", "og_vip_block")
GROUPS = ("network_routers", "hashers", "routers", "agents", "clients", "monitors")
# A lab makes its network and its clients; in production both are there already.
LAB_GROUPS = ("network_routers", "clients")
# Largest encapsulation: outer header, 11 segments, cookies (docs/interfaces.md, native/lib/og_wire.h).
OVERHEAD = 256
SMALLEST_FABRIC_MTU = 1500 + OVERHEAD
SERVICE_INDICES = 64
SERVICE_KEYS = ("name", "vip", "protocol", "port", "index")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is set, as `file:line`."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Sources:
    """The YAML files of an inventory, searched for where a key is set."""

    def __init__(self, roots: Iterable[str]) -> None:
        """Read every YAML file below `roots`; a file that is no YAML is Ansible's to complain about."""
        self._roots = list(roots)
        self._documents: list[tuple[str, yaml.Node]] = []
        for root in self._roots:
            for path in _files(Path(root)):
                try:
                    node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
                except (OSError, UnicodeDecodeError, yaml.YAMLError):
                    continue
                if node is not None:
                    self._documents.append((_short(path), node))

    def place(self, *path: str) -> str:
        """Return where the key path is set: `path` may start at any depth. Without a match, name the inventory."""
        for file, document in self._documents:
            for node in _find(document, path):
                return str(Place(file, node.start_mark.line + 1))
        return ", ".join(_short(Path(root)) for root in self._roots) or "the inventory"

    def file_of(self, group: str) -> str:
        """Return the file that should hold a group: where any host is listed."""
        return self.place(group) if self._has(group) else self.place("children").rsplit(":", 1)[0]

    def _has(self, key: str) -> bool:
        return any(True for _, document in self._documents for _ in _find(document, (key,)))


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
    elif root.is_dir():
        yield from sorted(path for path in root.rglob("*") if path.suffix in (".yml", ".yaml", "") and path.is_file())


def _short(path: Path) -> str:
    """Return a path as the operator would type it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _find(node: yaml.Node, path: Sequence[str]) -> Iterator[yaml.Node]:
    """Yield the keys at the end of `path`, wherever in the tree its first key stands."""
    children: list[tuple[yaml.Node | None, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        children = list(node.value)
    elif isinstance(node, yaml.SequenceNode):
        children = [(None, item) for item in node.value]
    for key, value in children:
        if isinstance(key, yaml.ScalarNode) and key.value == path[0]:
            if len(path) == 1:
                yield key
            else:
                yield from _below(value, path[1:])
        yield from _find(value, path)


def _below(node: yaml.Node, path: Sequence[str]) -> Iterator[yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value == path[0]:
            if len(path) == 1:
                yield key
            else:
                yield from _below(value, path[1:])


class _Checker:
    """Collects the problems of one inventory."""

    def __init__(self, site: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]], sources: Sources) -> None:
        self.site = site
        self.hosts = hosts
        self.sources = sources
        self.problems: list[str] = []
        self.networks: dict[str, ipaddress.IPv6Network] = {}

    def say(self, variable: str, message: str, *path: str) -> None:
        """Note a problem of `variable`, set at `path`."""
        self.problems.append(f"{variable}: {message} ({self.sources.place(*(path or (variable,)))})")

    def blocks(self) -> None:
        """Every block is an IPv6 prefix, and no two overlap."""
        for name in BLOCKS:
            try:
                self.networks[name] = ipaddress.IPv6Network(self.site.get(name))
            except (ValueError, TypeError):
                self.say(name, f"not an IPv6 prefix: {self.site.get(name)!r}")
        names = list(self.networks)
        for index, name in enumerate(names):
            for other in names[index + 1 :]:
                if self.networks[name].overlaps(self.networks[other]):
                    self.say(name, f"{self.networks[name]} overlaps {other} {self.networks[other]}")

    def sites(self) -> None:
        """Every site has a number and AS numbers of its own."""
        sites = self.site.get("og_sites")
        if not isinstance(sites, Mapping) or not sites:
            self.say("og_sites", f"not a map of sites: {sites!r}")
            return
        numbers: dict[int, str] = {}
        for name, data in sites.items():
            for key, highest in (("number", 0xFFFF), ("asn", 0xFFFFFFFF), ("gateway_asn", 0xFFFFFFFF)):
                value = data.get(key) if isinstance(data, Mapping) else None
                if not _is_number(value, 1, highest):
                    self.say(f"og_sites.{name}.{key}", f"not a number of 1 to {highest}: {value!r}", "og_sites", name)
            number = data.get("number") if isinstance(data, Mapping) else None
            if number in numbers:
                self.say(
                    f"og_sites.{name}.number", f"{number} is the number of {numbers[number]} too", "og_sites", name
                )
            elif number is not None:
                numbers[number] = name

    def groups(self) -> None:
        """Every role has a host, and every site all that a site needs."""
        members = {group: [n for n, host in self.hosts.items() if group in host["groups"]] for group in GROUPS}
        needed = [group for group in GROUPS if self.site.get("og_lab") or group not in LAB_GROUPS]
        for group in needed:
            if not members[group]:
                self.problems.append(f"{group}: the group is missing or empty ({self.sources.file_of(group)})")
        for site in self._used_sites():
            lacking = [
                g for g in needed if members[g] and not any(self.hosts[n]["og_site"] == site for n in members[g])
            ]
            for group in lacking:
                self.say(group, f"no host of site {site} is in the group", group)

    def _used_sites(self) -> list[str]:
        sites = self.site.get("og_sites")
        used = {str(host["og_site"]) for host in self.hosts.values() if host["og_site"] is not None}
        return sorted(used & set(sites)) if isinstance(sites, Mapping) else []

    def nodes(self) -> None:
        """Every host of a role has a known site and a node number of its own in it."""
        taken: dict[tuple[Any, int], str] = {}
        unknown: dict[tuple[Any, tuple[str, ...]], list[str]] = {}
        sites = self.site.get("og_sites") or {}
        for name, host in self.hosts.items():
            if not set(host["groups"]) & set(GROUPS):
                continue
            site, node = host["og_site"], host["og_node"]
            if site not in sites:
                unknown.setdefault((site, _place_of_site(host, name)), []).append(name)
            elif f"site_{site}" not in host["groups"]:
                self.say(f"{name}.og_site", f"is {site}, but the host is not in the group site_{site}", name)
            if not _is_number(node, 1, 0xFFFF):
                self.say(f"{name}.og_node", f"not a number of 1 to 0xffff: {node!r}", name)
            elif (site, node) in taken:
                self.say(
                    f"{name}.og_node",
                    f"{node:#x} is the number of {taken[site, node]} too, so their locators overlap; "
                    f"a number is unique in its site",
                    name,
                )
            else:
                taken[site, node] = name
        for (site, place), names in unknown.items():
            self.say("og_site", f"unknown site {site!r} of {', '.join(names)}; og_sites has {', '.join(sites)}", *place)

    def services(self) -> None:
        """Every service is complete, its VIP is in the VIP block and nowhere else, and no two collide."""
        services = self.site.get("og_services")
        if not isinstance(services, Sequence) or isinstance(services, str) or not services:
            self.say("og_services", f"not a list of services: {services!r}")
            return
        seen: dict[tuple[str, Any], str] = {}
        for position, service in enumerate(services):
            label = f"og_services[{position}]"
            missing = [key for key in SERVICE_KEYS if not isinstance(service, Mapping) or key not in service]
            if missing:
                self.say(label, f"has no {', '.join(missing)}", "og_services")
                continue
            self._vip(f"{label}.vip", service["vip"])
            if service["protocol"] not in ("tcp", "udp"):
                self.say(f"{label}.protocol", f"neither tcp nor udp: {service['protocol']!r}", "og_services")
            if not _is_number(service["port"], 1, 0xFFFF):
                self.say(f"{label}.port", f"not a port: {service['port']!r}", "og_services")
            if not _is_number(service["index"], 0, SERVICE_INDICES - 1):
                self.say(
                    f"{label}.index", f"not a number of 0 to {SERVICE_INDICES - 1}: {service['index']!r}", "og_services"
                )
            address = (service["vip"], service["protocol"], service["port"])
            for what, key in (("name", service["name"]), ("index", service["index"]), ("address", address)):
                if (what, key) in seen:
                    self.say(f"{label}.{what}", f"{key!r} is that of {seen[what, key]} too", "og_services")
                seen[what, key] = label

    def _vip(self, variable: str, value: object) -> None:
        try:
            vip = ipaddress.IPv6Address(str(value))
        except ValueError:
            self.say(variable, f"not an IPv6 address: {value!r}", "og_services")
            return
        for name, network in self.networks.items():
            if name != "og_vip_block" and vip in network:
                self.say(variable, f"{vip} lies inside {name} {network}", "og_services")
                return
        block = self.networks.get("og_vip_block")
        if block is not None and vip not in block:
            self.say(variable, f"{vip} lies outside og_vip_block {block}", "og_services")

    def fabric(self) -> None:
        """The fabric carries a full client packet with the largest encapsulation."""
        mtu = self.site.get("og_fabric_mtu")
        if not _is_number(mtu, SMALLEST_FABRIC_MTU, 0xFFFF):
            self.say(
                "og_fabric_mtu",
                f"{mtu!r} is too small: a client's 1500 bytes and {OVERHEAD} of encapsulation need "
                f"{SMALLEST_FABRIC_MTU}",
            )

    def names(self) -> None:
        """Host names fit what is made of them: an interface name on the network router."""
        for name, host in self.hosts.items():
            if set(host["groups"]) & set(GROUPS) and not re.fullmatch(r"[a-z][a-z0-9_]{0,11}", name):
                self.say(
                    name, "a name is 1 to 12 of a-z, 0-9 and _: its port on the network router is `to-<name>`", name
                )


def _place_of_site(host: Mapping[str, Any], name: str) -> tuple[str, ...]:
    groups = [group for group in host["groups"] if group.startswith("site_")]
    return (groups[0], "vars", "og_site") if groups else (name,)


def _is_number(value: object, lowest: int, highest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def check_inventory(site: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]], roots: Iterable[str]) -> list[str]:
    """Return the problems of an inventory, each `variable: what is wrong (file:line)`; empty if there are none.

    `site` holds the site-wide variables, `hosts` {name: {og_site, og_node, groups}}, `roots` the inventory's sources.
    """
    checker = _Checker(site, hosts, Sources(roots))
    for check in (
        checker.blocks,
        checker.sites,
        checker.groups,
        checker.nodes,
        checker.names,
        checker.services,
        checker.fabric,
    ):
        check()
    return checker.problems


def og_inventory_hosts(hosts: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return of every host what `og_inventory_problems` looks at; what a host lacks is None."""
    return {
        name: {
            "og_site": hosts[name].get("og_site"),
            "og_node": hosts[name].get("og_node"),
            "groups": list(hosts[name]["group_names"]),
        }
        for name in names
    }


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"og_inventory_hosts": og_inventory_hosts, "og_inventory_problems": check_inventory}
