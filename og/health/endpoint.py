# SPDX-License-Identifier: Apache-2.0
"""`GET /health` for Consul and people: 200 or 503 and a JSON object."""

from __future__ import annotations

import http.server
import json
import threading
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST_TIMEOUT_S = 2.0
SHUTDOWN_POLL_S = 1.0  # how often the accepting thread looks whether it should end


@dataclass(frozen=True, slots=True)
class Report:
    """What the daemon knows. `announced` is what GoBGP announces of ours, `gobgp` why it could not be told."""

    healthy: bool = False
    reason: str = "starting"
    loops: int = 0
    generation: int = 0
    serving: bool = False
    drained: bool = False
    announced: tuple[str, ...] = ()
    gobgp: str = ""


def render(path: str, report: Report) -> tuple[HTTPStatus, dict[str, Any]]:
    """Return the answer to a GET of `path`."""
    if path != "/health":
        return HTTPStatus.NOT_FOUND, {"error": f"no such page: {path}; there is only /health"}
    return (HTTPStatus.OK if report.healthy else HTTPStatus.SERVICE_UNAVAILABLE), asdict(report)


def serve(listen: tuple[str, int], current: Callable[[], Report]) -> http.server.ThreadingHTTPServer:
    """Answer requests in the background with what `current` returns. Raises OSError if the address is taken."""

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_S
        server_version = "og-health"
        sys_version = ""

        def do_GET(self) -> None:
            status, document = render(self.path, current())
            body = json.dumps(document).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited name
            """One request per second is not worth a line each."""

    server = http.server.ThreadingHTTPServer(listen, Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(SHUTDOWN_POLL_S,), name="endpoint", daemon=True).start()
    return server
