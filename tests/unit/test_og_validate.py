# SPDX-License-Identifier: Apache-2.0
"""The table of a running deployment: what is wrong, and what drifts."""

from __future__ import annotations

from typing import Any

from filter_plugins.og_validate import HEADER, og_validate_problems, og_validate_rows, og_validate_states

A, B = "a" * 16, "b" * 16


def answer(role: str = "router", current: str = A, running: str = A, problems: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "role": role,
        "site": "west",
        "problems": list(problems),
        "release": {"current": current, "previous": "", "installed": [current], "running": {"og-stats": running}},
        "tables": 7 if role == "router" else 0,
        "digest": "0123456789abcdef" if role == "router" else "",
        "bgp": {"established": 1, "all": 2 if problems else 1} if role == "router" else {"established": 0, "all": 0},
        "consul": "passing" if role == "router" else "",
    }


def test_a_table() -> None:
    rows = og_validate_rows(
        {
            "a": answer(),
            "b": answer(running=B),
            "c": answer(current=B, running=B),
            "d": answer(problems=("bgp: 1 of 2 sessions established",)),
            "e": answer(role="client"),
        }
    )
    assert rows == [
        list(HEADER),
        ["a", "router", "west", "aaaaaaaa", "1/1", "7 01234567", "passing", "ok"],
        ["b", "router", "west", "aaaaaaaa, runs bbbbbbbb", "1/1", "7 01234567", "passing", "drift"],
        ["c", "router", "west", "bbbbbbbb", "1/1", "7 01234567", "passing", "drift"],
        ["d", "router", "west", "aaaaaaaa", "1/2", "7 01234567", "passing", "1 problem"],
        ["e", "client", "west", "aaaaaaaa", "", "", "", "ok"],
    ]


def test_a_host_that_was_not_asked_is_a_problem() -> None:
    hosts: dict[str, dict[str, Any]] = {
        "a": {"og_role": "router", "og_site": "west"},
        "b": {"og_role": "router", "og_site": "west", "__validate_state": {"unreachable": True, "msg": "timed out"}},
    }
    states = og_validate_states(["a", "b"], hosts)
    assert og_validate_problems(states) == ["a: not asked: the host does not answer", "b: not asked: timed out"]
    assert [row[-1] for row in og_validate_rows(states)[1:]] == ["1 problem", "1 problem"]


def test_what_others_noted_of_a_host_is_told_with_its_own_answer() -> None:
    asked = {"problems": ["no tables"], "release": {}}
    hosts = {
        "a": {"og_role": "router", "og_site": "west", "__validate_state": asked, "__validate_found": ["x is failed"]},
        "b": {"og_role": "client", "og_site": "west", "__validate_found": ["no answer"], "__validate_state": {}},
    }
    states = og_validate_states(["a", "b"], hosts)
    assert og_validate_problems(states) == [
        "a: no tables", "a: x is failed", "b: not asked: the host does not answer", "b: no answer",
    ]  # fmt: skip


def test_routes_that_are_written_and_not_in_force_are_drift() -> None:
    state = answer()
    state["release"] |= {"running": {"og-routes": "", "og-router": A}, "stale": ["og-routes"]}
    assert og_validate_rows({"a": state})[1][3:] == ["aaaaaaaa", "1/1", "7 01234567", "passing", "drift"]
    state["release"]["stale"] = []
    assert og_validate_rows({"a": state})[1][-1] == "ok"
