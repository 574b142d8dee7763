# SPDX-License-Identifier: Apache-2.0
"""The flow hash at release flags: every field counts, batches agree, uses are independent."""

from __future__ import annotations

import random
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.tests.packets import TCP, UDP, IPv6, Raw
from native.tests.test_siphash import model

if TYPE_CHECKING:
    from native.tests.oglib import OgLibrary

SEED = bytes(range(16))
FIELDS = {"src": 0, "dst": 16, "sport": 32, "dport": 34, "protocol": 36}
KEYS = st.tuples(st.binary(min_size=36, max_size=36), st.sampled_from([6, 17])).map(
    lambda t: t[0] + bytes([t[1], 0, 0, 0])
)


def seed(og: OgLibrary) -> Any:
    result = og.ffi.new("struct og_seed *")
    og.ffi.memmove(result, SEED, 16)
    return result


def flow_hash(og: OgLibrary, key: bytes) -> int:
    flow = og.ffi.new("union og_flow *")
    og.ffi.memmove(flow, key, 40)
    return int(og.lib.og_flow_hash(seed(og), flow))


def parsed_key(og: OgLibrary, packet: Any) -> bytes:
    data = bytes(packet)
    result = og.ffi.new("struct og_packet *")
    assert og.verdict(og.lib.og_parse_client(data, len(data), result)) == "none"
    return bytes(og.ffi.buffer(og.ffi.addressof(result, "flow")))


@given(KEYS)
def test_is_siphash_1_3_of_the_key(og: OgLibrary, key: bytes) -> None:
    assert flow_hash(og, key) == model(SEED, key, 1, 3)


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_alone_changes_the_hash(og: OgLibrary, field: str) -> None:
    """Through the parser, from packets: the whole way on which strict aliasing could lose a store."""

    def packet(**change: Any) -> Any:
        value: dict[str, Any] = {
            "src": "2001:db8:c001:41::1",
            "dst": "2001:db8:1::80",
            "sport": 1000,
            "dport": 80,
            "protocol": TCP,
        } | change
        ports = {"sport": value["sport"], "dport": value["dport"]}
        return IPv6(src=value["src"], dst=value["dst"]) / value["protocol"](**ports) / Raw(b"x" * 20)

    variants: dict[str, list[Any]] = {
        "src": [f"2001:db8:c001:41::{n:x}" for n in range(2, 60)] + [f"2001:db8:c001:{n:x}::1" for n in range(2, 60)],
        "dst": [f"2001:db8:1::{n:x}" for n in range(1, 60)],
        "sport": list(range(1, 65536, 397)),
        "dport": list(range(1, 65536, 397)),
        "protocol": [UDP],
    }
    hashes = [flow_hash(og, parsed_key(og, packet(**{field: value}))) for value in variants[field]]
    hashes.append(flow_hash(og, parsed_key(og, packet())))
    assert len(set(hashes)) == len(hashes)
    for one, other in pairwise(hashes):  # and about half of the bits differ
        assert 10 < (one ^ other).bit_count() < 54


@given(st.lists(KEYS, min_size=1, max_size=32))
def test_a_batch_gives_the_same_hashes(og: OgLibrary, keys: list[bytes]) -> None:
    batch = og.ffi.new("struct og_flow_batch *")
    for place, key in enumerate(keys):
        for word, value in enumerate(struct.unpack("<5Q", key)):
            batch.q[word][place] = value
    hashes = og.ffi.new("uint64_t[32]")
    og.lib.og_flow_hash_batch(seed(og), batch, hashes, len(keys))
    assert list(hashes)[: len(keys)] == [flow_hash(og, key) for key in keys]


def test_uses_are_independent(og: OgLibrary) -> None:
    """Of the flows that share a bucket under one use, every other use sees a uniform spread (chi-square of 16)."""
    uses = [getattr(og.lib, f"OG_USE_{name}") for name in ("ROUTER", "AGENT", "SPILL", "LABEL", "PIN", "OWNER")]
    generator = random.Random(1)
    hashes = [generator.getrandbits(64) for _ in range(40000)]
    for use in uses:
        same = [h for h in hashes if og.lib.og_hash_for(h, use) % 16 == 3]
        for other in uses:
            if other == use:
                continue
            counts = [0] * 16
            for h in same:
                counts[og.lib.og_hash_for(h, other) % 16] += 1
            expected = len(same) / 16
            assert sum((n - expected) ** 2 / expected for n in counts) < 45  # p < 1e-4
