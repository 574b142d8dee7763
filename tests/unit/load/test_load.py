# SPDX-License-Identifier: Apache-2.0
"""og-load against real servers on loopback: what went well is counted, and what broke is named."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from og.load import http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ANSWER = b"HTTP/1.1 200 OK\r\nX-Backend: %s\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A listener that hands every connection to `serve` in a thread; yields its port."""
    with closing(socket.create_server(("::1", 0), family=socket.AF_INET6, backlog=128)) as listener:

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(sock,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


def answer(sock: socket.socket, name: bytes = b"one", limit: int = -1) -> None:
    with sock:
        try:
            while limit and sock.recv(4096):
                sock.sendall(ANSWER % name)
                limit -= 1
        except OSError:
            return


def silence(sock: socket.socket) -> None:
    """Until the client has had enough."""
    with sock, suppress(OSError):
        while sock.recv(4096):
            pass


def start(port: int, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "og.load", "--host", "::1", "--port", str(port), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> tuple[int, dict[str, object]]:
    with process:
        output, errors = process.communicate(timeout=60)
    assert output, errors
    return process.returncode, json.loads(output)


def load(port: int, *options: str) -> tuple[int, dict[str, object]]:
    return finished(start(port, *options))


def test_stream_counts_every_request() -> None:
    with server(answer) as port:
        code, report = load(port, "--rate", "200", "--total", "40", "--requests-per-connection", "5")
    assert (code, report["connections"], report["requests"], report["failed"]) == (0, 40, 200, 0)
    assert report["per_backend"] == {"one": 200}


def test_held_connections_exchange_until_the_end() -> None:
    asked: Counter[socket.socket] = Counter()

    def count(sock: socket.socket) -> None:
        with sock, suppress(OSError):
            while sock.recv(4096):
                asked[sock] += 1
                sock.sendall(ANSWER % b"one")

    with server(count) as port:
        process = start(port, "--held", "20", "--interval", "0.1", "--duration", "600", "--connections")
        end = time.monotonic() + 60
        try:
            # With the sixth request it has the answer to the fifth.
            while len(asked) < 20 or min(asked.values()) < 6:
                assert time.monotonic() < end, sorted(asked.values())
                time.sleep(0.05)
        finally:
            process.terminate()
        code, report = finished(process)
    assert code == 0
    rows = report["records"]
    assert isinstance(rows, list)
    assert len(rows) == 20
    assert all(row["requests"] >= 5 and row["outcome"] == "ok" for row in rows)


def test_a_signal_ends_it_well_and_its_own_stalls_are_told() -> None:
    with server(answer) as port:
        options = ("--held", "5", "--interval", "0.1", "--duration", "60", "--progress", "--connections")
        command = [sys.executable, "-m", "og.load", "--host", "::1", "--port", str(port), *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert any(" open=5 " in line for line in process.stderr)
            process.send_signal(signal.SIGSTOP)
            stopped = time.time()
            time.sleep(0.7)
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
            report = json.loads(process.communicate(timeout=30)[0])
    assert (process.returncode, report["connections"], report["failed"]) == (0, 5, 0)
    assert [row["outcome"] for row in report["records"]] == ["ok"] * 5
    assert [t for t, late in report["stalls"] if late >= 0.6 and abs(t - stopped) < 1]


def test_what_is_not_open_yet_is_not_called_open() -> None:
    """Of a listener that accepts nobody the kernel opens a few, and lets the others wait."""
    with closing(socket.create_server(("::1", 0), family=socket.AF_INET6, backlog=0)) as full:
        options = ("--held", "5", "--duration", "4", "--timeout", "1.5")
        _, report = load(int(full.getsockname()[1]), *options)
    failures, timeline = report["failures"], report["timeline"]
    assert isinstance(failures, dict)
    assert isinstance(timeline, list)
    assert sorted(failures) == ["no answer in time", "no connection in time"]
    assert max(second["open"] for second in timeline) == failures["no answer in time"]


def test_a_timeout_that_was_not_needed_makes_no_request() -> None:
    """At most one request per interval and the first, however many timeouts have passed."""
    with server(answer) as port:
        options = ("--held", "3", "--interval", "0.2", "--timeout", "2", "--duration", "7", "--connections")
        code, report = load(port, *options)
    assert code == 0
    rows = report["records"]
    assert isinstance(rows, list)
    assert all(3 <= row["requests"] <= 36 for row in rows)


def test_connection_ended_by_the_server_is_a_failure() -> None:
    with server(lambda sock: answer(sock, limit=2)) as port:
        code, report = load(port, "--rate", "50", "--total", "5", "--requests-per-connection", "3")
    assert (code, report["failed"], report["requests"]) == (1, 5, 10)
    assert sum(report["failures"].values()) == 5  # type: ignore[attr-defined]
    assert set(report["failures"]) <= {"closed by server", "ECONNRESET", "EPIPE"}  # type: ignore[call-overload]


def test_refused_and_silent_servers_are_named() -> None:
    with closing(socket.create_server(("::1", 0), family=socket.AF_INET6)) as free:
        port = int(free.getsockname()[1])
    code, report = load(port, "--rate", "10", "--total", "2")
    assert (code, report["failures"]) == (1, {"ECONNREFUSED": 2})
    with server(silence) as silent:
        code, report = load(silent, "--rate", "10", "--total", "2", "--timeout", "0.5")
    assert (code, report["failures"]) == (1, {"no answer in time": 2})


def test_a_connection_answered_by_two_servers_is_reported() -> None:
    def fickle(sock: socket.socket) -> None:
        with sock:
            for name in (b"one", b"two"):
                sock.recv(4096)
                sock.sendall(ANSWER % name)
            sock.recv(4096)

    with server(fickle) as port:
        code, report = load(port, "--rate", "10", "--total", "1", "--requests-per-connection", "2")
    assert (code, report["moved"]) == (1, 1)


@pytest.mark.parametrize("options", [[], ["--held", "1"], ["--rate", "1"]])
def test_a_load_without_an_end_is_refused(options: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "og.load", "--host", "::1", *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "og-load: error" in done.stderr


@pytest.mark.parametrize("data", [b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 20000])
def test_what_is_not_http_is_refused(data: bytes) -> None:
    with pytest.raises(http.BadResponseError):
        http.parse(data)


def test_incomplete_answers_wait() -> None:
    whole = ANSWER % b"one"
    assert all(http.parse(whole[:n]) is None for n in range(len(whole)))
    response = http.parse(whole + b"more")
    assert response == http.Response(200, "one", len(whole))
