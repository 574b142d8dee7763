# SPDX-License-Identifier: Apache-2.0
"""Runs on a node before and after a fault: exit status 0 if it is in full service, else 1 and a line for each reason.

A gateway node: the data plane serves and no member is suspect or without a listener, the health daemon announces,
Consul's checks of the node pass. A network router: as many next hops for an address as it should have.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from og.drill.watch import down, hops
from og.jsonsock import SocketError, request
from og.telemetry import Telemetry, TelemetryError, default_path

if TYPE_CHECKING:
    from collections.abc import Mapping

HEALTH = "http://127.0.0.1:9441/health"
CHECKS = "http://127.0.0.1:8500/v1/agent/checks"
TIMEOUT_S = 3.0


def data_plane(status: Mapping[str, Any], members: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is wrong by the data plane's own word."""
    wrong = [] if status.get("serving") else ["the data plane cannot serve"]
    suspects = list(status.get("suspect", []))
    wrong += [f"{name} does not answer" for name in suspects]
    return wrong + [f"nothing listens on {name}" for name in down(members) if name not in suspects]


def health(answer: Mapping[str, Any], role: str) -> list[str]:
    """What is wrong by the health daemon: a hasher must announce its locator and a VIP, a router its locator."""
    wrong = [] if answer.get("healthy") else [f"health: {answer.get('reason')}"]
    announced = answer.get("announced") or []
    wanted = 2 if role == "hasher" else 1
    return wrong + ([] if len(announced) >= wanted else [f"health: announces only {announced}"])


def consul(checks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is wrong by Consul's checks of this node."""
    if not checks:
        return ["consul: no check is registered"]
    return [
        f"consul: {check.get('Name') or name} is {check.get('Status')}"
        for name, check in checks.items()
        if check.get("Status") != "passing"
    ]


def gateway(role: str) -> list[str]:
    """Everything that is wrong with this gateway node."""
    try:
        status = request(f"/run/og/{role}.sock", {"op": "status"}, TIMEOUT_S)
        with Telemetry(default_path(role), TIMEOUT_S) as telemetry:
            wrong = data_plane(status, telemetry.query("/og/members"))
    except (SocketError, TelemetryError) as error:
        wrong = [str(error)]
    for url, judge in ((HEALTH, lambda answer: health(answer, role)), (CHECKS, consul)):
        try:
            with urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - our own, on this host
                wrong += judge(json.load(answer))
        except (OSError, ValueError) as error:
            wrong.append(f"{url}: {error}")
    return wrong


def network_router(address: str, count: int) -> list[str]:
    """What is wrong with the way to an address."""
    shown = subprocess.run(
        ["ip", "-6", "-j", "route", "show", f"{address}/128"], capture_output=True, text=True, check=False
    )
    found = hops(json.loads(shown.stdout or "[]"))
    return [] if len(found) == count else [f"{address} has {len(found)} next hops instead of {count}: {found}"]


def main() -> int:
    """Look once."""
    parser = argparse.ArgumentParser(prog="og.drill.gate", description="Say what keeps this node from full service.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--hops", metavar="ADDRESS", help="on a network router: look at the way to this address")
    what.add_argument("--role", choices=["hasher", "router"], help="on a gateway node")
    parser.add_argument("--count", type=int, default=1, help="next hops there should be (default: %(default)s)")
    arguments = parser.parse_args()
    wrong = network_router(arguments.hops, arguments.count) if arguments.hops else gateway(arguments.role)
    for text in wrong:
        sys.stdout.write(text + "\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
