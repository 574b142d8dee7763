# SPDX-License-Identifier: Apache-2.0
"""What a site's writer publishes in Consul (`og/<site>/spill`), and when the others apply it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from og.dataplane import Share

SCALE = 1024
LEAD_S = 0.3  # from writing to applying: the others have it by then
LATEST_S = 5.0  # a moment further ahead is a wrong clock


@dataclass(frozen=True)
class Record:
    """Shares of all services of a site; those above 0. `effective_at` is in seconds since the epoch."""

    generation: int
    writer: str
    shares: frozenset[Share]
    effective_at: float
    reasons: Mapping[str, str] = field(default_factory=dict)  # by service, of the last change

    def due(self, now: float) -> float:
        """Seconds until it is to be applied; 0 = now."""
        wait = self.effective_at - now
        return wait if 0 < wait <= LATEST_S else 0.0

    def total(self, service: str) -> int:
        """The part of a service's new flows that leaves the site."""
        return sum(share for name, _, share in self.shares if name == service)


def parse_record(data: Any) -> Record:  # noqa: ANN401 - JSON
    """Read a published record. Raises ValueError."""
    try:
        shares = frozenset(
            (str(entry["service"]), str(entry["site"]), int(entry["share"]))
            for entry in data["shares"]
            if entry["share"]
        )
        record = Record(
            int(data["generation"]),
            str(data["writer"]),
            shares,
            float(data["effective_at"]),
            {str(name): str(text) for name, text in data.get("reasons", {}).items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a record of shares: {error!r}") from None
    if any(not 0 < share <= SCALE or record.total(service) > SCALE for service, _, share in shares):
        raise ValueError(f"not shares of {SCALE}: {sorted(shares)}")
    return record


def encode_record(record: Record) -> dict[str, Any]:
    """Inverse of parse_record."""
    return {
        "generation": record.generation,
        "writer": record.writer,
        "shares": describe(record.shares),
        "effective_at": record.effective_at,
        "reasons": dict(record.reasons),
    }


def describe(shares: Iterable[Share]) -> list[dict[str, Any]]:
    """Return shares as the table socket and Consul have them."""
    return [{"service": service, "site": site, "share": share} for service, site, share in sorted(shares)]


def known(shares: Iterable[Share], services: Collection[str], sites: Collection[str]) -> frozenset[Share]:
    """Leave out shares of what the inventory does not have: the data plane would refuse them all."""
    return frozenset(share for share in shares if share[0] in services and share[1] in sites)


def quantised(service: str, shares: Mapping[str, float]) -> frozenset[Share]:
    """Return shares of 1 as parts of 1024, at most 1024 together."""
    left, parts = SCALE, set()
    for site, share in shares.items():
        part = min(left, round(share * SCALE))
        left -= part
        if part:
            parts.add((service, site, part))
    return frozenset(parts)


def fractions(service: str, shares: Iterable[Share]) -> dict[str, float]:
    """Return a service's shares by site, as parts of 1."""
    return {site: share / SCALE for name, site, share in shares if name == service}
