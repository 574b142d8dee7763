# SPDX-License-Identifier: Apache-2.0
"""playbooks/drain.yml and restore.yml: a router, a hasher, a site leave under load and come back, as clients see it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.events import all_announced, all_routers_serve, broken, fabric_address, under_load, vip_next_hops
from tests.lab.nodes import Lab, Node, load, playbook, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

NEARLY_ALL = 0.95
# What grows on a gateway node as long as clients' packets come.
BUSY = {"ogr_w1": ("pinned", "offered", "hunt_1"), "ogh_w1": ("steered",)}
IDLE_WITHIN_S = 60


@pytest.fixture(autouse=True)
def everybody_serves(lab: Lab) -> None:
    """What a test before this one has broken is whole again."""
    all_announced(lab)
    all_routers_serve(lab)


def marks(lab: Lab) -> list[str]:
    """Who is drained in west by a key of Consul."""
    url = "http://127.0.0.1:8500/v1/kv/og/west/drain/?keys"
    shown = lab.group("mon_w")[0].run(f"curl -s '{url}'").strip()
    return sorted(key.rpartition("/")[2] for key in json.loads(shown or "[]"))


def health(node: Node) -> dict[str, Any]:
    """What the health daemon says; 503 while the node is drained."""
    return dict(node.json("curl -s http://127.0.0.1:9441/health"))


def restore(lab: Lab, target: str) -> None:
    done = playbook(lab, "restore", "-e", f"og_drain_target={target}")
    assert done.returncode == 0, done.stdout[-4000:]


@contextmanager
def drained(lab: Lab, target: str) -> Iterator[None]:
    """A target that is drained and idle while the block runs, and works again afterwards."""
    try:
        within = f"og_drain_timeout_s={IDLE_WITHIN_S}"
        done = playbook(lab, "drain", "-e", f"og_drain_target={target}", "-e", within)
        assert done.returncode == 0, done.stdout[-4000:]
        yield
    finally:
        restore(lab, target)
        all_announced(lab)
        all_routers_serve(lab)


def new_connections(lab: Lab, total: int = 100) -> dict[str, Any]:
    """Report of connections that west's client opens now."""
    options = ("--rate", "40", "--total", str(total), "--connections")
    with load(lab.node("cli_w1"), lab.vip, *options, port=int(lab.service["port"])) as running:
        return running.finish()


def share_of(report: dict[str, Any], prefix: str) -> float:
    """Part of the connections that servers of this name have answered."""
    counts = report["connections_per_backend"]
    return sum(count for name, count in counts.items() if name.startswith(prefix)) / report["connections"]


@pytest.mark.parametrize("target", BUSY)
def test_a_gateway_node_leaves_and_comes_back(lab: Lab, target: str) -> None:
    """It is idle under load, which the others carry: what is open stays, what is new is served."""
    node, by_key = lab.node(target), target.startswith("ogr")
    with under_load(lab) as running, drained(lab, target):
        before = node.counters()
        fresh = new_connections(lab)
        after = node.counters()
        assert [name for name in BUSY[target] if after[name] != before[name]] == []
        assert fresh["failed"] == 0, fresh["failures"]
        assert marks(lab) == ([target] if by_key else [])
        assert health(node)["drained"] is not by_key
        assert fabric_address(node) not in vip_next_hops(lab)
    assert marks(lab) == []
    assert health(node)["drained"] is False
    assert broken(running.report) == []
    assert (running.report["failed"], running.report["moved"]) == (0, 0), running.report["failures"]


def test_a_router_that_a_round_has_left_drained_is_restored(lab: Lab) -> None:
    """As a round leaves it that is cut off: by the health daemon's file, which the mark in Consul knows nothing of."""
    router = lab.node("ogr_w1")
    try:
        router.run("echo 'by a rolling round' >/run/og/health.drain")
        wait_for("the health daemon to follow", lambda: health(router)["drained"])
        restore(lab, "ogr_w1")
        assert health(router)["drained"] is False
        assert "changed=1" not in playbook(lab, "restore", "-e", "og_drain_target=ogr_w1").stdout
    finally:
        router.run("rm -f /run/og/health.drain")
        wait_for("the router to be healthy", lambda: health(router)["healthy"])


def test_a_site_leaves_and_comes_back(lab: Lab) -> None:
    """Its servers keep what is open until that ends, then the hashers leave; the other site serves what is new."""
    if len(lab.sites) < 2:
        pytest.skip("the lab that is up has one site: `make lab TOPOLOGY=failover` has two")
    client, port = lab.node("cli_w1"), int(lab.service["port"])
    held = ("--held", "100", "--interval", "0.5", "--rate", "20", "--connections", "--duration", "20")
    with load(client, lab.vip, *held, port=port) as running, drained(lab, "west"):
        report = running.finish()
        assert marks(lab) == sorted(node.name for node in lab.group("agent_w"))
        assert all(health(node)["drained"] for node in lab.group("ogh_w"))
        fresh = new_connections(lab)
    print({"before": report["connections_per_backend"], "drained": fresh["connections_per_backend"]})
    assert [row for row in report["records"] if row["population"] == "held" and row["backend"].startswith("agent_w")]
    assert broken(report) == []
    assert (report["failed"], report["moved"]) == (0, 0), report["failures"]
    assert fresh["failed"] == 0, fresh["failures"]
    # East's routers may still have a pin to west of a connection that had the same port.
    assert share_of(fresh, "agent_e") >= NEARLY_ALL
    assert marks(lab) == []
    wait_for(
        "west's servers to be given what is new",
        lambda: share_of(new_connections(lab, 20), "agent_w") >= NEARLY_ALL,
        60,
    )
