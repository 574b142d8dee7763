# SPDX-License-Identifier: Apache-2.0
"""The parser of inner packets: what passes is read right, what does not has its own name."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.tests.packets import (
    CLIENT,
    TCP,
    UDP,
    VIP,
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    Raw,
    client_tcp,
    client_udp,
    icmp_error,
    options,
    server_tcp,
)

if TYPE_CHECKING:
    from native.tests.oglib import OgLibrary


def parse(og: OgLibrary, packet: Any, who: str = "client") -> tuple[str, Any]:
    data = bytes(packet)
    result = og.ffi.new("struct og_packet *")
    return og.verdict(getattr(og.lib, f"og_parse_{who}")(data, len(data), result)), result


def flow_of(result: Any) -> tuple[str, str, int, int, int]:
    flow = result.flow
    return (
        socket.inet_ntop(socket.AF_INET6, bytes(flow.client)),
        socket.inet_ntop(socket.AF_INET6, bytes(flow.vip)),
        socket.ntohs(flow.client_port),
        socket.ntohs(flow.vip_port),
        flow.protocol,
    )


def chain(*headers: Any) -> Any:
    """A client's SYN behind extension headers."""
    packet = IPv6(src=CLIENT, dst=VIP)
    for header in headers:
        packet = packet / header
    return packet / TCP(sport=40000, dport=80, flags="S")


FLOW = (CLIENT, VIP, 40000, 80, 6)
ATOMIC = IPv6ExtHdrFragment(id=7)

PASS = {
    "tcp": client_tcp("S"),
    "tcp with data": client_tcp("PA", b"GET / HTTP/1.1\r\n"),
    "tcp with options": client_tcp("S", options=[("MSS", 1440), ("WScale", 7), ("NOP", None)]),
    "tcp fin": client_tcp("FA"),
    "tcp rst": client_tcp("R"),
    "tcp syn with ECE, CWR": client_tcp("SEC"),
    "hop-by-hop": chain(options(8, IPv6ExtHdrHopByHop)),
    "destination options": chain(options(16)),
    "atomic fragment": chain(ATOMIC),
    "four headers": chain(options(8, IPv6ExtHdrHopByHop), options(8), ATOMIC, options(8)),
    "64 bytes of headers": chain(options(64)),
}


@pytest.mark.parametrize("name", PASS)
def test_well_formed_packets_pass_and_are_read_right(og: OgLibrary, name: str) -> None:
    packet = IPv6(bytes(PASS[name]))
    verdict, result = parse(og, packet)
    assert verdict == "none"
    assert flow_of(result) == FLOW
    assert result.kind == og.lib.OG_KIND_TCP
    assert result.len == len(bytes(packet))
    assert result.transport == len(bytes(packet)) - len(bytes(packet[TCP]))
    assert (result.seq, result.ack) == (packet[TCP].seq, packet[TCP].ack)
    assert result.tcp_flags == int(packet[TCP].flags) & 0x3F


def test_udp(og: OgLibrary) -> None:
    verdict, result = parse(og, client_udp())
    assert verdict == "none"
    assert result.kind == og.lib.OG_KIND_UDP
    assert flow_of(result)[2:] == (40000, 53, 17)


def test_echo_request(og: OgLibrary) -> None:
    verdict, result = parse(og, IPv6(src=CLIENT, dst=VIP) / ICMPv6EchoRequest(data=b"ping"))
    assert (verdict, result.kind) == ("none", og.lib.OG_KIND_ECHO)
    assert flow_of(result) == (CLIENT, VIP, 0, 0, 58)


def test_link_padding_is_not_part_of_the_packet(og: OgLibrary) -> None:
    verdict, result = parse(og, bytes(client_tcp()) + bytes(6))
    assert (verdict, result.len) == ("none", 60)


ERRORS = {
    "unreachable": (ICMPv6DestUnreach(code=4), 1),
    "too big": (ICMPv6PacketTooBig(mtu=1400), 2),
    "time exceeded": (ICMPv6TimeExceeded(), 3),
    "parameter problem": (ICMPv6ParamProblem(), 4),
}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("embedded", ["tcp", "udp", "behind headers", "first fragment", "cut after the ports"])
def test_icmp_errors_have_the_flow_of_the_embedded_packet(og: OgLibrary, name: str, embedded: str) -> None:
    ip = IPv6(src=VIP, dst=CLIENT)
    sent = {
        "tcp": server_tcp("A", b"x" * 100),
        "udp": ip / UDP(sport=80, dport=40000) / Raw(b"answer"),
        "behind headers": ip / options(8, IPv6ExtHdrHopByHop) / options(8) / TCP(sport=80, dport=40000, seq=7000),
        "first fragment": ip / IPv6ExtHdrFragment(m=1) / TCP(sport=80, dport=40000, seq=7000),
        "cut after the ports": server_tcp("A"),
    }[embedded]
    message, kind = ERRORS[name]
    verdict, result = parse(og, icmp_error(message, sent, cut=48 if embedded.startswith("cut") else None))
    assert (verdict, result.kind, result.icmp_type) == ("none", og.lib.OG_KIND_ICMP_ERROR, kind)
    assert flow_of(result) == (*FLOW[:4], 17 if embedded == "udp" else 6)
    assert result.icmp_mtu == (1400 if kind == 2 else 0)
    if embedded != "udp":
        assert result.seq == 7000


def test_an_mtu_of_1280_is_the_smallest(og: OgLibrary) -> None:
    verdict, result = parse(og, icmp_error(ICMPv6PacketTooBig(mtu=1280), server_tcp("A")))
    assert (verdict, result.icmp_mtu) == ("none", 1280)


def lie(packet: Any, offset: int, value: int) -> bytes:
    data = bytearray(bytes(packet))
    data[offset] = value
    return bytes(data)


FAIL: dict[str, tuple[Any, str]] = {
    # name: (packet, verdict)
    "empty": (b"", "drop_truncated"),
    "39 bytes": (bytes(client_tcp())[:39], "drop_truncated"),
    "version 4": (lie(client_tcp(), 0, 0x45), "drop_not_ipv6"),
    "payload length lies": (lie(client_tcp(), 5, 200), "drop_truncated"),
    "payload shorter than a TCP header": (lie(client_tcp(), 5, 19), "drop_truncated"),
    "TCP data offset below 5": (lie(client_tcp(), 52, 0x40), "drop_truncated"),
    "TCP data offset beyond the packet": (lie(client_tcp(), 52, 0x60), "drop_truncated"),
    "UDP length below 8": (lie(client_udp(), 45, 7), "drop_truncated"),
    "UDP length beyond the packet": (lie(client_udp(), 45, 60), "drop_truncated"),
    "first fragment": (chain(IPv6ExtHdrFragment(m=1)), "drop_fragment"),
    "last fragment": (chain(IPv6ExtHdrFragment(offset=100)), "drop_fragment"),
    "fragment behind options": (chain(options(8), IPv6ExtHdrFragment(m=1)), "drop_fragment"),
    "five extension headers": (chain(*[options(8)] * 5), "drop_ext_headers"),
    "72 bytes of extension headers": (chain(options(72)), "drop_ext_headers"),
    "72 bytes in two headers": (chain(options(32), options(40)), "drop_ext_headers"),
    "routing header type 0": (chain(IPv6ExtHdrRouting(addresses=["::1"])), "drop_routing_header"),
    "routing header behind options": (chain(options(8), IPv6ExtHdrRouting()), "drop_routing_header"),
    "ESP": (IPv6(src=CLIENT, dst=VIP, nh=50) / Raw(bytes(40)), "drop_protocol"),
    "AH": (IPv6(src=CLIENT, dst=VIP, nh=51) / Raw(bytes(40)), "drop_protocol"),
    "no next header": (IPv6(src=CLIENT, dst=VIP, nh=59), "drop_protocol"),
    "IPv6 in IPv6": (IPv6(src=CLIENT, dst=VIP) / client_tcp(), "drop_protocol"),
    "SCTP": (IPv6(src=CLIENT, dst=VIP, nh=132) / Raw(bytes(40)), "drop_protocol"),
    "SYN|ACK": (client_tcp("SA"), "drop_tcp_flags"),
    "SYN|FIN": (client_tcp("SF"), "drop_tcp_flags"),
    "SYN|RST": (client_tcp("SR"), "drop_tcp_flags"),
    "null": (client_tcp(""), "drop_tcp_flags"),
    "null but for ECE": (client_tcp("E"), "drop_tcp_flags"),
    "xmas": (client_tcp("FPU"), "drop_tcp_flags"),
    "xmas with ACK": (client_tcp("FPUA"), "drop_tcp_flags"),
    "echo reply": (IPv6(src=CLIENT, dst=VIP) / ICMPv6EchoReply(), "drop_icmp_type"),
    "neighbour solicitation": (IPv6(src=CLIENT, dst=VIP, nh=58) / Raw(bytes([135]) + bytes(23)), "drop_icmp_type"),
    "short ICMPv6": (IPv6(src=CLIENT, dst=VIP, nh=58) / Raw(bytes([1]) + bytes(6)), "drop_truncated"),
    "MTU below 1280": (icmp_error(ICMPv6PacketTooBig(mtu=1279), server_tcp("A")), "drop_icmp_mtu"),
    "nothing embedded": (icmp_error(ICMPv6DestUnreach(), server_tcp("A"), cut=0), "drop_icmp_embedded"),
    "embedded header cut": (icmp_error(ICMPv6DestUnreach(), server_tcp("A"), cut=39), "drop_icmp_embedded"),
    "embedded ports cut": (icmp_error(ICMPv6DestUnreach(), server_tcp("A"), cut=47), "drop_icmp_embedded"),
    "embedded not IPv6": (icmp_error(ICMPv6DestUnreach(), lie(server_tcp("A"), 0, 0x45)), "drop_icmp_embedded"),
    "embedded from elsewhere": (icmp_error(ICMPv6DestUnreach(), server_tcp(src="2001:db8::5")), "drop_icmp_embedded"),
    "embedded ICMPv6": (
        icmp_error(ICMPv6DestUnreach(), IPv6(src=VIP, dst=CLIENT) / ICMPv6EchoReply()),
        "drop_icmp_embedded",
    ),
    "embedded later fragment": (
        icmp_error(ICMPv6DestUnreach(), IPv6(src=VIP, dst=CLIENT) / IPv6ExtHdrFragment(offset=9) / TCP()),
        "drop_icmp_embedded",
    ),
    "embedded with five headers": (
        icmp_error(
            ICMPv6DestUnreach(),
            IPv6(src=VIP, dst=CLIENT) / options(8) / options(8) / options(8) / options(8) / options(8) / TCP(),
        ),
        "drop_icmp_embedded",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAIL)
def test_each_failure_has_its_own_name(og: OgLibrary, name: str) -> None:
    packet, verdict = FAIL[name]
    assert parse(og, packet)[0] == verdict


def test_an_extension_header_that_overruns_the_packet(og: OgLibrary) -> None:
    packet = IPv6(src=CLIENT, dst=VIP, nh=60) / Raw(bytes([6, 3]) + bytes(22))  # says 32 bytes, has 24
    assert parse(og, packet)[0] == "drop_truncated"


@pytest.mark.parametrize("name", PASS)
def test_every_truncation_is_named(og: OgLibrary, name: str) -> None:
    data = bytes(PASS[name])
    for length in range(len(data)):
        assert parse(og, data[:length])[0] == "drop_truncated"


@pytest.mark.parametrize("name", PASS)
def test_every_truncation_with_a_mended_length(og: OgLibrary, name: str) -> None:
    """The same with a payload length that fits what is left: the inner lengths are checked by themselves."""
    data = bytes(PASS[name])
    header = len(data) - len(bytes(IPv6(data)[TCP].payload))  # TCP data may be missing, its header may not
    for length in range(40, len(data)):
        cut = data[:4] + (length - 40).to_bytes(2, "big") + data[6:length]
        assert parse(og, cut)[0] == ("drop_truncated" if length < header else "none")


def test_server_replies_are_turned_round(og: OgLibrary) -> None:
    for flags in ("SA", "A", "PA", "FA", "R", "RA"):
        verdict, result = parse(og, server_tcp(flags, b"data"), "server")
        assert (verdict, flow_of(result)) == ("none", FLOW)
        assert (result.seq, result.ack) == (7000, 1001)
    assert parse(og, IPv6(src=VIP, dst=CLIENT) / ICMPv6EchoReply(), "server")[0] == "drop_protocol"
    assert parse(og, bytes(server_tcp("SA"))[:59], "server")[0] == "drop_truncated"


ADDRESS = st.binary(min_size=16, max_size=16).map(lambda b: socket.inet_ntop(socket.AF_INET6, b))
PORT = st.integers(0, 65535)
SIZES = st.lists(st.sampled_from([8, 16]), max_size=4)


@given(ADDRESS, ADDRESS, PORT, PORT, SIZES, st.sampled_from(["S", "A", "PA", "FA", "R"]), st.binary(max_size=40))
def test_any_valid_packet_is_read_as_scapy_wrote_it(  # noqa: PLR0917 - a property over many fields
    og: OgLibrary, src: str, dst: str, sport: int, dport: int, sizes: list[int], flags: str, payload: bytes
) -> None:
    packet = IPv6(src=src, dst=dst)
    for size in sizes:
        packet = packet / options(size)
    packet = packet / TCP(sport=sport, dport=dport, flags=flags) / Raw(payload)
    verdict, result = parse(og, packet)
    assert verdict == "none"
    assert flow_of(result) == (socket.inet_ntop(10, socket.inet_pton(10, src)), dst, sport, dport, 6)
    assert result.transport == 40 + sum(sizes)


@given(st.binary(max_size=200))
def test_random_bytes_get_a_verdict(og: OgLibrary, data: bytes) -> None:
    for who in ("client", "server"):
        assert parse(og, data, who)[0].startswith(("drop_", "none"))
    assert parse(og, b"\x60" + data[1:])[0].startswith(("drop_", "none"))


@given(st.sampled_from(sorted(PASS)), st.data())
def test_one_changed_byte_never_confuses_the_bounds(og: OgLibrary, name: str, data: st.DataObject) -> None:
    packet = bytearray(bytes(PASS[name]))
    place = data.draw(st.integers(0, len(packet) - 1))
    packet[place] = data.draw(st.integers(0, 255))
    verdict, result = parse(og, bytes(packet))
    if verdict == "none":
        assert 40 <= result.transport < result.len <= len(packet)
