# SPDX-License-Identifier: Apache-2.0
"""From an engine's records to the JSON report that smoke, tests and drills read. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from og.load.engine import OK, Record, Second

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def summary(
    records: Iterable[Record], seconds: Mapping[int, Second], elapsed: float, stalls: Iterable[tuple[float, float]] = ()
) -> dict[str, Any]:
    """Totals, failures by reason, requests and connections per server, requests per second, the load's own stalls."""
    rows = list(records)
    requests: Counter[str] = Counter()
    connections: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for row in rows:
        if row.backend:
            requests[row.backend] += row.requests
            connections[row.backend] += 1
        if row.outcome not in (OK, ""):
            failures[row.outcome] += 1
    answered = sum(row.requests for row in rows)
    return {
        "connections": len(rows),
        "opened": sum(1 for row in rows if row.opened is not None),
        "failed": sum(failures.values()),
        "failures": dict(sorted(failures.items())),
        "moved": sum(1 for row in rows if row.moved),
        "requests": answered,
        "per_backend": dict(sorted(requests.items())),
        "connections_per_backend": dict(sorted(connections.items())),
        "seconds": round(elapsed, 3),
        "rps": round(answered / elapsed, 1) if elapsed > 0 else 0.0,
        "stalls": [[round(t, 3), round(late, 3)] for t, late in stalls],
        "timeline": [
            {
                "t": t,
                "opened": s.opened,
                "failed": s.failed,
                "requests": s.requests,
                "open": s.open,
                "backends": s.backends,
            }
            for t, s in sorted(seconds.items())
        ],
    }


def rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Every connection, for a drill that relates it to the moment of a fault."""
    return [vars(record) for record in records]
