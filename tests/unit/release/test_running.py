# SPDX-License-Identifier: Apache-2.0
"""What runs on a host, read from its processes; and when a node counts as ready."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from library import og_ready
from og import running

if TYPE_CHECKING:
    from collections.abc import Iterator

A, B = "a" * 16, "b" * 16


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (A, B):
        (tmp_path / "og/releases" / name).mkdir(parents=True)
        (tmp_path / "og/releases" / name / "manifest.json").write_text("{}")
    (tmp_path / "og/current").symlink_to(f"releases/{B}")
    return tmp_path / "og"


def test_links(root: Path) -> None:
    assert (running.current(root), running.previous(root), running.installed(root)) == (B, "", [A, B])
    (root / "previous").symlink_to(f"releases/{A}")
    assert running.previous(root) == A
    (root / "releases" / A / "manifest.json").unlink()
    assert (running.previous(root), running.installed(root)) == ("", [B])


def test_a_process_tells_its_release_by_its_program_or_its_modules(root: Path) -> None:
    program = root / f"releases/{A}/bin/og-router"
    program.parent.mkdir()
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    environment = os.environ | {"PYTHONPATH": str(root / f"releases/{B}/lib")}
    with (
        subprocess.Popen([program, "60"]) as native,
        subprocess.Popen(["sleep", "60"], env=environment) as python,
        subprocess.Popen(["sleep", "60"]) as stranger,
    ):
        try:
            wait_until_executed(native.pid, python.pid, stranger.pid)
            found = [running.release_of(process.pid, root=root) for process in (native, python, stranger)]
            program.unlink()  # a release that is gone may still run
            gone = running.release_of(native.pid, root=root)
        finally:
            for process in (native, python, stranger):
                process.kill()
    assert (found, gone) == ([A, B, ""], A)
    assert running.release_of(0) == running.release_of(native.pid, root=root) == ""


def wait_until_executed(*pids: int) -> None:
    deadline = time.monotonic() + 30
    while any(b"60" not in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_units_are_read_from_systemctl(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = (
        "MainPID=0\nId=og-agent.service\nLoadState=loaded\nActiveState=failed\n\n"
        f"MainPID={os.getpid()}\nId=og-stats.service\nLoadState=loaded\nActiveState=active\n"
    )
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\ncat <<'E'\n{shown}E\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert running.units("agent", root=root) == [
        running.Unit("og-agent", active=False, pid=0, release=""),
        running.Unit("og-stats", active=True, pid=os.getpid(), release=""),
    ]
    assert running.units("toaster") == []


def test_a_unit_without_a_process_is_of_no_release_and_may_be_stale(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """og-routes has done its work; og-router runs something."""
    found = [running.Unit("og-routes", active=True, pid=0, release=""), running.Unit("og-router", True, 7, A)]
    monkeypatch.setattr(og_ready, "units", lambda *_, **__: found)
    monkeypatch.setattr(og_ready, "STARTED", str(tmp_path / "{}.started"))
    unit = tmp_path / "og-routes.service"
    unit.write_text("ExecStart=ip -6 route replace blackhole 2001:db8::1/128\n")
    done = subprocess.run(["sha256sum", unit], capture_output=True, text=True, check=True)
    (tmp_path / "og-routes.started").write_text(done.stdout)
    facts = og_ready.Facts()
    og_ready.look_at_units(facts, "router", A, root)
    assert (facts.problems(), facts.stale) == ([], [])
    unit.write_text(unit.read_text() + "ExecStart=ip -6 route replace blackhole 2001:db8::2/128\n")
    og_ready.look_at_units(facts, "router", B, root)
    assert facts.stale == ["og-routes"]
    assert facts.problems() == [f"units: og-router runs release {A}, not {B}"]
    found[0] = running.Unit("og-routes", active=False, pid=0, release="")
    facts = og_ready.Facts()
    og_ready.look_at_units(facts, "router", A, root)
    assert facts.problems() == ["units: og-routes does not run"]


PARAMETERS = {"state": "ready", "role": "router", "others": 1, "leaving": ["ogr_w3"]}


def test_enough_others_must_stay() -> None:
    facts = og_ready.Facts(others=["ogr_w2", "ogr_w3"])
    assert og_ready.missing(facts, PARAMETERS) == []
    facts.others = ["ogr_w3"]
    assert og_ready.missing(facts, PARAMETERS) == [
        "1 other routers of the site must pass Consul's check and not be drained: none"
    ]


def test_aside_does_not_ask_what_others_see() -> None:
    facts = og_ready.Facts()
    for who in ("health daemon", "announcement", "consul"):
        facts.say(who, "drained")
    assert og_ready.missing(facts, PARAMETERS | {"state": "aside"}) == []
    facts.say("units", "og-router does not run")
    assert og_ready.missing(facts, PARAMETERS | {"state": "aside"}) == ["units: og-router does not run"]


def test_a_key_drains_without_failing_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(og_ready, "traffic", lambda *_: 0.0)
    facts = og_ready.Facts(consul="passing")
    assert og_ready.missing(facts, PARAMETERS | {"state": "drained"}) == ["consul: still passing"]
    facts.drained = og_ready.BY_KEY
    assert og_ready.missing(facts, PARAMETERS | {"state": "drained"}) == []


def test_who_has_drained_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(og_ready, "DRAIN_FILE", tmp_path / "health.drain")
    found = []
    for text in (None, "", "by policy\n"):
        if text is not None:
            og_ready.DRAIN_FILE.write_text(text)
        facts = og_ready.Facts()
        og_ready.look_at_drain(facts)
        found.append(facts.drained)
    assert found == ["", "og-health", "by policy"]


class Consul(BaseHTTPRequestHandler):
    checks: ClassVar[Any] = []
    drained: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        answers: dict[str, Any] = {
            "/v1/health/node/ogr_w1": self.checks,
            "/v1/health/node/ogr_w2": self.checks,
            "/v1/health/service/og-router?passing": [{"Node": {"Node": name}} for name in ("ogr_w1", "ogr_w2")],
            "/v1/agent/self": {"Config": {"Datacenter": "west"}},
            "/v1/kv/og/west/drain/?dc=west&keys=&consistent=": [f"og/west/drain/{name}" for name in self.drained],
        }
        body = json.dumps(answers[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def consul() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Consul)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("checks", "status", "said"),
    [
        ([{"Name": "forwards packets", "Status": "passing"}], "passing", []),
        (
            [{"Name": "forwards packets", "Status": "critical"}, {"Name": "Serf", "Status": "passing"}],
            "critical",
            ["consul: not passing: forwards packets"],
        ),
        ([], "", ["consul: knows no node ogr_w1"]),
    ],
)
def test_consul_is_asked(consul: str, checks: Any, status: str, said: list[str]) -> None:
    Consul.checks = checks
    facts = og_ready.Facts()
    og_ready.look_at_consul(facts, "router", "ogr_w1", consul)
    assert (facts.consul, facts.others, facts.problems()) == (status, ["ogr_w2"], said)


def test_a_node_that_is_drained_by_a_key_is_no_other(consul: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Consul, "drained", ["ogr_w2", "ogr_w3"])
    for name, drained, others in (("ogr_w1", "", []), ("ogr_w2", "Consul", ["ogr_w1"])):
        facts = og_ready.Facts()
        og_ready.look_at_consul(facts, "router", name, consul)
        assert (facts.drained, facts.others) == (drained, others), name


def test_no_consul_is_said() -> None:
    facts = og_ready.Facts()
    og_ready.look_at_consul(facts, "router", "ogr_w1", "http://127.0.0.1:9")
    assert facts.problems()[0].startswith("consul: http://127.0.0.1:9:")


def test_what_a_unit_was_started_with(tmp_path: Path) -> None:
    options = tmp_path / "router.json"
    options.write_text("{}")
    done = subprocess.run(["sha256sum", options], capture_output=True, text=True, check=True)
    started = tmp_path / "og-router.started"
    started.write_text(done.stdout)
    assert og_ready.matches(started)
    options.write_text('{"threads": 2}')
    assert not og_ready.matches(started)
    options.unlink()
    assert not og_ready.matches(started)
