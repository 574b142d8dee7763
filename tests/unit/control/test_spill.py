# SPDX-License-Identifier: Apache-2.0
"""The spill controller: what one look gives, what never happens, and what a site under it does over minutes."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from og.control.spill import SLEW_PER_S, Memory, Neighbour, Sample, step
from og.policy.check import Spill

AT_90 = Spill(target=0.9)
ROOMY = {"east": Neighbour(1000.0, 100.0, fresh=True)}


def sample(local, spilled=0.0, usable=3, capacity=300.0, neighbours=ROOMY):
    return Sample(usable, capacity, local, spilled, neighbours)


def settled(policy, seen, drained=False, memory=None, looks=200):
    """The last of many looks at the same thing."""
    result = None
    for _ in range(looks):
        result = step(policy, drained, seen, memory or Memory(), 1.0)
        memory = result.memory
    return result


def test_below_the_target_nothing_leaves():
    result = settled(AT_90, sample(269.0))
    assert result.memory.total == 0
    assert result.reason == "nothing needs to leave"


def test_above_it_what_is_beyond_leaves_whoever_carries_it_now():
    for local in (390.0, 270.0, 100.0):
        seen = sample(local, 390.0 - local, neighbours={"east": Neighbour(1000.0, 490.0 - local, fresh=True)})
        result = settled(AT_90, seen)
        assert result.memory.total == pytest.approx(1 - 270 / 390, abs=0.011)
        assert result.reason == "390 offered, 270 stay"


def test_no_faster_up_than_the_slew_and_down_than_the_ramp():
    memory = Memory()
    totals = []
    empty = {"east": Neighbour(9e9, 0.0, fresh=True)}
    for _ in range(30):
        memory = step(AT_90, False, sample(2700.0, neighbours=empty), memory, 1.0).memory
        totals.append(memory.total)
    assert all(0 <= b - a <= SLEW_PER_S + 1e-9 for a, b in pairwise([0.0, *totals]))
    down = [memory.total]
    for _ in range(90):
        memory = step(replace(AT_90, ramp_per_s=0.02), False, sample(10.0, neighbours=empty), memory, 1.0).memory
        down.append(memory.total)
    assert all(-0.02 - 1e-9 <= b - a <= 0 for a, b in pairwise(down))
    assert down[-1] == 0


def test_without_a_server_everything_leaves_at_once_and_comes_back_along_the_ramp():
    gone = step(Spill(), False, sample(0.0, 50.0, usable=0, capacity=0.0), Memory(), 1.0)
    assert (gone.memory.total, gone.reason) == (1.0, "no usable server here")
    memory, totals = gone.memory, [1.0]
    while memory.total > 0:
        memory = step(Spill(), False, sample(10.0, 40.0), memory, 1.0).memory
        totals.append(memory.total)
    assert len(totals) == 21
    assert all(a - b == pytest.approx(0.05) for a, b in pairwise(totals))


def test_the_way_back_is_along_the_ramp_also_from_a_site_that_was_overrun():
    full = {"east": Neighbour(100.0, 400.0, fresh=True)}
    memory = step(AT_90, False, sample(0.0, 400.0, usable=0, capacity=0.0, neighbours=full), Memory(), 1.0).memory
    totals = [memory.total]
    for _ in range(40):
        memory = step(AT_90, False, sample(100.0, 300.0, neighbours=full), memory, 1.0).memory
        totals.append(memory.total)
    assert max(a - b for a, b in pairwise(totals)) <= 0.05 + 1e-9


@pytest.mark.parametrize("drained", [True, False])
def test_a_drained_site_gives_all_away_and_takes_it_back(drained):
    policy = Spill() if drained else Spill(share=1.0)
    result = settled(policy, sample(50.0), drained)
    assert (result.memory.total, result.reason) == (1.0, "the site is drained")
    assert settled(Spill(), sample(50.0), memory=result.memory).memory.total == 0


def test_both_full_nobody_spills():
    full = {"east": Neighbour(300.0, 280.0, fresh=True)}
    assert settled(AT_90, sample(390.0, neighbours=full)).memory.total == 0
    stale = {"east": Neighbour(300.0, 0.0, fresh=False)}
    assert settled(AT_90, sample(390.0, neighbours=stale)).memory.total == 0
    drained = {"east": Neighbour(0.0, 0.0, fresh=True)}
    assert settled(AT_90, sample(390.0, neighbours=drained)).memory.total == 0


def test_no_more_than_the_room_there_is():
    seen = sample(390.0, neighbours={"east": Neighbour(300.0, 231.0, fresh=True)})
    result = settled(AT_90, seen)
    assert result.memory.total == pytest.approx((270 - 231) / 390, abs=0.011)
    assert result.reason.endswith("as far as others have room")


def test_sites_are_filled_in_order():
    two = {"east": Neighbour(300.0, 240.0, fresh=True), "south": Neighbour(9999.0, 0.0, fresh=True)}
    shares = settled(AT_90, sample(390.0, neighbours=two)).memory.shares
    assert shares["east"] == pytest.approx(30 / 390)
    assert sum(shares.values()) == pytest.approx(1 - 270 / 390, abs=0.011)
    shares = settled(AT_90, sample(0.0, usable=0, neighbours=two)).memory.shares
    assert sum(shares.values()) == 1


def test_a_fixed_share_and_one_without_capacity():
    assert settled(Spill(share=0.5), sample(10.0)).memory.total == pytest.approx(0.5, abs=0.011)
    unknown = {"east": Neighbour(None, 10.0, fresh=True)}
    result = settled(AT_90, sample(1e6, capacity=None, neighbours=unknown))
    assert (result.memory.total, result.reason) == (0, "spill.target has no effect: no capacity is known")


def test_no_other_site():
    assert settled(AT_90, sample(1e6, neighbours={})).memory.shares == {}


amounts = st.floats(0, 1e6)
parts = st.floats(0.01, 1)
neighbours = st.dictionaries(
    st.sampled_from(["east", "south"]),
    st.builds(Neighbour, st.none() | st.just(0.0) | amounts, amounts, st.booleans()),
    max_size=2,
)
samples = st.builds(Sample, st.integers(0, 3), st.none() | amounts, amounts, amounts, neighbours)
policies = st.builds(
    Spill,
    sites=st.none(),
    target=st.none() | parts,
    limit=st.none() | parts,
    share=st.floats(0, 1),
    ramp_per_s=st.floats(0.001, 0.2),
)


@given(policies, st.lists(st.tuples(samples, st.booleans(), st.floats(0, 10)), max_size=30))
def test_what_never_happens(policy, looks):
    memory = Memory()
    for seen, drained, elapsed in looks:
        before, memory = memory, step(policy, drained, seen, memory, elapsed).memory
        assert all(0 <= share <= 1 for share in memory.shares.values())
        assert sum(memory.shares.values()) <= 1 + 1e-9
        assert set(memory.shares) == set(seen.neighbours)
        if seen.usable:
            assert memory.total - before.total <= SLEW_PER_S * 3 + 1e-9
        if seen.usable and not drained and policy.share < 1 and not memory.returning:
            for site, neighbour in seen.neighbours.items():
                takes_nothing = not neighbour.fresh or neighbour.capacity == 0
                assert not takes_nothing or memory.shares[site] == 0
        if memory.returning and before.returning and seen.usable and not drained and policy.share < 1:
            assert before.total - memory.total <= policy.ramp_per_s * 3 + 1e-9 or not seen.neighbours


class Loop:
    """Two sites and a controller, in steps of 0.1 s. Flows come at a fixed rate and fall by chance; agents report the
    last second, late; routers report what they sent, later; a new share is in force after a while."""

    def __init__(self, seed, policy=AT_90, capacity=300.0, report_s=1.0, publish_s=1.5):
        self.random = random.Random(seed)
        self.policy, self.capacity, self.publish_s = policy, capacity, publish_s
        self.report = int(report_s * 10)
        self.memory, self.in_force = Memory(), 0.0
        self.pending: deque = deque()
        self.local: deque = deque([0] * 40, maxlen=40)
        self.spilled: deque = deque([0] * 40, maxlen=40)
        self.usable = 3
        self.now = 0
        self.shares: list[float] = []
        self.accepted: list[int] = []
        self.offered: list[int] = []

    def rate(self, series, late):
        """Flows per second in the second that ended `late` tenths ago."""
        values = list(series)
        return float(sum(values[len(values) - 10 - late : len(values) - late]))

    def run(self, seconds, offered, east=50.0):
        for _ in range(seconds * 10):
            self.now += 1
            while self.pending and self.pending[0][0] <= self.now:
                self.in_force = self.pending.popleft()[1]
            share = 1.0 if not self.usable else self.in_force
            flows = int(offered * self.now / 10) - int(offered * (self.now - 1) / 10)
            leave = sum(self.random.random() < share for _ in range(flows))
            self.local.append(flows - leave)
            self.spilled.append(leave)
            self.accepted.append(flows - leave)
            self.offered.append(flows)
            if self.now % 10 == 0:
                self.look(east)

    def look(self, east):
        local = self.rate(self.local, self.random.randrange(self.report + 1))
        spilled = self.rate(self.spilled, self.random.randrange(self.report + 1, self.report + 4))
        neighbours = {"east": Neighbour(self.capacity, east + self.rate(self.spilled, 5), fresh=True)}
        seen = Sample(self.usable, self.capacity * self.usable / 3, local, spilled, neighbours)
        self.memory = step(self.policy, False, seen, self.memory, 1.0).memory
        self.pending.append((self.now + int(self.publish_s * 10), round(self.memory.total * 1024) / 1024))
        self.shares.append(self.memory.total)

    def utilisation(self, seconds=10):
        """Means over windows of so many seconds, since `accepted` began."""
        width = seconds * 10
        sums = [sum(self.accepted[i : i + width]) for i in range(0, len(self.accepted) - width + 1, width)]
        return [value / seconds / self.capacity for value in sums]


def reversals(values):
    moves = [b - a for a, b in pairwise(values) if b != a]
    return sum((a > 0) != (b > 0) for a, b in pairwise(moves))


@pytest.mark.parametrize("seed", range(20))
def test_constant_overload_is_held_without_swinging(seed):
    loop = Loop(seed)
    loop.run(40, 390.0)
    loop.shares, loop.accepted = loop.shares[-1:], []
    loop.run(120, 390.0)
    assert reversals(loop.shares) == 0
    assert all(0.85 <= value <= 0.95 for value in loop.utilisation()), loop.utilisation()


@pytest.mark.parametrize("publish_s", [0.1, 4.0])
def test_the_delay_of_a_new_share_makes_nothing_swing(publish_s):
    loop = Loop(1, publish_s=publish_s)
    loop.run(60, 390.0)
    loop.shares, loop.accepted = loop.shares[-1:], []
    loop.run(120, 390.0)
    assert reversals(loop.shares) <= 1
    assert all(0.85 <= value <= 0.95 for value in loop.utilisation())


def test_a_load_that_comes_and_goes():
    loop = Loop(2)
    loop.run(20, 200.0)
    assert max(loop.shares) == 0
    loop.run(60, 390.0)
    loop.run(60, 200.0)
    assert loop.shares[-1] == 0
    assert reversals(loop.shares) == 1


@pytest.mark.parametrize("policy", [Spill(), AT_90, Spill(ramp_per_s=0.1)])
@pytest.mark.parametrize("down_s", [5, 40])
def test_recovery_is_a_ramp(policy, down_s):
    loop = Loop(3, policy)
    loop.run(20, 200.0)
    loop.usable = 0
    loop.run(down_s, 200.0)
    loop.usable = 3
    loop.accepted, loop.offered = [], []
    loop.run(60, 200.0)
    parts = [
        sum(loop.accepted[i : i + 10]) / sum(loop.offered[i : i + 10]) for i in range(0, len(loop.accepted) - 9, 10)
    ]
    assert parts[0] < 0.2
    assert max(b - a for a, b in pairwise(parts)) <= 0.2
    assert parts[-1] == 1
