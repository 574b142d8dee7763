# SPDX-License-Identifier: Apache-2.0
"""The plan of a rolling round: who, in which order, where to, and what is refused before anything is touched."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from filter_plugins.og_rolling import (
    ROUND,
    og_failure,
    og_rolling_ahead,
    og_rolling_lines,
    og_rolling_notes,
    og_rolling_plan,
    og_rolling_states,
    og_rolling_target,
    og_table,
)

A, B, Z = "a" * 16, "b" * 16, "0" * 16


def node(role: str, site: str = "west", current: str = A, previous: str = "", running: str = "") -> dict[str, Any]:
    release = {
        "current": current,
        "previous": previous,
        "installed": sorted({current, previous} - {""}),
        "running": {f"og-{role}": running or current, "og-stats": running or current},
    }
    return {"role": role, "site": site, "release": release}


def site(**changes: Any) -> dict[str, dict[str, Any]]:
    roles = {"agent_w1": "agent", "agent_w2": "agent", "cli_w1": "client", "ogh_w1": "hasher", "ogh_w2": "hasher",
             "ogr_w1": "router", "ogr_w2": "router"}  # fmt: skip
    return {name: node(role) for name, role in roles.items()} | changes


def test_canaries_first_then_routers_hashers_agents_and_the_rest() -> None:
    plan = og_rolling_plan(site(), B)
    assert [(step["stage"], step["host"]) for step in plan] == [
        ("canary", "ogr_w1"),
        ("canary", "ogh_w1"),
        ("canary", "agent_w1"),
        ("routers", "ogr_w2"),
        ("hashers", "ogh_w2"),
        ("agents", "agent_w2"),
        ("others", "cli_w1"),
    ]
    assert {(step["from"], step["to"]) for step in plan} == {(A, B)}


def test_sites_take_turns_so_that_a_batch_is_of_different_ones() -> None:
    states = {f"{kind[:3]}_{letter}{number}": node(kind, site) for kind in ("router", "hasher", "agent")
              for letter, site in (("e", "east"), ("w", "west")) for number in range(1, 5)}  # fmt: skip
    plan = og_rolling_plan(states, B)
    for stage in ("routers", "hashers", "agents"):
        sites = [step["site"] for step in plan if step["stage"] == stage]
        assert sites == ["east", "west"] * 3 + ["west"], "the canary was one of east"
    assert [step["host"] for step in plan if step["stage"] == "routers"][:2] == ["rou_e2", "rou_w1"]


def test_named_canaries() -> None:
    plan = og_rolling_plan(site(), B, canaries=["ogr_w2"])
    assert [step["host"] for step in plan if step["stage"] == "canary"] == ["ogr_w2"]
    with pytest.raises(AnsibleFilterError, match="og_rolling_canaries: no such node in this round: ogr_x"):
        og_rolling_plan(site(), B, canaries=["ogr_x"])


def test_a_round_that_was_cut_off_goes_on() -> None:
    plan = og_rolling_plan(site(ogr_w1=node("router", current=B, previous=A), ogh_w1=node("hasher", current=B)), B)
    assert [step["host"] for step in plan] == ["ogr_w2", "ogh_w2", "agent_w1", "agent_w2", "cli_w1"]


def test_a_node_whose_program_still_runs_another_release_is_not_done() -> None:
    nodes = {name: node(state["role"], current=B) for name, state in site().items()}
    assert og_rolling_plan(nodes, B) == []
    nodes["ogr_w2"] = node("router", current=B, running=A)
    assert [step["host"] for step in og_rolling_plan(nodes, B)] == ["ogr_w2"]


def test_a_node_comes_from_what_its_data_plane_runs() -> None:
    nodes = site(ogr_w2=node("router", current=B, running=A))
    assert {step["from"] for step in og_rolling_plan(nodes, B)} == {A}


def test_who_comes_before_a_batch() -> None:
    plan = og_rolling_plan(site(), B)
    assert og_rolling_ahead(plan, ["ogr_w1"]) == []
    assert og_rolling_ahead(plan, ["agent_w1"]) == ["ogr_w1", "ogh_w1"]
    assert og_rolling_ahead(plan, ["ogh_w2", "ogr_w2"]) == ["ogr_w1", "ogh_w1", "agent_w1"]


def test_a_setting_that_is_written_and_not_in_force_is_a_reason() -> None:
    nodes = {name: node(state["role"], current=B) for name, state in site().items()}
    nodes["ogh_w2"]["release"]["stale"] = ["og-hasher"]
    assert [step["host"] for step in og_rolling_plan(nodes, B)] == ["ogh_w2"]


def test_the_only_one_of_its_kind_is_not_taken_out() -> None:
    states = site(ogr_e1=node("router", "east"))
    with pytest.raises(
        AnsibleFilterError,
        match=r"ogr_e1 is one of 1 router\(s\) of site east that are not drained, and 1 other\(s\) must stay",
    ):
        og_rolling_plan(states, B)
    assert "ogr_e1" in [step["host"] for step in og_rolling_plan(states, B, others=0)]
    assert og_rolling_plan(site(agent_e1=node("agent", "east")), B), "an agent carries on meanwhile"


def test_who_is_drained_on_purpose_is_missed_by_nobody_and_replaces_nobody() -> None:
    states = site()
    states["ogr_w1"]["drained"] = "Consul"
    assert og_rolling_plan({"ogr_w1": states["ogr_w1"]}, B), "the only one, and out of service already"
    with pytest.raises(AnsibleFilterError, match=r"ogr_w2 is one of 1 router\(s\) of site west that are not drained"):
        og_rolling_plan(states, B)
    states["ogr_w1"]["drained"] = ROUND
    assert og_rolling_plan(states, B)


def test_a_canary_is_one_that_serves() -> None:
    states = site(ogr_w3=node("router"))
    states["ogr_w1"]["drained"] = "Consul"
    canaries = [step["host"] for step in og_rolling_plan(states, B) if step["stage"] == "canary"]
    assert sorted(canaries) == ["agent_w1", "ogh_w1", "ogr_w2"]
    assert [step["host"] for step in og_rolling_plan({"ogr_w1": states["ogr_w1"]}, B)] == ["ogr_w1"]


def test_who_is_drained_is_told() -> None:
    states = site()
    states["ogr_w1"]["drained"], states["ogh_w1"]["drained"], states["ogh_w2"]["drained"] = "Consul", "by policy", ROUND
    assert og_rolling_notes(states) == [
        "ogh_w1 is drained (by policy) and stays so",
        "ogr_w1 is drained (by Consul) and stays so",
        "ogh_w2 was left drained by a round that was cut off: undrained first",
    ]
    assert og_rolling_notes(site(), ["cli_w1", "agent_w2"]) == [
        "agent_w2 is left out (og_rolling_skip)",
        "cli_w1 is left out (og_rolling_skip)",
    ]


@pytest.mark.parametrize(
    ("states", "wanted", "back", "target"),
    [
        (site(), B, False, B),
        (site(), "", False, ""),
        (site(), B, True, B),
        ({name: node(s["role"], current=B, previous=A) for name, s in site().items()}, "", True, A),
        # One node is on B, the round stopped there; an older release lies on the other.
        ({"x": node("router", current=B, previous=A), "y": node("router", current=A, previous=Z)}, "", True, A),
        ({"x": node("router", current=B, previous=A), "y": node("router", current=A)}, "", True, A),
    ],
)
def test_where_to(states: dict[str, Any], wanted: str, back: bool, target: str) -> None:
    assert og_rolling_target(states, wanted, back) == target


@pytest.mark.parametrize(
    "states",
    [
        site(),
        {"x": node("router", current=B, previous=A), "y": node("router", current=B, previous=Z)},
        {"x": node("router", current=B, previous=A), "y": node("router", current=A, previous=B)},
        {"x": node("router", current=B, previous=A), "y": node("router", current=Z)},
    ],
)
def test_no_one_way_back(states: dict[str, Any]) -> None:
    with pytest.raises(AnsibleFilterError, match="Name it with -e og_release_id=ID; installed: "):
        og_rolling_target(states, "", back=True)


def test_what_hosts_answered() -> None:
    release = {"current": A, "previous": "", "installed": [A], "running": {}}
    hosts = {"x": {"og_role": "router", "og_site": "west", "__og_rolling_state": {"release": release}}}
    assert og_rolling_states(["x"], hosts) == {
        "x": {"role": "router", "site": "west", "release": release, "drained": ""}
    }


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"unreachable": True, "msg": "Failed to connect.\nno route to host."}, "Failed to connect. no route to host"),
        ({"failed": False, "msg": "MODULE FAILURE"}, "MODULE FAILURE"),
        (None, "no answer"),
    ],
)
def test_a_host_that_cannot_be_asked_is_named_and_how_to_leave_it_out(answer: Any, said: str) -> None:
    release = {"current": A, "previous": "", "installed": [A], "running": {}}
    hosts = {
        "x": {"og_role": "router", "og_site": "west", "__og_rolling_state": {"release": release}},
        "y": {"og_role": "agent", "og_site": "west", "__og_rolling_state": answer},
    }
    with pytest.raises(AnsibleFilterError) as caught:
        og_rolling_states(["x", "y"], hosts)
    assert f"cannot be asked: y (y: {said}). " in str(caught.value)
    assert """-e '{"og_rolling_skip": ["y"]}'""" in str(caught.value)


def test_tables() -> None:
    assert og_table([["a", 1], ["bcd", ""]], ["X", "YY"]) == ["X    YY", "a    1", "bcd  -"]
    assert og_rolling_lines(og_rolling_plan({"x": node("client")}, B))[1].split() == [
        "others",
        "x",
        "client",
        "west",
        A,
        B,
    ]


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"msg": "ogr_w1 is not ready"}, "ogr_w1 is not ready"),
        ({"msg": "non-zero return code", "stderr": "one\ntwo  words\n"}, "two words"),
        ({"msg": "All", "results": [{"failed": False, "msg": "a"}, {"failed": True, "msg": "b"}]}, "b"),
        ({}, "failed"),
    ],
)
def test_why_a_task_failed(result: dict[str, Any], said: str) -> None:
    assert og_failure(result) == said
