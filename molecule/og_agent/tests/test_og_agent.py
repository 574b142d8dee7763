# SPDX-License-Identifier: Apache-2.0
"""An application host as the role leaves it: its programs take packets out of envelopes, and a server answers."""

from __future__ import annotations

import json

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6

from native.tests.system.harness import (
    ACCEPT_K,
    ACCEPT_LAST,
    ACCEPT_N,
    CLIENT,
    FN_ACCEPT,
    FN_ERRORS,
    FN_PIN,
    FN_STEER,
    VIP,
    Envelope,
    Sid,
    sid,
    srv6,
    tcp,
)
from tests.services.nodes import wait_for

AGENT, HASHER, ROUTER = "5f00:1:31::", "5f00:1:11::", "5f00:1:21::"
ARGUMENT = 0x1234_5678  # owner thread 0 and flow hash
COOKIE = bytes([124, 14, 1, 7, 0, 9, 0, 0]) + b"\xc0" * 8  # the agent does not look into it
AGENT_COMMAND = "/opt/og/current/bin/og-agent"


@pytest.fixture(scope="module")
def node(at):
    return at("agent_w1")


@pytest.fixture(scope="module")
def wire(far_end):
    return far_end("agent_w1")


@pytest.fixture
def server(node):
    """A listener on the service's port."""
    node.check_output(
        "systemd-run --quiet --unit=og-test-server --collect python3 -m http.server --bind :: --directory /srv 80"
    )
    wait_for("the listener", lambda: node.socket("tcp://:::80").is_listening)
    yield
    node.check_output("systemctl stop og-test-server")


def status(node):
    return json.loads(node.check_output(f"{AGENT_COMMAND} --status"))


def accept(flags):
    return sid(AGENT, FN_ACCEPT, flags << 32)


def offer(wire, packet):
    """The only candidate, after the router's own Steer."""
    source = sid(ROUTER, FN_ERRORS, ARGUMENT)
    path = [sid(ROUTER, FN_STEER, ARGUMENT), accept(ACCEPT_N | ACCEPT_LAST)]
    wire.send(srv6(source, path, 0, packet, cookies=COOKIE))


def pinned(wire, packet):
    wire.send(srv6(sid(ROUTER, FN_ERRORS, ARGUMENT), [accept(ACCEPT_K)], 0, packet))


def syn_ack(sport):
    """SYN-ACK in an envelope to the router's Pin."""

    def match(frame):
        if IPv6 not in frame or frame[IPv6].nh != 43:
            return False
        inner = IPv6(Envelope.read(frame).inner)
        return inner[TCP].dport == sport and inner[TCP].flags == "SA"

    return match


def test_programs_are_attached(node):
    state = status(node)
    assert (state["attached"], state["mode"], state["daemon"]["running"], state["problems"]) == (
        True,
        "generic",
        True,
        [],
    )
    assert "xdpgeneric" in node.check_output("ip link show dev fab0")
    assert f"{VIP}/128" in node.check_output("ip -6 addr show dev lo")


@pytest.mark.usefixtures("server")
def test_a_connection_through_envelopes(node, wire):
    before = status(node)["counters"]
    offer(wire, tcp(40010, "S", seq=1000, hlim=63))
    envelope = Envelope.read(wire.expect(syn_ack(40010), "the SYN-ACK on its way back"))
    assert (envelope.segments[0].locator, envelope.segments[0].function) == (ROUTER, FN_PIN)
    assert Sid.read(envelope.outer.src).locator == AGENT
    assert envelope.cookies == COOKIE
    answer = IPv6(envelope.inner)
    assert (answer.src, answer.dst, answer[TCP].ack) == (VIP, CLIENT, 1001)

    isn = answer[TCP].seq + 1
    pinned(wire, tcp(40010, "A", seq=1001, ack=isn, hlim=63))
    pinned(wire, tcp(40010, "PA", seq=1001, ack=isn, payload=b"GET / HTTP/1.0\r\n\r\n", hlim=63))
    direct = wire.expect(lambda f: IPv6 in f and f[IPv6].nh == 6 and b"HTTP/1.0 200" in bytes(f), "the answer, direct")
    assert (direct[IPv6].src, direct[IPv6].dst, direct[TCP].dport) == (VIP, CLIENT, 40010)

    after = status(node)["counters"]
    grown = {name: after[name] - before[name] for name in ("taken_new", "taken_known", "egress_synack")}
    assert grown["taken_new"] == 1
    assert grown["taken_known"] >= 2
    assert grown["egress_synack"] >= 1


def test_without_a_listener_a_syn_goes_to_the_next_candidate(node, wire):
    before = status(node)["counters"]["declined_no_listener"]
    other = sid("5f00:1:32::", FN_ACCEPT, (ACCEPT_N | ACCEPT_LAST) << 32)
    path = [sid(ROUTER, FN_STEER, ARGUMENT), accept(ACCEPT_N), other]
    wire.send(srv6(sid(ROUTER, FN_ERRORS, ARGUMENT), path, 1, tcp(40020, "S", hlim=63), cookies=COOKIE))
    frame = wire.expect(lambda f: IPv6 in f and f[IPv6].dst == other, "the SYN, sent on")
    assert Envelope.read(frame).segments_left == 0
    assert status(node)["counters"]["declined_no_listener"] == before + 1


def test_a_stranger_is_dropped_by_name(node, wire):
    before = status(node)["counters"]["drop_outer_source"]
    wire.send(srv6("2001:db8:9::1", [accept(ACCEPT_K)], 0, tcp(40030, "A", hlim=63)))
    wait_for("the counter", lambda: status(node)["counters"]["drop_outer_source"] == before + 1)


@pytest.mark.usefixtures("server")
def test_a_stopped_daemon_leaves_the_programs_at_work(node, wire):
    node.check_output("systemctl stop og-agent")
    try:
        assert status(node)["attached"] is True
        offer(wire, tcp(40040, "S", seq=1000, hlim=63))
        wire.expect(syn_ack(40040), "the SYN-ACK, without a daemon")
    finally:
        node.check_output("systemctl start og-agent")


def test_unit_starts_at_boot(node):
    assert node.service("og-agent").is_enabled
