# SPDX-License-Identifier: Apache-2.0
"""Restart FRRouting and wait until its sessions are back: `python3 restart.py TIMEOUT_S`, as root.

Awaited are the BGP sessions that were established before and are still configured. Exit status 1, and one line that
says which are missing, if they do not come in time. A bgpd that runs and does not answer is told, not restarted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

POLL_S = 0.5
LOOKS = 5
SUMMARY = ("vtysh", "-c", "show bgp ipv6 unicast summary json")


@dataclass(frozen=True)
class View:
    """Neighbours by address: all that are configured, and those with an established session."""

    configured: frozenset[str] = frozenset()
    established: frozenset[str] = frozenset()


def read(summary: Mapping[str, Any]) -> View:
    """Read what `show bgp ipv6 unicast summary json` prints."""
    peers: Mapping[str, Mapping[str, Any]] = summary.get("peers", {})
    established = (address for address, peer in peers.items() if peer.get("state") == "Established")
    return View(frozenset(peers), frozenset(established))


def missing(before: View, now: View) -> str:
    """Say what was there and is not yet again; empty if nothing is. Without a configuration nothing is known yet."""
    expected = before.established & now.configured if now.configured else before.established
    lacking = expected - now.established
    return f"no session with {', '.join(sorted(lacking))}" if lacking else ""


def look() -> View | None:
    """Ask this host's bgpd; None: it does not answer."""
    try:
        answer = subprocess.run(SUMMARY, check=True, capture_output=True, text=True, timeout=10)
        return read(json.loads(answer.stdout))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def runs() -> bool:
    """Tell whether there is a bgpd that could answer."""
    return subprocess.run(["pgrep", "--exact", "bgpd"], check=False, capture_output=True).returncode == 0


def look_before() -> View | None:
    """Ask what there is to lose. One that does not run has nothing; None: one that runs does not answer."""
    for _ in range(LOOKS):
        view = look()
        if view is not None:
            return view
        if not runs():
            return View()
        time.sleep(POLL_S)
    return None


def main() -> int:
    """Return the exit status."""
    before, end = look_before(), time.monotonic() + float(sys.argv[1])
    if before is None:
        sys.stderr.write("bgpd runs and does not answer vtysh: nothing was restarted\n")
        return 1
    restart = ["sh", "-c", "systemctl daemon-reload && systemctl restart frr.service"]
    done = subprocess.run(restart, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(f"FRRouting does not restart: {done.stderr}")
        return 1
    while lacking := missing(before, look() or View()):
        if time.monotonic() > end:
            sys.stderr.write(f"{sys.argv[1]} s after the restart of FRRouting: {lacking}\n")
            return 1
        time.sleep(POLL_S)
    return 0


if __name__ == "__main__":
    sys.exit(main())
