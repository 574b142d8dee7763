# SPDX-License-Identifier: Apache-2.0
"""The daemons of both modes: who waited for the start finds a status file."""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from og.agent import daemon
from og.agent.kernel import daemon as kernel
from tests.unit.agent.test_kernel_mode import CONFIG

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in order; a daemon that says it is ready is told to end."""
    done: list[str] = []

    def ready(text: str) -> None:
        done.append(text.partition("\n")[0])
        os.kill(os.getpid(), signal.SIGTERM)

    for module in (daemon, kernel):
        monkeypatch.setattr(module, "notify", ready)
    return done


def test_ready_is_said_after_the_first_report(monkeypatch: pytest.MonkeyPatch, told: list[str], tmp_path: Path) -> None:
    class Running:
        def __init__(self, _path: Path, config: Any) -> None:
            self.config = config

        def report(self) -> None:
            told.append("report")

    monkeypatch.setattr(daemon, "_Running", Running)
    daemon.run(tmp_path / "agent.json", replace(CONFIG, status_file=tmp_path / "status.json"))
    assert told == ["report", "READY=1"]


def test_ready_is_said_after_the_first_report_in_mode_kernel(
    monkeypatch: pytest.MonkeyPatch, told: list[str], tmp_path: Path
) -> None:
    def report(*_: Any) -> kernel.Load:
        told.append("report")
        return kernel.Load()

    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:

        class Prober:
            def __init__(self) -> None:
                self.sock = sock

        monkeypatch.setattr(kernel, "Prober", Prober)
        monkeypatch.setattr(kernel, "report", report)
        monkeypatch.setattr("og.agent.host.prepare", lambda *_: None)
        kernel.run(tmp_path / "agent.json", replace(CONFIG, status_file=tmp_path / "status.json"))
    assert told == ["report", "READY=1"]
