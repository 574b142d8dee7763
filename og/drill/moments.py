# SPDX-License-Identifier: Apache-2.0
"""When a fault was noticed and when service was full again, as measured on nodes and by clients. Pure.

`detect` of a plan is one of
- `{"by": "served_by", "site": S}`: the first connection begun after the fault that a server of S answered;
- `{"by": "hops", "names": [...]}`: the first network router without any of these next hops for the VIP;
- `{"by": "suspect" | "down", "names": [...]}`: the first gateway node that has all of these members so;
- `{"by": "consul"}`: the first control daemon that cannot ask a datacenter;
- `{"by": "generation" | "shares"}`: the first gateway node with another value than at the fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from og.drill.records import STREAM, Connection, Plan, RecordError, Seen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PROMPT_S = 0.3  # a new connection that takes longer waited for a retransmitted SYN (RFC 6298: 1 s): not yet restored
STEADY_S = 1.0  # full service must last so long
RETURNED = 0.98  # share of new connections that the right site serves once service is full


def detected(plan: Plan, rows: Iterable[Connection], watched: Sequence[Seen]) -> dict[str, float]:
    """Who noticed the fault and when, earliest first: node or client -> time. Empty where nobody did, or need to."""
    by = plan.detect.get("by", "")
    if not by:
        return {}
    if by == "served_by":
        return _ordered(
            {
                client: min(times)
                for client in plan.clients
                if (
                    times := [
                        row.opened
                        for row in rows
                        if row.client == client
                        and plan.clients[client] == plan.site
                        and row.begun >= plan.fault
                        and row.opened is not None
                        and plan.backends.get(row.backend) == plan.detect["site"]
                    ]
                )
            }
        )
    if by not in ("hops", "suspect", "down", "consul", "generation", "shares"):
        raise RecordError(f"drill.json: detect.by: {by!r} is not known")
    names = set(plan.detect.get("names", []))
    found: dict[str, float] = {}
    before: dict[str, Any] = {}
    for event in sorted((event for event in watched if event.what == by), key=lambda event: event.at):
        if event.at < plan.fault:
            before[event.node] = event.value
        elif event.node not in found and _tells(by, event.value, before.get(event.node), names):
            found[event.node] = event.at
    return _ordered(found)


def _tells(by: str, value: Any, before: Any, names: set[str]) -> bool:  # noqa: ANN401 - what a watcher saw
    if by in ("suspect", "down"):
        return bool(names) and names <= set(value)
    if by == "hops":
        return bool(names & set(before or [])) and not names & set(value)
    if by == "consul":
        return bool(value)
    return before is not None and value != before


def _ordered(found: dict[str, float]) -> dict[str, float]:
    return dict(sorted(found.items(), key=lambda item: item[1]))


def restored(plan: Plan, rows: Iterable[Connection], until: float) -> float | None:
    """When new connections of the site's clients were served fully.

    From then on, for a second, all of them promptly, and (`restored_by`) nearly all by the site that should. None where
    there is no such second before `until`.
    """
    after = sorted(
        (
            row
            for row in rows
            if row.population == STREAM
            and plan.clients.get(row.client) == plan.site
            and plan.fault <= row.begun <= until
        ),
        key=lambda row: row.begun,
    )
    begin = right = 0
    for end, row in enumerate(after):
        if not _prompt(row):
            begin, right = end + 1, 0
            continue
        right += _is_right(plan, row)
        while begin <= end and row.begun - after[begin].begun >= STEADY_S:
            if right >= RETURNED * (end - begin + 1):
                return after[begin].begun
            right -= _is_right(plan, after[begin])
            begin += 1
    return None


def _prompt(row: Connection) -> bool:
    return row.ok and row.opened is not None and row.opened - row.begun <= PROMPT_S


def _is_right(plan: Plan, row: Connection) -> int:
    return int(not plan.restored_by or plan.backends.get(row.backend) == plan.restored_by)


def slow(rows: Iterable[Connection]) -> int:
    """How many connections opened, but not promptly."""
    return sum(1 for row in rows if row.opened is not None and row.opened - row.begun > PROMPT_S)
