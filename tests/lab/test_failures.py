# SPDX-License-Identifier: Apache-2.0
"""What must hold when something breaks (docs/architecture.md), as clients see it. Every test undoes what it did."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.lab.events import (
    all_announced,
    all_routers_serve,
    broken,
    fabric_address,
    kill,
    routers_total,
    seconds_until,
    under_load,
    vip_next_hops,
)
from tests.lab.nodes import Lab, wait_for

FLOOD = (Path(__file__).parent / "flood.py").read_text()


def test_control_agent_and_consul_die_under_load(lab: Lab) -> None:
    """Nothing that only configures is needed for packets to flow: 0 failed requests."""
    with under_load(lab, 14) as report:
        for node in lab.group("ogh_w") + lab.group("ogr_w"):
            kill(node, "og-control.service", "KILL")
        for node in lab.group("agent_w"):
            kill(node, "og-agent.service", "KILL")
        consul = lab.node("mon_w1")
        consul.run("systemctl stop consul.service")
        try:
            time.sleep(6)
        finally:
            consul.run("systemctl start consul.service")
    assert report["failed"] == 0, report["failures"]
    assert report["moved"] == 0
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
    address = fabric_address(victim)
    try:
        with under_load(lab, 12) as report:
            pid = victim.main_pid("og-hasher.service")
            # The unit restarts what was killed: keep it down for long enough to see the load carried without it.
            victim.run(
                "mkdir -p /run/systemd/system/og-hasher.service.d && printf '[Service]\\nRestart=no\\n' "
                "> /run/systemd/system/og-hasher.service.d/drill.conf && systemctl daemon-reload"
            )
            victim.run(f"kill -{signal} {pid}")
            withdrawn = seconds_until(lambda: address not in vip_next_hops(lab))
            time.sleep(3)
    finally:
        victim.run(f"kill -CONT {pid}", check=False)
        victim.run(
            "rm -rf /run/systemd/system/og-hasher.service.d && systemctl daemon-reload && systemctl start og-hasher"
        )
        all_announced(lab)
    print(f"withdrawn after {withdrawn:.3f} s (SIG{signal})")
    assert withdrawn < 1.0
    assert broken(report) == []
    assert report["moved"] == 0


@pytest.mark.parametrize("how", ["kill", "restart"])
def test_a_router_dies_or_restarts(lab: Lab, how: str) -> None:
    """Its connections are found again by hunting; none breaks, and the counters show the hunt."""
    all_routers_serve(lab)
    victim = lab.node("ogr_w1")
    # The victim's counters start again at 0: what it had before must not count.
    before = {name: routers_total(lab, name, without=victim) for name in ("hunt_1", "returned_pin")}
    pins = victim.json("/opt/og/current/bin/ogctl pins --json")["count"]
    with under_load(lab, 14) as report:
        held_there = victim.json("/opt/og/current/bin/ogctl pins --json")["count"] - pins
        if how == "kill":
            kill(victim, "og-router.service", "KILL")
        else:
            victim.run("systemctl restart og-router.service")
        time.sleep(6)
    all_routers_serve(lab)
    after = {name: routers_total(lab, name) for name in ("hunt_1", "returned_pin")}
    print({"pins of the victim": held_there, "before": before, "after": after})
    assert held_there > 0, "the victim pinned none of the connections: the test would prove nothing"
    assert after["hunt_1"] > before["hunt_1"]
    assert after["returned_pin"] > before["returned_pin"]
    assert broken(report) == []
    assert report["moved"] == 0


def test_a_syn_flood_leaves_no_pins(lab: Lab) -> None:
    """20,000 SYNs from addresses nobody has: no pin, bounded half-open entries, connections unharmed."""
    client = lab.node("cli_w1")
    own = fabric_address(client)
    with under_load(lab, 14) as report:
        pins = {node.name: node.json("/opt/og/current/bin/ogctl pins --json") for node in lab.group("ogr_w")}
        sent = client.python(FLOOD, own, lab.vip, str(lab.service["port"]), "S", "20000", "5000")
        assert sent.strip() == "20000"
        flooded = {node.name: node.json("/opt/og/current/bin/ogctl pins --json") for node in lab.group("ogr_w")}
    assert broken(report) == []
    # New pins are those of the client's own stream: at most what it opened, and far below what was spoofed.
    new = sum(flooded[name]["inserts"] - pins[name]["inserts"] for name in pins)
    opened = sum(1 for row in report["records"] if row["opened"])
    print(
        {"pins made": new, "opened by the client": opened, "half open": {n: flooded[n]["half_open"] for n in flooded}}
    )
    assert new <= opened
    assert all(entry["half_open"] <= entry["half_open_capacity"] for entry in flooded.values())


def test_an_ack_flood_is_counted_and_budgeted(lab: Lab) -> None:
    """20,000 ACKs of no connection: every one is hunted or dropped under its name, and nobody else notices."""
    client = lab.node("cli_w1")
    own = fabric_address(client)
    names = ("hunt_1", "hunt_4", "drop_hunt_budget", "drop_hunt_negative", "drop_hunt_end")
    before = {name: routers_total(lab, name) for name in names}
    busy = [node.json("/opt/og/current/bin/ogctl load --json") for node in lab.group("ogr_w")]
    with under_load(lab, 14) as report:
        assert client.python(FLOOD, own, lab.vip, str(lab.service["port"]), "A", "20000", "5000").strip() == "20000"
        time.sleep(1)
        after = {name: routers_total(lab, name) for name in names}
        spent = [node.json("/opt/og/current/bin/ogctl load --json") for node in lab.group("ogr_w")]
    packets = sum(b["packets"] - a["packets"] for a, b in zip(busy, spent, strict=True))
    cost = sum(b["busy_ns"] - a["busy_ns"] for a, b in zip(busy, spent, strict=True)) / max(1, packets)
    delta = {name: after[name] - before[name] for name in names}
    print({"hunt": delta, "router ns per packet": round(cost)})
    assert delta["hunt_1"] >= 19000, "the flood did not reach the routers"
    assert broken(report) == []
