# SPDX-License-Identifier: Apache-2.0
"""An application host's points, from the status file its agent daemon replaces every second."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from og.stats.point import Point, scalars

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

STALE_S = 5.0


class StatusError(Exception):
    """The agent's status file is missing, old or no status. The text names the file."""


def read(path: Path, now: float) -> list[Point]:
    """Points of a status file not older than 5 s; `now` is in seconds since the epoch."""
    try:
        status = json.loads(path.read_bytes())
        age = now - float(status["time"])
    except OSError as error:
        raise StatusError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise StatusError(f"{path}: not an agent's status: {error!r}") from error
    if age > STALE_S:
        raise StatusError(f"{path}: written {age:.0f} s ago")
    return points(status)


def points(status: Mapping[str, Any]) -> list[Point]:
    """`og_agent` with the counters as totals, and one `og_service` for each service."""
    fields = scalars(status.get("counters", {}))
    fields["attached"] = int(bool(status.get("attached")))
    services = status.get("services", {})
    return [
        Point("og_agent", {"mode": str(status.get("mode", ""))}, fields),
        *(Point("og_service", {"service": name}, _service(entry)) for name, entry in services.items()),
    ]


def _service(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Rates are floats whatever the daemon wrote: InfluxDB keeps the first type it sees of a field."""
    fields = scalars(entry)
    return {key: float(value) if key.endswith("_per_s") else value for key, value in fields.items()}
