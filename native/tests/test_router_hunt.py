# SPDX-License-Identifier: Apache-2.0
"""Whole conversations over two sites: what survives when routers, servers or sites are lost, and what hunting costs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.tests.lab_site import locator, sid
from native.tests.router_rig import ACCEPT, ERRORS, MISS, STEER, F, K, Path, Rig, client_tcp, envelope
from native.tests.table_spec import Past, agents, two_sites
from native.tests.two_sites_net import Net

if TYPE_CHECKING:
    from native.tests.oglib import OgLibrary
    from native.tests.table_spec import Member

WEST, EAST = "5f00:1:21::", "5f00:2:21::"
PORTS = range(2000, 2060)


@pytest.fixture
def net(og: OgLibrary) -> Net:
    return Net(og)


def of_site(net: Net, site: int, kind: str = "agents") -> list[Member]:
    return [member for member in getattr(net.base, kind) if member.site == site]


# ---- failover and recovery -------------------------------------------------------------------------------------------


def test_each_client_is_served_by_its_own_site(net: Net) -> None:
    for port in PORTS:
        assert net.connect(port, 0).startswith("agent_w")
        assert net.connect(port + 1000, 1).startswith("agent_e")


def test_failover_and_recovery_break_nothing(net: Net) -> None:
    before = {port: net.connect(port) for port in PORTS}
    net.listen(0, listening=False)
    during = {port + 100: net.connect(port + 100) for port in PORTS}
    assert {name[:7] for name in during.values()} == {"agent_e"}
    net.listen(0, listening=True)
    after = {port + 200: net.connect(port + 200) for port in PORTS}
    assert {name[:7] for name in after.values()} == {"agent_w"}
    for port, server in (before | during | after).items():
        outcome = net.data(port)
        assert (outcome.server, outcome.answer) == (server, "A")
        assert set(outcome.verdicts) == {"pinned"}


def test_pins_at_both_routers(net: Net) -> None:
    net.listen(0, listening=False)
    for port in PORTS:
        net.connect(port)
    west = [rig.router.pins for rig in net.routers.values() if rig.spec.own_site == 0]
    east = [rig.router.pins for rig in net.routers.values() if rig.spec.own_site == 1]
    assert sum(pins.to_sites for pins in west) == sum(pins.count for pins in west) == len(PORTS)
    assert sum(pins.count for pins in east) == len(PORTS)
    assert sum(pins.to_sites for pins in east) == 0
    assert sum(rig.router.promotions_to_sites for rig in net.routers.values()) == len(PORTS)


# ---- a router is lost ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", [0, 1])
@pytest.mark.parametrize("restarts", [False, True])
def test_router_loss_breaks_nothing(net: Net, site: int, restarts: bool) -> None:
    local = {port: net.connect(port) for port in PORTS}
    net.listen(0, listening=False)
    remote = {port + 100: net.connect(port + 100) for port in PORTS}
    net.listen(0, listening=True)
    lost = of_site(net, site, "routers")[0]
    if restarts:
        net.start(lost, secret=99)
    else:
        net.lose_router(lost)
    for port, server in (local | remote).items():
        for _ in range(2):
            outcome = net.data(port)
            assert (outcome.server, outcome.answer) == (server, "A"), outcome.verdicts
        assert set(outcome.verdicts) == {"pinned"}, "the first answer made the pins again"


def test_flow_found_at_the_other_site_is_pinned_at_both_routers(net: Net) -> None:
    net.listen(0, listening=False)
    server = net.connect(40000)
    net.listen(0, listening=True)
    for number, router in enumerate(net.base.routers):
        net.start(router, secret=1000 + number)
    found = net.data(40000)
    assert found.server == server
    assert found.verdicts == ["hunt_1", "hunt_2", "hunt_3", "hunt_for", "returned_onward", "returned_pin"]
    pins = [(rig.spec.own_site, rig.router.pins) for rig in net.routers.values()]
    assert sorted((own, of.count, of.to_sites) for own, of in pins) == [(0, 0, 0), (0, 1, 1), (1, 0, 0), (1, 1, 0)]
    assert net.data(40000).verdicts == ["pinned", "pinned"]


def test_site_that_still_has_its_pin_lets_the_first_router_learn_again(net: Net) -> None:
    net.listen(0, listening=False)
    server = net.connect(40000)
    net.listen(0, listening=True)
    for router in of_site(net, 0, "routers"):
        net.start(router, secret=1000 + router.id)
    found = net.data(40000)
    assert (found.server, found.verdicts[-1]) == (server, "returned_pin")
    assert net.data(40000).verdicts == ["pinned", "pinned"]


@pytest.mark.parametrize("site", [0, 1])
def test_all_routers_of_a_site_die_and_none_breaks(net: Net, site: int) -> None:
    west = {port: net.connect(port, 0) for port in PORTS}
    east = {port + 100: net.connect(port + 100, 1) for port in PORTS}
    net.listen(0, listening=False)
    remote = {port + 200: net.connect(port + 200, 0) for port in PORTS}
    net.listen(0, listening=True)
    for router in of_site(net, site, "routers"):
        net.lose_router(router)
    for flows, lands in ((west, 0), (east, 1), (remote, 0)):
        for port, server in flows.items():
            for _ in range(2):
                outcome = net.data(port, lands)
                assert (outcome.server, outcome.answer) == (server, "A"), outcome.verdicts


# ---- a server is lost ------------------------------------------------------------------------------------------------


def test_dead_server_leads_to_a_reset_by_another_and_touches_nobody_else(net: Net) -> None:
    flows = {port: net.connect(port) for port in PORTS}
    dead = net.base.agents[0]
    net.lose_server(dead)
    assert dead.name in flows.values()
    for port, server in flows.items():
        outcome = net.data(port)
        if server == dead.name:
            assert (outcome.answer, outcome.server) == ("R", "")
            assert "lost" not in outcome.verdicts
        else:
            assert (outcome.answer, outcome.server) == ("A", server)
    for port in PORTS:
        assert net.connect(port + 500) != dead.name


def test_suspect_server_keeps_its_pins_until_a_second_witness(net: Net) -> None:
    server = net.connect(40000)
    [agent] = [a for a in net.base.agents if a.name == server]
    for rig in net.routers.values():
        rig.health.agent_suspect[agent.id] = 1
    assert net.data(40000).verdicts == ["pinned"]


def test_same_incarnation_after_silence_has_its_pins_again(net: Net) -> None:
    server = net.connect(40000)
    [agent] = [a for a in net.base.agents if a.name == server]
    for rig in net.routers.values():
        rig.kill(agent)
    assert "pinned" not in net.data(40000).verdicts
    for rig in net.routers.values():
        rig.kill(agent, dead=False)
    outcome = net.data(40000)
    assert (outcome.verdicts, outcome.server) == (["pinned"], server)


def test_new_incarnation_voids_its_pins(net: Net) -> None:
    server = net.connect(40000)
    [agent] = [a for a in net.base.agents if a.name == server]
    net.servers[locator(agent.locator)].flows.clear()
    for rig in net.routers.values():
        rig.restart(agent)
    outcome = net.data(40000)
    assert (outcome.verdicts[0], outcome.answer) == ("hunt_1", "R")
    assert sum(rig.router.pins.count for rig in net.routers.values()) == 0
    assert sum(rig.router.pins.stats.voided for rig in net.routers.values()) == 1
    net.connect(40000)
    assert set(net.data(40000).verdicts) == {"pinned"}


def test_server_that_came_back_without_its_connections_resets_all_of_them_at_once(net: Net) -> None:
    """More than a source may hunt for in vain: each had a pin."""
    flows = {port: net.connect(port) for port in range(2000, 2240)}
    back = net.base.agents[0]
    net.servers[locator(back.locator)].flows.clear()
    for rig in net.routers.values():
        rig.restart(back)
    outcomes = {port: net.data(port) for port in flows}
    assert [port for port, outcome in outcomes.items() if outcome.answer == "R"] == [
        port for port, server in flows.items() if server == back.name
    ]
    assert list(flows.values()).count(back.name) > 50


def test_all_servers_of_a_site_die(net: Net) -> None:
    """Resets come from the other site's servers; more of them than a source may hunt for, at once: each had a pin."""
    ports = range(2000, 2080)
    for port in ports:
        net.connect(port)
    for agent in of_site(net, 0):
        net.lose_server(agent)
    for port in ports:
        outcome = net.data(port)
        assert outcome.answer == "R", outcome.verdicts
        assert outcome.last == "hunt_4"
    assert net.connect(50000).startswith("agent_e")


def test_nobody_can_serve_then_the_suspects_here_are_used(net: Net) -> None:
    for rig in net.routers.values():
        for agent in net.base.agents:
            rig.health.agent_suspect[agent.id] = 1
    net.say(1, can_serve=False)
    assert net.send(client_tcp("A", ack=1)).answer == "R"
    assert net.connect(40000).startswith("agent_w")


# ---- history ---------------------------------------------------------------------------------------------------------


def test_servers_drained_one_by_one_then_the_routers_lose_their_pins(og: OgLibrary) -> None:
    """5 of 10, newest membership first, as the control daemon tells them; none breaks."""
    base = replace(two_sites(), agents=agents(10) + agents(2, 1), slots=1009)
    net = Net(og, base)
    flows: dict[int, str] = {}
    past: list[Past] = []
    for gone in range(5):
        flows |= {port: net.connect(port) for port in range(2000 + 100 * gone, 2040 + 100 * gone)}
        past.insert(0, Past(tuple((a.id, a.weight) for a in base.agents if a.site == 0)))
        base = replace(base.with_agent(gone, weight=0), history=tuple(past))
        net.load(base)
    for router in of_site(net, 0, "routers"):
        net.start(router, secret=500 + router.id)
    net.load(base)
    drained = 0
    for port, server in flows.items():
        outcome = net.data(port)
        assert (outcome.server, outcome.answer) == (server, "A"), outcome.verdicts
        drained += "hunt_2" in outcome.verdicts
    assert drained > 20, "stage 2 was needed"


# ---- segment lists and budgets ---------------------------------------------------------------------------------------


def test_stage_2_and_3_byte_for_byte(og: OgLibrary) -> None:
    spec = two_sites(0, slots=251, history=(Past(((0, 100), (1, 100), (2, 100))),)).with_agent(0, weight=0)
    rig, ack = Rig(og, spec), client_tcp("A", ack=5001)
    second = rig.one(rig.missed(rig.steer(ack)))
    assert second.verdict == "hunt_2"
    expected = envelope(
        ack,
        rig.flow_sid(WEST, ERRORS, ack),
        [rig.flow_sid(WEST, STEER, ack), rig.accept(spec.agents[0], K, ack), rig.flow_sid(WEST, MISS, ack)],
        active=1,
        cookies=second.path.cookies,
        fl=0x12345,
        hlim=60,
    )
    assert second.data == expected
    third = rig.one(rig.missed(second))
    assert third.verdict == "hunt_3"
    east = third.path.ahead[0][0]
    assert third.path.ahead == [
        (east, STEER, rig.argument(ack)[0]), (locator(WEST), MISS, rig.argument(ack)[0])
    ]  # fmt: skip
    assert (third.path.active, third.path.stages) == (1, [3 | 1 << 4])


def test_longest_list_stays_within_the_contract(og: OgLibrary) -> None:
    """Two Steers, eight servers, Miss: 11 segments and two cookies, 256 bytes."""
    east = Rig(og, two_sites(1, agents=agents(3) + agents(14, 1)), secret=1234)
    ack = client_tcp("A", ack=1)
    asked = for_west(ack)
    sent = east.one(asked)
    assert (sent.verdict, len(sent.path.segments), len(sent.path.cookies)) == ("hunt_for", 11, 2)
    assert len(sent.data) - len(ack) == 256
    assert [function for _, function, _ in sent.path.ahead] == [ACCEPT] * 8 + [MISS]
    assert len({where for where, _, _ in sent.path.ahead}) == 9


def for_west(packet: object, cookie: bytes = bytes([124, 14, 1]) + bytes(13)) -> bytes:
    """Stage 3 of the western router arrives in the east."""
    return envelope(
        packet,  # type: ignore[arg-type]
        sid(WEST, ERRORS, 5),
        [sid(WEST, STEER, 5), sid(EAST, STEER, 5), sid(WEST, MISS, 5)],
        active=1,
        cookies=[cookie],
    )


def test_hunt_for_another_site_without_servers_answers_miss(og: OgLibrary) -> None:
    east = Rig(og, two_sites(1, agents=agents(3)))
    sent = east.one(for_west(client_tcp("A", ack=1)))
    assert (sent.verdict, sent.path.ahead) == ("hunt_for", [(locator(WEST), MISS, 0)])


@pytest.mark.parametrize("flags", ["R", "FA"])
def test_reset_or_fin_of_a_flow_that_stays_never_leaves_the_site(og: OgLibrary, flags: str) -> None:
    rig = Rig(og, two_sites(0))
    sent = rig.steer(client_tcp(flags, ack=1))
    assert sent.verdict == "hunt_1"
    assert rig.one(rig.missed(sent)).verdict == "drop_hunt_end"


def test_reset_goes_where_the_syn_of_its_flow_went(og: OgLibrary) -> None:
    """A server there has an old connection of this flow, and its answer to the SYN made the client reset it."""
    rig = Rig(og, two_sites(0))
    rig.shares.share[0][1] = 1024
    assert rig.steer(client_tcp("S")).verdict == "spilled"
    sent = rig.steer(client_tcp("R"))
    assert sent.verdict == "hunt_1", "it may as well be of a connection that lives here"
    sent = rig.one(rig.missed(sent))
    assert sent.verdict == "hunt_3"
    assert [function for _, function, _ in sent.path.ahead] == [STEER, MISS]
    assert rig.one(rig.missed(sent)).verdict == "drop_hunt_end"
    assert rig.one(rig.missed(rig.steer(client_tcp("FA", ack=1)))).verdict == "drop_hunt_end"


def test_reset_leaves_at_once_where_no_server_is_left(net: Net) -> None:
    for rig in net.routers.values():
        for agent in of_site(net, 0):
            rig.health.agent_dead[agent.id] = 1
            rig.health.agent_suspect[agent.id] = 1
    outcome = net.send(client_tcp("R"))
    assert "hunt_3" in outcome.verdicts
    assert "hunt_for" in outcome.verdicts


def test_resets_to_another_site_have_its_budget(og: OgLibrary) -> None:
    rig = Rig(og, two_sites(0))
    rig.shares.share[0][1] = 1024
    rig.wait(31)
    ends = [
        rig.one(
            rig.missed(rig.steer(client_tcp("R", sport=1000 + i % 40, client=f"2001:db8:c002:{i // 40:x}::1")))
        ).verdict
        for i in range(2100)
    ]
    assert ends.count("hunt_3") == pytest.approx(2000, abs=20)
    assert set(ends) == {"hunt_3", "drop_hunt_budget"}


def to_stage_3(rig: Rig, sport: int, client: str = "2001:db8:c001:41::1") -> str:
    sent = rig.steer(client_tcp("A", sport=sport, ack=1, client=client))
    while sent.verdict in ("hunt_1", "hunt_2"):
        sent = rig.one(rig.missed(sent))
    return sent.verdict


def test_other_site_has_a_tenth_of_the_budget(og: OgLibrary) -> None:
    rig = Rig(og, two_sites(0))
    rig.wait(31)
    burst = [to_stage_3(rig, 1000 + i % 40, f"2001:db8:c002:{i // 40:x}::1") for i in range(2100)]
    assert burst.count("hunt_3") == pytest.approx(2000, abs=20)
    assert set(burst) == {"hunt_3", "drop_hunt_budget"}
    assert rig.counted["hunt_2"] == 2100, "the own site's budget is not used up"


def test_hunts_that_find_their_server_do_not_use_up_the_source(og: OgLibrary) -> None:
    net = Net(og, two_sites(0, agents=agents(8) + agents(2, 1), slots=251))
    ports = range(2000, 2120)
    for port in ports:
        net.connect(port)
    moved = replace(net.base, agents=tuple(replace(a, weight=0 if a.id < 4 else 100) for a in net.base.agents),
                    history=(Past(tuple((i, 100) for i in range(8))),))  # fmt: skip
    net.load(moved)
    for router in of_site(net, 0, "routers"):
        net.start(router, secret=900 + router.id)
    net.load(moved)
    outcomes = [net.data(port) for port in ports]
    assert {outcome.answer for outcome in outcomes} == {"A"}
    assert sum("hunt_2" in outcome.verdicts for outcome in outcomes) > 50, "more than a source may have in vain"


def test_all_flows_of_a_source_move_to_another_site(og: OgLibrary) -> None:
    """Anycast brings them there; the hunt at both sites costs nothing in vain."""
    net = Net(og, two_sites(0, agents=agents(3) + agents(3, 1)))
    ports = range(2000, 2250)
    for port in ports:
        net.connect(port)
    outcomes = [net.data(port, site=1) for port in ports]
    assert {outcome.answer for outcome in outcomes} == {"A"}
    assert sum("hunt_2" in outcome.verdicts and "hunt_3" in outcome.verdicts for outcome in outcomes) > 200


def test_failed_hunt_ends_with_a_reset_and_is_remembered(net: Net) -> None:
    packet = client_tcp("A", ack=1)
    first = net.send(packet)
    assert first.verdicts == ["hunt_1", "hunt_2", "hunt_3", "hunt_for", "hunt_4"]
    assert first.answer == "R"
    assert net.send(packet).last == "drop_hunt_negative"


def test_packet_of_another_site_is_hunted_here_alone(og: OgLibrary) -> None:
    """Pinned to this site by another one's router, known to nobody here: it does not go back, it is reset here."""
    east = Rig(og, two_sites(1), secret=55)
    ack = client_tcp("A", ack=1)
    sent = east.one(envelope(ack, sid(WEST, ERRORS, 5), [sid(EAST, STEER, 5)]))
    assert sent.verdict == "hunt_1"
    final = east.one(east.missed(sent))
    assert final.verdict == "hunt_4"
    assert final.path.ahead[0][2] == F
    assert final.path.ahead[0][0][:4] == locator(EAST)[:4]


BAD = {
    "two segments ahead": [sid(WEST, STEER, 5), sid(EAST, STEER, 5), sid(WEST, MISS, 5), sid(WEST, MISS, 5)],
    "Steer ahead": [sid(WEST, STEER, 5), sid(EAST, STEER, 5), sid("5f00:1:22::", STEER, 5)],
    "Miss of an agent": [sid(WEST, STEER, 5), sid(EAST, STEER, 5), sid("5f00:1:31::", MISS, 5)],
    "Miss of nobody": [sid(WEST, STEER, 5), sid(EAST, STEER, 5), sid("5f00:9:99::", MISS, 5)],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_lists_of_another_sites_hunt(og: OgLibrary, name: str) -> None:
    east = Rig(og, two_sites(1))
    cookie = bytes([124, 14, 1]) + bytes(13)
    packet = envelope(client_tcp("A", ack=1), sid(WEST, ERRORS, 5), BAD[name], active=1, cookies=[cookie])
    assert east.one(packet).verdict == "drop_segments"


@given(bit=st.integers(0, 8 * 16 - 1))
@settings(max_examples=60)
def test_cookie_of_a_hunt_cannot_be_changed(og: OgLibrary, bit: int) -> None:
    """Also its stage, site and flags. (Version, key and epoch of another process: hunted anew.)"""
    rig = Rig(og, two_sites(0))
    missed = bytearray(rig.missed(rig.one(rig.missed(rig.steer(client_tcp("A", ack=1))))))
    at = 40 + 8 + 16 * len(Path.read(bytes(missed)).segments)
    missed[at + bit // 8] ^= 1 << bit % 8
    verdict = rig.one(bytes(missed)).verdict
    assert verdict in {"drop_cookie", "drop_no_cookie", "drop_tlv", "hunt_1"}
    assert (verdict == "drop_cookie") or bit // 8 < 6


def test_every_truncation_of_every_stage_is_dropped(og: OgLibrary) -> None:
    rig = Rig(og, two_sites(0, slots=251))
    second = rig.one(rig.missed(rig.steer(client_tcp("A", ack=1))))
    third = rig.one(rig.missed(second))
    east = Rig(og, two_sites(1, slots=251))
    for receiver, packet in ((rig, rig.missed(second)), (rig, rig.decline(third, 1)), (east, third.data)):
        sent = receiver.burst([packet[:cut] for cut in range(len(packet))])
        assert [cut for cut, result in enumerate(sent) if not result.verdict.startswith("drop_")] == []


def test_hasher_of_a_site_without_routers_sends_to_the_other_site(net: Net) -> None:
    """Its flows are hunted from there: at first the servers of the site that has lost its routers."""
    server = net.connect(40000)
    for router in of_site(net, 0, "routers"):
        net.lose_router(router)
    outcome = net.data(40000)
    assert outcome.server == server
    assert outcome.verdicts[0] == "hunt_1"
    assert "hunt_3" in outcome.verdicts
    assert net.data(40000).verdicts == ["pinned"], "pinned to the server itself"
