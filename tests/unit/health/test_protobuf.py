# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from og.health.gobgp import decode_destination, encode_lookup, encode_path
from og.health.protobuf import ProtobufError, fields, message, number, text, varint


def test_the_documentations_own_examples() -> None:
    # Protocol Buffers documentation, "Encoding": test1 {a: 150}, test2 {b: "testing"}, test3 {c: {a: 150}}.
    assert number(1, 150) == bytes.fromhex("089601")
    assert text(2, "testing") == bytes.fromhex("120774657374696e67")
    assert message(3, number(1, 150)) == bytes.fromhex("1a03089601")


@given(st.lists(st.tuples(st.integers(1, 2000), st.one_of(st.integers(1, 2**64 - 1), st.binary(max_size=300)))))
def test_what_is_encoded_is_decoded(values: list[tuple[int, int | bytes]]) -> None:
    encoded = b"".join(number(n, v) if isinstance(v, int) else message(n, v) for n, v in values)
    assert list(fields(encoded)) == values


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    for decode in (lambda: list(fields(data)), lambda: decode_destination(data)):
        with contextlib.suppress(ProtobufError):
            decode()


def test_truncation_is_refused() -> None:
    whole = message(1, text(1, "2001:db8:1::80/128"))
    for length in range(1, len(whole)):
        with pytest.raises(ProtobufError):
            list(fields(whole[:length]))


def test_fields_this_reader_does_not_know_are_skipped() -> None:
    fixed = varint(9 << 3 | 5) + bytes(4) + varint(10 << 3 | 1) + bytes(8)
    assert decode_destination(fixed + message(1, number(7, 3), fixed, text(1, "5f00:1:11::/64"))) == "5f00:1:11::/64"
    assert decode_destination(fixed) is None


def test_a_path_has_the_bytes_protoc_gives_it() -> None:
    # In the sources of GoBGP 4.8.0: protoc -I proto --encode=api.Path api/gobgp.proto <<END
    # nlri {prefix {prefix_len: 128 prefix: "2001:db8:1::80"}} pattrs {origin {}} pattrs {next_hop {next_hop: "::"}}
    # family {afi: AFI_IP6 safi: SAFI_UNICAST}
    expected = "0a150a13088001120e323030313a6462383a313a3a3830" + "12021200" + "120622040a023a3a" + "4a0408021001"
    assert encode_path(3, "2001:db8:1::80/128") == message(3, bytes.fromhex(expected))


def test_a_lookup_names_every_prefix() -> None:
    found = [value for field, value in fields(encode_lookup(["5f00:1:11::/64", "2001:db8:1::80/128"])) if field == 4]
    assert [dict(fields(each))[1] for each in found if isinstance(each, bytes)] == [
        b"5f00:1:11::/64",
        b"2001:db8:1::80/128",
    ]
