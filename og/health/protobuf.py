# SPDX-License-Identifier: Apache-2.0
"""As much of the protobuf wire format as GoBGP's API needs: varints, length-delimited fields, and skipping the rest.

Source: Protocol Buffers documentation, "Encoding". Fields of value zero are left out, as proto3 does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

WIRE_VARINT = 0
WIRE_FIXED64 = 1
WIRE_LENGTH = 2
WIRE_FIXED32 = 5
VARINT_BYTES_MAX = 10


class ProtobufError(Exception):
    """The bytes are not a protobuf message."""


def varint(value: int) -> bytes:
    """Encode a number of 0 or more."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def number(field: int, value: int) -> bytes:
    """Encode an integer or enum field."""
    return varint(field << 3 | WIRE_VARINT) + varint(value) if value else b""


def message(field: int, *parts: bytes) -> bytes:
    """Encode an embedded message, made of encoded fields; also an empty one, whose presence has a meaning."""
    body = b"".join(parts)
    return varint(field << 3 | WIRE_LENGTH) + varint(len(body)) + body


def text(field: int, value: str) -> bytes:
    """Encode a string field."""
    return message(field, value.encode()) if value else b""


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise ProtobufError(f"no end of a number at byte {at}")


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of each field in order. Raises ProtobufError where the bytes end early."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        wire = tag & 7
        if wire == WIRE_VARINT:
            value, at = _read_varint(data, at)
            yield tag >> 3, value
            continue
        if wire == WIRE_LENGTH:
            length, at = _read_varint(data, at)
        elif wire in (WIRE_FIXED64, WIRE_FIXED32):
            length = 8 if wire == WIRE_FIXED64 else 4
        else:
            raise ProtobufError(f"wire type {wire} at byte {at}")
        if at + length > len(data):
            raise ProtobufError(f"{length} bytes announced at byte {at}, {len(data) - at} left")
        yield tag >> 3, data[at : at + length]
        at += length
