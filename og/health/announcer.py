# SPDX-License-Identifier: Apache-2.0
"""Keeps what GoBGP announces equal to what is wanted, through restarts of GoBGP."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from og.health import gobgp
from og.health.grpc import CallFailedError, Channel, ConnectionLostError
from og.health.protobuf import ProtobufError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RETRY_MS = 200  # between attempts to reach a daemon that is not there

LOG = logging.getLogger(__name__)


class Announcer:
    """One connection to GoBGP and the prefixes it may announce, in the order in which they are withdrawn."""

    def __init__(self, api: Path, prefixes: Sequence[str], timeout_ms: int, reconcile_ms: int) -> None:
        self._api = api
        self._prefixes = tuple(prefixes)
        self._timeout_ms = timeout_ms
        self._reconcile_ms = reconcile_ms
        self._channel: Channel | None = None
        self._announced: frozenset[str] | None = None
        self._next_try = 0
        self._next_look = 0
        self._last_error = ""

    @property
    def announced(self) -> tuple[str, ...]:
        """What is announced as far as known; nothing while GoBGP cannot be reached."""
        return tuple(prefix for prefix in self._prefixes if prefix in (self._announced or ()))

    @property
    def error(self) -> str:
        """Why GoBGP could not be told; empty if it could."""
        return self._last_error

    def fileno(self) -> int | None:
        """Return a descriptor that becomes readable when GoBGP goes away, or None without a connection."""
        return None if self._channel is None else self._channel.fileno()

    def close(self) -> None:
        """Drop the connection. What is announced stays announced."""
        if self._channel is not None:
            self._channel.close()
        self._channel = None
        self._announced = None

    def settle(self, now: int) -> None:
        """Call this when `fileno` is readable."""
        if self._channel is None:
            return
        try:
            self._channel.settle()
        except ConnectionLostError as error:
            self._failed(error, now)
            self._next_try = now  # a new daemon may be there already

    def sync(self, wanted: frozenset[str] | None, now: int) -> None:
        """Make it so. `wanted` None changes nothing but looks what is there. `now` is in milliseconds."""
        if self._announced is None and now < self._next_try:
            return
        try:
            channel = self._connect()
            if self._announced is None or now >= self._next_look:
                self._look(channel, now)
            if wanted is not None and wanted != self._announced:
                self._apply(channel, wanted)
        except (ConnectionLostError, CallFailedError, ProtobufError) as error:
            self._failed(error, now)
        else:
            self._last_error = ""

    def _connect(self) -> Channel:
        if self._channel is None:
            self._channel = Channel(self._api, self._timeout_ms)
            LOG.info("connected to GoBGP at %s", self._api)
        return self._channel

    def _look(self, channel: Channel, now: int) -> None:
        found = gobgp.announced(channel, self._prefixes)
        if self._announced is not None and found != self._announced:
            changed = ", ".join(sorted(found ^ self._announced))
            LOG.warning("someone else changed what is announced: %s", changed)
        self._announced = found
        self._next_look = now + self._reconcile_ms

    def _apply(self, channel: Channel, wanted: frozenset[str]) -> None:
        for prefix in self._prefixes:
            if prefix in (self._announced or ()) and prefix not in wanted:
                gobgp.withdraw(channel, prefix)
                self._announced = (self._announced or frozenset()) - {prefix}
                LOG.warning("withdrawn %s", prefix)
        for prefix in reversed(self._prefixes):
            if prefix in wanted and prefix not in (self._announced or ()):
                gobgp.announce(channel, prefix)
                self._announced = (self._announced or frozenset()) | {prefix}
                LOG.info("announced %s", prefix)

    def _failed(self, error: Exception, now: int) -> None:
        if str(error) != self._last_error:
            LOG.warning("GoBGP: %s", error)
        self._last_error = str(error)
        self.close()
        self._next_try = now + RETRY_MS
