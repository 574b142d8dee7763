# SPDX-License-Identifier: Apache-2.0
"""og-router between two sites: what routers tell each other in probe replies, and what follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6

from native.tests.system import harness
from native.tests.system.harness import (
    FN_ACCEPT,
    FN_ERRORS,
    FN_PIN,
    FN_STEER,
    PROBE_DRAINING,
    PROBE_SERVING,
    ROLE_AGENT,
    ROLE_ROUTER,
    Envelope,
    Member,
    sid,
    srv6,
    tcp,
    tcp_reply,
)
from native.tests.system.test_shares import EAST, HASHER, OWN, set_shares, share, two_sites, why

if TYPE_CHECKING:
    from native.tests.system.harness import Node

BESIDE = "5f00:1:22::"
AGENTS = ("5f00:1:31::", "5f00:1:32::")
ARGUMENT = 0x0007_1234_5678


@pytest.fixture
def running(router: Node) -> Node:
    """West: the router under test, one beside it, two agents; east: a router and an agent."""
    document = two_sites()
    document["routers"].append(
        {"id": 8, "name": "ogr_w2", "site": "west", "locator": BESIDE, "weight": 100, "generation": 0}
    )
    router.wire.members |= {EAST: Member(ROLE_ROUTER), **{locator: Member(ROLE_AGENT) for locator in AGENTS}}
    router.start()
    assert router.load(document)["ok"]
    harness.wait_for(lambda: router.heartbeat()["flags"] == 3, "agents answer")
    harness.wait_for(lambda: router.telemetry("/og/members")["ogr_e1"]["replied"], "the east answers")
    return router


def leaves(node: Node, sport: int = 40000) -> bool:
    return bool(why(node, sport)["site"] == "east")


def remote_connection(node: Node, sport: int) -> None:
    """A handshake with a server of the east."""

    def steer(flags: str, **fields: Any) -> Envelope:
        packet = tcp(sport, flags, hlim=63, **fields)
        node.wire.send(srv6(sid(HASHER, FN_ERRORS, ARGUMENT), [sid(OWN, FN_STEER, ARGUMENT)], 0, packet))
        frame = node.wire.expect(
            lambda f: f[IPv6].nh in (41, 43) and IPv6(Envelope.read(f).inner)[TCP].sport == sport, flags
        )
        return Envelope.read(frame)

    def offered_to_the_east() -> Envelope | None:
        """A reply of the east to a probe that comes late makes it suspect for a moment: then the SYN stays here."""
        offer = steer("S", seq=1000)
        return offer if [s.locator for s in offer.segments] == [OWN, EAST] else None

    offer = harness.wait_for(offered_to_the_east, "the SYN goes to the east")
    assert [s.function for s in offer.segments] == [FN_STEER, FN_STEER]
    back = [sid(EAST, FN_PIN, ARGUMENT), sid(OWN, FN_PIN, ARGUMENT)]
    reply = tcp_reply(sport, "SA", seq=5000, ack=1001)
    node.wire.send(srv6(sid(EAST, FN_ERRORS, ARGUMENT), back, 0, reply, cookies=offer.cookies))
    node.wire.expect(lambda f: TCP in f and f[IPv6].nh == 6, "the SYN-ACK to the client")
    pinned = steer("A", seq=1001, ack=5001)
    assert [(s.locator, s.function) for s in pinned.segments] == [(EAST, FN_STEER)]


def test_other_sites_are_told_the_load_of_this_one(running: Node) -> None:
    first, second = (running.wire.members[locator] for locator in AGENTS)
    first.connections, first.accepts_per_s, first.bytes_per_s = 17, 3, 10**10
    second.connections, second.accepts_per_s, second.bytes_per_s = 5, 4, 5

    def told() -> tuple[int, ...]:
        reply = running.wire.probe(OWN, EAST)
        return tuple(reply[name] for name in ("listeners", "connections", "accepts_per_s", "bytes_per_s", "flags"))

    harness.wait_for(lambda: told() == (1, 22, 7, 10**10 + 5, PROBE_SERVING), "the sum of both agents")
    assert running.wire.probe(OWN, BESIDE)["connections"] == 0, "beside: what it has sent to other sites"
    first.listeners = 0
    second.flags |= PROBE_DRAINING
    harness.wait_for(lambda: told()[0] == 0 and told()[4] == 0, "no agent is usable: it cannot serve")
    harness.wait_for(lambda: told()[1] == 22, "their connections are still there")


def test_routers_of_the_site_are_told_what_left(running: Node) -> None:
    set_shares(running, share(1024))
    for sport in range(50000, 50004):
        remote_connection(running, sport)
    assert running.telemetry("/og/pins")["to_sites"] == 4
    assert running.count("spilled") >= 4

    def told() -> dict[str, int]:
        return running.wire.probe(OWN, BESIDE)

    harness.wait_for(lambda: told()["connections"] == 4, "live pins to sites")
    harness.wait_for(lambda: told()["accepts_per_s"] == 0, "the rate falls to nothing")
    assert told()["bytes_per_s"] == 0
    harness.wait_for(lambda: told()["listeners"] == 1, "it can serve itself")


def test_rate_of_flows_that_leave(running: Node) -> None:
    set_shares(running, share(1024))
    sports = iter(range(51000, 59000))

    def rate() -> int:
        remote_connection(running, next(sports))
        return running.wire.probe(OWN, BESIDE)["accepts_per_s"]

    harness.wait_for(lambda: rate() > 0, "new flows to sites per second")


def test_flows_leave_only_to_a_site_that_says_it_can_serve(running: Node) -> None:
    set_shares(running, share(1024))
    east = running.wire.members[EAST]
    harness.wait_for(lambda: leaves(running), "the east can serve")
    for change in ({"listeners": 0b10}, {"flags": 0}, {"flags": PROBE_SERVING | PROBE_DRAINING}, {"silent": True}):
        before = {name: getattr(east, name) for name in change}
        for name, value in change.items():
            setattr(east, name, value)
        harness.wait_for(lambda: not leaves(running), f"not with {change}")
        assert "no router says it can serve" in why(running, 40000)["reason"]
        for name, value in before.items():
            setattr(east, name, value)
        harness.wait_for(lambda: leaves(running), f"again without {change}")


def test_no_usable_server_here_sends_all_to_the_other_site_and_back(running: Node) -> None:
    for locator in AGENTS:
        running.wire.members[locator].listeners = 0
    harness.wait_for(lambda: leaves(running), "no listener here")
    remote_connection(running, 50000)
    assert running.count("offered_site") >= 1
    for locator in AGENTS:
        running.wire.members[locator].listeners = 1
    harness.wait_for(lambda: not leaves(running), "servers are back: new flows stay")
    told = why(running, 50000)
    assert (told["pin"], told["target"]) == ("pinned", "site east")
    packet = tcp(50000, "A", seq=1001, ack=5001, hlim=63)
    running.wire.send(srv6(sid(HASHER, FN_ERRORS, ARGUMENT), [sid(OWN, FN_STEER, ARGUMENT)], 0, packet))
    frame = running.wire.expect(lambda f: f[IPv6].nh == 41, "the pinned flow")
    assert [(s.locator, s.function) for s in Envelope.read(frame).segments] == [(EAST, FN_STEER)]


def offered_to(node: Node, sport: int, seq: int) -> list[str]:
    """Locators a SYN is sent to, ours left out."""
    packet = tcp(sport, "S", seq=seq, hlim=63)
    node.wire.send(srv6(sid(HASHER, FN_ERRORS, ARGUMENT), [sid(OWN, FN_STEER, ARGUMENT)], 0, packet))
    frame = node.wire.expect(lambda f: f[IPv6].nh == 43, "the SYN is offered")
    return [s.locator for s in Envelope.read(frame).segments if s.locator != OWN]


def test_a_pin_to_a_site_that_takes_nothing_new_does_not_hold_a_new_connection(running: Node) -> None:
    """Its servers are drained or gone: it would drop the SYN and every repetition, for as long as the pin lasts."""
    set_shares(running, share(1024))
    remote_connection(running, 52000)
    set_shares(running, share(0))

    def pinned_server_is_asked_first() -> None:
        harness.wait_for(lambda: not running.telemetry("/og/members")["ogr_e1"]["suspect"], "the east answers")
        assert offered_to(running, 52000, 9000) == [EAST]

    running.wire.in_time(pinned_server_is_asked_first)
    running.wire.members[EAST].flags = 0
    harness.wait_for(lambda: set(offered_to(running, 52000, 9500)) == set(AGENTS), "servers of this site are asked")
    packet = tcp(52000, "A", seq=1001, ack=5001, hlim=63)
    running.wire.send(srv6(sid(HASHER, FN_ERRORS, ARGUMENT), [sid(OWN, FN_STEER, ARGUMENT)], 0, packet))
    frame = running.wire.expect(lambda f: f[IPv6].nh == 41, "the connection that is pinned goes on")
    assert [(s.locator, s.function) for s in Envelope.read(frame).segments] == [(EAST, FN_STEER)]
    running.wire.members[EAST].flags = PROBE_SERVING
    harness.wait_for(lambda: offered_to(running, 52000, 9900) == [EAST], "it can serve again")


def test_a_silent_router_beside_changes_nothing(running: Node) -> None:
    harness.wait_for(lambda: running.telemetry("/og/members")["ogr_w2"]["suspect"], "it does not answer")
    told = running.telemetry("/og/members")["ogr_w2"]
    assert (told["site"], told["kind"]) == ("west", "router")
    assert "ogr_w2" not in running.request({"op": "status"})["suspect"]
    harness.wait_for(lambda: running.request({"op": "status"})["serving"], "it serves")
    assert "ogr_w1" not in running.telemetry("/og/members"), "it does not ask itself"


def test_a_site_that_never_answered_gets_nothing(router: Node) -> None:
    router.start()
    assert router.load(two_sites())["ok"]
    assert set_shares(router, share(1024))["ok"]
    assert not leaves(router)
    packet = tcp(50000, "S", hlim=63)
    router.wire.send(srv6(sid(HASHER, FN_ERRORS, 1), [sid(OWN, FN_STEER, 1)], 0, packet))
    frame = router.wire.expect(lambda f: f[IPv6].nh == 43, "the offered SYN")
    assert [s.function for s in Envelope.read(frame).segments] == [FN_STEER, FN_ACCEPT, FN_ACCEPT]
