# SPDX-License-Identifier: Apache-2.0
"""Half-open entries: bounded, oldest overwritten, gone after their time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from native.tests.oglib import OgLibrary

LIFE_MS = 8000


class Table:
    """struct og_halfopen with its memory."""

    def __init__(self, og: OgLibrary, capacity: int) -> None:
        self.og = og
        self.memory = og.ffi.new("uint8_t[]", og.lib.og_halfopen_bytes(capacity))
        self.table = og.ffi.new("struct og_halfopen *")
        assert og.lib.og_halfopen_init(self.table, self.memory, capacity)
        self.rules = og.ffi.new("struct og_pin_rules *")
        self.rules.half_open_ms[0] = LIFE_MS
        for target in range(4, og.const.OG_TARGETS):
            self.rules.generation[target] = og.const.OG_PIN_NO_TARGET

    def key(self, number: int) -> Any:
        key = self.og.ffi.new("union og_pin_key *")
        key.q = [number, number]
        return key

    def put(self, number: int, now: int, hash_: int = 0, target: int = 0, isn: int = 5) -> Any:
        return self.og.lib.og_halfopen_put(self.table, self.rules, self.key(number), hash_, target, isn, 1, now)

    def find(self, number: int, now: int, hash_: int = 0) -> Any:
        entry = self.og.lib.og_halfopen_find(self.table, self.rules, self.key(number), hash_, now)
        return None if entry == self.og.ffi.NULL else entry


def test_found_until_its_time_is_over(og: OgLibrary) -> None:
    table = Table(og, 16)
    start = 2**32 - 1000  # the clock wraps
    table.put(1, start, target=2)
    entry = table.find(1, (start + LIFE_MS) % 2**32)
    assert entry is not None
    assert (entry.target, entry.server_isn, entry.client_isn) == (2, 5, 1)
    assert table.find(2, start) is None
    assert table.find(1, (start + LIFE_MS + 1) % 2**32) is None
    assert (table.table.count, table.table.expired) == (0, 1)


def test_oldest_of_a_full_set_is_overwritten(og: OgLibrary) -> None:
    table = Table(og, 16)
    for number, now in ((1, 400), (2, 100), (3, 300), (4, 200)):
        table.put(number, now)
    table.put(5, 500)
    assert [number for number in range(1, 6) if table.find(number, 500) is not None] == [1, 3, 4, 5]
    assert (table.table.count, table.table.overwritten) == (4, 1)
    table.put(9, 500, hash_=1 << 32)
    assert table.table.count == 5, "another set"


def test_same_key_is_replaced_in_place(og: OgLibrary) -> None:
    table = Table(og, 16)
    table.put(1, 100, isn=5).promoted = 1
    table.put(1, 200, isn=6, target=1)
    entry = table.find(1, 200)
    assert (entry.server_isn, entry.target, entry.promoted, table.table.count) == (6, 1, 0, 1)


def test_never_more_than_its_capacity(og: OgLibrary) -> None:
    table = Table(og, 64)
    for number in range(10000):
        table.put(number, number, hash_=number * 0x9E3779B97F4A7C15 % 2**64)
    assert table.table.count == 64
    assert table.table.made == 10000
    assert table.table.overwritten == 10000 - 64


def test_entry_of_a_dead_target_is_gone(og: OgLibrary) -> None:
    table = Table(og, 16)
    table.put(1, 100, target=2)
    table.put(2, 100, target=3)
    table.rules.generation[2] = 1
    assert table.find(1, 100) is None
    assert table.find(2, 100) is not None


def test_target_without_generation_gets_no_entry(og: OgLibrary) -> None:
    assert Table(og, 16).put(1, 100, target=9) == og.ffi.NULL


def test_sweep_frees_what_is_over(og: OgLibrary) -> None:
    table = Table(og, 64)
    for number in range(64):
        table.put(number, 1000 + number * 100, hash_=number << 32)
    og.lib.og_halfopen_sweep(table.table, table.rules, 16, 1000 + LIFE_MS + 3150)
    assert table.table.count == 32


@pytest.mark.parametrize("capacity", [0, 2, 3, 24])
def test_impossible_capacity(og: OgLibrary, capacity: int) -> None:
    table, memory = og.ffi.new("struct og_halfopen *"), og.ffi.new("uint8_t[]", 4096)
    assert not og.lib.og_halfopen_init(table, memory, capacity)
    assert not og.lib.og_halfopen_init(table, og.ffi.NULL, 16)
