# SPDX-License-Identifier: Apache-2.0
"""From an inventory to the containers and cables of a lab."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

Hosts = Mapping[str, Mapping[str, Any]]


def _groups(hosts: Hosts, name: str) -> list[str]:
    return list(hosts[name]["group_names"])


ROLES = {
    "network_routers": "network router",
    "hashers": "hasher",
    "routers": "router",
    "agents": "application",
    "clients": "client",
    "monitors": "monitor",
    "build": "build host",
}


def _role(hosts: Hosts, name: str) -> str:
    return next((role for group, role in ROLES.items() if group in _groups(hosts, name)), "node")


def og_lab_nodes(names: Iterable[str], hosts: Hosts, node_image: str, build_image: str) -> list[dict[str, str]]:
    """Return the containers of a lab: {name, site, role, container, image}, in the inventory's order."""
    return [
        {
            "name": name,
            "site": str(hosts[name].get("og_site", "-")),
            "role": _role(hosts, name),
            "container": str(hosts[name]["ansible_host"]),
            "image": build_image if "build" in _groups(hosts, name) else node_image,
        }
        for name in names
    ]


def _routers(names: Iterable[str], hosts: Hosts) -> dict[str, str]:
    """Return the network router of every site."""
    routers: dict[str, str] = {}
    for name in names:
        if "network_routers" in _groups(hosts, name):
            routers.setdefault(str(hosts[name]["og_site"]), name)
    return routers


def og_lab_links(names: Iterable[str], hosts: Hosts, trunks: Iterable[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Return the cables of a lab as arguments of veth_link.

    Every node with a place in the fabric has one to its site's network router. `trunks` are the cables between sites:
    {a: {host, name, address}, b: {host, name, address}, mtu}.
    """
    names = list(names)
    routers = _routers(names, hosts)
    links: list[dict[str, Any]] = []
    for name in names:
        node = hosts[name]
        if "og_node" not in node or "network_routers" in _groups(hosts, name):
            continue
        if node["og_site"] not in routers:
            raise AnsibleFilterError(f"{name}: site {node['og_site']!r} has no network router to be wired to")
        router = hosts[routers[node["og_site"]]]
        links.append(
            {
                "a": _end(router, node["og_router_port"], node["og_gateway_address"]),
                "b": _end(node, node["og_data_port"], node["og_address"]),
                "mtu": int(node["og_data_mtu"]),
            }
        )
    for trunk in trunks:
        a, b = (_end(hosts[trunk[end]["host"]], trunk[end]["name"], trunk[end]["address"]) for end in "ab")
        links.append({"a": a, "b": b, "mtu": int(trunk["mtu"])})
    return links


def _end(host: Mapping[str, Any], name: object, address: object) -> dict[str, Any]:
    return {"container": str(host["ansible_host"]), "name": str(name), "addresses": [f"{address}/64"]}


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"og_lab_links": og_lab_links, "og_lab_nodes": og_lab_nodes}
