# SPDX-License-Identifier: Apache-2.0
"""Filters that turn the inventory's services and gateway roles into Consul's service definitions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

HEALTH_URL = "http://127.0.0.1:9441/health"
CHECK = {"interval": "1s", "timeout": "1s"}
# Names of Consul's keys whose values are secrets, and strings (retry_join) that carry one.
SECRET_NAME = re.compile(r"^encrypt$|token|secret|password|passphrase|private_key", re.IGNORECASE)
SECRET_TEXT = re.compile(r"(token|secret|password|passphrase|api_key)\w*=", re.IGNORECASE)


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


def _is_secret(name: str, value: object) -> bool:
    return bool(SECRET_NAME.search(name)) and not isinstance(value, bool | int | float | None)


def og_consul_has_secret(value: object) -> bool:
    """Tell whether there is a secret anywhere in a piece of Consul's configuration."""
    if isinstance(value, Mapping):
        return any(_is_secret(str(name), item) or og_consul_has_secret(item) for name, item in value.items())
    if isinstance(value, list):
        return any(og_consul_has_secret(item) for item in value)
    return isinstance(value, str) and bool(SECRET_TEXT.search(value))


def og_consul_split(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return Consul's configuration as `open` and `secret`, which Consul merges again. A list is not split."""
    parts: dict[str, dict[str, Any]] = {"open": {}, "secret": {}}
    for name, value in config.items():
        if isinstance(value, Mapping) and not _is_secret(name, value):
            inner = og_consul_split(value)
            parts["open"][name] = inner["open"]
            if inner["secret"]:
                parts["secret"][name] = inner["secret"]
        else:
            parts["secret" if og_consul_has_secret({name: value}) else "open"][name] = value
    return parts


class FilterModule:
    """What Ansible looks for in a filter plugin."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "og_consul_services": og_consul_services,
            "og_consul_gateway": og_consul_gateway,
            "og_consul_split": og_consul_split,
            "og_consul_has_secret": og_consul_has_secret,
        }
