# SPDX-License-Identifier: Apache-2.0
"""Restart Consul and wait until it is well again: `python3 restart.py HTTP_PORT TIMEOUT_S`, as root.

Awaited are a leader that stays known for a while, and the checks of this host that passed before; where no leader was
known there is nothing to wait for. Exit status 1, and one line that says what is missing, if they do not come in time.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

POLL_S = 0.5
STEADY_S = 3.0  # an election takes about that long


@dataclass(frozen=True)
class View:
    """The leader's address, empty if none is known, and the checks of this host that pass."""

    leader: str = ""
    passing: frozenset[str] = frozenset()
    checks: frozenset[str] = frozenset()


def read(leader: str, checks: Mapping[str, Mapping[str, Any]]) -> View:
    """Read the answers of /v1/status/leader and /v1/agent/checks."""
    passing = (name for name, check in checks.items() if check.get("Status") == "passing")
    return View(leader, frozenset(passing), frozenset(checks))


def missing(before: View, now: View) -> str:
    """Say what was there and is not yet again; empty if nothing is. A check that is gone was taken away."""
    if not now.leader:
        return "no leader is known"
    failing = before.passing & (now.checks - now.passing)
    return f"not passing again: {', '.join(sorted(failing))}" if failing else ""


def look(port: str) -> View:
    """Ask this host's Consul. One that does not answer has nothing."""

    def fetch(path: str) -> Any:  # noqa: ANN401 - JSON
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/{path}", timeout=5) as answer:
            return json.loads(answer.read())

    try:
        return read(fetch("status/leader"), fetch("agent/checks"))
    except (OSError, ValueError, http.client.HTTPException):
        return View()


def main() -> int:
    """Return the exit status."""
    port, timeout_s = sys.argv[1:3]
    before, end = look(port), time.monotonic() + float(timeout_s)
    restart = ["sh", "-c", "systemctl daemon-reload && systemctl restart consul.service"]
    done = subprocess.run(restart, check=False, capture_output=True, text=True)
    # One that ends at once may fail this job or not; systemd starts it again in any case, so the wait is the judge.
    if done.returncode and not before.leader:
        sys.stderr.write(f"Consul does not restart: {done.stderr}")
        return 1
    since = time.monotonic()
    while before.leader:
        lacking, now = missing(before, look(port)), time.monotonic()
        if lacking:
            since = now
        elif now - since >= STEADY_S:
            return 0
        if now > end:
            sys.stderr.write(f"{timeout_s} s after the restart of Consul: {lacking or 'not for long enough'}\n")
            return 1
        time.sleep(POLL_S)
    return 0


if __name__ == "__main__":
    sys.exit(main())
