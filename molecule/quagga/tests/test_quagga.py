# SPDX-License-Identifier: Apache-2.0
"""The network router between a gateway node and a client: what it learns, what it forwards, what it refuses."""

from __future__ import annotations

import json

import pytest

from tests.services.nodes import wait_for

HASHER = "2001:db8:f001:11::2"
LOCATOR = "5f00:1:11::/64"
VIP = "2001:db8:1::80"
CLIENT = "2001:db8:c001:41::2"
GOBGP = "/usr/local/bin/gobgp --target unix:///run/gobgp/api.sock"


@pytest.fixture
def router(at):
    return at("rtr_w1")


@pytest.fixture
def announce(at, router):
    """Have the hasher announce a prefix; what was announced is withdrawn at the end."""
    made = []

    def add(prefix):
        wait_for("the session", lambda: session(router) == "Established")
        at("ogh_w1").check_output(f"{GOBGP} global rib add {prefix} -a ipv6")
        made.append(prefix)

    yield add
    for prefix in made:
        at("ogh_w1").check_output(f"{GOBGP} global rib del {prefix} -a ipv6")
    wait_for("what was announced is gone", lambda: not set(made) & set(known(router)))


def vtysh(router, command):
    return json.loads(router.check_output(f"vtysh -c '{command} json'"))


def session(router):
    return vtysh(router, "show bgp ipv6 unicast summary")["peers"][HASHER]["state"]


def known(router):
    return vtysh(router, "show bgp ipv6 unicast").get("routes", {})


def next_hops(router, prefix):
    return [
        route.get("gateway") for route in json.loads(router.check_output(f"ip -6 -json route show {prefix}") or "[]")
    ]


def dropped(router):
    shown = json.loads(router.check_output("nft --json list counters table ip6 og_edge"))["nftables"]
    return {entry["counter"]["name"]: entry["counter"]["packets"] for entry in shown if "counter" in entry}


def test_session_is_established(router):
    wait_for("Established", lambda: session(router) == "Established")
    wait_for("BFD", lambda: [peer["status"] for peer in vtysh(router, "show bfd peers")] == ["up"])


def test_locator_and_vip_are_learned_into_the_kernel(router, announce):
    prefixes = (LOCATOR, f"{VIP}/128")
    for prefix in prefixes:
        announce(prefix)
    wait_for("a route to each", lambda: all(next_hops(router, prefix) == [HASHER] for prefix in prefixes))


@pytest.mark.parametrize("foreign", ["2001:db8:9::/48", "5f00:1:12::/64", "2001:db8:1::/48", "::/0"])
def test_foreign_prefix_is_refused(router, announce, foreign):
    announce(foreign)
    announce(f"{VIP}/128")  # announced later: when it is there, the other one was seen
    wait_for("the VIP", lambda: f"{VIP}/128" in known(router))
    assert foreign not in known(router)


def test_a_client_reaches_the_vip_through_it(at, router, announce):
    at("ogh_w1").check_output(f"ip -6 addr replace {VIP}/128 dev lo nodad")
    try:
        announce(f"{VIP}/128")
        wait_for("the route", lambda: next_hops(router, f"{VIP}/128") == [HASHER])
        wait_for("an answer", lambda: at("cli_w1").run(f"ping -6 -c 1 -W 2 {VIP}").rc == 0)
    finally:
        at("ogh_w1").check_output(f"ip -6 addr del {VIP}/128 dev lo")


@pytest.mark.parametrize(
    ("counter", "source", "destination"),
    [
        ("into_domain", CLIENT, "5f00:1:11::1"),
        ("into_domain", CLIENT, HASHER),
        ("from_domain", "5f00:1:11::1", "2001:db8:9::1"),
        ("from_service", VIP, "2001:db8:9::1"),
    ],
)
def test_the_sr_domain_is_closed_to_clients(at, router, counter, source, destination):
    before = dropped(router)
    own = source == CLIENT
    if not own:
        at("cli_w1").check_output(f"ip -6 addr replace {source}/128 dev lo nodad")
    try:
        assert at("cli_w1").run(f"ping -6 -c 2 -i 0.2 -W 1 -I {source} {destination}").rc != 0
    finally:
        if not own:
            at("cli_w1").check_output(f"ip -6 addr del {source}/128 dev lo")
    after = dropped(router)
    assert after == before | {counter: before[counter] + 2}


def test_what_nobody_announces_ends_at_the_router(router):
    assert "unreachable 5f00:1::/32" in router.check_output("ip -6 route show 5f00:1::/32")
    assert "blackhole 2001:db8:1::/48" in router.check_output("ip -6 route show 2001:db8:1::/48")


def test_flows_are_hashed_by_their_ports(router):
    assert router.sysctl("net.ipv6.fib_multipath_hash_policy") == 3


def test_units_start_at_boot(router):
    assert router.service("frr").is_enabled
    assert router.service("og-edge").is_enabled
