# SPDX-License-Identifier: Apache-2.0
"""A hasher as the role leaves it: tables by way of Consul, client packets hashed to routers, and every one counted."""

from __future__ import annotations

import json

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6

from native.tests.system.harness import FN_STEER, ROLE_ROUTER, Envelope, Member, tcp
from tests.services.nodes import wait_for

ROUTERS = {"ogr_w1": "5f00:1:21::", "ogr_w2": "5f00:1:22::"}
OGCTL = "/opt/og/current/bin/ogctl"


@pytest.fixture(scope="module")
def node(at):
    return at("ogh_w1")


def status(node):
    """ogctl ends with 1 while there are problems: the answer is what counts."""
    return json.loads(node.run(f"{OGCTL} status --json --interval 0.1").stdout)


def counters(node):
    return json.loads(node.check_output(f"{OGCTL} counters --json"))


@pytest.fixture(scope="module")
def wire(node, consul, far_end):
    """Two routers in Consul that answer probes; the hasher has them in its tables and can serve."""
    wire = far_end("ogh_w1")
    for name, locator in ROUTERS.items():
        wire.members[locator] = Member(ROLE_ROUTER)
        consul("ogh_w1", "catalog/register", {
            "Datacenter": "west", "Node": name, "Address": f"2001:db8:f001:{locator.split(':')[2]}::2",
            "Service": {"ID": "og-router", "Service": "og-router", "Meta": {"locator": f"{locator}/64"}},
            "Check": {"Node": name, "CheckID": "og-router-health", "ServiceID": "og-router", "Status": "passing"},
        })  # fmt: skip
    wait_for("the routers in the tables", lambda: status(node)["generation"] and len(serving(node)) == len(ROUTERS))
    wait_for("serving", lambda: status(node)["serving"])
    return wire


def serving(node):
    members = status(node)["members"]
    entries = members.values() if isinstance(members, dict) else members
    return [entry for entry in entries if entry.get("serving")]


def steered(sport):
    return lambda frame: IPv6 in frame and frame[IPv6].nh in (41, 43) and TCP in frame and frame[TCP].sport == sport


def test_a_clients_packet_is_steered_to_a_router_and_counted(node, wire):
    before = counters(node)["steered"]
    sent = tcp(40001, "S", hlim=61)
    wire.send(sent)
    frame = wire.expect(steered(40001), "the encapsulated SYN")
    assert (frame.dst, frame.src) == (wire.mac, wire.far_mac)
    envelope = Envelope.read(frame)
    assert (envelope.segments[0].locator in ROUTERS.values(), envelope.segments[0].function) == (True, FN_STEER)
    expected = bytearray(bytes(sent))
    expected[7] -= 1  # hop limit, RFC 8986 section 5.1
    assert envelope.inner == bytes(expected)
    wait_for("the counter", lambda: counters(node)["steered"] == before + 1)


def test_flows_use_both_routers_and_each_stays_at_its_own(node, wire):
    def spread():
        wait_for("both routers answer", lambda: len(serving(node)) == len(ROUTERS))
        where: dict[int, set[str]] = {}
        for _ in range(2):
            for sport in range(41000, 41020):
                wire.send(tcp(sport, "A"))
                envelope = Envelope.read(wire.expect(steered(sport), f"packet of port {sport}"))
                where.setdefault(sport, set()).add(envelope.segments[0].locator)
        assert all(len(routers) == 1 for routers in where.values())
        assert set.union(*where.values()) == set(ROUTERS.values())

    wire.in_time(spread)


def test_a_drop_has_a_name(node, wire):
    before = counters(node)["drop_no_service"]
    packet = tcp(40002, "S")
    packet[TCP].dport = 81
    wire.send(packet)
    wait_for("the counter", lambda: counters(node)["drop_no_service"] == before + 1)


def test_a_router_that_fails_its_check_gets_no_new_flows(wire, consul):
    check = {"Node": "ogr_w2", "CheckID": "og-router-health", "ServiceID": "og-router"}
    entry = {"Node": "ogr_w2", "Address": "2001:db8:f001:22::2", "SkipNodeUpdate": True}
    consul("ogh_w1", "catalog/register", entry | {"Check": check | {"Status": "critical"}})
    try:

        def routers():
            for sport in range(42000, 42020):
                wire.send(tcp(sport, "S"))
            return {
                Envelope.read(wire.expect(steered(p), f"SYN of {p}")).segments[0].locator for p in range(42000, 42020)
            }

        wait_for("everything at the other router", lambda: routers() == {ROUTERS["ogr_w1"]})
    finally:
        consul("ogh_w1", "catalog/register", entry | {"Check": check | {"Status": "passing"}})


def test_steering_stays_attached_when_the_data_plane_is_killed(node, wire):
    assert wire.members
    node.check_output("systemctl kill --signal=KILL og-hasher")
    attached = json.loads(node.check_output("/opt/og/current/bin/og-port status --json --interface fab0"))
    assert attached["attached"] is True
    wait_for("it serves again, with its last tables", lambda: status(node)["serving"] and status(node)["generation"])


def test_the_node_never_forwards(node):
    assert node.sysctl("net.ipv6.conf.all.forwarding") == 0
    assert "blackhole 5f00:1:11::/64" in node.check_output("ip -6 route show 5f00:1:11::/64")
    assert "blackhole 2001:db8:1::80" in node.check_output("ip -6 route show 2001:db8:1::80")


def test_units_start_at_boot(node):
    for unit in ("og-routes", "og-hasher", "og-control"):
        assert node.service(unit).is_enabled, unit
