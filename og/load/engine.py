# SPDX-License-Identifier: Apache-2.0
"""An epoll loop that keeps thousands of TCP connections and records what became of each.

Two populations share the loop: *held* connections are opened first and exchange a request every `interval` seconds
until the end; *stream* connections arrive at a fixed rate, make a few requests and close. A connection is broken when
the network or the server ends it, or when an answer does not come within `timeout`; no retry could hide it.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import selectors
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from og.load import http

if TYPE_CHECKING:
    from collections.abc import Callable

HELD = "held"
STREAM = "stream"
OK = "ok"
LONGEST_WAIT_S = 0.05
STALL_S = 0.25  # a turn of the loop that is so late was held up: by this machine, not by the network
STALLS_KEPT = 1000


@dataclass(frozen=True)
class Options:
    """What to send. Times in seconds, rates per second; `total` bounds the stream, 0 = until `duration` is over."""

    host: str
    port: int
    path: str = "/"
    held: int = 0
    held_rate: float = 500.0
    interval: float = 1.0
    rate: float = 0.0
    total: int = 0
    requests_per_connection: int = 1
    stream_interval: float = 0.0
    duration: float = 0.0
    timeout: float = 10.0
    source: str | None = None


@dataclass
class Record:
    """One connection, in the client's own view. Times are wall-clock seconds."""

    population: str
    port: int
    begun: float
    opened: float | None = None
    ended: float | None = None
    backend: str = ""
    requests: int = 0
    outcome: str = ""
    moved: bool = False  # two servers answered on one connection: must never be
    asked: float | None = None  # when the request was sent that has no answer yet


@dataclass
class Second:
    """What happened within one second of the run."""

    opened: int = 0
    failed: int = 0
    requests: int = 0
    open: int = 0
    backends: dict[str, int] = field(default_factory=dict)


@dataclass(eq=False)
class _Connection:
    sock: socket.socket
    record: Record
    left: int  # requests still to make; -1 = until the end
    interval: float
    buffer: bytearray = field(default_factory=bytearray)
    deadline: float = 0.0  # of the answer awaited, 0 = none
    next_request: float = 0.0  # when it is due, 0 = none
    connecting: bool = True
    closed: bool = False


class _Arrivals:
    """When connections are due: `rate` per second from the first look on, `total` of them (None: no end)."""

    def __init__(self, rate: float, total: int | None) -> None:
        self._step = 1.0 / rate if rate > 0 else 0.0
        self._left = (float("inf") if total is None else float(total)) if rate > 0 else 0.0
        self.next = 0.0 if self._left else float("inf")

    @property
    def done(self) -> bool:
        """No more will come."""
        return self._left <= 0

    def due(self, now: float) -> int:
        """How many to open now."""
        if not self.next:
            self.next = now
        count = 0
        while self._left > 0 and now >= self.next:
            count += 1
            self._left -= 1
            self.next = self.next + self._step if self._left > 0 else float("inf")
        return count


class Engine:
    """Runs one load. `run()` returns when the stream is complete, the duration is over or `stop()` was called."""

    def __init__(self, options: Options, on_second: Callable[[int, Second], None] | None = None) -> None:
        self.options = options
        self.records: list[Record] = []
        self.seconds: dict[int, Second] = {}
        self.stalls: deque[tuple[float, float]] = deque(maxlen=STALLS_KEPT)  # when a late turn was due, how late it was
        self._on_second = on_second
        self._request = http.request(options.host, options.path)
        self._selector = selectors.EpollSelector()
        self._timers: list[tuple[float, int, _Connection]] = []
        self._order = itertools.count()
        self._live: set[_Connection] = set()
        self._stopping = False

    def stop(self) -> None:
        """End the run at the next turn of the loop: open connections are closed and count as ok."""
        self._stopping = True

    def run(self) -> None:
        """Open, exchange, record. Never raises for what the network does: that is what the records are for."""
        options = self.options
        end = time.time() + options.duration if options.duration else float("inf")
        held = _Arrivals(options.held_rate, options.held)
        stream = _Arrivals(options.rate, options.total or None)
        due = time.time()
        second = int(due)
        while True:
            now = time.time()
            if now - due > STALL_S:
                self.stalls.append((due, now - due))
            ending = self._stopping or now >= end
            if ending:
                self._drain()
            else:
                for _ in range(held.due(now)):
                    self._open(HELD, -1, options.interval)
                for _ in range(stream.due(now)):
                    self._open(STREAM, options.requests_per_connection, options.stream_interval)
            if not self._live and (ending or (stream.done and not options.duration)):
                break
            wake = min(now + LONGEST_WAIT_S, held.next, stream.next, self._timers[0][0] if self._timers else now + 1)
            due = max(wake, now)
            for key, _ in self._selector.select(max(0.0, wake - time.time())):
                self._ready(key.data)
            self._due(time.time())
            if int(now) != second:
                self._close_second(second)
                second = int(now)
        self._close_second(second)
        self._selector.close()

    def _drain(self) -> None:
        """End what is idle; what waits for an answer gets it, or its timeout."""
        for connection in list(self._live):
            if connection.record.population == HELD:
                connection.left = min(abs(connection.left), 1)
            if not connection.deadline:
                self._end(connection, OK)

    def _close_second(self, second: int) -> None:
        entry = self.seconds.setdefault(second, Second())
        entry.open = sum(not connection.connecting for connection in self._live)
        if self._on_second:
            self._on_second(second, entry)

    def _now(self) -> Second:
        return self.seconds.setdefault(int(time.time()), Second())

    def _open(self, population: str, left: int, interval: float) -> None:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        record = Record(population=population, port=0, begun=time.time())
        self.records.append(record)
        connection = _Connection(sock, record, left, interval)
        self._live.add(connection)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.options.source:
                sock.bind((self.options.source, 0))
            code = sock.connect_ex((self.options.host, self.options.port))
            record.port = sock.getsockname()[1]
        except OSError as error:
            code = error.errno or errno.EIO
        if code not in (0, errno.EINPROGRESS):
            self._end(connection, _name(code))
            return
        self._selector.register(sock, selectors.EVENT_WRITE, connection)
        self._await(connection)

    def _await(self, connection: _Connection) -> None:
        connection.deadline = time.time() + self.options.timeout
        heapq.heappush(self._timers, (connection.deadline, next(self._order), connection))

    def _ready(self, connection: _Connection) -> None:
        if connection.closed:
            return
        try:
            if connection.connecting:
                code = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    self._end(connection, _name(code))
                    return
                connection.connecting = False
                connection.record.opened = time.time()
                self._now().opened += 1
                self._selector.modify(connection.sock, selectors.EVENT_READ, connection)
                self._send(connection)
                return
            data = connection.sock.recv(65536)
            if not data:
                self._end(connection, "closed by server")
                return
            connection.buffer += data
            response = http.parse(connection.buffer)
            if response is not None:
                self._answered(connection, response)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(connection, _name(error.errno or errno.EIO))
        except http.BadResponseError as error:
            self._end(connection, f"bad response: {error}")

    def _send(self, connection: _Connection) -> None:
        # A request is far smaller than a socket buffer that is empty by protocol: a short write is a failure.
        if connection.sock.send(self._request) != len(self._request):
            self._end(connection, "short write")
            return
        connection.record.asked = time.time()
        self._await(connection)

    def _answered(self, connection: _Connection, response: http.Response) -> None:
        del connection.buffer[: response.size]
        connection.deadline = 0.0
        record = connection.record
        record.asked = None
        if response.status != 200:
            self._end(connection, f"status {response.status}")
            return
        record.requests += 1
        record.moved = record.moved or bool(record.backend and record.backend != response.backend)
        record.backend = response.backend
        second = self._now()
        second.requests += 1
        second.backends[response.backend] = second.backends.get(response.backend, 0) + 1
        if connection.left > 0:
            connection.left -= 1
        if connection.left == 0:
            self._end(connection, OK)
        elif connection.interval > 0:
            connection.next_request = time.time() + connection.interval
            heapq.heappush(self._timers, (connection.next_request, next(self._order), connection))
        else:
            self._send(connection)

    def _due(self, now: float) -> None:
        # A deadline that was met leaves its timer in the heap: who is there is not always due.
        while self._timers and self._timers[0][0] <= now:
            when, _, connection = heapq.heappop(self._timers)
            if connection.closed:
                continue
            if connection.deadline:
                if when >= connection.deadline:
                    self._end(connection, "no connection in time" if connection.connecting else "no answer in time")
            elif 0.0 < connection.next_request <= when:
                connection.next_request = 0.0
                try:
                    self._send(connection)
                except OSError as error:
                    self._end(connection, _name(error.errno or errno.EIO))

    def _end(self, connection: _Connection, outcome: str) -> None:
        connection.closed = True
        connection.record.ended = time.time()
        connection.record.outcome = outcome
        if outcome != OK:
            self._now().failed += 1
        self._live.discard(connection)
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection.sock)
        connection.sock.close()


def _name(code: int) -> str:
    return errno.errorcode.get(code, str(code))
