# SPDX-License-Identifier: Apache-2.0
"""Cookies: what is valid, wrong, unknown; keys change every 64 seconds and two are valid."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from native.tests.lab_site import ROUTERS, locator
from native.tests.test_siphash import model

if TYPE_CHECKING:
    from native.tests.oglib import OgLibrary

SECRET = {"key": [0x0706050403020100, 0x0F0E0D0C0B0A0908], "start_ns": 5, "epoch0": 0xFFFE, "key_id0": 0xFF}
EPOCH_NS = 64 * 10**9
OWN = locator(ROUTERS[0])
FLOW = bytes(range(100, 136)) + bytes([6, 0, 0, 0])


def keys_at(og: OgLibrary, now_ns: int, **change: Any) -> Any:
    keys = og.ffi.new("struct og_cookie_keys *")
    og.lib.og_cookie_init(keys, og.ffi.new("struct og_cookie_secret *", SECRET | change))
    og.lib.og_cookie_tick(keys, now_ns)
    return keys


def flow(og: OgLibrary, key: bytes = FLOW) -> Any:
    result = og.ffi.new("union og_flow *")
    og.ffi.memmove(result, key, 40)
    return result


def make(og: OgLibrary, keys: Any, flags: int = 0) -> Any:
    cookie = og.ffi.new("struct og_cookie *")
    og.lib.og_cookie_make(keys, flow(og), OWN, flags, cookie)
    return cookie


def check(og: OgLibrary, keys: Any, cookie: Any, key: bytes = FLOW, own: bytes = OWN) -> str:
    result = og.lib.og_cookie_check(keys, flow(og, key), own, cookie)
    return {
        og.lib.OG_COOKIE_VALID: "valid", og.lib.OG_COOKIE_UNKNOWN: "unknown", og.lib.OG_COOKIE_WRONG: "wrong",
    }[result]  # fmt: skip


def test_the_bytes_are_the_wire_contracts(og: OgLibrary) -> None:
    """type, length, version, key id, epoch, flags, tag = SipHash-2-4 of flow, locator, epoch, flags, zero."""
    secret = struct.pack("<2Q", *SECRET["key"])  # type: ignore[misc]
    turn = 1
    key = b"".join(struct.pack("<Q", model(secret, struct.pack("<2Q", turn, half), 2, 4)) for half in (0, 1))
    epoch, flags = struct.pack(">H", 0xFFFF), struct.pack(">H", 2)
    tag = model(key, FLOW + OWN + epoch + flags + bytes(4), 2, 4)
    cookie = make(og, keys_at(og, 5), flags=2)
    assert bytes(og.ffi.buffer(cookie)) == bytes([124, 14, 1, 0x00]) + epoch + flags + struct.pack(">Q", tag)


def test_valid_in_its_epoch_and_the_next(og: OgLibrary) -> None:
    cookie = make(og, keys_at(og, 5))
    for now, result in (
        (5, "valid"), (5 + EPOCH_NS - 1, "valid"), (5 + EPOCH_NS, "valid"), (5 + 2 * EPOCH_NS - 1, "valid"),
        (5 + 2 * EPOCH_NS, "unknown"), (5 + 70000 * EPOCH_NS, "unknown"),
    ):  # fmt: skip
        assert check(og, keys_at(og, now), cookie) == result


def test_ticking_step_by_step_and_sleeping_give_the_same_keys(og: OgLibrary) -> None:
    stepwise = keys_at(og, 5)
    for step in range(200):
        og.lib.og_cookie_tick(stepwise, 5 + step * EPOCH_NS // 3)
    slept = keys_at(og, 5 + 199 * EPOCH_NS // 3)
    assert bytes(og.ffi.buffer(stepwise)) == bytes(og.ffi.buffer(slept))


def test_each_epoch_has_its_own_key(og: OgLibrary) -> None:
    tags = {bytes(make(og, keys_at(og, 5 + n * EPOCH_NS)).tag) for n in range(100)}
    assert len(tags) == 100


@pytest.mark.parametrize("place", range(40))
def test_every_byte_of_the_flow_is_signed(og: OgLibrary, place: int) -> None:
    keys = keys_at(og, 5)
    other = bytearray(FLOW)
    other[place] ^= 1
    assert check(og, keys, make(og, keys), key=bytes(other)) == "wrong"


def test_locator_and_flags_are_signed(og: OgLibrary) -> None:
    keys = keys_at(og, 5)
    assert check(og, keys, make(og, keys), own=locator(ROUTERS[1])) == "wrong"
    cookie = make(og, keys, flags=1)
    cookie.flags[1] = 0
    assert check(og, keys, cookie) == "wrong"


def test_one_wrong_bit_in_the_tag(og: OgLibrary) -> None:
    keys = keys_at(og, 5)
    for bit in range(64):
        cookie = make(og, keys)
        cookie.tag[bit // 8] ^= 1 << bit % 8
        assert check(og, keys, cookie) == "wrong"


@pytest.mark.parametrize("field", ["version", "key_id", "epoch"])
def test_what_another_process_made_is_unknown(og: OgLibrary, field: str) -> None:
    keys = keys_at(og, 5)
    cookie = make(og, keys)
    if field == "epoch":
        cookie.epoch[1] ^= 0x10
    else:
        setattr(cookie, field, getattr(cookie, field) ^ 0x10)
    assert check(og, keys, cookie) == "unknown"


def test_a_restarted_router_does_not_know_its_predecessors_cookies(og: OgLibrary) -> None:
    cookie = make(og, keys_at(og, 5))
    assert check(og, keys_at(og, 5, key=[1, 2], epoch0=0x1234, key_id0=7), cookie) == "unknown"
