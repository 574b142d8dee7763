# SPDX-License-Identifier: Apache-2.0
"""Encapsulation byte by byte against scapy; decapsulation; ECN by RFC 6040's table."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.tests.lab_site import AGENTS, HASHER, ROUTERS, sid
from native.tests.oglib import Buf, OgLibrary
from native.tests.packets import IPv6, IPv6ExtHdrSegmentRouting, client_tcp, tlv

SOURCE = sid(HASHER, 0, 0xABCD12345678)
SEGMENTS = [sid(ROUTERS[0], 1, 0xABCD12345678), *(sid(f"5f00:1:{n:x}::", 0x10) for n in range(0x31, 0x3B))]


def make_path(og: OgLibrary, segments: list[str], visited: int = 0, cookies: list[bytes] | None = None) -> Any:
    path = og.ffi.new(
        "struct og_path *", {"n_segments": len(segments), "visited": visited, "n_cookies": len(cookies or [])}
    )
    for place, segment in enumerate(segments[:11]):
        og.ffi.memmove(og.ffi.addressof(path.segments[place]), IPv6Address(segment).packed, 16)
    for place, cookie in enumerate((cookies or [])[:2]):
        og.ffi.memmove(og.ffi.addressof(path.cookies[place]), cookie, 16)
    return path


def make_sid(og: OgLibrary, text: str) -> Any:
    result = og.ffi.new("struct og_sid *")
    og.ffi.memmove(result, IPv6Address(text).packed, 16)
    return result


def fields(og: OgLibrary, traffic_class: int = 0, hop_limit: int = 64, label: int = 0) -> Any:
    return og.ffi.new(
        "struct og_outer_fields *", {"traffic_class": traffic_class, "hop_limit": hop_limit, "flow_label": label}
    )


def expected(inner: bytes, segments: list[str], visited: int, cookies: list[bytes], tag: int, **ip: Any) -> bytes:
    """What scapy writes for the same path."""
    header = IPv6(src=SOURCE, dst=segments[visited], **ip)
    if len(segments) > 1 or cookies:
        header = header / IPv6ExtHdrSegmentRouting(
            addresses=segments[::-1],
            segleft=len(segments) - 1 - visited,
            lastentry=len(segments) - 1,
            tag=tag,
            tlv_objects=[tlv(124, cookie[2:]) for cookie in cookies],
        )
    return bytes(header / IPv6(inner))


COOKIES = [bytes([124, 14]) + bytes([n] * 14) for n in (1, 2)]


@given(
    st.integers(1, 11).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))),
    st.integers(0, 2),
    st.integers(0, 255),
    st.integers(1, 255),
    st.integers(0, 0xFFFFF),
    st.integers(0, 0xFFFF),
    st.binary(max_size=60),
)
def test_equals_scapy(  # noqa: PLR0917 - a property over many fields
    og: OgLibrary, shape: tuple[int, int], n_cookies: int, tc: int, hop_limit: int, label: int, tag: int, payload: bytes
) -> None:
    n, visited = shape
    inner = bytes(client_tcp("PA", payload))
    buf = Buf(og, inner)
    path = make_path(og, SEGMENTS[:n], visited, COOKIES[:n_cookies])
    assert (
        og.lib.og_encap_push(buf.buf, path, make_sid(og, SOURCE), tag, fields(og, tc, hop_limit, label)) != og.ffi.NULL
    )
    buf.check()
    assert bytes(buf) == expected(
        inner, SEGMENTS[:n], visited, COOKIES[:n_cookies], tag, tc=tc, hlim=hop_limit, fl=label
    )
    assert og.lib.og_path_overhead(path) == len(bytes(buf)) - len(inner)


def test_overhead(og: OgLibrary) -> None:
    assert og.lib.og_path_overhead(make_path(og, SEGMENTS[:1])) == 40
    assert og.lib.og_path_overhead(make_path(og, SEGMENTS[:1], 0, COOKIES[:1])) == 40 + 8 + 16 + 16
    assert og.lib.og_path_overhead(make_path(og, SEGMENTS, 0, COOKIES)) == og.const.OG_MAX_OVERHEAD


@pytest.mark.parametrize(
    ("n", "visited", "cookies"), [(0, 0, 0), (1, 1, 0), (3, 3, 0), (3, 200, 0), (12, 0, 0), (255, 0, 0), (2, 0, 3)]
)
def test_what_is_not_a_path_changes_nothing(og: OgLibrary, n: int, visited: int, cookies: int) -> None:
    path = og.ffi.new("struct og_path *", {"n_segments": n, "visited": visited, "n_cookies": cookies})
    inner = bytes(client_tcp())
    buf = Buf(og, inner)
    assert og.lib.og_encap_push(buf.buf, path, make_sid(og, SOURCE), 0, fields(og)) == og.ffi.NULL
    buf.check()
    assert bytes(buf) == inner


def test_without_headroom_nothing_changes(og: OgLibrary) -> None:
    inner = bytes(client_tcp())
    for n in (1, 2, 11):
        need = og.lib.og_path_overhead(make_path(og, SEGMENTS[:n]))
        buf = Buf(og, inner, headroom=need - 1)
        assert (
            og.lib.og_encap_push(buf.buf, make_path(og, SEGMENTS[:n]), make_sid(og, SOURCE), 0, fields(og))
            == og.ffi.NULL
        )
        assert bytes(buf) == inner
        buf = Buf(og, inner, headroom=need)
        assert (
            og.lib.og_encap_push(buf.buf, make_path(og, SEGMENTS[:n]), make_sid(og, SOURCE), 0, fields(og))
            != og.ffi.NULL
        )
        assert buf.buf.headroom == 0


def test_a_length_that_does_not_fit(og: OgLibrary) -> None:
    for size, fits in ((65535 - 56, True), (65535 - 55, False)):
        buf = Buf(og, bytes([0x60]) + bytes(size - 1))
        path = make_path(og, SEGMENTS[:2], 0, COOKIES[:1])
        result = og.lib.og_encap_push(buf.buf, path, make_sid(og, SOURCE), 0, fields(og))
        assert (result != og.ffi.NULL) == fits


def parse_outer(og: OgLibrary, buf: Buf) -> Any:
    outer = og.ffi.new("struct og_outer *")
    assert og.verdict(og.lib.og_parse_outer(buf.buf.data, buf.buf.len, outer)) == "none"
    return outer


@given(st.integers(1, 11), st.integers(0, 2), st.binary(max_size=60), st.integers(0, 20))
def test_decapsulation_gives_the_packet_back(
    og: OgLibrary, n: int, n_cookies: int, payload: bytes, padding: int
) -> None:
    inner = bytes(client_tcp("A", payload))
    packet = expected(inner, SEGMENTS[:n], n - 1, COOKIES[:n_cookies], 0)
    buf = Buf(og, packet + bytes(padding))
    assert og.verdict(og.lib.og_decap(buf.buf, parse_outer(og, buf), False)) == "none"
    buf.check()
    assert bytes(buf) == inner


# RFC 6040 figure 4: rows inner, columns outer; None = drop. 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE.
RFC6040: dict[int, dict[int, int | None]] = {
    0: {0: 0, 2: 0, 1: 0, 3: None},
    2: {0: 2, 2: 2, 1: 1, 3: 3},
    1: {0: 1, 2: 1, 1: 1, 3: 3},
    3: {0: 3, 2: 3, 1: 3, 3: 3},
}


@pytest.mark.parametrize("inner_ecn", RFC6040)
@pytest.mark.parametrize("outer_ecn", [0, 1, 2, 3])
@pytest.mark.parametrize("apply", [True, False])
def test_ecn(og: OgLibrary, inner_ecn: int, outer_ecn: int, apply: bool) -> None:
    inner = client_tcp(tc=0x48 | inner_ecn, fl=0xFEDCB)
    buf = Buf(og, bytes(IPv6(src=SOURCE, dst=SEGMENTS[0], tc=0xFC | outer_ecn) / inner))
    before = bytes(buf)
    verdict = og.verdict(og.lib.og_decap(buf.buf, parse_outer(og, buf), apply))
    result = RFC6040[inner_ecn][outer_ecn] if apply else inner_ecn
    if result is None:
        assert (verdict, bytes(buf)) == ("drop_ecn", before)
    else:
        assert verdict == "none"
        assert bytes(buf) == bytes(client_tcp(tc=0x48 | result, fl=0xFEDCB))


def test_what_is_not_an_ipv6_packet_inside(og: OgLibrary) -> None:
    inner = bytes(client_tcp())
    for packet, verdict in (
        (IPv6(src=SOURCE, dst=SEGMENTS[0], nh=17) / inner, "drop_inner"),
        (IPv6(src=SOURCE, dst=SEGMENTS[0], nh=41) / inner[:39], "drop_truncated"),
        (IPv6(src=SOURCE, dst=SEGMENTS[0], nh=41) / inner[:-1], "drop_truncated"),
        (IPv6(src=SOURCE, dst=SEGMENTS[0], nh=41) / (b"\x45" + inner[1:]), "drop_inner"),
    ):
        buf = Buf(og, bytes(packet))
        assert og.verdict(og.lib.og_decap(buf.buf, parse_outer(og, buf), True)) == verdict
        assert bytes(buf) == bytes(packet)
        buf.check()


def test_re_encapsulation_keeps_class_and_label_and_spends_a_hop(og: OgLibrary) -> None:
    inner = bytes(client_tcp("A", tc=2))
    buf = Buf(og, bytes(IPv6(src=SOURCE, dst=SEGMENTS[0], tc=0x2B, fl=0x54321, hlim=63) / IPv6(inner)))
    outer = parse_outer(og, buf)
    new = fields(og)
    assert og.lib.og_outer_fields_from(outer, new)
    assert og.verdict(og.lib.og_decap(buf.buf, outer, False)) == "none"
    target = sid(AGENTS[0], 0x10, 0x0001 << 32)
    assert og.lib.og_encap_push(buf.buf, make_path(og, [target]), make_sid(og, SOURCE), 0, new) != og.ffi.NULL
    assert bytes(buf) == bytes(IPv6(src=SOURCE, dst=target, tc=0x2B, fl=0x54321, hlim=62) / IPv6(inner))


@pytest.mark.parametrize("hop_limit", [0, 1])
def test_a_used_up_hop_limit_ends_the_way(og: OgLibrary, hop_limit: int) -> None:
    buf = Buf(og, bytes(IPv6(src=SOURCE, dst=SEGMENTS[0], hlim=hop_limit) / client_tcp()))
    assert not og.lib.og_outer_fields_from(parse_outer(og, buf), fields(og))
