# SPDX-License-Identifier: Apache-2.0
"""What a running deployment looks like, as a table. Pure: what og_ready found on each host goes in."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HEADER = ("HOST", "ROLE", "SITE", "RELEASE", "BGP", "TABLES", "CONSUL", "VERDICT")
SHORT = 8


def og_validate_rows(states: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return a row per host, HEADER its first. `states` is by host what og_ready returned, with role and site.

    The release that most hosts have is meant. Drift is another one, a program started from another one, or one that
    runs with other options than those that are there now.
    """
    usual = _usual(states)
    return [list(HEADER), *(_row(name, state, usual) for name, state in states.items())]


def og_validate_problems(states: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what is wrong, one line each; drift of releases is not wrong, the rows show it."""
    return [f"{name}: {problem}" for name, state in states.items() for problem in state["problems"]]


def _usual(states: Mapping[str, Mapping[str, Any]]) -> str:
    seen = Counter(state["release"]["current"] for state in states.values() if state.get("release"))
    return str(seen.most_common(1)[0][0]) if seen else ""


def _row(name: str, state: Mapping[str, Any], usual: str) -> list[str]:
    release, bgp = state.get("release", {}), state.get("bgp", {})
    current = str(release.get("current", ""))
    others = sorted(set(release.get("running", {}).values()) - {current, ""})
    shown = current[:SHORT] + "".join(f", runs {other[:SHORT]}" for other in others)
    drift = bool(others or release.get("stale")) or current != usual
    sessions = f"{bgp['established']}/{bgp['all']}" if bgp.get("all") else ""
    count = len(state["problems"])
    verdict = f"{count} problem{'s' if count > 1 else ''}" if count else "drift" if drift else "ok"
    tables = f"{state['tables']} {state['digest'][:SHORT]}" if state.get("tables") else ""
    return [
        name,
        str(state["role"]),
        str(state["site"]),
        shown,
        sessions,
        tables,
        str(state.get("consul", "")),
        verdict,
    ]


def og_validate_states(
    names: Sequence[str],
    hosts: Mapping[str, Mapping[str, Any]],
    result: str = "__validate_state",
    noted: str = "__validate_found",
) -> dict[str, dict[str, Any]]:
    """Return what each host answered in `result`, with the problems others `noted` of it.

    A host that could not be asked is an answer with a problem.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        host = hosts[name]
        answer = host.get(result) or {}
        if "problems" not in answer:
            answer = {"problems": [f"not asked: {answer.get('msg', 'the host does not answer')}"]}
        problems = [*answer["problems"], *(host.get(noted) or [])]
        found[name] = {**answer, "problems": problems, "role": host["og_role"], "site": host["og_site"]}
    return found


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "og_validate_problems": og_validate_problems,
            "og_validate_rows": og_validate_rows,
            "og_validate_states": og_validate_states,
        }
