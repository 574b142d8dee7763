# SPDX-License-Identifier: Apache-2.0
"""What InfluxDB has not taken yet: batches in order of time, bounded in bytes; the oldest go first. Pure."""

from __future__ import annotations

from collections import deque


class Buffer:
    """Holds at most `limit` bytes, and at least the newest batch. `dropped` counts the batches that made room."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.dropped = 0
        self._batches: deque[bytes] = deque()

    def __len__(self) -> int:
        return len(self._batches)

    def add(self, batch: bytes) -> None:
        """Append the newest batch."""
        self._batches.append(batch)
        self.size += len(batch)
        while self.size > self.limit and len(self._batches) > 1:
            self._remove()
            self.dropped += 1

    def peek(self, size: int) -> tuple[bytes, int]:
        """Join the oldest batches that fit into `size` bytes together, one at least; also say how many they are."""
        body: list[bytes] = []
        total = 0
        for batch in self._batches:
            if body and total + len(batch) > size:
                break
            body.append(batch)
            total += len(batch)
        return b"".join(body), len(body)

    def remove(self, count: int) -> None:
        """Forget the `count` oldest batches: they are delivered, or refused for good."""
        for _ in range(count):
            self._remove()

    def _remove(self) -> None:
        self.size -= len(self._batches.popleft())
