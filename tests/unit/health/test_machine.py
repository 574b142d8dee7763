# SPDX-License-Identifier: Apache-2.0
"""The state machine in simulated time: no test here sleeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from og.health.heartbeat import FLAG_SERVE, FLAG_TABLES, Beat
from og.health.machine import Gate, Limits, Observation, State, hold_up, step, step_gate

LIMITS = Limits(poll=50, stall=200, hold_up=500, hold_up_max=10_000)
SERVING = FLAG_TABLES | FLAG_SERVE


class Plane:
    """A data plane and a health daemon that looks at it every `elapsed` simulated milliseconds."""

    def __init__(self, flags: int = SERVING) -> None:
        self.beat = Beat(loops=1, generation=1, flags=flags, pid=10, incarnation=1)
        self.present = True
        self.gone = False
        self.state = State()

    def look(self, elapsed: int = 50) -> State:
        seen = Observation(elapsed, self.beat if self.present else None, "no file", self.gone)
        self.state = step(self.state, seen, LIMITS)
        return self.state

    def turn(self, times: int = 1, elapsed: int = 50) -> State:
        """The data plane works for `times` looks."""
        for _ in range(times):
            self.beat = replace(self.beat, loops=self.beat.loops + 10)
            self.look(elapsed)
        return self.state

    def hang(self, times: int, elapsed: int = 50) -> State:
        """It does not."""
        for _ in range(times):
            self.look(elapsed)
        return self.state

    def restart(self) -> None:
        self.beat = Beat(0, 0, 0, self.beat.pid + 1, self.beat.incarnation + 1)
        self.gone = False
        self.present = True


def serving_plane() -> Plane:
    plane = Plane()
    plane.look()
    assert plane.turn().serves
    return plane


def test_nothing_is_decided_on_one_look() -> None:
    plane = Plane()
    assert not plane.look().decided


def test_first_progress_opens_at_once() -> None:
    plane = Plane()
    plane.look()
    state = plane.turn()
    assert (state.decided, state.alive.is_open, state.serves, state.reason) == (True, True, True, "serving")


def test_a_second_look_in_the_same_millisecond_decides_nothing() -> None:
    plane = Plane()
    plane.look()
    assert not plane.look(elapsed=0).decided


def test_a_data_plane_that_hangs_from_the_start_is_down_after_the_stall_time() -> None:
    plane = Plane()
    assert not plane.hang(3).decided
    state = plane.hang(1)
    assert state.decided
    assert not state.alive.is_open


def test_a_missing_file_is_down_at_once() -> None:
    plane = Plane()
    plane.present = False
    state = plane.look()
    assert (state.decided, state.alive.is_open, state.reason) == (True, False, "no file")


def test_silence_below_the_stall_time_changes_nothing() -> None:
    plane = serving_plane()
    assert plane.hang(3).serves
    assert plane.turn().serves
    assert plane.hang(3).serves


def test_silence_of_the_stall_time_closes_both_gates() -> None:
    plane = serving_plane()
    state = plane.hang(4)
    assert (state.alive.is_open, state.serves) == (False, False)
    assert state.reason == "no progress for 200 ms"


def test_our_own_late_turn_is_not_the_data_planes_silence() -> None:
    plane = serving_plane()
    assert plane.hang(1, elapsed=5_000).serves
    assert not plane.hang(1, elapsed=5_000).serves


def test_the_end_of_the_process_is_noticed_at_once() -> None:
    plane = serving_plane()
    plane.gone = True
    state = plane.look(elapsed=1)
    assert (state.alive.is_open, state.serves, state.reason) == (False, False, "process 10 has ended")


def test_a_restart_between_two_looks_is_a_failure() -> None:
    plane = serving_plane()
    plane.restart()
    state = plane.turn()
    assert (state.alive.is_open, state.reason) == (False, "data plane was restarted")


def test_recovery_waits_for_the_hold_up_and_needs_growth() -> None:
    plane = serving_plane()
    plane.hang(4)
    assert not plane.hang(100).alive.is_open
    assert not plane.turn(9).alive.is_open
    state = plane.turn(1)
    assert (state.alive.is_open, state.serves) == (True, True)


def test_a_restarted_data_plane_that_hangs_does_not_come_back() -> None:
    plane = serving_plane()
    plane.restart()
    assert not plane.hang(1_000).alive.is_open


def test_a_file_that_came_back_frozen_does_not_come_back() -> None:
    plane = serving_plane()
    plane.present = False
    plane.look()
    plane.present = True
    assert not plane.hang(1_000).alive.is_open


def test_hold_up_doubles_with_failures_and_is_forgiven() -> None:
    plane = serving_plane()
    for failures, looks in ((1, 10), (2, 20), (3, 40)):
        assert plane.hang(4).alive.failures == failures
        assert not plane.turn(looks - 1).alive.is_open
        assert plane.turn(1).alive.is_open
    plane.turn(LIMITS.hold_up_max // 50)
    assert plane.hang(4).alive.failures == 1


def test_hold_up_has_a_limit() -> None:
    assert [hold_up(n, LIMITS) for n in (0, 1, 2, 5, 6, 10_000)] == [0, 500, 1000, 8000, 10_000, 10_000]


@pytest.mark.parametrize(
    ("flags", "reason"), [(0, "no tables loaded"), (FLAG_TABLES, "nowhere to send new connections")]
)
def test_alive_without_tables_or_targets_is_not_serving(flags: int, reason: str) -> None:
    plane = Plane(flags)
    plane.look()
    state = plane.turn()
    assert (state.alive.is_open, state.serves, state.reason) == (True, False, reason)


def test_losing_all_targets_closes_only_the_serving_gate() -> None:
    plane = serving_plane()
    plane.beat = replace(plane.beat, flags=FLAG_TABLES)
    state = plane.turn()
    assert (state.alive.is_open, state.serves) == (True, False)
    plane.beat = replace(plane.beat, flags=SERVING)
    assert not plane.turn(9).serves
    assert plane.turn().serves
    assert plane.state.alive.failures == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5_000)), max_size=60))
def test_a_gate_is_never_open_after_a_bad_look(looks: list[tuple[bool, int]]) -> None:
    gate = Gate()
    for good, elapsed in looks:
        before = gate
        gate = step_gate(gate, good, elapsed, LIMITS)
        assert good or not gate.is_open
        assert gate.failures == before.failures + (before.is_open and not good) or gate.failures == 0
        if gate.is_open and not before.is_open:
            assert before.steady + elapsed >= hold_up(before.failures, LIMITS)


@given(st.lists(st.sampled_from(["turn", "hang", "gone", "restart", "missing"]), max_size=40))
def test_vips_are_announced_only_by_a_living_data_plane(events: list[str]) -> None:
    plane = Plane()
    for event in events:
        if event == "turn":
            plane.turn()
        elif event == "hang":
            plane.hang(1)
        elif event == "restart":
            plane.restart()
            plane.look()
        else:
            plane.gone = event == "gone"
            plane.present = event != "missing"
            plane.look()
        state = plane.state
        assert not state.serves or (state.alive.is_open and plane.present and not plane.gone)
        assert not state.decided or state.silent < LIMITS.stall or not state.alive.is_open
