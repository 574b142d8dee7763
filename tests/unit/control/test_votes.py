# SPDX-License-Identifier: Apache-2.0
"""What the daemon believes of Consul's answers, and what becomes of the members."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from og.control.config import MAX_MEMBERS
from og.control.state import decode, encode
from og.control.view import Health, Instance, View
from og.control.votes import count_votes, next_change, settle_clock
from tests.unit.control.builders import T0, Site, both, config, instance, policy, view

AGENTS = ["agent_w1", "agent_w2", "agent_w3"]
ROUTERS = ["ogr_w1", "ogr_w2", "ogr_w3", "ogr_w4"]


def running(role="router", text="", agents=AGENTS, **changes):
    site = Site(role, text, **changes)
    site.look(view(agents, ROUTERS, ["ogh_w1", "ogh_w2"], []))
    return site


def test_all_healthy():
    site = running()
    assert site.weights() == dict.fromkeys(AGENTS, 100)
    assert site.weights("routers") == dict.fromkeys(ROUTERS, 100)
    assert site.notes == ()


def test_a_hasher_has_no_agents():
    site = running("hasher")
    assert site.tables.body["agents"] == []
    assert site.weights("routers") == dict.fromkeys(ROUTERS, 100)


def test_a_critical_check_takes_the_weight_and_nothing_else():
    site = running()
    before = site.ids()
    body = site.look(view(["agent_w1", instance("agent_w2", "down"), "agent_w3"], ROUTERS))
    assert site.weights() == {"agent_w1": 100, "agent_w2": 0, "agent_w3": 100}
    assert site.ids() == before
    assert [agent["services"] for agent in body["agents"]] == [["web"]] * 3
    site.look(view(AGENTS))
    assert site.weights()["agent_w2"] == 100


@pytest.mark.parametrize("seen", [view(), View(), view(None, None, None, None)])
def test_unknown_changes_nothing(seen):
    site = running()
    before = site.tables.digest
    site.look(seen, after=100_000)
    assert site.tables.digest == before


def test_an_unreachable_consul_does_not_raise_who_was_down():
    site = running()
    site.look(view([instance("agent_w1", "down"), "agent_w2", "agent_w3"]))
    site.look(View(), after=3600)
    assert site.weights()["agent_w1"] == 0


def test_a_catalogue_that_lost_everybody_is_not_believed():
    site = running()
    before = site.tables.digest
    site.look(view([], []), after=10_000)
    assert site.tables.digest == before
    assert any("Consul knows none of 3 members" in note for note in site.notes)
    site.look(view(["agent_w2"], ["ogr_w1"]))  # a new server hears of them one by one
    assert site.weights() == dict.fromkeys(AGENTS, 100)
    site.look(view(AGENTS, ROUTERS))
    assert site.tables.digest == before


def test_who_left_keeps_its_weight_for_a_while_then_its_pins_then_nothing():
    site = running(text="thresholds: {vanish_s: 10, forget_s: 100}")
    left = view(["agent_w1", "agent_w2"])
    site.look(left)
    gone = site.now
    assert site.weights()["agent_w3"] == 100
    assert next_change(site.state, site.policy, site.now) == gone + 10
    site.look(left, after=10)
    assert site.weights()["agent_w3"] == 0
    assert next_change(site.state, site.policy, site.now) == gone + 100
    site.look(left, after=89)
    assert site.weights()["agent_w3"] == 0
    site.look(left, after=1)
    assert site.weights() == {"agent_w1": 100, "agent_w2": 100}
    assert next_change(site.state, site.policy, site.now) is None


def test_who_comes_back_in_time_is_the_same_member():
    site = running()
    before = site.tables.digest
    site.look(view(["agent_w1", "agent_w2"]))
    site.look(view(AGENTS), after=30)
    assert site.tables.digest == before


EAST = view(["agent_e1", "agent_e2"], ["ogr_e1", "ogr_e2"], drains=[], site="east")


def test_other_sites_are_in_the_tables_and_change_nothing_at_the_own():
    site = running()
    alone = site.ids() | site.ids("routers")
    body = site.look(EAST)
    assert {agent["site"] for agent in body["agents"]} == {"west", "east"}
    assert site.weights() == dict.fromkeys([*AGENTS, "agent_e1", "agent_e2"], 100)
    assert site.weights("routers") == dict.fromkeys([*ROUTERS, "ogr_e1", "ogr_e2"], 100)
    assert alone.items() <= (site.ids() | site.ids("routers")).items()
    assert {verdict.site for verdict in site.tables.verdicts} == {"west", "east"}


def test_a_hasher_knows_the_routers_of_all_sites():
    site = running("hasher")
    site.look(EAST)
    assert site.weights("routers") == dict.fromkeys([*ROUTERS, "ogr_e1", "ogr_e2"], 100)
    assert site.tables.body["agents"] == []


def test_health_and_drains_of_the_other_site_are_its_own():
    site = running()
    seen = view(["agent_e1", instance("agent_e2", "down")], ["ogr_e1", "ogr_e2"], drains=["ogr_e1"], site="east")
    site.look(both(view(AGENTS, ROUTERS, drains=[]), seen))
    weights = site.weights() | site.weights("routers")
    assert {name for name, weight in weights.items() if not weight} == {"agent_e2", "ogr_e1"}


def test_a_datacenter_that_cannot_be_asked_changes_nothing():
    site = running()
    site.look(EAST)
    before = site.tables.digest
    site.look(view(AGENTS, ROUTERS, drains=[]), after=100_000)
    assert site.tables.digest == before
    site.look(view([], [], site="east"), after=100_000)  # nor does one that lost its data
    assert site.tables.digest == before


def test_an_id_used_before_voids_old_pins():
    site = running(text="thresholds: {vanish_s: 0, forget_s: 1}")
    number = site.ids()["agent_w3"]
    site.look(view(["agent_w1"]))
    site.look(view(["agent_w1"]), after=2)
    assert site.ids().keys() == {"agent_w1"}
    body = site.look(view(AGENTS))
    assert {(a["id"], a["generation"]) for a in body["agents"] if a["name"] == "agent_w3"} == {(number, 1)}


def test_another_locator_voids_old_pins():
    site = running()
    number = site.ids()["agent_w3"]
    body = site.look(view(["agent_w1", "agent_w2", instance("agent_w3", locator="5f00:1:39::")]))
    (member,) = (a for a in body["agents"] if a["name"] == "agent_w3")
    assert (member["id"], member["generation"], member["locator"]) == (number, 1, "5f00:1:39::")


@pytest.mark.parametrize("drain", ["policy", "consul", "maintenance"])
def test_drains(drain):
    site = running(text="drain: [agent_w1, ogr_w2]" if drain == "policy" else "")
    names = {"agent_w1", "ogr_w2"} if drain == "consul" else set()
    health = "maintenance" if drain == "maintenance" else "up"
    agents = [instance("agent_w1", health), "agent_w2", "agent_w3"]
    routers = ["ogr_w1", instance("ogr_w2", health), "ogr_w3", "ogr_w4"]
    site.look(view(agents, routers, drains=names))
    assert site.weights() == {"agent_w1": 0, "agent_w2": 100, "agent_w3": 100}
    assert site.weights("routers") == {"ogr_w1": 100, "ogr_w2": 0, "ogr_w3": 100, "ogr_w4": 100}


def test_drains_in_consul_stay_while_it_cannot_be_asked():
    site = running()
    site.look(view(drains={"agent_w1"}))
    site.look(View())
    assert site.weights()["agent_w1"] == 0
    site.look(view(drains=set()))
    assert site.weights()["agent_w1"] == 100


def test_gossip_alone_lowers_one_but_not_most():
    site = running()
    site.look(view(["agent_w1", "agent_w2", instance("agent_w3", "lost")]))
    assert site.weights()["agent_w3"] == 0
    site.look(view([instance(name, "lost") for name in AGENTS]))
    assert site.weights() == {"agent_w1": 100, "agent_w2": 100, "agent_w3": 0}  # the last word stays
    assert any("Consul lost 3 of 3 nodes" in note for note in site.notes)


def test_a_consul_that_lost_this_node_is_cut_off():
    site = running()
    site.look(view(["agent_w1", "agent_w2", instance("agent_w3", "lost")], [instance("ogr_w1", "lost"), *ROUTERS[1:]]))
    assert site.weights()["agent_w3"] == 100
    assert site.weights("routers")["ogr_w1"] == 100
    hasher = running("hasher")
    hasher.look(view(None, [*ROUTERS[:3], instance("ogr_w4", "lost")], [instance("ogh_w1", "lost")]))
    assert hasher.weights("routers")["ogr_w4"] == 100


def test_panic_uses_all_but_who_was_taken_out():
    site = running(text="thresholds: {panic: 0.5}")
    site.look(view([instance("agent_w1", "maintenance"), instance("agent_w2", "down"), "agent_w3"]))
    assert site.weights() == {"agent_w1": 0, "agent_w2": 0, "agent_w3": 100}  # 1 of 2 is not below half
    site.look(view([instance("agent_w1", "maintenance"), instance("agent_w2", "down"), instance("agent_w3", "down")]))
    assert site.weights() == {"agent_w1": 0, "agent_w2": 100, "agent_w3": 100}
    assert any("0 of 2 healthy" in note for note in site.notes)


def test_without_panic_all_may_be_down():
    site = running()
    site.look(view([instance(name, "down") for name in AGENTS]))
    assert site.weights() == dict.fromkeys(AGENTS, 0)


def test_routers_panic_below_half():
    site = running("hasher")
    site.look(view(None, ["ogr_w1", "ogr_w2", instance("ogr_w3", "down"), instance("ogr_w4", "down")]))
    assert site.weights("routers") == {"ogr_w1": 100, "ogr_w2": 100, "ogr_w3": 0, "ogr_w4": 0}
    site.look(view(None, ["ogr_w1", *(instance(name, "down") for name in ROUTERS[1:])]))
    assert site.weights("routers") == dict.fromkeys(ROUTERS, 100)


def test_weights_policy_before_registration_before_default():
    site = running(text="services: {web: {weight: 7, weights: {agent_w1: 30}}}")
    site.look(view([instance("agent_w1", weight="50"), instance("agent_w2", weight="60"), "agent_w3"]))
    assert site.weights() == {"agent_w1": 30, "agent_w2": 60, "agent_w3": 7}
    site.look(view(["agent_w1", instance("agent_w2", weight="-3"), instance("agent_w3", weight="99999")]))
    assert site.weights() == {"agent_w1": 30, "agent_w2": 7, "agent_w3": 1000}
    assert any("weight is not a number: '-3'" in note for note in site.notes)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (instance("agent_w4", locator=""), "agent_w4: locator"),
        (instance("agent_w4", locator="5f00::zz"), "agent_w4: locator"),
        (instance("agent_w4", locator="5f00:1:34::1"), "lower 64 bits"),
        (instance("agent_w4", locator="2001:db9::"), "outside the SR domain"),
        (instance("agent_w4", locator="5f00:1:21::"), "is a gateway's"),
        (instance("agent_w4", locator="5f00:1:31::"), "is that of agent_w1"),
    ],
)
def test_an_agent_with_a_wrong_locator_is_left_out(bad, why):
    site = running()
    site.look(view([*AGENTS, bad]))
    assert site.weights().keys() == set(AGENTS)
    assert any(why in note for note in site.notes), site.notes


def test_only_routers_of_the_inventory_count():
    site = running()
    site.look(view(None, [*ROUTERS, instance("ogr_w9"), instance("ogh_w1")]))
    assert site.weights("routers").keys() == set(ROUTERS)
    assert sum("the inventory has no router of this name" in note for note in site.notes) == 2


def test_a_service_that_is_down_on_an_agent_leaves_its_others():
    services = [
        {"index": 0, "name": "web", "vip": "2001:db8:1::80", "protocol": "tcp", "port": 80},
        {"index": 3, "name": "db", "vip": "2001:db8:1::53", "protocol": "udp", "port": 53},
    ]
    site = Site(services=services, text="services: {db: {weight: 40}}")
    both = {("west", "web"): (instance("agent_w1"),), ("west", "db"): (instance("agent_w1"),)}
    body = site.look(View(both))
    assert (body["agents"][0]["services"], body["agents"][0]["weight"]) == (["db", "web"], 40)
    assert any("different weights" in note for note in site.notes)
    body = site.look(View({("west", "db"): (instance("agent_w1", "down"),)}))
    assert (body["agents"][0]["services"], body["agents"][0]["weight"]) == (["web"], 100)
    body = site.look(View({("west", "web"): (instance("agent_w1", "down"),)}))
    assert (body["agents"][0]["services"], body["agents"][0]["weight"]) == (["db", "web"], 0)


def test_full_house_replaces_who_is_longest_gone_and_then_admits_nobody():
    site = Site(text="thresholds: {vanish_s: 0}")
    many = [Instance(f"a{i}", Health.UP, "", f"5f00:1:{i + 0x100:x}::") for i in range(MAX_MEMBERS)]
    site.look(view(many))
    assert sorted(site.ids().values()) == list(range(MAX_MEMBERS))
    late = Instance("late", Health.UP, "", "5f00:1:9999::")
    site.look(view([*many, late]))
    assert "late" not in site.ids()
    assert any("1024 agents already" in note for note in site.notes)
    site.look(view(many[1:]))
    freed = site.ids()["a0"]
    site.look(view([*many[1:], late]))
    assert site.ids()["late"] == freed
    assert "a0" not in site.ids()


def test_a_clock_set_back_keeps_nobody_for_ever():
    site = running()
    site.look(view(["agent_w1"]), after=1000)
    settled = settle_clock(site.state, T0)
    assert {s.gone_at for m in settled.agents.members.values() for s in m.standings.values()} == {None, T0}


# ---- any history --------------------------------------------------------------------------------------------------

_NAMES = [f"agent_w{i}" for i in range(1, 7)]
_LOOK = st.none() | st.lists(
    st.tuples(st.sampled_from(_NAMES), st.sampled_from(["up", "down", "lost", "maintenance"])),
    unique_by=lambda entry: entry[0],
)
_HISTORY = st.lists(st.tuples(_LOOK, st.sampled_from([0.1, 5.0, 61.0, 4000.0])), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(_HISTORY)
def test_ids_are_stable_unique_and_nobody_is_lost_silently(history):
    site = Site()
    last_listed = {}
    for look, pause in history:
        before = {member.name: member for member in site.state.agents.members.values()}
        site.look(view(None if look is None else [instance(name, health) for name, health in look]), after=pause)
        members = {entry["name"]: entry for entry in site.tables.body["agents"]}
        assert len({entry["id"] for entry in members.values()}) == len(members)
        for name, _ in look or []:
            assert name in members  # who is listed is in the tables, whatever its health
            last_listed[name] = site.now
        for name, member in before.items():
            if name in members:
                assert (members[name]["id"], members[name]["generation"]) == (member.id, member.generation)
            else:  # gone only after its time, counted from the first look without it
                assert site.now - last_listed[name] >= site.policy.thresholds.forget_s
        if look is None:
            assert members.keys() <= before.keys()
        up = {name for name, health in look or [] if health == "up"}
        assert all(members[name]["weight"] == 100 for name in up)


@settings(max_examples=100, deadline=None)
@given(_HISTORY, st.randoms(use_true_random=False))
def test_tables_do_not_depend_on_the_order_of_anything(history, random):
    first, second = Site(), Site()
    for look, pause in history:
        entries = None if look is None else [instance(name, health) for name, health in look]
        first.look(view(entries), after=pause)
        shuffled = None if entries is None else random.sample(entries, len(entries))
        second.look(view(shuffled), after=pause)
    assert first.tables.digest == second.tables.digest
    assert first.tables.body == second.tables.body


@settings(max_examples=100, deadline=None)
@given(_HISTORY)
def test_a_restart_changes_nothing(history):
    site = Site()
    for look, pause in history:
        site.look(view(None if look is None else [instance(name, health) for name, health in look]), after=pause)
        restored = decode(encode(site.state))
        assert encode(restored) == encode(site.state)
        before = site.tables.digest
        site.state = restored
        site.look(View(), after=0)
        assert site.tables.digest == before


def test_nodes_that_learn_in_another_order_agree_on_ids():
    early, late = Site(), Site()
    for count in range(1, 4):
        early.look(view(AGENTS[:count], ROUTERS[:count]))
    early.look(view(AGENTS, ROUTERS))
    late.look(view(AGENTS[::-1], ROUTERS[::-1]))
    assert early.tables.digest == late.tables.digest


def test_pure():
    a = count_votes(config(), policy(), view(AGENTS), Site().state, T0)
    b = count_votes(config(), policy(), view(AGENTS), Site().state, T0)
    assert a == b
