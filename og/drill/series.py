# SPDX-License-Identifier: Apache-2.0
"""Series over time of a drill: connections per second and site, the share that leaves a site, its utilisation. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING

from og.drill.records import STREAM, Connection, Plan, Seen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SHARE_ONE = 1024  # a share of 1 as the data plane counts it
CHANCE = 3.0  # standard errors by which a share of few connections may be off
MEAN_S = 10


def timeline(rows: Sequence[Connection]) -> dict[str, list[float]]:
    """Per second: new connections, failures and open connections. Times are whole seconds since the epoch."""
    if not rows:
        return {"t": [], "new": [], "failed": [], "open": []}
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


def timelines(plan: Plan, rows: Iterable[Connection]) -> dict[str, dict[str, list[float]]]:
    """`timeline` of the connections each site served."""
    parts: dict[str, list[Connection]] = {}
    for row in rows:
        parts.setdefault(plan.site_of(row), []).append(row)
    return {site: timeline(parts[site]) for site in sorted(parts)}


def leaving(plan: Plan, rows: Iterable[Connection]) -> list[tuple[int, float, int]]:
    """(second since the fault, share, count): of the new connections of the site's clients, what other sites served."""
    total: Counter[int] = Counter()
    away: Counter[int] = Counter()
    for row in rows:
        if row.population == STREAM and row.backend and plan.clients.get(row.client) == plan.site:
            second = int((row.begun - plan.fault) // 1)
            total[second] += 1
            away[second] += plan.backends.get(row.backend) != plan.site
    return [(second, away[second] / total[second], total[second]) for second in sorted(total)]


def largest_step(shares: Sequence[tuple[int, float, int]]) -> tuple[float, float]:
    """(largest, largest beyond chance): change of the share from one second to the next.

    A share of n connections that each leave with the same chance is off by sqrt(p(1-p)/n); what CHANCE standard errors
    of the difference explain is taken off the second figure.
    """
    raw = beyond = 0.0
    for (second, share, count), (later, next_share, next_count) in pairwise(shares):
        if later != second + 1:
            continue
        step = abs(next_share - share)
        middle = (share * count + next_share * next_count) / (count + next_count)
        error = sqrt(middle * (1 - middle) * (1 / count + 1 / next_count))
        raw, beyond = max(raw, step), max(beyond, step - CHANCE * error)
    return raw, max(0.0, beyond)


def in_force(plan: Plan, watched: Iterable[Seen], begin: float, end: float) -> list[tuple[int, float]]:
    """(second since the fault, share that leaves the site), as one router of the site had it: the largest of all."""
    by_node: dict[str, list[Seen]] = {}
    for event in watched:
        if event.what == "shares":
            by_node.setdefault(event.node, []).append(event)
    seconds = range(int((begin - plan.fault) // 1), int((end - plan.fault) // 1))
    result = []
    for second in seconds:
        at = plan.fault + second + 0.5
        values = [_sum_at(events, at) for events in by_node.values()]
        known = [value for value in values if value is not None]
        if known:
            result.append((second, max(known)))
    return result


def _sum_at(events: Sequence[Seen], at: float) -> float | None:
    place = bisect_right([event.at for event in events], at)
    if not place:
        return None
    shares: Mapping[str, int] = events[place - 1].value
    return sum(shares.values()) / SHARE_ONE


def hunts_and_drops(watched: Iterable[Seen]) -> dict[str, dict[str, int]]:
    """By node, how often it hunted and dropped packets, by verdict. A process that begins anew counts from 0."""
    last: dict[str, Mapping[str, int]] = {}
    result: dict[str, Counter[str]] = {}
    for event in watched:
        if event.what != "counters":
            continue
        before = last.get(event.node, event.value)
        for name, count in event.value.items():
            if name.startswith(("hunt_", "drop_")):
                base = before.get(name, 0)
                result.setdefault(event.node, Counter())[name] += count - base if count >= base else count
        last[event.node] = event.value
    return {node: {name: count for name, count in names.items() if count} for node, names in sorted(result.items())}


def turns(values: Iterable[float]) -> int:
    """How often the slope changes its sign; a stretch without change counts with neither."""
    sign = count = 0
    last: float | None = None
    for value in values:
        if last is not None and value != last:
            now = 1 if value > last else -1
            count += sign not in (0, now)
            sign = now
        last = value
    return count


def utilisation(plan: Plan, rows: Iterable[Connection]) -> list[float]:
    """Means over 10 s each of open connections on the site's servers ÷ capacity, while the load was constant."""
    if plan.hold is None or not plan.capacity:
        return []
    begin, end = plan.hold
    means = []
    here = [row for row in rows if row.opened is not None and plan.backends.get(row.backend) == plan.site]
    at = begin
    while at + MEAN_S <= end:
        overlap = sum(
            max(0.0, min(row.ended if row.ended is not None else end, at + MEAN_S) - max(row.opened or 0.0, at))
            for row in here
        )
        means.append(round(overlap / MEAN_S / plan.capacity, 4))
        at += MEAN_S
    return means
