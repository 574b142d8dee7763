# SPDX-License-Identifier: Apache-2.0
"""Tables: bad descriptions are refused by name; picks, look-ups and envelopes are right."""

from __future__ import annotations

import random
import socket
from collections import Counter
from dataclasses import replace
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

import pytest

from native.tests.lab_site import VIP, VIP_UDP, locator
from native.tests.table_spec import Member, Past, Service, Spec, agents, build, routers, two_sites

if TYPE_CHECKING:
    from native.tests.oglib import OgLibrary

NONE = 0xFFFF

# ---- refused ---------------------------------------------------------------------------------------------------------

A = agents(3)
BAD: dict[str, tuple[Spec, str]] = {
    "slots": (Spec(slots=65536), "slots: 65536 is not a prime in 3..655373"),
    "own_site": (Spec(own_site=16), "own_site: 16 is above 15"),
    "mtu": (Spec(fabric_mtu=1500), "fabric_mtu: 1500 is not in 1536..65535 bytes"),
    "ecn": (Spec(traffic_class=1), "traffic_class_dscp: 0x01 has ECN bits"),
    "own locator": (Spec(locator="::"), "locator: empty"),
    "own is an agent": (Spec(locator="5f00:1:32::"), "agents[1].locator: 5f00:1:32:: is this node's own"),
    "protocol": (Spec().with_service(0, protocol=58), "services[0].protocol: 58 is neither TCP nor UDP"),
    "port": (Spec().with_service(1, port=0), "services[1].port: 0"),
    "udp_pins": (Spec().with_service(0, udp_pins=True), "services[0].udp_pins: not a UDP service"),
    "vip multicast": (
        Spec().with_service(0, vip="ff02::1"),
        "services[0].vip: ff02::1 is not a global unicast address",
    ),
    "vip zero": (Spec().with_service(0, vip="::"), "services[0].vip: :: is not a global unicast address"),
    "vip local": (Spec().with_service(0, vip="fe80::1"), "services[0].vip: fe80::1 is not a global unicast address"),
    "vip loop": (Spec().with_service(0, vip="::1"), "services[0].vip: ::1 is not a global unicast address"),
    "vip in locator": (
        Spec().with_service(0, vip="5f00:1:33::80"),
        "services[0].vip: 5f00:1:33::80 is inside the locator of agents[2]",
    ),
    "same service": (
        Spec().with_service(2, port=53, protocol="udp"),
        "services[2]: same VIP, protocol and port as services[1] (dns)",
    ),
    "same name": (Spec().with_service(2, name="web"), 'services[2].name: "web" is also services[0]'),
    "no name": (Spec().with_service(0, name=""), "services[0].name: empty"),
    "long name": (Spec().with_service(0, name="x" * 64), "services[0].name: longer than 63 bytes"),
    "idle": (Spec().with_service(0, idle_s=0), "services[0].idle_s: 0 is not in 1..262144 seconds"),
    "idle long": (Spec().with_service(0, idle_s=262145), "services[0].idle_s: 262145 is not in 1..262144 seconds"),
    "closing": (Spec().with_service(0, closing_s=0), "services[0].closing_s: 0 is not in 1..262144 seconds"),
    "half-open": (Spec().with_service(0, half_open_s=61), "services[0].half_open_s: 61 is not in 1..60 seconds"),
    "65 services": (
        Spec(services=tuple(Service(port=i + 1, name=f"s{i}") for i in range(65))),
        "services: 65 of them, at most 64",
    ),
    "id": (Spec().with_agent(1, id=1024), "agents[1].id: 1024 is above 1023"),
    "same id": (Spec().with_agent(2, id=0), "agents[2].id: 0 is also agents[0]"),
    "site": (Spec().with_agent(1, site=16), "agents[1].site: 16 is above 15"),
    "member name": (Spec().with_agent(0, name=""), "agents[0].name: empty"),
    "same member name": (Spec().with_agent(2, name="agent_w1"), 'agents[2].name: "agent_w1" is also agents[0]'),
    "locator": (Spec().with_agent(0, locator="::"), "agents[0].locator: empty"),
    "same locator": (
        Spec().with_agent(2, locator="5f00:1:31::"),
        "agents[2].locator: 5f00:1:31:: is also that of agents[0]",
    ),
    "agent and router": (
        Spec(locator="5f00:1:99::").with_agent(2, locator="5f00:1:24::"),
        "agents[2].locator: 5f00:1:24:: is also that of routers[3]",
    ),
    "service bit": (Spec().with_agent(0, services=8), "agents[0].services: there is no service with index 3"),
    "gateway is an agent": (Spec(gateways=("5f00:1:31::",)), "gateways[0]: 5f00:1:31:: is the locator of agents[0]"),
    "gateway": (Spec(gateways=("5f00:1:11::", "::")), "gateways[1]: empty"),
    "domain length": (Spec(sr_domain=(("5f00::", 129),)), "sr_domain[0]: prefix length 129 is not in 1..128"),
    "domain zero": (Spec(sr_domain=(("::", 0),)), "sr_domain[0]: prefix length 0 is not in 1..128"),
    "domain bits": (
        Spec(sr_domain=("5f00::/16", ("2001:db8::1", 32))),
        "sr_domain[1]: 2001:db8::1/32 has bits set behind its length",
    ),
    "17 domains": (Spec(sr_domain=("5f00::/16",) * 17), "sr_domain: 17 prefixes, at most 16"),
    "past service": (Spec(history=(Past((), 3),)), "history[0].service: there is no service with index 3"),
    "past id": (Spec(history=(Past(((1024, 1),)),)), "history[0].agents[0]: id 1024 is above 1023"),
    "past twice": (
        Spec(history=(Past(()), Past(((5, 1), (6, 1), (5, 2))))),
        "history[1].agents[2]: id 5 is there before",
    ),
    "33 memberships": (
        Spec(history=(Past(((0, 1),)),) * 33),
        'history[32].service: more than 32 of "web"',
    ),
    "spill service": (Spec(spill=((3, 1),)), "spill[0].service: there is no service with index 3"),
    "spill site": (Spec(spill=((0, 1), (0, 16))), "spill[1].site: 16 is above 15"),
    "spill home": (Spec(spill=((0, 0),)), "spill[0].site: the own one"),
    "spill twice": (Spec(spill=((0, 1), (1, 1), (0, 1))), "spill[2]: same service and site as spill[0]"),
    "1025 agents": (
        Spec(agents=tuple(Member(f"5f00:1:{i + 256:x}::", i, f"a{i}") for i in range(1025))),
        "agents: 1025 of them, at most 1024",
    ),
}


def sorted_message(message: str) -> list[str]:
    """Which of two equal members is named first is the sort's choice."""
    return sorted(message.replace(":", " ").split())


@pytest.mark.parametrize("name", BAD)
def test_bad_description_is_refused_by_name(og: OgLibrary, name: str) -> None:
    spec, wanted = BAD[name]
    with pytest.raises(ValueError, match=r".") as raised:
        build(og, spec)
    assert sorted_message(str(raised.value)) == sorted_message(wanted)


def test_message_is_cut_to_its_room(og: OgLibrary) -> None:
    spec = og.ffi.new("struct og_tables_spec *")
    for room in (0, 1, 5):
        error = og.ffi.new("char[]", b"x" * 8)
        assert og.lib.og_tables_build(spec, error, room) == og.ffi.NULL
        assert og.ffi.buffer(error, 8)[:] == (b"slots: "[: room - 1] + b"\0" if room else b"").ljust(8, b"x")[:8]


def test_good_ones_are_accepted(og: OgLibrary) -> None:
    build(og, Spec())
    build(og, two_sites())
    build(og, Spec(agents=(), routers=(), gateways=(), services=(), sr_domain=()))
    hole = Service(protocol=0, name="", vip="::", port=0)
    build(og, Spec(services=(Service(), hole, Service(port=81, name="b")), agents=agents(3, services=0b101)))
    many = tuple(Member(f"5f00:1:{i + 256:x}::", i, f"a{i}", services=1) for i in range(1024))
    build(og, Spec(agents=many))


# ---- look-ups --------------------------------------------------------------------------------------------------------


def pick_agents(
    og: OgLibrary, tables: Any, flow_hash: int, service: int = 0, site: int = 0, *, health: Any = None
) -> list[int]:
    out = og.ffi.new("uint16_t[2]")
    n = og.lib.og_tables_agents(tables, health or og.ffi.NULL, service, site, flow_hash, out)
    return [out[i] for i in range(n)]


def hashes(count: int, seed: int = 1) -> list[int]:
    generator = random.Random(seed)
    return [generator.getrandbits(64) for _ in range(count)]


def test_service_by_vip_port_and_protocol(og: OgLibrary) -> None:
    tables = build(og, Spec())

    def index(vip: str, port: int, protocol: int) -> int:
        return int(og.lib.og_tables_service(tables, IPv6Address(vip).packed, socket.htons(port), protocol))

    assert [index(VIP, 80, 6), index(VIP_UDP, 53, 17), index(VIP_UDP, 5060, 17)] == [0, 1, 2]
    for wrong in ((VIP, 81, 6), (VIP, 80, 17), (VIP_UDP, 80, 6), ("2001:db8:1::81", 80, 6), (VIP, 0, 0), ("::", 0, 0)):
        assert index(*wrong) == -1


def test_all_of_64_services_are_found_and_unused_indices_are_not(og: OgLibrary) -> None:
    services = tuple(
        Service(f"2001:db8:1::{i % 5:x}1", "tcp" if i % 2 else "udp", 1000 + i % 7 * 256 + i, f"s{i}")
        if i % 10
        else Service(protocol=0, name="", vip="::", port=0)
        for i in range(64)
    )
    tables = build(og, Spec(services=services, agents=()))
    for i, service in enumerate(services):
        if service.protocol:
            number = {"tcp": 6, "udp": 17}[str(service.protocol)]
            vip = IPv6Address(service.vip).packed
            assert og.lib.og_tables_service(tables, vip, socket.htons(service.port), number) == i
            assert og.lib.og_tables_is_vip(tables, vip)
    assert not og.lib.og_tables_is_vip(tables, bytes(16))


def test_sr_domain(og: OgLibrary) -> None:
    tables = build(og, Spec(sr_domain=("5f00::/16", "2001:db8:f000::/36", "2001:db8:1::80/128", "2001:db8:a::/65")))
    inside = [
        "5f00::",
        "5f00:ffff::1",
        "2001:db8:f000::1",
        "2001:db8:ffff::1",
        "2001:db8:1::80",
        "2001:db8:a:0:7fff::1",
    ]
    outside = ["5eff::1", "5f01::", "2001:db8:e000::1", "2001:db8:1::81", "2001:db8:a:0:8000::", "::"]
    assert [bool(og.lib.og_tables_in_sr_domain(tables, IPv6Address(a).packed)) for a in inside + outside] == (
        [True] * len(inside) + [False] * len(outside)
    )


def test_locator_roles(og: OgLibrary) -> None:
    tables = build(og, two_sites())

    def role(text: str) -> tuple[bool, int, int, int]:
        found = og.lib.og_tables_locator(tables, locator(text))
        return bool(found.gateway), found.router, found.agent, found.site

    assert role("5f00:1:11::") == (True, NONE, NONE, NONE)
    assert role("5f00:1:21::") == (True, 0, NONE, 0)
    assert role("5f00:2:22::") == (True, 101, NONE, 1)
    assert role("5f00:1:31::") == (False, NONE, 0, 0)
    assert role("5f00:2:32::") == (False, NONE, 101, 1)
    for unknown in ("5f00:1:99::", "::", "2001:db8::"):
        assert role(unknown) == (False, NONE, NONE, NONE)


def test_members_by_id(og: OgLibrary) -> None:
    tables = build(og, two_sites())
    agent, router = og.lib.og_tables_agent_by_id(tables, 101), og.lib.og_tables_router_by_id(tables, 100)
    assert (og.ffi.string(agent.name), og.ffi.string(router.name)) == (b"agent_e2", b"ogr_e1")
    assert og.lib.og_tables_to_agent(tables, 101) != og.ffi.NULL
    assert og.lib.og_tables_to_router(tables, 100) != og.ffi.NULL
    for unknown in (3, 1023, 1024, NONE):
        assert og.lib.og_tables_agent_by_id(tables, unknown) == og.ffi.NULL
        assert og.lib.og_tables_to_agent(tables, unknown) == og.ffi.NULL
        assert og.lib.og_tables_router_by_id(tables, unknown) == og.ffi.NULL
        assert og.lib.og_tables_to_router(tables, unknown) == og.ffi.NULL


def test_the_description_is_copied(og: OgLibrary) -> None:
    tables = build(og, Spec())
    spec = og.lib.og_tables_spec(tables)
    assert (spec.n_agents, og.ffi.string(spec.agents[2].name), spec.generation) == (3, b"agent_w3", 1)
    assert bytes(og.ffi.buffer(spec.gateways[1])) == locator("5f00:1:12::")


def test_pin_rules(og: OgLibrary) -> None:
    rules = og.lib.og_tables_pin_rules(build(og, two_sites().with_agent(1, generation=9)))
    assert (rules.idle_s[0], rules.closing_s[0], rules.half_open_ms[0], rules.idle_s[2]) == (8000, 60, 8000, 30)
    assert rules.idle_s[3] == 0
    assert (rules.generation[0], rules.generation[1]) == (0, 9)
    assert rules.generation[3] == og.const.OG_PIN_NO_TARGET
    site = og.const.OG_TARGET_SITE
    assert [rules.generation[site + i] for i in range(3)] == [0, 0, og.const.OG_PIN_NO_TARGET]


# ---- picks -----------------------------------------------------------------------------------------------------------


def test_two_different_agents_in_proportion_to_their_weights(og: OgLibrary) -> None:
    tables = build(og, Spec().with_agent(0, weight=200))
    firsts: Counter[int] = Counter()
    for flow_hash in hashes(20000):
        first, second = pick_agents(og, tables, flow_hash)
        assert first != second
        firsts[first] += 1
    assert firsts[0] == pytest.approx(10000, rel=0.05)
    assert firsts[1] == pytest.approx(5000, rel=0.07)


def test_picks_are_the_slot_and_the_slots_that_pi_leads_to(og: OgLibrary) -> None:
    """As written in og_maglev.h: all releases of a site must agree, or hunting asks the wrong ones."""
    members = agents(5)
    tables, slots = build(og, Spec(agents=members, slots=1009)), 1009
    names = [og.ffi.new("char[]", member.name.encode()) for member in members]
    array = og.ffi.new("struct og_maglev_member[]", [(name, 100, m.id) for name, m in zip(names, members, strict=True)])
    ring = og.ffi.new("uint16_t[]", slots)
    assert og.lib.og_maglev_build(ring, slots, array, len(members))
    for flow_hash in hashes(500):
        slot = (og.lib.og_hash_for(flow_hash, og.lib.OG_USE_AGENT) >> 32) * slots >> 32
        walk: list[int] = []
        for _ in range(8):
            if ring[slot] not in walk:
                walk.append(ring[slot])
            slot = (slot * 40503 + 12289) % slots
        if len(walk) > 1:
            assert pick_agents(og, tables, flow_hash) == walk[:2]


def test_second_picks_of_one_first_spread(og: OgLibrary) -> None:
    tables = build(og, Spec(agents=agents(6)))
    seconds = Counter(second for first, second in (pick_agents(og, tables, h) for h in hashes(12000)) if first == 0)
    assert set(seconds) == {1, 2, 3, 4, 5}
    assert max(seconds.values()) < 1.5 * min(seconds.values())


def test_suspect_agent_moves_only_its_own_flows(og: OgLibrary) -> None:
    tables, health = build(og, Spec(agents=agents(6))), og.ffi.new("struct og_health *")
    before = {h: pick_agents(og, tables, h, health=health)[0] for h in hashes(3000)}
    health.agent_suspect[2] = 1
    after = {h: pick_agents(og, tables, h, health=health)[0] for h in before}
    assert 2 not in after.values()
    assert all(after[h] == first for h, first in before.items() if first != 2)
    assert len({after[h] for h, first in before.items() if first == 2}) == 5, "its flows spread over all others"


def test_denied_listener_counts_for_its_service_only(og: OgLibrary) -> None:
    tables, health = build(og, Spec()), og.ffi.new("struct og_health *")
    health.agent_no_listener[1] = 0b010
    assert all(1 not in pick_agents(og, tables, h, 1, health=health) for h in hashes(500))
    assert any(1 in pick_agents(og, tables, h, 0, health=health) for h in hashes(500))


@pytest.mark.parametrize("usable", [0, 1, 2])
def test_the_last_usable_agents_of_many_are_found(og: OgLibrary, usable: int) -> None:
    many = tuple(Member(f"5f00:1:{i + 256:x}::", i, f"a{i}", services=1) for i in range(1000))
    tables, health = build(og, Spec(agents=many)), og.ffi.new("struct og_health *")
    for i in range(1000):
        health.agent_suspect[i] = i not in (500, 777)[:usable]
    for flow_hash in hashes(200):
        assert sorted(pick_agents(og, tables, flow_hash, health=health)) == [500, 777][:usable]
    out = og.ffi.new("uint16_t[2]")
    assert og.lib.og_tables_agents_suspected(tables, health, 0, 0, 1, out) == 2
    for i in range(1000):
        health.agent_no_listener[i] = 1
    assert og.lib.og_tables_agents_suspected(tables, health, 0, 0, 1, out) == 0


def test_only_members_of_the_service_and_site(og: OgLibrary) -> None:
    spec = two_sites().with_agent(0, services=0b001).with_agent(1, services=0b011)
    tables = build(og, spec)
    picked = {
        (service, site): {a for h in hashes(300) for a in pick_agents(og, tables, h, service, site)}
        for service in range(3)
        for site in range(3)
    }
    assert picked[0, 0] == {0, 1, 2}
    assert picked[1, 0] == {1, 2}
    assert picked[2, 0] == {2}
    assert picked[0, 1] == picked[1, 1] == {100, 101}
    assert picked[0, 2] == set()
    assert pick_agents(og, tables, 1, service=3) == pick_agents(og, tables, 1, site=16) == []


def test_routers_own_site_then_others_then_all(og: OgLibrary) -> None:
    tables, health = build(og, two_sites()), og.ffi.new("struct og_health *")

    def chosen() -> set[int]:
        return {og.lib.og_tables_router(tables, health, h) for h in hashes(300)}

    assert chosen() == {0, 1}
    health.router_suspect[0] = 1
    assert chosen() == {1}
    health.router_suspect[1] = 1
    assert chosen() == {100, 101}
    health.router_suspect[100] = health.router_suspect[101] = 1
    assert chosen() == {0, 1}, "all suspect: as if none were"
    assert og.lib.og_tables_router_at(tables, health, 0, 1) == NONE
    assert og.lib.og_tables_router(build(og, Spec(routers=())), og.ffi.NULL, 1) == NONE


def test_router_of_another_site_is_the_one_its_own_hashers_choose(og: OgLibrary) -> None:
    west, east = build(og, two_sites(0)), build(og, two_sites(1))
    for flow_hash in hashes(300):
        theirs = og.lib.og_tables_router(east, og.ffi.NULL, flow_hash)
        assert og.lib.og_tables_router_at(west, og.ffi.NULL, 1, flow_hash) == theirs


def test_router_and_agent_choices_are_independent(og: OgLibrary) -> None:
    tables = build(og, Spec())
    of_router: dict[int, Counter[int]] = {}
    for flow_hash in hashes(12000):
        router = og.lib.og_tables_router(tables, og.ffi.NULL, flow_hash)
        of_router.setdefault(router, Counter())[pick_agents(og, tables, flow_hash)[0]] += 1
    for shares in of_router.values():
        assert all(count == pytest.approx(1000, rel=0.15) for count in shares.values())


def test_order_of_members_does_not_matter(og: OgLibrary) -> None:
    spec = two_sites()
    shuffled = replace(spec, agents=spec.agents[::-1], routers=spec.routers[::-1])
    one, other = build(og, spec), build(og, shuffled)
    for flow_hash in hashes(500):
        assert pick_agents(og, one, flow_hash) == pick_agents(og, other, flow_hash)
        assert og.lib.og_tables_router(one, og.ffi.NULL, flow_hash) == og.lib.og_tables_router(
            other, og.ffi.NULL, flow_hash
        )


def test_removed_router_moves_few_flows_of_the_others(og: OgLibrary) -> None:
    all_four, three = build(og, Spec()), build(og, Spec(routers=routers(4)[:3]))
    moved = 0
    for flow_hash in hashes(10000):
        before = og.lib.og_tables_router(all_four, og.ffi.NULL, flow_hash)
        moved += before != 3 and before != og.lib.og_tables_router(three, og.ffi.NULL, flow_hash)
    assert moved / 10000 < 0.01


def test_agents_of_the_description_are_those_of_the_lab() -> None:
    assert [a.locator for a in A] == ["5f00:1:31::", "5f00:1:32::", "5f00:1:33::"]
