# SPDX-License-Identifier: Apache-2.0
"""Filter for the role og_agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_NEEDED = ("index", "name", "vip", "protocol", "port")


def og_agent_services(services: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return of each of the inventory's services what the agent needs to know.

    The agent itself checks the values, so that there is one place that does.
    """
    found = []
    for i, service in enumerate(services):
        missing = [key for key in _NEEDED if key not in service]
        if missing:
            raise AnsibleFilterError(f"og_services[{i}]: missing: {', '.join(missing)}")
        found.append({key: service[key] for key in _NEEDED} | {"accept_limit": service.get("accept_limit", 0)})
    return found


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"og_agent_services": og_agent_services}
