# SPDX-License-Identifier: Apache-2.0
"""Writes a heartbeat as a data plane does, and nothing else: `heartbeat_writer.py FILE [FLAGS]`.

A turn that came so late that the health daemon may have noticed is a line in FILE.late: how late, in milliseconds.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import time
from pathlib import Path

TURN_S = 0.005
LATE_S = 0.150  # the health daemon's limit is 0.2


def main() -> None:
    path, flags = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.ftruncate(descriptor, 64)
    with mmap.mmap(descriptor, 64) as shared:
        incarnation = time.monotonic_ns()
        shared[:] = struct.pack("<4sIQQIIQ", b"OGHB", 1, 0, 1, flags, os.getpid(), incarnation).ljust(64, b"\0")
        loops, before = 0, time.monotonic()
        while True:
            loops += 1
            # First the note, then the sign of life: who sees the sign finds the note.
            now = time.monotonic()
            if now - before >= LATE_S:
                with Path(f"{path}.late").open("a", encoding="ascii") as late:
                    late.write(f"{(now - before) * 1000:.0f}\n")
            before = now
            shared[8:16] = struct.pack("<Q", loops)
            time.sleep(TURN_S)


if __name__ == "__main__":
    main()
