# SPDX-License-Identifier: Apache-2.0
"""What a data plane's heartbeats mean: a pure state machine in simulated or real milliseconds.

Two gates. *Alive* is open while the poll loop makes progress: the node's locator is announced. *Serving* is open while
it is alive, has tables and somewhere to send connections: a hasher's VIPs are announced. A gate closes on the first bad
observation and opens again only after a time without one, which doubles with every failure, so that a data plane that
crashes in a loop does not flap routes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from og.health.heartbeat import Beat

BACKOFF_STEPS_MAX = 16  # 2^16 times any hold-up is above every sensible limit; keeps the shift small


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in milliseconds.

    `stall` without progress is a failure. A gate that failed n times in a row stays closed for `hold_up` * 2^(n-1), at
    most `hold_up_max`; `hold_up_max` without a failure forgives all of them.
    """

    poll: int = 50
    stall: int = 200
    hold_up: int = 500
    hold_up_max: int = 10_000


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen in one turn.

    `elapsed` is the time since the last turn in milliseconds. `beat` is None if there is no usable heartbeat, `missing`
    then says why. `process_gone` is true if the process that wrote it has ended.
    """

    elapsed: int
    beat: Beat | None
    missing: str = ""
    process_gone: bool = False


@dataclass(frozen=True, slots=True)
class Gate:
    """`steady` is how long what the gate shows has been true: open without a failure, or good but still closed."""

    is_open: bool = False
    failures: int = 0
    steady: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """What is known.

    `decided` is false until the first progress or the first failure: what is announced is left as it is until then, so
    that a restart of the health daemon itself moves no traffic.
    """

    decided: bool = False
    last: Beat | None = None
    silent: int = 0
    alive: Gate = field(default_factory=Gate)
    serving: Gate = field(default_factory=Gate)
    reason: str = "starting"

    @property
    def serves(self) -> bool:
        """Tell whether VIPs may be announced."""
        return self.alive.is_open and self.serving.is_open


def hold_up(failures: int, limits: Limits) -> int:
    """Return how long a gate must see good, after this many failures in a row, before it opens, in milliseconds."""
    if failures == 0:
        return 0
    return min(limits.hold_up << min(failures - 1, BACKOFF_STEPS_MAX), limits.hold_up_max)


def step_gate(gate: Gate, good: bool, elapsed: int, limits: Limits) -> Gate:
    """Return the gate after one turn."""
    if not good:
        return Gate(failures=gate.failures + 1) if gate.is_open else replace(gate, steady=0)
    steady = gate.steady + elapsed
    if gate.is_open:
        return Gate(is_open=True, failures=0 if steady >= limits.hold_up_max else gate.failures, steady=steady)
    if steady >= hold_up(gate.failures, limits):
        return Gate(is_open=True, failures=gate.failures)
    return replace(gate, steady=steady)


def _progress(state: State, seen: Observation, limits: Limits) -> tuple[int, str | None]:
    """Return (milliseconds of silence, why the loop makes no progress or None if it may)."""
    beat, last = seen.beat, state.last
    if beat is None:
        return limits.stall, seen.missing or "no heartbeat"
    if seen.process_gone:
        return limits.stall, f"process {beat.pid} has ended"
    if last is not None and (beat.incarnation, beat.pid) != (last.incarnation, last.pid):
        return limits.stall, "data plane was restarted"
    if last is not None and beat.loops != last.loops:
        return 0, None
    # A turn of ours that came late says nothing about the data plane: on a busy machine it was held up as we were.
    silent = state.silent + min(seen.elapsed, 2 * limits.poll)
    return silent, f"no progress for {silent} ms" if silent >= limits.stall else None


def _not_serving(beat: Beat) -> str | None:
    if not beat.tables_loaded:
        return "no tables loaded"
    if not beat.can_serve:
        return "nowhere to send new connections"
    return None


def _waiting(what: str, gate: Gate, limits: Limits) -> str:
    return f"{what} again, {hold_up(gate.failures, limits) - gate.steady} ms until it counts"


def step(state: State, seen: Observation, limits: Limits) -> State:
    """Return the state after one more observation."""
    silent, dead = _progress(state, seen, limits)
    grew = seen.beat is not None and state.last is not None and seen.beat.loops != state.last.loops
    if not state.decided and dead is None and not grew:
        return replace(state, last=seen.beat, silent=silent)
    idle = dead if dead is not None or seen.beat is None else _not_serving(seen.beat)
    alive = step_gate(state.alive, dead is None, seen.elapsed, limits)
    serving = step_gate(state.serving, idle is None, seen.elapsed, limits)
    if dead is not None:
        reason = dead
    elif not alive.is_open:
        reason = _waiting("progress", alive, limits)
    elif idle is not None:
        reason = idle
    elif not serving.is_open:
        reason = _waiting("serving", serving, limits)
    else:
        reason = "serving"
    return State(decided=True, last=seen.beat, silent=silent, alive=alive, serving=serving, reason=reason)
