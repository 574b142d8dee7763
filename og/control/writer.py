# SPDX-License-Identifier: Apache-2.0
"""The site's writer: holds the lock, looks at the loads once per second, publishes shares and membership log.

Every router has this thread; the one with the lock works. What it writes comes back to all, itself included, through
the watches, so that all do the same. One key is written per second at most.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from og.control.consul import Client, ConsulError
from og.control.history import Logs, encode_logs
from og.control.load import Load, Look, Report, take_samples
from og.control.lock import Lock
from og.control.shares import LEAD_S, Record, encode_record, fractions, quantised
from og.control.sources import site_key
from og.control.spill import Memory, step
from og.telemetry import Telemetry, TelemetryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from og.control.config import Config
    from og.control.state import State
    from og.dataplane import Share
    from og.policy.check import Policy

LOG = logging.getLogger("og-control")

TURN_S = 1.0
MEMBERS_PER_PAGE = 32
BLIND_TURNS = 3  # without telemetry for so long another router does it better


@dataclass(frozen=True)
class Brief:
    """What the daemon knows and the writer needs; replaced as a whole."""

    policy: Policy
    state: State
    weights: Mapping[str, int]
    shares: frozenset[Share]  # in force
    published: Record | None
    drained: bool  # the whole site
    closed: frozenset[tuple[str, str]]  # other site, service: gives all its new flows away
    logs: Logs
    logs_published: Logs | None
    ready: bool  # Consul's answers about both keys are there


@dataclass(frozen=True)
class News:
    """What the writer tells the daemon, for its status."""

    writer: bool = False
    reasons: Mapping[str, str] | None = None
    trouble: str = ""


class Writer(threading.Thread):
    """Runs beside the daemon, which sets `brief` and reads `news`."""

    def __init__(self, config: Config) -> None:
        super().__init__(name="writer", daemon=True)
        self.brief: Brief | None = None
        self.news = News()
        self._config = config
        client = Client(config.consul_url)
        self._lock = Lock(client, site_key(config.site, "spill-lock"), config.node)
        self._telemetry = Telemetry(config.telemetry_socket)
        self._sent = SentFlows()
        self._memories: dict[str, Memory] = {}
        self._looked_at = 0.0
        self._blind = 0
        self._stopped = threading.Event()

    def run(self) -> None:
        """Take turns until stopped."""
        while not self._stopped.wait(TURN_S):
            brief = self.brief
            if brief is None:
                continue
            if brief.ready:
                self.news = self._turn(brief)
            else:
                self._lock.held = False
                self.news = News(trouble="consul cannot be asked: the last shares stay")
        self._lock.release()

    def stop(self) -> None:
        """End, and give the lock up."""
        self._stopped.set()
        self.join(TURN_S * 3)

    def _turn(self, brief: Brief) -> News:
        try:
            look = self._look(brief)
            self._blind = 0
        except TelemetryError as error:
            self._blind += 1
            if self._blind >= BLIND_TURNS and self._lock.held:
                self._lock.release()
            return News(self._lock.held, trouble=str(error))
        had = self._lock.held
        try:
            if not self._lock.hold(time.monotonic()):
                return News()
            if not had:
                LOG.info("this node is the writer of %s", self._config.site)
                self._take_over(brief)
            return self._write(brief, look)
        except ConsulError as error:
            self._lock.held = False  # what was not written was not applied: begin again from what is in force
            return News(trouble=f"consul: {error}; the last shares stay")

    def _take_over(self, brief: Brief) -> None:
        """Go on from the shares in force."""
        names = self._config.service_names
        self._memories = {name: Memory(shares=fractions(name, brief.shares)) for name in names}
        for name, memory in self._memories.items():
            self._memories[name] = replace(memory, returning=memory.total > 0)
        self._looked_at = time.monotonic()

    def _write(self, brief: Brief, look: Look) -> News:
        now = time.monotonic()
        elapsed, self._looked_at = now - self._looked_at, now
        shares: set[Share] = set()
        reasons = {}
        for name, sample in take_samples(look, self._memories).items():
            policy = brief.policy.service(name).spill
            result = step(policy, brief.drained, sample, self._memories.get(name, Memory()), elapsed)
            self._memories[name] = result.memory
            shares |= quantised(name, result.memory.shares)
            reasons[name] = result.reason
        if len(self._config.sites) > 1 and (brief.published is None or brief.published.shares != shares):
            generation = brief.published.generation + 1 if brief.published else 1
            record = Record(generation, self._config.node, frozenset(shares), time.time() + LEAD_S, reasons)
            self._lock.write(site_key(self._config.site, "spill"), encode_record(record))
        elif brief.logs != brief.logs_published and any(log.current for log in brief.logs.values()):
            value = {"writer": self._config.node, "services": encode_logs(brief.logs)}
            self._lock.write(site_key(self._config.site, "history"), value)
        return News(writer=self._lock.held, reasons=reasons)

    def _look(self, brief: Brief) -> Look:
        """Ask the data plane. Raises TelemetryError."""
        reports = read_members(self._telemetry)
        pins, counters = self._telemetry.query("/og/pins"), self._telemetry.query("/og/counters")
        own = self._sent.look(pins, counters, time.monotonic())
        return Look(self._config, brief.policy, brief.state, brief.weights, reports, own, brief.closed)


class SentFlows:
    """What this router itself sends to other sites; the rate is from look to look."""

    def __init__(self) -> None:
        self._count, self._at = 0, 0.0

    def look(self, pins: Mapping[str, Any], counters: Mapping[str, Any], now: float) -> Load:
        """Return it, from /og/pins and /og/counters."""
        count = int(counters.get("spilled", 0)) + int(counters.get("offered_site", 0))
        grown, elapsed, first = count - self._count, now - self._at, not self._at
        self._count, self._at = count, now
        rate = 0.0 if first or grown < 0 or elapsed <= 0 else grown / elapsed
        return Load(float(pins.get("to_sites", 0)), rate)


def read_members(telemetry: Telemetry) -> dict[str, Report]:
    """Read all pages of /og/members, by the members' names. Raises TelemetryError."""
    reports: dict[str, Report] = {}
    skip = 0
    while True:
        page = telemetry.query(f"/og/members,{skip}")
        reports |= {str(report.get("name", key)): report for key, report in page.items()}
        skip += len(page)
        if len(page) < MEMBERS_PER_PAGE:
            return reports
