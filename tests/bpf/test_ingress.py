# SPDX-License-Identifier: Apache-2.0
"""The XDP program, packet by packet: BPF_PROG_TEST_RUN with the kernel's real socket table behind it."""

from __future__ import annotations

import random
import struct
from socket import AF_INET6, inet_pton
from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, ICMPv6PacketTooBig
from scapy.layers.l2 import ARP

from . import wire
from .sockets import Sockets, next_sequence, states
from .wire import (
    AGENT,
    AGENT_2,
    CLIENT,
    ERRORS,
    FAR_CLIENT,
    HASH,
    HASHER,
    LAST,
    MAC_HERE,
    MAC_THERE,
    MISS,
    OTHER_VIP,
    PORT,
    ROUTER,
    ROUTER_2,
    TCP,
    UDP,
    UDP_PORT,
    VIP,
    XDP_DROP,
    XDP_PASS,
    XDP_TX,
    Ether,
    F,
    IPv6,
    K,
    N,
    Path6,
    Raw,
    accept,
    cookie,
    envelope,
    flow_argument,
    known,
    offered,
    probe,
    sid,
    srh,
    steer,
    tcp,
)

if TYPE_CHECKING:
    from scapy.packet import Packet

    from .conftest import Agent


def note_key(packet: Packet) -> bytes:
    return (
        inet_pton(AF_INET6, packet.src)
        + inet_pton(AF_INET6, packet.dst)
        + struct.pack("!HHB3x", packet.sport, packet.dport, packet.nh)
    )


def note_of(agent: Agent, packet: Packet) -> tuple[bytes, bool] | None:
    """The noted envelope of the flow's reply, and whether it is for one reply only."""
    raw = agent.maps["notes"].get(note_key(packet))
    return None if raw is None else (raw[: raw[112]], bool(raw[113]))


def assert_delivered(data: bytes, inner: bytes) -> None:
    """What the kernel gets: the link header of the envelope, then the client's packet to the byte."""
    assert data == bytes.fromhex((MAC_HERE + MAC_THERE).replace(":", "")) + b"\x86\xdd" + inner


def test_constants_are_those_of_the_wire_header() -> None:
    for name in ("ERRORS", "STEER", "PIN", "MISS", "ACCEPT", "PROBE"):
        assert getattr(wire, name) == wire.constant(f"OG_FN_{name}")
    for name in ("K", "N", "F", "LAST"):
        assert getattr(wire, name) == wire.constant(f"OG_ACCEPT_{name}")


# ---- what is not ours ------------------------------------------------------------------------------------------------

OTHERS = {
    "arp": Ether() / ARP(),
    "to our fabric address": Ether() / IPv6(dst="2001:db8:f001:31::2") / TCP(),
    "to the VIP itself": Ether() / tcp(),
    "to another locator": envelope(tcp(), Path6((accept(K, AGENT_2),))),
    "shorter than IPv6": Ether(type=0x86DD) / Raw(bytes(39)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_for_the_locator_passes_untouched(agent: Agent, name: str) -> None:
    frame = bytes(OTHERS[name])
    action, data, counted, _ = agent.ingress(frame)
    assert (action, data, counted) == (XDP_PASS, frame, "pass_other")


# ---- new connections -------------------------------------------------------------------------------------------------


def test_syn_with_a_listener_is_delivered_and_its_way_back_noted(agent: Agent, sockets: Sockets) -> None:
    sockets.listener()
    syn = tcp()
    _, data, counted, events = agent.ingress(envelope(syn, offered(accept(N), accept(N | LAST, AGENT_2))))
    assert counted == "taken_new"
    assert events == {"note_made"}
    assert_delivered(data, bytes(syn))
    note = note_of(agent, syn)
    assert note is not None
    header, once = note
    assert not once
    back = IPv6(header)
    assert (back.src, back.dst) == (sid(AGENT, ERRORS, flow_argument()), sid(ROUTER, wire.PIN, flow_argument()))
    assert (back.nh, back.hlim, back.tc, back.fl) == (43, 64, 0, HASH & 0xFFFFF)
    assert header[40:] == srh(Path6((sid(ROUTER, wire.PIN, flow_argument()),), 0, (cookie(0xC0),)))


def test_way_back_through_two_routers_is_newest_first(agent: Agent, sockets: Sockets) -> None:
    sockets.listener()
    syn = tcp()
    path = offered(accept(N, AGENT_2), accept(N | LAST), visited=3, steers=(steer(), steer(ROUTER_2)))
    _, _, counted, events = agent.ingress(envelope(syn, path, src=sid(ROUTER_2, ERRORS)))
    assert (counted, events) == ("taken_new", {"note_made"})
    note = note_of(agent, syn)
    assert note is not None
    newest, oldest = sid(ROUTER_2, wire.PIN, flow_argument()), sid(ROUTER, wire.PIN, flow_argument())
    assert IPv6(note[0]).dst == newest
    assert note[0][40:] == srh(Path6((newest, oldest), 0, (cookie(0xC0), cookie(0xC1))))


def test_syn_without_a_listener_goes_to_the_next_segment(agent: Agent) -> None:
    path = offered(accept(N), accept(N | LAST, AGENT_2))
    frame = envelope(tcp(), path)
    action, data, counted, events = agent.ingress(frame)
    assert (action, counted, events) == (XDP_TX, "next_segment", {"declined_no_listener"})
    expected = envelope(tcp(), Path6(path.segments, 2, path.cookies), hlim=61)
    expected.dst, expected.src = MAC_THERE, MAC_HERE
    assert data == bytes(expected)


def fill_queue(sockets: Sockets, port: int, backlog: int) -> None:
    """A listener whose queue is full by the kernel's rule: one more than its maximum."""
    sockets.listener(port, backlog)
    for _ in range(backlog + 1):
        sockets.client(port)


def test_syn_is_declined_when_the_accept_queue_is_full_but_taken_as_last(agent: Agent, sockets: Sockets) -> None:
    fill_queue(sockets, PORT, 2)
    _, _, counted, events = agent.ingress(envelope(tcp(), offered(accept(N), accept(N | LAST, AGENT_2))))
    assert (counted, events) == ("next_segment", {"declined_full"})
    _, _, counted, events = agent.ingress(envelope(tcp(), offered(accept(N, AGENT_2), accept(N | LAST), visited=2)))
    assert (counted, events) == ("taken_last", {"note_made"})


def test_queue_with_room_for_one_more_is_not_full(agent: Agent, sockets: Sockets) -> None:
    sockets.listener(PORT, 2)
    sockets.client()
    sockets.client()
    assert agent.ingress(envelope(tcp(), offered(accept(N))))[2] == "taken_new"


def test_accept_limit_declines_earlier_than_the_listener(agent: Agent, sockets: Sockets) -> None:
    sockets.listener(81, 100)
    syn = tcp(dport=81)
    assert agent.ingress(envelope(syn, offered(accept(N), accept(N, AGENT_2))))[2] == "taken_new"
    sockets.client(81)
    assert agent.ingress(envelope(syn, offered(accept(N), accept(N, AGENT_2))))[2:] == (
        "next_segment",
        {"declined_full"},
    )


def test_without_trusted_offsets_a_full_queue_is_not_seen(agent: Agent, sockets: Sockets) -> None:
    agent.configure(load_aware=False)
    fill_queue(sockets, PORT, 1)
    assert agent.ingress(envelope(tcp(), offered(accept(N), accept(N, AGENT_2))))[2] == "taken_new"


@pytest.mark.parametrize("flags", [K, N, N | LAST])
def test_syn_with_a_live_socket_is_mine_by_any_flag(agent: Agent, sockets: Sockets, flags: int) -> None:
    _, _, sport = sockets.established()
    assert agent.ingress(envelope(tcp(sport=sport), offered(accept(flags), accept(N, AGENT_2))))[2] == "taken_known"


def test_syn_with_a_listener_is_not_taken_for_known(agent: Agent, sockets: Sockets) -> None:
    sockets.listener()
    assert agent.ingress(envelope(tcp(), offered(accept(K), accept(N, AGENT_2))))[2:] == ("next_segment", set())


def test_syn_over_a_time_wait_socket_is_a_new_connection(agent: Agent, sockets: Sockets) -> None:
    sport, _ = sockets.time_wait()
    assert (sport, "06") in states(PORT)
    syn = tcp(sport=sport)
    assert agent.ingress(envelope(syn, offered(accept(K), accept(N, AGENT_2))))[2] == "next_segment"
    assert agent.ingress(envelope(syn, offered(accept(N), accept(N, AGENT_2))))[2] == "taken_new"


def test_neighbouring_segments_of_this_node_are_one_question(agent: Agent, sockets: Sockets) -> None:
    """[own K, own N, other N+LAST]: taken at once with a listener; without one both own segments are done with."""
    path = offered(accept(K), accept(N), accept(N | LAST, AGENT_2))
    action, data, counted, _ = agent.ingress(envelope(tcp(), path))
    assert (action, counted) == (XDP_TX, "next_segment")
    assert IPv6(data[14:]).dst == accept(N | LAST, AGENT_2)
    assert data[14 + 40 + 3] == 0  # segments left
    sockets.listener()
    assert agent.ingress(envelope(tcp(), path))[2] == "taken_new"


def test_last_candidate_without_a_listener_drops(agent: Agent) -> None:
    path = offered(accept(N, AGENT_2), accept(N | LAST), visited=2)
    assert agent.ingress(envelope(tcp(), path))[2:] == ("drop_not_mine", {"declined_no_listener"})


# ---- known flows -----------------------------------------------------------------------------------------------------


def in_window(sockets: Sockets) -> Packet:
    """An ACK the server's socket expects."""
    _, client, sport = sockets.established()
    return tcp("A", sport=sport, seq=next_sequence(client), payload=b"GET /")


def test_pinned_packet_of_an_established_connection(agent: Agent, sockets: Sockets) -> None:
    packet = in_window(sockets)
    _, data, counted, events = agent.ingress(envelope(packet, known()))
    assert (counted, events) == ("taken_known", set())
    assert_delivered(data, bytes(packet))
    assert note_of(agent, packet) is None


def test_hunted_packet_is_noted_for_one_reply(agent: Agent, sockets: Sockets) -> None:
    packet = in_window(sockets)
    path = offered(accept(K), accept(K, AGENT_2), sid(ROUTER, MISS, flow_argument()))
    _, _, counted, events = agent.ingress(envelope(packet, path))
    assert (counted, events) == ("taken_known", {"note_made"})
    note = note_of(agent, packet)
    assert note is not None
    assert note[1]


def asked(agent: Agent, packet: Packet) -> bool:
    """Is it this host's, when hunted for? What is not goes to the next segment and is counted as a leftover's."""
    _, _, counted, events = agent.ingress(envelope(packet, offered(accept(K), accept(K, AGENT_2))))
    assert (counted == "taken_known") != (counted == "next_segment" and events == {"declined_leftover"})
    return counted == "taken_known"


AWAY = [(-1, True), (2**25, True), (-(2**25), True), (2**25 + 1, False), (-(2**25) - 1, False), (2**31, False)]


@pytest.mark.parametrize("state", ["established", "fin_wait", "time_wait"])
@pytest.mark.parametrize(("away", "mine"), AWAY)
def test_sequence_number_tells_leftovers(agent: Agent, sockets: Sockets, state: str, away: int, mine: bool) -> None:
    if state == "established":
        packet = in_window(sockets)
        sport, expected = packet[TCP].sport, packet[TCP].seq
    else:
        sport, expected = getattr(sockets, state)()
    assert asked(agent, tcp("A", sport=sport, seq=(expected + away) % 2**32)) is mine


@pytest.mark.parametrize(("away", "mine"), [(0, True), (1, False), (-1, False), (2**31, False)])
def test_only_the_own_syn_ack_is_confirmed(agent: Agent, sockets: Sockets, away: int, mine: bool) -> None:
    """A server that answered a SYN, too, must not see the connection of another: its kernel would reset it."""
    answer = sockets.half_open()[TCP]
    ack = (answer.seq + 1 + away) % 2**32
    for flags in ("A", "PA", "FA"):
        assert asked(agent, tcp(flags, src=FAR_CLIENT, seq=answer.ack, ack=ack)) is mine


@pytest.mark.parametrize(("away", "mine"), AWAY)
def test_client_resets_its_own_half_open_connection_only(agent: Agent, sockets: Sockets, away: int, mine: bool) -> None:
    answer = sockets.half_open()[TCP]
    assert asked(agent, tcp("R", src=FAR_CLIENT, seq=(answer.ack - 1 + away) % 2**32)) is mine


def test_reset_of_a_known_flow_leaves_no_note(agent: Agent, sockets: Sockets) -> None:
    packet = in_window(sockets)
    packet[TCP].flags = "RA"
    _, _, counted, events = agent.ingress(envelope(packet, offered(accept(K), accept(K, AGENT_2))))
    assert (counted, events) == ("taken_known", set())


@pytest.mark.parametrize("flags", ["A", "PA", "FA", "R", "SA", ""])
def test_segment_that_only_a_listener_would_get_is_not_mine(agent: Agent, sockets: Sockets, flags: str) -> None:
    sockets.listener()
    packet = tcp(flags, ack=7)
    assert agent.ingress(envelope(packet, offered(accept(K), accept(K, AGENT_2))))[2] == "next_segment"


def test_unknown_pinned_packet_goes_back_as_miss(agent: Agent) -> None:
    packet = tcp("A", ack=7)
    action, data, counted, _ = agent.ingress(envelope(packet, known()))
    assert (action, counted) == (XDP_TX, "returned_miss")
    path = Path6((sid(ROUTER, MISS, flow_argument()),))
    expected = envelope(packet, path, src=sid(AGENT, ERRORS, flow_argument()), hlim=61)
    expected.dst, expected.src = MAC_THERE, MAC_HERE
    assert data == bytes(expected)


def test_hunt_ends_at_the_routers_miss(agent: Agent) -> None:
    """The last agent asked passes the packet to the Miss segment, which is the packet's last."""
    path = offered(accept(K, AGENT_2), accept(K), sid(ROUTER, MISS, flow_argument()), visited=2)
    action, data, counted, _ = agent.ingress(envelope(tcp("A", ack=7), path))
    assert (action, counted) == (XDP_TX, "next_segment")
    assert IPv6(data[14:]).dst == sid(ROUTER, MISS, flow_argument())


def test_last_segment_that_is_not_mine_drops(agent: Agent) -> None:
    assert agent.ingress(envelope(tcp("A", ack=7), offered(accept(K))))[2] == "drop_not_mine"


@pytest.mark.parametrize("flags", ["S", "A", "R"])
def test_final_is_delivered_whatever_it_is(agent: Agent, flags: str) -> None:
    packet = tcp(flags)
    _, data, counted, events = agent.ingress(envelope(packet, known(F)))
    assert (counted, events) == ("taken_final", set())
    assert_delivered(data, bytes(packet))


# ---- datagrams, errors -----------------------------------------------------------------------------------------------


def test_datagram_is_delivered_and_noted_once_if_it_came_a_way(agent: Agent) -> None:
    packet = IPv6(src=CLIENT, dst=VIP, hlim=63) / UDP(sport=5353, dport=UDP_PORT) / Raw(b"question")
    _, data, counted, events = agent.ingress(envelope(packet, known(F)))
    assert (counted, events) == ("taken_udp", set())
    assert_delivered(data, bytes(packet))
    assert agent.ingress(envelope(packet, offered(accept(F))))[2:] == ("taken_udp", {"note_made"})
    note = note_of(agent, packet)
    assert note is not None
    assert note[1]


def error_about(
    sport: int, client: str = CLIENT, source: str = VIP, kind: type = ICMPv6PacketTooBig, cut: int = 0
) -> IPv6:
    """An ICMPv6 error about a segment the VIP sent to the client."""
    embedded = bytes(IPv6(src=source, dst=client) / TCP(sport=PORT, dport=sport, flags="A") / Raw(bytes(200)))
    return IPv6(src="2001:db8:c001:41::1", dst=VIP, hlim=63) / kind() / Raw(embedded[: cut or None])


@pytest.mark.parametrize("kind", [ICMPv6PacketTooBig, ICMPv6DestUnreach])
@pytest.mark.parametrize("cut", [0, 60, 44])
def test_error_about_a_known_flow_is_mine(agent: Agent, sockets: Sockets, kind: type, cut: int) -> None:
    _, _, sport = sockets.established()
    packet = error_about(sport, kind=kind, cut=cut)
    _, data, counted, events = agent.ingress(envelope(packet, offered(accept(K), accept(K, AGENT_2))))
    assert (counted, events) == ("taken_icmp", set())
    assert_delivered(data, bytes(packet))


def test_error_about_an_unknown_flow_is_not_mine(agent: Agent, sockets: Sockets) -> None:
    sockets.listener()
    assert agent.ingress(envelope(error_about(4242), offered(accept(K), accept(K, AGENT_2))))[2] == "next_segment"


BAD_INNER = {
    "error about somebody else's packet": error_about(4242, source="2001:db8:9::9"),
    "error cut before the ports": error_about(4242, cut=43),
    "echo": IPv6(src=CLIENT, dst=VIP) / ICMPv6EchoRequest(),
    "unknown port": tcp(dport=4444),
    "unknown address": tcp(dst="2001:db8:9::9"),
    "routing header": IPv6(src=CLIENT, dst=VIP, nh=43) / Raw(bytes([6, 0, 4, 0, 0, 0, 0, 0])) / TCP(dport=PORT),
    "fragment": IPv6(src=CLIENT, dst=VIP, nh=44) / Raw(bytes([6, 0, 0, 8, 0, 0, 0, 1])) / TCP(dport=PORT),
    "first fragment": IPv6(src=CLIENT, dst=VIP, nh=44) / Raw(bytes([6, 0, 0, 1, 0, 0, 0, 1])) / TCP(dport=PORT),
    "five extension headers": IPv6(src=CLIENT, dst=VIP, nh=60)
    / Raw(bytes([60, 0, 1, 4, 0, 0, 0, 0]) * 4 + bytes([6, 0, 1, 4, 0, 0, 0, 0]))
    / TCP(dport=PORT),
    "72 bytes of extension headers": IPv6(src=CLIENT, dst=VIP, nh=60)
    / Raw(bytes([6, 8, 1, 4]) + bytes(68))
    / TCP(dport=PORT),
    "unknown protocol": IPv6(src=CLIENT, dst=VIP, nh=132) / Raw(bytes(40)),
    "IPv4": Raw(b"\x45" + bytes(60)),
    "longer than the envelope": IPv6(src=CLIENT, dst=VIP, plen=21) / TCP(dport=PORT),
    "TCP header longer than the packet": IPv6(src=CLIENT, dst=VIP) / TCP(dport=PORT, dataofs=6),
    "TCP header of 16 bytes": IPv6(src=CLIENT, dst=VIP) / TCP(dport=PORT, dataofs=4),
    "TCP cut": IPv6(src=CLIENT, dst=VIP, plen=19, nh=6) / Raw(bytes(TCP(dport=PORT))[:19]),
    "UDP length lies": IPv6(src=CLIENT, dst=VIP) / UDP(dport=UDP_PORT, len=9),
}


@pytest.mark.parametrize("name", BAD_INNER)
def test_inner_packet_that_is_not_of_a_service_drops(agent: Agent, name: str) -> None:
    assert agent.ingress(envelope(BAD_INNER[name], known(F)))[2] == "drop_inner"


GOOD_INNER = {
    "hop-by-hop and destination options": IPv6(src=CLIENT, dst=VIP, nh=0)
    / Raw(bytes([60, 0, 1, 4, 0, 0, 0, 0]) + bytes([6, 0, 1, 4, 0, 0, 0, 0]))
    / TCP(dport=PORT),
    "atomic fragment": IPv6(src=CLIENT, dst=VIP, nh=44) / Raw(bytes([6, 0, 0, 0, 0, 0, 0, 1])) / TCP(dport=PORT),
    "64 bytes of extension headers": IPv6(src=CLIENT, dst=VIP, nh=60)
    / Raw(bytes([6, 7, 1, 60]) + bytes(60))
    / TCP(dport=PORT),
}


@pytest.mark.parametrize("name", GOOD_INNER)
def test_extension_headers_are_stepped_over(agent: Agent, sockets: Sockets, name: str) -> None:
    sockets.listener()
    packet = GOOD_INNER[name]
    _, data, counted, _ = agent.ingress(envelope(packet, offered(accept(N))))
    assert counted == "taken_new"
    assert_delivered(data, bytes(packet))


def test_service_of_another_host_goes_to_the_next_segment(agent: Agent) -> None:
    assert agent.ingress(envelope(tcp(dport=4444), offered(accept(N), accept(N, AGENT_2))))[2] == "next_segment"


# ---- the envelope ----------------------------------------------------------------------------------------------------


def changed(frame: object, at: int, value: int | bytes) -> bytes:
    """The frame with bytes from offset `at` of the IPv6 header on replaced."""
    raw = bytearray(bytes(frame))  # type: ignore[call-overload]
    new = bytes([value]) if isinstance(value, int) else value
    raw[14 + at : 14 + at + len(new)] = new
    return bytes(raw)


TWO = envelope(tcp(), offered(accept(N), accept(N | LAST, AGENT_2)))
BAD_OUTER = {
    "source outside": (envelope(tcp(), known(F), src="2001:db8:c001:41::2"), "drop_outer_source"),
    "source is another agent": (envelope(tcp(), known(F), src=sid(AGENT_2, ERRORS)), "drop_outer_source"),
    "function": (envelope(tcp(), Path6((sid(AGENT, 0x77),))), "drop_sid_function"),
    "steer": (envelope(tcp(), Path6((sid(AGENT, wire.STEER),))), "drop_sid_function"),
    "version": (changed(TWO, 0, 0x50), "drop_not_ipv6"),
    "payload length lies": (changed(TWO, 4, struct.pack("!H", len(TWO) - 14 - 40 + 1)), "drop_truncated"),
    "next header": (changed(TWO, 6, 17), "drop_protocol"),
    "next header of the SRH": (changed(TWO, 40, 6), "drop_protocol"),
    "routing type 0": (changed(TWO, 42, 0), "drop_srh_type"),
    "SRH longer than the packet": (changed(TWO, 41, 200), "drop_truncated"),
    "SRH shorter than its segments": (changed(TWO, 41, 4), "drop_srh"),
    "segments left too big": (changed(TWO, 43, 3), "drop_srh"),
    "last entry lies": (changed(TWO, 44, 5), "drop_srh"),
    "last entry 255": (changed(TWO, 44, 255), "drop_srh"),
    "active segment is not the destination": (changed(TWO, 43, 2), "drop_segments"),
    "twelve segments": (
        envelope(tcp(), Path6((steer(), accept(N), *[accept(N, AGENT_2)] * 10), 1, (cookie(),))),
        "drop_segments",
    ),
    "cookie of the wrong length": (changed(TWO, 48 + 48 + 1, 13), "drop_tlv"),
    "TLV overruns": (changed(TWO, 48 + 48, bytes([5, 15])), "drop_tlv"),
    "too many TLVs": (envelope(tcp(), Path6((steer(), accept(N)), 1, (cookie(), bytes(16)))), "drop_tlv"),
    "three cookies": (envelope(tcp(), Path6((steer(), accept(N)), 1, (cookie(), cookie(), cookie()))), "drop_tlv"),
    "three Steers": (
        envelope(tcp(), offered(accept(N), visited=3, steers=(steer(), steer(ROUTER_2), steer()))),
        "drop_tlv",
    ),
    "three Steers, two cookies": (
        envelope(tcp(), Path6((steer(), steer(ROUTER_2), steer(), accept(N)), 3, (cookie(), cookie()))),
        "drop_loop",
    ),
    "hop limit 1": (envelope(tcp(), offered(accept(N), accept(N, AGENT_2)), hlim=1), "drop_hop_limit"),
    "hop limit 1, pinned": (envelope(tcp("A"), known(), hlim=1), "drop_hop_limit"),
    "error from the fabric": (
        Ether() / IPv6(src="2001:db8:f001:21::1", dst=sid(AGENT, ERRORS, HASH)) / ICMPv6DestUnreach(),
        "fabric_error",
    ),
}


@pytest.mark.parametrize("name", BAD_OUTER)
def test_bad_envelope_drops_under_its_own_name(agent: Agent, name: str) -> None:
    frame, expected = BAD_OUTER[name]
    assert agent.ingress(frame)[2] == expected


def test_padding_and_unknown_tlvs_after_the_cookie_are_skipped(agent: Agent, sockets: Sockets) -> None:
    sockets.listener()
    for tlvs in (bytes([4, 6]) + bytes(6), bytes(4) + bytes([4, 2, 0, 0]), bytes([200, 6]) + b"future"):
        path = Path6((steer(), accept(N)), 1, (cookie(), tlvs))
        _, _, counted, events = agent.ingress(envelope(tcp(), path))
        assert (counted, events) == ("taken_new", {"note_made"})


def test_cookie_is_carried_whatever_its_version(agent: Agent, sockets: Sockets) -> None:
    sockets.listener()
    future = bytes([124, 14, 9]) + bytes(range(13))
    agent.ingress(envelope(tcp(), Path6((steer(), accept(N)), 1, (future,))))
    note = note_of(agent, tcp())
    assert note is not None
    assert note[0][-16:] == future


def test_steer_without_its_cookie_is_delivered_without_a_note(agent: Agent, sockets: Sockets) -> None:
    sockets.listener()
    _, _, counted, events = agent.ingress(envelope(tcp(), Path6((steer(), accept(N)), 1)))
    assert (counted, events) == ("taken_new", {"note_refused"})
    assert note_of(agent, tcp()) is None


def test_link_padding_is_not_part_of_the_packet(agent: Agent, sockets: Sockets) -> None:
    sockets.listener()
    frame = bytes(envelope(tcp(), offered(accept(N)))) + b"padding"
    _, data, counted, _ = agent.ingress(frame)
    assert counted == "taken_new"
    assert_delivered(data, bytes(tcp()) + b"padding")  # the kernel cuts it off by the inner length


# RFC 6040 figure 4: outer -> what the inner becomes, None = drop. Inner: Not-ECT, ECT(0) = 2, ECT(1) = 1, CE = 3.
ECN: dict[int, dict[int, int | None]] = {
    0: {0: 0, 2: 0, 1: 0, 3: None},
    2: {0: 2, 2: 2, 1: 1, 3: 3},
    1: {0: 1, 2: 1, 1: 1, 3: 3},
    3: {0: 3, 2: 3, 1: 3, 3: 3},
}


@pytest.mark.parametrize("inner", ECN)
@pytest.mark.parametrize("outer", range(4))
def test_ecn_is_combined_by_rfc_6040(agent: Agent, inner: int, outer: int) -> None:
    packet = tcp("A", tc=0x28 | inner)
    _, data, counted, _ = agent.ingress(envelope(packet, known(F), tc=0xB8 | outer))
    expected = ECN[inner][outer]
    if expected is None:
        assert counted == "drop_ecn"
        return
    assert counted == "taken_final"
    packet.tc = 0x28 | expected
    assert_delivered(data, bytes(packet))


def test_every_truncation_of_a_valid_packet_is_counted_and_never_delivered_as_it_was(
    agent: Agent, sockets: Sockets
) -> None:
    """Cut at each length: by the link (the length fields lie), and with an outer length that tells the truth."""
    sockets.listener()
    _, _, sport = sockets.established(81)
    whole = [
        envelope(tcp(), offered(accept(N), accept(N, AGENT_2))),
        envelope(tcp("A", sport=sport, dport=81), known()),
        envelope(error_about(sport, cut=60), known(K)),
        envelope(IPv6(src=CLIENT, dst=VIP) / UDP(dport=UDP_PORT) / Raw(b"x"), known(F)),
        probe(),
    ]
    agent.configure()
    for frame in map(bytes, whole):
        for length in range(14, len(frame)):
            for honest in (False, True):
                cut = frame[:length]
                if honest and length >= 54:
                    cut = changed(cut, 4, struct.pack("!H", length - 54))
                action, _, counted, _ = agent.ingress(cut)
                if length < 54:
                    assert counted == "pass_other"
                else:
                    # an ICMPv6 error may hold less of the packet it is about
                    assert action == XDP_DROP or (counted, honest) == ("taken_icmp", True), (length, counted)


def test_bytes_changed_at_random_never_escape_the_counters(agent: Agent, sockets: Sockets) -> None:
    """`ingress` asserts that each packet is counted once, with the action its name stands for."""
    sockets.listener()
    chance = random.Random(20)
    whole = [
        bytes(TWO),
        bytes(envelope(tcp("A"), known())),
        bytes(envelope(error_about(4242), known())),
        bytes(probe()),
    ]
    for _ in range(2000):
        frame = bytearray(chance.choice(whole))
        for _ in range(chance.randint(1, 4)):
            frame[chance.randrange(12, len(frame))] = chance.randrange(256)
        agent.ingress(bytes(frame))


# ---- probes ----------------------------------------------------------------------------------------------------------


def test_probe_is_answered(agent: Agent, sockets: Sockets) -> None:
    agent.maps["load"].set(bytes(4), struct.pack("=IIQ", 1234, 56, 7890123456))
    sockets.listener(address=VIP)
    sockets.datagram()
    action, data, counted, _ = agent.ingress(probe())
    assert (action, counted) == (XDP_TX, "probe_answered")
    reply = Ether(data)
    assert (reply.dst, reply.src) == (MAC_THERE, MAC_HERE)
    assert (reply[IPv6].src, reply[IPv6].dst) == (sid(AGENT, ERRORS), sid(ROUTER, wire.PROBE, 0x112233445566))
    assert reply[IPv6].hlim == 64
    sent = reply[UDP].chksum
    del reply[UDP].chksum
    assert Ether(bytes(reply))[UDP].chksum == sent
    answer = wire.Probe.read(bytes(reply[UDP].payload))
    assert (answer.version, answer.type, answer.role, answer.flags, answer.generation) == (1, 2, 3, 1, 0)
    assert (answer.nonce, answer.sent_ns) == (0x112233445566, 0x1234567890)
    assert answer.listeners == 1 << 0 | 1 << 9
    assert (answer.connections, answer.accepts_per_s, answer.bytes_per_s) == (1234, 56, 7890123456)
    assert answer.incarnation != 0


def test_probe_tells_each_listener_as_it_is_now(agent: Agent) -> None:
    def listeners() -> int:
        return wire.Probe.read(agent.ingress(probe())[1][-56:]).listeners

    assert listeners() == 0
    with Sockets() as sockets:
        sockets.listener(81)
        assert listeners() == 1 << 5
        sockets.listener(PORT, address=OTHER_VIP)
        assert listeners() == 1 << 5 | 1 << 63
    assert listeners() == 0


def test_draining_is_said_in_probe_replies_and_the_incarnation_stays(agent: Agent) -> None:
    before = wire.Probe.read(agent.ingress(probe())[1][-56:])
    agent.configure(draining=True)
    after = wire.Probe.read(agent.ingress(probe())[1][-56:])
    assert (before.flags, after.flags) == (1, 3)
    assert before.incarnation == after.incarnation


BAD_PROBES = {
    "version": probe(version=2),
    "a reply": probe(kind=2),
    "nonce is not the SID's": probe(other_nonce=0x112233445567),
    "nonce above 48 bits": probe(other_nonce=0x1112233445566),
    "source port": probe(sport=1),
    "destination port": probe(dport=1),
    "no checksum": probe(chksum=0),
    "wrong checksum": probe(chksum=0x1234),
    "not UDP": changed(probe(), 6, 6),
    "too long": Ether() / IPv6(bytes(probe())[14:54] + bytes(80)),
}


@pytest.mark.parametrize("name", BAD_PROBES)
def test_malformed_probe_drops(agent: Agent, name: str) -> None:
    assert agent.ingress(BAD_PROBES[name])[2] in ("drop_probe", "drop_truncated")


def test_probe_from_outside_drops(agent: Agent) -> None:
    assert agent.ingress(probe(src="5f00:7:1::"))[2] == "drop_outer_source"


def test_probes_of_one_source_are_limited(agent: Agent) -> None:
    """A thousand in one second. The second is put into the map, so that this host's speed does not matter."""

    def counted_when(window_ns: int, count: int) -> str:
        agent.maps["probers"].set(key, struct.pack("=QQ", window_ns, count))
        return agent.ingress(probe())[2]

    agent.ingress(probe())
    (key,) = agent.maps["probers"].keys()
    raw = agent.maps["probers"].get(key)
    assert raw is not None
    now, count = struct.unpack("=QQ", raw)
    assert count == 1
    second = 10**9
    assert counted_when(now + 60 * second, 999) == "probe_answered"
    assert counted_when(now + 60 * second, 1000) == "drop_probe_rate"
    assert agent.ingress(probe(src=HASHER))[2] == "probe_answered"
    assert counted_when(now - 60 * second, 5000) == "probe_answered"  # that second is over
