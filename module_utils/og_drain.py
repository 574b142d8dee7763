# SPDX-License-Identifier: Apache-2.0
"""Draining members of a site: what is to be written, what is still going on, when it is over. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

AGENT, ROUTER, HASHER, SITE = "agent", "router", "hasher", "site"
KINDS = (AGENT, ROUTER, HASHER, SITE)

CLIENT_VERDICTS = {
    HASHER: ("steered", "steered_icmp"),
    ROUTER: (
        "pinned", "half_open_hit", "promoted", "offered", "offered_pinned", "offered_udp",
        "hunt_1", "hunt_2", "hunt_3", "hunt_4",
        "returned_half_open", "returned_pin", "returned", "returned_no_pin", "returned_onward",
    ),
}  # fmt: skip
"""Verdicts (native/lib/og_verdict.h) of packets that belong to clients' flows; probes and drops do not."""

STATUS_MAX_AGE_S = 10.0
MISSES_MAX = 5  # looks in a row that may fail while one waits
PROGRESS_EVERY_S = 10.0


class DrainError(Exception):
    """The state cannot be read or written. The text says of what, and where to look."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to write: a member is marked as drained, or its mark is taken away."""

    name: str
    drain: bool

    def __str__(self) -> str:
        return f"{'drain' if self.drain else 'restore'} {self.name}"


@dataclass(frozen=True, slots=True)
class Load:
    """What is still going on, as a number of `unit`."""

    left: int
    unit: str

    def __str__(self) -> str:
        return f"{self.left} {self.unit}"


def plan(names: Iterable[str], drained: Iterable[str], *, drain: bool) -> list[Step]:
    """Return what to write so that every one of `names` is drained, or none; nothing for those that are as wanted."""
    there = set(drained)
    return [Step(name, drain) for name in sorted(set(names)) if (name in there) is not drain]


def apply(steps: Iterable[Step], drained: Iterable[str]) -> set[str]:
    """Return who is drained after the steps."""
    after = set(drained)
    for step in steps:
        (after.add if step.drain else after.discard)(step.name)
    return after


def agent_load(status: Mapping[str, Any], now_s: float) -> Load:
    """Return the open connections of an application host, from its agent's status file. Raises DrainError."""
    try:
        age = now_s - float(status["time"])
        left = sum(int(service["connections"]) for service in status["services"].values())
    except (KeyError, TypeError, ValueError) as error:
        raise DrainError(f"not an agent's status: {error!r}") from error
    if age > STATUS_MAX_AGE_S:
        raise DrainError(f"the agent's status is {age:.0f} s old: is og-agent running?")
    return Load(left, "connections")


def member_load(members: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> Load:
    """Return the open connections of a site's servers, as a router's probes know them. Raises DrainError."""
    found = {str(member.get("name")): member for member in members.values() if member.get("kind") == AGENT}
    missing = sorted(set(names) - set(found))
    if missing:
        raise DrainError(f"this router knows no server {', '.join(missing)}")
    return Load(sum(int(found[name].get("connections", 0)) for name in set(names)), "connections")


def packet_load(kind: str, before: Mapping[str, int], after: Mapping[str, int]) -> Load:
    """Return the clients' packets a gateway node has handled between two readings of its counters."""
    packets = sum(int(after.get(name, 0)) - int(before.get(name, 0)) for name in CLIENT_VERDICTS[kind])
    return Load(max(packets, 0), "packets of clients since the last look")


@dataclass
class Watch:
    """Waits for quiet: the load must be 0 without a break for `settle_s`, before `timeout_s` has passed."""

    settle_s: float
    timeout_s: float
    progress: list[dict[str, Any]] = field(default_factory=list)
    last: Load | None = None
    _quiet_since: float | None = None

    def see(self, load: Load, elapsed_s: float) -> bool | None:
        """Take one sample, `elapsed_s` seconds after the start. True: idle; False: out of time; None: go on."""
        self.last = load
        late = elapsed_s >= self.timeout_s
        if not self.progress or elapsed_s - self.progress[-1]["after_s"] >= PROGRESS_EVERY_S or late or not load.left:
            self._note(load, elapsed_s)
        if load.left:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = elapsed_s
        if self._quiet_since is not None and elapsed_s - self._quiet_since >= self.settle_s:
            return True
        return False if late else None

    def miss(self, elapsed_s: float) -> bool | None:
        """Take note that a look has failed: what was not seen was not quiet. False: out of time; None: go on."""
        self._quiet_since = None
        return False if elapsed_s >= self.timeout_s else None

    def _note(self, load: Load, elapsed_s: float) -> None:
        if self.progress and self.progress[-1]["left"] == load.left == 0:
            return
        self.progress.append({"after_s": round(elapsed_s, 1), "left": load.left, "unit": load.unit})


def wait(watch: Watch, look: Callable[[], Load], clock: Callable[[], float], sleep: Callable[[float], object]) -> bool:
    """Look once per second until idle or out of time; say which. Raises DrainError when too many looks fail."""
    start, misses = clock(), 0
    while True:
        try:
            verdict, misses = watch.see(look(), clock() - start), 0
        except DrainError as error:
            verdict, misses = watch.miss(clock() - start), misses + 1
            if misses > MISSES_MAX or verdict is False:
                raise DrainError(f"{error} ({misses} looks in a row have failed)") from error
        if verdict is not None:
            return verdict
        sleep(1.0)


def check_name(name: str) -> None:
    """Raise DrainError for what cannot be the name of a node or site."""
    if not name or "/" in name or name.split() != [name] or not name.isprintable():
        raise DrainError(f"{name!r} is not the name of a node or site")


def check_seconds(name: str, value: int) -> None:
    """Raise DrainError for what is no time to wait."""
    if value < 0:
        raise DrainError(f"{name}: {value} is less than 0; nothing was changed")


def told(written: Sequence[Step], unsure: Sequence[Step], rest: Sequence[Step]) -> str:
    """Return in words how far the writing came; who is not named was as wanted before."""
    parts = (("done", written), ("not known whether done", unsure), ("not done", rest))
    return "; ".join(f"{word}: {', '.join(map(str, steps))}" for word, steps in parts if steps)


def names_of(kind: str, name: str, members: Sequence[str] | None) -> list[str]:
    """Return whose marks are to be written. Raises DrainError."""
    if kind != SITE:
        return [name]
    if not members:
        raise DrainError("members: a site is drained by draining its servers; name them")
    return list(members)
