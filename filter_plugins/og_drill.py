# SPDX-License-Identifier: Apache-2.0
"""Filter for drills: from hosts and a command to the actions the role og_drill takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from collections.abc import Callable


def og_actions(hosts: list[str] | str, command: str, on: str | None = None) -> list[dict[str, str]]:
    """`{host, command}` for each host, `{host}` in the command replaced by its name; `on`: run all of them there."""
    names = [hosts] if isinstance(hosts, str) else hosts
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names):
        raise AnsibleFilterError(f"og_actions: hosts: a list of names is wanted, not {hosts!r}")
    if not isinstance(command, str) or not command.strip():
        raise AnsibleFilterError(f"og_actions: command: a text is wanted, not {command!r}")
    return [{"host": str(on or name), "command": command.replace("{host}", name)} for name in names]


class FilterModule:
    """Filters this file adds."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {"og_actions": og_actions}
