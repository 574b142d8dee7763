# SPDX-License-Identifier: Apache-2.0
"""What tests that break something have in common: load around the event, what the network router does, who serves."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.lab.nodes import Lab, Node, load, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HELD = ("--held", "200", "--interval", "0.5", "--rate", "40", "--connections")


@contextmanager
def under_load(lab: Lab, seconds: float, settle: float = 3.0, site: str = "w") -> Iterator[dict[str, Any]]:
    """Held connections and a stream of new ones around the block; the report is filled in at the end."""
    report: dict[str, Any] = {}
    client = lab.node(f"cli_{site}1")
    with load(client, lab.vip, *HELD, "--duration", str(seconds), port=int(lab.service["port"])) as running:
        time.sleep(settle)
        yield report
        report.update(running.finish())


def broken(report: dict[str, Any], population: str = "held") -> list[dict[str, Any]]:
    """Connections of a population that did not end well."""
    return [row for row in report["records"] if row["population"] == population and row["outcome"] != "ok"]


def _vip_hops(lab: Lab, router: str) -> list[dict[str, Any]]:
    """Next hops of the VIP in a network router's kernel."""
    routes = lab.node(router).json(f"ip -6 -j route show {lab.vip}/128")
    return [hop for route in routes for hop in route.get("nexthops", [route])]


def vip_next_hops(lab: Lab, router: str = "rtr_w1") -> set[str]:
    """Link addresses a network router would send the VIP's packets to."""
    return {hop["gateway"] for hop in _vip_hops(lab, router) if "gateway" in hop}


def vip_ports(lab: Lab, router: str = "rtr_w1") -> set[str]:
    """Ports it would send them through."""
    return {hop["dev"] for hop in _vip_hops(lab, router) if "dev" in hop}


def seconds_until(condition: Callable[[], bool], limit: float = 5.0) -> float:
    """How long it took for the condition to hold, at most `limit`."""
    begin = time.monotonic()
    while not condition() and time.monotonic() - begin < limit:
        time.sleep(0.02)
    return time.monotonic() - begin


def fabric_address(node: Node) -> str:
    """Address of a node on its link."""
    return node.run("ip -6 -o addr show dev fab0 scope global | awk '{print $4}'").split("/")[0]


def all_announced(lab: Lab, site: str = "w") -> None:
    """Wait until every hasher of a site is back in service, and the network router uses no other."""
    hashers = {fabric_address(node) for node in lab.group(f"ogh_{site}")}
    wait_for("every hasher to announce the VIP", lambda: vip_next_hops(lab, f"rtr_{site}1") == hashers, timeout=60)


def routers_total(lab: Lab, name: str, without: Node | None = None) -> int:
    """Sum of a counter over the routers of west."""
    return sum(router.counters().get(name, 0) for router in lab.group("ogr_w") if router != without)


def all_routers_serve(lab: Lab) -> None:
    """Wait until no hasher of west suspects a router."""

    def ready() -> bool:
        return all(
            hasher.json("/opt/og/current/bin/ogctl status --json", check=False).get("suspect") == []
            for hasher in lab.group("ogh_w")
        )

    wait_for("every hasher to see every router", ready, timeout=60)


def kill(node: Node, unit: str, signal: str) -> None:
    """Send a signal to the main process of a unit, by its id."""
    pid = node.main_pid(unit)
    assert pid, f"{unit} does not run on {node.name}"
    node.run(f"kill -{signal} {pid}")
