# SPDX-License-Identifier: Apache-2.0
"""The tc program, packet by packet: replies of services, with notes made by the XDP program's own hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import TCP, UDP

from og.agent.layout import ServiceStats, index

from . import wire
from .wire import (
    AGENT,
    CLIENT,
    ERRORS,
    HASH,
    PORT,
    ROUTER,
    ROUTER_2,
    TC_OK,
    TC_REDIRECT,
    UDP_PORT,
    VIP,
    Ether,
    F,
    IPv6,
    N,
    Path6,
    Raw,
    accept,
    cookie,
    envelope,
    flow_argument,
    offered,
    sid,
    srh,
    steer,
    tcp,
)  # fmt: skip

if TYPE_CHECKING:
    from .conftest import Agent
    from .sockets import Sockets

MSS_LIMIT = 2000 - 316


def reply(
    flags: str = "SA",
    *,
    dport: int = 40000,
    payload: bytes = b"",
    options: list[tuple[str, object]] | None = None,
    tc: int = 0,
) -> Ether:
    """A server's segment, complete with its checksum."""
    segment = TCP(sport=PORT, dport=dport, flags=flags, options=options or [])
    packet = Ether() / IPv6(src=VIP, dst=CLIENT, tc=tc) / segment
    return Ether(bytes(packet / Raw(payload) if payload else packet))


def note(agent: Agent, sport: int = 40000, steers: tuple[str, ...] = (steer(),)) -> None:
    """Let the XDP program note the way back of a flow."""
    path = offered(accept(N), visited=len(steers), steers=steers)
    assert agent.ingress(envelope(tcp(sport=sport), path, src=sid(ROUTER, ERRORS)))[3] == {"note_made"}


def hunted(agent: Agent, sockets: Sockets) -> int:
    """An established connection one packet of which was hunted; returns the client's port."""
    _, _, sport = sockets.established()
    path = offered(accept(wire.K))
    ack = tcp("A", sport=sport)
    ack[TCP].seq = _expected(sockets)
    assert agent.ingress(envelope(ack, path))[3] == {"note_made"}
    return sport


def _expected(sockets: Sockets) -> int:
    client = next(one for one in reversed(sockets.made) if one.getsockname()[0] == CLIENT)
    client.setsockopt(6, 19, 1)  # TCP_REPAIR
    client.setsockopt(6, 20, 2)  # TCP_REPAIR_QUEUE: send queue
    seq = client.getsockopt(6, 21) & 0xFFFFFFFF  # TCP_QUEUE_SEQ
    client.setsockopt(6, 19, 0)
    return seq


def sound(packet: IPv6) -> bool:
    """Does the transport checksum fit?"""
    sent = packet.payload.chksum
    again = IPv6(bytes(packet))
    del again.payload.chksum
    return IPv6(bytes(again)).payload.chksum == sent


def assert_enveloped(data: bytes, inner: bytes, path: Path6, tc: int = 0) -> None:
    """The envelope to the byte: own Errors SID as source, first Pin as destination, SRH with cookies, RFC 8754."""
    outer = IPv6(data[14:])
    assert (outer.src, outer.dst) == (sid(AGENT, ERRORS, flow_argument()), path.segments[0])
    assert (outer.nh, outer.hlim, outer.tc, outer.fl) == (43, 64, tc, HASH & 0xFFFFF)
    assert outer.plen == len(srh(path)) + len(inner)
    assert data[54:] == srh(path) + inner


ONE = Path6((sid(ROUTER, wire.PIN, flow_argument()),), 0, (cookie(0xC0),))
TWO = Path6(
    (sid(ROUTER_2, wire.PIN, flow_argument()), sid(ROUTER, wire.PIN, flow_argument())), 0, (cookie(0xC0), cookie(0xC1))
)


@pytest.mark.parametrize(("steers", "path"), [((steer(),), ONE), ((steer(), steer(ROUTER_2)), TWO)])
def test_synack_goes_along_the_way_back_as_often_as_it_is_sent(
    agent: Agent, sockets: Sockets, steers: tuple[str, ...], path: Path6
) -> None:
    sockets.listener()
    note(agent, steers=steers)
    frame = reply()
    for _ in range(3):  # retransmits
        action, data, counted, _ = agent.egress(frame)
        assert (action, counted) == (TC_REDIRECT, "egress_synack")
        assert data[:14] == bytes(frame)[:14]
        assert_enveloped(data, bytes(frame)[14:], path)


def test_nothing_else_uses_the_note_of_a_syn(agent: Agent, sockets: Sockets) -> None:
    sockets.listener()
    note(agent)
    for flags in ("A", "PA", "FA", "R", "RA"):
        frame = reply(flags)
        assert agent.egress(frame) == (TC_OK, bytes(frame), "egress_direct", set())


def test_synack_without_a_note_goes_directly(agent: Agent) -> None:
    frame = reply()
    assert agent.egress(frame) == (TC_OK, bytes(frame), "egress_synack_direct", set())


def test_hunted_flow_tells_once(agent: Agent, sockets: Sockets) -> None:
    sport = hunted(agent, sockets)
    frame = reply("PA", dport=sport, payload=b"data")
    action, data, counted, _ = agent.egress(frame)
    assert (action, counted) == (TC_REDIRECT, "egress_hunted")
    assert_enveloped(data, bytes(frame)[14:], ONE)
    assert agent.egress(frame) == (TC_OK, bytes(frame), "egress_direct", set())


def test_hunted_flow_waits_for_a_packet_that_may_tell(agent: Agent, sockets: Sockets) -> None:
    sport = hunted(agent, sockets)
    fits = 2000 - 80 - 40 - 20
    assert agent.egress(reply("A", dport=sport, payload=bytes(3000)), gso_size=1428)[2] == "egress_direct"
    assert agent.egress(reply("RA", dport=sport))[2] == "egress_direct"
    assert agent.egress(reply("A", dport=sport, payload=bytes(fits + 1)))[2] == "egress_direct"
    assert agent.egress(reply("A", dport=sport, payload=bytes(fits)))[2] == "egress_hunted"


def test_datagram_of_a_noted_flow_tells_once(agent: Agent) -> None:
    question = IPv6(src=CLIENT, dst=VIP) / UDP(sport=5353, dport=UDP_PORT) / Raw(b"question")
    assert agent.ingress(envelope(question, offered(accept(F))))[3] == {"note_made"}
    frame = Ether(bytes(Ether() / IPv6(src=VIP, dst=CLIENT) / UDP(sport=UDP_PORT, dport=5353) / Raw(b"answer")))
    assert agent.egress(frame)[2] == "egress_hunted"
    assert agent.egress(frame)[2] == "egress_direct"


@pytest.mark.parametrize("ecn", range(4))
def test_ecn_is_copied_and_dscp_is_the_gateways(agent: Agent, sockets: Sockets, ecn: int) -> None:
    agent.configure(dscp=46)
    sockets.listener()
    note(agent)
    frame = reply(tc=0x28 | ecn)
    _, data, _, _ = agent.egress(frame)
    assert_enveloped(data, bytes(frame)[14:], ONE, tc=46 << 2 | ecn)


OPTIONS: dict[str, list[tuple[str, object]]] = {
    "first": [("MSS", 8960), ("SAckOK", b""), ("Timestamp", (1, 2)), ("NOP", None), ("WScale", 7)],
    "at an odd offset": [("NOP", None), ("MSS", 8960), ("EOL", None)],
    "last": [
        ("NOP", None),
        ("NOP", None),
        ("Timestamp", (1, 2)),
        ("SAckOK", b""),
        ("NOP", None),
        ("WScale", 7),
        ("MSS", 8960),
    ],
}


@pytest.mark.parametrize("name", OPTIONS)
def test_mss_is_clamped_wherever_it_stands(agent: Agent, name: str) -> None:
    frame = reply(options=OPTIONS[name])
    _, data, counted, events = agent.egress(frame)
    assert (counted, events) == ("egress_synack_direct", {"mss_clamped"})
    clamped = IPv6(data[14:])
    assert dict(clamped[TCP].options)["MSS"] == MSS_LIMIT
    assert sound(clamped)
    expected = [(kind, MSS_LIMIT if kind == "MSS" else value) for kind, value in Ether(bytes(frame))[TCP].options]
    assert clamped[TCP].options == expected


def test_mss_of_a_noted_synack_is_clamped_inside(agent: Agent, sockets: Sockets) -> None:
    sockets.listener()
    note(agent)
    _, data, counted, _ = agent.egress(reply(options=[("MSS", 8960)]))
    inner = IPv6(data[14 + 80 :])
    assert counted == "egress_synack"
    assert dict(inner[TCP].options)["MSS"] == MSS_LIMIT
    assert sound(inner)


@pytest.mark.parametrize(
    ("mtu", "own", "wanted"),
    [(2000, MSS_LIMIT, MSS_LIMIT), (2000, 536, 536), (1536, 1460, 1220), (1600, 1460, 1284), (1536, 1219, 1219)],
)
def test_mss_is_the_lower_of_both_and_never_pushed_below_1220(agent: Agent, mtu: int, own: int, wanted: int) -> None:
    agent.configure(fabric_mtu=mtu)
    _, data, _, events = agent.egress(reply(options=[("MSS", own)]))
    assert dict(IPv6(data[14:])[TCP].options)["MSS"] == wanted
    assert ("mss_clamped" in events) == (wanted < own)


LYING = {
    "length 0": bytes([3, 0, 2, 4]),
    "length 1": bytes([8, 1, 2, 4]),
    "beyond the header": bytes([1, 1, 2, 4]),
    "cut": bytes([1, 1, 1, 2]),
    "ended": bytes([0, 2, 4, 35]),
    "too long": bytes([3, 200, 0, 0]),
}


@pytest.mark.parametrize("name", LYING)
def test_lying_options_change_nothing(agent: Agent, name: str) -> None:
    segment = IPv6(src=VIP, dst=CLIENT, nh=6) / Raw(
        bytes(TCP(sport=PORT, dport=40000, flags="SA", dataofs=6))[:20] + LYING[name]
    )
    frame = bytes(Ether() / segment)
    assert agent.egress(frame)[:2] == (TC_OK, frame)


OTHERS = {
    "not of a VIP": Ether() / IPv6(src=CLIENT, dst=VIP) / TCP(sport=PORT, flags="SA"),
    "other port of the VIP": Ether() / IPv6(src=VIP, dst=CLIENT) / TCP(sport=22, flags="SA"),
    "an envelope of ours": envelope(reply()[IPv6], ONE, src=sid(AGENT, ERRORS)),
    "IPv4": Ether(type=0x0800) / Raw(bytes(60)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_of_a_service_passes_uncounted(agent: Agent, name: str) -> None:
    frame = bytes(OTHERS[name])
    assert agent.egress(frame) == (TC_OK, frame, "", set())


def test_every_truncation_of_a_reply_passes_unchanged(agent: Agent) -> None:
    frame = bytes(reply("A", payload=b"x" * 40))
    for length in range(14 + 40, len(frame)):  # the kernel itself refuses shorter ones
        action, data, _, _ = agent.egress(frame[:length])
        assert (action, data) == (TC_OK, frame[:length])


def test_bytes_and_packets_are_counted_per_service(agent: Agent) -> None:
    def stats() -> ServiceStats:
        return ServiceStats.total(agent.maps["stats"].get_cpus(index(0)))

    before = stats()
    frame = reply("A", payload=bytes(100))
    agent.egress(frame)
    after = stats()
    assert (after.packets - before.packets, after.octets - before.octets) == (1, len(frame))
