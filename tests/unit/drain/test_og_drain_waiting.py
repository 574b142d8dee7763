# SPDX-License-Identifier: Apache-2.0
"""The waiting of og_drain from the controller: slices of a module that is a stand-in here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase

from action_plugins import og_drain


class Waiting(og_drain.ActionModule):  # type: ignore[misc]
    """Runs no module: notes what it was asked, and answers. The clock goes on by each slice's time."""

    def __init__(self, answers: list[dict[str, Any]], *, gone: bool = False, **arguments: Any) -> None:
        self._task = SimpleNamespace(args={"name": "ogr_w1", **arguments}, check_mode=False)
        self.answers, self.gone, self.now = answers, gone, 0.0
        self.asked: list[dict[str, Any]] = []

    def _execute_module(self, module_args: Any = None, **_: Any) -> dict[str, Any]:
        if self._task.check_mode:
            return {"changed": self.gone}
        arguments = module_args or self._task.args
        self.asked.append(arguments)
        self.now += arguments["timeout_s"]
        return {"changed": len(self.asked) == 1, "left": 3, "unit": "connections", **self.answers[len(self.asked) - 1]}


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})
    monkeypatch.setattr(og_drain, "display", SimpleNamespace(display=lambda _: None))


def wait(monkeypatch: pytest.MonkeyPatch, waiting: Waiting) -> dict[str, Any]:
    monkeypatch.setattr(og_drain, "time", SimpleNamespace(monotonic=lambda: waiting.now, sleep=lambda _: None))
    return waiting.run(task_vars={"inventory_hostname": "ogr_w1"})


@pytest.mark.parametrize(("timeout_s", "settle_s"), [(100, 5), (1800, 15), (31, 5), (14, 5)])
def test_every_slice_has_room_for_the_quiet_time(
    monkeypatch: pytest.MonkeyPatch, timeout_s: int, settle_s: int
) -> None:
    waiting = Waiting([{}] * 200, timeout_s=timeout_s, settle_s=settle_s)
    wait(monkeypatch, waiting)
    assert all(asked["timeout_s"] >= min(2 * settle_s, timeout_s) for asked in waiting.asked)
    assert sum(asked["timeout_s"] for asked in waiting.asked) == timeout_s
    assert "fail_on_timeout" not in waiting.asked[-1], "the last one says that time is up"


def test_what_the_first_slice_changed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    result = wait(monkeypatch, Waiting([{}, {}, {"idle": True, "left": 0}], timeout_s=100))
    assert (result["changed"], result["idle"]) == (True, True)


def test_a_drain_that_somebody_ended_is_not_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting([{}] * 9, gone=True, timeout_s=100)
    result = wait(monkeypatch, waiting)
    assert result["failed"]
    assert result["msg"] == "ogr_w1: somebody has ended the drain meanwhile"
    assert len(waiting.asked) == 1


def test_time_that_is_up_is_that_of_the_whole_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    late = {"failed": True, "msg": "ogr_w1 is drained, but not idle after 15 s: 3 connections. It gets no new flows"}
    result = wait(monkeypatch, Waiting([{}] * 8 + [late] * 2, timeout_s=95))
    assert result["msg"].startswith("ogr_w1 is drained, but not idle after 95 s: 3 connections.")


def test_a_slice_that_cannot_look_does_not_end_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    away = {"failed": True, "msg": "Consul at 127.0.0.1:8500: Connection refused"}
    result = wait(monkeypatch, Waiting([{}, away, away, {"idle": True, "left": 0}], timeout_s=300))
    assert (result.get("failed"), result["changed"], result["idle"]) == (None, True, True)
    waiting = Waiting([{}, *[away] * 20], timeout_s=300)
    assert wait(monkeypatch, waiting)["msg"] == away["msg"]
    assert len(waiting.asked) == 1 + og_drain.MISSES_MAX + 1
    first = Waiting([away], timeout_s=300)
    assert wait(monkeypatch, first)["failed"]
    assert len(first.asked) == 1, "what cannot be drained at all is told at once"


@pytest.mark.parametrize("settle_s", ["inf", "soon", None])
def test_a_wrong_time_is_the_module_s_to_refuse(monkeypatch: pytest.MonkeyPatch, settle_s: Any) -> None:
    waiting = Waiting([{"failed": True}], timeout_s=100, settle_s=settle_s)
    assert wait(monkeypatch, waiting)["failed"]
    assert len(waiting.asked) == 1
