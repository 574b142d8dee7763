# SPDX-License-Identifier: Apache-2.0
"""The telemetry client against a socket that answers as DPDK 24.11 does, and against ones that do not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from og.telemetry import Telemetry, TelemetryError, default_path

if TYPE_CHECKING:
    from pathlib import Path

GREETING = b'{"version":"DPDK 24.11.8","pid":8,"max_output_len":16384}'
Answer = Callable[[bytes], bytes | None]


def serve(path: Path, answer: Answer, greeting: bytes = GREETING) -> list[bytes]:
    """Listen on `path` and answer each command; None closes the connection. Returns the list of commands seen."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()
    seen: list[bytes] = []

    def run() -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.send(greeting)
                while command := connection.recv(1024):
                    seen.append(command)
                    data = answer(command)
                    if data is None:
                        break
                    connection.send(data)

    threading.Thread(target=run, daemon=True).start()
    return seen


def as_dpdk(command: bytes) -> bytes:
    """What DPDK does: the key is the command without parameters, the value null where it is unknown."""
    known = {"/og/counters": {"pinned": 3, "rx": 4}, "/og/pins_list": [{"client": "2001:db8::1"}]}
    name = command.decode().partition(",")[0]
    return json.dumps({name: known.get(name)}).encode()


def test_answers_over_one_connection(tmp_path: Path) -> None:
    path = tmp_path / "telemetry"
    seen = serve(path, as_dpdk)
    with Telemetry(str(path)) as telemetry:
        assert telemetry.query("/og/counters") == {"pinned": 3, "rx": 4}
        assert telemetry.query("/og/pins_list,64") == [{"client": "2001:db8::1"}]
        assert telemetry.greeting["pid"] == 8
    assert seen == [b"/og/counters", b"/og/pins_list,64"]


def test_unknown_command_is_named_and_the_connection_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "telemetry"
    serve(path, as_dpdk)
    telemetry = Telemetry(str(path))
    with pytest.raises(TelemetryError, match=f"{path}: /og/nope: the process does not know this command"):
        telemetry.query("/og/nope")
    assert telemetry.query("/og/counters")["pinned"] == 3


def test_a_restart_between_two_queries_goes_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "telemetry"
    closed = threading.Event()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()

    def run() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            connection.send(GREETING)
            connection.send(as_dpdk(connection.recv(1024)))
            connection.close()
            closed.set()

    threading.Thread(target=run, daemon=True).start()
    with listener, Telemetry(str(path)) as telemetry:
        telemetry.query("/og/counters")
        assert closed.wait(5)
        assert telemetry.query("/og/counters") == {"pinned": 3, "rx": 4}


def test_connects_again_when_the_process_dies_in_a_query(tmp_path: Path) -> None:
    path = tmp_path / "telemetry"
    answers = iter([as_dpdk(b"/og/counters"), None, as_dpdk(b"/og/counters")])
    serve(path, lambda _: next(answers))
    telemetry = Telemetry(str(path))
    telemetry.query("/og/counters")
    with pytest.raises(TelemetryError, match="the process closed the connection"):
        telemetry.query("/og/counters")
    assert telemetry.query("/og/counters") == {"pinned": 3, "rx": 4}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"\xff\xfe", "not JSON"),
        (b"{}", "the answer is for nothing"),
        (b'{"/og/info":{}}', "the answer is for /og/info"),
        (b'{"/og/counters":{}}' + b" " * 16384, "the answer is longer than 16384 bytes"),
    ],
)
def test_bad_answers_are_one_clear_error(tmp_path: Path, answer: bytes, message: str) -> None:
    path = tmp_path / "telemetry"
    serve(path, lambda _: answer)
    with pytest.raises(TelemetryError, match=f"{path}: /og/counters: {message}"):
        Telemetry(str(path)).query("/og/counters")


@pytest.mark.parametrize(
    "greeting", [b"{}", b'{"max_output_len":"x"}', b'{"max_output_len":0}', b'{"max_output_len":1e99}', b"hello"]
)
def test_bad_greeting(tmp_path: Path, greeting: bytes) -> None:
    path = tmp_path / "telemetry"
    serve(path, as_dpdk, greeting)
    with pytest.raises(TelemetryError, match="greeting: "):
        Telemetry(str(path)).query("/og/counters")


def test_silent_process(tmp_path: Path) -> None:
    path = tmp_path / "telemetry"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()
    with listener, pytest.raises(TelemetryError, match="no answer in time"):
        Telemetry(str(path), timeout=0.05).query("/og/counters")


@pytest.mark.parametrize("command", ["", "og/info", "/" + "x" * 60, "/og/ä"])
def test_what_is_no_command_is_not_sent(command: str) -> None:
    with pytest.raises(TelemetryError, match="not a telemetry command"):
        Telemetry("/nonexistent").query(command)


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(TelemetryError, match="No such file or directory"):
        Telemetry(str(tmp_path / "none")).query("/og/info")
    assert default_path("router") == "/var/run/dpdk/og-router/dpdk_telemetry.v2"
