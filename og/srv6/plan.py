# SPDX-License-Identifier: Apache-2.0
"""From observed routes to wanted ones. `plan` is a pure function; check mode, diff and the real run all use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .route import Route, RouteError, check, describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Observed:
    """A route of the kernel and its protocol; `hops` above 1: a multipath route, whose next hops are not told apart."""

    route: Route
    protocol: int
    hops: int = 1


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the route."""

    old: Observed


@dataclass(frozen=True, slots=True)
class Put:
    """Add the route, or put it in the place of `old` in one step; `beside`: though there is another at its place."""

    route: Route
    old: Observed | None = None
    beside: bool = False


Action = Delete | Put


def _is(found: Observed, wanted: Route) -> bool:
    return found.hops == 1 and found.route == wanted


def _at(observed: Iterable[Observed], route: Route, protocol: int) -> list[Observed]:
    """Return our routes with this key; one of somebody else at the same place is an error."""
    there = [found for found in observed if found.route.key == route.key]
    for found in there:
        if found.protocol != protocol:
            raise RouteError(
                f"{route}: taken by a route of protocol {found.protocol}, which is not ours ({protocol}). "
                "Remove it or choose another metric or table; nothing was changed"
            )
    return there


def plan(wanted: Sequence[Route], observed: Sequence[Observed], protocol: int, *, purge: bool = False) -> list[Action]:
    """Return the steps after which every wanted route is there, and with `purge` no other of our protocol."""
    check(wanted)
    removals: list[Action] = []
    puts: list[Action] = []
    for route in wanted:
        there = _at(observed, route, protocol)
        keep = next((found for found in there if _is(found, route)), None) or (there[0] if there else None)
        removals += [Delete(found) for found in there if found is not keep]
        if keep is None or not _is(keep, route):
            puts.append(Put(route, keep))
    return [*removals, *puts, *(_strangers(wanted, observed, protocol) if purge else [])]


def plan_absent(
    unwanted: Sequence[Route], observed: Sequence[Observed], protocol: int, *, purge: bool = False
) -> list[Action]:
    """Return the steps after which none of our routes has an unwanted key, or with `purge` none is left at all."""
    check(unwanted)
    keys = {route.key for route in unwanted}
    return [Delete(found) for found in observed if found.protocol == protocol and (purge or found.route.key in keys)]


def _strangers(wanted: Sequence[Route], observed: Sequence[Observed], protocol: int) -> list[Action]:
    keys = {route.key for route in wanted}
    return [Delete(found) for found in observed if found.protocol == protocol and found.route.key not in keys]


def apply(actions: Iterable[Action], observed: Sequence[Observed], protocol: int) -> list[Observed]:
    """Return what is there after `actions`: what check mode and the diff show, and what the kernel is held to."""
    after = list(observed)
    for action in actions:
        match action:
            case Delete(old):
                after.remove(old)
            case Put(route, old):
                if old is not None:
                    after.remove(old)
                after.append(Observed(route, protocol))
    return after


def undo(action: Action) -> Action | None:
    """Return the step that takes `action` back; None for a multipath route, whose next hops are not known."""
    match action:
        case Put(route, None, _):
            return Delete(Observed(route, 0))
        case Put(route, old) if old is not None and old.hops == 1:
            return Put(old.route, Observed(route, 0))
        case Delete(old) if old.hops == 1:
            return Put(old.route, beside=True)
    return None


def say(action: Action) -> str:
    """Return one step in words."""
    match action:
        case Delete(old):
            return f"delete {old.route}"
        case Put(route, None, _):
            return f"add {route}"
        case Put(route):
            return f"replace {route}"
    raise AssertionError(action)


def show(wanted: Sequence[Route], observed: Iterable[Observed], protocol: int) -> list[dict[str, Any]]:
    """Return our routes and what stands at the wanted places, sorted, for a diff."""
    keys = {route.key for route in wanted}
    shown = [found for found in observed if found.protocol == protocol or found.route.key in keys]
    return [word(found) for found in sorted(shown, key=lambda found: (found.route.key, str(found.route.body)))]


def word(found: Observed) -> dict[str, Any]:
    """Return an observed route in the words of the module's options, and its protocol."""
    more = {"hops": found.hops} if found.hops > 1 else {}
    return describe(found.route) | {"protocol": found.protocol} | more
