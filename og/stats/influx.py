# SPDX-License-Identifier: Apache-2.0
"""Posts to InfluxDB's `/write` over one kept connection. One thread: every wait is bounded by the timeout."""

from __future__ import annotations

import http.client
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from og.stats.buffer import Buffer

BODY_MAX = 256 * 1024  # bytes in one request
REQUESTS_MAX = 4  # requests in one turn, so that catching up does not stop the sampling
BACKOFF_MAX_S = 15.0


class Outcome(Enum):
    """What became of one request."""

    TAKEN = "taken"
    REFUSED = "refused"  # these lines will never be taken: retrying is useless
    UNAVAILABLE = "unavailable"


def outcome(status: int) -> Outcome:
    """Meaning of a status of `/write`: 400 and 413 condemn the lines, everything else but success may pass later."""
    if 200 <= status < 300:
        return Outcome.TAKEN
    return Outcome.REFUSED if status in (400, 413) else Outcome.UNAVAILABLE


class Influx:
    """The way to one InfluxDB. `flush` empties a buffer as far as the server lets it."""

    def __init__(self, host: str, port: int, database: str, timeout: float) -> None:
        self.failures = 0
        self.refused = 0
        self.problem = ""
        self._path = f"/write?db={quote(database, safe='')}&precision=ms"
        self._connection = http.client.HTTPConnection(host, port, timeout=timeout)
        self._backoff = 0.0
        self._retry_at = 0.0

    def flush(self, buffer: Buffer, now: float) -> None:
        """Post the oldest batches; after a failure, nothing for 1, 2, 4 … 15 s. `now` is monotonic, in seconds."""
        if now < self._retry_at:
            return
        for _ in range(REQUESTS_MAX):
            if not len(buffer):
                return
            body, count = buffer.peek(BODY_MAX)
            result = self._post(body)
            if result is Outcome.UNAVAILABLE:
                self.failures += 1
                self._backoff = min(max(2 * self._backoff, 1.0), BACKOFF_MAX_S)
                self._retry_at = now + self._backoff
                return
            self._backoff = 0.0
            self.refused += count if result is Outcome.REFUSED else 0
            if result is Outcome.TAKEN:
                self.problem = ""
            buffer.remove(count)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _post(self, body: bytes) -> Outcome:
        try:
            self._connection.request("POST", self._path, body)
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self.problem = f"{type(error).__name__}: {error}"
            return Outcome.UNAVAILABLE
        result = outcome(response.status)
        if result is not Outcome.TAKEN:
            self.problem = f"status {response.status}: {answer[:200].decode(errors='replace').strip()}"
        return result
