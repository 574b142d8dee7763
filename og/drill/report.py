# SPDX-License-Identifier: Apache-2.0
"""What a drill showed. Pure: the clients' records (og.load) and the moments of the fault go in, the report comes out.

All times are wall-clock seconds of machines that share a clock (or are synchronised better than the figures asked for).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PROMPT_S = 0.3  # a new connection that takes longer waited for a retransmitted SYN (RFC 6298: 1 s): not yet restored


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

    @property
    def ok(self) -> bool:
        """It did all it was asked to, with one server."""
        return self.outcome == "ok" and not self.moved


@dataclass(frozen=True)
class Limits:
    """What must hold. Milliseconds; None = not judged."""

    broken: int = 0
    failed_new: int | None = None
    restore_ms: float | None = None


@dataclass(frozen=True)
class Fault:
    """When it happened, when it was undone, and which servers were themselves taken down."""

    at: float
    undone: float | None = None
    killed_backends: frozenset[str] = field(default_factory=frozenset)


def connection(client: str, row: dict[str, Any]) -> Connection:
    """Read a record of og-load. Raises RecordError naming the client and the field."""
    try:
        return Connection(
            client=client,
            population=str(row["population"]),
            begun=float(row["begun"]),
            opened=None if row["opened"] is None else float(row["opened"]),
            ended=None if row["ended"] is None else float(row["ended"]),
            backend=str(row["backend"]),
            requests=int(row["requests"]),
            outcome=str(row["outcome"]),
            moved=bool(row["moved"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"record of {client}: {error!r} in {row!r}") from None


def established_at(rows: Iterable[Connection], moment: float) -> list[Connection]:
    """Find the connections that were open at a moment and had been answered by a server."""
    return [
        row
        for row in rows
        if row.opened is not None and row.opened <= moment and row.backend and (row.ended is None or row.ended > moment)
    ]


def restored_at(rows: Iterable[Connection], fault_at: float, until: float) -> tuple[float | None, float | None]:
    """(first, from then on) moments after the fault at which new connections are served.

    `first`: the opening of the first connection begun after the fault. `from then on`: the beginning of the first
    connection after which none begun before `until` failed or was slow (PROMPT_S). None where there is no such moment.
    """
    after = sorted((row for row in rows if fault_at <= row.begun <= until), key=lambda row: row.begun)
    opened = [row.opened for row in after if row.opened is not None and row.outcome == "ok"]
    last_bad = -1
    for index, row in enumerate(after):
        if row.opened is None or row.opened - row.begun > PROMPT_S or not row.ok:
            last_bad = index
    steady = after[last_bad + 1].begun if last_bad + 1 < len(after) else None
    return (min(opened) if opened else None), steady


def report(drill: str, rows: Sequence[Connection], fault: Fault, limits: Limits) -> dict[str, Any]:
    """Compute the figures, the verdict and its reasons. Raises RecordError if there was nothing to judge."""
    if not rows:
        raise RecordError("no connection was made: the load did not run")
    until = fault.undone if fault.undone is not None else max(row.begun for row in rows)
    before = established_at(rows, fault.at)
    if not before:
        raise RecordError(f"no connection was open at the fault ({fault.at:.3f}): the drill would show nothing")
    broken = [row for row in before if not row.ok]
    expected = [row for row in broken if row.backend in fault.killed_backends]
    unexpected = [row for row in broken if row.backend not in fault.killed_backends]
    new = [row for row in rows if row.begun >= fault.at]
    failed_new = [row for row in new if not row.ok]
    first, steady = restored_at([row for row in rows if row.population == "stream"], fault.at, until)
    reasons = []
    if len(unexpected) > limits.broken:
        causes = dict(Counter(row.outcome or "cut off" for row in unexpected))
        reasons.append(
            f"{len(unexpected)} established connections broke though their server lived "
            f"(at most {limits.broken}): {causes}"
        )
    if limits.failed_new is not None and len(failed_new) > limits.failed_new:
        reasons.append(f"{len(failed_new)} new connections failed (at most {limits.failed_new})")
    restore_ms = None if steady is None else round(max(0.0, steady - fault.at) * 1000, 1)
    if limits.restore_ms is not None and (restore_ms is None or restore_ms > limits.restore_ms):
        reasons.append(f"new connections were served again after {restore_ms} ms (at most {limits.restore_ms:g})")
    moved = sum(1 for row in rows if row.moved)
    if moved:
        reasons.append(f"{moved} connections were answered by two servers")
    return {
        "drill": drill,
        "t_fault": fault.at,
        "t_undone": fault.undone,
        "t_detected": first,
        "t_restored": steady,
        "detection_ms": None if first is None else round((first - fault.at) * 1000, 1),
        "restore_ms": restore_ms,
        "requests": sum(row.requests for row in rows),
        "connections": len(rows),
        "failed_requests": sum(1 for row in rows if not row.ok),
        "failed_new_connections": len(failed_new),
        "established_before": len(before),
        "established_broken": len(unexpected),
        "expected_broken": len(expected),
        "outcomes": dict(Counter(row.outcome for row in rows if row.outcome != "ok")),
        "new_per_backend": dict(sorted(Counter(row.backend for row in new if row.backend).items())),
        "verdict": "failed" if reasons else "passed",
        "reasons": reasons,
    }


def timeline(rows: Sequence[Connection]) -> dict[str, list[float]]:
    """Per second of the drill: new connections, failures and open connections. Times are whole seconds since epoch."""
    first = int(min(row.begun for row in rows))
    last = int(max(row.ended or row.begun for row in rows))
    seconds = list(range(first, last + 1))
    opened: Counter[int] = Counter(int(row.opened) for row in rows if row.opened is not None)
    failed: Counter[int] = Counter(int(row.ended or row.begun) for row in rows if not row.ok)
    closed: Counter[int] = Counter(int(row.ended) for row in rows if row.opened is not None and row.ended is not None)
    count, open_now = 0, []
    for second in seconds:
        count += opened[second] - closed[second]
        open_now.append(float(count))
    return {
        "t": [float(second) for second in seconds],
        "new": [float(opened[second]) for second in seconds],
        "failed": [float(failed[second]) for second in seconds],
        "open": open_now,
    }
