# SPDX-License-Identifier: Apache-2.0
"""Netlink without a library, where the library does not do it or does it too slowly: XDP attachment, socket tables."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NETLINK_ROUTE, NETLINK_SOCK_DIAG = 0, 4
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded to 4 bytes (RFC 3549 section 2.2)."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Return the attributes in `data` by their kind, flags removed."""
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > len(data):
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def request(family: int, kind: int, flags: int, payload: bytes) -> Iterator[bytes]:
    """Send one message, yield the payloads of the answers. Raises OSError with the kernel's errno."""
    with closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)) as sock:
        sock.bind((0, 0))
        sock.send(_HEADER.pack(_HEADER.size + len(payload), kind, flags | REQUEST, 1, 0) + payload)
        while True:
            data = sock.recv(1 << 18)
            at = 0
            while at + _HEADER.size <= len(data):
                length, answer, answer_flags, _, _ = _HEADER.unpack_from(data, at)
                body = data[at + _HEADER.size : at + length]
                if answer == _ERROR:
                    (code,) = struct.unpack_from("=i", body)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return
                if answer == _DONE:
                    return
                yield body
                if not answer_flags & 0x2 and not flags & ACK:  # not NLM_F_MULTI: this was the answer
                    return
                at += (length + 3) & ~3
