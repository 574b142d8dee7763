# SPDX-License-Identifier: Apache-2.0
"""Filters that turn the inventory's services and gateway roles into Consul's service definitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

HEALTH_URL = "http://127.0.0.1:9441/health"
CHECK = {"interval": "1s", "timeout": "1s"}


def _capacity(value: object) -> dict[str, str]:
    """Give what one server can carry: a number of connections, or one under its unit as in the policy file."""
    unit = ""
    if isinstance(value, Mapping) and len(value) == 1:
        unit, value = next(iter(value.items()))
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise AnsibleFilterError(f"capacity: a whole number, or one under its unit, is wanted, not {value!r}")
    return {"capacity": str(value)} | ({"capacity_unit": str(unit)} if unit else {})


def _weight(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        raise AnsibleFilterError(f"weight: a whole number from 0 to 65535 is wanted, not {value!r}")
    return str(value)


def _check(service: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Ask the service's `health_url`, or `/health` of a TCP service; a UDP service without one is not checked."""
    url = service.get("health_url")
    if url is None and service["protocol"] == "tcp":
        url = f"http://[{service['vip']}]:{service['port']}/health"
    return [{"id": f"{service['name']}-health", "name": "answers", "http": url, **CHECK}] if url else []


def og_consul_services(
    services: Iterable[Mapping[str, Any]], address: str, locator: str, weight: int = 100
) -> list[dict[str, Any]]:
    """Definitions for one application host that serves all of `services` (og_services).

    `address` is the host's own, `locator` the /64 its SIDs are in, `weight` its share of new connections.
    """
    definitions = []
    for service in services:
        missing = [key for key in ("name", "vip", "protocol", "port") if key not in service]
        if missing:
            raise AnsibleFilterError(f"og_services: {service.get('name', dict(service))!r} has no {', '.join(missing)}")
        meta = {"service": service["name"], "locator": locator, "weight": _weight(weight)}
        if "capacity" in service:
            meta |= _capacity(service["capacity"])
        definitions.append(
            {
                "id": service["name"],
                "name": service["name"],
                "address": address,
                "port": service["port"],
                "meta": meta,
                "checks": _check(service),
            }
        )
    return definitions


def og_consul_gateway(role: str, address: str, locator: str, weight: int = 100) -> list[dict[str, Any]]:
    """Define a gateway node; `role` is `hasher` or `router`. Its health daemon answers the check."""
    if role not in ("hasher", "router"):
        raise AnsibleFilterError(f"og_role: `hasher` or `router` is wanted, not {role!r}")
    return [
        {
            "id": f"og-{role}",
            "name": f"og-{role}",
            "address": address,
            "meta": {"locator": locator, "weight": _weight(weight)},
            "checks": [{"id": f"og-{role}-health", "name": "forwards packets", "http": HEALTH_URL, **CHECK}],
        }
    ]


class FilterModule:
    """What Ansible looks for in a filter plugin."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"og_consul_services": og_consul_services, "og_consul_gateway": og_consul_gateway}
