# SPDX-License-Identifier: Apache-2.0
"""The loop of the health daemon: look, decide, tell GoBGP, wait."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING

from og.health import heartbeat, machine
from og.health.announcer import Announcer
from og.health.endpoint import Report, serve
from og.health.heartbeat import Beat, HeartbeatError

if TYPE_CHECKING:
    from og.health.config import Config

NOTIFY_EVERY_MS = 1_000

LOG = logging.getLogger(__name__)


def wanted_paths(config: Config, state: machine.State, drained: bool) -> frozenset[str] | None:
    """Return what should be announced; None while that is not decided.

    A drained node keeps its locator: flows it already carries still need it.
    """
    if not state.decided:
        return None
    if not state.alive.is_open:
        return frozenset()
    vips = config.vips if state.serves and not drained else ()
    return frozenset((config.locator, *vips))


def describe(state: machine.State) -> str:
    """Say in one word what is announced."""
    return "serving" if state.serves else "alive" if state.alive.is_open else "down"


def make_report(state: machine.State, drained: bool, announcer: Announcer) -> Report:
    """Return the daemon's state as the endpoint shows it."""
    return Report(
        healthy=state.alive.is_open and not drained,
        reason="drained" if drained and state.alive.is_open else state.reason,
        loops=state.last.loops if state.last else 0,
        generation=state.last.generation if state.last else 0,
        serving=state.serves and not drained,
        drained=drained,
        announced=announcer.announced,
        gobgp=announcer.error,
    )


class ProcessWatch:
    """Notices at once that the process behind the heartbeat has ended, through a pidfd (Linux 5.3)."""

    def __init__(self) -> None:
        self._writer = (0, 0)  # process id and incarnation
        self._descriptor: int | None = None
        self.gone = False

    def follow(self, beat: Beat | None) -> None:
        """Watch the writer of this heartbeat from now on."""
        writer = (beat.pid, beat.incarnation) if beat is not None else (0, 0)
        if writer == self._writer:
            return
        self.close()
        self._writer = writer
        pid = writer[0]
        if pid == 0:
            return
        try:
            self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self.gone = True
        except OSError as error:
            LOG.warning("cannot watch process %d (%s): its end will be noticed by its silence", pid, error.strerror)

    def fileno(self) -> int | None:
        """Return a descriptor that becomes readable when the process ends, or None if there is none to wait for."""
        return None if self.gone else self._descriptor

    def close(self) -> None:
        """Stop watching."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None
        self._writer = (0, 0)
        self.gone = False


def notify_systemd(text: str) -> None:
    """Tell systemd, if it started us (sd_notify(3)). Losing a message is harmless."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.sendto(text.encode(), address)
        except OSError as error:
            LOG.debug("systemd: %s", error)


class Daemon:
    """Everything that lives between two turns of the loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._announcer = Announcer(
            config.gobgp_api, (*config.vips, config.locator), config.api_timeout_ms, config.reconcile_ms
        )
        self._watch = ProcessWatch()
        self._state = machine.State()
        self._drained = False
        self._report = Report()
        self._then = self._now()
        self._stopping = False

    @staticmethod
    def _now() -> int:
        return time.monotonic_ns() // 1_000_000

    def _look(self, elapsed: int) -> machine.Observation:
        try:
            beat = heartbeat.read(self._config.heartbeat)
        except HeartbeatError as error:
            self._watch.follow(None)
            return machine.Observation(elapsed, None, missing=str(error))
        self._watch.follow(beat)
        return machine.Observation(elapsed, beat, process_gone=self._watch.gone)

    def turn(self) -> None:
        """Look, decide, and bring GoBGP in line."""
        now = self._now()
        state = machine.step(self._state, self._look(now - self._then), self._config.limits)
        self._then = now
        drained = self._config.drain_file.exists()
        before, after = describe(self._state), describe(state)
        if before != after:
            LOG.warning("%s: %s", after, state.reason)
        if drained != self._drained:
            LOG.warning("drain %s by %s", "asked for" if drained else "ended", self._config.drain_file)
        self._state, self._drained = state, drained
        self._announcer.sync(wanted_paths(self._config, state, drained), now)
        self._report = make_report(state, drained, self._announcer)

    def wait(self) -> None:
        """Until the next turn is due, the data plane ends, or GoBGP says something."""
        poller = select.poll()
        process, api = self._watch.fileno(), self._announcer.fileno()
        for descriptor in (process, api):
            if descriptor is not None:
                poller.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poller.poll(self._config.limits.poll)}
        if process in ready:
            self._watch.gone = True
        if api in ready:
            self._announcer.settle(self._now())

    def stop(self, *_: object) -> None:
        """End after this turn. What is announced stays: an upgrade of this daemon moves no traffic."""
        self._stopping = True

    def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises OSError if the endpoint's address is taken."""
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)
        serve(self._config.listen, lambda: self._report)
        notify_systemd("READY=1")
        next_notify = 0
        while not self._stopping:
            self.turn()
            if self._then >= next_notify:
                notify_systemd(f"WATCHDOG=1\nSTATUS={self._report.reason}")
                next_notify = self._then + NOTIFY_EVERY_MS
            self.wait()
        self._announcer.close()
        self._watch.close()
