# SPDX-License-Identifier: Apache-2.0
"""One JSON object per line over a Unix stream socket: the table sockets and the control daemon's socket speak it.

Standard library only and no other part of `og`: Ansible ships this file to hosts as module_utils.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_LINE = 8 << 20  # bytes; 1024 members of 64 services are about 2 MiB

Message = dict[str, Any]


class SocketError(Exception):
    """Nobody listens, no answer in time, or the answer is not a JSON object. The text names the socket."""

    def __init__(self, message: str, number: int = 0) -> None:
        super().__init__(message)
        self.number = number  # errno, 0 where there is none

    @property
    def nobody_listens(self) -> bool:
        """Tell whether the request cannot have reached anybody."""
        return self.number in (errno.ENOENT, errno.ECONNREFUSED)


def request(path: str, message: Message, timeout_s: float = 5.0) -> Message:
    """Send one object to the socket at `path` and return the answer. Raises SocketError."""
    deadline = time.monotonic() + timeout_s
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(path)
            sock.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")
            line = read_line(sock, deadline)
    except OSError as error:
        raise SocketError(f"{path}: {error.strerror or error}", error.errno or 0) from error
    try:
        answer = json.loads(line)
    except ValueError:
        raise SocketError(f"{path}: the answer is not JSON: {line[:80]!r}") from None
    if not isinstance(answer, dict):
        raise SocketError(f"{path}: the answer is not an object: {line[:80]!r}")
    return answer


def read_line(sock: socket.socket, deadline: float) -> bytes:
    """Read up to the first newline or the end. `deadline` is in seconds of time.monotonic()."""
    received = bytearray()
    while b"\n" not in received:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("no answer in time")
        sock.settimeout(remaining)
        chunk = sock.recv(65536)
        if not chunk:
            break
        received += chunk
        if len(received) > MAX_LINE:
            raise OSError(f"a line longer than {MAX_LINE} bytes")
    return bytes(received).split(b"\n", 1)[0]


class Server:
    """Answers requests on a Unix socket in a thread of its own, one at a time.

    `answer` gets the request and returns the reply; it runs in the server's thread.
    """

    def __init__(self, path: str, answer: Callable[[Message], Message], mode: int = 0o660) -> None:
        self._path = path
        self._answer = answer
        self._socket = _listen(path, mode)
        self._thread = threading.Thread(target=self._serve, name="socket", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening and remove the socket file."""
        Path(self._path).unlink(missing_ok=True)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            with connection:
                self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        try:
            line = read_line(connection, time.monotonic() + 2.0)
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            known = isinstance(message, dict)
            reply = self._answer(message) if known else {"ok": False, "error": "not a JSON object"}
            connection.settimeout(2.0)
            connection.sendall(json.dumps(reply, separators=(",", ":")).encode() + b"\n")
        except OSError:
            return  # a client that went away is not our error


def _listen(path: str, mode: int) -> socket.socket:
    """Listen at `path`, replacing the file a dead process left. The file appears with its final mode, by a rename."""
    temporary = f"{path}.{os.getpid()}"
    Path(temporary).unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(temporary)
    Path(temporary).chmod(mode)
    sock.listen(8)
    Path(temporary).rename(path)
    return sock
