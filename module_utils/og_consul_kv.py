# SPDX-License-Identifier: Apache-2.0
"""Keys of Consul's KV store over HTTP: list them, write several at once. Standard library only.

Source: Consul HTTP API, "KV Store Endpoints", "Transactions", "Agent HTTP API".
"""

from __future__ import annotations

import base64
import http.client
import json
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_S = 10.0
MAX_ANSWER = 1 << 20  # bytes
MAX_OPERATIONS = 64  # of one transaction
LOOPBACK = ("127.0.0.1", "::1", "localhost")

_WRONG_URL = "consul_url: not an http:// address of a Consul agent"

Change = tuple[str, str | None]
"""A key and its new value; None: remove it, and if it is not there that is no error."""


class KvError(Exception):
    """Consul cannot be asked or refuses. The text names its address and what it said.

    `refused`: it has answered, so that nothing of the request was done.
    """

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class Kv:
    """The KV store of one datacenter, by way of the Consul agent at `url`."""

    def __init__(self, url: str, datacenter: str, token: str | None = None) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port or 8500
        except ValueError as error:
            raise KvError(f"{_WRONG_URL}: {error}: {_public(url)}", refused=True) from error
        if parts.scheme != "http" or not parts.hostname:
            raise KvError(f"{_WRONG_URL}: {_public(url)}", refused=True)
        if token and not (token.isascii() and token.isprintable()):
            raise KvError("consul_token: has characters that no HTTP header can hold, such as a line end", refused=True)
        self._place = _public(parts.netloc)
        self._host, self._port = parts.hostname, port
        self._datacenter = datacenter
        self._headers = {"X-Consul-Token": token} if token else {}

    def keys(self, prefix: str) -> list[str]:
        """Return the keys below `prefix`, as the leader knows them."""
        status, body = self._request("GET", f"/v1/kv/{quote(prefix)}", {"keys": "", "consistent": ""})
        if status == http.HTTPStatus.NOT_FOUND:
            return []
        self._expect_ok(status, body)
        try:
            return [str(key) for key in json.loads(body)]
        except (ValueError, TypeError):
            raise KvError(f"Consul at {self._place}: not a list of keys: {body[:80]!r}") from None

    def write(self, changes: Sequence[Change]) -> None:
        """Make at most MAX_OPERATIONS changes, all of them or none."""
        operations = [{"KV": _operation(key, value)} for key, value in changes]
        self._expect_ok(*self._request("PUT", "/v1/txn", {}, json.dumps(operations).encode()))

    def node_name(self) -> str | None:
        """Return what Consul calls this host; None where the agent is another host's or does not say."""
        if self._host not in LOOPBACK:
            return None
        try:
            _, body = self._request("GET", "/v1/agent/self", {})
            return str(json.loads(body)["Config"]["NodeName"])
        except (KvError, ValueError, KeyError, TypeError):
            return None

    def _request(self, method: str, path: str, more: dict[str, str], body: bytes = b"") -> tuple[int, bytes]:
        target = f"{path}?{urlencode({'dc': self._datacenter} | more)}"
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        try:
            connection.request(method, target, body=body or None, headers=self._headers)
            response = connection.getresponse()
            return response.status, response.read(MAX_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            unsent = isinstance(error, ConnectionRefusedError)
            raise KvError(f"Consul at {self._place}: {error or type(error).__name__}", refused=unsent) from error
        finally:
            connection.close()

    def _expect_ok(self, status: int, body: bytes) -> None:
        if status != http.HTTPStatus.OK:
            said = body[:200].decode(errors="replace").strip()
            # Of a server's error one does not know what it did before.
            refused = status < http.HTTPStatus.INTERNAL_SERVER_ERROR
            raise KvError(f"Consul at {self._place}: status {status}: {said}", refused=refused)


def _public(url: str) -> str:
    """Return an address without the password that may be in it."""
    scheme, slashes, rest = url.rpartition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"


def _operation(key: str, value: str | None) -> dict[str, str]:
    if value is None:
        return {"Verb": "delete", "Key": key}
    return {"Verb": "set", "Key": key, "Value": base64.b64encode(value.encode()).decode()}
