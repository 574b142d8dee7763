# SPDX-License-Identifier: Apache-2.0
"""Which share of a service's new flows leaves the site: one look at the loads to the next share. Pure.

The share follows from what is *offered*, local load and spilled load together, so it does not move what it is computed
from: share = 1 - target * capacity / offered. (A share that follows from local load alone swings.) Parts and shares are
of 1, times in seconds, loads and capacities in the unit of the service's capacity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from og.policy.check import Spill

FILTER_S = 5.0  # time constant of the filter over offered loads
SLEW_PER_S = 0.05  # how fast more may leave
DEAD_BAND = 0.01  # play between what is wanted and what is done: noise below it moves nothing; twice that to turn round
LONGEST_STEP_S = 3.0  # a look after a longer break counts as one after this time


@dataclass(frozen=True)
class Neighbour:
    """Another site. `capacity` None: nobody said, so there is always room; 0: takes nothing."""

    capacity: float | None
    load: float
    fresh: bool  # the load is at most a second old


@dataclass(frozen=True)
class Sample:
    """One look at a service. `capacity` is that of usable servers (None: nobody said), `local` the load on them."""

    usable: int
    capacity: float | None
    local: float
    spilled: float
    neighbours: Mapping[str, Neighbour]  # in the order of choice


@dataclass(frozen=True)
class Memory:
    """What is carried from look to look: shares by site, and the filtered loads. None = nothing seen so far."""

    shares: Mapping[str, float] = field(default_factory=dict)
    offered: float | None = None
    foreign: Mapping[str, float] = field(default_factory=dict)  # by site: its load without what we sent
    heading: int = 0  # where the share moved last: 1 up, -1 down
    returning: bool = False  # all flows left, by need or by order, and have not come back yet

    @property
    def total(self) -> float:
        """The share that leaves, to whatever site."""
        return min(1.0, sum(self.shares.values()))


@dataclass(frozen=True)
class Step:
    """The next shares, and why they are what they are."""

    memory: Memory
    reason: str


def step(policy: Spill, drained: bool, sample: Sample, memory: Memory, elapsed_s: float) -> Step:
    """Make the next shares. `drained`: all new flows are to leave."""
    elapsed_s = min(max(elapsed_s, 0.0), LONGEST_STEP_S)
    offered = _filter(memory.offered, sample.local + sample.spilled, elapsed_s)
    foreign = _foreign(sample, memory, elapsed_s)
    rooms = _rooms(policy.fill, sample.neighbours, foreign, offered)
    wanted, reason = _wanted(policy, drained, sample, offered)
    everything = wanted >= 1.0
    room = min(1.0, sum(rooms.values()))
    if not sample.neighbours:
        return Step(Memory({}, offered, foreign), "there is no other site to go to")
    if not everything and wanted > room:
        wanted, reason = room, f"{reason}, as far as others have room"
    if sample.usable == 0:
        total = 1.0
    else:
        total = _approach(memory, wanted, SLEW_PER_S * elapsed_s, policy.ramp_per_s * elapsed_s)
    returning = everything or (memory.returning and total > room)
    if not returning:
        total = min(total, room)
    shares = _distribute(total, rooms, everything or returning)
    now = min(1.0, sum(shares.values()))
    heading = memory.heading if now == memory.total else 1 if now > memory.total else -1
    return Step(Memory(shares, offered, foreign, heading, returning), reason)


def _filter(before: float | None, value: float, elapsed_s: float) -> float:
    if before is None:
        return value
    return before + (value - before) * (1 - math.exp(-elapsed_s / FILTER_S))


def _foreign(sample: Sample, memory: Memory, elapsed_s: float) -> dict[str, float]:
    """Return the loads of other sites without what this one sent there, filtered; the last ones of a silent site."""
    total = memory.total
    loads = {}
    for site, neighbour in sample.neighbours.items():
        if not neighbour.fresh:
            if site in memory.foreign:
                loads[site] = memory.foreign[site]
            continue
        # Flows sent under earlier shares are still there when the share is 0: they are the first site's.
        part = memory.shares.get(site, 0.0) / total if total else float(site == next(iter(sample.neighbours)))
        own = max(0.0, neighbour.load - sample.spilled * part)
        loads[site] = _filter(memory.foreign.get(site), own, elapsed_s)
    return loads


def _rooms(
    fill: float, neighbours: Mapping[str, Neighbour], foreign: Mapping[str, float], offered: float
) -> dict[str, float]:
    """Return what other sites can take, as parts of what is offered here."""
    rooms = {}
    for site, neighbour in neighbours.items():
        if not neighbour.fresh or neighbour.capacity == 0:
            rooms[site] = 0.0
        elif neighbour.capacity is None:
            rooms[site] = 1.0
        else:
            room = max(0.0, fill * neighbour.capacity - foreign[site])
            rooms[site] = min(1.0, room / offered) if offered > 0 else float(room > 0)
    return rooms


def _wanted(policy: Spill, drained: bool, sample: Sample, offered: float) -> tuple[float, str]:
    """Return the share that should leave if others had room, and why."""
    if sample.usable == 0:
        return 1.0, "no usable server here"
    if drained or policy.share >= 1:
        return 1.0, "the site is drained"
    if policy.target is not None and sample.capacity is None:
        return policy.share, "spill.target has no effect: no capacity is known"
    if policy.target is not None and sample.capacity is not None:
        limit = policy.target * sample.capacity
        excess = 1 - limit / offered if offered > limit else 0.0
        if excess > policy.share:
            return excess, f"{offered:.0f} offered, {limit:.0f} stay"
    if policy.share:
        return policy.share, f"share {policy.share:g} by policy"
    return 0.0, "nothing needs to leave"


def _approach(memory: Memory, wanted: float, most_up: float, most_down: float) -> float:
    """Move towards what is wanted, and stop the dead band before it; 0 and 1 are reached."""
    now = memory.total
    direction = 1 if wanted > now else -1
    play = 0.0 if wanted in (0.0, 1.0) else DEAD_BAND * (2 if direction == -memory.heading else 1)
    if direction > 0:
        return max(now, min(wanted - play, now + most_up))
    return min(now, max(wanted + play, now - most_down))


def _distribute(total: float, rooms: Mapping[str, float], anyway: bool) -> dict[str, float]:
    """Fill site after site; what is left over when all must go `anyway` is for the first that takes anything."""
    shares, rest = {}, total
    for site, room in rooms.items():
        shares[site] = min(rest, room)
        rest -= shares[site]
    if anyway and rest > 0:
        first: Sequence[str] = [site for site, room in rooms.items() if room > 0] or list(rooms)
        shares[first[0]] += rest
    return shares
