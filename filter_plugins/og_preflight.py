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
LINK_SITE_END = 48  # og_address.py
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
        """Every site, and every network between sites, has a number and AS numbers that no other has."""
        sites = self.site.get("og_sites")
        if not isinstance(sites, Mapping) or not sites:
            self.say("og_sites", f"not a map of sites: {sites!r}")
        transit = self.site.get("og_transit")
        if transit is not None and not isinstance(transit, Mapping):
            self.say("og_transit", f"not a map of networks between sites: {transit!r}")
        numbers: dict[int, str] = {}
        systems: dict[int, str] = {}
        for variable, keys in (("og_sites", ("asn", "gateway_asn")), ("og_transit", ("asn",))):
            for name, data in self._map(variable).items():
                values = data if isinstance(data, Mapping) else {}
                label = f"{variable}.{name}"
                if variable == "og_transit" and name in self._map("og_sites"):
                    self.say(label, "is the name of a site too", variable, name)
                self._unique(f"{label}.number", values.get("number"), 0xFFFF, numbers, (variable, name))
                self._number_fits(f"{label}.number", values.get("number"), (variable, name))
                for key in keys:
                    self._unique(f"{label}.{key}", values.get(key), 0xFFFFFFFF, systems, (variable, name))

    def _map(self, variable: str) -> Mapping[str, Any]:
        value = self.site.get(variable)
        return value if isinstance(value, Mapping) else {}

    def _unique(self, label: str, value: object, highest: int, seen: dict[int, str], path: tuple[str, ...]) -> None:
        if not isinstance(value, int) or not _is_number(value, 1, highest):
            self.say(label, f"not a number of 1 to {highest}: {value!r}", *path)
        elif value in seen:
            self.say(label, f"{value} is {seen[value]} too", *path)
        else:
            seen[value] = label

    def _number_fits(self, label: str, number: object, path: tuple[str, ...]) -> None:
        """The number takes the bits of a link block up to bit 48 (og_address.py)."""
        for block in ("og_fabric_block", "og_client_block"):
            if block in self.networks and _is_number(number, 1, 0xFFFF):
                highest = (1 << max(0, LINK_SITE_END - self.networks[block].prefixlen)) - 1
                if not _is_number(number, 1, highest):
                    self.say(label, f"{number} does not fit into {block}, which has room for 1 to {highest}", *path)

    def groups(self) -> None:
        """Every role has a host, and every site all that a site needs; a network between sites only routes."""
        members = {group: [n for n, host in self.hosts.items() if group in host["groups"]] for group in GROUPS}
        needed = [group for group in GROUPS if self.site.get("og_lab") or group not in LAB_GROUPS]
        for group in needed:
            if not members[group]:
                self.problems.append(f"{group}: the group is missing or empty ({self.sources.file_of(group)})")
        used = {str(host["og_site"]) for host in self.hosts.values() if host["og_site"] is not None}
        for site in sorted(self._map("og_sites")):
            if site not in used:
                self.say(
                    f"og_sites.{site}", f"no host has og_site {site}: add its hosts, or remove it", "og_sites", site
                )
                continue
            for group in needed:
                if members[group] and not any(self.hosts[name]["og_site"] == site for name in members[group]):
                    self.say(group, f"no host of site {site} is in the group", group)
        for name, host in self.hosts.items():
            roles = sorted(set(host["groups"]) & set(GROUPS) - {"network_routers"})
            if host["og_site"] in self._map("og_transit") and roles:
                self.say(
                    f"{name}.og_site",
                    f"{host['og_site']} is one of og_transit, where only network routers can be, but the host is in "
                    f"{', '.join(roles)}",
                    name,
                )

    def trunks(self) -> None:
        """Every trunk joins two network routers by a link of its own, and together they join all sites."""
        trunks = self.site.get("og_trunks")
        if trunks is None:
            return
        if not isinstance(trunks, Sequence) or isinstance(trunks, str):
            self.say("og_trunks", f"not a list of trunks: {trunks!r}")
            return
        routers = {name for name, host in self.hosts.items() if "network_routers" in host["groups"]}
        taken = {(host["og_site"], host["og_node"]): name for name, host in self.hosts.items()}
        reached: dict[str, set[str]] = {name: {name} for name in routers}
        for position, trunk in enumerate(trunks):
            label = f"og_trunks[{position}]"
            values = trunk if isinstance(trunk, Mapping) else {}
            ends = [values.get("a"), values.get("b")]
            strangers = [key for key, name in zip("ab", ends, strict=True) if name not in routers]
            for key in strangers:
                self.say(f"{label}.{key}", f"not a network router: {values.get(key)!r}", "og_trunks")
            if strangers:
                continue
            if ends[0] == ends[1]:
                self.say(label, f"both ends are {ends[0]}", "og_trunks")
            self._trunk_number(label, values, taken)
            joined = reached[str(ends[0])] | reached[str(ends[1])]
            reached.update(dict.fromkeys(joined, joined))
        self._all_joined(reached)

    def _trunk_number(self, label: str, trunk: Mapping[str, Any], taken: dict[tuple[Any, Any], str]) -> None:
        number, network = trunk.get("number"), self.hosts[trunk["a"]]["og_site"]
        if not isinstance(number, int) or not _is_number(number, 1, 0xFFFF):
            self.say(f"{label}.number", f"not a number of 1 to 0xffff: {number!r}", "og_trunks")
        elif (network, number) in taken:
            self.say(
                f"{label}.number",
                f"{number:#x} is the number of {taken[network, number]} in {network}, so their links overlap",
                "og_trunks",
            )
        else:
            taken[network, number] = label

    def _all_joined(self, reached: Mapping[str, set[str]]) -> None:
        parts = {tuple(sorted({str(self.hosts[name]["og_site"]) for name in part})) for part in reached.values()}
        if len(parts) > 1:
            said = " and ".join(f"({', '.join(part)})" for part in sorted(parts))
            self.say("og_trunks", f"no way between {said}", "og_trunks")

    def nodes(self) -> None:
        """Every host of a role has a known site and a node number of its own in it."""
        taken: dict[tuple[Any, int], str] = {}
        unknown: dict[tuple[Any, tuple[str, ...]], list[str]] = {}
        sites = {**self._map("og_sites"), **self._map("og_transit")}
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
            self.say(
                "og_site",
                f"unknown site {site!r} of {', '.join(names)}; og_sites has {', '.join(self._map('og_sites'))}",
                *place,
            )

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
            self._application(label, service)
            address = (service["vip"], service["protocol"], service["port"])
            for what, key in (("name", service["name"]), ("index", service["index"]), ("address", address)):
                if (what, key) in seen:
                    self.say(f"{label}.{what}", f"{key!r} is that of {seen[what, key]} too", "og_services")
                seen[what, key] = label

    def _application(self, label: str, service: Mapping[str, Any]) -> None:
        """What answers the service on its servers, where the inventory says so."""
        unit, url = service.get("unit", "x"), service.get("health_url", "http://")
        if not re.fullmatch(r"[A-Za-z0-9:_.@-]+", str(unit)) or str(unit).endswith(".service"):
            self.say(f"{label}.unit", f"not the name of a systemd unit, without .service: {unit!r}", "og_services")
        if not str(url).startswith(("http://", "https://")):
            self.say(f"{label}.health_url", f"not an http or https URL: {url!r}", "og_services")

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
        checker.trunks,
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
