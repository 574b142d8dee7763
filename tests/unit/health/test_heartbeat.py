# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from og.health.heartbeat import SIZE, Beat, HeartbeatError, parse, read

if TYPE_CHECKING:
    from pathlib import Path


def encode(beat: Beat, magic: bytes = b"OGHB", version: int = 1) -> bytes:
    packed = struct.pack(
        "<4sIQQIIQ", magic, version, beat.loops, beat.generation, beat.flags, beat.pid, beat.incarnation
    )
    return packed.ljust(64, b"\0")


U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)


@given(U64, U64, U32, U32, U64)
def test_every_field_is_where_the_contract_says(
    loops: int, generation: int, flags: int, pid: int, incarnation: int
) -> None:
    beat = Beat(loops, generation, flags, pid, incarnation)
    assert parse(encode(beat)) == beat
    assert beat.tables_loaded == bool(flags & 1)
    assert beat.can_serve == bool(flags & 2)


@given(st.binary(max_size=80))
def test_any_bytes_are_decoded_or_refused(raw: bytes) -> None:
    try:
        parse(raw)
    except HeartbeatError:
        return
    assert raw[:8] == b"OGHB\x01\0\0\0"
    assert len(raw) >= SIZE


GOOD = Beat(7, 1, 3, 99, 5)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "0 bytes, expected 64"),
        (encode(GOOD)[:63], "63 bytes, expected 64"),
        (encode(GOOD, magic=b"OGHX"), "magic b'OGHX'"),
        (bytes(64), "magic"),
        (encode(GOOD, version=2), "version 2, expected 1"),
    ],
)
def test_what_is_no_heartbeat_is_refused_with_its_path(tmp_path: Path, raw: bytes, said: str) -> None:
    path = tmp_path / "hasher.heartbeat"
    path.write_bytes(raw)
    with pytest.raises(HeartbeatError, match=said) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(HeartbeatError, match=r"router\.heartbeat: No such file"):
        read(tmp_path / "router.heartbeat")


def test_a_replaced_file_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "hasher.heartbeat"
    path.write_bytes(encode(GOOD))
    assert read(path).loops == 7
    new = tmp_path / "new"
    new.write_bytes(encode(Beat(1, 0, 0, 100, 6)))
    new.rename(path)
    assert read(path).pid == 100
