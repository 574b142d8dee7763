# SPDX-License-Identifier: Apache-2.0
"""SipHash against the authors' vector, CPython's own SipHash-1-3, and a byte-wise model of the paper."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from native.tests.oglib import OgLibrary

MASK = (1 << 64) - 1


def model(key: bytes, message: bytes, c: int, d: int) -> int:
    """SipHash-c-d as the paper's section 2 words it, on bytes."""
    k0, k1 = struct.unpack("<QQ", key)
    v: list[int] = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotate(x: int, bits: int) -> int:
        return (x << bits | x >> (64 - bits)) & MASK

    def rounds(n: int) -> None:
        for _ in range(n):
            v[0] = (v[0] + v[1]) & MASK
            v[1] = rotate(v[1], 13) ^ v[0]
            v[0] = rotate(v[0], 32)
            v[2] = (v[2] + v[3]) & MASK
            v[3] = rotate(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & MASK
            v[3] = rotate(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & MASK
            v[1] = rotate(v[1], 17) ^ v[2]
            v[2] = rotate(v[2], 32)

    padded = message + bytes(-(len(message) + 1) % 8) + bytes([len(message) & 0xFF])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        rounds(c)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(d)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def library(og: OgLibrary, name: str, key: bytes, message: bytes) -> int:
    words = og.ffi.new("uint64_t[]", len(message) // 8 + 1)
    og.ffi.memmove(words, message, len(message))
    keys = og.ffi.new("uint64_t[2]", struct.unpack("<QQ", key))
    return int(getattr(og.lib, name)(keys, words, len(message) // 8))


def test_the_model_gives_the_papers_vector() -> None:
    """Appendix A of the paper: key 00..0f, message 00..0e."""
    assert model(bytes(range(16)), bytes(range(15)), 2, 4) == 0xA129CA6149BE45E5


def test_known_answers_of_siphash_2_4(og: OgLibrary) -> None:
    """From the authors' vectors.h, `vectors_sip64`, lengths 0 and 8."""
    key = bytes(range(16))
    assert library(og, "og_siphash24", key, b"") == 0x726FDB47DD0E0E31
    assert library(og, "og_siphash24", key, bytes(range(8))) == 0x93F5F5799A932462


@pytest.mark.skipif(
    sys.hash_info.algorithm != "siphash13", reason=f"CPython hashes with {sys.hash_info.algorithm} here"
)
def test_siphash_1_3_equals_cpythons(og: OgLibrary) -> None:
    """With PYTHONHASHSEED=0 CPython's key is zero; its hash of bytes is SipHash-1-3."""
    code = "print(*(hash(bytes(range(n))) for n in (8, 16, 40, 56)))"
    output = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    theirs = [int(number) & MASK for number in output.split()]
    assert [library(og, "og_siphash13", bytes(16), bytes(range(n))) for n in (8, 16, 40, 56)] == theirs


@given(
    st.binary(min_size=16, max_size=16), st.integers(0, 8).flatmap(lambda n: st.binary(min_size=8 * n, max_size=8 * n))
)
def test_equals_the_model(og: OgLibrary, key: bytes, message: bytes) -> None:
    assert library(og, "og_siphash13", key, message) == model(key, message, 1, 3)
    assert library(og, "og_siphash24", key, message) == model(key, message, 2, 4)
