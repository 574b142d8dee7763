# SPDX-License-Identifier: Apache-2.0
"""Load and state of the services, for probe replies (through the load map) and for the operator (`--status`)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from og.agent import layout, sockets
from og.agent.layout import Load, ServiceStats

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from og.agent.bpf import BpfMap
    from og.agent.config import AgentConfig, Service

# The socket tables are walked at most this part of the time: with very many connections the figures get older, not the
# host slower.
WALK_SHARE = 0.02


@dataclass(frozen=True)
class Sample:
    """Totals at one moment. `at`: monotonic seconds; by service name."""

    at: float
    stats: Mapping[str, ServiceStats]


def read_stats(maps: Mapping[str, BpfMap], config: AgentConfig) -> Sample:
    """Read what the programs counted per service."""
    stats = {s.name: ServiceStats.total(maps["stats"].get_cpus(layout.index(s.index))) for s in config.services}
    return Sample(time.monotonic(), stats)


def rate(before: Sample, after: Sample, member: str) -> dict[str, float]:
    """Per second and service, of one member of ServiceStats. A total that shrank counts from zero."""
    span = max(after.at - before.at, 1e-3)
    rates = {}
    for name, stats in after.stats.items():
        then = getattr(before.stats.get(name), member, 0)
        now = getattr(stats, member)
        rates[name] = max(now - then, 0) / span
    return rates


def connections(services: tuple[Service, ...]) -> dict[str, int]:
    """Count open connections by service: those of its address and port. Datagram services have none."""
    counts = {service.name: 0 for service in services}
    for port in {service.port for service in services if service.protocol == "tcp"}:
        by_address = sockets.connections(port)
        for service in services:
            if service.protocol == "tcp" and service.port == port:
                counts[service.name] = by_address.get(service.vip, 0)
    return counts


def _queue(service: Service) -> dict[str, Any]:
    """Whether a service has a listener, and how many connections wait to be accepted."""
    listener = sockets.listener_for(service.vip, sockets.listeners(service.protocol, service.port))
    return {"listener": listener is not None, "backlog": listener.backlog if listener else 0}


class Reporter:
    """Keeps the load map up to date."""

    def __init__(self, maps: Mapping[str, BpfMap]) -> None:
        self._maps = maps
        self._last: Sample | None = None
        self._connections: dict[str, int] = {}
        self._walk_again = 0.0

    def turn(self, config: AgentConfig) -> dict[str, Any]:
        """Read, write the load map, return the figures by service."""
        sample = read_stats(self._maps, config)
        started = time.monotonic()
        if started >= self._walk_again or set(self._connections) != {s.name for s in config.services}:
            self._connections = connections(config.services)
            now = time.monotonic()
            self._walk_again = now + (now - started) / WALK_SHARE - config.report_s / 2
        last = self._last or sample
        accepts, sent = rate(last, sample, "accepts"), rate(last, sample, "octets")
        self._last = sample
        load = Load(sum(self._connections.values()), round(sum(accepts.values())), round(sum(sent.values())))
        self._maps["load"].set(layout.index(0), load.pack())
        return {
            service.name: {
                "connections": self._connections.get(service.name, 0),
                "accepts_per_s": round(accepts[service.name], 1),
                "bytes_per_s": round(sent[service.name]),
                **_queue(service),
            }
            for service in config.services
            if service.name in sample.stats
        }


def counters(maps: Mapping[str, BpfMap], header: Path) -> dict[str, int]:
    """Return the programs' counters by name, summed over all CPUs."""
    return {
        counter.name: sum(int.from_bytes(value, "little") for value in maps["counters"].get_cpus(layout.index(i)))
        for i, counter in enumerate(layout.counters(header))
    }


def services(maps: Mapping[str, BpfMap], config: AgentConfig) -> list[dict[str, Any]]:
    """Return each service with its listener, accept queue, open connections and totals, as of now."""
    counts = connections(config.services)
    stats = read_stats(maps, config).stats
    rows = []
    for service in config.services:
        listener = sockets.listener_for(service.vip, sockets.listeners(service.protocol, service.port))
        rows.append(
            {
                "name": service.name,
                "vip": str(service.vip),
                "protocol": service.protocol,
                "port": service.port,
                "index": service.index,
                "listener": listener is not None,
                "backlog": listener.backlog if listener else 0,
                "backlog_limit": service.accept_limit or (listener.limit if listener else 0),
                "connections": counts[service.name],
                "accepts": stats[service.name].accepts,
                "packets": stats[service.name].packets,
                "bytes": stats[service.name].octets,
            }
        )
    return rows
