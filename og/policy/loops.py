# SPDX-License-Identifier: Apache-2.0
"""Policies of several sites that send each other's flows around. Pure.

A flow itself crosses at most once (a packet that visited another site's router uses servers there only), but load can
go in a circle: what one site sends away the other one sends back, new flow by new flow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from .check import Policy, ServicePolicy

Loop = tuple[str, tuple[str, ...], str]  # service, fields of its spill entry at fault, message


def find_loops(site: str, policies: Mapping[str, Policy], services: Collection[str] | None) -> list[Loop]:
    """Find the loops that `site`, one of `policies` (by site), is part of; `services` None = those they name."""
    names = {name for policy in policies.values() for name in policy.services} if services is None else services
    loops: list[Loop] = []
    for service in sorted(names) or [""]:
        known = {name: policy.service(service) for name, policy in policies.items()}
        drained = {name for name, entry in known.items() if is_drained(name, policies[name], entry)}
        others = list(_targets(site, known))
        if site in drained and others and set(others) <= drained:
            text = (
                f"{site} gives all new flows away, and so do all it gives them to ({', '.join(others)}): nobody is left"
            )
            loops.append((service, ("share",), text))
            continue
        circle = _circle(site, {name: entry for name, entry in known.items() if name not in drained})
        if circle:
            way = " -> ".join(circle)
            text = f"spill loop {way}: each fills the next one beyond the point where that one sends flows away itself"
            loops.append((service, ("limit", "sites", "share", "target"), text))
    return loops


def is_drained(site: str, policy: Policy, entry: ServicePolicy) -> bool:
    """Whether all new flows of a service are to leave a site."""
    return site in policy.drain or entry.spill.share >= 1


def _targets(site: str, known: Mapping[str, ServicePolicy]) -> Iterator[str]:
    wanted = known[site].spill.sites
    return (name for name in (known if wanted is None else wanted) if name in known and name != site)


def _fills(source: ServicePolicy, target: ServicePolicy) -> bool:
    """Whether what `source` sends makes `target` send flows away."""
    sends = source.spill.target is not None or source.spill.share > 0
    beyond = target.spill.target is not None and source.spill.fill > target.spill.target
    return sends and (beyond or target.spill.share > 0)


def _circle(site: str, known: Mapping[str, ServicePolicy]) -> tuple[str, ...]:
    """Return a way from a site back to itself; empty = there is none."""
    if site not in known:
        return ()
    ways: list[tuple[str, ...]] = [(site,)]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for name in _targets(way[-1], known):
            if not _fills(known[way[-1]], known[name]):
                continue
            if name == site:
                return (*way, site)
            if name not in seen:
                seen.add(name)
                ways.append((*way, name))
    return ()
