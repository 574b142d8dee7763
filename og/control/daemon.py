# SPDX-License-Identifier: Apache-2.0
"""The daemon itself: collects what changes, computes tables, keeps the data plane on them."""

from __future__ import annotations

import logging
import os
import queue
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from og.control.consul import Watch
from og.control.drainmark import mark_drained
from og.control.policyfile import PolicyFile
from og.control.shares import SCALE, Record, describe, known
from og.control.sources import Source, sources
from og.control.state import encode as encode_state
from og.control.state import load_state, next_generation, with_generation, write_state
from og.control.status import Facts, compose
from og.control.tables import Seen, Tables, build_tables, complete
from og.control.view import View
from og.control.votes import count_votes, next_change, settle_clock
from og.control.writer import Brief, Writer
from og.dataplane import DataPlane, DataPlaneError, Status, TablesRefusedError
from og.jsonsock import Message, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from og.control.config import Config
    from og.policy.check import Policy

LOG = logging.getLogger("og-control")

TICK_S = 1.0  # how often the data plane and the policy file are looked at
QUIET_S = 0.05  # a burst of changes is over after this silence
BURST_S = 0.5  # and at the latest after this time
RETRY_S = 10.0  # between two attempts to load tables that were refused
REPLY_S = 15.0  # what a request to the control socket may take


@dataclass(frozen=True)
class Heard:
    """A watch spoke: a value, or an error."""

    source: Source
    value: Any
    error: str | None


@dataclass(frozen=True)
class Reload:
    """Somebody wants the policy file read now; the reply goes into the queue (None: nobody waits, a signal)."""

    reply: queue.SimpleQueue[Message] | None


@dataclass(frozen=True)
class Stop:
    """End the daemon."""


Event = Heard | Reload | Stop


class Daemon:
    """All of it runs in the thread that calls run(), but for the watches and the control socket, which send events."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._policy = PolicyFile(config.policy, config.state_dir)
        self._state_path = Path(config.state_dir) / "state.json"
        self._state = settle_clock(load_state(config), time.time())
        self._written = ""
        self._data_plane = DataPlane(config.table_socket)
        self._values: dict[Source, Any] = {}
        self._errors: dict[Source, str] = {}
        self._watched: frozenset[Source] = frozenset()
        self._tables: Tables | None = None
        self._writer = Writer(config) if config.role == "router" else None
        self._running: Status | None = None
        self._trouble = ""  # why the data plane does not run our tables; empty = it does
        self._refused: tuple[str, float] = ("", 0.0)  # digest, and when (monotonic)
        self._notes: tuple[str, ...] = ()
        self.status: Message = self._describe()

    # ---- events ---------------------------------------------------------------------------------------------------

    def run(self, tick: Callable[[Message], None] = lambda _status: None) -> None:
        """Work until a Stop event. `tick` is called with the status, at least once per second when all is well."""
        self._watch()
        self._update()
        server = Server(self.config.control_socket, self._answer)
        server.start()
        if self._writer is not None:
            self._writer.start()
        try:
            tick(self.status)
            while self._step(self._collect()):
                tick(self.status)
        finally:
            server.close()
            if self._writer is not None:
                self._writer.stop()

    def _watch(self) -> None:
        """Follow what the policy names. A source that is no longer named goes on silently until a restart."""
        for source in sources(self.config, self._policy.policy) - self._watched:

            def tell(value: object, error: str | None, source: Source = source) -> None:
                self.events.put(Heard(source, value, error))

            Watch(self.config.consul_url, source.query(self.config), source.parse, tell).start()
            self._watched |= {source}

    def _collect(self) -> list[Event]:
        """Wait for events until the next tick or change by time; after the first one gather the rest of its burst."""
        try:
            events = [self.events.get(timeout=self._patience_s())]
        except queue.Empty:
            return []
        end = time.monotonic() + BURST_S
        while (left := end - time.monotonic()) > 0:
            try:
                events.append(self.events.get(timeout=min(QUIET_S, left)))
            except queue.Empty:
                break
        return events

    def _patience_s(self) -> float:
        now = time.time()
        moment = next_change(self._state, self._policy.policy, now)
        record = self._record()
        waits = [TICK_S if moment is None else moment - now, record.due(now) if record else 0.0]
        return max(0.01, min([TICK_S, *(wait for wait in waits if wait > 0)]))

    def _step(self, events: list[Event]) -> bool:
        """Take events in, bring the tables up to date, answer who waits; False = stop."""
        for event in events:
            if isinstance(event, Heard):
                self._hear(event)
        reloads = [event for event in events if isinstance(event, Reload)]
        if reloads or self._policy.changed():
            self._policy.reload()
            self._watch()
        self._update()
        for event in reloads:
            if event.reply is not None:
                event.reply.put(self._reload_reply())
        return not any(isinstance(event, Stop) for event in events)

    def _hear(self, event: Heard) -> None:
        if event.error is None:
            self._values[event.source] = event.value
            if self._errors.pop(event.source, None):
                LOG.info("consul: %s: answers again", event.source)
        else:
            # The value is forgotten: unknown, not empty. The state keeps the last word on everybody.
            self._values.pop(event.source, None)
            if event.source not in self._errors:
                LOG.warning("consul: %s: %s; the last tables stay", event.source, event.error)
            self._errors[event.source] = event.error

    # ---- tables ---------------------------------------------------------------------------------------------------

    def _update(self) -> None:
        now = time.time()
        outcome = count_votes(self.config, self._policy.policy, view_of(self._values), self._state, now)
        self._state = outcome.state
        if self._state.generation == 0 and not self._heard_all():
            # Nothing was ever made: half a picture would be the first one.
            self._trouble = "waiting for the first answers of Consul"
        else:
            self._tables = build_tables(self.config, self._policy.policy, self._state, now, self._seen())
            self._state = replace(self._state, logs=self._tables.logs)
            unknown = sorted(self._policy.policy.services.keys() - set(self.config.service_names))
            strangers = [f"policy: services.{name}: the inventory has no such service" for name in unknown]
            strangers += unknown_sites(self.config, self._policy.policy)
            self._log_notes((*strangers, *outcome.notes, *self._tables.notes))
            self._synchronise(self._tables)
        self._mark_drained()
        self._instruct_writer()
        self._save()
        self.status = self._describe()

    def _seen(self) -> Seen:
        """What the tables follow beside the state."""
        suspect = frozenset(self._running.suspect) if self._running else frozenset[str]()
        written = self._values.get(Source("history", self.config.site, "history"))
        return Seen(suspect, written, self._writer is not None and self._writer.news.writer)

    def _heard_all(self) -> bool:
        return all(source in self._values for source in self._watched if source.site == self.config.site)

    def _log_notes(self, notes: tuple[str, ...]) -> None:
        for note in notes:
            if note not in self._notes:
                LOG.warning("%s", note)
        self._notes = notes

    def _synchronise(self, tables: Tables) -> None:
        """Ask what the data plane runs, and load our tables when it is something else."""
        try:
            self._running = self._data_plane.status()
            generation = next_generation(self._state, self._running, tables.digest)
            self._state = with_generation(self._state, generation, tables.digest)
            if self._running.generation == generation and self._running.digest == tables.digest:
                self._trouble = ""
                self._apply_shares(self._running)
                return
            if self._refused[0] == tables.digest and time.monotonic() - self._refused[1] < RETRY_S:
                return
            self._load(tables, generation)
        except DataPlaneError as error:
            self._running = None
            self._complain(f"data plane: {error}")

    def _load(self, tables: Tables, generation: int) -> None:
        self._save()  # ids must be on disk before pins use them
        try:
            self._data_plane.load(complete(tables, generation))
        except TablesRefusedError as error:
            self._refused = (tables.digest, time.monotonic())
            self._complain(f"tables {generation} refused: {error}")
            return
        LOG.info("tables %d loaded, digest %s", generation, tables.digest[:16])
        self._refused = ("", 0.0)
        self._trouble = ""
        self._running = self._data_plane.status()
        self._apply_shares(self._running)

    # ---- spill shares and the node's own drain ----------------------------------------------------------------------

    def _record(self) -> Record | None:
        """Return what the writer of this site published; None = nothing, or Consul cannot be asked."""
        record = self._values.get(Source("spill", self.config.site, "spill"))
        return record if isinstance(record, Record) else None

    def _apply_shares(self, running: Status) -> None:
        """Have the data plane use the published shares when they are due; without any the last ones stay."""
        if self._writer is None:
            return
        record = self._record()
        if record is not None and not record.due(time.time()):
            others = set(self.config.sites) - {self.config.site}
            self._state = replace(self._state, shares=known(record.shares, self.config.service_names, others))
        if self._state.shares is None:
            self._state = replace(self._state, shares=running.shares)
        if self._state.shares == running.shares:
            return
        try:
            self._data_plane.set_shares(self._state.shares or ())
        except TablesRefusedError as error:
            self._complain(f"shares refused: {error}")
            return
        self._running = replace(running, shares=self._state.shares or frozenset())
        LOG.info("shares set: %s", describe(self._state.shares or ()))

    def _drained(self, name: str) -> bool:
        """Whether a node, or this site, is drained by policy or in Consul."""
        return name in self._policy.policy.drain or name in self._state.drains.get(self.config.site, ())

    def _mark_drained(self) -> None:
        path = Path(self.config.control_socket).with_name("health.drain")
        try:
            mark_drained(self.config.role, path, self._drained(self.config.node))
        except OSError as error:
            self._complain(f"drain: {path}: {error.strerror}")

    def _instruct_writer(self) -> None:
        if self._writer is None or self._tables is None:
            return
        policy, state, site = self._policy.policy, self._state, self.config.site
        sources = [Source("history", site, "history")]
        sources += [Source("spill", site, "spill")] if len(self.config.sites) > 1 else []
        self._writer.brief = Brief(
            policy=policy,
            state=state,
            weights={verdict.name: verdict.weight for verdict in self._tables.verdicts},
            shares=state.shares or frozenset(),
            published=self._record(),
            drained=self._drained(site),
            closed=frozenset(self._closed()),
            logs=state.logs,
            logs_published=self._values.get(sources[0]),
            ready=all(source in self._values for source in sources),
        )

    def _closed(self) -> Iterator[tuple[str, str]]:
        """Yield other sites' services of which they give all new flows away."""
        for source, record in self._values.items():
            if isinstance(record, Record) and source.site != self.config.site:
                yield from ((source.site, name) for name in self.config.service_names if record.total(name) >= SCALE)

    def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:
            LOG.warning("%s", trouble)
        self._trouble = trouble

    def _save(self) -> None:
        text = encode_state(self._state)
        if text == self._written:
            return
        try:
            write_state(self._state_path, self._state)
            self._written = text
        except OSError as error:
            self._complain(f"state not saved: {error}")

    # ---- the control socket ---------------------------------------------------------------------------------------

    def _answer(self, message: Message) -> Message:
        """Answer a request; runs in the socket's thread."""
        match message.get("op"):
            case "status":
                return self.status
            case "document":
                tables = self._tables
                if tables is None:
                    return {"ok": False, "error": "no tables yet"}
                return {"ok": True, "document": complete(tables, self._state.generation)}
            case "reload":
                reply: queue.SimpleQueue[Message] = queue.SimpleQueue()
                self.events.put(Reload(reply))
                try:
                    return reply.get(timeout=REPLY_S)
                except queue.Empty:
                    return {"ok": False, "error": f"busy for more than {REPLY_S} s"}
            case other:
                return {"ok": False, "error": f"unknown op {other!r}; known: status, document, reload"}

    def _reload_reply(self) -> Message:
        if self._policy.error:
            return {"ok": False, "error": self._policy.error}
        return {
            "ok": True,
            "policy": self._policy.policy.digest,
            "generation": self._state.generation,
            "applied": not self._trouble,
            "detail": self._trouble,
        }

    def _describe(self) -> Message:
        facts = Facts(
            config=self.config,
            pid=os.getpid(),
            policy=self._policy.policy,
            policy_error=self._policy.error,
            state=self._state,
            tables=self._tables,
            running=self._running,
            trouble=self._trouble,
            consul={str(source): self._errors.get(source, "") for source in sorted(self._watched, key=str)},
            notes=self._notes,
            news=self._writer.news if self._writer is not None else None,
            record=self._record(),
        )
        return compose(facts)


def unknown_sites(config: Config, policy: Policy) -> list[str]:
    """Say which sites of the policy's spill orders the inventory does not have, or is this one."""
    named = {name: policy.service(name).spill.sites or () for name in config.service_names}
    return [
        f"policy: {name}: spill to {site}: {'this is the site itself' if site == config.site else 'no such site'}"
        for name, sites in named.items()
        for site in sites
        if site == config.site or site not in config.sites
    ]


def view_of(values: Mapping[Source, Any]) -> View:
    """Arrange what the watches last heard."""
    services = {(source.site, source.name): value for source, value in values.items() if source.kind == "service"}
    drains = {source.site: value for source, value in values.items() if source.kind == "drains"}
    return View(services, drains)
