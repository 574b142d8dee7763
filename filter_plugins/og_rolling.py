# SPDX-License-Identifier: Apache-2.0
"""A rolling round as data: which release, which nodes, in which order. Pure: what og_ready found goes in."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Routers before hashers: a hasher announces a VIP only while a router says that it can serve. Agents and the rest carry
# on with their traffic while they are restarted.
STAGES = {"router": "routers", "hasher": "hashers", "agent": "agents"}
ORDER = ("canary", "routers", "hashers", "agents", "others")
GATEWAYS = ("router", "hasher")
# What a round writes into the drain file of a node that it takes out (roles/og_rolling/vars).
ROUND = "by a rolling round"


def og_rolling_target(states: Mapping[str, Mapping[str, Any]], wanted: str, back: bool) -> str:
    """Return the release to go to: `wanted`, or when going back without one, the release before.

    Of a round that was not finished, some nodes run the new release: its way back is meant, and the others stay.
    """
    if wanted or not back:
        return wanted
    current = {str(state["release"]["current"]) for state in states.values()}
    ways = {str(state["release"]["previous"]) for state in states.values()}
    candidates = ways if len(current) == 1 else ways & current
    if len(candidates) != 1 or "" in candidates:
        installed = {name for state in states.values() for name in state["release"]["installed"]}
        raise AnsibleFilterError(
            f"there is no one release to go back to: nodes run {_names(current)}, before that {_names(ways)}. "
            f"Name it with -e og_release_id=ID; installed: {_names(installed)}"
        )
    return candidates.pop()


def _names(releases: set[str]) -> str:
    return ", ".join(sorted(filter(None, releases))) or "none"


def _needs(state: Mapping[str, Any], target: str) -> bool:
    """Tell whether a node is elsewhere, or has a program that runs with something else than what is there now."""
    release = state["release"]
    others = set(release["running"].values()) - {target, ""}
    return bool(release["current"] != target or others or release.get("stale"))


def _serves(state: Mapping[str, Any]) -> str:
    """Return the release of the data plane or agent, of other nodes the current one, which may be newer."""
    release = state["release"]
    return str(release["running"].get(f"og-{state['role']}") or release["current"])


def _aside(state: Mapping[str, Any]) -> bool:
    """Tell whether somebody has drained the node on purpose: nobody misses it, and it stays so."""
    return state.get("drained", "") not in ("", ROUND)


def og_rolling_notes(states: Mapping[str, Mapping[str, Any]], skip: Sequence[str] = ()) -> list[str]:
    """Return what else there is to know before a round: who is drained and what becomes of that, who is left out."""
    out = [f"{name} is left out (og_rolling_skip)" for name in sorted(set(skip))]
    aside = [f"{name} is drained (by {_by(state)}) and stays so" for name, state in states.items() if _aside(state)]
    left = [name for name, state in states.items() if state.get("drained", "") == ROUND]
    return out + aside + [f"{name} was left drained by a round that was cut off: undrained first" for name in left]


def _by(state: Mapping[str, Any]) -> str:
    return str(state["drained"]).removeprefix("by ")


def og_rolling_plan(
    states: Mapping[str, Mapping[str, Any]], target: str, others: int = 1, canaries: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Return the steps {host, role, site, stage, from, to}, in order. Nodes that run `target` already have none.

    `states` is by host {role, site, drained, release: {current, previous, installed, running}}. A canary is the first
    node of each kind that is not drained, or who is named. Raises AnsibleFilterError if so many `others` of a kind
    cannot stay at a site.
    """
    needy = {name: state for name, state in states.items() if _needs(state, target)}
    there = Counter((state["role"], state["site"]) for state in states.values() if not _aside(state))
    for name, state in needy.items():
        if state["role"] in GATEWAYS and not _aside(state) and there[state["role"], state["site"]] <= others:
            raise AnsibleFilterError(
                f"{name} is one of {there[state['role'], state['site']]} {state['role']}(s) of site {state['site']} "
                f"that are not drained, and {others} other(s) must stay: add a node, or allow the outage with "
                "-e og_rolling_others=0"
            )
    unknown = sorted(set(canaries) - set(states))
    if unknown:
        raise AnsibleFilterError(f"og_rolling_canaries: no such node in this round: {', '.join(unknown)}")
    serving = sorted(needy, key=lambda name: _aside(needy[name]))  # who is drained shows little as a canary
    first = set(canaries) or {next((name for name in serving if needy[name]["role"] == role), "") for role in STAGES}
    steps = []
    at: Counter[tuple[str, str]] = Counter()
    turns = {}
    for name, state in needy.items():
        role, site = str(state["role"]), str(state["site"])
        stage = "canary" if name in first else STAGES.get(role, "others")
        steps.append({"host": name, "role": role, "site": site, "stage": stage, "from": _serves(state), "to": target})
        turns[name] = at[stage, site]
        at[stage, site] += 1
    roles = (*STAGES, "")

    def order(step: Mapping[str, str]) -> tuple[int, int, int]:
        # Within a stage the sites take turns: nodes that are taken together are then of different ones.
        role = roles.index(step["role"] if step["role"] in STAGES else "")
        return ORDER.index(step["stage"]), role, turns[step["host"]]

    return sorted(steps, key=order)


def og_rolling_ahead(plan: Sequence[Mapping[str, str]], batch: Sequence[str]) -> list[str]:
    """Return who comes before a batch of nodes in a plan."""
    hosts = [step["host"] for step in plan]
    return hosts[: min((hosts.index(name) for name in batch), default=0)]


def og_rolling_states(
    names: Sequence[str], hosts: Mapping[str, Mapping[str, Any]], result: str = "__og_rolling_state"
) -> dict[str, dict[str, Any]]:
    """Return of each host what a plan looks at; `result` names the variable in which og_ready's answer was kept.

    Raises AnsibleFilterError for hosts that could not be asked.
    """
    mute = [name for name in names if "release" not in (hosts[name].get(result) or {})]
    if mute:
        said = " ".join(str((hosts[mute[0]].get(result) or {}).get("msg", "no answer")).split())
        raise AnsibleFilterError(
            f"cannot be asked: {', '.join(mute)} ({mute[0]}: {said.rstrip('.')}). Mend that, or leave out "
            f"who is not there: -e '{json.dumps({'og_rolling_skip': mute})}'"
        )
    found = {}
    for name in names:
        host = hosts[name]
        answer = host[result]
        found[name] = {
            "role": host["og_role"],
            "site": host["og_site"],
            "release": answer["release"],
            "drained": answer.get("drained", ""),
        }
    return found


def og_table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> list[str]:
    """Return aligned lines; an empty cell is a dash."""
    body = [[str(cell) if cell not in (None, "") else "-" for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(header), *body]) for column in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [list(header), *body]
    ]


def og_rolling_lines(plan: Sequence[Mapping[str, str]]) -> list[str]:
    """Return a plan as a table."""
    keys = ("stage", "host", "role", "site", "from", "to")
    return og_table([[step[key] for key in keys] for step in plan], [key.upper() for key in keys])


def og_failure(result: Mapping[str, Any]) -> str:
    """Return in one line why a task failed: of a loop its first failed item, of a command what it said at the end."""
    items = [item for item in result.get("results", []) if item.get("failed")]
    failed = items[0] if items else result
    said = str(failed.get("stderr") or failed.get("stdout") or "").strip().splitlines()
    return " ".join((said[-1] if said else str(failed.get("msg", "failed"))).split()).rstrip(".")


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "og_failure": og_failure,
            "og_rolling_ahead": og_rolling_ahead,
            "og_rolling_lines": og_rolling_lines,
            "og_rolling_notes": og_rolling_notes,
            "og_rolling_plan": og_rolling_plan,
            "og_rolling_states": og_rolling_states,
            "og_rolling_target": og_rolling_target,
            "og_table": og_table,
        }
