# SPDX-License-Identifier: Apache-2.0
"""og-router on AF_XDP with emulated hashers and agents: the life of a connection, probing, restart."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6

from native.tests.system import harness
from native.tests.system.harness import (
    ACCEPT_K,
    ACCEPT_LAST,
    ACCEPT_N,
    FN_ACCEPT,
    FN_ERRORS,
    FN_MISS,
    FN_PIN,
    FN_STEER,
    ROLE_AGENT,
    Envelope,
    Member,
    Node,
    sid,
    srv6,
    tables,
    tcp,
    tcp_reply,
)
from native.tests.system.test_shares import set_shares, share, two_sites, why

if TYPE_CHECKING:
    from collections.abc import Callable

    from scapy.layers.l2 import Ether

OWN = "5f00:1:21::"
HASHER = "5f00:1:11::"
ARGUMENT = 0x0007_1234_5678  # owner thread 7, flow hash: copied into everything that belongs to the flow
ISN = 0x01020304


@pytest.fixture
def running(router: Node) -> Node:
    router.start()
    assert router.load(tables(agents=2, own=OWN))["ok"]
    return router


def steer(node: Node, packet: IPv6) -> None:
    """A client's packet as a hasher hands it on."""
    node.wire.send(srv6(sid(HASHER, FN_ERRORS, ARGUMENT), [sid(OWN, FN_STEER, ARGUMENT)], 0, packet))


def to_agent(sport: int) -> Callable[[Ether], bool]:
    def match(frame: Ether) -> bool:
        return bool(frame[IPv6].nh in (41, 43) and IPv6(Envelope.read(frame).inner)[TCP].sport == sport)

    return match


def expect(node: Node, sport: int, what: str) -> Envelope:
    return Envelope.read(node.wire.expect(to_agent(sport), what))


def answer(node: Node, agent: str, cookies: bytes, packet: IPv6) -> None:
    """A server's reply on its way back through its agent."""
    node.wire.send(
        srv6(sid(agent, FN_ERRORS, ARGUMENT), [sid(OWN, FN_PIN, ARGUMENT)], 0, packet, cookies=cookies)
    )  # fmt: skip


def connect(node: Node, sport: int) -> str:
    """The whole handshake; returns the locator of the agent that took the connection."""
    steer(node, tcp(sport, "S", seq=1000, hlim=63))
    offer = expect(node, sport, "the offered SYN")
    agent = offer.segments[1].locator
    answer(node, agent, offer.cookies, tcp_reply(sport, "SA", seq=ISN, ack=1001))
    reply = node.wire.expect(lambda frame: TCP in frame and frame[IPv6].nh == 6, "the SYN-ACK to the client")
    assert (reply[IPv6].src, reply[IPv6].dst, reply[TCP].dport) == (harness.VIP, harness.CLIENT, sport)
    steer(node, tcp(sport, "A", seq=1001, ack=ISN + 1, hlim=63))
    assert [s.locator for s in expect(node, sport, "the ACK").segments] == [agent]
    return agent


def test_syn_is_offered_to_two_agents(running: Node) -> None:
    sent = tcp(50000, "S", hlim=63)
    steer(running, sent)
    offer = expect(running, 50000, "the offered SYN")
    assert [(s.locator, s.function) for s in offer.segments[:1]] == [(OWN, FN_STEER)]
    assert offer.active == 1
    assert {s.locator for s in offer.segments[1:]} == {"5f00:1:31::", "5f00:1:32::"}
    assert [s.function for s in offer.segments[1:]] == [FN_ACCEPT, FN_ACCEPT]
    assert [s.flags for s in offer.segments[1:]] == [ACCEPT_N, ACCEPT_N | ACCEPT_LAST]
    assert (offer.cookies[0], offer.cookies[1], len(offer.cookies)) == (124, 14, 16)
    assert offer.outer.hlim == 62, "hop limit as received, one lower"
    assert offer.inner == bytes(sent)
    assert running.telemetry("/og/pins")["half_open"] == 0, "a SYN leaves nothing behind"


def test_connection_is_pinned(running: Node) -> None:
    agent = connect(running, 50010)
    for _ in range(3):
        steer(running, tcp(50010, "PA", seq=1001, ack=ISN + 1, payload=b"GET", hlim=63))
        envelope = expect(running, 50010, "data")
        assert [(s.locator, s.function, s.flags) for s in envelope.segments] == [(agent, FN_ACCEPT, ACCEPT_K)]
    counters = running.counters()
    assert [counters[name] for name in ("offered", "returned_half_open", "promoted", "pinned")] == [1, 1, 1, 3]
    assert running.telemetry("/og/pins")["count"] == 1
    [pin] = running.telemetry("/og/pins_list")
    name = {"5f00:1:31::": "agent_w1", "5f00:1:32::": "agent_w2"}[agent]
    assert (pin["client"], pin["client_port"], pin["service"], pin["target"]) == (harness.CLIENT, 50010, "web", name)
    assert running.telemetry(f"/og/pins_list,{pin['next']}") == []


def test_pins_survive_new_tables_and_a_drained_agent(running: Node) -> None:
    agent = connect(running, 50020)
    document = tables(generation=2, agents=2, own=OWN)
    for entry in document["agents"]:
        if entry["locator"] == agent:
            entry["weight"] = 0
    assert running.load(document)["ok"]
    steer(running, tcp(50020, "A", seq=1001, ack=ISN + 1, hlim=63))
    assert [s.locator for s in expect(running, 50020, "a packet of the old connection").segments] == [agent]
    for sport in range(50100, 50120):
        steer(running, tcp(sport, "S", hlim=63))
        offered = {s.locator for s in expect(running, sport, "a new connection").segments[1:]}
        assert agent not in offered, "a drained agent gets no new connection"


def test_forged_cookie_makes_no_pin(running: Node) -> None:
    steer(running, tcp(50030, "S", hlim=63))
    offer = expect(running, 50030, "the offered SYN")
    forged = offer.cookies[:-1] + bytes([offer.cookies[-1] ^ 1])
    answer(running, offer.segments[1].locator, forged, tcp_reply(50030, "SA", seq=ISN, ack=1001))
    harness.wait_for(lambda: running.count("drop_cookie") == 1, "the forged cookie is dropped by name")
    assert running.telemetry("/og/pins")["half_open"] == 0


def test_unknown_flow_is_hunted(running: Node) -> None:
    steer(running, tcp(50040, "A", hlim=63))
    hunt = expect(running, 50040, "the hunt")
    assert [(s.function, s.flags) for s in hunt.segments[1:3]] == [(FN_ACCEPT, ACCEPT_K), (FN_ACCEPT, ACCEPT_K)]
    assert (hunt.segments[3].locator, hunt.segments[3].function) == (OWN, FN_MISS)
    assert running.count("hunt_1") == 1


def test_connection_outlives_sigkill(running: Node) -> None:
    """The pins are gone, the servers know: the flow is hunted, and its reply pins it again."""
    agent = connect(running, 50050)
    running.stop(signal.SIGKILL)
    running.start()
    steer(running, tcp(50050, "A", seq=1001, ack=ISN + 1, hlim=63))
    hunt = expect(running, 50050, "the hunt")
    assert agent in {s.locator for s in hunt.segments[1:3]}
    answer(running, agent, hunt.cookies, tcp_reply(50050, "A", seq=ISN + 1, ack=1001))
    running.wire.expect(lambda frame: TCP in frame and frame[IPv6].nh == 6, "the reply")
    steer(running, tcp(50050, "A", seq=1001, ack=ISN + 1, hlim=63))
    assert [s.locator for s in expect(running, 50050, "pinned again").segments] == [agent]
    assert running.count("returned_pin") == 1


def test_agents_answers_decide(running: Node) -> None:
    first = running.wire.members["5f00:1:31::"] = Member(ROLE_AGENT, connections=17)
    second = running.wire.members["5f00:1:32::"] = Member(ROLE_AGENT)
    harness.wait_for(lambda: running.heartbeat()["flags"] == 3, "serving: an agent with a listener answers")
    harness.wait_for(lambda: running.telemetry("/og/members")["agent_w1"]["connections"] == 17, "load is told")
    harness.wait_for(lambda: not running.request({"op": "status"})["suspect"], "nobody is suspect")

    second.listeners = 0
    harness.wait_for(lambda: running.telemetry("/og/members")["agent_w2"]["listeners"] == 0, "no listener is told")

    def offered_to(agent: str, suspect: list[str], first_port: int) -> None:
        harness.wait_for(lambda: running.request({"op": "status"})["suspect"] == suspect, f"suspect: {suspect}")
        for sport in range(first_port, first_port + 10):
            steer(running, tcp(sport, "S", hlim=63))
            assert {s.locator for s in expect(running, sport, "SYN").segments[1:]} == {agent}

    running.wire.in_time(lambda: offered_to("5f00:1:31::", [], 51000))
    second.listeners = 1
    harness.wait_for(lambda: running.telemetry("/og/members")["agent_w2"]["listeners"] == 1, "and of one again")
    first.silent = True
    running.wire.in_time(lambda: offered_to("5f00:1:32::", ["agent_w1"], 51010))

    second.flags |= harness.PROBE_DRAINING
    harness.wait_for(lambda: running.heartbeat()["flags"] == 1, "one suspect, one draining: cannot serve")


def test_bad_persisted_document_does_not_stop_the_start(router: Node) -> None:
    (router.directory / "state").mkdir()
    (router.directory / "state" / "router.tables.json").write_text(json.dumps(tables(own=OWN) | {"slots": 4}))
    router.start()
    assert router.request({"op": "status"})["generation"] == 0
    assert "starting without tables: " in router.log.read_text()
    assert "slots: not a prime" in router.log.read_text()
    assert router.load(tables(own=OWN))["ok"]


def test_shares_outlive_the_process(router: Node) -> None:
    router.start()
    assert set_shares(router, share(5))["error"] == "shares: no tables are loaded yet"
    assert router.load(two_sites())["ok"]
    assert set_shares(router, share(100))["ok"]
    router.stop(signal.SIGKILL)
    router.start()
    assert router.telemetry("/og/shares") == {"web/east": 100}
    renumbered = two_sites(2, sites=["north", "east", "west"])
    renumbered["services"][0]["index"] = 5
    assert router.load(renumbered)["ok"]
    assert router.telemetry("/og/shares") == {"web/north": 0, "web/east": 100}
    assert why(router, 1)["share"] == 100
    router.stop()
    (router.directory / "state" / "router.shares.json").write_text('{"format": 1, "shares": [{"site": "east"}]}')
    router.start()
    assert router.telemetry("/og/shares") == {"web/north": 0, "web/east": 0}
    assert "starting without shares: " in router.log.read_text()
    assert "shares[0].service: is missing" in router.log.read_text()
