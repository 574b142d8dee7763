# SPDX-License-Identifier: Apache-2.0
"""Keys of Consul's KV store over HTTP: list, put, delete. Standard library only.

Source: Consul HTTP API, "KV Store Endpoints".
"""

from __future__ import annotations

import http.client
import json
from urllib.parse import quote, urlencode, urlsplit

TIMEOUT_S = 10.0
MAX_ANSWER = 1 << 20  # bytes


class KvError(Exception):
    """Consul cannot be asked or refuses. The text names its address and what it said."""


class Kv:
    """The KV store of one datacenter, by way of the Consul agent at `url`."""

    def __init__(self, url: str, datacenter: str, token: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise KvError(f"{url}: not an http:// address of a Consul agent")
        self._place = parts.netloc
        self._host, self._port = parts.hostname, parts.port or 8500
        self._datacenter = datacenter
        self._headers = {"X-Consul-Token": token} if token else {}

    def keys(self, prefix: str) -> list[str]:
        """Return the keys below `prefix`, as the leader knows them."""
        status, body = self._request("GET", prefix, {"keys": "", "consistent": ""})
        if status == http.HTTPStatus.NOT_FOUND:
            return []
        self._expect_ok(status, body)
        try:
            return [str(key) for key in json.loads(body)]
        except (ValueError, TypeError):
            raise KvError(f"Consul at {self._place}: not a list of keys: {body[:80]!r}") from None

    def put(self, key: str, value: str) -> None:
        """Write one key."""
        self._expect_ok(*self._request("PUT", key, {}, value.encode()))

    def delete(self, key: str) -> None:
        """Remove one key; one that is not there is no error."""
        self._expect_ok(*self._request("DELETE", key, {}))

    def _request(self, method: str, key: str, more: dict[str, str], body: bytes = b"") -> tuple[int, bytes]:
        target = f"/v1/kv/{quote(key)}?{urlencode({'dc': self._datacenter} | more)}"
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        try:
            connection.request(method, target, body=body or None, headers=self._headers)
            response = connection.getresponse()
            return response.status, response.read(MAX_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise KvError(f"Consul at {self._place}: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def _expect_ok(self, status: int, body: bytes) -> None:
        if status != http.HTTPStatus.OK:
            raise KvError(f"Consul at {self._place}: status {status}: {body[:200].decode(errors='replace').strip()}")
        if body.strip() == b"false":
            raise KvError(f"Consul at {self._place}: refused to write")
