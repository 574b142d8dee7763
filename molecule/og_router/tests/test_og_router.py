# SPDX-License-Identifier: Apache-2.0
"""A router as the role leaves it: tables by way of Consul, a connection offered to agents, pinned, and counted."""

from __future__ import annotations

import json

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6

from native.tests.system.harness import (
    ACCEPT_K,
    FN_ACCEPT,
    FN_ERRORS,
    FN_PIN,
    FN_STEER,
    ROLE_AGENT,
    Envelope,
    Member,
    sid,
    srv6,
    tcp,
    tcp_reply,
)
from tests.services.nodes import wait_for

OWN, HASHER = "5f00:1:21::", "5f00:1:11::"
AGENTS = {"agent_w1": "5f00:1:31::", "agent_w2": "5f00:1:32::"}
ARGUMENT = 0x1234_5678  # owner thread 0 and flow hash
ISN = 0x01020304
OGCTL = "/opt/og/current/bin/ogctl"


@pytest.fixture(scope="module")
def node(at):
    return at("ogr_w1")


def status(node):
    """ogctl ends with 1 while there are problems: the answer is what counts."""
    return json.loads(node.run(f"{OGCTL} status --json --interval 0.1").stdout)


def ask(node, command):
    return json.loads(node.check_output(f"{OGCTL} {command} --json"))


@pytest.fixture(scope="module")
def wire(node, consul, far_end):
    """Two agents in Consul that answer probes; the router has them in its tables and can serve."""
    wire = far_end("ogr_w1")
    for name, locator in AGENTS.items():
        wire.members[locator] = Member(ROLE_AGENT)
        consul("ogr_w1", "catalog/register", {
            "Datacenter": "west", "Node": name, "Address": f"2001:db8:f001:{locator.split(':')[2]}::2",
            "Service": {"ID": "web", "Service": "web", "Meta": {"locator": f"{locator}/64", "service": "web"}},
            "Check": {"Node": name, "CheckID": "web-health", "ServiceID": "web", "Status": "passing"},
        })  # fmt: skip
    wait_for("serving", lambda: status(node)["generation"] and status(node)["serving"])
    wait_for("both agents offered", lambda: offered(wire, 49000) == set(AGENTS.values()))
    return wire


def steer(wire, packet):
    """A client's packet as a hasher hands it on."""
    wire.send(srv6(sid(HASHER, FN_ERRORS, ARGUMENT), [sid(OWN, FN_STEER, ARGUMENT)], 0, packet))


def expect(wire, sport, what):
    def match(frame):
        return frame[IPv6].nh in (41, 43) and IPv6(Envelope.read(frame).inner)[TCP].sport == sport

    return Envelope.read(wire.expect(match, what))


def offered(wire, sport):
    steer(wire, tcp(sport, "S", hlim=63))
    return {
        segment.locator for segment in expect(wire, sport, "the offered SYN").segments if segment.function == FN_ACCEPT
    }


def connect(wire, sport):
    """The whole handshake; returns the locator of the agent that took the connection."""
    steer(wire, tcp(sport, "S", seq=1000, hlim=63))
    offer = expect(wire, sport, "the offered SYN")
    agent = next(segment.locator for segment in offer.segments if segment.function == FN_ACCEPT)
    reply = tcp_reply(sport, "SA", seq=ISN, ack=1001)
    path = [sid(OWN, FN_PIN, ARGUMENT)]
    wire.send(srv6(sid(agent, FN_ERRORS, ARGUMENT), path, 0, reply, cookies=offer.cookies))
    answer = wire.expect(lambda frame: TCP in frame and frame[IPv6].nh == 6, "the SYN-ACK to the client")
    assert answer[TCP].dport == sport
    steer(wire, tcp(sport, "A", seq=1001, ack=ISN + 1, hlim=63))
    assert [segment.locator for segment in expect(wire, sport, "the ACK").segments] == [agent]
    return agent


def test_a_connection_is_offered_pinned_and_counted(node, wire):
    before = ask(node, "counters")
    agent = connect(wire, 50010)
    for _ in range(3):
        steer(wire, tcp(50010, "PA", seq=1001, ack=ISN + 1, payload=b"GET", hlim=63))
        segments = expect(wire, 50010, "data").segments
        assert [(s.locator, s.function, s.flags) for s in segments] == [(agent, FN_ACCEPT, ACCEPT_K)]
    wanted = {"offered": 1, "returned_half_open": 1, "promoted": 1, "pinned": 3}

    def counted():
        after = ask(node, "counters")
        return {name: after[name] - before[name] for name in wanted}

    wait_for("the counters", lambda: counted() == wanted)
    pins = [pin for pin in ask(node, "pins --list") if pin["client_port"] == 50010]
    names = {locator: name for name, locator in AGENTS.items()}
    assert [(pin["service"], pin["target"]) for pin in pins] == [("web", names[agent])]


def test_new_connections_use_both_agents(wire):
    first = {expect_first(wire, sport) for sport in range(51000, 51020)}
    assert first == set(AGENTS.values())


def expect_first(wire, sport):
    steer(wire, tcp(sport, "S", hlim=63))
    return next(s.locator for s in expect(wire, sport, "the offered SYN").segments if s.function == FN_ACCEPT)


def test_an_agent_that_fails_its_check_gets_no_new_connections(wire, consul):
    entry = {"Node": "agent_w2", "Address": "2001:db8:f001:32::2", "SkipNodeUpdate": True}
    check = {"Node": "agent_w2", "CheckID": "web-health", "ServiceID": "web"}
    consul("ogr_w1", "catalog/register", entry | {"Check": check | {"Status": "critical"}})
    try:
        wait_for("only the other is offered", lambda: offered(wire, 52000) == {AGENTS["agent_w1"]})
    finally:
        consul("ogr_w1", "catalog/register", entry | {"Check": check | {"Status": "passing"}})
    wait_for("both are offered again", lambda: offered(wire, 52001) == set(AGENTS.values()))


def test_forged_return_makes_no_pin(node, wire):
    before = ask(node, "counters")["drop_cookie"]
    steer(wire, tcp(50030, "S", hlim=63))
    offer = expect(wire, 50030, "the offered SYN")
    forged = offer.cookies[:-1] + bytes([offer.cookies[-1] ^ 1])
    reply = tcp_reply(50030, "SA", seq=ISN, ack=1001)
    wire.send(
        srv6(sid(AGENTS["agent_w1"], FN_ERRORS, ARGUMENT), [sid(OWN, FN_PIN, ARGUMENT)], 0, reply, cookies=forged)
    )
    wait_for("the drop is counted by name", lambda: ask(node, "counters")["drop_cookie"] == before + 1)


def test_tables_survive_without_consul(node, wire):
    node.check_output("systemctl stop consul og-control")
    try:
        node.check_output("systemctl restart og-router")
        wait_for("serving from the kept tables", lambda: status(node)["serving"])
        assert offered(wire, 53000) == set(AGENTS.values())
    finally:
        node.check_output("systemctl start consul og-control")


def test_the_node_never_forwards(node):
    assert node.sysctl("net.ipv6.conf.all.forwarding") == 0
    assert "blackhole 5f00:1:21::/64" in node.check_output("ip -6 route show 5f00:1:21::/64")


def test_units_start_at_boot(node):
    for unit in ("og-routes", "og-router", "og-control"):
        assert node.service(unit).is_enabled, unit
