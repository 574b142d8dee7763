# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from og.health import machine
from og.health.announcer import RETRY_MS, Announcer
from og.health.config import Config, check
from og.health.daemon import ProcessWatch, wanted_paths
from og.health.endpoint import Report, serve
from og.health.grpc import Channel, ConnectionLostError, split_messages
from og.health.heartbeat import Beat

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCATOR = "5f00:1:11::/64"
VIP = "2001:db8:1::80/128"
OPEN, CLOSED = machine.Gate(is_open=True), machine.Gate()


def config(role: str = "hasher") -> Config:
    vips = ["2001:db8:1::80"] if role == "hasher" else []
    return check({"role": role, "heartbeat": "/run/og/x", "locator": LOCATOR, "vips": vips})


@pytest.mark.parametrize(
    ("role", "state", "drained", "wanted"),
    [
        ("hasher", machine.State(), False, None),
        ("hasher", machine.State(decided=True), False, set()),
        ("hasher", machine.State(decided=True, alive=OPEN, serving=CLOSED), False, {LOCATOR}),
        ("hasher", machine.State(decided=True, alive=OPEN, serving=OPEN), False, {LOCATOR, VIP}),
        ("hasher", machine.State(decided=True, alive=OPEN, serving=OPEN), True, {LOCATOR}),
        ("hasher", machine.State(decided=True, alive=CLOSED, serving=OPEN), False, set()),
        ("router", machine.State(decided=True, alive=OPEN, serving=OPEN), False, {LOCATOR}),
        ("router", machine.State(decided=True, alive=OPEN, serving=OPEN), True, {LOCATOR}),
    ],
)
def test_what_is_announced(role: str, state: machine.State, drained: bool, wanted: set[str] | None) -> None:
    assert wanted_paths(config(role), state, drained) == wanted


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def beat_of(pid: int, incarnation: int = 1) -> Beat:
    return Beat(1, 1, 3, pid, incarnation)


def test_the_end_of_a_process_wakes_the_watcher(sleeper: subprocess.Popen[bytes]) -> None:
    watch = ProcessWatch()
    watch.follow(beat_of(sleeper.pid))
    descriptor = watch.fileno()
    assert descriptor is not None
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    assert not poller.poll(0)
    sleeper.send_signal(signal.SIGKILL)
    assert poller.poll(10_000)
    sleeper.wait()
    watch.follow(None)
    watch.follow(beat_of(sleeper.pid))
    assert watch.gone
    assert watch.fileno() is None


def test_a_new_incarnation_under_an_old_number_is_followed_anew(sleeper: subprocess.Popen[bytes]) -> None:
    watch = ProcessWatch()
    watch.follow(beat_of(sleeper.pid))
    watch.gone = True
    watch.follow(beat_of(sleeper.pid))
    assert watch.gone
    watch.follow(beat_of(sleeper.pid, incarnation=2))
    assert watch.fileno() is not None
    watch.close()


def get(port: int, path: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    document = json.load(answer)
    connection.close()
    return answer.status, document


def test_the_endpoint_answers_with_what_is_current() -> None:
    report = Report(healthy=True, reason="serving", loops=7, announced=(VIP,))
    server = serve(("127.0.0.1", 0), lambda: report)
    port = int(server.server_address[1])
    try:
        status, document = get(port, "/health")
        assert status == 200
        assert document["announced"] == [VIP]
        assert {"healthy", "reason", "loops", "generation", "serving", "announced"} <= set(document)
        report = Report(reason="no progress for 200 ms")
        status, document = get(port, "/health")
        assert (status, document["reason"]) == (503, "no progress for 200 ms")
        assert get(port, "/")[0] == 404
    finally:
        server.shutdown()
        server.server_close()


class Peer:
    """A listening socket that answers one connection with fixed bytes, or never, or hangs up."""

    def __init__(self, path: Path, answer: bytes | None) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._answer = answer
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.recv(65536)
            if self._answer is not None:
                connection.sendall(self._answer)
            if self._answer != b"":
                self._done.wait(30)

    def close(self) -> None:
        self._done.set()
        self._thread.join(30)
        self._listener.close()


@pytest.mark.parametrize(
    ("answer", "timeout_ms", "said"),
    [
        (None, 200, "no answer within|timed out"),
        (b"", 10_000, "closed by the peer|reset|Broken pipe"),
        (bytes(9), 10_000, "not HTTP/2"),  # a DATA frame on stream 0, RFC 9113 section 6.1
    ],
)
def test_a_peer_that_speaks_no_grpc_ends_the_connection(
    tmp_path: Path, answer: bytes | None, timeout_ms: int, said: str
) -> None:
    peer = Peer(tmp_path / "api.sock", answer)
    try:
        with Channel(tmp_path / "api.sock", timeout_ms) as channel, pytest.raises(ConnectionLostError, match=said):
            channel.call("/api.GoBgpService/ListPath", b"")
    finally:
        peer.close()


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0\0\x05abc", b"\x01\0\0\0\x01a"])
def test_a_broken_message_prefix_is_refused(data: bytes) -> None:
    with pytest.raises(ConnectionLostError):
        split_messages(data)


def test_messages_are_split() -> None:
    assert split_messages(b"\0\0\0\0\x01a\0\0\0\0\x00\0\0\0\0\x02bc") == [b"a", b"", b"bc"]


def test_an_absent_gobgp_is_asked_again_only_after_a_while(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    announcer = Announcer(path, [VIP, LOCATOR], timeout_ms=100, reconcile_ms=5000)
    announcer.sync(frozenset({VIP}), now=1000)
    assert "No such file" in announcer.error
    assert announcer.announced == ()
    assert announcer.fileno() is None
    peer = Peer(path, b"")
    try:
        announcer.sync(frozenset({VIP}), now=1000 + RETRY_MS - 1)
        assert "No such file" in announcer.error
        announcer.sync(frozenset({VIP}), now=1000 + RETRY_MS)
        assert "No such file" not in announcer.error
        assert announcer.error
    finally:
        peer.close()


def pidfds() -> int:
    """How many this process has; other descriptors come and go with what other tests have left running."""
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += str(descriptor.readlink()) == "anon_inode:[pidfd]"
    return count


def test_no_pidfd_is_left_open() -> None:
    before = pidfds()
    watch = ProcessWatch()
    for incarnation in range(20):
        watch.follow(beat_of(os.getpid(), incarnation))
    assert pidfds() == before + 1
    watch.close()
    assert pidfds() == before
