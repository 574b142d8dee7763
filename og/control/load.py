# SPDX-License-Identifier: Apache-2.0
"""Telemetry of the own data plane to the controller's samples: who carries how much of each service. Pure.

A member's load is that of all its services together: services that share servers are seen as one load.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from og.control.spill import Neighbour, Sample
from og.control.tables import capacity_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from og.control.config import Config, Service
    from og.control.spill import Memory
    from og.control.state import State
    from og.policy.check import Policy

FRESH_MISSES = 10  # probes go out every 100 ms: older than this is older than a second
SILENT_MISSES = 30  # what a silent router last said counts for so long

Report = dict[str, Any]  # one member of /og/members


@dataclass(frozen=True)
class Load:
    """What a member or a site carries."""

    connections: float = 0.0
    new_per_s: float = 0.0
    mbit_s: float = 0.0

    def __add__(self, other: Load) -> Load:
        return Load(self.connections + other.connections, self.new_per_s + other.new_per_s, self.mbit_s + other.mbit_s)

    def amount(self, unit: str) -> float:
        """Return it in a unit of capacity."""
        return float(getattr(self, unit))


@dataclass(frozen=True)
class Look:
    """All that one look needs. `reports`: /og/members by name; `own`: what this router itself sent to other sites."""

    config: Config
    policy: Policy
    state: State
    weights: Mapping[str, int]  # of members in the tables, by name
    reports: Mapping[str, Report]
    own: Load
    closed: frozenset[tuple[str, str]]  # site, service: gives all its new flows away itself


def load_of(report: Report) -> Load:
    """Return what a member says it carries."""
    return Load(
        float(report.get("connections", 0)),
        float(report.get("accepts_per_s", 0)),
        float(report.get("bytes_per_s", 0)) * 8 / 1e6,
    )


def take_samples(look: Look, memories: Mapping[str, Memory]) -> dict[str, Sample]:
    """Return one sample per service."""
    local = {service.name: list(_usable(look, service)) for service in look.config.services}
    loads = {name: sum((load_of(look.reports[agent]) for agent in agents), Load()) for name, agents in local.items()}
    sent = sum(_sent(look), look.own)
    parts = _parts(loads, memories)
    return {
        service.name: _sample(look, service, local[service.name], loads[service.name], _part(sent, parts[service.name]))
        for service in look.config.services
    }


def _usable(look: Look, service: Service) -> Iterator[str]:
    """Yield the own site's servers that take new flows of a service: Consul and their own answers agree."""
    for name, member in look.state.agents.members.items():
        report = look.reports.get(name)
        if member.site != look.config.site or service.name not in member.standings or report is None:
            continue
        answers = report.get("replied") and not report.get("suspect") and not report.get("draining")
        if answers and look.weights.get(name) and int(report.get("listeners", 0)) >> service.index & 1:
            yield name


def _sent(look: Look) -> Iterator[Load]:
    """Yield what the routers beside this one have sent to other sites; one silent for long counts no more."""
    for name, member in look.state.routers.members.items():
        report = look.reports.get(name)
        if member.site != look.config.site or name == look.config.node or report is None:
            continue
        if report.get("replied") and int(report.get("misses", 0)) < SILENT_MISSES:
            yield load_of(report)


def _parts(loads: Mapping[str, Load], memories: Mapping[str, Memory]) -> dict[str, float]:
    """Divide what was sent away between services, as their shares and loads let expect: routers report the sum."""
    weights = {}
    for name, load in loads.items():
        share = memories[name].total if name in memories else 0.0
        weights[name] = max(load.new_per_s, 1.0) * share / max(1 - share, 0.05)
    total = sum(weights.values())
    if not total:  # flows that were sent earlier
        return dict.fromkeys(loads, 1 / max(1, len(loads)))
    return {name: weight / total for name, weight in weights.items()}


def _part(load: Load, part: float) -> Load:
    return Load(load.connections * part, load.new_per_s * part, load.mbit_s * part)


def _sample(look: Look, service: Service, agents: list[str], local: Load, sent: Load) -> Sample:
    unit = look.policy.service(service.name).capacity_unit
    if unit == "mbit_s":  # answers go straight to the client: what they carry is as much per connection as here
        per_connection = local.mbit_s / local.connections if local.connections else 0.0
        sent = Load(mbit_s=per_connection * sent.connections)
    capacity = _capacity(look, service.name, agents)
    sites = look.policy.service(service.name).spill.sites
    wanted = look.config.sites if sites is None else sites
    neighbours = {
        site: _neighbour(look, service, site, unit)
        for site in wanted
        if site in look.config.sites and site != look.config.site
    }
    return Sample(len(agents), capacity, local.amount(unit), sent.amount(unit), neighbours)


def _capacity(look: Look, service: str, agents: Iterable[str]) -> float | None:
    """Sum of what servers can carry; None when nobody said."""
    known = [capacity_of(look.policy, look.state.agents.members[name], service) for name in agents]
    amounts = [amount for amount in known if amount is not None]
    return float(sum(amounts)) if amounts or not known else None


def _neighbour(look: Look, service: Service, site: str, unit: str) -> Neighbour:
    """Another site, as its routers describe it and its Consul lists it."""
    reports = [
        look.reports[name]
        for name, member in look.state.routers.members.items()
        if member.site == site and name in look.reports and look.weights.get(name)
    ]
    fresh = [r for r in reports if r.get("replied") and int(r.get("misses", 0)) < FRESH_MISSES]
    serves = any(r.get("serving") and int(r.get("listeners", 0)) >> service.index & 1 for r in fresh)
    if not serves or (site, service.name) in look.closed:
        return Neighbour(0.0, 0.0, fresh=bool(fresh))
    agents = [
        name
        for name, member in look.state.agents.members.items()
        if member.site == site and service.name in member.standings and look.weights.get(name)
    ]
    # Each knows the sum of its site; the one that knows most is believed.
    load = max(load_of(report).amount(unit) for report in fresh)
    return Neighbour(_capacity(look, service.name, agents), load, fresh=True)
