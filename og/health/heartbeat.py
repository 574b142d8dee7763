# SPDX-License-Identifier: Apache-2.0
"""The heartbeat file of a data plane (docs/interfaces.md, "Heartbeat file").

The writer maps the file; this reader copies it with one read(2), which sees the same page-cache page. It does not map
it: a file that shrinks under a mapping kills the reader with SIGBUS, a read just comes back short.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"OGHB"
VERSION = 1
LAYOUT = struct.Struct("<4sIQQIIQ")  # magic, version, loops, generation, flags, pid, incarnation
SIZE = 64

FLAG_TABLES = 1 << 0
FLAG_SERVE = 1 << 1


class HeartbeatError(Exception):
    """There is no usable heartbeat. The text says why."""


@dataclass(frozen=True, slots=True)
class Beat:
    """One copy of the heartbeat file.

    `loops` counts turns of the poll loop, `generation` is the running table's (0: none), `pid` is the writer's,
    `incarnation` its boot nonce.
    """

    loops: int
    generation: int
    flags: int
    pid: int
    incarnation: int

    @property
    def tables_loaded(self) -> bool:
        """The data plane has accepted a table."""
        return bool(self.flags & FLAG_TABLES)

    @property
    def can_serve(self) -> bool:
        """The data plane has somewhere to send a new connection."""
        return bool(self.flags & FLAG_SERVE)


def parse(raw: bytes) -> Beat:
    """Decode the bytes of a heartbeat file. Raises HeartbeatError for anything but version 1."""
    if len(raw) < SIZE:
        raise HeartbeatError(f"{len(raw)} bytes, expected {SIZE}")
    magic, version, loops, generation, flags, pid, incarnation = LAYOUT.unpack_from(raw)
    if magic != MAGIC:
        raise HeartbeatError(f"magic {magic!r}, expected {MAGIC!r}")
    if version != VERSION:
        raise HeartbeatError(f"version {version}, expected {VERSION}")
    return Beat(loops, generation, flags, pid, incarnation)


def read(path: Path) -> Beat:
    """Read and decode the file. It is opened anew each time, so a replaced file is seen at once."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise HeartbeatError(f"{path}: {error.strerror}") from error
    try:
        return parse(os.read(descriptor, SIZE))
    except OSError as error:
        raise HeartbeatError(f"{path}: {error.strerror}") from error
    except HeartbeatError as error:
        raise HeartbeatError(f"{path}: {error}") from error
    finally:
        os.close(descriptor)
