# SPDX-License-Identifier: Apache-2.0
"""Client of a DPDK process's telemetry socket (protocol v2: one JSON message per packet of a Unix SOCK_SEQPACKET).

The process greets with `{"version": …, "pid": …, "max_output_len": n}`; every command, e.g. `/og/counters` or
`/og/pins_list,64`, is answered by one object whose only key is the command without its parameters.
Source: DPDK Programmer's Guide, "Telemetry Library", and its user guide.
"""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

TIMEOUT_S = 1.0
GREETING_MAX = 1024
OUTPUT_LEN_MAX = 1 << 20  # a greeting may not make us allocate more than this
COMMAND_MAX = 56  # MAX_CMD_LEN in DPDK 24.11, without parameters


class TelemetryError(Exception):
    """The process cannot be asked, or what it said is not telemetry. The text names the socket."""


def default_path(role: str) -> str:
    """Socket of the data plane of this role (`hasher`, `router`), started with `--file-prefix og-<role>`."""
    return f"/var/run/dpdk/og-{role}/dpdk_telemetry.v2"


class Telemetry:
    """One connection, opened by the first query and kept; after an error the next query opens a new one.

    Not for use by two threads at once. `timeout` is in seconds and bounds each wait for the process.
    """

    def __init__(self, path: str, timeout: float = TIMEOUT_S) -> None:
        self.path = path
        self.timeout = timeout
        self.greeting: dict[str, Any] = {}
        self._socket: socket.socket | None = None
        self._max_output = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def query(self, command: str) -> Any:  # noqa: ANN401 - JSON
        """Ask one command: the answer is a dict for `/og/…`, but a list for `/og/pins_list,<offset>`.

        Raises TelemetryError: nobody listens, no answer in time, the answer is no JSON or was cut off,
        or the process does not know the command.
        """
        name = command.partition(",")[0]
        if not name.startswith("/") or len(name) >= COMMAND_MAX or not command.isascii():
            raise TelemetryError(f"{self.path}: not a telemetry command: {command!r}")
        try:
            answer = self._exchange(command)
        except TelemetryError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise TelemetryError(f"{self.path}: {command}: {_reason(error)}") from error
        if name not in answer:
            self.close()
            raise TelemetryError(f"{self.path}: {command}: the answer is for {', '.join(answer) or 'nothing'}")
        value = answer[name]
        if value is None:
            raise TelemetryError(f"{self.path}: {command}: the process does not know this command")
        return value

    def _exchange(self, command: str) -> dict[str, Any]:
        connection = self._send(command.encode("ascii"))
        return self._receive(connection, self._max_output, command)

    def _send(self, data: bytes) -> socket.socket:
        """Send over the kept connection; where the process has closed it (a restart), over a new one."""
        if self._socket is not None:
            try:
                self._socket.send(data)
            except (BrokenPipeError, ConnectionResetError):
                self.close()
            else:
                return self._socket
        connection = self._connect()
        connection.send(data)
        return connection

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = connection
        connection.settimeout(self.timeout)
        connection.connect(self.path)
        self.greeting = self._receive(connection, GREETING_MAX, "greeting")
        length = self.greeting.get("max_output_len")
        if not isinstance(length, int) or not 0 < length <= OUTPUT_LEN_MAX:
            raise TelemetryError(f"{self.path}: greeting: max_output_len is {length!r}")
        self._max_output = length
        return connection

    def _receive(self, connection: socket.socket, size: int, what: str) -> dict[str, Any]:
        data, _, flags, _ = connection.recvmsg(size)
        if not data:
            raise TelemetryError(f"{self.path}: {what}: the process closed the connection")
        if flags & socket.MSG_TRUNC:
            raise TelemetryError(f"{self.path}: {what}: the answer is longer than {size} bytes")
        try:
            answer = json.loads(data)
        except ValueError as error:
            raise TelemetryError(f"{self.path}: {what}: not JSON: {error}") from error
        if not isinstance(answer, dict):
            raise TelemetryError(f"{self.path}: {what}: not a JSON object")
        return answer


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return error.strerror or str(error)
