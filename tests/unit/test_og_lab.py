# SPDX-License-Identifier: Apache-2.0
"""From an inventory to containers and cables."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from filter_plugins.og_lab import og_lab_links, og_lab_nodes


def host(name: str, *groups: str, **variables: Any) -> dict[str, Any]:
    return {
        "ansible_host": f"oglab-{name}",
        "group_names": list(groups),
        "og_site": "west",
        "og_node": 1,
        "og_router_port": f"to-{name}",
        "og_data_port": "fab0",
        "og_address": f"2001:db8::{name[-1]}:2",
        "og_gateway_address": f"2001:db8::{name[-1]}:1",
        "og_data_mtu": 2000,
    } | variables


HOSTS = {
    "rtr1": host("rtr1", "network_routers"),
    "ogh2": host("ogh2", "hashers"),
    "cli3": host("cli3", "clients", og_data_mtu=1500),
    "build": {"ansible_host": "oglab-build", "group_names": ["build"]},
}


def test_containers() -> None:
    nodes = og_lab_nodes(HOSTS, HOSTS, "node:1", "build:1")
    assert [node["image"] for node in nodes] == ["node:1", "node:1", "node:1", "build:1"]
    assert [node["role"] for node in nodes] == ["network router", "hasher", "client", "build host"]
    assert [node["site"] for node in nodes] == ["west", "west", "west", "-"]
    assert nodes[1]["container"] == "oglab-ogh2"


def test_every_node_is_wired_to_its_router_and_nothing_else_is() -> None:
    links = og_lab_links(HOSTS, HOSTS)
    assert links == [
        {
            "a": {"container": "oglab-rtr1", "name": "to-ogh2", "addresses": ["2001:db8::2:1/64"]},
            "b": {"container": "oglab-ogh2", "name": "fab0", "addresses": ["2001:db8::2:2/64"]},
            "mtu": 2000,
        },
        {
            "a": {"container": "oglab-rtr1", "name": "to-cli3", "addresses": ["2001:db8::3:1/64"]},
            "b": {"container": "oglab-cli3", "name": "fab0", "addresses": ["2001:db8::3:2/64"]},
            "mtu": 1500,
        },
    ]


def test_two_sites_and_the_cable_between_them() -> None:
    hosts = HOSTS | {
        "rtr9": host("rtr9", "network_routers", og_site="east"),
        "ogh8": host("ogh8", "hashers", og_site="east"),
    }
    trunk = {
        "a": {"host": "rtr1", "name": "to-east", "address": "2001:db8:f::1"},
        "b": {"host": "rtr9", "name": "to-west", "address": "2001:db8:f::2"},
        "mtu": 2000,
    }
    links = og_lab_links(hosts, hosts, [trunk])
    assert [(link["a"]["container"], link["a"]["name"]) for link in links] == [
        ("oglab-rtr1", "to-ogh2"),
        ("oglab-rtr1", "to-cli3"),
        ("oglab-rtr9", "to-ogh8"),
        ("oglab-rtr1", "to-east"),
    ]
    assert links[-1]["b"] == {"container": "oglab-rtr9", "name": "to-west", "addresses": ["2001:db8:f::2/64"]}


def test_a_site_without_a_router_is_named() -> None:
    with pytest.raises(AnsibleFilterError, match="lost: site 'north' has no network router"):
        og_lab_links(["lost"], {"lost": host("lost", "hashers", og_site="north")})
