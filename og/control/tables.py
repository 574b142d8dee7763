# SPDX-License-Identifier: Apache-2.0
"""State and policy to the table document of docs/interfaces.md. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from og.control.history import Log, Logs, adopt, advance, document_entries, membership
from og.control.view import ROUTER_SERVICE, Health
from og.policy.schema import DEFAULT_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from og.control.config import Config, Service
    from og.control.state import Group, Member, Standing, State
    from og.policy.check import Policy

FORMAT = 1
IDLE_S = {"tcp": 8000, "udp": 30}  # of pins, where the policy names none

Document = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """Why a member has the weight it has, for `ogctl status`."""

    name: str
    kind: str
    site: str
    weight: int
    reason: str


@dataclass(frozen=True)
class Tables:
    """A document without `generation` and `digest`, its digest, and the reasons."""

    body: Document
    digest: str
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    capacity: Mapping[str, tuple[int, int]]  # by service: of usable members of the own site, and of all
    logs: Logs  # membership logs, with today's membership


@dataclass(frozen=True)
class Seen:
    """What counts beside the state: members the data plane suspects, the log in Consul, whether this node writes it."""

    suspect: frozenset[str] = frozenset()
    written: Logs | None = None
    writer: bool = False


def build_tables(config: Config, policy: Policy, state: State, now: float, seen: Seen | None = None) -> Tables:
    """Make the document. The same configuration, policy and state give the same one, byte by byte."""
    seen = seen or Seen()
    judge = _Judge(policy, state, now, seen.suspect if config.role == "router" else frozenset())
    routers = [judge.router(member) for member in _sorted(state.routers)]
    agents = [judge.agent(member) for member in _sorted(state.agents)] if config.role == "router" else []
    body: Document = {
        "format": FORMAT,
        "flow_seed": config.flow_seed,
        "own_site": config.site,
        "sites": list(config.sites),
        "slots": config.slots,
        "sr_domain": list(config.sr_domain),
        "services": [
            _service(service, policy) for service in sorted(config.services, key=lambda service: service.index)
        ],
        "routers": routers,
        "agents": agents,
        "gateways": sorted(gateway.locator for gateway in config.gateways),
    }
    logs = _logs(state, body, now, seen) if config.role == "router" else {}
    additions = {"history": document_entries(logs, body), "spill": _spill(config, policy)}
    if config.role == "router":
        body |= {key: value for key, value in additions.items() if value or (key == "spill" and value is not None)}
    capacity = _capacity(config, policy, state.agents, judge)
    return Tables(body, digest_of(body), tuple(judge.verdicts), tuple(judge.notes), capacity, logs)


def _logs(state: State, body: Document, now: float, seen: Seen) -> dict[str, Log]:
    """Bring the membership logs up to date: as old as a pin may grow."""
    logs = {}
    for service in body["services"]:
        name = service["name"]
        log = state.logs.get(name, Log())
        if seen.written is not None and name in seen.written:
            log = adopt(log, seen.written[name], seen.writer)
        logs[name] = advance(log, membership(body, name), now, service["idle_s"])
    return logs


def _spill(config: Config, policy: Policy) -> list[dict[str, str]] | None:
    """Return which service may go to which site, in order; None = each to every other, the data plane's own default."""
    if all(policy.service(name).spill.sites is None for name in config.service_names):
        return None
    entries = []
    for service in sorted(config.services, key=lambda service: service.index):
        wanted = policy.service(service.name).spill.sites
        sites = config.sites if wanted is None else wanted
        entries += [
            {"service": service.name, "site": site} for site in sites if site in config.sites and site != config.site
        ]
    return entries


def digest_of(document: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON (sorted keys, no spaces, ASCII) of a document without generation and digest."""
    body = {key: value for key, value in document.items() if key not in ("generation", "digest")}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def complete(tables: Tables, generation: int) -> Document:
    """Return the document as the data plane gets it."""
    return {**tables.body, "generation": generation, "digest": tables.digest}


def _sorted(group: Group) -> list[Member]:
    return sorted(group.members.values(), key=lambda member: (member.site, member.name))


def _service(service: Service, policy: Policy) -> dict[str, Any]:
    timeouts = policy.service(service.name).timeouts
    return {
        "index": service.index,
        "name": service.name,
        "vip": service.vip,
        "protocol": service.protocol,
        "port": service.port,
        "udp_pins": service.udp_pins,
        "idle_s": timeouts.idle_s or IDLE_S[service.protocol],
        "closing_s": timeouts.closing_s,
        "half_open_s": timeouts.half_open_s,
    }


class _Judge:
    """Weights of members, with the reasons."""

    def __init__(self, policy: Policy, state: State, now: float, suspect: frozenset[str]) -> None:
        self._policy = policy
        self._state = state
        self._now = now
        self._suspect = suspect
        self.verdicts: list[Verdict] = []
        self.notes: list[str] = []
        self._panics: dict[tuple[str, str], bool] = {}

    def router(self, member: Member) -> dict[str, Any]:
        """Return the document's entry of a router."""
        standing = member.standings[ROUTER_SERVICE]
        reason = self.obstacle(self._state.routers, member, ROUTER_SERVICE)
        base = self._policy.router_weights.get(member.name, standing.weight)
        weight = 0 if reason else DEFAULT_WEIGHT if base is None else base
        return self._entry("router", member, weight, reason)

    def agent(self, member: Member) -> dict[str, Any]:
        """Return the document's entry of an agent. One that is down for a service but not for all keeps its weight."""
        obstacles = {name: self.obstacle(self._state.agents, member, name) for name in sorted(member.standings)}
        usable = [name for name, obstacle in obstacles.items() if not obstacle]
        weights = {name: self._agent_weight(member, name) for name in usable}
        if len(set(weights.values())) > 1:
            self.notes.append(f"{member.name}: its services have different weights, the least counts: {weights}")
        reason = "" if usable else "; ".join(sorted(set(obstacles.values())))
        entry = self._entry("agent", member, min(weights.values(), default=0), reason)
        return {**entry, "services": usable or sorted(member.standings)}

    def obstacle(self, group: Group, member: Member, service: str) -> str:
        """Say why a member gets no new flows of a service; empty = it gets them."""
        if member.name in self._policy.drain:
            return "drained by policy"
        if member.name in self._state.drains.get(member.site, ()):
            return "drained in Consul"
        standing = member.standings[service]
        if standing.gone_at is not None and self._now - standing.gone_at >= self._policy.thresholds.vanish_s:
            return f"left Consul: {service}"
        if standing.health is Health.MAINTENANCE:
            return f"maintenance: {standing.reason}"
        if standing.health is not Health.UP and not self._panic(group, member.site, service):
            return f"{standing.health}: {standing.reason}"
        return ""

    def _panic(self, group: Group, site: str, service: str) -> bool:
        """Decide whether too few of a service's members at a site are healthy to believe it."""
        if (site, service) not in self._panics:
            thresholds = self._policy.thresholds
            limit = thresholds.router_panic if service == ROUTER_SERVICE else thresholds.panic
            asked = [
                standing.health
                for member in group.members.values()
                if member.site == site and (standing := self._candidate(member, service)) is not None
            ]
            healthy = asked.count(Health.UP)
            panic = healthy < limit * len(asked)
            if panic:
                self.notes.append(f"{site}/{service}: {healthy} of {len(asked)} healthy, below the threshold: all used")
            self._panics[(site, service)] = panic
        return self._panics[(site, service)]

    def _candidate(self, member: Member, service: str) -> Standing | None:
        """Return the standing of a member that is there and not taken out by an operator."""
        standing = member.standings.get(service)
        drained = member.name in self._policy.drain or member.name in self._state.drains.get(member.site, ())
        if standing is None or drained or standing.gone_at is not None or standing.health is Health.MAINTENANCE:
            return None
        return standing

    def _agent_weight(self, member: Member, service: str) -> int:
        policy = self._policy.service(service)
        registered = member.standings[service].weight
        return policy.weights.get(member.name, policy.weight if registered is None else registered)

    def _entry(self, kind: str, member: Member, weight: int, reason: str) -> dict[str, Any]:
        self.verdicts.append(Verdict(member.name, kind, member.site, weight, reason or ("" if weight else "weight 0")))
        entry: dict[str, Any] = {
            "id": member.id,
            "name": member.name,
            "site": member.site,
            "locator": member.locator,
            "weight": weight,
            "generation": member.generation,
        }
        # Two witnesses: neither our probes nor gossip reach it.
        lost = all(standing.health is Health.LOST for standing in member.standings.values())
        return {**entry, "dead": True} if lost and member.name in self._suspect else entry


def capacity_of(policy: Policy, member: Member, service: str) -> int | None:
    """What a member can carry of a service, in the unit of the policy; None = nobody said."""
    entry, standing = policy.service(service), member.standings[service]
    registered = standing.capacity if standing.capacity_unit == entry.capacity_unit else None
    return entry.capacities.get(member.name, entry.capacity if registered is None else registered)


def _capacity(config: Config, policy: Policy, agents: Group, judge: _Judge) -> dict[str, tuple[int, int]]:
    """Capacity of each service at the own site, in the unit of the policy: of usable members, and of all."""
    result = {}
    for name in config.service_names:
        usable = total = 0
        for member in agents.members.values():
            standing = member.standings.get(name)
            if standing is None or member.site != config.site:
                continue
            amount = capacity_of(policy, member, name) or 0
            total += amount
            usable += 0 if judge.obstacle(agents, member, name) else amount
        result[name] = (usable, total)
    return result
