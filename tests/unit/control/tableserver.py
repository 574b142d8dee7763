# SPDX-License-Identifier: Apache-2.0
"""The table socket's rules (docs/interfaces.md) without a data plane behind it, for tests that need to break it."""

from __future__ import annotations

from og.jsonsock import Server


class TableServer:
    def __init__(self, path, tables=None):
        self.tables = tables
        self.loads = 0
        self.shares = []
        self.share_sets = 0
        self.suspect = []
        self.asked = []
        self.refuse = ""
        self._server = Server(str(path), self.answer)
        self._server.start()

    def close(self):
        self._server.close()

    def answer(self, message):
        self.asked.append(message.get("op"))
        running = self.tables or {"generation": 0, "digest": ""}
        if message.get("op") == "status":
            status = {"role": "router", "incarnation": "1", "serving": True, "suspect": self.suspect}
            status["shares"] = self.shares
            return {"ok": True, **status, "generation": running["generation"], "digest": running["digest"]}
        if message.get("op") == "shares":
            return self.set_shares(message["shares"])
        if message.get("op") != "load":
            return {"ok": False, "error": "op"}
        if self.refuse:
            return {"ok": False, "error": self.refuse}
        if message["tables"]["generation"] <= running["generation"] and not message.get("force"):
            return {"ok": False, "error": f"generation: {message['tables']['generation']} is not above the running one"}
        self.tables = message["tables"]
        self.loads += 1
        return {"ok": True, "generation": self.tables["generation"]}

    def set_shares(self, shares):
        unknown = [share["site"] for share in shares if share["site"] not in (self.tables or {}).get("sites", ())]
        if unknown:
            return {"ok": False, "error": f"shares[0].site: not in sites: {unknown[0]}"}
        self.shares = shares
        self.share_sets += 1
        return {"ok": True}
