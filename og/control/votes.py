# SPDX-License-Identifier: Apache-2.0
"""What to believe of a look at Consul: earlier state and view to new state. Pure.

A vote is up, down or unknown, and unknown never counts: the last word stays. Unknown is
- a service that could not be asked;
- an answer without a single member of a service that had some: a server that lost its data says so, or one that has
  just started, and an operator who means it drains them or takes the service away;
- "lost" (gossip alone) when Consul also lost this node, which is alive, or more than half of the service at once: then
  Consul is cut off, not they. The data plane's own probes see those that are gone.
A member that is no longer listed keeps its weight for `vanish_s` (its Consul agent restarts), then gets no new flows,
and is forgotten after `forget_s`; until then its pins stay valid.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from og.control.config import MAX_MEMBERS, Config, parse_locator
from og.control.state import Group, Member, Standing, State
from og.control.view import HASHER_SERVICE, ROUTER_SERVICE, Health, Instance, View
from og.policy.schema import DEFAULT_UNIT, MAX_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from og.policy.check import Policy


@dataclass(frozen=True)
class Outcome:
    """The new state, and what was not believed and why, for the log and `ogctl status`."""

    state: State
    notes: tuple[str, ...]


def count_votes(config: Config, policy: Policy, view: View, state: State, now: float) -> Outcome:
    """Apply one look at Consul. `now` is in seconds since the epoch."""
    notes: list[str] = []
    doubted = _lost_ourselves(config, view)
    routers = _Ballot("router", config, state.routers, now, notes)
    agents = _Ballot("agent", config, state.agents, now, notes)
    for site in config.sites:
        routers.hear(site, ROUTER_SERVICE, _ask(view, site, ROUTER_SERVICE), site in doubted)
        for service in config.service_names:
            answer = _ask(view, site, policy.service(service).members)
            agents.hear(site, service, answer, site in doubted)
    new = replace(
        state,
        routers=routers.close((ROUTER_SERVICE,), policy.thresholds.forget_s),
        agents=agents.close(config.service_names, policy.thresholds.forget_s),
        drains={**state.drains, **view.drains},
    )
    return Outcome(new, tuple(notes))


def _ask(view: View, site: str, service: str) -> tuple[Instance, ...] | None:
    return view.services.get((site, service))


def _lost_ourselves(config: Config, view: View) -> frozenset[str]:
    """Sites whose Consul has lost this very node."""
    return frozenset(
        site
        for (site, service), instances in view.services.items()
        if service in (ROUTER_SERVICE, HASHER_SERVICE) and site == config.site
        for instance in instances
        if instance.node == config.node and instance.health is Health.LOST
    )


class _Ballot:
    """The members of one kind while votes come in."""

    def __init__(self, kind: str, config: Config, group: Group, now: float, notes: list[str]) -> None:
        self._kind = kind
        self._config = config
        self._now = now
        self._notes = notes
        self._members = dict(group.members)
        self._retired = dict(group.retired)
        self._routers = {gateway.name: gateway for gateway in config.gateways if gateway.role == "router"}
        self._taken = {gateway.locator for gateway in config.gateways}
        self._domain = [ipaddress.IPv6Network(prefix) for prefix in config.sr_domain]

    def hear(self, site: str, service: str, answer: tuple[Instance, ...] | None, doubted: bool) -> None:
        """Take the answer about one service of one site; None = it could not be asked."""
        if answer is None:
            return
        listed = {
            name
            for name, member in self._members.items()
            if member.site == site and service in member.standings and member.standings[service].gone_at is None
        }
        if listed and not answer:
            self._notes.append(f"{site}/{service}: Consul knows none of {len(listed)} members: not believed")
            return
        lost = sum(instance.health is Health.LOST for instance in answer)
        doubted = doubted or (lost > 1 and 2 * lost > len(answer))
        if doubted and lost:
            self._notes.append(f"{site}/{service}: Consul lost {lost} of {len(answer)} nodes: not believed")
        for instance in sorted(answer, key=lambda instance: instance.node):
            self._vote(site, service, instance, doubted)
        for name in listed - {instance.node for instance in answer}:
            self._mark_gone(name, service)

    def close(self, services: Collection[str], forget_s: float) -> Group:
        """Forget who is gone for too long and services that are no more."""
        for name, member in list(self._members.items()):
            standings = {
                service: standing
                for service, standing in member.standings.items()
                if service in services and not _is_over(standing, forget_s, self._now)
            }
            if standings:
                self._members[name] = replace(member, standings=standings)
            else:
                self._retire(name)
        return Group(self._members, self._retired)

    def _vote(self, site: str, service: str, instance: Instance, doubted: bool) -> None:
        where = f"{site}/{service}/{instance.node}"
        known = self._members.get(instance.node)
        if known is not None and known.site != site:
            self._notes.append(f"{where}: there is a {self._kind} of this name at {known.site}: left out")
            return
        try:
            locator = self._check_locator(instance)
        except ValueError as error:
            self._notes.append(f"{where}: locator: {error}: left out")
            return
        member = self._admit(site, instance.node, locator)
        if member is None:
            self._notes.append(f"{where}: there are {MAX_MEMBERS} {self._kind}s already: left out")
            return
        before = member.standings.get(service)
        health, reason = instance.health, instance.reason
        if doubted and health is Health.LOST:
            health, reason = (before.health, before.reason) if before else (Health.UP, "")
        standing = Standing(
            health,
            reason,
            weight=self._number(where, "weight", instance.weight, MAX_WEIGHT),
            capacity=self._number(where, "capacity", instance.capacity, None),
            capacity_unit=instance.capacity_unit or DEFAULT_UNIT,
        )
        self._members[member.name] = replace(member, standings={**member.standings, service: standing})

    def _check_locator(self, instance: Instance) -> str:
        locator = parse_locator(instance.locator)
        if self._kind == "router":
            gateway = self._routers.get(instance.node)
            if gateway is None:
                raise ValueError("the inventory has no router of this name")
            if gateway.locator != locator:
                raise ValueError(f"{locator} is not the inventory's {gateway.locator}")
        else:
            if locator in self._taken:
                raise ValueError(f"{locator} is a gateway's")
            if not any(ipaddress.IPv6Address(locator) in prefix for prefix in self._domain):
                raise ValueError(f"{locator} is outside the SR domain")
        for member in self._members.values():
            if member.locator == locator and member.name != instance.node:
                raise ValueError(f"{locator} is that of {member.name}")
        return locator

    def _admit(self, site: str, name: str, locator: str) -> Member | None:
        """Return the member, made new if need be. With another locator it is another member: older pins are void."""
        known = self._members.get(name)
        if known is None:
            number = self._free_id(f"{self._kind}/{site}/{name}")
            if number is None:
                return None
            used = self._retired.pop(number, None)
            generation = 0 if used is None else (used + 1) & 0xFFFF
            return Member(name, site, locator, number, generation, {})
        if known.locator != locator:
            return replace(known, locator=locator, generation=(known.generation + 1) & 0xFFFF)
        return known

    def _free_id(self, key: str) -> int | None:
        """Find a free id near the name's hash, so that nodes that learn of members in another order agree on ids."""
        taken = {member.id for member in self._members.values()}
        if len(taken) >= MAX_MEMBERS and not self._retire_oldest():
            return None
        taken = {member.id for member in self._members.values()}
        number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) % MAX_MEMBERS
        while number in taken:
            number = (number + 1) % MAX_MEMBERS
        return number

    def _retire_oldest(self) -> bool:
        gone = {name: since for name, member in self._members.items() if (since := _gone_since(member)) is not None}
        if not gone:
            return False
        self._retire(min(gone, key=lambda name: gone[name]))
        return True

    def _retire(self, name: str) -> None:
        member = self._members.pop(name)
        self._retired[member.id] = member.generation

    def _mark_gone(self, name: str, service: str) -> None:
        member = self._members[name]
        standing = replace(member.standings[service], gone_at=self._now)
        self._members[name] = replace(member, standings={**member.standings, service: standing})

    def _number(self, where: str, what: str, text: str | None, maximum: int | None) -> int | None:
        if text is None or text == "":
            return None
        if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 16):
            self._notes.append(f"{where}: {what} is not a number: {text!r}: ignored")
            return None
        return int(text) if maximum is None else min(int(text), maximum)


def _is_over(standing: Standing, forget_s: float, now: float) -> bool:
    return standing.gone_at is not None and now - standing.gone_at >= forget_s


def _gone_since(member: Member) -> float | None:
    """When the last service of a member went; None while one is listed."""
    times = [standing.gone_at for standing in member.standings.values()]
    return max((t for t in times if t is not None), default=None) if None not in times else None


def next_change(state: State, policy: Policy, now: float) -> float | None:
    """Return the next moment at which time alone changes the tables: somebody vanishes or is forgotten."""
    limits = (policy.thresholds.vanish_s, policy.thresholds.forget_s)
    moments = (
        standing.gone_at + limit
        for standing in _standings((state.routers, state.agents))
        if standing.gone_at is not None
        for limit in limits
    )
    return min((moment for moment in moments if moment > now), default=None)


def _standings(groups: Iterable[Group]) -> Iterable[Standing]:
    return (s for group in groups for member in group.members.values() for s in member.standings.values())


def settle_clock(state: State, now: float) -> State:
    """Bring moments that lie in the future (the clock was set back) to now, so that nobody is kept for ever."""

    def standing(value: Standing) -> Standing:
        return replace(value, gone_at=now) if value.gone_at is not None and value.gone_at > now else value

    def group(value: Group) -> Group:
        members: Mapping[str, Member] = {
            name: replace(m, standings={service: standing(s) for service, s in m.standings.items()})
            for name, m in value.members.items()
        }
        return replace(value, members=members)

    return replace(state, routers=group(state.routers), agents=group(state.agents))
