# SPDX-License-Identifier: Apache-2.0
"""As much of HTTP/1.1 (RFC 9112) as the load needs: a keep-alive GET and its answer with a Content-Length."""

from __future__ import annotations

from dataclasses import dataclass

MAX_HEADER = 16384


class BadResponseError(Exception):
    """What the server sent is not an answer this client understands; the message says why."""


@dataclass(frozen=True)
class Response:
    """A complete answer: status code, the server's name (header X-Backend), bytes it took from the buffer."""

    status: int
    backend: str
    size: int


def request(host: str, path: str) -> bytes:
    """Build the bytes of a keep-alive GET for `path`; `host` is an address or name as it goes into Host."""
    name = f"[{host}]" if ":" in host else host
    return f"GET {path} HTTP/1.1\r\nHost: {name}\r\nUser-Agent: og-load\r\nConnection: keep-alive\r\n\r\n".encode()


def parse(buffer: bytes | bytearray) -> Response | None:
    """Find the answer at the start of `buffer`, or None while it is incomplete.

    Raises BadResponseError for anything that can never become one.
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > MAX_HEADER:
            raise BadResponseError(f"no end of header in {len(buffer)} bytes")
        return None
    lines = bytes(buffer[:end]).decode("latin-1").split("\r\n")
    status_line = lines[0].split(" ", 2)
    if len(status_line) < 2 or not status_line[0].startswith("HTTP/1.") or not status_line[1].isdigit():
        raise BadResponseError(f"status line {lines[0]!r}")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = headers.get("content-length", "")
    if not length.isdigit():
        raise BadResponseError(f"Content-Length {length!r}")
    size = end + 4 + int(length)
    if len(buffer) < size:
        return None
    return Response(status=int(status_line[1]), backend=headers.get("x-backend", ""), size=size)
