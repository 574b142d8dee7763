# SPDX-License-Identifier: Apache-2.0
"""A server that is silent is suspect; dead it is when a second witness says so. And what becomes of its pins."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6

from native.tests.system import harness
from native.tests.system.harness import (
    ACCEPT_K,
    FN_ACCEPT,
    FN_ERRORS,
    FN_PROBE,
    ROLE_AGENT,
    Envelope,
    Member,
    Node,
    sid,
    tables,
    tcp,
)
from native.tests.system.test_router import ISN, OWN, connect, steer

if TYPE_CHECKING:
    from collections.abc import Callable

AGENTS = ("5f00:1:31::", "5f00:1:32::", "5f00:1:33::")


@pytest.fixture
def running(router: Node) -> Node:
    router.wire.members |= {locator: Member(ROLE_AGENT) for locator in AGENTS}
    router.start()
    assert router.load(tables(agents=3, own=OWN))["ok"]
    harness.wait_for(lambda: len(replied(router)) == 3, "all agents answer")
    return router


def replied(node: Node) -> list[str]:
    return [name for name, told in node.telemetry("/og/members").items() if told["replied"]]


def told(node: Node, agent: str) -> dict[str, Any]:
    """What the prober says of the agent with a locator."""
    answer: dict[str, Any] = node.telemetry("/og/members")["agent_w" + str(int(agent.split(":")[2], 16) - 0x30)]
    return answer


def unreachable(node: Node, agent: str, code: int = 0) -> None:
    """The network router has no route to the agent any more: it says so about a probe."""
    probe = IPv6(src=sid(OWN, FN_ERRORS), dst=sid(agent, FN_PROBE, 7)) / UDP(sport=20295, dport=20295) / bytes(56)
    node.wire.send(IPv6(src=harness.ROUTER_ADDRESS, dst=sid(OWN, FN_ERRORS)) / ICMPv6DestUnreach(code=code) / probe)


def next_packet(node: Node, sport: int) -> Envelope:
    """Where the next packet of an established connection goes."""
    steer(node, tcp(sport, "A", seq=1001, ack=ISN + 1, hlim=63))
    frame = node.wire.expect(
        lambda f: f[IPv6].nh in (41, 43) and IPv6(Envelope.read(f).inner)[TCP].sport == sport, "a packet"
    )
    return Envelope.read(frame)


def is_pinned(node: Node, sport: int, agent: str) -> bool:
    return [(s.locator, s.function, s.flags) for s in next_packet(node, sport).segments] == [
        (agent, FN_ACCEPT, ACCEPT_K)
    ]


def asked(node: Node, sport: int) -> set[str]:
    """Whom a hunt asks first."""
    return {s.locator for s in next_packet(node, sport).segments if s.function == FN_ACCEPT}


def fabric(node: Node, agent: str) -> None:
    unreachable(node, agent)


def document(node: Node, agent: str) -> None:
    changed = tables(2, agents=3, own=OWN)
    for entry in changed["agents"]:
        entry["dead"] = entry["locator"] == agent
    assert node.load(changed)["ok"]


@pytest.mark.parametrize("witness", [fabric, document])
def test_dead_takes_silence_and_a_witness(running: Node, witness: Callable[[Node, str], None]) -> None:
    agent = connect(running, 50000)
    running.wire.members[agent].silent = True
    harness.wait_for(lambda: told(running, agent)["suspect"], "silent: suspect")
    assert told(running, agent)["dead"] == 0
    assert is_pinned(running, 50000, agent), "suspect: its pins are used"

    witness(running, agent)
    harness.wait_for(lambda: told(running, agent)["dead"], "dead")
    status = running.request({"op": "status"})
    name = told(running, agent)["name"]
    assert name in status["suspect"]
    assert status["dead"] == [name]
    others = asked(running, 50000)
    assert others
    assert agent not in others
    why = running.telemetry(f"/og/why,{harness.CLIENT};50000;web")
    assert (why["pin"], why["target_dead"]) == ("pinned", 1)

    running.wire.members[agent].silent = False

    def lives() -> None:
        harness.wait_for(lambda: not told(running, agent)["dead"], "it answers")
        assert is_pinned(running, 50000, agent), "the same incarnation: it knows its connections"
        assert running.request({"op": "status"})["dead"] == []

    running.wire.in_time(lives)


def test_new_incarnation_voids_its_pins(running: Node) -> None:
    agent = connect(running, 50000)
    incarnations = told(running, agent)["incarnations"]
    running.wire.members[agent].incarnation ^= 0xFF
    harness.wait_for(lambda: told(running, agent)["incarnations"] == incarnations + 1, "another incarnation")
    harness.wait_for(lambda: next_packet(running, 50000).segments[0].locator == OWN, "its old pins are void: hunted")
    assert running.telemetry("/og/pins")["voided"] == 1


def test_a_witness_alone_makes_nothing_dead(running: Node) -> None:
    agent = connect(running, 50000)
    document(running, agent)

    def is_not_believed() -> None:
        harness.wait_for(lambda: not told(running, agent)["suspect"], "it answers")
        errors = running.count("fabric_error")
        unreachable(running, agent)
        harness.wait_for(lambda: running.count("fabric_error") == errors + 1, "the error came")
        probes = running.wire.members[agent].probes
        harness.wait_for(lambda: running.wire.members[agent].probes > probes + 5, "some more probes are answered")
        assert told(running, agent)["dead"] == 0
        assert is_pinned(running, 50000, agent)

    running.wire.in_time(is_not_believed)


def test_an_answer_of_the_host_itself_is_no_witness(running: Node) -> None:
    agent = connect(running, 50000)
    running.wire.members[agent].silent = True
    unreachable(running, agent, code=4)
    harness.wait_for(lambda: told(running, agent)["misses"] > 5, "silent")
    assert (told(running, agent)["suspect"], told(running, agent)["dead"]) == (1, 0)


def test_silence_however_long_makes_nothing_dead(running: Node) -> None:
    """Replies that come late on a busy machine are misses; nothing more follows from them."""
    for member in running.wire.members.values():
        member.silent = True
    harness.wait_for(lambda: len(running.request({"op": "status"})["suspect"]) == 3, "all are suspect")
    time.sleep(1)
    assert running.request({"op": "status"})["dead"] == []
