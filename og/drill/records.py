# SPDX-License-Identifier: Apache-2.0
"""What a drill is judged by: the clients' records, what was done when, and what was seen on nodes. Only reads, pure.

All times are wall-clock seconds of machines that share a clock (or are synchronised better than the figures asked for).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

HELD = "held"
STREAM = "stream"
Stall = tuple[float, float]  # of a load: when its late turn was due, and by how many seconds it was late


class RecordError(Exception):
    """A record or an option is not what a drill can judge; the message says which and why."""


@dataclass(frozen=True)
class Connection:
    """One connection in its client's view. `ended` is None only if the record was cut off."""

    client: str
    population: str
    begun: float
    opened: float | None
    ended: float | None
    backend: str
    requests: int
    outcome: str
    moved: bool
    asked: float | None = None  # when the request was sent that had no answer at the end
    port: int = 0  # the client's

    @property
    def ok(self) -> bool:
        """It did all it was asked to, with one server."""
        return self.outcome == "ok" and not self.moved


@dataclass(frozen=True)
class Seen:
    """Something a watcher saw change on a node: from `at` on, `what` is `value`."""

    at: float
    node: str
    what: str
    value: Any


@dataclass(frozen=True)
class Limits:
    """What must hold. None = not judged."""

    broken: int = 0
    broken_share: float | None = None  # of those established before; then `broken` does not count
    established: int = 1  # at least so many must be open at the fault, or the drill shows nothing
    new_per_s: float = 0.0  # at least so many new connections per second must have been tried
    failed_new: int | None = None
    restore_ms: float | None = None
    reset_ms: float | None = None  # from a client's next packet to the end of a connection whose server died
    share_step: float | None = None  # of new connections, from one second to the next
    share_turns: int | None = None  # changes of sign of the share's slope while the load is constant
    utilisation: tuple[float, float] | None = None  # bounds of its 10 s means while the load is constant


@dataclass(frozen=True)
class Plan:
    """What was done. `backends` and `clients` map names to sites; `detect`: how it was noticed (og.drill.moments)."""

    drill: str
    site: str
    backends: Mapping[str, str]
    clients: Mapping[str, str]
    fault: float
    begun: float | None = None  # its first part, if that was earlier than `fault`, the last
    undone: float | None = None
    killed: frozenset[str] = frozenset()
    detect: Mapping[str, Any] = field(default_factory=dict)
    restored_by: str = ""  # site that serves the drill's site once service is full; empty: any
    hold: tuple[float, float] | None = None  # constant load
    capacity: float | None = None  # open connections the site is meant to carry
    stopped: str = ""  # why the drill did not come to its end
    limits: Limits = field(default_factory=Limits)

    @property
    def since(self) -> float:
        """When the first part of the fault was begun."""
        return self.fault if self.begun is None else min(self.begun, self.fault)

    def site_of(self, row: Connection) -> str:
        """Site that served a connection; of one that nobody answered, its client's."""
        return self.backends.get(row.backend) or self.clients.get(row.client, "")


def connection(client: str, row: Mapping[str, Any]) -> Connection:
    """Read a record of og-load. Raises RecordError naming the client and the field."""
    try:
        return Connection(
            client=client,
            population=str(row["population"]),
            begun=float(row["begun"]),
            opened=_maybe(row["opened"]),
            ended=_maybe(row["ended"]),
            backend=str(row["backend"]),
            requests=int(row["requests"]),
            outcome=str(row["outcome"]),
            moved=bool(row["moved"]),
            asked=_maybe(row["asked"]),
            port=int(row["port"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"record of {client}: {error!r} in {row!r}") from None


def seen(node: str, row: Mapping[str, Any]) -> Seen:
    """Read a line of a watcher. Raises RecordError naming the node."""
    try:
        return Seen(float(row["t"]), node, str(row["what"]), row["value"])
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"watch of {node}: {error!r} in {row!r}") from None


def plan(data: Mapping[str, Any]) -> Plan:
    """Read a drill.json. Raises RecordError naming the key."""
    unknown = set(data) - set(Plan.__dataclass_fields__)
    if unknown:
        raise RecordError(f"drill.json: unknown key: {', '.join(sorted(unknown))}")
    try:
        hold = data.get("hold")
        return Plan(
            drill=str(data["drill"]),
            site=str(data["site"]),
            backends={str(k): str(v) for k, v in data["backends"].items()},
            clients={str(k): str(v) for k, v in data["clients"].items()},
            fault=float(data["fault"]),
            begun=_maybe(data.get("begun")),
            undone=_maybe(data.get("undone")),
            killed=frozenset(str(name) for name in data.get("killed", [])),
            detect=dict(data.get("detect", {})),
            restored_by=str(data.get("restored_by", "")),
            hold=None if hold is None else (float(hold[0]), float(hold[1])),
            capacity=_maybe(data.get("capacity")),
            stopped=str(data.get("stopped", "")),
            limits=limits(data.get("limits", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise RecordError(f"drill.json: {error!r}") from None


def limits(data: Mapping[str, Any]) -> Limits:
    """Read the limits of a drill.json; a key that is not there or null is not judged, or has its default."""
    unknown = set(data) - set(Limits.__dataclass_fields__)
    if unknown:
        raise RecordError(f"drill.json: limits: unknown key: {', '.join(sorted(unknown))}")
    given = {key: value for key, value in data.items() if value is not None}
    if "utilisation" in given:
        low, high = (float(value) for value in given["utilisation"])
        given["utilisation"] = (low, high)
    for key in ("broken", "established", "failed_new", "share_turns"):
        if key in given:
            given[key] = int(given[key])
    for key in ("broken_share", "new_per_s", "restore_ms", "reset_ms", "share_step"):
        if key in given:
            given[key] = float(given[key])
    return Limits(**given)


def _maybe(value: Any) -> float | None:  # noqa: ANN401 - JSON
    return None if value is None else float(value)
