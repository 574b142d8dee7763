# SPDX-License-Identifier: Apache-2.0
"""What tests that break something have in common: load around the event, what the network router does, who serves."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

from tests.lab.nodes import LONGEST, Background, Lab, Load, Node, load, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HELD = 200
OPTIONS = ("--held", str(HELD), "--interval", "0.5", "--rate", "40", "--connections", *LONGEST)
TICKLE = "2001:db8:ffff::1"  # nobody's


@contextmanager
def under_load(lab: Lab, site: str = "w") -> Iterator[Load]:
    """Held connections, all open, and a stream of new ones around the block; then `report` says what became of them."""
    with load(lab.node(f"cli_{site}1"), lab.vip, *OPTIONS, port=int(lab.service["port"])) as running:
        running.wait_open(HELD)
        yield running
        running.stop()


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


class RouteMonitor(Background):
    """What `ip monitor` says of a node's routes, line by line, each with its time."""

    def lines_about(self, address: str) -> list[str]:
        return [line for line in self.out.rpartition("\n")[0].splitlines() if f" {address} " in line]

    def left(self, address: str, next_hop: str, since: float) -> float | None:
        """Unix time of the first change after `since` with which an address has another next hop, and not this one."""
        for line in self.lines_about(address):
            stamp, _, route = line.partition("]")
            at = datetime.fromisoformat(stamp.strip("[] ")).replace(tzinfo=UTC).timestamp()
            if at >= since and "Deleted" not in route and "via " in route and f"via {next_hop} " not in f"{route} ":
                return at
        return None


@contextmanager
def route_monitor(node: Node) -> Iterator[RouteMonitor]:
    """Watch a node's routes from the beginning of the block on."""
    monitor = RouteMonitor(node, "env TZ=UTC ip -6 -o -ts monitor route")

    def listens() -> bool:
        """A route of our own shows it."""
        node.run(f"ip -6 route replace blackhole {TICKLE} && ip -6 route delete blackhole {TICKLE}")
        return bool(monitor.lines_about(TICKLE))

    try:
        wait_for(f"the route monitor of {node.name}", listens)
        yield monitor
    finally:
        monitor.close()


def withdrawn_after(lab: Lab, victim: Node, pid: int, signal: str, router: str = "rtr_w1") -> float:
    """Seconds from a signal to a hasher's process until the network router's kernel sends nothing there any more.

    Both moments are taken on the nodes, which share a clock.
    """
    vip, address = str(IPv6Address(lab.vip)), fabric_address(victim)
    source = "import os, signal, sys, time; print(time.time()); os.kill(int(sys.argv[1]), signal.Signals[sys.argv[2]])"
    with route_monitor(lab.node(router)) as monitor:
        sent = float(victim.python(source, str(pid), f"SIG{signal}"))
        wait_for(f"the withdrawal of {victim.name}", lambda: address not in vip_next_hops(lab, router), timeout=60)
        try:
            gone = wait_for("the route monitor to tell of it", lambda: monitor.left(vip, address, sent))
        finally:
            print("\n".join(monitor.lines_about(vip)))
    return float(gone) - sent


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


def at_rest(what: str, read: Callable[[], Any], for_s: float = 3.0) -> Any:
    """What `read` gives once that has not changed for a while."""
    seen, since = read(), time.monotonic()

    def rests() -> bool:
        nonlocal seen, since
        now = read()
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since >= for_s

    wait_for(f"{what} to stand still", rests, timeout=120)
    return seen


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
