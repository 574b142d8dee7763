# SPDX-License-Identifier: Apache-2.0
"""Runs on a node during a drill: writes a JSON line {t, what, value} whenever what it looks at has changed.

On a gateway node, ten times a second from the data plane: `suspect` (members without answer), `down` (those, and
servers on which no service listens), `generation`, `shares` ({"service/site": 0..1024}), `serving`; once a second
`counters` (verdicts), `pins`, and from the control daemon `consul` (datacenters it cannot ask).
On a network router, at every change of a route: `hops`, the next hops of an address (rtnetlink(7)).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from og.jsonsock import SocketError, request
from og.telemetry import Telemetry, TelemetryError, default_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FAST_S = 0.1
SLOW_S = 1.0
RTMGRP_IPV6_ROUTE = 0x400
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, RTNLGRP_NEXTHOP = 270, 1, 32
PAGE = 32  # members in one answer

State = dict[str, Any]


def down(members: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Members no new flow is given to: they do not answer, or are servers on which nothing listens."""
    return sorted(
        str(entry.get("name", key))
        for key, entry in members.items()
        if entry.get("suspect") or (entry.get("kind") == "agent" and not entry.get("listeners"))
    )


def shares(status: Mapping[str, Any]) -> dict[str, int]:
    """Shares of a data plane's status by "service/site"; those that are 0 are left out."""
    return {
        f"{entry['service']}/{entry['site']}": int(entry["share"])
        for entry in status.get("shares", [])
        if entry.get("share")
    }


def hops(routes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Gateways in the output of `ip -6 -j route show ADDRESS`."""
    found = {hop.get("gateway", "") for route in routes for hop in route.get("nexthops", [route])}
    return sorted(found - {""})


class Changes:
    """Writes what has changed since the last call."""

    def __init__(self) -> None:
        self._last: State = {}

    def __call__(self, state: State, at: float) -> None:
        """Print a line for each value that is not the one printed last."""
        for what, value in state.items():
            if what not in self._last or self._last[what] != value:
                self._last[what] = value
                sys.stdout.write(json.dumps({"t": round(at, 4), "what": what, "value": value}) + "\n")
                sys.stdout.flush()


def gateway(role: str) -> None:
    """Watch a data plane until the end. One that does not answer has the state `serving` null."""
    tell = Changes()
    telemetry = Telemetry(default_path(role), 0.5)
    slow_at = 0.0
    while True:
        at = time.time()
        tell(_fast(role, telemetry), at)
        if at >= slow_at:
            slow_at = at + SLOW_S
            tell(_slow(role, telemetry), at)
        time.sleep(max(0.0, at + FAST_S - time.time()))


def _fast(role: str, telemetry: Telemetry) -> State:
    try:
        status = request(f"/run/og/{role}.sock", {"op": "status"}, 0.5)
        members: dict[str, Any] = {}
        while len(members) % PAGE == 0:
            page = telemetry.query(f"/og/members,{len(members)}")
            members |= page
            if not page:
                break
    except (SocketError, TelemetryError):
        return {"serving": None}
    return {
        "serving": bool(status.get("serving")),
        "suspect": sorted(status.get("suspect", [])),
        "down": down(members),
        "generation": status.get("generation", 0),
        "shares": shares(status),
    }


def _slow(role: str, telemetry: Telemetry) -> State:
    state: State = {}
    with contextlib.suppress(TelemetryError):
        state["counters"] = {name: n for name, n in telemetry.query("/og/counters").items() if n}
        if role == "router":
            state["pins"] = telemetry.query("/og/pins")["count"]
    with contextlib.suppress(SocketError):
        control = request("/run/og/control.sock", {"op": "status"}, 0.5)
        state["consul"] = sorted(name for name, error in control.get("consul", {}).items() if error)
    return state


def network_router(address: str) -> None:
    """Watch the next hops of an address until the end."""
    tell = Changes()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as events:
        events.bind((0, RTMGRP_IPV6_ROUTE))
        with contextlib.suppress(OSError):
            events.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, RTNLGRP_NEXTHOP)
        while True:
            at = time.time()
            shown = subprocess.run(
                ["ip", "-6", "-j", "route", "show", f"{address}/128"], capture_output=True, text=True, check=False
            )
            with contextlib.suppress(ValueError):
                tell({"hops": hops(json.loads(shown.stdout or "[]"))}, at)
            select.select([events], [], [], SLOW_S)
            with contextlib.suppress(OSError):  # what has come until now is one change
                while events.recv(65536, socket.MSG_DONTWAIT):
                    pass


def main() -> int:
    """Watch until SIGTERM."""
    parser = argparse.ArgumentParser(prog="og.drill.watch", description="Say what changes on this node, as JSON lines.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--hops", metavar="ADDRESS", help="on a network router: next hops of this address")
    what.add_argument("--role", choices=["hasher", "router"], help="on a gateway node")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if arguments.hops:
        network_router(arguments.hops)
    else:
        gateway(arguments.role)
    return 0


if __name__ == "__main__":
    sys.exit(main())
