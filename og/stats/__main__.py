# SPDX-License-Identifier: Apache-2.0
"""`og-stats`: sample, buffer, post, once per interval, until SIGTERM."""

from __future__ import annotations

import argparse
import signal
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from og.configfile import ConfigError
from og.jsonsock import SocketError
from og.stats import agent, config, control, dataplane
from og.stats.buffer import Buffer
from og.stats.host import Host
from og.stats.influx import Influx
from og.stats.point import Point, encode
from og.telemetry import Telemetry, TelemetryError, default_path

if TYPE_CHECKING:
    from collections.abc import Callable


def say(text: str) -> None:
    """One line to the journal."""
    print(f"og-stats: {text}", file=sys.stderr, flush=True)


class Changes:
    """Says a problem when it begins and when it ends, not once per second."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._last = ""

    def __call__(self, problem: str) -> None:
        """Report the state of now: a text, or nothing when all is well."""
        # Every retry words the same failure a little differently: only its begin and end are news.
        if bool(problem) != bool(self._last):
            say(f"{self._what}: {problem}" if problem else f"{self._what}: well again")
        self._last = problem


class Poster:
    """One node's samples on their way to one InfluxDB."""

    def __init__(self, options: config.Config) -> None:
        self._options = options
        self._host = Host(options.interface, options.units)
        self._telemetry = Telemetry(default_path(options.dataplane), options.timeout_s) if options.dataplane else None
        self._buffer = Buffer(options.buffer_bytes)
        self._influx = Influx(options.host, options.port, options.database, options.timeout_s)
        self._source_errors = 0
        self._sample_us = 0
        self._telling = {name: Changes(name) for name in ("telemetry", "agent status", "control daemon", "InfluxDB")}

    def sample(self) -> bytes:
        """One sample of everything, as line protocol."""
        begin = time.monotonic()
        now = time.time()
        points = [*self._host.points(), *self._dataplane(), *self._agent(now), *self._control(), self._own()]
        lines = encode(points, self._options.tags, int(now * 1000))
        self._sample_us = int((time.monotonic() - begin) * 1e6)
        return lines

    def turn(self) -> None:
        """Take one sample and post what is waiting."""
        self._buffer.add(self.sample())
        self._influx.flush(self._buffer, time.monotonic())
        self._telling["InfluxDB"](self._influx.problem)

    def _dataplane(self) -> list[Point]:
        telemetry, role = self._telemetry, self._options.dataplane
        return self._source("telemetry", lambda: dataplane.read(telemetry, role)) if telemetry else []

    def _agent(self, now: float) -> list[Point]:
        path = self._options.agent_status
        return self._source("agent status", lambda: agent.read(Path(path), now)) if path else []

    def _control(self) -> list[Point]:
        socket, timeout = self._options.control_socket, self._options.timeout_s
        return self._source("control daemon", lambda: control.read(socket, timeout)) if socket else []

    def _source(self, name: str, read: Callable[[], list[Point]]) -> list[Point]:
        """Read a source; one that is down costs its own points and no others."""
        try:
            points = read()
        except (TelemetryError, SocketError, agent.StatusError) as error:
            self._source_errors += 1
            self._telling[name](str(error))
            return []
        self._telling[name]("")
        return points

    def _own(self) -> Point:
        fields: dict[str, int | float | str] = {
            "buffer_bytes": self._buffer.size,
            "buffer_batches": len(self._buffer),
            "dropped_batches": self._buffer.dropped,
            "refused_batches": self._influx.refused,
            "post_failures": self._influx.failures,
            "source_errors": self._source_errors,
            "sample_us": self._sample_us,
        }
        return Point("og_stats", {}, fields)


def run(poster: Poster, interval: float, phase: float) -> None:
    """Take turns on a fixed grid until SIGTERM or SIGINT; turns missed are left out, not made up for.

    `phase` (seconds) moves the grid, so that hosts that share a machine or an InfluxDB do not all wake at once.
    """
    stop = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    while signal.sigtimedwait(stop, interval - (time.monotonic() - phase) % interval) is None:
        poster.turn()


def main() -> int:
    """Run until told to stop; 2 when the configuration cannot be used."""
    parser = argparse.ArgumentParser(prog="og-stats", description="Post this node's statistics to InfluxDB.")
    parser.add_argument("--config", type=Path, default=Path("/etc/og/stats.json"), help="default: %(default)s")
    parser.add_argument("--check-config", action="store_true", help="check the configuration and exit")
    parser.add_argument("--once", action="store_true", help="print one sample as line protocol and exit")
    arguments = parser.parse_args()
    try:
        options = config.load(arguments.config)
    except ConfigError as error:
        say(str(error))
        return 2
    if arguments.check_config:
        return 0
    poster = Poster(options)
    if arguments.once:
        sys.stdout.write(poster.sample().decode())
        return 0
    run(poster, options.interval_s, options.interval_s * zlib.crc32(options.tags["host"].encode()) / (1 << 32))
    return 0


if __name__ == "__main__":
    sys.exit(main())
