# SPDX-License-Identifier: Apache-2.0
"""What a drill showed. Pure: the clients' records, the plan and what watchers saw go in, the report comes out."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from og.drill import moments, series
from og.drill.records import STREAM, Connection, Limits, Plan, RecordError, Seen, Stall

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RATE_TOLERANCE = 0.9  # of the new connections asked for; a client that stalls opens the rest later
CLOSED = ("ECONNRESET", "EPIPE")
FAILURES_NAMED = 20
BEFORE_S = 1.0  # a load that stalls so shortly before the fault is not back in its pace at the fault


def established_at(rows: Iterable[Connection], moment: float) -> list[Connection]:
    """Find the connections that were open at a moment and had been answered by a server."""
    return [
        row
        for row in rows
        if row.opened is not None and row.opened <= moment and row.backend and (row.ended is None or row.ended > moment)
    ]


def resets(rows: Iterable[Connection], fault: float) -> dict[str, Any]:
    """How connections of dead servers ended. Milliseconds from the client's next packet after the fault.

    Of a request that was on its way at the fault the next packet is a retransmission: counted from the fault.
    `idle`: ended before the client sent anything again. `silent`: ended by the client's patience, not by the network.
    """
    took, idle, silent = [], 0, 0
    for row in rows:
        if row.asked is None:
            idle += 1
        elif row.outcome not in (*CLOSED, "closed by server") or row.ended is None:
            silent += 1
        else:
            took.append((row.ended - max(row.asked, fault)) * 1000)
    took.sort()
    return {
        "count": len(took),
        "median_ms": round(median(took), 1) if took else None,
        "p99_ms": round(took[int(0.99 * (len(took) - 1))], 1) if took else None,
        "max_ms": round(took[-1], 1) if took else None,
        "idle": idle,
        "silent": silent,
    }


def report(
    plan: Plan, rows: Sequence[Connection], watched: Sequence[Seen] = (), stalls: Sequence[Stall] = ()
) -> dict[str, Any]:
    """Compute the figures, the verdict and its reasons. Raises RecordError if there was nothing to judge."""
    why = f"it stopped before its end: {plan.stopped}; " if plan.stopped else ""
    if not rows:
        raise RecordError(f"{why}no connection was made: the load did not run")
    before = established_at(rows, plan.since)
    if not before:
        raise RecordError(f"{why}no connection was open at the fault ({plan.since:.3f}): the drill would show nothing")
    result: dict[str, Any] = {
        "drill": plan.drill,
        "site": plan.site,
        **_moments(plan, rows, watched),
        **_load_made(plan, rows),
        "stalls": _stalls(plan, stalls),
        **_established(plan, before),
        **_answers(plan, rows),
        **_shares(plan, rows, watched),
        "hunts_and_drops": series.hunts_and_drops(watched),
    }
    reasons = judge(plan, result)
    return {**result, "verdict": "failed" if reasons else "passed", "reasons": reasons}


def _moments(plan: Plan, rows: Sequence[Connection], watched: Sequence[Seen]) -> dict[str, Any]:
    """When it happened, was noticed and was over: seconds since the epoch, and milliseconds from the fault."""
    noticed = moments.detected(plan, rows, watched)
    first = next(iter(noticed.values()), None)
    steady = moments.restored(plan, rows, _last(rows) if plan.undone is None else plan.undone)
    return {
        "t_fault": plan.fault,
        "fault_ms": _ms(plan.fault, plan.since),
        "t_undone": plan.undone,
        "t_detected": first,
        "t_restored": steady,
        "detection_ms": _ms(first, plan.fault),
        "detected_by": {name: _ms(at, plan.fault) for name, at in noticed.items()},
        "restore_ms": _ms(steady, plan.fault),
    }


def _load_made(plan: Plan, rows: Sequence[Connection]) -> dict[str, Any]:
    """What the clients did, and what became of new connections."""
    new = _new(plan, rows)
    unexpected = [row for row in rows if not row.ok and row.backend not in plan.killed]
    return {
        "requests": sum(row.requests for row in rows),
        "connections": len(rows),
        "new_per_s": round(_rate([row for row in rows if row.population == STREAM]), 1),
        "failed_requests": sum(1 for row in rows if not row.ok),
        "failed_new_connections": sum(1 for row in new if not row.ok),
        "slow_new_connections": moments.slow(new),
        "failures": [_failure(plan, row) for row in unexpected[:FAILURES_NAMED]],
    }


def _stalls(plan: Plan, stalls: Iterable[Stall]) -> dict[str, Any]:
    """How often and how long the loads themselves were held up, from just before the fault on."""
    late = [seconds for at, seconds in stalls if at + seconds >= plan.since - BEFORE_S]
    return {"count": len(late), "longest_ms": round(max(late, default=0.0) * 1000, 1)}


def _failure(plan: Plan, row: Connection) -> dict[str, Any]:
    """One connection that failed; its times in milliseconds since the fault's first part, negative = before it."""
    times = {"opened_ms": row.opened, "asked_ms": row.asked, "ended_ms": row.ended}
    return {
        "client": row.client,
        "port": row.port,
        "backend": row.backend,
        "outcome": row.outcome or "cut off",
        **{name: None if at is None else round((at - plan.since) * 1000, 1) for name, at in times.items()},
    }


def _established(plan: Plan, before: Sequence[Connection]) -> dict[str, Any]:
    """What became of the connections that were open at the fault: those of killed servers are expected to break."""
    broken = [row for row in before if not row.ok]
    expected = [row for row in broken if row.backend in plan.killed]
    unexpected = [row for row in broken if row.backend not in plan.killed]
    return {
        "established_before": len(before),
        "established_broken": len(unexpected),
        "expected_broken": len(expected),
        "broken_outcomes": dict(Counter(row.outcome or "cut off" for row in unexpected)),
        "resets": resets(expected, plan.since),
    }


def _answers(plan: Plan, rows: Sequence[Connection]) -> dict[str, Any]:
    """Who answered, and what else there was than an answer."""
    return {
        "moved": sum(1 for row in rows if row.moved),
        "outcomes": dict(Counter(row.outcome for row in rows if row.outcome != "ok")),
        "new_per_backend": dict(sorted(Counter(row.backend for row in _new(plan, rows) if row.backend).items())),
    }


def _shares(plan: Plan, rows: Sequence[Connection], watched: Sequence[Seen]) -> dict[str, Any]:
    """Which part of new connections left the site, as clients saw it and as routers told it, and what it relieved."""
    shares = series.leaving(plan, rows)
    step, beyond = series.largest_step([entry for entry in shares if entry[0] >= 0])
    force = series.in_force(plan, watched, *(plan.hold or (plan.fault, _last(rows))))
    return {
        "share": [[second, round(share, 4)] for second, share, _ in shares],
        "share_step": round(step, 4),
        "share_step_beyond_chance": round(beyond, 4),
        "share_in_force": [[second, round(share, 4)] for second, share in force],
        "share_turns": series.turns(share for _, share in force),
        "capacity": plan.capacity,
        "utilisation": series.utilisation(plan, rows),
    }


def judge(plan: Plan, result: dict[str, Any]) -> list[str]:
    """Everything that did not hold, in words."""
    limits = plan.limits
    before = result["established_before"]
    broken = limits.broken if limits.broken_share is None else int(limits.broken_share * before)
    reasons: list[str] = []

    def check(failed: bool, text: str) -> None:
        if failed:
            reasons.append(text)

    check(bool(plan.stopped), f"it stopped before its end: {plan.stopped}")
    check(
        before < limits.established,
        f"only {before} connections were established at the fault (at least {limits.established})",
    )
    check(
        result["new_per_s"] < RATE_TOLERANCE * limits.new_per_s,
        f"only {result['new_per_s']} new connections per second were tried ({limits.new_per_s:g} were asked for)",
    )
    check(
        result["established_broken"] > broken,
        f"{result['established_broken']} established connections broke though their server lived "
        f"(at most {broken}): {result['broken_outcomes']}",
    )
    check(
        _above(result["failed_new_connections"], limits.failed_new),
        f"{result['failed_new_connections']} new connections failed (at most {limits.failed_new})",
    )
    check(
        bool(plan.detect) and result["t_detected"] is None,
        f"nobody noticed the fault: {', '.join(f'{key} {value}' for key, value in plan.detect.items())}",
    )
    check(
        limits.restore_ms is not None and (result["restore_ms"] is None or result["restore_ms"] > limits.restore_ms),
        f"new connections were served fully after {result['restore_ms']} ms (at most {limits.restore_ms})",
    )
    check(
        bool(plan.restored_by) and result["t_restored"] is None,
        f"new connections were never all served by {plan.restored_by}",
    )
    resets_ms, silent = result["resets"]["max_ms"], result["resets"]["silent"]
    check(
        limits.reset_ms is not None and (_above(resets_ms, limits.reset_ms) or silent > 0),
        f"connections of dead servers ended up to {resets_ms} ms after the client's next packet "
        f"(at most {limits.reset_ms}), {silent} were never told",
    )
    check(result["moved"] > 0, f"{result['moved']} connections were answered by two servers")
    return reasons + _judge_shares(limits, result)


def _judge_shares(limits: Limits, result: dict[str, Any]) -> list[str]:
    low, high = limits.utilisation or (0.0, 0.0)
    means, step = result["utilisation"], _step(result["share_in_force"])
    told = bool(result["share_in_force"])
    checks = (
        (
            _above(result["share_step_beyond_chance"], limits.share_step),
            f"the share of new connections changed by {result['share_step']} within a second",
        ),
        (
            _above(step, limits.share_step),
            f"the share in force changed by {step} within a second (at most {limits.share_step})",
        ),
        (
            not told and (limits.share_turns is not None or limits.share_step is not None),
            "no router told its share",
        ),
        (
            _above(result["share_turns"], limits.share_turns),
            f"the share's slope changed its sign {result['share_turns']} times (at most {limits.share_turns})",
        ),
        (
            limits.utilisation is not None and not (means and all(low <= mean <= high for mean in means)),
            f"10 s means of the utilisation were {means} (each from {low} to {high})",
        ),
    )
    return [text for failed, text in checks if failed]


def _step(shares: Sequence[Sequence[float]]) -> float:
    return max((round(abs(b[1] - a[1]), 4) for a, b in pairwise(shares)), default=0.0)


def _above(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value > limit


def _ms(moment: float | None, since: float) -> float | None:
    return None if moment is None else round(max(0.0, moment - since) * 1000, 1)


def _last(rows: Iterable[Connection]) -> float:
    """When the last connection was begun: the end of the load."""
    return max(row.begun for row in rows)


def _new(plan: Plan, rows: Iterable[Connection]) -> list[Connection]:
    """Find the connections begun since the fault."""
    return [row for row in rows if row.begun >= plan.since]


def _rate(stream: Sequence[Connection]) -> float:
    """New connections per second and client that opened any, the busiest client's: what the load asked for."""
    by_client: dict[str, list[float]] = {}
    for row in stream:
        by_client.setdefault(row.client, []).append(row.begun)
    return max(((len(t) - 1) / (max(t) - min(t)) for t in by_client.values() if max(t) > min(t)), default=0.0)
