# SPDX-License-Identifier: Apache-2.0
"""The address plan: the documented examples, its laws for every number, and what each wrong input is told."""

from __future__ import annotations

import ipaddress

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from filter_plugins import og_address as plan

SIDS = "5f00::/16"
FABRIC = "2001:db8:f000::/36"

sites = st.integers(1, 0xFFF)
nodes = st.integers(1, 0xFFFF)


def test_documented_examples() -> None:
    locator = plan.og_locator(SIDS, 1, 0x21)
    link = plan.og_link(FABRIC, 1, 0x21)
    assert locator == "5f00:1:21::/64"
    assert plan.og_site_prefix(SIDS, 1) == "5f00:1::/32"
    assert plan.og_sid(locator, 0) == "5f00:1:21::"
    assert plan.og_sid(locator, 0x10, 0x0002_0000_0000) == "5f00:1:21:0:10:2::"
    assert link == "2001:db8:f001:21::/64"
    assert plan.og_link_router(link) == "2001:db8:f001:21::1"
    assert plan.og_link_node(link) == "2001:db8:f001:21::2"


def test_blocks_of_other_lengths() -> None:
    assert plan.og_locator("fd00:aaaa::/32", 1, 0x21) == "fd00:aaaa:1:21::/64"
    assert plan.og_link("2001:db8:4000::/34", 2, 5) == "2001:db8:4002:5::/64"


@given(sites, nodes, sites, nodes)
def test_two_nodes_share_no_address(site_a: int, node_a: int, site_b: int, node_b: int) -> None:
    for function, block in ((plan.og_locator, SIDS), (plan.og_link, FABRIC)):
        same = function(block, site_a, node_a) == function(block, site_b, node_b)
        assert same == ((site_a, node_a) == (site_b, node_b))


@given(sites, nodes)
def test_prefixes_lie_in_their_block(site: int, node: int) -> None:
    locator = ipaddress.IPv6Network(plan.og_locator(SIDS, site, node))
    aggregate = ipaddress.IPv6Network(plan.og_site_prefix(SIDS, site))
    assert locator.subnet_of(aggregate)
    assert aggregate.subnet_of(ipaddress.IPv6Network(SIDS))
    assert ipaddress.IPv6Network(plan.og_link(FABRIC, site, node)).subnet_of(ipaddress.IPv6Network(FABRIC))


@given(nodes, st.integers(0, 0xFFFF), st.integers(0, (1 << 48) - 1))
def test_a_sid_holds_its_parts(node: int, function: int, argument: int) -> None:
    sid = int(ipaddress.IPv6Address(plan.og_sid(plan.og_locator(SIDS, 1, node), function, argument)))
    assert sid & ((1 << 48) - 1) == argument
    assert sid >> 48 & 0xFFFF == function
    assert sid >> 64 == 0x5F00 << 48 | 1 << 32 | node << 16


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: plan.og_locator("5f00::/zz", 1, 1), ("SID block", "5f00::/zz")),
        (lambda: plan.og_locator("10.0.0.0/8", 1, 1), ("SID block", "10.0.0.0/8")),
        (lambda: plan.og_locator(None, 1, 1), ("SID block", "None")),
        (lambda: plan.og_locator("5f00::1/16", 1, 1), ("SID block", "behind the prefix length")),
        (lambda: plan.og_locator("5f00::/40", 1, 1), ("no room for a node number",)),
        (lambda: plan.og_locator(SIDS, 0, 1), ("site number", "0")),
        (lambda: plan.og_locator(SIDS, 1, 0), ("node number", "0")),
        (lambda: plan.og_locator(SIDS, 1, 0x10000), ("node number", "65536")),
        (lambda: plan.og_locator(SIDS, 1, "0x21"), ("node number", "'0x21'")),
        (lambda: plan.og_locator(SIDS, 1, True), ("node number", "True")),
        (lambda: plan.og_link("2001:db8::/48", 1, 1), ("no room for a site number",)),
        (lambda: plan.og_link(FABRIC, 0x1000, 1), ("site number", "4096")),
        (lambda: plan.og_sid("5f00:1:21::/48", 0), ("locator", "/48")),
        (lambda: plan.og_sid("5f00:1:21::/64", 0x10000), ("function", "65536")),
        (lambda: plan.og_sid("5f00:1:21::/64", 0, 1 << 48), ("argument",)),
        (lambda: plan.og_link_router("2001:db8::/65"), ("link", "/65")),
    ],
)
def test_wrong_input_is_named(call, names) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(AnsibleFilterError) as error:
        call()
    for name in names:
        assert name in str(error.value)


def test_every_filter_is_exported() -> None:
    exported = plan.FilterModule().filters()
    assert set(exported) == {name for name in vars(plan) if name.startswith("og_")}


TRUNK_HOSTS = {"rtr_c1": {"og_site": "core"}, "rtr_w1": {"og_site": "west"}, "lost": {"og_site": "north"}}
NETWORKS = {"west": {"number": 1, "asn": 64601, "gateway_asn": 64701}, "core": {"number": 255, "asn": 64600}}


def test_a_trunk_has_two_ends_and_each_router_its_neighbour() -> None:
    cables = plan.og_trunk_ends([{"a": "rtr_c1", "b": "rtr_w1", "number": 0x101}], TRUNK_HOSTS, NETWORKS, FABRIC, 2000)
    core, west = "2001:db8:f0ff:101::1", "2001:db8:f0ff:101::2"
    assert cables == [
        {
            "a": {"host": "rtr_c1", "name": "to-rtr_w1", "address": core, "asn": 64600},
            "b": {"host": "rtr_w1", "name": "to-rtr_c1", "address": west, "asn": 64601},
            "mtu": 2000,
        }
    ]
    assert plan.og_uplinks(cables, "rtr_w1") == [{"name": "rtr_c1", "address": core, "asn": 64600, "port": "to-rtr_c1"}]
    assert plan.og_uplinks(cables, "rtr_c1") == [{"name": "rtr_w1", "address": west, "asn": 64601, "port": "to-rtr_w1"}]
    assert plan.og_uplinks(cables, "ogh_w1") == []


@pytest.mark.parametrize(
    ("trunk", "message"),
    [
        ({"a": "rtr_c1", "b": "nobody", "number": 1}, r"og_trunks\[0\]\.b: not a host with a known og_site: 'nobody'"),
        ({"a": "lost", "b": "rtr_w1", "number": 1}, r"og_trunks\[0\]\.a: not a host with a known og_site: 'lost'"),
        ({"a": "rtr_c1", "b": "rtr_w1"}, "node number: not a number of"),
    ],
)
def test_a_wrong_trunk_is_named(trunk: dict[str, object], message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        plan.og_trunk_ends([trunk], TRUNK_HOSTS, NETWORKS, FABRIC, 2000)


def test_names_have_the_addresses_of_the_plan() -> None:
    hosts = {
        "rtr_w1": {"og_site": "west", "og_node": 1},
        "rtr_c1": {"og_site": "core", "og_node": 1},
        "ogh_w1": {"og_site": "west", "og_node": 0x11},
        "cli_w1": {"og_site": "west", "og_node": 0x41},
        "build_1": {},
    }
    groups = {"all": list(hosts), "network_routers": ["rtr_w1", "rtr_c1"], "clients": ["cli_w1"]}
    assert plan.og_names(groups, hosts, NETWORKS, FABRIC, "2001:db8:c000::/36") == {
        "rtr_w1": "2001:db8:f001:1::1",
        "rtr_c1": "2001:db8:f0ff:1::1",
        "ogh_w1": "2001:db8:f001:11::2",
        "cli_w1": "2001:db8:c001:41::2",
    }
    with pytest.raises(AnsibleFilterError, match="cli_w1: og_site: unknown site 'west'"):
        plan.og_names(groups, hosts, {"core": NETWORKS["core"]}, FABRIC, "2001:db8:c000::/36")
