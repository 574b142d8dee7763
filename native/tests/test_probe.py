# SPDX-License-Identifier: Apache-2.0
"""Probes: a request as it lies on the wire, its answer, and what is not a probe."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.tests.lab_site import HASHER, ROUTERS, locator, sid
from native.tests.oglib import Buf, OgLibrary
from native.tests.packets import UDP, IPv6, Raw, srh

NONCE = 0x123456789ABC
PORT = 20295
LOAD = {"connections": 1000, "accepts_per_s": 20, "bytes_per_s": 10**10}
SAID = {"role": 2, "flags": 1, "generation": 7, "incarnation": 0x1122334455667788, "listeners": 5}
SELF = SAID | {"load": LOAD}


def request(og: OgLibrary, nonce: int = NONCE, sent_ns: int = 99) -> bytes:
    out = og.ffi.new("uint8_t[]", og.const.OG_PROBE_PACKET_LEN)
    og.lib.og_probe_request(out, locator(HASHER), locator(ROUTERS[0]), 1, 0xB8, nonce, sent_ns)
    return bytes(out)


def message(kind: int = 1, nonce: int = NONCE, version: int = 1, **rest: int) -> bytes:
    """struct og_probe, from the wire contract's words."""
    return struct.pack(
        ">BBBBIQQQQIIQ", version, kind, rest.get("role", 1), rest.get("flags", 0), rest.get("generation", 0), nonce,
        rest.get("incarnation", 0), rest.get("sent_ns", 99), rest.get("listeners", 0), rest.get("connections", 0),
        rest.get("accepts_per_s", 0), rest.get("bytes_per_s", 0),
    )  # fmt: skip


def packet(body: bytes, nonce: int = NONCE, **udp: Any) -> Any:
    ports = {"sport": PORT, "dport": PORT} | udp
    return IPv6(src=sid(HASHER, 0), dst=sid(ROUTERS[0], 0x20, nonce), tc=0xB8) / UDP(**ports) / Raw(body)


def parse(og: OgLibrary, data: bytes) -> tuple[str, Any, Any, Buf]:
    buf = Buf(og, data)
    outer = og.ffi.new("struct og_outer *")
    info = og.ffi.new("struct og_probe_info *")
    assert og.verdict(og.lib.og_parse_outer(buf.buf.data, buf.buf.len, outer)) == "none"
    return og.verdict(og.lib.og_probe_parse(buf.buf.data, outer, info)), info, outer, buf


def test_a_request_is_what_scapy_writes(og: OgLibrary) -> None:
    assert request(og) == bytes(packet(message()))


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**64 - 1))
def test_a_request_is_read_as_it_was_written(og: OgLibrary, nonce: int, sent_ns: int) -> None:
    verdict, info, _, _ = parse(og, request(og, nonce, sent_ns))
    assert (verdict, info.type, info.nonce, info.sent_ns, info.sender.role) == ("none", 1, nonce, sent_ns, 1)


def test_the_answer(og: OgLibrary) -> None:
    verdict, _, outer, buf = parse(og, request(og) + b"link padding")
    assert verdict == "none"
    og.lib.og_probe_answer(buf.buf, outer, locator(ROUTERS[0]), og.ffi.new("struct og_probe_self *", SELF))
    buf.check()
    wanted = IPv6(src=sid(ROUTERS[0], 0), dst=sid(HASHER, 0x20, NONCE), tc=0xB8)
    assert bytes(buf) == bytes(wanted / UDP(sport=PORT, dport=PORT) / Raw(message(2, **SAID, **LOAD)))

    verdict, info, _, _ = parse(og, bytes(buf))
    assert (verdict, info.type, info.nonce, info.sent_ns) == ("none", 2, NONCE, 99)
    assert {name: getattr(info.sender, name) for name in SAID} == SAID
    assert {name: getattr(info.sender.load, name) for name in LOAD} == LOAD


def test_a_checksum_of_zero_is_sent_as_ffff_and_zero_is_none(og: OgLibrary) -> None:
    """RFC 8200 section 8.1. Adding a message's checksum to a word of it makes the new checksum zero."""
    checksum = int.from_bytes(request(og, sent_ns=0)[46:48], "big")
    asked = request(og, sent_ns=checksum)
    assert asked[46:48] == b"\xff\xff"
    assert parse(og, asked)[0] == "none"
    assert parse(og, asked[:46] + b"\0\0" + asked[48:])[0] == "drop_probe"


FAIL: dict[str, Any] = {
    "type 3": packet(message(3)),
    "version 2": packet(message(version=2)),
    "version 0": packet(message(version=0)),
    "nonce is not the SID's": packet(message(nonce=NONCE + 1)),
    "wrong port": packet(message(), dport=53),
    "wrong checksum": packet(message(), chksum=0x1234),
    "no checksum": packet(message(), chksum=0),
    "short": packet(message()[:-1]),
    "UDP length lies": packet(message(), len=63),
    "UDP length lies upwards": packet(message(), len=65),
    "TCP": IPv6(src=sid(HASHER, 0), dst=sid(ROUTERS[0], 0x20, NONCE), nh=6) / Raw(bytes(64)),
    "behind a segment routing header": IPv6(src=sid(HASHER, 0), dst=sid(ROUTERS[0], 0x20, NONCE), nh=43)
    / Raw(srh([sid(ROUTERS[0], 0x20, NONCE)], 0, next_header=17) + bytes(packet(message()))[40:]),
}


@pytest.mark.parametrize("name", FAIL)
def test_what_is_not_a_probe(og: OgLibrary, name: str) -> None:
    assert parse(og, bytes(FAIL[name]))[0] == "drop_probe"


def test_a_later_versions_longer_message_is_read(og: OgLibrary) -> None:
    """Additions at the end do not disturb; the answer has this version's length."""
    verdict, _, outer, buf = parse(og, bytes(packet(message() + b"new field")))
    assert verdict == "none"
    og.lib.og_probe_answer(buf.buf, outer, locator(ROUTERS[0]), og.ffi.new("struct og_probe_self *", SELF))
    assert len(bytes(buf)) == og.const.OG_PROBE_PACKET_LEN


@given(st.integers(40, 103), st.integers(0, 255))
def test_any_changed_byte_is_noticed(og: OgLibrary, place: int, value: int) -> None:
    data = bytearray(request(og))
    changed = data[place] != value
    data[place] = value
    assert parse(og, bytes(data))[0] == ("drop_probe" if changed else "none")
