# SPDX-License-Identifier: Apache-2.0
"""What must hold when something breaks (docs/architecture.md), as clients see it. Every test undoes what it did."""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path

import pytest

from tests.lab.events import (
    all_announced,
    all_routers_serve,
    at_rest,
    broken,
    fabric_address,
    kill,
    routers_total,
    under_load,
    withdrawn_after,
)
from tests.lab.nodes import Lab, Node, wait_for

FLOOD = (Path(__file__).parent / "flood.py").read_text()


def pins(node: Node) -> dict[str, int]:
    """Totals of a router's pins."""
    return dict(node.json("/opt/og/current/bin/ogctl pins --json"))


def flood(lab: Lab, flags: str) -> None:
    """20,000 segments from addresses that nobody has, in the client's own /64."""
    client = lab.node("cli_w1")
    arguments = (fabric_address(client), lab.vip, str(lab.service["port"]), flags, "20000", "5000")
    assert client.python(FLOOD, *arguments, timeout=180).strip() == "20000"


def test_control_agent_and_consul_die_under_load(lab: Lab) -> None:
    """Nothing that only configures is needed for packets to flow: 0 failed requests."""
    with under_load(lab) as running:
        for node in lab.group("ogh_w") + lab.group("ogr_w"):
            kill(node, "og-control.service", "KILL")
        for node in lab.group("agent_w"):
            kill(node, "og-agent.service", "KILL")
        consul = lab.node("mon_w1")
        consul.run("systemctl stop consul.service")
        try:
            running.go_on(6)
        finally:
            consul.run("systemctl start consul.service")
    assert running.report["failed"] == 0, running.report["failures"]
    assert running.report["moved"] == 0
    wait_for(
        "Consul to have a leader again",
        lambda: consul.run("curl -sf http://127.0.0.1:8500/v1/status/leader", check=False).strip('"\n'),
        timeout=60,
    )


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_a_hasher_dies_or_hangs(lab: Lab, signal: str) -> None:
    """The VIP is withdrawn from the network router in under a second, and no established connection breaks."""
    all_announced(lab)
    victim = lab.node("ogh_w1")
    pid = victim.main_pid("og-hasher.service")
    assert pid, f"og-hasher does not run on {victim.name}"
    try:
        with under_load(lab) as running:
            # The unit restarts what was killed: keep it down for long enough to see the load carried without it.
            victim.run(
                "mkdir -p /run/systemd/system/og-hasher.service.d && printf '[Service]\\nRestart=no\\n' "
                "> /run/systemd/system/og-hasher.service.d/drill.conf && systemctl daemon-reload"
            )
            withdrawn = withdrawn_after(lab, victim, pid, signal)
            running.go_on(3)
    finally:
        victim.run(f"kill -CONT {pid}", check=False)
        victim.run(
            "rm -rf /run/systemd/system/og-hasher.service.d && systemctl daemon-reload && systemctl start og-hasher"
        )
        all_announced(lab)
    print(f"withdrawn after {withdrawn:.3f} s (SIG{signal})")
    assert withdrawn < 1.0
    assert broken(running.report) == []
    assert running.report["moved"] == 0


@pytest.mark.parametrize("how", ["kill", "restart"])
def test_a_router_dies_or_restarts(lab: Lab, how: str) -> None:
    """Its connections are found again by hunting; none breaks, and the counters show the hunt."""
    all_routers_serve(lab)
    victim = lab.node("ogr_w1")
    # The victim's counters start again at 0: what it had before must not count.
    before = {name: routers_total(lab, name, without=victim) for name in ("hunt_1", "returned_pin")}
    made = pins(victim)["inserts"]
    with under_load(lab) as running:
        held_there = pins(victim)["inserts"] - made
        if how == "kill":
            kill(victim, "og-router.service", "KILL")
        else:
            victim.run("systemctl restart og-router.service")
        running.go_on(6)
    all_routers_serve(lab)
    after = {name: routers_total(lab, name) for name in ("hunt_1", "returned_pin")}
    print({"pins made on the victim": held_there, "before": before, "after": after})
    assert held_there > 0, "the victim pinned none of the connections: the test would prove nothing"
    assert after["hunt_1"] > before["hunt_1"]
    assert after["returned_pin"] > before["returned_pin"]
    assert broken(running.report) == []
    assert running.report["moved"] == 0


def test_a_syn_flood_leaves_no_pins(lab: Lab) -> None:
    """20,000 SYNs from addresses nobody has: no pin, bounded half-open entries, connections unharmed."""
    routers = lab.group("ogr_w")
    before = routers_total(lab, "offered")
    with under_load(lab) as running:
        flood(lab, "S")
        flooded = {node.name: pins(node) for node in routers}
        listed = [
            pin for node in routers for pin in node.json("/opt/og/current/bin/ogctl pins --list --limit 100000 --json")
        ]
        offered = routers_total(lab, "offered") - before
    assert broken(running.report) == []
    half_open = {name: entry["half_open"] for name, entry in flooded.items()}
    print({"pins": len(listed), "SYNs offered": offered, "half open": half_open})
    assert offered > 10000, "the flood did not reach the routers"
    assert listed, "no pin at all, though connections are held: the test would prove nothing"
    assert [pin for pin in listed if is_spoofed(pin["client"])] == []
    assert all(entry["half_open"] <= entry["half_open_capacity"] for entry in flooded.values())


def is_spoofed(address: str) -> bool:
    """It is one of flood.py's: in the lab, who is there has a host part below 2^32."""
    return bool(int(IPv6Address(address)) >> 32 & 0xFFFFFFFF)


def test_an_ack_flood_is_counted_and_budgeted(lab: Lab) -> None:
    """20,000 ACKs of no connection: every one is hunted or dropped under its name, and nobody else notices."""
    names = ("hunt_1", "hunt_4", "drop_hunt_budget", "drop_hunt_negative", "drop_hunt_end")

    def totals() -> dict[str, int]:
        return {name: routers_total(lab, name) for name in names}

    before = totals()
    busy = [node.json("/opt/og/current/bin/ogctl load --json") for node in lab.group("ogr_w")]
    with under_load(lab) as running:
        flood(lab, "A")
        after = at_rest("what the routers counted", totals)
        spent = [node.json("/opt/og/current/bin/ogctl load --json") for node in lab.group("ogr_w")]
    packets = sum(b["packets"] - a["packets"] for a, b in zip(busy, spent, strict=True))
    cost = sum(b["busy_ns"] - a["busy_ns"] for a, b in zip(busy, spent, strict=True)) / max(1, packets)
    delta = {name: after[name] - before[name] for name in names}
    print({"hunt": delta, "router ns per packet": round(cost)})
    assert delta["hunt_1"] >= 19000, "the flood did not reach the routers"
    assert broken(running.report) == []
