# SPDX-License-Identifier: Apache-2.0
"""Rate limits per source /64 in a table of fixed size."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from native.tests.oglib import OgLibrary

SECOND = 10**9
START = 10**12


def limiter(og: OgLibrary, per_s: int = 10, total_per_s: int = 100000) -> Any:
    rate = og.ffi.new("struct og_rate *")
    og.lib.og_rate_init(rate, [1, 2], per_s, total_per_s)
    return rate


def taken(og: OgLibrary, rate: Any, sources: list[str], now_ns: int) -> int:
    return sum(og.lib.og_rate_take(rate, IPv6Address(source).packed, now_ns) for source in sources)


def test_a_burst_then_the_rate(og: OgLibrary) -> None:
    rate = limiter(og)
    assert taken(og, rate, ["2001:db8::1"] * 50, START) == 10
    assert taken(og, rate, ["2001:db8::1"] * 50, START + SECOND // 10 - 1) == 0
    assert taken(og, rate, ["2001:db8::1"] * 50, START + SECOND // 10) == 1
    assert taken(og, rate, ["2001:db8::1"] * 50, START + 100 * SECOND) == 10


def test_over_a_long_time_it_is_the_rate(og: OgLibrary) -> None:
    rate = limiter(og)
    passed = sum(taken(og, rate, ["2001:db8::1"], START + n * SECOND // 1000) for n in range(20000))
    assert 20 * 10 <= passed <= 20 * 10 + 10


def test_a_source_is_its_64(og: OgLibrary) -> None:
    rate = limiter(og)
    assert taken(og, rate, [f"2001:db8::{n:x}" for n in range(100)], START) == 10
    assert taken(og, rate, ["2001:db8:0:1::1"] * 20, START) == 10


def test_the_total_bounds_spoofed_sources(og: OgLibrary) -> None:
    rate = limiter(og, total_per_s=1000)
    sources = [f"2001:{n >> 16:x}:{n & 0xFFFF:x}::1" for n in range(50000)]
    assert taken(og, rate, sources, START) == 1000
    assert taken(og, rate, sources, START + SECOND // 2) == 500


def test_busy_sources_are_remembered_among_many(og: OgLibrary) -> None:
    """A source over its rate is not pushed out by fewer others than the table has places: the oldest goes first."""
    rate = limiter(og)
    taken(og, rate, ["2001:db8::1"] * 10, START)
    others = [f"2001:db9:{n:x}::1" for n in range(400)]
    assert taken(og, rate, others, START) == 400
    assert taken(og, rate, ["2001:db8::1"] * 10, START) == 0


def test_token_given_back_can_be_taken_again(og: OgLibrary) -> None:
    rate = og.ffi.new("struct og_rate *")
    og.lib.og_rate_init(rate, [1, 2], 5, 1000)
    client = bytes([0x20, 1, *bytes(14)])
    assert [og.lib.og_rate_take(rate, client, SECOND) for _ in range(6)] == [True] * 5 + [False]
    for _ in range(3):
        og.lib.og_rate_give_back(rate, client)
    assert [og.lib.og_rate_take(rate, client, SECOND) for _ in range(4)] == [True] * 3 + [False]


def test_giving_back_never_makes_more_than_a_full_bucket(og: OgLibrary) -> None:
    rate = og.ffi.new("struct og_rate *")
    og.lib.og_rate_init(rate, [1, 2], 5, 1000)
    client = bytes([0x20, 1, *bytes(14)])
    for _ in range(100):
        og.lib.og_rate_give_back(rate, client)
    assert sum(og.lib.og_rate_take(rate, client, 10 * SECOND) for _ in range(20)) == 5


def test_the_total_alone(og: OgLibrary) -> None:
    rate = og.ffi.new("struct og_rate *")
    og.lib.og_rate_init(rate, [1, 2], 5, 20)
    assert sum(og.lib.og_rate_take_total(rate, SECOND) for _ in range(50)) == 20
    assert not og.lib.og_rate_take(rate, bytes([1] * 16), SECOND), "the total is used up for all"
