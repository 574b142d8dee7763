# SPDX-License-Identifier: Apache-2.0
"""One writer per site: a Consul session's lock on a key, and writes that happen only while it is held.

Source: Consul HTTP API, "Session", "KV Store" (`?acquire=`) and "Transactions" (`check-session`).
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from og.control.consul import ConsulError

if TYPE_CHECKING:
    from og.control.consul import Client

TTL_S = 10  # the least Consul takes
RENEW_S = 3.0


class Lock:
    """The lock of one key. Every method asks Consul and may take seconds; all raise ConsulError but `release`."""

    def __init__(self, client: Client, key: str, holder: str) -> None:
        self._client = client
        self._key = key
        self._holder = holder
        self._session = ""
        self._renewed = 0.0
        self.held = False

    def hold(self, now: float) -> bool:
        """Renew the session, take the lock when nobody has it; return whether it is ours. `now` is monotonic."""
        try:
            self._renew(now)
            self.held = self.held or self._acquire()
        except ConsulError:
            self.held = False
            raise
        return self.held

    def write(self, key: str, value: Any) -> bool:  # noqa: ANN401 - JSON
        """Write a key if the lock is still ours; False = it is not."""
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        operations = [
            {"KV": {"Verb": "check-session", "Key": self._key, "Session": self._session}},
            {"KV": {"Verb": "set", "Key": key, "Value": base64.b64encode(text.encode()).decode()}},
        ]
        self.held = self._client.put("txn", operations) is not None
        return self.held

    def release(self) -> None:
        """Give the lock up; when Consul cannot be asked it ends by itself."""
        session, self._session, self.held = self._session, "", False
        if session:
            try:
                self._client.put(f"session/destroy/{session}", None)
            except ConsulError:
                return

    def _renew(self, now: float) -> None:
        if self._session and now - self._renewed < RENEW_S:
            return
        if not self._session or self._client.put(f"session/renew/{self._session}", None) is None:
            # The default checks stay: a node that gossip has lost loses its session too.
            options = {"Name": self._key, "TTL": f"{TTL_S}s", "LockDelay": "1s", "Behavior": "release"}
            created = self._client.put("session/create", options)
            if not isinstance(created, dict) or "ID" not in created:
                raise ConsulError("no session was made")
            self._session, self.held = str(created["ID"]), False
        self._renewed = now

    def _acquire(self) -> bool:
        """Take the lock if nobody has it: asking first costs the servers no write."""
        entry = self._client.get_key(self._key)
        if entry is not None and entry.get("Session"):
            return bool(entry["Session"] == self._session)
        return self._client.put(f"kv/{self._key}?acquire={self._session}", self._holder) is True
