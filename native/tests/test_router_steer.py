# SPDX-License-Identifier: Apache-2.0
"""A client's packet at Steer: byte for byte where it goes, and what becomes of the flow."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6

from native.tests.lab_site import CLIENT, HASHER, VIP, locator, sid
from native.tests.router_rig import (
    ACCEPT,
    ERRORS,
    LAST,
    MISS,
    STEER,
    F,
    K,
    N,
    Path,
    R,
    Rig,
    Sent,
    client_tcp,
    client_udp,
    envelope,
    server_tcp,
    server_udp,
)
from native.tests.table_spec import Spec, agents

if TYPE_CHECKING:
    from scapy.packet import Packet

    from native.tests.oglib import OgLibrary


def too_big(of: Packet, router: str = "2001:db8:ffff::1", mtu: int = 1400) -> Packet:
    """A Packet Too Big from some router, about a server's packet of the flow."""
    embedded = server_tcp(of, "A", seq=5001) if TCP in of else server_udp(of)
    return IPv6(bytes(IPv6(src=router, dst=of.dst, hlim=50) / ICMPv6PacketTooBig(mtu=mtu) / embedded))


# ---- a new connection ------------------------------------------------------------------------------------------------


def test_syn_is_offered_to_both_picks_byte_for_byte(rig: Rig) -> None:
    syn = client_tcp("S")
    first, second = rig.picks(syn)
    sent = rig.steer(syn, tc=0x03)
    assert sent.verdict == "offered"
    expected = envelope(
        syn,
        rig.flow_sid(R, ERRORS, syn),
        [rig.flow_sid(R, STEER, syn), rig.accept(first, N, syn), rig.accept(second, N | LAST, syn)],
        active=1,
        cookies=sent.path.cookies,
        tc=0x03,
        fl=0x12345,
        hlim=63,
    )
    assert sent.data == expected
    assert len(sent.data) == 40 + 8 + 3 * 16 + 16 + len(syn)
    assert sent.path.stages == [0]


def test_only_one_agent_is_first_and_last(og: OgLibrary) -> None:
    rig = Rig(og, replace(Spec(), agents=agents(1)))
    assert [flags for _, _, flags in rig.steer(client_tcp("S")).path.ahead] == [N | LAST]


def test_suspect_agents_get_no_new_connection(rig: Rig) -> None:
    first, second = rig.picks(client_tcp("S"))
    rig.health.agent_suspect[first.id] = 1
    ahead = rig.steer(client_tcp("S")).path.ahead
    assert ahead[0][0] == locator(second.locator)
    assert locator(first.locator) not in [where for where, _, _ in ahead]


def test_when_all_are_suspect_they_are_used(rig: Rig) -> None:
    for agent in rig.spec.agents:
        rig.health.agent_suspect[agent.id] = 1
    sent = rig.steer(client_tcp("S"))
    assert sent.verdict == "offered"
    assert len(sent.path.ahead) == 2


def test_no_listener_anywhere_is_no_target(rig: Rig) -> None:
    for agent in rig.spec.agents:
        rig.health.agent_no_listener[agent.id] = 1
    assert rig.steer(client_tcp("S")).verdict == "drop_no_target"


def test_no_agent_at_all_is_no_target(og: OgLibrary) -> None:
    rig = Rig(og, replace(Spec(), agents=()))
    assert rig.steer(client_tcp("S")).verdict == "drop_no_target"
    assert rig.steer(client_tcp("A", ack=1)).verdict == "drop_no_target"
    assert rig.steer(client_udp()).verdict == "drop_no_target"


def test_handshake_data_close_and_reuse(rig: Rig) -> None:
    agent = rig.connect()
    assert rig.router.pins.count == 1
    data = client_tcp("PA", seq=1001, ack=5001, payload=b"GET / HTTP/1.1\r\n\r\n")
    sent = rig.steer(data, tc=0x01, hlim=60)
    assert sent.verdict == "pinned"
    assert sent.data == envelope(
        data, rig.flow_sid(R, ERRORS, data), [rig.accept(agent, K, data)], tc=0x01, fl=0x12345, hlim=59
    )
    assert rig.router.pins.closing == 0
    assert rig.steer(client_tcp("FA", seq=1019, ack=5001)).verdict == "pinned"
    assert rig.router.pins.closing == 1

    # the port again, while the old connection may still be in TIME_WAIT at its server
    again = rig.steer(client_tcp("S", seq=77000))
    assert again.verdict == "offered_pinned"
    first, second = rig.picks(client_tcp("S"))
    wanted = [(agent, N), (second, N | LAST)] if agent == first else [(agent, K), (first, N), (second, N | LAST)]
    assert again.path.ahead == [(locator(a.locator), ACCEPT, flags) for a, flags in wanted]
    assert rig.router.pins.count == 1


def test_reuse_answered_by_another_server_replaces_the_pin(rig: Rig) -> None:
    old = rig.connect()
    again = rig.steer(client_tcp("S", seq=77000))
    other = next(a for a in rig.picks(client_tcp("S")) if a != old)
    syn_ack = server_tcp(client_tcp("S", seq=77000), "SA", seq=9000)
    assert rig.one(rig.reply(again, other, syn_ack)).verdict == "returned_half_open"
    late = rig.steer(client_tcp("A", seq=1001, ack=5001))
    assert (late.verdict, late.path.ahead[0][0]) == ("pinned", locator(old.locator))
    promoted = rig.steer(client_tcp("A", seq=77001, ack=9001))
    assert (promoted.verdict, promoted.path.ahead[0][0]) == ("promoted", locator(other.locator))
    assert rig.steer(client_tcp("A", seq=77001, ack=9001)).path.ahead[0][0] == locator(other.locator)
    assert rig.router.pins.count == 1


def test_syn_does_not_wait_for_a_suspect_target(rig: Rig) -> None:
    agent = rig.connect()
    rig.health.agent_suspect[agent.id] = 1
    sent = rig.steer(client_tcp("S", seq=77000))
    assert sent.verdict == "offered"
    assert locator(agent.locator) not in [where for where, _, _ in sent.path.ahead]


def test_a_contest_that_was_never_confirmed_is_forgotten(rig: Rig) -> None:
    old = rig.connect()
    rig.wait(20)
    again = rig.steer(client_tcp("S", seq=77000))
    other = next(a for a in rig.picks(client_tcp("S")) if a != old)
    rig.one(rig.reply(again, other, server_tcp(client_tcp("S", seq=77000), "SA", seq=9000)))
    rig.wait(9)
    sent = rig.steer(client_tcp("A", seq=77001, ack=9001))
    assert (sent.verdict, sent.path.ahead[0][0]) == ("pinned", locator(old.locator))


def test_half_open_syn_again_asks_the_server_that_answered_first(rig: Rig) -> None:
    syn = client_tcp("S")
    offered = rig.steer(syn)
    second = rig.picks(syn)[1]
    assert rig.one(rig.reply(offered, second, server_tcp(syn, "SA", seq=5000))).verdict == "returned_half_open"
    again = rig.steer(syn)
    assert again.verdict == "offered_pinned"
    assert again.path.ahead[0] == (locator(second.locator), ACCEPT, K)
    assert len(again.path.ahead) == 3


@pytest.mark.parametrize("ack", [5000, 4999, 0, 5001 + 16384, 2**32 - 1])
def test_half_open_and_an_ack_that_does_not_fit(rig: Rig, ack: int) -> None:
    syn = client_tcp("S")
    offered = rig.steer(syn)
    agent = rig.picks(syn)[0]
    rig.one(rig.reply(offered, agent, server_tcp(syn, "SA", seq=5000)))
    sent = rig.steer(client_tcp("A", seq=1001, ack=ack))
    assert sent.verdict == "half_open_hit"
    assert sent.path.ahead == [(locator(agent.locator), ACCEPT, K)]
    assert rig.router.pins.count == 0


@pytest.mark.parametrize("isn", [0, 2**32 - 1, 2**31])
@pytest.mark.parametrize("more", [1, 1 + 14600])
def test_promotion_at_the_ends_of_sequence_space(rig: Rig, isn: int, more: int) -> None:
    syn = client_tcp("S")
    offered = rig.steer(syn)
    rig.one(rig.reply(offered, rig.picks(syn)[0], server_tcp(syn, "SA", seq=isn)))
    assert rig.steer(client_tcp("A", seq=1001, ack=(isn + more) % 2**32)).verdict == "promoted"
    assert rig.router.pins.count == 1


def test_half_open_is_over_after_eight_seconds(rig: Rig) -> None:
    syn = client_tcp("S")
    rig.one(rig.reply(rig.steer(syn), rig.picks(syn)[0], server_tcp(syn, "SA", seq=5000)))
    rig.wait(8.5)
    assert rig.steer(client_tcp("A", seq=1001, ack=5001)).verdict == "hunt_1"


def test_rst_in_half_open_goes_to_the_server_and_makes_no_pin(rig: Rig) -> None:
    syn = client_tcp("S")
    rig.one(rig.reply(rig.steer(syn), rig.picks(syn)[0], server_tcp(syn, "SA", seq=5000)))
    assert rig.steer(client_tcp("RA", seq=1001, ack=5001)).verdict == "half_open_hit"
    assert rig.router.pins.count == 0


# ---- pins live and die -----------------------------------------------------------------------------------------------


def test_idle_pin_expires_and_a_used_one_does_not(rig: Rig) -> None:
    rig.connect(sport=1001)
    rig.connect(sport=1002)
    rig.wait(7000)
    assert rig.steer(client_tcp("A", sport=1001, ack=5001)).verdict == "pinned"
    rig.wait(7000)
    assert rig.steer(client_tcp("A", sport=1001, ack=5001)).verdict == "pinned"
    assert rig.steer(client_tcp("A", sport=1002, ack=5001)).verdict == "hunt_1"


def test_closing_pin_expires_after_a_minute(rig: Rig) -> None:
    rig.connect()
    assert rig.steer(client_tcp("RA", ack=5001)).verdict == "pinned"
    rig.wait(61.5)
    assert rig.steer(client_tcp("A", ack=5001)).verdict == "hunt_1"


def test_new_generation_of_an_agent_voids_its_pins_only(rig: Rig) -> None:
    with_agent = {sport: rig.connect(sport=sport) for sport in range(2000, 2040)}
    assert len({a.name for a in with_agent.values()}) == 3
    dead = rig.spec.agents[0]
    rig.load(rig.spec.with_agent(0, generation=1))
    for sport, agent in with_agent.items():
        verdict = rig.steer(client_tcp("A", sport=sport, ack=5001)).verdict
        assert verdict == ("hunt_1" if agent.name == dead.name else "pinned")


def test_drained_agent_keeps_its_pins(rig: Rig) -> None:
    agent = rig.connect()
    number = rig.spec.agents.index(agent)
    rig.load(rig.spec.with_agent(number, weight=0))
    sent = rig.steer(client_tcp("A", ack=5001))
    assert (sent.verdict, sent.path.ahead[0][0]) == ("pinned", locator(agent.locator))
    for sport in range(3000, 3050):
        ahead = rig.steer(client_tcp("S", sport=sport)).path.ahead
        assert locator(agent.locator) not in [where for where, _, _ in ahead]


def test_suspect_agent_keeps_its_pins(rig: Rig) -> None:
    agent = rig.connect()
    rig.health.agent_suspect[agent.id] = 1
    assert rig.steer(client_tcp("A", ack=5001)).path.ahead[0][0] == locator(agent.locator)


def test_house_keeping_frees_pins_and_half_open_entries(rig: Rig) -> None:
    for sport in range(2000, 2050):
        rig.connect(sport=sport)
    assert rig.router.halfopen.count == 50
    rig.tick(30, 300)
    assert (rig.router.pins.count, rig.router.halfopen.count) == (50, 0)
    rig.tick(8100, 8100)
    assert rig.router.pins.count == 0
    assert rig.router.pins.stats.expired == 50


# ---- hunting ---------------------------------------------------------------------------------------------------------


def test_unknown_segment_is_hunted_byte_for_byte(rig: Rig) -> None:
    ack = client_tcp("A", ack=5001)
    first, second = rig.picks(ack)
    sent = rig.steer(ack)
    assert sent.verdict == "hunt_1"
    assert sent.data == envelope(
        ack,
        rig.flow_sid(R, ERRORS, ack),
        [
            rig.flow_sid(R, STEER, ack),
            rig.accept(first, K, ack),
            rig.accept(second, K, ack),
            rig.flow_sid(R, MISS, ack),
        ],
        active=1,
        cookies=sent.path.cookies,
        fl=0x12345,
        hlim=63,
    )
    assert sent.path.stages == [1]
    assert rig.router.pins.count == 0


def test_hunted_flow_has_its_pin_again_with_the_first_reply(rig: Rig) -> None:
    hunted = rig.steer(client_tcp("PA", ack=5001, payload=b"x"))
    second = rig.picks(client_tcp("A"))[1]
    returned = rig.one(rig.reply(hunted, second, server_tcp(client_tcp("A"), "A", seq=5001)))
    assert returned.verdict == "returned_pin"
    sent = rig.steer(client_tcp("A", ack=5001))
    assert (sent.verdict, sent.path.ahead) == ("pinned", [(locator(second.locator), ACCEPT, K)])


def test_hunt_asks_suspect_agents_last(rig: Rig) -> None:
    first, second = rig.picks(client_tcp("A"))
    third = next(a for a in rig.spec.agents if a not in (first, second))
    rig.health.agent_suspect[first.id] = 1
    ahead = rig.steer(client_tcp("A", ack=1)).path.ahead
    assert [where for where, _, _ in ahead] == [
        locator(second.locator), locator(third.locator), locator(first.locator), locator(R)
    ]  # fmt: skip


def test_hunt_without_anybody_usable_still_asks(rig: Rig) -> None:
    for agent in rig.spec.agents:
        rig.health.agent_suspect[agent.id] = 1
        rig.health.agent_no_listener[agent.id] = 1
    sent = rig.steer(client_tcp("A", ack=1))
    assert sent.verdict == "hunt_1"
    assert [function for _, function, _ in sent.path.ahead] == [ACCEPT, ACCEPT, MISS]


def test_nobody_knows_it_then_it_is_delivered_for_a_reset(rig: Rig) -> None:
    ack = client_tcp("A", ack=5001)
    first = rig.picks(ack)[0]
    third = next(a for a in rig.spec.agents if a not in rig.picks(ack))
    missed = rig.missed(rig.steer(ack))
    assert Path.read(missed).ahead[0][1] == MISS
    second = rig.one(missed)
    assert second.verdict == "hunt_2"
    assert second.path.ahead == [(locator(third.locator), ACCEPT, K), (locator(R), MISS, rig.argument(ack)[0])]
    assert second.path.stages == [2]
    final = rig.one(rig.missed(second))
    assert final.verdict == "hunt_4"
    assert final.data == envelope(
        ack, rig.flow_sid(R, ERRORS, ack), [rig.accept(first, F, ack)], fl=0x12345, hlim=63 - 2 - 1 - 1 - 1
    )
    assert rig.router.pins.count == 0


def test_failed_hunt_is_remembered_for_two_seconds(rig: Rig) -> None:
    missed = rig.missed(rig.steer(client_tcp("A", ack=1)))
    assert rig.one(rig.missed(rig.one(missed))).verdict == "hunt_4"
    assert rig.one(missed).verdict == "drop_hunt_negative"
    rig.wait(1.9)
    assert rig.one(missed).verdict == "drop_hunt_negative"
    rig.wait(0.2)
    assert rig.one(missed).verdict == "hunt_2"


def test_miss_after_another_packet_found_the_server(rig: Rig) -> None:
    hunted = rig.steer(client_tcp("A", ack=5001))
    agent = rig.picks(client_tcp("A"))[0]
    rig.one(rig.reply(hunted, agent, server_tcp(client_tcp("A"), "A", seq=5001)))
    sent = rig.one(rig.decline(hunted, 2))
    assert (sent.verdict, sent.path.ahead) == ("pinned", [(locator(agent.locator), ACCEPT, K)])


@pytest.mark.parametrize("flags", ["R", "RA", "FA"])
def test_resets_and_fins_end_after_stage_one(rig: Rig, flags: str) -> None:
    sent = rig.steer(client_tcp(flags, ack=1))
    assert sent.verdict == "hunt_1"
    assert rig.one(rig.decline(sent, 2)).verdict == "drop_hunt_end"


def test_source_over_its_hunt_budget_is_dropped_not_reset(rig: Rig) -> None:
    missed = [rig.decline(rig.steer(client_tcp("A", sport=2000 + i, ack=1)), 2) for i in range(60)]
    verdicts = [rig.one(packet).verdict for packet in missed]
    assert verdicts == ["hunt_2"] * 50 + ["drop_hunt_budget"] * 10
    rig.wait(0.1)
    assert [rig.one(packet).verdict for packet in missed[50:]] == ["hunt_2"] * 5 + ["drop_hunt_budget"] * 5
    other = client_tcp("A", client="2001:db8:c001:42::1", ack=1)
    assert rig.one(rig.decline(rig.steer(other), 2)).verdict == "hunt_2"


def test_pinned_target_that_lost_the_flow_sends_it_back(rig: Rig) -> None:
    agent = rig.connect()
    data = client_tcp("A", seq=1001, ack=5001)
    pinned = rig.steer(data)
    back = envelope(data, sid(agent.locator, ERRORS, 5), [rig.flow_sid(R, MISS, data)], hlim=62)
    other = next(a for a in rig.spec.agents if a != agent)
    forged = envelope(data, sid(other.locator, ERRORS, 5), [rig.flow_sid(R, MISS, data)], hlim=62)
    assert pinned.verdict == "pinned"
    assert rig.one(forged).verdict == "drop_no_cookie"
    assert rig.router.pins.count == 1
    assert rig.one(back).verdict == "hunt_1"
    assert rig.router.pins.count == 0
    assert rig.one(back).verdict == "drop_no_cookie"


def test_miss_with_a_forged_cookie_is_dropped(rig: Rig) -> None:
    missed = bytearray(rig.decline(rig.steer(client_tcp("A", ack=1)), 2))
    missed[40 + 8 + 4 * 16 + 15] ^= 1
    assert rig.one(bytes(missed)).verdict == "drop_cookie"


def test_miss_of_the_router_before_a_restart_is_hunted_again(og: OgLibrary) -> None:
    before, after = Rig(og, secret=7), Rig(og, secret=1 << 40)
    missed = before.decline(before.steer(client_tcp("A", ack=1)), 2)
    after.router.cookies.key[0].id ^= 0x55
    after.router.cookies.key[1].id ^= 0x55
    sent = after.one(missed)
    assert sent.verdict == "hunt_1"
    assert len(sent.path.cookies) == 1
    assert len(sent.path.segments) == 4


# ---- datagrams -------------------------------------------------------------------------------------------------------


def test_datagram_goes_to_the_first_pick_without_any_header_but_the_outer(rig: Rig) -> None:
    query = client_udp()
    first = rig.picks(query, service=1)[0]
    sent = rig.steer(query)
    assert sent.verdict == "offered_udp"
    assert sent.data == envelope(
        query, rig.flow_sid(R, ERRORS, query), [rig.accept(first, F, query)], fl=0x12345, hlim=63
    )


def test_datagram_service_with_pins(rig: Rig) -> None:
    query = client_udp(5060)
    sent = rig.steer(query)
    assert sent.verdict == "offered_udp"
    agent = rig.picks(query, service=2)[0]
    assert sent.path.ahead == [(locator(agent.locator), ACCEPT, F)]
    assert rig.steer(query).verdict == "offered_udp"
    assert rig.one(rig.reply(sent, agent, server_udp(query))).verdict == "returned_half_open"
    assert rig.router.pins.count == 0
    promoted = rig.steer(query)
    assert (promoted.verdict, promoted.path.ahead) == ("promoted", [(locator(agent.locator), ACCEPT, F)])
    rig.load(replace(rig.spec.with_agent(rig.spec.agents.index(agent), weight=0), generation=2))
    kept = rig.steer(query)
    assert (kept.verdict, kept.path.ahead) == ("pinned", [(locator(agent.locator), ACCEPT, F)])
    rig.wait(31.5)
    assert rig.steer(query).path.ahead[0][0] != locator(agent.locator)


# ---- ICMPv6 errors ---------------------------------------------------------------------------------------------------


def test_error_follows_its_flow_and_leaves_no_trace(rig: Rig) -> None:
    agent = rig.connect()
    rig.wait(100)
    error = too_big(client_tcp("A"))
    sent = rig.steer(error)
    assert sent.verdict == "pinned"
    assert sent.data == envelope(
        error, rig.flow_sid(R, ERRORS, client_tcp("A")), [rig.accept(agent, K, client_tcp("A"))], fl=0x12345, hlim=63
    )
    rig.wait(7950)  # 8050 s since the handshake: the error did not keep the pin alive
    assert rig.steer(client_tcp("A", ack=5001)).verdict == "hunt_1"


def test_error_of_a_half_open_flow(rig: Rig) -> None:
    syn = client_tcp("S")
    agent = rig.picks(syn)[0]
    rig.one(rig.reply(rig.steer(syn), agent, server_tcp(syn, "SA", seq=5000)))
    sent = rig.steer(too_big(syn))
    assert (sent.verdict, sent.path.ahead) == ("half_open_hit", [(locator(agent.locator), ACCEPT, K)])


def test_error_of_an_unknown_flow_is_hunted_once(rig: Rig) -> None:
    sent = rig.steer(too_big(client_tcp("A")))
    assert sent.verdict == "hunt_1"
    assert rig.one(rig.decline(sent, 2)).verdict == "drop_hunt_end"


def test_error_of_a_datagram_follows_the_table(rig: Rig) -> None:
    query = client_udp()
    sent = rig.steer(too_big(query))
    assert sent.verdict == "offered_udp"
    assert sent.path.ahead == [(locator(rig.picks(query, service=1)[0].locator), ACCEPT, F)]


# ---- threads, bursts -------------------------------------------------------------------------------------------------


def test_every_flow_has_one_owner(og: OgLibrary) -> None:
    rigs = [Rig(og, thread=thread, threads=4) for thread in range(4)]
    owners = set()
    for sport in range(4000, 4040):
        syn = client_tcp("S", sport=sport)
        sent = [rig.steer(syn) for rig in rigs]
        owner = rigs[0].argument(syn)[0] % 4
        owners.add(owner)
        for thread, result in enumerate(sent):
            if thread == owner:
                assert result.verdict == "offered"
            else:
                assert (result.verdict, result.owner) == ("handoff", owner)
                assert result.data == rigs[0].to_steer(syn), "handed over as received"
    assert owners == {0, 1, 2, 3}


def test_reply_belongs_to_the_thread_of_its_flow(og: OgLibrary) -> None:
    rigs = [Rig(og, thread=thread, threads=2) for thread in range(2)]
    syn = client_tcp("S")
    owner = rigs[0].argument(syn)[0] % 2
    offered = rigs[owner].steer(syn)
    reply = rigs[owner].reply(offered, rigs[0].picks(syn)[0], server_tcp(syn, "SA", seq=5000))
    assert rigs[1 - owner].one(reply).verdict == "handoff"
    assert rigs[owner].one(reply).verdict == "returned_half_open"


def test_burst_of_any_size_equals_packets_one_by_one(og: OgLibrary) -> None:
    packets = []
    for i in range(101):
        kind = i % 4
        sport = 5000 + i // 2
        packets.append(
            [
                client_tcp("S", sport=sport),
                client_tcp("A", sport=sport, ack=1),
                client_udp(sport=sport),
                client_tcp("SF", sport=sport),
            ][kind]
        )
    together, alone = Rig(og), Rig(og)
    sources = (HASHER, "5f00:1:12::", "5f00:1:99::", "5f00:1:31::", "::")
    frames = [together.to_steer(packet, sources[i // 3 % 5]) for i, packet in enumerate(packets)]
    assert together.burst(frames) == [alone.one(frame) for frame in frames]
    assert together.burst([]) == []


def test_without_tables_everything_is_dropped_by_name(og: OgLibrary) -> None:
    rig = Rig(og)
    frame = rig.to_steer(client_tcp("S"))
    assert rig.one(frame, tables=og.ffi.NULL).verdict == "drop_no_table"
    og.lib.og_router_tick(rig.router, og.ffi.NULL, rig.now_ns)


# ---- what is dropped -------------------------------------------------------------------------------------------------

BAD_INNER = {
    "syn-ack": (client_tcp("SA", ack=1), "drop_tcp_flags"),
    "null": (client_tcp("", ack=0), "drop_tcp_flags"),
    "xmas": (client_tcp("FPU"), "drop_tcp_flags"),
    "no service": (IPv6(src=CLIENT, dst=VIP, hlim=63) / TCP(sport=1, dport=81, flags="S"), "drop_inner"),
    "not a VIP": (IPv6(src=CLIENT, dst="2001:db8:2::1", hlim=63) / TCP(sport=1, dport=80, flags="S"), "drop_inner"),
    "UDP to a TCP port": (client_udp(80), "drop_inner"),
}


@pytest.mark.parametrize("name", BAD_INNER)
def test_bad_packets_inside(rig: Rig, name: str) -> None:
    packet, verdict = BAD_INNER[name]
    assert rig.steer(packet).verdict == verdict


def bad_outer() -> dict[str, tuple[bytes, str]]:
    """Envelopes that must not pass."""
    syn = client_tcp("S")
    hasher, own = sid(HASHER, ERRORS, 5), sid(R, STEER, 5)
    west2 = sid("5f00:1:22::", STEER, 6)
    cookie = bytes([124, 14]) + bytes(14)
    return {
        "from outside": (envelope(syn, "2001:db8:c001:41::1", [own]), "drop_outer_source"),
        "from an agent": (envelope(syn, sid("5f00:1:31::", ERRORS), [own]), "drop_outer_source"),
        "not our locator": (envelope(syn, hasher, [west2]), "drop_no_service"),
        "unknown function": (envelope(syn, hasher, [sid(R, 0x7777)]), "drop_sid_function"),
        "Accept is an agent's": (envelope(syn, hasher, [sid(R, ACCEPT)]), "drop_sid_function"),
        "not IPv6 inside": (envelope(b"\x45" + bytes(60), hasher, [own]), "drop_not_ipv6"),
        "hop limit used up": (envelope(syn, hasher, [own], hlim=1), "drop_hop_limit"),
        "Steer that is not the last": (
            envelope(syn, hasher, [own, sid("5f00:1:31::", ACCEPT)], cookies=[]),
            "drop_segments",
        ),
        "Miss ahead of a node that is no router": (
            envelope(syn, hasher, [own, sid("5f00:1:99::", MISS)]),
            "drop_segments",
        ),
        "visited Steer without a cookie": (envelope(syn, hasher, [west2, own], active=1), "drop_no_cookie"),
        "ours for the second time": (
            envelope(syn, hasher, [sid(R, STEER, 9), own], active=1, cookies=[cookie]),
            "drop_loop",
        ),
        "third Steer": (
            envelope(syn, hasher, [sid("5f00:2:21::", STEER), west2, own], active=2, cookies=[cookie, cookie]),
            "drop_loop",
        ),
        "Miss from outside": (envelope(syn, "2001:db8::1", [sid(R, MISS)]), "drop_outer_source"),
        "Miss of a SYN": (envelope(syn, hasher, [sid(R, MISS)]), "drop_segments"),
        "Miss of nothing": (envelope(client_tcp("A"), hasher, [sid(R, MISS)]), "drop_no_cookie"),
        "Miss with a Steer that is not ours": (
            envelope(client_tcp("A"), hasher, [west2, sid(R, MISS)], active=1, cookies=[cookie]),
            "drop_no_cookie",
        ),
        "truncated": (envelope(syn, hasher, [own])[:-1], "drop_truncated"),
        "empty": (b"", "drop_truncated"),
    }


@pytest.mark.parametrize("name", bad_outer())
def test_bad_envelopes(rig: Rig, name: str) -> None:
    packet, verdict = bad_outer()[name]
    sent = rig.one(packet)
    assert sent.verdict == verdict
    assert (rig.router.pins.count, rig.router.halfopen.count) == (0, 0)


def test_every_truncation_of_every_kind_is_dropped(rig: Rig) -> None:
    syn = client_tcp("S")
    offered = rig.steer(syn)
    whole = [
        rig.to_steer(syn),
        rig.reply(offered, rig.picks(syn)[0], server_tcp(syn, "SA", seq=5000)),
        rig.decline(rig.steer(client_tcp("A", ack=1)), 2),
    ]
    for packet in whole:
        sent = rig.burst([packet[:cut] for cut in range(len(packet))])
        assert [cut for cut, result in enumerate(sent) if not result.verdict.startswith("drop_")] == []
    assert (rig.router.pins.count, rig.router.halfopen.count) == (0, 0)


def test_no_headroom_is_dropped_by_name(rig: Rig) -> None:
    assert rig.one(rig.to_steer(client_tcp("S")), headroom=32).verdict == "drop_no_room"
    assert rig.one(rig.to_steer(client_tcp("S")), headroom=72).verdict == "offered"
    rig.connect()
    assert rig.one(rig.to_steer(client_tcp("A", ack=5001)), headroom=0).verdict == "pinned"


def test_too_large_for_the_fabric(og: OgLibrary) -> None:
    rig = Rig(og, replace(Spec(), fabric_mtu=1600))
    overhead = 40 + 8 + 3 * 16 + 16
    fits = client_tcp("S", payload=bytes(1600 - overhead - 60))
    over = client_tcp("S", payload=bytes(1600 - overhead - 60 + 1))
    assert (rig.steer(fits).verdict, rig.steer(over).verdict) == ("offered", "drop_too_big")


def test_link_padding_behind_the_packet_is_cut(rig: Rig) -> None:
    syn = client_tcp("S")
    padded = rig.one(rig.to_steer(syn) + bytes(6))
    assert (padded.verdict, padded.data) == ("offered", rig.steer(syn).data)


# ---- floods ----------------------------------------------------------------------------------------------------------


def patched(frame: bytes, inner: int, number: int) -> bytes:
    """The frame with another client: its /64 (256 flows share one), its interface identifier and its port.

    `inner` is the offset of the client's packet. Scapy would take minutes for a flood.
    """
    out = bytearray(frame)
    out[inner + 14 : inner + 16] = (number >> 8).to_bytes(2, "big")
    out[inner + 20 : inner + 24] = number.to_bytes(4, "big")
    out[inner + 40 : inner + 42] = (1024 + number % 60000).to_bytes(2, "big")
    return bytes(out)


def raw_syn_ack(sent: Sent, template: bytes) -> bytes:
    """What Rig.reply makes, from bytes: template = envelope of one Pin with a SYN-ACK inside."""
    out, path = bytearray(template), sent.path
    out[8:16] = path.ahead[0][0]
    out[24:40] = out[48:64] = path.segments[0][:8] + b"\0\2" + path.segments[0][10:]
    out[64:80] = path.cookies[0]
    out[80 + 24 : 80 + 40] = path.inner[8:24]
    out[80 + 42 : 80 + 44] = path.inner[40:42]
    return bytes(out)


def test_spoofed_syn_flood_leaves_no_pins_and_bounded_half_open_entries(og: OgLibrary) -> None:
    rig = Rig(og, halfopen=1024)
    kept = rig.connect(sport=1)
    syn = client_tcp("S")
    frame = rig.to_steer(syn)
    template = rig.reply(rig.steer(syn), rig.spec.agents[0], server_tcp(syn, "SA", seq=9))
    for start in range(0, 20000, 500):
        offered = rig.burst([patched(frame, 40, i) for i in range(start, start + 500)])
        assert {sent.verdict for sent in offered} == {"offered"}
        returned = rig.burst([raw_syn_ack(sent, template) for sent in offered])
        assert {sent.verdict for sent in returned} == {"returned_half_open"}
    assert rig.router.pins.count == 1
    assert rig.router.halfopen.count <= 1024
    assert rig.router.halfopen.overwritten >= 20000 - 1024
    sent = rig.steer(client_tcp("A", sport=1, ack=5001))
    assert (sent.verdict, sent.path.ahead[0][0]) == ("pinned", locator(kept.locator))


def test_random_ack_flood_is_budgeted_and_over_budget_never_reset(og: OgLibrary) -> None:
    rig = Rig(og)
    kept = rig.connect(sport=1)
    frame = rig.to_steer(client_tcp("A", ack=1))
    for start in range(0, 20000, 500):
        asked = rig.burst([patched(frame, 40, i) for i in range(start, start + 500)])
        assert {sent.verdict for sent in asked} == {"hunt_1"}
        rig.burst([rig.decline(sent, 2) for sent in asked])
    assert rig.counted["hunt_2"] == 78 * 50 + 32, "256 flows in each /64 but the last, which has 32"
    assert rig.counted["hunt_2"] + rig.counted["drop_hunt_budget"] == 20000
    assert rig.router.pins.count == 1
    assert rig.steer(client_tcp("A", sport=1, ack=5001)).path.ahead[0][0] == locator(kept.locator)
