# SPDX-License-Identifier: Apache-2.0
"""The plan of veth_link: from any state of the world it leads to the wanted one, and from there to nothing to do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.og_veth import (
    OFFLOADS,
    Configure,
    Create,
    Delete,
    Endpoint,
    Interface,
    Link,
    LinkError,
    World,
    apply,
    check,
    describe,
    plan,
    plan_absent,
    undo,
)
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from random import Random

A = Endpoint("rtr", "to-a", ("2001:db8::1/64",))
B = Endpoint("a", "fab0", ("2001:db8::2/64",))
LINK = Link(A, B, mtu=2000)
OTHER = Link(Endpoint("rtr", "to-b"), Endpoint("b", "fab0"), mtu=2000)


def wired(*links: Link) -> dict[str, dict[str, Interface]]:
    world: dict[str, dict[str, Interface]] = apply(plan(links, {}), {})
    return world


def filled(world: World) -> World:
    return {space: interfaces for space, interfaces in world.items() if interfaces}


def test_from_nothing() -> None:
    first, *rest = plan([LINK], {})
    assert first == Create(LINK)
    assert rest == [
        Configure("rtr", "to-a", up=True, offloads_off=OFFLOADS, addresses=A.addresses),
        Configure("a", "fab0", up=True, offloads_off=OFFLOADS, addresses=B.addresses),
    ]


def test_nothing_to_do() -> None:
    assert plan([LINK, OTHER], wired(LINK, OTHER)) == []


@pytest.mark.parametrize(
    ("change", "action"),
    [
        ({"mtu": 1500}, Configure("a", "fab0", mtu=2000)),
        ({"up": False}, Configure("a", "fab0", up=True)),
        ({"offloads": frozenset({"gro"})}, Configure("a", "fab0", offloads_off=("gro",))),
        ({"addresses": frozenset()}, Configure("a", "fab0", addresses=B.addresses)),
    ],
)
def test_one_setting_is_repaired(change: dict[str, object], action: Configure) -> None:
    world = wired(LINK)
    old = world["a"]["fab0"]
    values = {"kind": "veth", "mtu": 2000, "up": True, "peer": old.peer, "addresses": old.addresses} | change
    world["a"]["fab0"] = Interface(**values)
    assert plan([LINK], world) == [action]


def test_a_restarted_container_gets_its_link_back() -> None:
    world = wired(LINK, OTHER)
    del world["a"]["fab0"]
    del world["rtr"]["to-a"]  # the kernel removes a veth's peer with it
    assert [action for action in plan([LINK, OTHER], world) if isinstance(action, Create)] == [Create(LINK)]


def test_a_cable_that_leads_elsewhere_is_replaced() -> None:
    crossed = Link(Endpoint("rtr", "to-a"), Endpoint("b", "fab0"), mtu=2000)
    actions = plan([LINK], wired(crossed))
    assert actions[:2] == [Delete("rtr", "to-a"), Create(LINK)]


def test_extra_addresses_stay() -> None:
    world = wired(LINK)
    old = world["a"]["fab0"]
    world["a"]["fab0"] = Interface("veth", 2000, True, old.peer, old.addresses | {"fe80::1/64"})
    assert plan([LINK], world) == []


def test_another_device_is_never_removed() -> None:
    world = {"a": {"fab0": Interface("bridge", 1500, up=True)}}
    with pytest.raises(LinkError, match="a:fab0 exists and is no veth but bridge"):
        plan([LINK], world)
    assert plan_absent([LINK], world) == []


def test_absent_removes_a_pair_once_and_stray_ends() -> None:
    assert plan_absent([LINK], wired(LINK)) == [Delete("rtr", "to-a")]
    assert plan_absent([LINK], {}) == []
    stray = {"a": {"fab0": Interface("veth", 1500, up=True, peer=("elsewhere", "x"))}}
    assert plan_absent([LINK], stray) == [Delete("a", "fab0")]


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ([Link(A, B, mtu=1000)], r"links\[0\].mtu: mtu 1000"),
        ([LINK, Link(Endpoint("c", "x"), Endpoint("c", "fab%d"), mtu=1500)], r"links\[1\].b.name: 'fab%d'"),
        ([Link(A, Endpoint("a", "sixteen-letters-"), mtu=1500)], "sixteen-letters-"),
        ([Link(A, Endpoint("a", ""), mtu=1500)], "not an interface name"),
        ([Link(A, Endpoint("a", "a/b"), mtu=1500)], "a/b"),
        ([LINK, Link(Endpoint("rtr", "to-a"), Endpoint("c", "x"), mtu=1500)], "rtr:to-a is an end of"),
        ([Link(A, A, mtu=1500)], "rtr:to-a is an end of"),
    ],
)
def test_a_wrong_link_is_named(links: list[Link], message: str) -> None:
    with pytest.raises(LinkError, match=message):
        check(links)


def test_description_of_nothing_and_something() -> None:
    assert describe([LINK], {}) == {"rtr:to-a": "absent", "a:fab0": "absent"}
    assert describe([LINK], wired(LINK))["a:fab0"] == {
        "peer": "rtr:to-a",
        "mtu": 2000,
        "up": True,
        "addresses": ["2001:db8::2/64"],
        "offloads": [],
    }


ends = st.tuples(st.sampled_from("xyz"), st.sampled_from(["eth0", "eth1", "eth2"]))


@st.composite
def link_sets(draw: st.DrawFn) -> list[Link]:
    chosen = draw(st.lists(ends, unique=True, min_size=2, max_size=8))
    pairs = list(zip(chosen[::2], chosen[1::2], strict=False))
    mtu = st.sampled_from([1500, 2000])
    return [Link(Endpoint(*a, ("2001:db8::1/64",)), Endpoint(*b), draw(mtu), draw(st.booleans())) for a, b in pairs]


@given(link_sets(), link_sets())
def test_a_plan_reaches_its_goal_from_any_lab(before: list[Link], wanted: list[Link]) -> None:
    world = wired(*before)
    after = apply(plan(wanted, world), world)
    assert plan(wanted, after) == []
    for link in wanted:
        for end, other in ((link.a, link.b), (link.b, link.a)):
            found = after[end.space][end.name]
            assert found.peer == (other.space, other.name)
            assert found.up
            assert found.mtu == link.mtu
            assert set(end.addresses) <= found.addresses
            assert link.offloads or not found.offloads


@given(link_sets(), link_sets(), st.randoms(use_true_random=False))
def test_undoing_a_plan_leads_back_but_for_what_was_removed(
    before: list[Link], wanted: list[Link], chance: Random
) -> None:
    """From worlds where something is amiss, too; however far the plan was carried out."""
    world = wired(*before)
    for interfaces in world.values():
        for name, found in interfaces.items():
            if chance.random() < 0.5:
                kept = frozenset(chance.sample(OFFLOADS, 2))
                addresses = frozenset({"2001:db8::7/64"})
                interfaces[name] = replace(
                    found, mtu=1400, up=chance.random() < 0.5, offloads=kept, addresses=addresses
                )
    actions = plan(wanted, world)
    actions = actions[: chance.randint(0, len(actions))]
    removals = [action for action in actions if isinstance(action, Delete)]
    assert filled(apply(undo(actions, world), apply(actions, world))) == filled(apply(removals, world))


@given(link_sets(), link_sets())
def test_absent_reaches_its_goal_from_any_lab(before: list[Link], unwanted: list[Link]) -> None:
    world = wired(*before)
    after = apply(plan_absent(unwanted, world), world)
    assert plan_absent(unwanted, after) == []
    assert all(end.name not in after.get(end.space, {}) for link in unwanted for end in link.ends())
