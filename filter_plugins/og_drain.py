# SPDX-License-Identifier: Apache-2.0
"""What came of draining or restoring several members. Pure: what og_drain answered on each host goes in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def og_drain_problems(
    names: Sequence[str], hosts: Mapping[str, Mapping[str, Any]], result: str = "__drain_result"
) -> list[str]:
    """Return of whom it is not done and why, one line each; `result` names the variable that keeps the answer."""
    lines = []
    for name in names:
        answer = hosts[name].get(result) or {"msg": "not asked"}
        if "msg" in answer:
            said = " ".join(str(answer["msg"]).split())
            lines.append(said if said.startswith(f"{name} ") else f"{name}: {said}")
    return lines


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"og_drain_problems": og_drain_problems}
