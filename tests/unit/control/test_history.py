# SPDX-License-Identifier: Apache-2.0
"""The membership log: what goes in, what comes out, and that all nodes of a site end with the same one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from og.control.history import MAX_ENTRIES, Log, Past, adopt, advance, decode_logs, encode_logs
from tests.unit.control.builders import T0, Site, instance, view

A, B, C = (("a", 100),), (("b", 100),), (("a", 100), ("b", 50))
AGENTS = ["agent_w1", "agent_w2", "agent_w3"]


def test_a_membership_that_is_over_goes_to_the_front_once():
    log = advance(Log(), A, 1.0, 100.0)
    assert log == Log(A, ())
    log = advance(advance(log, B, 2.0, 100.0), C, 3.0, 100.0)
    assert log == Log(C, (Past(3.0, B), Past(2.0, A)))
    log = advance(advance(log, A, 4.0, 100.0), B, 5.0, 100.0)
    assert log == Log(B, (Past(5.0, A), Past(4.0, C), Past(3.0, B)))


def test_nobody_is_no_membership():
    log = advance(advance(advance(Log(), A, 1.0, 100.0), (), 2.0, 100.0), A, 3.0, 100.0)
    assert log == Log(A, (Past(2.0, A),))


def test_age_and_length():
    log = Log()
    for number in range(50):
        log = advance(log, ((f"a{number}", 1),), float(number), 1000.0)
    assert len(log.past) == MAX_ENTRIES
    log = advance(log, log.current or (), 1040.0, 1000.0)
    assert [entry.at for entry in log.past] == [49.0, 48.0, 47.0, 46.0, 45.0, 44.0, 43.0, 42.0, 41.0]


def test_taking_over_what_is_written():
    written = Log(B, (Past(2.0, A),))
    assert adopt(Log(), written, writer=False) == written  # a new node
    assert adopt(Log(B, (Past(1.9, C),)), written, writer=False) == written  # all have the same
    ahead = Log(C, (Past(3.0, B),))
    assert adopt(ahead, written, writer=False) == Log(C, (Past(3.0, B), Past(2.0, A)))
    # The writer came back to B over C, which is not written yet.
    assert adopt(Log(B, (Past(4.0, C),)), written, writer=True) == Log(B, (Past(4.0, C), Past(2.0, A)))


@given(st.lists(st.sampled_from([A, B, C, ()]), max_size=20), st.lists(st.integers(0, 19), max_size=8))
def test_nodes_that_missed_something_end_with_the_writers_log(seen, missed):
    writer, other = Log(), Log()
    for moment, agents in enumerate(seen):
        writer = advance(adopt(writer, writer, writer=True), agents, float(moment), 1e6)
        if moment not in missed:
            other = advance(other, agents, moment + 0.5, 1e6)
    if seen:
        other = advance(adopt(advance(other, seen[-1], 20.0, 1e6), writer, writer=False), seen[-1], 20.0, 1e6)
        assert other == writer


@pytest.mark.parametrize("data", [None, [], {"web": {}}, {"web": {"current": [["a"]], "past": []}}, {"web": 3}])
def test_what_is_no_log(data):
    with pytest.raises(ValueError, match="not a membership log"):
        decode_logs(data)


def test_coding():
    logs = {"web": Log(C, (Past(1.5, A),)), "db": Log()}
    assert decode_logs(json.loads(json.dumps(encode_logs(logs)))) == logs


def entries(site):
    names = {agent["id"]: agent["name"] for agent in site.tables.body["agents"]}
    return [[names[number] for number, _ in entry["agents"]] for entry in site.tables.body.get("history", [])]


def look(site, seen, after=1.0):
    site.look(seen, after)
    site.state = site.state.__class__(**{**site.state.__dict__, "logs": site.tables.logs})


def test_in_the_document():
    site = Site(text="services: {web: {timeouts: {idle_s: 1000}}}\nthresholds: {vanish_s: 1, forget_s: 5000}")
    look(site, view(AGENTS, ["ogr_w1"], drains=[]))
    assert "history" not in site.tables.body
    look(site, view([instance("agent_w1", "down"), *AGENTS[1:]]))
    look(site, view([instance("agent_w1", "down"), instance("agent_w2", "down"), "agent_w3"]))
    assert entries(site) == [AGENTS[1:], AGENTS]
    look(site, view([instance("agent_w1", "down"), *AGENTS[1:]]))
    assert entries(site) == [["agent_w3"], AGENTS]  # not the current one
    look(site, view(), after=998)
    assert entries(site) == [["agent_w3"]]
    look(site, view(), after=10)
    assert entries(site) == []
    assert site.now < T0 + 2000


def test_other_sites_and_hashers_have_none():
    site = Site()
    east = view(["agent_e1", "agent_e2"], ["ogr_e1"], drains=[], site="east")
    look(site, east)
    look(site, view([instance("agent_e1", "down"), "agent_e2"], site="east"))
    assert "history" not in site.tables.body
    hasher = Site("hasher")
    look(hasher, view(AGENTS, ["ogr_w1"], drains=[]))
    look(hasher, view(AGENTS, [instance("ogr_w1", "down")], drains=[]))
    assert hasher.tables.logs == {}
    assert "history" not in hasher.tables.body


def test_spill_order_in_the_document():
    assert "spill" not in Site().look(view(AGENTS))
    assert Site(text="defaults: {spill: {sites: [east]}}").look(view(AGENTS))["spill"] == [
        {"service": "web", "site": "east"}
    ]
    assert Site(text="defaults: {spill: {sites: []}}").look(view(AGENTS))["spill"] == []
    assert "spill" not in Site("hasher", "defaults: {spill: {sites: []}}").look(view(None, ["ogr_w1"]))
