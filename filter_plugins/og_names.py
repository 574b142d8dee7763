# SPDX-License-Identifier: Apache-2.0
"""Names of the nodes of an inventory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def og_names(names: Iterable[str], hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the address of every host that has a place in the fabric (og_node), by inventory name."""
    return {name: str(hosts[name]["og_address"]) for name in sorted(names) if "og_node" in hosts[name]}


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"og_names": og_names}
