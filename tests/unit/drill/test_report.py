# SPDX-License-Identifier: Apache-2.0
"""A drill's verdict, from records made by hand: each reason to fail is found, and none is invented."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from og.drill.__main__ import main
from og.drill.report import Connection, Fault, Limits, RecordError, established_at, report, restored_at, timeline

if TYPE_CHECKING:
    from pathlib import Path

HELD = Connection("cli_w1", "held", 100.0, 100.01, 130.0, "agent_w1", 30, "ok", False)
NEW = Connection("cli_w1", "stream", 111.0, 111.01, 111.02, "agent_w2", 1, "ok", False)
FAULT = Fault(at=110.0, undone=120.0, killed_backends=frozenset({"agent_w3"}))


def test_nothing_broken_passes() -> None:
    result = report("hasher_loss", [HELD, NEW], FAULT, Limits(failed_new=0, restore_ms=2000))
    assert (result["verdict"], result["reasons"]) == ("passed", [])
    assert (result["established_before"], result["established_broken"]) == (1, 0)
    assert result["restore_ms"] == 1000.0
    assert result["detection_ms"] == 1010.0


@pytest.mark.parametrize(
    ("row", "limits", "reason"),
    [
        (replace(HELD, outcome="ECONNRESET", ended=112.0), Limits(), "their server lived"),
        (replace(HELD, moved=True), Limits(), "two servers"),
        (replace(NEW, outcome="no connection in time", opened=None), Limits(failed_new=0), "new connections failed"),
        (
            replace(NEW, begun=119.0, opened=None, outcome="ETIMEDOUT"),
            Limits(restore_ms=500),
            "served again after None",
        ),
    ],
)
def test_each_way_to_fail_is_named(row: Connection, limits: Limits, reason: str) -> None:
    result = report("x", [HELD, NEW, row], FAULT, limits)
    assert result["verdict"] == "failed"
    assert any(reason in text for text in result["reasons"])


def test_connections_of_a_killed_server_are_expected_to_break() -> None:
    lost = replace(HELD, backend="agent_w3", outcome="ECONNRESET", ended=111.0)
    result = report("backend_crash", [HELD, NEW, lost], FAULT, Limits())
    assert (result["established_broken"], result["expected_broken"], result["verdict"]) == (0, 1, "passed")


def test_a_slow_connection_is_not_yet_service() -> None:
    slow = replace(NEW, begun=110.1, opened=111.2)
    first, steady = restored_at([slow, NEW], 110.0, 120.0)
    assert (first, steady) == (111.01, 111.0)


def test_connections_not_answered_by_a_server_are_not_established() -> None:
    assert established_at([replace(HELD, backend="")], 110.0) == []
    assert established_at([replace(HELD, ended=109.0)], 110.0) == []


def test_a_drill_without_connections_is_no_drill() -> None:
    with pytest.raises(RecordError, match="did not run"):
        report("x", [], FAULT, Limits())
    with pytest.raises(RecordError, match="no connection was open"):
        report("x", [NEW], FAULT, Limits())


def test_the_timeline_counts_open_connections() -> None:
    line = timeline([HELD, NEW])
    at = {int(t): n for t, n in zip(line["t"], line["open"], strict=True)}
    assert (at[100], at[111], at[129], at[130]) == (1, 1, 1, 0)


def test_the_command_writes_report_and_picture(tmp_path: Path) -> None:
    rows = [{k: v for k, v in vars(row).items() if k != "client"} for row in (HELD, NEW)]
    (tmp_path / "cli_w1.json").write_text(json.dumps({"records": rows}))
    code = main(["hasher_loss", str(tmp_path / "cli_w1.json"), "--fault-at", "110", "--output", str(tmp_path / "out")])
    assert code == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["verdict"] == "passed"
    assert "<svg" in (tmp_path / "out" / "timeline.svg").read_text()


def test_a_bad_record_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cli_w1.json").write_text(json.dumps({"records": [{"population": "held"}]}))
    assert main(["x", str(tmp_path / "cli_w1.json"), "--fault-at", "1", "--output", str(tmp_path)]) == 2
    assert "cli_w1" in capsys.readouterr().err
