# SPDX-License-Identifier: Apache-2.0
"""From observed routes to wanted ones. `plan` is a pure function; check mode, diff and the real run all use it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .route import Route, RouteError, check, describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Observed:
    """A route of the kernel and its protocol.

    `hops` above 1: a multipath route, whose next hops are not told apart. `selector`: what chooses packets besides the
    destination (`from PREFIX`, `tos N`); such a route is at a place of its own. `beyond`: what it has that `Route` has
    no word for. `message`: as it was seen, by which it is taken away and put back.
    """

    route: Route
    protocol: int
    hops: int = 1
    selector: str = ""
    beyond: tuple[str, ...] = ()
    message: Any = field(default=None, compare=False, repr=False)


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


@dataclass(frozen=True, slots=True)
class Restore:
    """Put back a route that was seen, beside others at its place or `instead` of the one there."""

    old: Observed
    instead: bool


Action = Delete | Put | Restore


def _is(found: Observed, wanted: Route) -> bool:
    return found.hops == 1 and not found.beyond and found.route == wanted


def _at(observed: Iterable[Observed], route: Route, protocol: int) -> list[Observed]:
    """Return our routes with this key; one of somebody else at the same place is an error."""
    there = [found for found in observed if found.route.key == route.key and not found.selector]
    for found in there:
        if found.protocol != protocol:
            raise RouteError(
                f"{route}: taken by a route of protocol {found.protocol}, which is not ours ({protocol}). "
                "Remove it or choose another metric or table; nothing was changed"
            )
    return there


def _may_hit(deleted: Route, other: Route) -> bool:
    """Tell whether the kernel, asked to delete one, may take the other at the same place.

    IPv6 compares device and, where one is given, gateway; not the tunnel (ip6_route_del).
    """
    return deleted.device == other.device and deleted.gateway in ("", other.gateway)


def _kept(there: Sequence[Observed], wanted: Route) -> Observed | None:
    """Return the route that stays or is replaced: one that the removal of the others cannot hit."""
    safe = [
        found
        for found in there
        if not any(other is not found and _may_hit(other.route, found.route) for other in there)
    ]
    return next((found for found in safe if _is(found, wanted)), None) or (safe[0] if safe else None)


def _deletes(unwanted: Iterable[Observed]) -> list[Action]:
    """Return the removals; those without a gateway last, as they may hit the others."""
    return [Delete(found) for found in sorted(unwanted, key=lambda found: not found.route.gateway)]


def plan(wanted: Sequence[Route], observed: Sequence[Observed], protocol: int, *, purge: bool = False) -> list[Action]:
    """Return the steps after which every wanted route is there, and with `purge` no other of our protocol."""
    check(wanted)
    removals: list[Observed] = []
    puts: list[Action] = []
    for route in wanted:
        there = _at(observed, route, protocol)
        keep = _kept(there, route)
        removals += [found for found in there if found is not keep]
        if keep is None or not _is(keep, route):
            puts.append(Put(route, keep))
    return [*_deletes(removals), *puts, *(_strangers(wanted, observed, protocol) if purge else [])]


def plan_absent(
    unwanted: Sequence[Route], observed: Sequence[Observed], protocol: int, *, purge: bool = False
) -> list[Action]:
    """Return the steps after which none of our routes has an unwanted key, or with `purge` none is left at all."""
    check(unwanted)
    keys = {route.key for route in unwanted}
    ours = [found for found in observed if found.protocol == protocol]
    return _deletes(found for found in ours if purge or (found.route.key in keys and not found.selector))


def _strangers(wanted: Sequence[Route], observed: Sequence[Observed], protocol: int) -> list[Action]:
    keys = {route.key for route in wanted}
    ours = [found for found in observed if found.protocol == protocol]
    return _deletes(found for found in ours if found.selector or found.route.key not in keys)


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
            case Restore(old, instead):
                if instead:
                    after = [found for found in after if found.route.key != old.route.key or found.selector]
                after.append(old)
    return after


def undo(action: Action) -> Action:
    """Return the step that takes `action` back."""
    match action:
        case Put(route, None):
            return Delete(Observed(route, 0))
        case Put(_, old) if old is not None:
            return Restore(old, instead=True)
        case Delete(old):
            return Restore(old, instead=False)
    raise AssertionError(action)


def say(action: Action) -> str:
    """Return one step in words."""
    match action:
        case Delete(old):
            return f"delete {old.route}"
        case Put(route, None, _):
            return f"add {route}"
        case Put(route):
            return f"replace {route}"
        case Restore(old):
            return f"restore {old.route}"
    raise AssertionError(action)


def show(wanted: Sequence[Route], observed: Iterable[Observed], protocol: int) -> list[dict[str, Any]]:
    """Return our routes and what stands at the wanted places, sorted, for a diff."""
    keys = {route.key for route in wanted}
    shown = [found for found in observed if found.protocol == protocol or found.route.key in keys]
    return [word(found) for found in sorted(shown, key=lambda found: (found.route.key, str(found.route.body)))]


def word(found: Observed) -> dict[str, Any]:
    """Return an observed route in the words of the module's options, and its protocol."""
    more = {"hops": found.hops if found.hops > 1 else 0, "selector": found.selector, "beyond": list(found.beyond)}
    return describe(found.route) | {"protocol": found.protocol} | {name: value for name, value in more.items() if value}


def compare(expected: Sequence[Observed], found: Sequence[Observed], wanted: Sequence[Route], protocol: int) -> None:
    """Raise RouteError when what is there is not what was planned."""
    planned, there = show(wanted, expected, protocol), show(wanted, found, protocol)
    missing = [item for item in planned if item not in there]
    surplus = [item for item in there if item not in planned]
    if missing or surplus:
        raise RouteError(f"the kernel's routes differ from the plan. Missing: {missing}; not asked for: {surplus}")
