# SPDX-License-Identifier: Apache-2.0
"""og_drain: what it writes, what it waits for, what it says when it cannot. Consul itself: tests/services."""

from __future__ import annotations

import base64
import http.server
import json
import os
import shlex
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from ansible.module_utils.og_drain import (
    CLIENT_VERDICTS,
    HASHER,
    ROUTER,
    DrainError,
    Load,
    Step,
    Watch,
    agent_load,
    apply,
    member_load,
    packet_load,
    plan,
    wait,
)
from hypothesis import given
from hypothesis import strategies as st

from filter_plugins.og_drain import og_drain_problems
from library import og_drain
from tests.unit.conftest import READ_ONLY, ROOT, run_module

Run = Callable[..., dict[str, Any]]

# ---- the plan


def test_only_what_differs_is_written() -> None:
    assert plan(["a", "b"], ["b", "c"], drain=True) == [Step("a", drain=True)]
    assert plan(["a", "b"], ["b", "c"], drain=False) == [Step("b", drain=False)]
    assert str(Step("a", drain=True)) == "drain a"


names = st.sets(st.sampled_from("abcdef"))


@given(names, names, st.booleans())
def test_a_plan_reaches_its_goal_and_touches_nobody_else(wanted: set[str], drained: set[str], drain: bool) -> None:
    after = apply(plan(wanted, drained, drain=drain), drained)
    assert plan(wanted, after, drain=drain) == []
    assert after == (drained | wanted if drain else drained - wanted)


# ---- what is still going on


def test_connections_of_an_application_host() -> None:
    services = {"web": {"connections": 3}, "dns": {"connections": 4}}
    assert agent_load({"time": 1000.0, "services": services}, 1001.0) == Load(7, "connections")
    assert agent_load({"time": 1000.0, "services": {}}, 1001.0).left == 0
    with pytest.raises(DrainError, match="the agent's status is 60 s old"):
        agent_load({"time": 1000.0, "services": services}, 1060.0)
    with pytest.raises(DrainError, match="not an agent's status"):
        agent_load({"services": services}, 1060.0)


def test_connections_of_a_site() -> None:
    members = {
        "agent_w1": {"name": "agent_w1", "kind": "agent", "connections": 2},
        "agent_w2": {"name": "agent_w2", "kind": "agent", "connections": 5},
        "ogr_e1": {"name": "ogr_e1", "kind": "router", "connections": 9},
    }
    assert member_load(members, ["agent_w1", "agent_w2"]).left == 7
    with pytest.raises(DrainError, match="this router knows no server agent_w9, ogr_e1"):
        member_load(members, ["agent_w1", "agent_w9", "ogr_e1"])


def test_only_clients_packets_keep_a_gateway_node_busy() -> None:
    before = {"pinned": 10, "hunt_1": 1, "probe_answered": 100, "rx": 111}
    assert packet_load(ROUTER, before, before | {"probe_answered": 150, "rx": 161, "drop_source": 9}).left == 0
    assert packet_load(ROUTER, before, before | {"pinned": 12, "hunt_1": 2}).left == 3
    assert packet_load(HASHER, {"steered": 4}, {"steered": 6, "pinned": 9}).left == 2
    assert packet_load(HASHER, {"steered": 4}, {"steered": 0}).left == 0  # restarted


def test_the_verdicts_exist() -> None:
    header = (ROOT / "native/lib/og_verdict.h").read_text()
    assert all(f'"{name}"' in header for names in CLIENT_VERDICTS.values() for name in names)


class Clock:
    """A clock that only sleep moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def waited(loads: list[int], settle_s: float = 2, timeout_s: float = 60) -> tuple[bool, Watch, float]:
    clock, watch, samples = Clock(), Watch(settle_s, timeout_s), iter(loads)
    idle = wait(watch, lambda: Load(next(samples, loads[-1]), "connections"), clock, clock.sleep)
    return idle, watch, clock.now - 100.0


def test_idle_is_quiet_without_a_break() -> None:
    idle, watch, seconds = waited([5, 0, 1, 0, 0, 0])
    assert (idle, seconds) == (True, 5.0)
    assert [note["left"] for note in watch.progress] == [5, 0]


def test_time_is_up() -> None:
    idle, watch, seconds = waited([4], timeout_s=25)
    assert (idle, seconds) == (False, 25.0)
    assert [note["after_s"] for note in watch.progress] == [0.0, 10.0, 20.0, 25.0]
    assert watch.last == Load(4, "connections")


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.integers(0, 5), st.integers(1, 30))
def test_waiting_ends_and_never_calls_a_busy_member_idle(loads: list[int], settle_s: int, timeout_s: int) -> None:
    idle, watch, seconds = waited(loads, settle_s, timeout_s)
    assert seconds <= timeout_s
    end = int(seconds) + 1
    seen = (loads + [loads[-1]] * 100)[:end]
    if idle:
        assert not any(seen[-(settle_s + 1) :])
        assert len(seen) > settle_s
    assert watch.progress[0]["left"] == loads[0]


# ---- the module


class Standin:
    """Consul's KV store as its API says: keys of one datacenter, 404 for an empty prefix; and og-health's report."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.requests: list[str] = []
        self.drained = False
        self.status = 200
        self.node = ""  # what the agent calls this host; empty: it does not say
        self.transactions = 10**6  # how many more it takes
        self.refusal = 409
        self.lost = False  # the one after those is done, and its answer lost
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def handle_one(self) -> None:
                parts = urlsplit(self.path)
                outer.requests.append(f"{self.command} {self.path}")
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, answer = outer.answer(self.command, parts.path, parse_qs(parts.query, True), body)
                if not status:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_PUT = do_DELETE = handle_one  # noqa: N815

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, bytes]:
        if path == "/health":
            return 503 if self.drained else 200, json.dumps({"drained": self.drained, "healthy": True}).encode()
        if path == "/v1/agent/self":
            return (200, json.dumps({"Config": {"NodeName": self.node}}).encode()) if self.node else (403, b"")
        if self.status != 200:
            return self.status, b"Permission denied"
        assert query["dc"] == ["west"]
        if path == "/v1/txn":
            return self.transact([item["KV"] for item in json.loads(body)])
        key = unquote(path.removeprefix("/v1/kv/"))
        assert method == "GET"
        found = sorted(name for name in self.keys if name.startswith(key))
        return (200, json.dumps(found).encode()) if found else (404, b"")

    def transact(self, operations: list[dict[str, str]]) -> tuple[int, bytes]:
        assert len(operations) <= 64
        self.transactions -= 1
        if self.transactions < 0 and not self.lost:
            return self.refusal, b'{"Errors":[{"OpIndex":0,"What":"no cluster leader"}]}'
        for operation in operations:
            if operation["Verb"] == "delete":
                self.keys.pop(operation["Key"], None)
            else:
                self.keys[operation["Key"]] = base64.b64decode(operation["Value"]).decode()
        return (200, b'{"Results":[]}') if self.transactions >= 0 else (0, b"")


@pytest.fixture
def standin() -> Iterator[Standin]:
    server = Standin()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def status(tmp_path: Path) -> Callable[[int], None]:
    """Write what the agent daemon writes, as if it went on doing so for a long time."""

    def write(connections: int) -> None:
        data = {"time": time.time() + 3600, "services": {"web": {"connections": connections}}}
        (tmp_path / "status.new").write_text(json.dumps(data))
        (tmp_path / "status.new").rename(tmp_path / "agent.status.json")

    return write


@pytest.fixture
def run(standin: Standin, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(**options: Any) -> dict[str, Any]:
        defaults = {
            "name": "agent_w1",
            "kind": "agent",
            "site": "west",
            "consul_url": standin.url,
            "health_url": f"{standin.url}/health",
            "agent_status": str(tmp_path / "agent.status.json"),
            "telemetry_socket": str(tmp_path / "telemetry"),
            "settle_s": 0,
        }
        return run_module(og_drain.main, defaults | options, capsys)

    return call


def telemetry(path: Path, answers: Callable[[str], Any]) -> None:
    """Answer as a DPDK process does (DPDK Programmer's Guide, Telemetry)."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()

    def converse(connection: socket.socket) -> None:
        with connection:
            connection.send(b'{"version":"DPDK 24.11.8","pid":8,"max_output_len":16384}')
            while command := connection.recv(1024).decode():
                connection.send(json.dumps({command.partition(",")[0]: answers(command)}).encode())

    def serve() -> None:
        while True:
            threading.Thread(target=converse, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()


def test_a_server_is_drained_and_restored(run: Run, standin: Standin, status: Callable[[int], None]) -> None:
    status(0)
    answer = run(_ansible_check_mode=True)
    assert (answer["changed"], answer["actions"], answer["idle"]) == (True, ["drain agent_w1"], True)
    assert standin.keys == {}
    answer = run(reason="new kernel")
    assert (answer["changed"], answer["idle"], answer["left"]) == (True, True, 0)
    assert answer["diff"] == {"before": {"drained": []}, "after": {"drained": ["agent_w1"]}}
    assert standin.keys == {"og/west/drain/agent_w1": "new kernel"}
    again = run()
    assert (again["changed"], again["actions"], again["idle"]) == (False, [], True)
    assert standin.keys == {"og/west/drain/agent_w1": "new kernel"}
    assert run(state="active", _ansible_check_mode=True)["actions"] == ["restore agent_w1"]
    assert run(state="active")["changed"] is True
    assert standin.keys == {}
    assert run(state="active")["changed"] is False


def test_it_waits_for_the_last_connection(run: Run, status: Callable[[int], None]) -> None:
    status(2)
    ended = threading.Timer(1.5, lambda: status(0))
    ended.start()
    answer = run(timeout_s=60)
    ended.join()
    assert answer["idle"] is True
    assert [note["left"] for note in answer["progress"]] == [2, 0]


def test_time_that_is_up_is_an_error_that_says_what_is_left(
    run: Run, standin: Standin, status: Callable[[int], None]
) -> None:
    status(3)
    answer = run(timeout_s=1)
    assert (answer["failed"], answer["left"]) == (True, 3)
    assert (answer["changed"], answer["actions"]) == (True, ["drain agent_w1"])
    assert answer["msg"].startswith("agent_w1 is drained, but not idle after 1 s: 3 connections.")
    assert "agent_w1" in next(iter(standin.keys))
    again = run(timeout_s=1)
    assert (again["failed"], again["changed"], again["actions"]) == (True, False, [])
    assert run(timeout_s=1, fail_on_timeout=False)["idle"] is False
    assert run(timeout_s=0)["left"] == 3


def test_others_marks_stay(run: Run, standin: Standin, status: Callable[[int], None]) -> None:
    status(0)
    standin.keys = {"og/west/drain/agent_w10": "x", "og/west/drain/": ""}
    run()
    run(state="active")
    assert standin.keys == {"og/west/drain/agent_w10": "x", "og/west/drain/": ""}


def test_a_router_is_idle_when_no_client_comes(run: Run, standin: Standin, tmp_path: Path) -> None:
    packets = iter([5, 9, 9, 9, 9, 9, 9, 9, 9, 9])
    telemetry(tmp_path / "telemetry", lambda _: {"pinned": next(packets), "probe_answered": 7})
    answer = run(name="ogr_w1", kind="router", timeout_s=60)
    assert standin.keys == {"og/west/drain/ogr_w1": "og_drain"}
    assert answer["idle"] is True
    assert [note["left"] for note in answer["progress"]] == [0] or answer["progress"][0]["left"] == 4


def test_a_site_is_drained_by_its_servers(run: Run, standin: Standin, tmp_path: Path) -> None:
    members = {
        f"m{at}": {"name": f"agent_w{at}", "kind": "agent", "connections": 1 if at == 40 else 0} for at in range(1, 41)
    }

    def answer(command: str) -> Any:
        skip = int(command.partition(",")[2] or 0)
        return dict(list(members.items())[skip : skip + 32])

    telemetry(tmp_path / "telemetry", answer)
    wanted = ["agent_w1", "agent_w40"]
    result = run(name="west", kind="site", members=wanted, timeout_s=0)
    assert result["left"] == 1
    assert sorted(standin.keys) == ["og/west/drain/agent_w1", "og/west/drain/agent_w40"]
    assert run(name="west", kind="site", members=wanted, state="active")["changed"] is True
    assert standin.keys == {}
    assert "members" in run(name="west", kind="site")["msg"]


def test_a_site_is_marked_without_anybody_who_watches(run: Run, standin: Standin) -> None:
    """One of the servers may be unknown to the routers; without waiting the others are marked all the same."""
    site = {"name": "west", "kind": "site", "members": ["agent_w1", "agent_w2"]}
    assert "data plane: " in run(**site)["msg"]
    assert standin.keys == {}
    answer = run(**site, timeout_s=0)
    assert (answer["changed"], "idle" in answer) == (True, False)
    assert sorted(standin.keys) == ["og/west/drain/agent_w1", "og/west/drain/agent_w2"]
    assert run(**site, timeout_s=0)["changed"] is False


def test_who_is_not_idle_is_named() -> None:
    hosts: dict[str, dict[str, Any]] = {
        "agent_w1": {"__drain_result": {"msg": "agent_w1 is drained, but not idle after 3 s: 2 connections."}},
        "agent_w2": {"__drain_result": {"changed": True, "actions": [], "idle": True}},
        "agent_w3": {"__drain_result": {"unreachable": True, "msg": "no route\nto host"}},
        "ogh_w1": {},
    }
    assert og_drain_problems(list(hosts), hosts) == [
        "agent_w1 is drained, but not idle after 3 s: 2 connections.",
        "agent_w3: no route to host",
        "ogh_w1: not asked",
    ]
    assert og_drain_problems(["agent_w2"], hosts) == []


def test_a_hasher_is_drained_by_its_health_daemon(run: Run, standin: Standin, tmp_path: Path) -> None:
    """The program stands for og-health: it leaves a file, and the daemon follows a moment later."""
    program, log = tmp_path / "og-health", tmp_path / "log"
    program.write_text(f'#!/bin/sh\necho "$@" >>{log}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    telemetry(tmp_path / "telemetry", lambda _: {"steered": 5})
    hasher = {"name": "ogh_w1", "kind": "hasher", "health_program": str(program)}
    assert run(**hasher, _ansible_check_mode=True)["actions"] == ["drain ogh_w1"]
    assert not log.exists()

    def follow(drained: bool) -> None:
        while "--undrain" not in log.read_text() if not drained and log.exists() else not log.exists():
            time.sleep(0.05)
        standin.drained = drained

    threading.Thread(target=follow, args=(True,), daemon=True).start()
    assert run(**hasher)["changed"] is True
    assert run(**hasher)["changed"] is False
    threading.Thread(target=follow, args=(False,), daemon=True).start()
    assert run(**hasher, state="active")["changed"] is True
    assert log.read_text().split() == ["--drain", "--undrain"]
    assert not any("/v1/kv/" in request for request in standin.requests)


def test_a_router_that_a_round_has_left_drained_is_restored(run: Run, standin: Standin, tmp_path: Path) -> None:
    """By its health daemon, which the mark in Consul says nothing of. The program stands for og-health."""
    program, log = tmp_path / "og-health", tmp_path / "log"
    program.write_text(f'#!/bin/sh\necho "$@" >>{log}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    router = {"name": "ogr_w1", "kind": "router", "state": "active", "health_program": str(program)}
    standin.drained = True
    assert run(**router, _ansible_check_mode=True)["actions"] == ["restore ogr_w1"]
    assert not log.exists()

    def follow() -> None:
        while not log.exists():
            time.sleep(0.05)
        standin.drained = False

    threading.Thread(target=follow, daemon=True).start()
    assert run(**router)["changed"] is True
    assert log.read_text().split() == ["--undrain"]
    assert run(**router)["changed"] is False
    standin.keys = {"og/west/drain/ogr_w1": "x"}
    standin.drained, standin.transactions = True, 0
    log.unlink()
    threading.Thread(target=follow, daemon=True).start()
    said = run(**router)["msg"]
    assert "not done: restore ogr_w1" in said
    assert "done before, by og-health: restore ogr_w1" in said
    standin.transactions = 10
    assert run(**router)["changed"] is True
    assert standin.keys == {}
    assert log.read_text().split() == ["--undrain"], "it was not drained by its health daemon"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "server"}, "value of kind must be one of: agent, router, hasher, site"),
        ({"name": "a/b"}, "'a/b' is not the name of a node or site"),
        ({"site": ""}, "'' is not the name of a node or site"),
        ({"consul_url": "ftp://x"}, "consul_url: not an http:// address of a Consul agent: ftp://x"),
        ({"consul_url": "ftp://og:5ecret@x"}, "not an http:// address of a Consul agent: ftp://x"),
        ({"consul_url": "http://127.0.0.1:9"}, "Consul at 127.0.0.1:9: "),
        (
            {"consul_url": "http://127.0.0.1:port"},
            "consul_url: not an http:// address of a Consul agent: Port could not be cast",
        ),
        ({"consul_url": "http://127.0.0.1:99999"}, "Port out of range 0-65535: http://127.0.0.1:99999"),
        ({"consul_url": "http://[::1"}, "not an http:// address of a Consul agent: Invalid IPv6 URL: http://[::1"),
        ({"consul_token": "5ecret\n"}, "consul_token: has characters that no HTTP header can hold"),
        ({"timeout_s": -1}, "timeout_s: -1 is less than 0; nothing was changed"),
        ({"settle_s": -5}, "settle_s: -5 is less than 0; nothing was changed"),
        ({"name": "agent_\x07"}, "is not the name of a node or site"),
        ({"kind": "hasher", "health_url": "http://127.0.0.1:x/"}, "health_url: http://127.0.0.1:x/: "),
        ({"agent_status": "/nowhere/status.json"}, "/nowhere/status.json: "),
        ({"kind": "router"}, "data plane: "),
    ],
)
def test_wrong_input_changes_nothing(  # noqa: PLR0917
    run: Run,
    standin: Standin,
    status: Callable[[int], None],
    tmp_path: Path,
    options: dict[str, Any],
    message: str,
) -> None:
    status(0)
    if options.get("kind") == "hasher":
        telemetry(tmp_path / "telemetry", lambda _: {"steered": 5})
    for check_mode in (True, False):
        answer = run(**options, _ansible_check_mode=check_mode)
        assert answer["failed"] is True
        assert message in answer["msg"]
        assert "5ecret" not in answer["msg"]
        assert standin.keys == {}


@pytest.mark.parametrize("kind", ["agent", "router", "hasher"])
def test_another_host_s_name_is_refused(
    run: Run, standin: Standin, status: Callable[[int], None], tmp_path: Path, kind: str
) -> None:
    """What is watched, and what a hasher withdraws, is this host's."""
    status(0)
    telemetry(tmp_path / "telemetry", lambda _: {"steered": 5})
    standin.node = "other_w1"
    for state in ("drained", "active"):
        answer = run(kind=kind, state=state)
        assert answer["msg"] == "name: agent_w1 is not this host, which Consul knows as other_w1; run it there"
    assert standin.keys == {}
    standin.node = "agent_w1"
    if kind == "agent":
        assert run(kind=kind)["changed"] is True


SITE = [f"agent_w{at}" for at in range(1, 101)]


def test_a_large_site_is_written_in_as_few_steps_as_consul_takes(run: Run, standin: Standin) -> None:
    standin.keys = {"og/west/drain/agent_w7": "by hand"}
    assert run(name="west", kind="site", members=SITE, timeout_s=0)["changed"] is True
    assert len(standin.keys) == 100
    assert standin.keys["og/west/drain/agent_w7"] == "by hand"
    assert sum("/v1/txn" in request for request in standin.requests) == 2


def test_a_site_is_drained_whole_or_it_is_said_how_far(run: Run, standin: Standin) -> None:
    site: dict[str, Any] = {"name": "west", "kind": "site", "members": SITE, "timeout_s": 0}
    standin.transactions = 0
    answer = run(**site)
    assert "status 409" in answer["msg"]
    assert "no cluster leader" in answer["msg"]
    assert f"not done: {', '.join(f'drain {name}' for name in sorted(SITE))}" in answer["msg"]
    assert standin.keys == {}
    standin.transactions = 1
    answer = run(**site)
    first = sorted(SITE)[:64]
    assert f"done: drain {first[0]}, drain {first[1]}" in answer["msg"]
    assert f"not done: drain {sorted(SITE)[64]}, " in answer["msg"]
    assert sorted(standin.keys) == [f"og/west/drain/{name}" for name in first]


def test_an_answer_that_is_lost_leaves_it_open(run: Run, standin: Standin, status: Callable[[int], None]) -> None:
    status(0)
    standin.transactions, standin.lost = 0, True
    assert "not known whether done: drain agent_w1" in run()["msg"]
    standin.keys, standin.transactions, standin.lost = {}, 0, False
    standin.refusal = 500
    assert "not known whether done: drain agent_w1" in run()["msg"]


def test_a_few_lost_samples_do_not_end_a_wait(run: Run, tmp_path: Path) -> None:
    lost = iter([True, True, False, False, True, True, True] + [False] * 30)

    def answer(_: str) -> Any:
        return None if next(lost) else {"pinned": 9}  # null: a command that is not known

    telemetry(tmp_path / "telemetry", answer)
    assert "data plane: " in run(name="ogr_w1", kind="router", timeout_s=0)["msg"], "not one of two looks"
    assert run(name="ogr_w1", kind="router", timeout_s=60)["idle"] is True


def test_a_member_that_was_drained_and_is_not_seen_any_more_is_told_as_drained(
    run: Run, standin: Standin, tmp_path: Path
) -> None:
    seen = iter([{"pinned": 9}, {"pinned": 12}])
    telemetry(tmp_path / "telemetry", lambda _: next(seen, None))
    answer = run(name="ogr_w1", kind="router", timeout_s=60)
    assert answer["msg"].startswith("ogr_w1 is drained, but whether it is idle cannot be seen any more: data plane: ")
    assert (answer["changed"], answer["actions"]) == (True, ["drain ogr_w1"])
    assert standin.keys == {"og/west/drain/ogr_w1": "og_drain"}


def test_a_member_that_is_not_seen_any_more_is_not_idle() -> None:
    clock = Clock()
    seen = iter([Load(3, "connections")])

    def look() -> Load:
        try:
            return next(seen)
        except StopIteration:
            raise DrainError("data plane: gone") from None

    with pytest.raises(DrainError, match=r"data plane: gone \(6 looks in a row have failed\)"):
        wait(Watch(0, 60), look, clock, clock.sleep)
    assert clock.now == 106.0


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_what_was_not_seen_was_not_quiet(seen: list[bool]) -> None:
    clock, watch, sights = Clock(), Watch(2, 60), iter(seen)

    def look() -> Load:
        if not next(sights, True):
            raise DrainError("data plane: gone")
        return Load(0, "connections")

    try:
        assert wait(watch, look, clock, clock.sleep)
    except DrainError:
        assert "0" * 6 in "".join(str(int(sight)) for sight in seen)
        return
    end = int(clock.now - 100)
    assert all((seen + [True] * 60)[end - 2 : end + 1])


def test_a_hasher_without_its_daemon_or_program(run: Run, tmp_path: Path) -> None:
    telemetry(tmp_path / "telemetry", lambda _: {"steered": 5})
    hasher = {"name": "ogh_w1", "kind": "hasher"}
    assert "Is og-health.service running?" in run(**hasher, health_url="http://127.0.0.1:9/health")["msg"]
    for check_mode in (True, False):
        answer = run(**hasher, health_program="/none/og-health", _ansible_check_mode=check_mode)
        said = "health_program: /none/og-health does not exist or is no program; nothing was changed"
        assert answer["msg"] == said


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
def test_a_hasher_whose_drain_file_cannot_be_written(run: Run, standin: Standin, tmp_path: Path) -> None:
    """og-health itself, started where the directory of its drain file is read-only."""
    telemetry(tmp_path / "telemetry", lambda _: {"steered": 5})
    place, config, health = tmp_path / "run", tmp_path / "health.json", tmp_path / "og-health"
    place.mkdir()
    drain_file = place / "health.drain"
    options = {"role": "hasher", "heartbeat": "/nowhere", "locator": "5f00:1:11::/64", "drain_file": str(drain_file)}
    config.write_text(json.dumps(options))
    command = [*READ_ONLY, str(place), sys.executable, "-m", "og.health", "--config", str(config)]
    health.write_text(f'#!/bin/sh\ncd {ROOT} && exec {shlex.join(command)} "$@"\n')
    health.chmod(health.stat().st_mode | stat.S_IXUSR)
    answer = run(name="ogh_w1", kind="hasher", health_program=str(health))
    assert answer["failed"] is True
    assert answer["msg"] == f"{health}: og-health: {drain_file}: Read-only file system"
    assert not drain_file.exists()
    assert standin.keys == {}


def test_consul_that_refuses(run: Run, standin: Standin, status: Callable[[int], None]) -> None:
    status(0)
    standin.status = 403
    assert "status 403: Permission denied" in run()["msg"]
    assert standin.keys == {}


def test_the_controller_shows_what_is_left(standin: Standin, status: Callable[[int], None], tmp_path: Path) -> None:
    """The action plugin, in a real run of Ansible: the connections end once it has said that they are there."""
    status(3)
    options = {
        "name": "agent_w1",
        "kind": "agent",
        "site": "west",
        "consul_url": standin.url,
        "agent_status": str(tmp_path / "agent.status.json"),
        "settle_s": 0,
        "timeout_s": 300,
    }
    playbook = tmp_path / "drain.yml"
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [{"og_drain": options}]}
    playbook.write_text(json.dumps([play]))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-v", "-i", "localhost,", str(playbook)]
    variables = ["-e", f"ansible_python_interpreter={sys.executable}"]
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    shown = []
    with subprocess.Popen([*command, *variables], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            shown.append(line)
            if "3 connections left (waiting 300 s at most)" in line:
                status(0)
    output = "".join(shown)
    assert process.returncode == 0, output
    assert "localhost: agent_w1 drained" in output
    assert "changed=1" in output
    assert standin.keys == {"og/west/drain/agent_w1": "og_drain"}
