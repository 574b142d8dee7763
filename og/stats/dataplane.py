# SPDX-License-Identifier: Apache-2.0
"""A data plane's telemetry as points: `og_dataplane`, `og_pins` and one `og_member` for each member it probes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from og.stats.control import share_points
from og.stats.point import Point, scalars
from og.telemetry import TelemetryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from og.stats.control import Queries

INFO = ("generation", "uptime_s", "serving", "threads")


def read(telemetry: Queries, role: str) -> list[Point]:
    """Everything one data plane says, or TelemetryError."""
    info = telemetry.query("/og/info")
    counters = telemetry.query("/og/counters")
    load = telemetry.query("/og/load")
    points = [dataplane_point(info, counters, load), *member_points(telemetry.query("/og/members"))]
    if role == "router":
        points.append(Point("og_pins", {}, scalars(telemetry.query("/og/pins"))))
        points += _shares(telemetry)
    return points


def _shares(telemetry: Queries) -> Iterable[Point]:
    """Shares of new flows; none from a data plane that was started from an older release and does not tell."""
    try:
        return share_points(telemetry.query("/og/shares"))
    except TelemetryError:
        return ()


def dataplane_point(info: Mapping[str, Any], counters: Mapping[str, Any], load: Mapping[str, Any]) -> Point:
    """Counters are totals under the verdicts' names; `drops` is the sum of the dropped, `table` the digest's start."""
    fields = scalars(counters)
    fields["drops"] = sum(n for name, n in fields.items() if name.startswith("drop_") and isinstance(n, int))
    fields |= scalars({name: info[name] for name in INFO if name in info})
    fields |= scalars(load)
    fields["table"] = str(info.get("digest", ""))[:12]
    fields["incarnation"] = str(info.get("incarnation", ""))
    return Point("og_dataplane", {}, fields)


def member_points(members: Mapping[str, Any]) -> Iterable[Point]:
    """One point per member, tagged with its name and kind. Lists (such as the listeners) are given as their length."""
    for name, member in members.items():
        fields = scalars(
            {key: len(value) if isinstance(value, (list, dict)) else value for key, value in member.items()}
        )
        kind = str(fields.pop("kind", ""))
        fields.pop("name", None)  # the tag says it
        if "incarnation" in fields:
            fields["incarnation"] = str(fields["incarnation"])
        yield Point("og_member", {"member": name, "kind": kind}, fields)
