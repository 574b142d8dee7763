# SPDX-License-Identifier: Apache-2.0
"""Consul over HTTP: blocking queries, one thread and one kept connection each.

Source: Consul HTTP API, "Blocking Queries": pass the last X-Consul-Index as `index`; when it goes backwards start again
from none; an index of 0 counts as 1.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_S = 55
ANSWER_S = 10  # what the server may take beyond the wait
PAUSE_S = 0.1  # between two answers: a storm of changes is ten looks a second, not a busy loop
BACKOFF_S = (0.5, 10.0)
MAX_ANSWER = 16 << 20  # bytes


class ConsulError(Exception):
    """Consul could not be asked, or does not know: no leader, an error, not JSON. Nothing follows from it."""


@dataclass(frozen=True)
class Answer:
    """A decoded answer and the index to wait on."""

    value: Any
    index: int


@dataclass(frozen=True)
class Query:
    """Something to ask for: a path below /v1/ and its parameters."""

    path: str
    parameters: tuple[tuple[str, str], ...] = ()


def service_query(service: str, datacenter: str | None) -> Query:
    """All instances of a service, with their checks."""
    return Query(f"health/service/{quote(service)}", _common(datacenter))


def keys_query(prefix: str, datacenter: str | None) -> Query:
    """All keys of the KV store below a prefix."""
    return Query(f"kv/{quote(prefix)}", (("keys", ""), *_common(datacenter)))


def key_query(key: str, datacenter: str | None) -> Query:
    """One key of the KV store."""
    return Query(f"kv/{quote(key)}", _common(datacenter))


def parse_key(answer: object) -> Any:  # noqa: ANN401 - JSON
    """Read the answer of /v1/kv/<key>: its value, which is JSON; None without one. Raises ValueError."""
    if answer == []:
        return None
    try:
        return json.loads(base64.b64decode(answer[0]["Value"]))  # type: ignore[index]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"not a key with a value: {error!r}") from None


def _common(datacenter: str | None) -> tuple[tuple[str, str], ...]:
    # Any server may answer, not only the leader; one that knows no leader is refused below.
    stale = (("stale", ""),)
    return (*stale, ("dc", datacenter)) if datacenter else stale


class Client:
    """One connection to Consul's HTTP API, opened when needed. Not for use by two threads at once."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, query: Query, index: int = 0, wait_s: int = WAIT_S) -> Answer:
        """Ask; with an index above 0 wait for a later one, at most `wait_s`. Raises ConsulError."""
        parameters = list(query.parameters)
        if index:
            parameters += [("index", str(index)), ("wait", f"{wait_s}s")]
        # The server adds up to a sixteenth of the wait, so that not all clients come back at once.
        timeout = ANSWER_S + (wait_s * 17 / 16 if index else 0)
        try:
            return self._get(f"/v1/{query.path}?{urlencode(parameters)}", timeout)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise ConsulError(f"{self._host}:{self._port}: {error or type(error).__name__}") from error
        except ConsulError:
            self.close()
            raise

    def get_key(self, key: str) -> dict[str, Any] | None:
        """Return the entry of a key, not stale; None when there is none. Raises ConsulError."""
        answer = self.get(Query(f"kv/{quote(key)}"))
        return answer.value[0] if answer.value else None

    def put(self, target: str, value: object) -> Any:  # noqa: ANN401 - JSON
        """Write; returns the decoded answer, None when it is "no such thing" or "conflict". Raises ConsulError."""
        body = b"" if value is None else json.dumps(value).encode()
        try:
            status, text, _ = self._exchange("PUT", f"/v1/{target}", ANSWER_S, body)
            if status in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.CONFLICT):
                return None
            if status != http.HTTPStatus.OK:
                raise ConsulError(f"status {status}: {text[:120].decode(errors='replace').strip()}")
            return json.loads(text)
        except (OSError, ValueError, http.client.HTTPException) as error:
            self.close()
            raise ConsulError(f"{self._host}:{self._port}: {error or type(error).__name__}") from error

    def _get(self, target: str, timeout: float) -> Answer:
        status, body, header = self._exchange("GET", target, timeout)
        return _decode(status, header("X-Consul-Index"), header, body)

    def _exchange(
        self, method: str, target: str, timeout: float, body: bytes | None = None
    ) -> tuple[int, bytes, Callable[[str], str | None]]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        if self._connection.sock is not None:
            self._connection.sock.settimeout(timeout)
        self._connection.timeout = timeout
        self._connection.request(method, target, body)
        response = self._connection.getresponse()
        return response.status, response.read(MAX_ANSWER + 1), response.getheader


def _decode(status: int, index: str | None, header: Callable[[str], str | None], body: bytes) -> Answer:
    if len(body) > MAX_ANSWER:
        raise ConsulError(f"an answer of more than {MAX_ANSWER} bytes")
    absent = status == http.HTTPStatus.NOT_FOUND and index is not None  # a KV prefix without keys
    if status != http.HTTPStatus.OK and not absent:
        raise ConsulError(f"status {status}: {body[:120].decode(errors='replace').strip()}")
    if header("X-Consul-KnownLeader") == "false":
        raise ConsulError("the server knows no leader")
    if absent:
        return Answer([], _index(index))
    try:
        return Answer(json.loads(body), _index(index))
    except ValueError:
        raise ConsulError(f"not JSON: {body[:80]!r}") from None


def _index(text: str | None) -> int:
    if text is None or not text.isdigit():
        raise ConsulError(f"X-Consul-Index is {text!r}")
    return max(1, int(text))


class Watch(threading.Thread):
    """Follows one query for ever: `tell(value, None)` on every change, `tell(None, error)` on every failure.

    `tell` runs in this thread. `value` is what `parse` made of the answer; when `parse` raises ValueError, that is a
    failure too.
    """

    def __init__(
        self, url: str, query: Query, parse: Callable[[Any], object], tell: Callable[[Any, str | None], None]
    ) -> None:
        super().__init__(name=f"consul {query.path}", daemon=True)
        self._client = Client(url)
        self._query = query
        self._parse = parse
        self._tell = tell

    def run(self) -> None:
        """Ask, tell, wait; never return."""
        index, failures = 0, 0
        while True:
            try:
                answer = self._client.get(self._query, index)
                value = self._parse(answer.value)
            except (ConsulError, ValueError) as error:
                self._tell(None, str(error))
                index, failures = 0, failures + 1
                time.sleep(backoff_s(failures, random.random()))  # noqa: S311 - jitter, not a secret
                continue
            if answer.index != index or failures:
                self._tell(value, None)
            # A smaller index than before: the server was restored or replaced, so ask without one first.
            index, failures = (0 if answer.index < index else answer.index), 0
            time.sleep(PAUSE_S)


def backoff_s(failures: int, jitter: float) -> float:
    """Seconds to wait after so many failures in a row; `jitter` in 0..1 spreads nodes over half the time."""
    least, most = BACKOFF_S
    return min(most, least * 2.0 ** min(failures - 1, 10)) * (0.5 + jitter / 2)
