# SPDX-License-Identifier: Apache-2.0
"""Consul's answers as data: what one look at the catalogue says, before anybody decides what to believe of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ROUTER_SERVICE = "og-router"
HASHER_SERVICE = "og-hasher"
SERF = "serfHealth"  # Consul's own check of a node: its gossip no longer reaches it
MAINTENANCE = ("_node_maintenance", "_service_maintenance:")


class Health(enum.StrEnum):
    """What Consul says about one instance."""

    UP = "up"
    DOWN = "down"  # a check of the service or node, run by the node itself, is critical
    LOST = "lost"  # only the gossip check is critical: nobody asked the service
    MAINTENANCE = "maintenance"  # an operator took it out


@dataclass(frozen=True)
class Instance:
    """One registration of a service. Everything from `locator` on is its metadata as it stands, unchecked."""

    node: str
    health: Health
    reason: str
    locator: str
    weight: str | None = None
    capacity: str | None = None
    capacity_unit: str | None = None


@dataclass(frozen=True)
class View:
    """One look at Consul. A part that could not be asked is absent (services) or None (drains): unknown, not empty."""

    services: Mapping[tuple[str, str], tuple[Instance, ...]] = field(default_factory=dict)  # by (site, Consul service)
    drains: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by site


def parse_instances(answer: object) -> tuple[Instance, ...]:
    """Read the answer of /v1/health/service/<name>. Raises ValueError when it is not one."""
    if not isinstance(answer, list):
        raise ValueError("not a list")
    instances: dict[str, Instance] = {}
    for entry in answer:
        try:
            instance = _parse_instance(entry)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not an instance of a service: {error}") from None
        # A node that registered the service twice is one member: the healthier registration counts.
        known = instances.get(instance.node)
        if known is None or (known.health is not Health.UP and instance.health is Health.UP):
            instances[instance.node] = instance
    return tuple(instances[node] for node in sorted(instances))


def _parse_instance(entry: dict[str, Any]) -> Instance:
    meta = entry["Service"].get("Meta") or {}
    health, reason = _parse_checks(entry.get("Checks") or [])
    return Instance(
        node=str(entry["Node"]["Node"]),
        health=health,
        reason=reason,
        locator=str(meta.get("locator", "")),
        weight=meta.get("weight"),
        capacity=meta.get("capacity"),
        capacity_unit=meta.get("capacity_unit"),
    )


def _parse_checks(checks: list[dict[str, Any]]) -> tuple[Health, str]:
    critical = sorted(str(check["CheckID"]) for check in checks if check.get("Status") == "critical")
    for check in critical:
        if check.startswith(MAINTENANCE):
            return Health.MAINTENANCE, check
    own = [check for check in critical if check != SERF]
    if own:
        return Health.DOWN, own[0]
    return (Health.LOST, SERF) if critical else (Health.UP, "")


def parse_drains(keys: object, prefix: str) -> frozenset[str]:
    """Read the answer of /v1/kv/<prefix>?keys: the names below the prefix. Raises ValueError when it is not one."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("not a list of keys")
    return frozenset(key.removeprefix(prefix) for key in keys if key.startswith(prefix) and key != prefix)
