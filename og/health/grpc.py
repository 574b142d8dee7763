# SPDX-License-Identifier: Apache-2.0
"""gRPC calls over one HTTP/2 connection on a Unix socket, blocking and with a deadline.

Debian's python3-grpcio would do the same with a thread pool, 40 MB and generated stubs; this needs only python3-h2, and
its socket can be polled, so the end of the peer is noticed when it happens.
Source: gRPC, "gRPC over HTTP2" (doc/PROTOCOL-HTTP2.md); RFC 9113.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

if TYPE_CHECKING:
    from pathlib import Path

READ_SIZE = 65536
MESSAGE_MAX = 1 << 20
PREFIX = struct.Struct(">BI")  # compressed flag, length


class ConnectionLostError(Exception):
    """The peer is not there, has gone, or did not answer in time. The connection cannot be used again."""


class CallFailedError(Exception):
    """The peer refused one call; the connection goes on. The text has the gRPC status and message."""


@dataclass(slots=True)
class _Answer:
    data: bytearray = field(default_factory=bytearray)
    status: str | None = None
    message: str = ""
    ended: bool = False

    def take(self, event: h2.events.Event) -> None:
        """Take in one event of this stream."""
        if isinstance(event, h2.events.DataReceived):
            self.data += event.data or b""
            if len(self.data) > MESSAGE_MAX:
                raise ConnectionLostError(f"answer above {MESSAGE_MAX} bytes")
        elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            headers = dict(event.headers or ())
            self.status = headers.get(b"grpc-status", b"").decode(errors="replace") or self.status
            self.message = headers.get(b"grpc-message", b"").decode(errors="replace") or self.message
        elif isinstance(event, h2.events.StreamReset):
            self.ended, self.message = True, f"stream reset, HTTP/2 error {event.error_code}"
        elif isinstance(event, h2.events.StreamEnded):
            self.ended = True


def split_messages(data: bytes | bytearray) -> list[bytes]:
    """Return the messages of a stream's data.

    Raises ConnectionLostError if they do not fill it exactly or are compressed.
    """
    messages = []
    at = 0
    while at < len(data):
        if len(data) - at < PREFIX.size:
            raise ConnectionLostError("answer ends inside a message prefix")
        compressed, length = PREFIX.unpack_from(data, at)
        at += PREFIX.size
        if compressed or length > len(data) - at:
            raise ConnectionLostError(f"bad message prefix: compressed {compressed}, length {length}")
        messages.append(bytes(data[at : at + length]))
        at += length
    return messages


class Channel:
    """One connection. Not for use by several threads."""

    def __init__(self, path: Path, timeout_ms: int) -> None:
        """Connect to the socket at `path`; every call may take `timeout_ms`. Raises ConnectionLostError."""
        self._timeout_s = timeout_ms / 1000
        self._deadline = time.monotonic() + self._timeout_s
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._answers: dict[int, _Answer] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.connect(str(path))
            self._http.initiate_connection()
            self._flush()
        except OSError as error:
            self.close()
            raise ConnectionLostError(f"{path}: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """For poll(2): readable when the peer has something to say, or has gone; then call `settle`."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket. The peer ends its side by itself."""
        self._socket.close()

    def settle(self) -> None:
        """Take in what has arrived between calls (settings, pings, goodbye). Raises ConnectionLostError."""
        self._deadline = time.monotonic() + self._timeout_s
        self._receive()

    def call(self, method: str, request: bytes) -> list[bytes]:
        """Call `/package.Service/Method` with one message; return the messages of the answer.

        Raises CallFailedError for an answer that is an error, ConnectionLostError for none in time.
        """
        self._deadline = time.monotonic() + self._timeout_s
        try:
            stream = self._http.get_next_available_stream_id()
            headers = [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", method),
                (":authority", "localhost"),
                ("te", "trailers"),
                ("content-type", "application/grpc+proto"),
                ("grpc-timeout", f"{int(self._timeout_s * 1000)}m"),
            ]
            self._http.send_headers(stream, headers)
            self._http.send_data(stream, PREFIX.pack(0, len(request)) + request, end_stream=True)
            answer = self._answers[stream] = _Answer()
            self._flush()
            while not answer.ended:
                self._receive()
        except h2.exceptions.ProtocolError as error:
            raise ConnectionLostError(f"{method}: {error or type(error).__name__}") from error
        finally:
            self._answers.clear()
        if answer.status != "0":
            raise CallFailedError(f"{method}: status {answer.status}: {answer.message}")
        return split_messages(answer.data)

    def _remaining(self) -> float:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise ConnectionLostError(f"no answer within {self._timeout_s:g} s")
        return remaining

    def _flush(self) -> None:
        data = self._http.data_to_send()
        if not data:
            return
        try:
            self._socket.settimeout(self._remaining())
            self._socket.sendall(data)
        except OSError as error:
            raise ConnectionLostError(f"send: {error}") from error

    def _receive(self) -> None:
        try:
            self._socket.settimeout(self._remaining())
            data = self._socket.recv(READ_SIZE)
        except OSError as error:
            raise ConnectionLostError(f"receive: {error}") from error
        if not data:
            raise ConnectionLostError("closed by the peer")
        try:
            events = self._http.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            raise ConnectionLostError(f"not HTTP/2: {error or type(error).__name__}") from error
        for event in events:
            self._handle(event)
        self._flush()

    def _handle(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            raise ConnectionLostError("closed by the peer")
        stream = getattr(event, "stream_id", None)
        answer = self._answers.get(stream) if isinstance(stream, int) else None
        if isinstance(event, h2.events.DataReceived):
            self._http.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        if answer is not None:
            answer.take(event)
