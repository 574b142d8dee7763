# SPDX-License-Identifier: Apache-2.0
"""What the control daemon and the data plane say of traffic policy: `og_capacity` and `og_share`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from og.jsonsock import request
from og.stats.point import Point, scalars

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SHARE_ONE = 1024  # a share of 1 as the data plane counts it


class Queries(Protocol):
    """What is needed of og.telemetry.Telemetry."""

    def query(self, command: str) -> Any:  # noqa: ANN401 - JSON
        """Return the answer to one command; raises TelemetryError."""


def read(socket: str, timeout_s: float) -> list[Point]:
    """Capacity of each service, as the control daemon at `socket` has it. Raises SocketError."""
    return list(capacity_points(request(socket, {"op": "status"}, timeout_s)))


def capacity_points(status: Mapping[str, Any]) -> Iterable[Point]:
    """One `og_capacity` per service: numbers of its entry in the status, `unit` is a tag."""
    for service, entry in status.get("capacity", {}).items():
        fields = {name: float(value) for name, value in scalars(entry).items() if not isinstance(value, str)}
        yield Point("og_capacity", {"service": service, "unit": str(entry.get("unit") or "")}, fields)


def share_points(shares: Mapping[str, Any]) -> Iterable[Point]:
    """One `og_share` per service and other site, 0 to 1, from "service/site": 0..1024."""
    for key, share in shares.items():
        service, _, site = key.rpartition("/")
        yield Point("og_share", {"service": service, "to": site}, {"share": int(share) / SHARE_ONE})
