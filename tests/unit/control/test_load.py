# SPDX-License-Identifier: Apache-2.0
"""Telemetry to samples: whose load counts, what a silent one said last, what is known of other sites."""

from __future__ import annotations

import pytest

from og.control.load import Load, Look, take_samples
from og.control.spill import Memory, Neighbour
from og.control.writer import SentFlows
from tests.unit.control.builders import Site, both, instance, view

AGENTS = ["agent_w1", "agent_w2", "agent_w3"]


def report(name, **fields):
    kind = "agent" if name.startswith("agent") else "router"
    common = {"replied": 1, "suspect": 0, "misses": 0, "serving": 1, "draining": 0, "listeners": 1}
    return {"name": name, "kind": kind, "connections": 0, "accepts_per_s": 0, "bytes_per_s": 0, **common, **fields}


def look(reports=(), unit="new_per_s", own=Load(), closed=(), memories=None, text="", west=AGENTS):  # noqa: B008, PLR0917
    site = Site(text=f"services: {{web: {{capacity: {{{unit}: 100}}}}}}\n{text}")
    site.look(
        both(
            view(west, ["ogr_w1", "ogr_w2"], drains=[]),
            view(["agent_e1", "agent_e2"], ["ogr_e1", "ogr_e2"], drains=[], site="east"),
        )
    )
    weights = {verdict.name: verdict.weight for verdict in site.tables.verdicts}
    known = {name: report(name, accepts_per_s=10, connections=100, bytes_per_s=1_000_000) for name in AGENTS}
    known |= {entry["name"]: entry for entry in reports}
    seen = Look(site.config, site.policy, site.state, weights, known, own, frozenset(closed))
    return take_samples(seen, memories or {})["web"]


@pytest.mark.parametrize(("unit", "local"), [("new_per_s", 30), ("connections", 300), ("mbit_s", 24)])
def test_local_load_and_capacity_in_the_unit(unit, local):
    sample = look(unit=unit)
    assert (sample.usable, sample.capacity, sample.local, sample.spilled) == (3, 300, local, 0)


@pytest.mark.parametrize(
    "entry",
    [
        report("agent_w3", suspect=1, accepts_per_s=10),
        report("agent_w3", draining=1, accepts_per_s=10),
        report("agent_w3", listeners=2, accepts_per_s=10),
        report("agent_w3", replied=0),
    ],
)
def test_a_server_that_takes_nothing_carries_nothing_and_can_nothing(entry):
    sample = look([entry])
    assert (sample.usable, sample.capacity, sample.local) == (2, 200, 20)


def test_consul_lowers_too():
    sample = look(west=[*AGENTS[:2], instance("agent_w3", "down")])
    assert (sample.usable, sample.capacity, sample.local) == (2, 200, 20)


def test_what_was_spilled_is_that_of_this_router_and_of_those_beside_it():
    beside = report("ogr_w2", accepts_per_s=7, connections=70)
    assert look([beside], own=Load(50, 5)).spilled == 12
    assert look([beside], "connections", own=Load(50, 5)).spilled == 120


def test_a_silent_router_counts_for_a_while():
    for misses, spilled in ((29, 12), (30, 5)):
        beside = report("ogr_w2", accepts_per_s=7, misses=misses, suspect=1)
        assert look([beside], own=Load(50, 5)).spilled == spilled


def test_bytes_of_spilled_connections_are_estimated_by_those_here():
    assert look(unit="mbit_s", own=Load(connections=150)).spilled == pytest.approx(12)


def test_another_site():
    east = [report("ogr_e1", accepts_per_s=40), report("ogr_e2", accepts_per_s=44)]
    assert look(east).neighbours == {"east": Neighbour(200.0, 44.0, fresh=True)}
    assert look([report("ogr_e1", accepts_per_s=40, misses=10)]).neighbours == {
        "east": Neighbour(0.0, 0.0, fresh=False)
    }
    assert look([report("ogr_e1", listeners=0)]).neighbours["east"].capacity == 0
    assert look([report("ogr_e1", serving=0)]).neighbours["east"].capacity == 0
    assert look(east, closed=[("east", "web")]).neighbours["east"].capacity == 0
    assert look(east, text="defaults: {spill: {sites: []}}").neighbours == {}


def test_capacity_unknown_is_not_zero():
    site = Site(text="")
    site.look(view(AGENTS, ["ogr_w1"], drains=[]))
    weights = dict.fromkeys(AGENTS, 100)
    reports = {name: report(name, connections=5) for name in AGENTS}
    sample = take_samples(Look(site.config, site.policy, site.state, weights, reports, Load(), frozenset()), {})["web"]
    assert (sample.capacity, sample.local) == (None, 15)


def test_what_routers_sent_is_divided_by_what_shares_let_expect():
    services = [
        {"index": i, "name": name, "vip": f"2001:db8:1::{i + 1}", "protocol": "tcp", "port": 80}
        for i, name in enumerate(["web", "db"])
    ]
    site = Site(services=services)
    site.look(view(AGENTS, ["ogr_w1"], drains=[]))
    reports = {name: report(name, accepts_per_s=10) for name in AGENTS}
    seen = Look(site.config, site.policy, site.state, dict.fromkeys(AGENTS, 100), reports, Load(10, 10), frozenset())
    samples = take_samples(seen, {"web": Memory({"east": 0.5}), "db": Memory()})
    assert (samples["web"].spilled, samples["db"].spilled) == (10, 0)
    assert sum(sample.spilled for sample in take_samples(seen, {}).values()) == 10


def test_the_rate_of_what_this_router_sent():
    sent = SentFlows()
    assert sent.look({"to_sites": 4}, {"spilled": 100}, 10.0) == Load(4, 0)
    assert sent.look({"to_sites": 5}, {"spilled": 110, "offered_site": 10}, 12.0) == Load(5, 10)
    assert sent.look({}, {"spilled": 3}, 13.0) == Load(0, 0)  # it was restarted
