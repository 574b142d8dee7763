# SPDX-License-Identifier: Apache-2.0
"""Writes a heartbeat as a data plane does, and nothing else: `heartbeat_writer.py FILE [FLAGS]`."""

from __future__ import annotations

import mmap
import os
import struct
import sys
import time

TURN_S = 0.005


def main() -> None:
    path, flags = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.ftruncate(descriptor, 64)
    with mmap.mmap(descriptor, 64) as shared:
        incarnation = time.monotonic_ns()
        shared[:] = struct.pack("<4sIQQIIQ", b"OGHB", 1, 0, 1, flags, os.getpid(), incarnation).ljust(64, b"\0")
        loops = 0
        while True:
            loops += 1
            shared[8:16] = struct.pack("<Q", loops)
            time.sleep(TURN_S)


if __name__ == "__main__":
    main()
