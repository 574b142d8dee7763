# SPDX-License-Identifier: Apache-2.0
"""Maglev: shares follow weights, few slots change hands, the same table everywhere; and a second implementation."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from native.tests.oglib import OgLibrary

SLOTS = 65537
EMPTY = 0xFFFF
Members = Sequence[tuple[str, int, int]]  # name, weight, value


def build(og: OgLibrary, members: Members, slots: int = SLOTS) -> list[int]:
    names = [og.ffi.new("char[]", name.encode()) for name, _, _ in members]
    array = og.ffi.new("struct og_maglev_member[]", max(len(members), 1))
    for out, name, (_, weight, value) in zip(array, names, members, strict=False):
        out.name, out.weight, out.value = name, weight, value
    table = og.ffi.new("uint16_t[]", slots)
    assert og.lib.og_maglev_build(table, slots, array, len(members))
    return list(table)


def equal(count: int) -> list[tuple[str, int, int]]:
    return [(f"agent_w{i}", 100, i) for i in range(count)]


def moved_without_need(before: Sequence[int], after: Sequence[int], gone: int) -> float:
    """Share of the slots that changed hands though their member stayed."""
    return sum(a != b for a, b in zip(before, after, strict=True) if a != gone) / len(before)


# ---- a second implementation, from the paper and the comments in og_maglev.h ---------------------------------------


def rotl(x: int, b: int) -> int:
    return (x << b | x >> (64 - b)) & (2**64 - 1)


def siphash24(key: Sequence[int], data: bytes) -> int:
    """The reference algorithm over whole words."""
    mask = 2**64 - 1
    v = [
        key[0] ^ 0x736F6D6570736575,
        key[1] ^ 0x646F72616E646F6D,
        key[0] ^ 0x6C7967656E657261,
        key[1] ^ 0x7465646279746573,
    ]

    def rounds(count: int) -> None:
        for _ in range(count):
            v[0] = (v[0] + v[1]) & mask
            v[2] = (v[2] + v[3]) & mask
            v[1] = rotl(v[1], 13) ^ v[0]
            v[3] = rotl(v[3], 16) ^ v[2]
            v[0] = rotl(v[0], 32)
            v[2] = (v[2] + v[1]) & mask
            v[0] = (v[0] + v[3]) & mask
            v[1] = rotl(v[1], 17) ^ v[2]
            v[3] = rotl(v[3], 21) ^ v[0]
            v[2] = rotl(v[2], 32)

    words = [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)]
    for word in [*words, (len(data) & 0xFF) << 56]:
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def model(members: Members, slots: int) -> list[int]:
    magic = int.from_bytes(b"ogmaglev", "big")
    live = sorted((m for m in members if m[1] > 0), key=lambda m: m[0].encode())
    table = [EMPTY] * slots
    if not live:
        return table
    state = []
    for name, weight, value in live:
        padded = name.encode().ljust(64, b"\0")
        offset = siphash24([magic, int.from_bytes(b"offset\0\0", "big")], padded) % slots
        skip = siphash24([magic, int.from_bytes(b"skip\0\0\0\0", "big")], padded) % (slots - 1) + 1
        state.append([offset, skip, weight, 0, value])
    heaviest, filled = max(s[2] for s in state), 0
    while True:
        for s in state:
            s[3] += s[2]
            if s[3] < heaviest:
                continue
            s[3] -= heaviest
            while table[s[0]] != EMPTY:
                s[0] = (s[0] + s[1]) % slots
            table[s[0]] = s[4]
            filled += 1
            if filled == slots:
                return table


@settings(max_examples=60, deadline=None)
@given(
    members=st.lists(
        st.tuples(st.text("abcdef_0123456789", min_size=1, max_size=12), st.integers(0, 5), st.integers(0, 1023)),
        max_size=12,
        unique_by=(lambda m: m[0], lambda m: m[2]),
    ),
    slots=st.sampled_from([3, 5, 31, 251, 1009]),
)
def test_equals_the_second_implementation(og: OgLibrary, members: Members, slots: int) -> None:
    assert build(og, members, slots) == model(members, slots)


# ---- properties ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 10, 48, 1000])
def test_equal_weights_differ_by_one_slot(og: OgLibrary, count: int) -> None:
    shares = Counter(build(og, equal(count)))
    assert set(shares) == set(range(count))
    assert max(shares.values()) - min(shares.values()) <= 1


def test_shares_follow_weights(og: OgLibrary) -> None:
    weights = [1, 10, 50, 100, 100, 333, 1000]
    shares = Counter(build(og, [(f"m{i}", w, i) for i, w in enumerate(weights)]))
    for value, weight in enumerate(weights):
        assert shares[value] == pytest.approx(SLOTS * weight / sum(weights), rel=0.02, abs=2)


def test_weight_zero_is_absent(og: OgLibrary) -> None:
    assert build(og, [*equal(3), ("drained", 0, 9)]) == build(og, equal(3))


def test_no_member_is_an_empty_table(og: OgLibrary) -> None:
    assert set(build(og, [])) == set(build(og, [("a", 0, 1)])) == {EMPTY}


def test_order_of_arrival_does_not_matter(og: OgLibrary) -> None:
    members = equal(20)
    shuffled = random.Random(1).sample(members, len(members))
    assert build(og, members) == build(og, shuffled)


def test_table_is_the_same_in_every_release(og: OgLibrary) -> None:
    """Nodes of two releases must agree while a site is upgraded: a change of this digest moves every flow."""
    table = build(og, [(f"agent_w{i}", 100 + i, i) for i in range(5)])
    digest = hashlib.sha256(b"".join(value.to_bytes(2, "little") for value in table)).hexdigest()
    assert digest[:12] == "6d2eafb22b07"


@pytest.mark.parametrize(("count", "limit"), [(10, 0.006), (48, 0.009), (100, 0.011)])
def test_few_slots_move_when_a_member_goes(og: OgLibrary, count: int, limit: float) -> None:
    before = build(og, equal(count))
    shares = []
    for gone in range(0, count, max(count // 8, 1)):
        after = build(og, [m for m in equal(count) if m[2] != gone])
        shares.append(moved_without_need(before, after, gone))
    print(f"{count} members, one goes: {100 * sum(shares) / len(shares):.2f} % of the slots move without need")
    assert max(shares) < limit


def test_few_slots_move_when_a_weight_changes(og: OgLibrary) -> None:
    before = build(og, equal(10))
    after = build(og, [*equal(9), ("agent_w9", 110, 9)])
    changed = sum(a != b for a, b in zip(before, after, strict=True)) / SLOTS
    assert 0.005 < changed < 0.04


@pytest.mark.parametrize(
    ("slots", "ok"), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 0), (9, 0), (65536, 0), (65537, 1), (655373, 1), (655379, 0)]
)
def test_slots_must_be_prime(og: OgLibrary, slots: int, ok: int) -> None:
    assert og.lib.og_maglev_slots_ok(slots) == bool(ok)
