# SPDX-License-Identifier: Apache-2.0
"""The parser of packets to SIDs: outer header, segment routing header, TLVs."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.tests.lab_site import AGENTS, HASHER, ROUTERS, sid
from native.tests.packets import IPv6, IPv6ExtHdrSegmentRouting, Raw, client_tcp, srh, tlv

if TYPE_CHECKING:
    from native.tests.oglib import OgLibrary

STEER = sid(ROUTERS[0], 1, 0xABCD12345678)
A1, A2 = sid(AGENTS[0], 0x10, 0x0002ABCD0000), sid(AGENTS[1], 0x10, 0x000AABCD0000)
PATH = [STEER, A1, A2]
SOURCE = sid(HASHER, 0)
COOKIE = tlv(124, bytes(range(1, 15)))


def parse(og: OgLibrary, packet: Any) -> tuple[str, Any, Any]:
    data = og.ffi.new("uint8_t[]", bytes(packet))
    outer = og.ffi.new("struct og_outer *")
    verdict = og.lib.og_parse_outer(data, len(bytes(packet)), outer)
    return og.verdict(verdict), outer, data


def text(og: OgLibrary, segment: Any) -> str | None:
    return None if segment == og.ffi.NULL else str(IPv6Address(bytes(og.ffi.buffer(segment, 16))))


def with_srh(header: bytes, destination: str, inner: Any = None) -> bytes:
    return bytes(IPv6(src=SOURCE, dst=destination, nh=43) / Raw(header + bytes(inner or client_tcp())))


@pytest.mark.parametrize("left", [0, 1, 2])
@pytest.mark.parametrize("cookies", [0, 1, 2])
def test_scapys_header_is_read_right(og: OgLibrary, left: int, cookies: int) -> None:
    active = PATH[len(PATH) - 1 - left]
    packet = (
        IPv6(src=SOURCE, dst=active)
        / IPv6ExtHdrSegmentRouting(addresses=PATH[::-1], segleft=left, lastentry=2, tlv_objects=[COOKIE] * cookies)
        / client_tcp()
    )
    verdict, outer, data = parse(og, packet)
    assert verdict == "none"
    assert (text(og, outer.destination), text(og, outer.source)) == (active, SOURCE)
    assert (outer.n_segments, outer.segments_left, outer.n_cookies) == (3, left, cookies)
    assert outer.next_header == 41
    assert bytes(data)[outer.payload : outer.len] == bytes(client_tcp())

    visited = PATH[: len(PATH) - 1 - left][::-1]
    ahead = PATH[len(PATH) - left :]
    for index in range(4):
        behind = outer.segments_left + 1 + index
        assert (text(og, outer.segments + behind) if behind < outer.n_segments else None) == dict(
            enumerate(visited)
        ).get(index)
        before = outer.segments_left - 1 - index
        assert (text(og, outer.segments + before) if before >= 0 else None) == dict(enumerate(ahead)).get(index)
    for index in range(cookies):
        assert bytes(og.ffi.buffer(outer.cookies[index], 16)) == bytes(COOKIE)


def test_without_a_header(og: OgLibrary) -> None:
    verdict, outer, _ = parse(og, IPv6(src=SOURCE, dst=STEER) / client_tcp())
    assert (verdict, outer.n_segments, outer.payload, outer.next_header) == ("none", 0, 40, 41)
    assert outer.srh == og.ffi.NULL


def test_eleven_segments_and_two_cookies(og: OgLibrary) -> None:
    path = [STEER, *(sid(f"5f00:1:{n:x}::", 0x10) for n in range(0x31, 0x3B))]
    verdict, outer, _ = parse(og, with_srh(srh(path, 10, bytes(COOKIE) * 2), STEER))
    assert (verdict, outer.n_segments, outer.n_cookies) == ("none", 11, 2)
    assert outer.payload == og.const.OG_MAX_OVERHEAD


def test_unknown_tlvs_and_padding_are_skipped(og: OgLibrary) -> None:
    tlvs = b"\x00" + bytes(tlv(200, b"abc")) + b"\x04\x00" + bytes(COOKIE) + b"\x04\x06" + bytes(6)
    tlvs += bytes(-len(tlvs) % 8)
    verdict, outer, _ = parse(og, with_srh(srh(PATH, 1, tlvs), A1))
    assert (verdict, outer.n_cookies) == ("none", 1)
    assert bytes(og.ffi.buffer(outer.cookies[0], 16)) == bytes(COOKIE)


def test_reserved_flags_are_ignored(og: OgLibrary) -> None:
    assert parse(og, with_srh(srh(PATH, 1, flags=0xFF, tag=0xFFFF), A1))[0] == "none"


FAIL: dict[str, tuple[Any, str]] = {
    "routing type 0": (with_srh(srh(PATH, 1, routing_type=0), A1), "drop_srh_type"),
    "routing type 3": (with_srh(srh(PATH, 1, routing_type=3), A1), "drop_srh_type"),
    "length beyond the packet": (with_srh(srh(PATH, 1, length=200), A1), "drop_truncated"),
    "length too small for last entry": (with_srh(srh(PATH, 1, length=4), A1), "drop_srh"),
    "length too small by one unit": (with_srh(srh(PATH, 1, length=5), A1), "drop_srh"),
    "last entry lies": (with_srh(srh(PATH, 1, last_entry=3), A1), "drop_srh"),
    "last entry 255": (with_srh(srh(PATH, 1, last_entry=255), A1), "drop_srh"),
    "segments left too big": (with_srh(srh(PATH, 4), A1), "drop_srh"),
    "segments left 255": (with_srh(srh(PATH, 255), A1), "drop_srh"),
    "reduced list": (with_srh(srh(PATH[1:], 2), STEER), "drop_segments"),
    "active segment elsewhere": (with_srh(srh(PATH, 1), A2), "drop_segments"),
    "twelve segments": (with_srh(srh([STEER] * 12, 3), STEER), "drop_segments"),
    "TLV without a length": (with_srh(srh(PATH, 1, bytes(7) + b"\x7c"), A1), "drop_tlv"),
    "TLV overruns": (with_srh(srh(PATH, 1, b"\x05\x07" + bytes(6)), A1), "drop_tlv"),
    "cookie overruns": (with_srh(srh(PATH, 1, b"\x7c\x0e" + bytes(6)), A1), "drop_tlv"),
    "cookie of another length": (with_srh(srh(PATH, 1, b"\x7c\x06" + bytes(6)), A1), "drop_tlv"),
    "three cookies": (with_srh(srh(PATH, 1, bytes(COOKIE) * 3), A1), "drop_tlv"),
    "no room for the fixed part": (IPv6(src=SOURCE, dst=A1, nh=43) / Raw(b"\x29\x00\x04\x00"), "drop_truncated"),
    "version 4": (b"\x45" + bytes(IPv6(dst=STEER) / client_tcp())[1:], "drop_not_ipv6"),
    "payload length lies": (bytes(IPv6(dst=STEER) / client_tcp())[:-1], "drop_truncated"),
}


@pytest.mark.parametrize("name", FAIL)
def test_each_failure_has_its_own_name(og: OgLibrary, name: str) -> None:
    packet, verdict = FAIL[name]
    assert parse(og, packet)[0] == verdict


def test_every_truncation(og: OgLibrary) -> None:
    data = with_srh(srh(PATH, 1, bytes(COOKIE)), A1)
    for length in range(len(data)):
        assert parse(og, data[:length])[0] == "drop_truncated"
    for length in range(40, 40 + 8 + 48 + 16):  # the same with an outer length that fits what is left
        cut = data[:4] + (length - 40).to_bytes(2, "big") + data[6:length]
        assert parse(og, cut)[0] == "drop_truncated"


@given(st.binary(max_size=300))
def test_random_bytes_behind_a_valid_start(og: OgLibrary, data: bytes) -> None:
    packet = bytes(IPv6(src=SOURCE, dst=A1, nh=43) / Raw(data))
    verdict, outer, _ = parse(og, packet)
    assert verdict.startswith(("drop_", "none"))
    if verdict == "none":
        assert 48 < outer.payload <= outer.len == len(packet)


@given(
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=64).map(lambda b: b + bytes(-len(b) % 8)),
)
def test_lengths_that_lie_stay_in_bounds(og: OgLibrary, length: int, last: int, left: int, tlvs: bytes) -> None:
    verdict, outer, _ = parse(og, with_srh(srh(PATH, left, tlvs, length=length, last_entry=last), A1))
    if verdict == "none":
        assert outer.payload == 48 + 8 * length <= outer.len
        assert (outer.n_segments, outer.segments_left) == (last + 1, left)
    else:
        assert verdict in {"drop_srh", "drop_truncated", "drop_segments", "drop_tlv"}
