# SPDX-License-Identifier: Apache-2.0
"""ICMPv6 that a gateway sends and receives, with scapy as oracle."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.tests.lab_site import AGENTS, CLIENT, HASHER, ROUTERS, VIP, locator, sid
from native.tests.oglib import Buf, OgLibrary
from native.tests.packets import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrHopByHop,
    Raw,
    client_tcp,
    options,
    srh,
)

OWN_ERRORS = sid(HASHER, 0, 0xABCD12345678)
STEER = sid(ROUTERS[0], 1, 0xABCD12345678)


def error_body(packet: bytes) -> bytes:
    """RFC 4443 section 2.4 c."""
    return packet[: 1280 - 48]


@given(st.integers(0, 1800), st.integers(1280, 65535))
def test_packet_too_big(og: OgLibrary, size: int, mtu: int) -> None:
    packet = bytes(client_tcp("A", bytes(size)))
    buf = Buf(og, packet)
    assert og.lib.og_icmp_too_big(buf.buf, mtu)
    buf.check()
    assert bytes(buf) == bytes(
        IPv6(src=VIP, dst=CLIENT, hlim=64) / ICMPv6PacketTooBig(mtu=mtu) / Raw(error_body(packet))
    )
    assert len(bytes(buf)) <= 1280


def test_time_exceeded(og: OgLibrary) -> None:
    packet = bytes(client_tcp("S", hlim=1))
    buf = Buf(og, packet)
    assert og.lib.og_icmp_time_exceeded(buf.buf)
    assert bytes(buf) == bytes(IPv6(src=VIP, dst=CLIENT, hlim=64) / ICMPv6TimeExceeded() / Raw(packet))


def test_without_headroom_nothing_changes(og: OgLibrary) -> None:
    packet = bytes(client_tcp("S"))
    buf = Buf(og, packet, headroom=47)
    assert not og.lib.og_icmp_too_big(buf.buf, 1280)
    assert not og.lib.og_icmp_time_exceeded(buf.buf)
    assert bytes(buf) == packet
    buf.check()


@given(st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=100), st.booleans(), st.integers(0, 9))
def test_echo_reply(  # noqa: PLR0917 - a property over many fields
    og: OgLibrary, ident: int, seq: int, payload: bytes, headers: bool, padding: int
) -> None:
    echo: dict[str, Any] = {"id": ident, "seq": seq, "data": payload}
    ip = IPv6(src=CLIENT, dst=VIP, hlim=3, tc=0x20, fl=0x777)
    asked = (ip / options(8, IPv6ExtHdrHopByHop) if headers else ip) / ICMPv6EchoRequest(**echo)
    buf = Buf(og, bytes(asked) + bytes(padding))
    packet = og.ffi.new("struct og_packet *")
    assert og.verdict(og.lib.og_parse_client(buf.buf.data, buf.buf.len, packet)) == "none"
    og.lib.og_icmp_echo_reply(buf.buf, packet)
    buf.check()
    reply = bytes(IPv6(src=VIP, dst=CLIENT, hlim=64) / ICMPv6EchoReply(**echo))
    theirs, ours = bytearray(reply), bytearray(bytes(buf))
    assert int.from_bytes(ours[42:44], "big") % 0xFFFF == int.from_bytes(theirs[42:44], "big") % 0xFFFF
    ours[42:44] = theirs[42:44] = b"  "
    assert ours == theirs


def test_a_wrong_checksum_is_not_made_right(og: OgLibrary) -> None:
    buf = Buf(og, bytes(IPv6(src=CLIENT, dst=VIP) / ICMPv6EchoRequest(cksum=0x1234)))
    packet = og.ffi.new("struct og_packet *")
    og.lib.og_parse_client(buf.buf.data, buf.buf.len, packet)
    og.lib.og_icmp_echo_reply(buf.buf, packet)
    ip = og.ffi.cast("struct og_ipv6 *", buf.buf.data)
    assert og.lib.og_checksum(ip, 58, buf.buf.data + 40, buf.buf.len - 40) != 0


# ---- errors from the fabric ------------------------------------------------------------------------------------------

SENT = IPv6(src=OWN_ERRORS, dst=STEER) / client_tcp()


def fabric_error(og: OgLibrary, packet: Any) -> tuple[str, Any, bytes]:
    data = bytes(packet)
    raw = og.ffi.new("uint8_t[]", data)
    outer = og.ffi.new("struct og_outer *")
    error = og.ffi.new("struct og_fabric_error *")
    assert og.verdict(og.lib.og_parse_outer(raw, len(data), outer)) == "none"
    return og.verdict(og.lib.og_fabric_error_parse(raw, outer, locator(HASHER), error)), error, data


def from_fabric(message: Any, sent: Any, cut: int | None = None) -> Any:
    return IPv6(src="2001:db8:f001:21::1", dst=OWN_ERRORS) / message / Raw(bytes(sent)[:cut])


@pytest.mark.parametrize("shape", ["reduced", "with a header", "cut in the inner header", "cut in the outer path"])
def test_an_error_names_the_segment_that_failed(og: OgLibrary, shape: str) -> None:
    inner = bytes(client_tcp())
    listed = IPv6(src=OWN_ERRORS, dst=STEER, nh=43) / Raw(srh([STEER, sid(AGENTS[0], 16)], 1) + inner)
    sent, cut = {
        "reduced": (SENT, None),
        "with a header": (listed, None),
        "cut in the inner header": (SENT, 79),
        "cut in the outer path": (listed, 60),
    }[shape]
    verdict, error, data = fabric_error(og, from_fabric(ICMPv6DestUnreach(code=3), sent, cut))
    assert (verdict, error.type, error.code) == ("fabric_error", 1, 3)
    assert bytes(og.ffi.buffer(og.ffi.addressof(error, "destination"))) == bytes(SENT)[24:40]
    if shape.startswith("cut"):
        assert error.client_packet == 0
    else:
        assert data[error.client_packet :] == inner


def test_too_big_can_be_told_to_the_client(og: OgLibrary) -> None:
    verdict, error, data = fabric_error(og, from_fabric(ICMPv6PacketTooBig(mtu=1500), SENT))
    assert (verdict, error.mtu) == ("fabric_error", 1500)
    buf = Buf(og, data)
    og.lib.og_buf_pull(buf.buf, error.client_packet)
    assert og.lib.og_icmp_too_big(buf.buf, 1500 - 40)
    assert bytes(buf) == bytes(IPv6(src=VIP, dst=CLIENT, hlim=64) / ICMPv6PacketTooBig(mtu=1460) / client_tcp())


FAIL: dict[str, tuple[Any, str]] = {
    "not ICMPv6": (IPv6(src="2001:db8:f001:21::1", dst=OWN_ERRORS, nh=17) / Raw(bytes(60)), "drop_protocol"),
    "behind a header": (
        IPv6(src="2001:db8:f001:21::1", dst=OWN_ERRORS, nh=43) / Raw(srh([OWN_ERRORS], 0, next_header=58) + bytes(60)),
        "drop_protocol",
    ),
    "echo request": (from_fabric(ICMPv6EchoRequest(), b""), "drop_icmp_type"),
    "short": (IPv6(src="2001:db8:f001:21::1", dst=OWN_ERRORS, nh=58) / Raw(b"\x01\0\0\0\0\0\0"), "drop_truncated"),
    "nothing embedded": (from_fabric(ICMPv6DestUnreach(), b""), "drop_icmp_embedded"),
    "39 bytes embedded": (from_fabric(ICMPv6DestUnreach(), SENT, 39), "drop_icmp_embedded"),
    "somebody else's packet": (
        from_fabric(ICMPv6DestUnreach(), IPv6(src=sid(ROUTERS[0], 0), dst=STEER) / client_tcp()),
        "drop_icmp_embedded",
    ),
    "not sent from Errors": (
        from_fabric(ICMPv6DestUnreach(), IPv6(src=sid(HASHER, 0x20), dst=STEER) / client_tcp()),
        "drop_icmp_embedded",
    ),
    "wrong checksum": (from_fabric(ICMPv6DestUnreach(cksum=0x1234), SENT), "drop_icmp_embedded"),
    "MTU below 1280": (from_fabric(ICMPv6PacketTooBig(mtu=1279), SENT), "drop_icmp_mtu"),
}


@pytest.mark.parametrize("name", FAIL)
def test_what_is_not_an_error_about_our_packets(og: OgLibrary, name: str) -> None:
    packet, verdict = FAIL[name]
    assert fabric_error(og, packet)[0] == verdict
