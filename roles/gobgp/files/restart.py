# SPDX-License-Identifier: Apache-2.0
"""Restart GoBGP and wait until it is what it was: `python3 restart.py TIMEOUT_S` on a gateway node, as root.

Awaited are the sessions that were established, as far as they are still configured, and the prefixes that were
announced. Exit status 1, and one line that says what is missing, if they do not come in time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

GOBGP = ["/usr/local/bin/gobgp", "--target", "unix:///run/gobgp/api.sock", "--json"]
CONFIG = Path("/etc/gobgp/gobgpd.toml")
ESTABLISHED = 6
NEXT_HOP_SELF = "::"  # what is announced here
POLL_S = 0.5


@dataclass(frozen=True)
class View:
    """Addresses of established sessions, and prefixes of this node's own in the table."""

    sessions: frozenset[str] = frozenset()
    prefixes: frozenset[str] = frozenset()


def read(neighbors: list[Mapping[str, Any]], table: Mapping[str, list[Mapping[str, Any]]]) -> View:
    """Read what `gobgp neighbor` and `gobgp global rib` print."""
    states = [peer.get("state", {}) for peer in neighbors]
    return View(
        frozenset(str(state["neighbor_address"]) for state in states if state.get("session_state") == ESTABLISHED),
        frozenset(
            prefix
            for prefix, paths in table.items()
            if any(attribute.get("nexthop") == NEXT_HOP_SELF for path in paths for attribute in path.get("attrs", []))
        ),
    )


def missing(before: View, now: View, configured: frozenset[str]) -> str:
    """Say what was there and is not yet again; empty if nothing is."""
    sessions = (before.sessions & configured) - now.sessions
    prefixes = before.prefixes - now.prefixes
    parts = []
    if sessions:
        parts.append(f"no session with {', '.join(sorted(sessions))}")
    if prefixes:
        parts.append(f"not announced again: {', '.join(sorted(prefixes))}")
    return "; ".join(parts)


def ask(*words: str) -> Any:  # noqa: ANN401 - JSON
    """Return what the program prints. Raises OSError, ValueError, SubprocessError."""
    done = subprocess.run([*GOBGP, *words], capture_output=True, text=True, timeout=10, check=True)
    return json.loads(done.stdout or "null")


def look() -> View:
    """Ask GoBGP. One that does not answer has nothing."""
    try:
        return read(ask("neighbor") or [], ask("global", "rib", "-a", "ipv6") or {})
    except (OSError, ValueError, subprocess.SubprocessError):
        return View()


def main() -> int:
    """Return the exit status."""
    before, end = look(), time.monotonic() + float(sys.argv[1])
    neighbors = tomllib.loads(CONFIG.read_text()).get("neighbors", [])
    configured = frozenset(str(neighbor["config"]["neighbor-address"]) for neighbor in neighbors)
    restart = ["sh", "-c", "systemctl daemon-reload && systemctl restart gobgpd.service"]
    done = subprocess.run(restart, check=False, capture_output=True, text=True)
    # One that ends at once may fail this job or not; systemd starts it again in any case, so the wait is the judge.
    if done.returncode and not missing(before, View(), configured):
        sys.stderr.write(f"GoBGP does not restart: {done.stderr}")
        return 1
    while lacking := missing(before, look(), configured):
        if time.monotonic() > end:
            sys.stderr.write(f"{sys.argv[1]} s after the restart of GoBGP: {lacking}\n")
            return 1
        time.sleep(POLL_S)
    return 0


if __name__ == "__main__":
    sys.exit(main())
