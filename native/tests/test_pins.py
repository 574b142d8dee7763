# SPDX-License-Identifier: Apache-2.0
"""Pins against a model in Python, and the table's inner order after every step."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

if TYPE_CHECKING:
    from native.tests import oglib

USED, CLOSING, CONTESTED = 1, 2, 4
IDLE_S, CLOSING_S, GENERATIONS = 500, 60, 65536
WINDOW = 16
NUMBERS = st.integers(0, 63)


class Slot(NamedTuple):
    """struct og_pin."""

    client_high: int
    client_low: int
    port: int
    service: int
    target: int
    generation: int
    bits: int
    isn: int

    @property
    def state(self) -> int:
        return self.bits >> 20 & 7

    @property
    def displacement(self) -> int:
        return self.bits >> 23 & 15

    @property
    def passed(self) -> int:
        return self.bits >> 27


SITE, RESTS = 1024, 0x10000
TARGETS = (0, 1, 2, 3, 4, 5, SITE, SITE + 1)


class Table:
    """struct og_pins with its memory."""

    def __init__(self, og: oglib.OgLibrary, capacity: int) -> None:
        self.og, self.capacity = og, capacity
        size = og.lib.og_pins_bytes(capacity)
        memory = og.ffi.new("uint8_t[]", size + 64)
        self.memory = memory
        self.aligned = memory + (-int(og.ffi.cast("uintptr_t", memory)) % 64)
        self.pins = og.ffi.new("struct og_pins *")
        assert og.lib.og_pins_init(self.pins, self.aligned, capacity)
        self.rules = og.ffi.new("struct og_pin_rules *")
        for service in range(4):
            self.rules.idle_s[service], self.rules.closing_s[service] = IDLE_S, CLOSING_S
        for target in range(og.const.OG_TARGETS):
            self.rules.generation[target] = 0 if target in TARGETS else og.const.OG_PIN_NO_TARGET

    def key(self, number: int) -> Any:
        """Keys differ in one field each, so that a comparison that forgets a field shows."""
        key = self.og.ffi.new("union og_pin_key *")
        key.client = bytes([0x20, 1, 0xD, 0xB8, *bytes(11), number // 16])
        key.client_port = number // 4 % 4
        key.service = number % 4
        return key

    def find(self, number: int, hash_: int, now: int) -> Any:
        return self.og.lib.og_pins_find(self.pins, self.rules, self.key(number), hash_, now)

    def put(self, number: int, hash_: int, target: int, now: int, isn: int = 0) -> Any:
        return self.og.lib.og_pins_put(self.pins, self.rules, self.key(number), hash_, target, isn, now)

    def slots(self) -> list[Slot]:
        """All slots, read from memory as og_pins.h lays them out."""
        size = (self.capacity + WINDOW - 1) * 64
        return [Slot(*fields) for fields in struct.iter_unpack("<QQHHHHII", self.og.ffi.buffer(self.aligned, size))]

    def used(self) -> dict[int, tuple[int, Slot]]:
        """Number of the key -> (place, slot), of all used slots."""
        found: dict[int, tuple[int, Slot]] = {}
        for place, slot in enumerate(self.slots()):
            if slot.state & USED:
                number = (slot.client_low >> 56) * 16 + slot.port * 4 + slot.service
                assert number not in found, "a key stands twice"
                found[number] = (place, slot)
        return found


@dataclass
class Entry:
    """The model's pin."""

    target: int
    generation: int
    seen: int
    closing: bool
    isn: int


class PinsMachine(RuleBasedStateMachine):
    """Few lines and few home lines, so that windows fill."""

    CAPACITY = 3
    og: oglib.OgLibrary

    @initialize(homes=st.lists(st.integers(0, 2**64 - 1), min_size=64, max_size=64), clustered=st.booleans())
    def start(self, homes: list[int], clustered: bool) -> None:
        self.table = Table(self.og, self.CAPACITY)
        self.hashes = [home >> 2 if clustered else home for home in homes]
        self.model: dict[int, Entry] = {}
        self.now = 2**20 - 300  # the 20-bit clock wraps on the way
        self.generation = dict.fromkeys(TARGETS, 0)
        self.resting: set[int] = set()

    def alive(self, entry: Entry) -> bool:
        limit = CLOSING_S if entry.closing else IDLE_S
        return entry.generation == self.generation[entry.target] and self.now - entry.seen <= limit

    @rule(number=NUMBERS)
    def find(self, number: int) -> None:
        entry = self.model.get(number)
        pin = self.table.find(number, self.hashes[number], self.now)
        if entry is None or not self.alive(entry):
            assert pin == self.table.og.ffi.NULL
            self.model.pop(number, None)
        elif entry.target in self.resting:
            assert pin == self.table.og.ffi.NULL, "not used, but still there"
        else:
            assert (pin.target, pin.generation, pin.isn) == (entry.target, entry.generation, entry.isn)
            assert bool(pin.state & CLOSING) == entry.closing
            pin.seen = self.now % 2**20
            entry.seen = self.now

    @rule(number=NUMBERS)
    def rests(self, number: int) -> None:
        entry = self.model.get(number)
        wanted = entry is not None and entry.generation == self.generation[entry.target]
        assert self.table.og.lib.og_pins_rests(
            self.table.pins, self.table.rules, self.table.key(number), self.hashes[number]
        ) == (wanted and entry is not None and entry.target in self.resting)

    @rule(number=NUMBERS, agent=st.sampled_from(TARGETS), isn=st.integers(0, 2**32 - 1))
    def put(self, number: int, agent: int, isn: int) -> None:
        before = self.table.used()
        evictions = self.table.pins.stats.evictions
        pin = self.table.put(number, self.hashes[number], agent, self.now, isn)
        assert (pin.target, pin.isn, pin.state) == (agent, isn, USED)
        gone = set(before) - set(self.table.used()) - {number}
        if self.table.pins.stats.evictions > evictions:
            self.check_evicted(number, gone, before)
        else:
            assert all(not self.alive(self.model[other]) for other in gone)
        for other in gone:
            del self.model[other]
        self.model[number] = Entry(agent, self.generation[agent], self.now, False, isn)

    def check_evicted(self, number: int, gone: set[int], before: dict[int, tuple[int, Slot]]) -> None:
        """One went, of a full window without dead pins: the oldest closing one, else the oldest."""
        assert len(gone) == 1
        (victim,) = gone
        home = (self.hashes[number] >> 32) * self.CAPACITY >> 32
        window = {other for other, (slot, _) in before.items() if home <= slot // 2 < home + WINDOW}
        assert len(window) == 2 * WINDOW
        assert victim in window
        assert all(self.alive(self.model[other]) for other in window)
        closing = [other for other in window if self.model[other].closing]
        assert not closing or victim in closing
        assert self.model[victim].seen == min(self.model[other].seen for other in closing or window)

    @rule(number=NUMBERS)
    def close(self, number: int) -> None:
        pin = self.table.find(number, self.hashes[number], self.now)
        if pin != self.table.og.ffi.NULL:
            self.table.og.lib.og_pins_close(self.table.pins, pin)
            self.model[number].closing = True
        elif number in self.model and not self.alive(self.model[number]):
            del self.model[number]

    @rule(number=NUMBERS)
    def erase(self, number: int) -> None:
        pin = self.table.find(number, self.hashes[number], self.now)
        if pin != self.table.og.ffi.NULL:
            self.table.og.lib.og_pins_erase(self.table.pins, pin)
            del self.model[number]
        elif number in self.model and not self.alive(self.model[number]):
            del self.model[number]

    @rule(seconds=st.sampled_from([1, 30, 61, 200, 501]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    def tell(self, agent: int) -> None:
        self.table.rules.generation[agent] = self.generation[agent] | (RESTS if agent in self.resting else 0)

    @rule(agent=st.sampled_from(TARGETS))
    def die(self, agent: int) -> None:
        self.generation[agent] = (self.generation[agent] + 1) % GENERATIONS
        self.tell(agent)

    @rule(agent=st.sampled_from(TARGETS))
    def rest(self, agent: int) -> None:
        self.resting ^= {agent}
        self.tell(agent)

    @rule(lines=st.integers(1, 20))
    def sweep(self, lines: int) -> None:
        self.table.og.lib.og_pins_sweep(self.table.pins, self.table.rules, lines, self.now)
        used = self.table.used()
        for number in list(self.model):
            if number not in used:
                assert not self.alive(self.model[number])
                del self.model[number]
        if lines >= self.CAPACITY + WINDOW - 1:
            assert all(self.alive(entry) for entry in self.model.values())

    @invariant()
    def in_order(self) -> None:
        if not hasattr(self, "table"):
            return
        used = self.table.used()
        assert set(used) == set(self.model)
        passed = [0] * (self.CAPACITY + WINDOW - 1)
        for number, (slot, pin) in used.items():
            home = (self.hashes[number] >> 32) * self.CAPACITY >> 32
            assert home <= slot // 2 < home + WINDOW
            assert pin.displacement == slot // 2 - home
            for line in range(home, slot // 2):
                passed[line] += 1
        slots = self.table.slots()
        assert [slots[2 * line].passed for line in range(len(passed))] == passed
        assert self.table.pins.count == len(used)
        assert self.table.pins.closing == sum(entry.closing for entry in self.model.values())
        open_to_sites = sum(entry.target >= SITE and not entry.closing for entry in self.model.values())
        assert self.table.pins.to_sites == open_to_sites


def test_pins_against_the_model(og: oglib.OgLibrary) -> None:
    PinsMachine.og = og
    state = PinsMachine.TestCase
    state.settings = settings(max_examples=40, stateful_step_count=100, deadline=None)
    state("runTest").runTest()


def test_eviction_happens_and_closing_pins_go_first(og: oglib.OgLibrary) -> None:
    table = Table(og, 1)
    for number in range(2 * WINDOW):
        table.put(number, 0, 0, 100 + number)
    pin = table.find(9, 0, 140)
    og.lib.og_pins_close(table.pins, pin)
    table.put(60, 0, 0, 141)
    assert table.pins.stats.evictions == 1
    assert 9 not in table.used()
    table.put(61, 0, 0, 142)
    assert 0 not in table.used()
    assert set(table.used()) == (set(range(2 * WINDOW)) - {9, 0}) | {60, 61}


def test_target_without_generation_gets_no_pin(og: oglib.OgLibrary) -> None:
    table = Table(og, 8)
    assert table.put(1, 0, 100, 5) == og.ffi.NULL
    assert table.put(1, 0, og.const.OG_TARGET_NONE, 5) == og.ffi.NULL
    assert table.pins.count == 0


def test_service_that_went_voids_its_pins(og: oglib.OgLibrary) -> None:
    table = Table(og, 8)
    table.put(1, 0, 0, 5)
    table.rules.idle_s[1] = 0
    assert table.find(1, 0, 5) == og.ffi.NULL
    assert (table.pins.count, table.pins.stats.voided) == (0, 1)


@pytest.mark.parametrize("capacity", [0, 1 << 32])
def test_impossible_capacity(og: oglib.OgLibrary, capacity: int) -> None:
    pins = og.ffi.new("struct og_pins *")
    memory = og.ffi.new("uint8_t[]", 4096)
    assert not og.lib.og_pins_init(pins, memory, capacity)


def test_unaligned_memory(og: oglib.OgLibrary) -> None:
    pins = og.ffi.new("struct og_pins *")
    memory = og.ffi.new("uint8_t[]", 4096)
    unaligned = memory + (-int(og.ffi.cast("uintptr_t", memory)) % 64) + 32
    assert not og.lib.og_pins_init(pins, unaligned, 8)
    assert not og.lib.og_pins_init(pins, og.ffi.NULL, 8)


def test_full_load_keeps_nearly_every_pin_in_64_bytes(og: oglib.OgLibrary) -> None:
    """At the advertised capacity: bytes per pin, evictions, lines per hit."""
    capacity = 20000
    table = Table(og, capacity)
    assert og.lib.og_pins_bytes(capacity) <= 64 * (capacity + WINDOW)
    key = og.ffi.new("union og_pin_key *")
    hashes = [random.Random(i).getrandbits(64) for i in range(capacity)]
    for number, hash_ in enumerate(hashes):
        key.q = [number, 7]
        og.lib.og_pins_put(table.pins, table.rules, key, hash_, 0, 0, 5)
    for number, hash_ in enumerate(hashes):
        key.q = [number, 7]
        og.lib.og_pins_find(table.pins, table.rules, key, hash_, 5)
    stats = table.pins.stats
    assert (stats.evictions, table.pins.count) == (0, capacity)
    assert stats.hits == table.pins.count
    assert stats.hit_lines / stats.hits < 1.35
    print(f"{og.lib.og_pins_bytes(capacity) / capacity:.1f} B per pin, load factor 0.5, "
          f"{stats.hit_lines / stats.hits:.3f} lines per hit, {stats.evictions} evictions of {capacity}")  # fmt: skip


def test_list_names_every_pin_once(og: oglib.OgLibrary) -> None:
    table = Table(og, 100)
    for number in range(40):
        table.put(number, number << 56, 0, 5)
    cursor, seen = og.ffi.new("uint64_t *"), []
    out = og.ffi.new("struct og_pin[7]")
    while cursor[0] != 2**64 - 1:
        n = og.lib.og_pins_list(table.pins, cursor, out, 7)
        seen += [(out[i].client[1] >> 56, out[i].port_service) for i in range(n)]
    assert len(seen) == len(set(seen)) == 40
