# SPDX-License-Identifier: Apache-2.0
"""A drill's verdict, from records made by hand: each reason to fail is found, and none is invented."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from og.drill.__main__ import main
from og.drill.moments import detected, restored
from og.drill.records import Connection, Limits, Plan, RecordError, Seen, connection, limits, plan
from og.drill.report import established_at, report, resets
from og.drill.series import in_force, largest_step, leaving, timeline, timelines, turns, utilisation

if TYPE_CHECKING:
    from pathlib import Path

HELD = Connection("cli_w1", "held", 100.0, 100.01, 130.0, "agent_w1", 30, "ok", False)
NEW = Connection("cli_w1", "stream", 111.0, 111.01, 111.02, "agent_w2", 1, "ok", False)
PLAN = Plan(
    "x",
    "west",
    backends={"agent_w1": "west", "agent_w2": "west", "agent_w3": "west", "agent_e1": "east"},
    clients={"cli_w1": "west", "cli_e1": "east"},
    fault=110.0,
    undone=120.0,
    killed=frozenset({"agent_w3"}),
)


def stream(
    begin: float, end: float, per_s: int = 50, backend: str = "agent_w2", took: float = 0.01
) -> list[Connection]:
    """Short connections at an even rate."""
    times = [begin + number / per_s for number in range(round((end - begin) * per_s))]
    return [replace(NEW, begun=t, opened=t + took, ended=t + took + 0.005, backend=backend) for t in times]


def judged(rows: list[Connection], seen: tuple[Seen, ...] = (), **changes: Any) -> dict[str, Any]:
    return report(replace(PLAN, **changes), rows, seen)


STREAM = stream(105, 125)


def test_nothing_broken_passes() -> None:
    result = judged([HELD, *STREAM], limits=Limits(failed_new=0, restore_ms=50, new_per_s=50, established=1))
    assert (result["verdict"], result["reasons"]) == ("passed", [])
    assert (result["established_before"], result["established_broken"]) == (1, 0)
    assert result["restore_ms"] == 0.0
    assert result["requests"] == 30 + len(STREAM)


@pytest.mark.parametrize(
    ("row", "limits", "reason"),
    [
        (replace(HELD, outcome="ECONNRESET", ended=112.0), Limits(), "their server lived"),
        (replace(HELD, outcome="ECONNRESET", ended=112.0), Limits(broken_share=0.0001), "their server lived"),
        (replace(HELD, moved=True), Limits(broken=1), "two servers"),
        (replace(NEW, outcome="no connection in time", opened=None), Limits(failed_new=0), "new connections failed"),
        (HELD, Limits(established=3), "only 2 connections were established"),
        (HELD, Limits(new_per_s=200), "new connections per second were tried"),
        (HELD, Limits(share_turns=2), "no router told its share"),
        (HELD, Limits(utilisation=(0.85, 0.95)), "10 s means"),
    ],
)
def test_each_way_to_fail_is_named(row: Connection, limits: Limits, reason: str) -> None:
    result = judged([HELD, *STREAM, row], limits=limits)
    assert result["verdict"] == "failed"
    assert len([text for text in result["reasons"] if reason in text]) == 1
    assert len(result["reasons"]) == 1


def test_stalls_of_the_load_count_from_just_before_the_fault_on() -> None:
    stalls = [(107.9, 1.0), (108.9, 0.3), (112.0, 0.7254)]
    rows = [HELD, *STREAM]
    assert report(PLAN, rows, (), stalls)["stalls"] == {"count": 2, "longest_ms": 725.4}
    assert judged(rows)["stalls"] == {"count": 0, "longest_ms": 0.0}


def test_hunts_and_drops_of_nodes_are_counted_also_over_a_restart() -> None:
    counts = [
        ("ogr_w1", {"rx": 9, "hunt_1": 5}),
        ("ogr_w2", {"rx": 9}),
        ("ogr_w1", {"rx": 10, "hunt_1": 7, "drop_loop": 1}),
        ("ogr_w1", {"rx": 2, "hunt_1": 3, "hunt_4": 2}),
    ]
    seen = [Seen(100.0 + at, node, "counters", value) for at, (node, value) in enumerate(counts)]
    result = judged([HELD, *STREAM], tuple(seen))
    assert result["hunts_and_drops"] == {"ogr_w1": {"hunt_1": 5, "drop_loop": 1, "hunt_4": 2}}


def test_who_failed_though_their_server_lived_is_named_with_port_and_times() -> None:
    broken = replace(HELD, port=40001, outcome="ECONNRESET", asked=111.9, ended=112.0)
    never = replace(NEW, port=40002, backend="", opened=None, ended=121.0, outcome="no connection in time")
    lost = replace(HELD, backend="agent_w3", outcome="ECONNRESET", ended=111.0)
    assert judged([HELD, *STREAM, lost, broken, never])["failures"] == [
        {"client": "cli_w1", "port": 40001, "backend": "agent_w1", "outcome": "ECONNRESET",
         "opened_ms": -9990.0, "asked_ms": 1900.0, "ended_ms": 2000.0},
        {"client": "cli_w1", "port": 40002, "backend": "", "outcome": "no connection in time",
         "opened_ms": None, "asked_ms": None, "ended_ms": 11000.0},
    ]  # fmt: skip
    assert len(judged([HELD, *STREAM, *[never] * 30])["failures"]) == 20


def test_who_died_before_the_fault_was_complete_was_established_before_it() -> None:
    lost = replace(HELD, backend="agent_w3", outcome="ECONNRESET", ended=109.5, asked=109.2)
    failed = replace(NEW, begun=109.1, opened=None, ended=119.1, outcome="no connection in time")
    rows = [HELD, *STREAM, lost, failed]
    result = judged(rows, begun=109.0, limits=Limits(established=2, failed_new=0))
    assert (result["established_before"], result["expected_broken"], result["fault_ms"]) == (2, 1, 1000.0)
    assert result["resets"]["max_ms"] == 300.0
    assert result["failed_new_connections"] == 1
    at_once = judged(rows)
    assert (at_once["established_before"], at_once["expected_broken"], at_once["fault_ms"]) == (1, 0, 0.0)


def test_service_that_does_not_come_back_is_named() -> None:
    rows = [HELD, *stream(105, 110), *[replace(row, opened=None, outcome="ETIMEDOUT") for row in stream(110, 125)]]
    result = judged(rows, limits=Limits(restore_ms=500))
    assert result["restore_ms"] is None
    assert "served fully after None ms" in result["reasons"][0]
    late = [HELD, *stream(105, 110), *stream(110, 110.8, took=1.01), *stream(110.8, 125)]
    assert "served fully after 800.0 ms" in judged(late, limits=Limits(restore_ms=500))["reasons"][0]
    assert judged(late, limits=Limits(restore_ms=900))["verdict"] == "passed"


def test_a_drill_that_stopped_early_has_failed() -> None:
    assert judged([HELD, *STREAM], stopped="ogr_w1: no route")["reasons"] == [
        "it stopped before its end: ogr_w1: no route"
    ]


def test_connections_of_a_killed_server_are_expected_to_break() -> None:
    lost = replace(HELD, backend="agent_w3", outcome="ECONNRESET", ended=111.0, asked=110.5)
    result = judged([HELD, *STREAM, lost], limits=Limits(reset_ms=1000))
    assert (result["established_broken"], result["expected_broken"], result["verdict"]) == (0, 1, "passed")
    assert result["resets"]["max_ms"] == 500.0


@pytest.mark.parametrize(
    ("row", "figure", "value"),
    [
        ({"asked": 110.5, "ended": 112.0, "outcome": "ECONNRESET"}, "max_ms", 1500.0),
        ({"asked": 109.9, "ended": 111.2, "outcome": "ECONNRESET"}, "max_ms", 1200.0),
        ({"asked": None, "ended": 110.1, "outcome": "closed by server"}, "idle", 1),
        ({"asked": 110.5, "ended": 120.5, "outcome": "no answer in time"}, "silent", 1),
    ],
)
def test_how_connections_of_dead_servers_ended(row: dict[str, Any], figure: str, value: float) -> None:
    lost = replace(HELD, backend="agent_w3", **row)
    assert resets([lost], PLAN.fault)[figure] == value
    failed = judged([HELD, *STREAM, lost], limits=Limits(reset_ms=1000))["verdict"] == "failed"
    assert failed == (figure != "idle")


def test_restored_needs_a_second_of_prompt_service_by_the_right_site() -> None:
    slow = stream(110, 112, took=1.1)
    assert restored(PLAN, [*slow, *stream(112, 115)], 120) == 112.0
    assert restored(PLAN, [*slow, *stream(112, 112.9)], 120) is None
    # One slow connection begins the second anew.
    assert restored(PLAN, [*stream(110, 110.5), *stream(110.5, 110.52, took=0.4), *stream(110.52, 113)], 120) == 110.52
    east = replace(PLAN, restored_by="east")
    assert restored(east, [*stream(110, 112), *stream(112, 115, backend="agent_e1")], 120) == pytest.approx(
        112, abs=0.1
    )
    assert restored(east, stream(110, 115), 120) is None
    # The other site's clients say nothing about this site.
    others = [replace(row, client="cli_e1") for row in stream(110, 115)]
    assert restored(PLAN, others, 120) is None


def test_detected_by_clients_is_the_first_answer_of_the_other_site() -> None:
    rows = [*stream(110, 111), *stream(111, 112, backend="agent_e1")]
    by = replace(PLAN, detect={"by": "served_by", "site": "east"})
    assert detected(by, rows, []) == {"cli_w1": pytest.approx(111.01)}
    assert detected(by, stream(110, 112), []) == {}
    assert judged([HELD, *STREAM], detect=by.detect)["reasons"] == ["nobody noticed the fault: by served_by, site east"]


@pytest.mark.parametrize(
    ("detect", "value_before", "value"),
    [
        ({"by": "suspect", "names": ["ogr_w1"]}, [], ["ogr_w1", "ogr_w2"]),
        ({"by": "down", "names": ["agent_w1", "agent_w2"]}, ["agent_w1"], ["agent_w1", "agent_w2"]),
        ({"by": "hops", "names": ["2001:db8::1"]}, ["2001:db8::1", "2001:db8::2"], ["2001:db8::2"]),
        ({"by": "consul"}, [], ["west/web"]),
        ({"by": "generation"}, 7, 8),
        ({"by": "shares"}, {}, {"web/east": 1024}),
    ],
)
def test_detected_by_nodes_is_the_first_that_says_so(detect: dict[str, Any], value_before: Any, value: Any) -> None:
    what = detect["by"]
    seen = [
        Seen(100.0, "a", what, value_before),
        Seen(100.0, "b", what, value_before),
        Seen(110.5, "b", what, value),
        Seen(110.3, "a", what, value),
        Seen(115.0, "a", what, value_before),
    ]
    assert detected(replace(PLAN, detect=detect), [], seen) == {"a": 110.3, "b": 110.5}
    assert detected(replace(PLAN, detect=detect), [], seen[:2]) == {}
    # What was so before the fault is not a detection of it.
    if what != "shares":
        assert detected(replace(PLAN, detect=detect, fault=120.0), [], seen) == {}


def test_an_unknown_way_to_detect_is_an_error() -> None:
    with pytest.raises(RecordError, match="'magic' is not known"):
        detected(replace(PLAN, detect={"by": "magic"}), [], [])


def test_connections_not_answered_by_a_server_are_not_established() -> None:
    assert established_at([replace(HELD, backend="")], 110.0) == []
    assert established_at([replace(HELD, ended=109.0)], 110.0) == []


def test_a_drill_without_connections_is_no_drill() -> None:
    with pytest.raises(RecordError, match="did not run"):
        judged([])
    with pytest.raises(RecordError, match="no connection was open"):
        judged([NEW])
    with pytest.raises(RecordError, match=r"^it stopped before its end: a unit is there; no connection was open"):
        judged([replace(NEW, begun=111.0)], stopped="a unit is there")


def test_the_timeline_counts_open_connections_per_site() -> None:
    line = timeline([HELD, NEW])
    at = {int(t): n for t, n in zip(line["t"], line["open"], strict=True)}
    assert (at[100], at[111], at[129], at[130]) == (1, 1, 1, 0)
    unanswered = replace(NEW, backend="", outcome="ETIMEDOUT", opened=None)
    parts = timelines(PLAN, [HELD, replace(NEW, backend="agent_e1"), unanswered])
    assert (sum(parts["east"]["new"]), sum(parts["west"]["new"]), sum(parts["west"]["failed"])) == (1, 1, 1)


def test_the_share_that_leaves_and_its_steps() -> None:
    rows = [*stream(110, 111), *stream(111, 112, backend="agent_e1"), *stream(112, 112.5), HELD]
    shares = leaving(PLAN, rows)
    assert [(second, share) for second, share, _ in shares] == [(0, 0.0), (1, 1.0), (2, 0.0)]
    step, beyond = largest_step(shares)
    assert step == 1.0
    assert beyond > 0.5
    text = judged([HELD, *rows], (Seen(100.0, "ogr_w1", "shares", {}),), limits=Limits(share_step=0.2))["reasons"]
    assert text == ["the share of new connections changed by 1.0 within a second"]


def test_chance_is_no_step() -> None:
    """A ramp of 10 % per second, drawn from 200 connections per second, has no step above 20 % beyond chance."""
    chance = random.Random(1)
    for _ in range(50):
        drawn = [(second, sum(chance.random() < second / 10 for _ in range(200)) / 200, 200) for second in range(11)]
        assert largest_step(drawn)[1] <= 0.2
    jump = [(0, 1.0, 200), (1, 0.7, 200)]
    assert largest_step(jump)[1] > 0.15
    assert largest_step([(0, 1.0, 200), (5, 0.0, 200)]) == (0.0, 0.0)


def test_share_in_force_and_its_turns() -> None:
    seen = [
        Seen(100.0, "ogr_w1", "shares", {}),
        Seen(111.2, "ogr_w1", "shares", {"web/east": 256}),
        Seen(112.2, "ogr_w1", "shares", {"web/east": 512}),
        Seen(113.2, "ogr_w1", "shares", {"web/east": 128}),
    ]
    force = in_force(PLAN, seen, 110, 115)
    assert force == [(0, 0.0), (1, 0.25), (2, 0.5), (3, 0.125), (4, 0.125)]
    result = judged([HELD, *STREAM], tuple(seen), hold=(110, 115), limits=Limits(share_turns=0, share_step=0.2))
    assert result["reasons"] == [
        "the share in force changed by 0.375 within a second (at most 0.2)",
        "the share's slope changed its sign 1 times (at most 0)",
    ]
    assert (turns([]), turns([1, 1, 2, 2, 3]), turns([1, 2, 2, 1, 1, 2])) == (0, 0, 2)


def test_utilisation_is_the_time_connections_were_open() -> None:
    rows = [replace(HELD, begun=100, opened=100, ended=120)] * 9 + [replace(HELD, begun=100, opened=105, ended=110)]
    hold = replace(PLAN, hold=(100.0, 120.0), capacity=10.0)
    assert utilisation(hold, rows) == [0.95, 0.9]
    assert utilisation(hold, [replace(row, backend="agent_e1") for row in rows]) == [0.0, 0.0]
    changes: dict[str, Any] = {"hold": (100.0, 120.0), "capacity": 10.0, "fault": 107.0}
    assert judged(rows, limits=Limits(utilisation=(0.85, 0.95)), **changes)["verdict"] == "passed"
    assert judged(rows, limits=Limits(utilisation=(0.85, 0.94)), **changes)["verdict"] == "failed"


def write(folder: Path, **changes: Any) -> None:
    rows = [{k: v for k, v in vars(row).items() if k != "client"} for row in (HELD, *STREAM)]
    (folder / "cli_w1.json").write_text(json.dumps({"records": rows, "stalls": [[111.0, 0.5]]}))
    drill = {
        "drill": "hasher_loss",
        "site": "west",
        "backends": {"agent_w1": "west", "agent_w2": "west"},
        "clients": {"cli_w1": "west"},
        "fault": 110,
        "detect": {"by": "suspect", "names": ["ogh_w1"]},
    }
    (folder / "drill.json").write_text(json.dumps(drill | changes))
    line = json.dumps({"t": 110.4, "what": "suspect", "value": ["ogh_w1"]})
    (folder / "ogr_w1.watch").write_text(line + '\n{"t": 11')


def test_the_command_writes_report_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    assert main([str(tmp_path)]) == 0
    result = json.loads((tmp_path / "report.json").read_text())
    assert (result["verdict"], result["detection_ms"], result["detected_by"]) == ("passed", 400.0, {"ogr_w1": 400.0})
    assert json.loads(capsys.readouterr().out)["drill"] == "hasher_loss"
    assert "<svg" in (tmp_path / "timeline.svg").read_text()
    assert result["stalls"] == {"count": 1, "longest_ms": 500.0}
    write(tmp_path, limits={"established": 2})
    assert main([str(tmp_path)]) == 1


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"fault": "soon"}, "drill.json"),
        ({"fault": None}, "drill.json"),
        ({"limits": {"brokn": 1}}, "unknown key: brokn"),
        ({"speed": 1}, "unknown key: speed"),
        ({"clients": {"cli_e1": "east"}}, "cli_e1.json"),
        ({"backends": 3}, "drill.json"),
        ({"hold": [1]}, "drill.json"),
    ],
)
def test_a_bad_plan_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], problem: str
) -> None:
    write(tmp_path, **changes)
    assert main([str(tmp_path)]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "report.json").exists()


def test_a_bad_record_or_watch_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    (tmp_path / "ogr_w1.watch").write_text('{"t": 1}\n')
    assert main([str(tmp_path)]) == 2
    assert "ogr_w1" in capsys.readouterr().err
    (tmp_path / "ogr_w1.watch").unlink()
    for wrong in ({"records": [{"population": "held"}]}, {"records": [], "stalls": [[1.0]]}):
        (tmp_path / "cli_w1.json").write_text(json.dumps(wrong))
        assert main([str(tmp_path)]) == 2
        assert "cli_w1" in capsys.readouterr().err
    with pytest.raises(RecordError, match="begun"):
        connection("c", {"population": "held", "begun": "x"})
    assert limits({"utilisation": [0.5, 1], "broken": None}) == Limits(utilisation=(0.5, 1.0))
    with pytest.raises(RecordError, match="site"):
        plan({"drill": "x"})
