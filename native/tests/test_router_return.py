# SPDX-License-Identifier: Apache-2.0
"""A server's reply at Pin, and the path over two sites."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import ICMPv6EchoReply, IPv6

from native.tests.lab_site import CLIENT, VIP, locator, sid
from native.tests.router_rig import (
    ACCEPT,
    ERRORS,
    LAST,
    MISS,
    PIN,
    STEER,
    K,
    N,
    Path,
    R,
    Rig,
    Sent,
    address,
    client_tcp,
    client_udp,
    envelope,
    server_tcp,
    server_udp,
)
from native.tests.table_spec import Spec, two_sites

if TYPE_CHECKING:
    from scapy.packet import Packet

    from native.tests.oglib import OgLibrary


@pytest.fixture
def offered(rig: Rig) -> Sent:
    return rig.steer(client_tcp("S"))


SYN = client_tcp("S")
SYN_ACK = server_tcp(SYN, "SA", seq=5000)


def lowered(packet: Packet) -> bytes:
    """The same packet, hop limit one lower."""
    data = bytearray(bytes(packet))
    data[7] -= 1
    return bytes(data)


# ---- what a reply teaches --------------------------------------------------------------------------------------------


def test_syn_ack_leaves_the_gateway_as_the_server_sent_it(rig: Rig, offered: Sent) -> None:
    returned = rig.one(rig.reply(offered, rig.picks(SYN)[0], SYN_ACK))
    assert returned.verdict == "returned_half_open"
    assert returned.data == lowered(SYN_ACK)
    assert (rig.router.pins.count, rig.router.halfopen.count) == (0, 1)


@pytest.mark.parametrize(
    ("outer", "inner", "wanted"), [(0, 0, 0), (3, 2, 3), (3, 1, 3), (1, 2, 1), (2, 1, 1), (3, 0, None), (1, 0, 0)]
)
def test_congestion_marks_are_combined(rig: Rig, offered: Sent, outer: int, inner: int, wanted: int | None) -> None:
    answer = SYN_ACK.copy()
    answer.tc = 0xB8 | inner
    returned = rig.one(rig.reply(offered, rig.picks(SYN)[0], answer, tc=outer))
    if wanted is None:
        assert returned.verdict == "drop_ecn"
    else:
        assert IPv6(returned.data).tc == 0xB8 | wanted


def test_first_answer_wins(rig: Rig, offered: Sent) -> None:
    first, second = rig.picks(SYN)
    other = server_tcp(SYN, "SA", seq=9000)
    assert rig.one(rig.reply(offered, second, other)).verdict == "returned_half_open"
    assert rig.one(rig.reply(offered, first, SYN_ACK)).verdict == "drop_synack_second"
    assert rig.one(rig.reply(offered, second, other)).verdict == "returned_half_open"
    assert rig.steer(client_tcp("A", seq=1001, ack=9001)).path.ahead[0][0] == locator(second.locator)
    assert rig.one(rig.reply(offered, first, SYN_ACK)).verdict == "drop_synack_second", "also after promotion"


def test_answer_of_another_server_counts_when_the_first_is_suspect_and_the_client_asks_again(
    rig: Rig, offered: Sent
) -> None:
    first, second = rig.picks(SYN)
    rig.one(rig.reply(offered, first, SYN_ACK))
    rig.health.agent_suspect[first.id] = 1
    again = rig.steer(SYN)
    assert locator(first.locator) not in [segment[0] for segment in again.path.ahead]
    assert rig.one(rig.reply(again, second, server_tcp(SYN, "SA", seq=9000))).verdict == "returned_half_open"
    assert rig.steer(client_tcp("A", seq=1001, ack=9001)).path.ahead[0][0] == locator(second.locator)


def test_a_suspect_server_that_answered_first_keeps_a_client_that_has_its_answer(rig: Rig, offered: Sent) -> None:
    """Two SYNs were on their way when everything stood still: what the client says next a second server would reset."""
    first, second = rig.picks(SYN)
    again = rig.steer(SYN)
    assert rig.one(rig.reply(offered, first, SYN_ACK)).verdict == "returned_half_open"
    rig.health.agent_suspect[first.id] = 1
    assert rig.one(rig.reply(again, second, server_tcp(SYN, "SA", seq=9000))).verdict == "drop_synack_second"
    confirmed = rig.steer(client_tcp("A", seq=1001, ack=SYN_ACK[TCP].seq + 1))
    assert (confirmed.verdict, confirmed.path.ahead[0][0]) == ("promoted", locator(first.locator))


def test_answer_to_a_new_connection_of_the_same_port_counts(rig: Rig, offered: Sent) -> None:
    first, second = rig.picks(SYN)
    rig.one(rig.reply(offered, first, SYN_ACK))
    newer = client_tcp("S", seq=88000)
    assert rig.one(rig.reply(rig.steer(newer), second, server_tcp(newer, "SA", seq=1))).verdict == "returned_half_open"


def test_repeated_syn_ack_of_a_pinned_flow_teaches_nothing(rig: Rig, offered: Sent) -> None:
    agent = rig.connect()
    again = rig.reply(offered, agent, SYN_ACK)
    returned = rig.one(again)
    assert (returned.verdict, returned.data) == ("returned", lowered(SYN_ACK))
    rig.wait(20)
    assert rig.one(again).verdict == "returned"
    assert rig.steer(client_tcp("A", ack=5001)).verdict == "pinned"


@pytest.mark.parametrize("flags", ["R", "RA"])
@pytest.mark.parametrize("kind", ["S", "A"])
def test_reset_never_makes_a_pin(rig: Rig, flags: str, kind: str) -> None:
    sent = rig.steer(client_tcp(kind, ack=1))
    reset = server_tcp(SYN, flags, seq=1)
    returned = rig.one(rig.reply(sent, rig.picks(SYN)[0], reset))
    assert (returned.verdict, returned.data) == ("returned", lowered(reset))
    assert (rig.router.pins.count, rig.router.halfopen.count) == (0, 0)


def test_challenge_ack_for_a_syn_makes_no_pin(rig: Rig, offered: Sent) -> None:
    assert rig.one(rig.reply(offered, rig.picks(SYN)[0], server_tcp(SYN, "A", seq=1))).verdict == "returned"
    assert rig.router.pins.count == 0


def test_reply_of_a_datagram_service_without_pins(rig: Rig) -> None:
    sent = rig.steer(client_udp(5060))
    agent = rig.picks(client_udp(5060), service=2)[0]
    rig.load(rig.spec.with_service(2, udp_pins=False))
    assert rig.one(rig.reply(sent, agent, server_udp(client_udp(5060)))).verdict == "returned"
    assert rig.router.halfopen.count == 0


# ---- cookies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bit", range(0, 64, 7))
def test_forged_tag_is_dropped(rig: Rig, offered: Sent, bit: int) -> None:
    cookie = bytearray(offered.path.cookies[0])
    cookie[8 + bit // 8] ^= 1 << bit % 8
    assert rig.one(rig.reply(offered, rig.picks(SYN)[0], SYN_ACK, cookies=[bytes(cookie)])).verdict == "drop_cookie"
    assert rig.router.halfopen.count == 0


def test_forged_stage_is_dropped(rig: Rig, offered: Sent) -> None:
    cookie = bytearray(offered.path.cookies[0])
    cookie[7] = 1
    assert rig.one(rig.reply(offered, rig.picks(SYN)[0], SYN_ACK, cookies=[bytes(cookie)])).verdict == "drop_cookie"


def test_cookie_of_another_flow_is_dropped(rig: Rig, offered: Sent) -> None:
    other = server_tcp(client_tcp("S", sport=40001), "SA", seq=5000)
    assert rig.one(rig.reply(offered, rig.picks(SYN)[0], other)).verdict == "drop_cookie"


def test_reply_without_a_cookie_is_dropped(rig: Rig, offered: Sent) -> None:
    agent = rig.picks(SYN)[0]
    assert rig.one(rig.reply(offered, agent, SYN_ACK, cookies=[])).verdict == "drop_no_cookie"


def test_key_lives_for_two_epochs_then_the_reply_passes_without_a_pin(rig: Rig, offered: Sent) -> None:
    reply = rig.reply(offered, rig.picks(SYN)[0], SYN_ACK)
    rig.wait(100)
    assert rig.one(reply).verdict == "returned_half_open"
    rig.wait(60)
    returned = rig.one(reply)
    assert (returned.verdict, returned.data) == ("returned_no_pin", lowered(SYN_ACK))


def test_key_of_the_router_before_a_restart_passes_without_a_pin(og: OgLibrary, rig: Rig, offered: Sent) -> None:
    restarted = Rig(og, secret=99)
    for key in restarted.router.cookies.key:
        key.id = (key.id + 100) % 256
    returned = restarted.one(rig.reply(offered, rig.picks(SYN)[0], SYN_ACK))
    assert (returned.verdict, returned.data) == ("returned_no_pin", lowered(SYN_ACK))
    assert restarted.router.halfopen.count == 0


# ---- who may reply, and with what ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "verdict"),
    [
        ("2001:db8:c001:41::1", "drop_pin_source"),
        ("5f00:1:99::", "drop_pin_source"),
        ("5f00:1:11::", "drop_pin_source"),
        ("5f00:1:22::", "drop_pin_source"),
    ],
)
def test_reply_from_a_node_that_is_no_agent(rig: Rig, offered: Sent, source: str, verdict: str) -> None:
    reply = rig.reply(offered, rig.picks(SYN)[0], SYN_ACK, source=source)
    assert rig.one(reply).verdict == verdict
    assert rig.router.halfopen.count == 0


def test_reply_from_a_removed_agent(rig: Rig, offered: Sent) -> None:
    agent = rig.picks(SYN)[0]
    reply = rig.reply(offered, agent, SYN_ACK)
    rig.load(replace(rig.spec, agents=tuple(a for a in rig.spec.agents if a != agent)))
    assert rig.one(reply).verdict == "drop_pin_source"


BAD_REPLIES: dict[str, tuple[Packet | bytes, str]] = {
    "source is no VIP": (
        IPv6(src="2001:db8:2::1", dst=CLIENT) / TCP(sport=80, dport=40000, flags="SA"),
        "drop_inner",
    ),
    "no service": (IPv6(src=VIP, dst=CLIENT) / TCP(sport=81, dport=40000, flags="SA"), "drop_inner"),
    "ICMPv6": (IPv6(src=VIP, dst=CLIENT) / ICMPv6EchoReply(), "drop_protocol"),
    "hop limit used up": (IPv6(bytes(IPv6(src=VIP, dst=CLIENT, hlim=1) / SYN_ACK[TCP])), "drop_hop_limit"),
    "truncated": (bytes(SYN_ACK)[:-4], "drop_truncated"),
}


@pytest.mark.parametrize("name", BAD_REPLIES)
def test_bad_replies(rig: Rig, offered: Sent, name: str) -> None:
    inner, verdict = BAD_REPLIES[name]
    assert rig.one(rig.reply(offered, rig.picks(SYN)[0], inner)).verdict == verdict


def test_segment_ahead_must_be_a_routers_pin(rig: Rig, offered: Sent) -> None:
    agent = rig.picks(SYN)[0]
    for ahead in (sid("5f00:1:31::", ACCEPT, 1), sid("5f00:1:99::", PIN), VIP):
        reply = envelope(
            SYN_ACK,
            sid(agent.locator, ERRORS, 5),
            [sid(R, PIN, 5), ahead],
            cookies=[bytes([124, 14]) + bytes(14), offered.path.cookies[0]],
        )
        assert rig.one(reply).verdict == "drop_segments"


# ---- two sites -------------------------------------------------------------------------------------------------------

WEST, EAST = "5f00:1:21::", "5f00:2:21::"


@pytest.fixture
def west(og: OgLibrary) -> Rig:
    """A router of the west, where no agent listens."""
    rig = Rig(og, two_sites(0))
    for agent in rig.spec.agents:
        if agent.site == 0:
            rig.health.agent_no_listener[agent.id] = 1
    return rig


def east_of(og: OgLibrary, to: bytes) -> Rig:
    """The eastern router with a locator."""
    return Rig(og, two_sites(1, locator=address(to + bytes(8))), secret=1234)


def test_whole_connection_over_two_sites(og: OgLibrary, west: Rig) -> None:
    offered = west.steer(SYN)
    assert offered.verdict == "offered_site"
    (where, function, _) = offered.path.ahead[0]
    assert (len(offered.path.ahead), function, where[:4]) == (1, STEER, locator("5f00:2::")[:4])
    east = east_of(og, where)

    # east offers it to its own agents; both Steers are visited, with a cookie each
    onward = east.one(offered.data)
    assert onward.verdict == "offered"
    path = onward.path
    assert [s[8:10] for s in path.segments[: path.active]] == [STEER.to_bytes(2, "big")] * 2
    assert [s[:8] for s in path.segments[: path.active]] == [locator(WEST), where]
    assert path.cookies[0] == offered.path.cookies[0]
    first, second = east.picks(SYN, site=1)
    assert path.ahead == [(locator(first.locator), ACCEPT, N), (locator(second.locator), ACCEPT, N | LAST)]
    assert path.hop_limit == 62

    # the answer visits east, then west
    reply = east.reply(onward, first, SYN_ACK)
    back = east.one(reply)
    assert back.verdict == "returned_onward"
    assert back.path.ahead == [(locator(WEST), PIN, west.argument(SYN)[0])]
    assert back.path.source[:10] == where + bytes(2)
    assert back.path.inner == bytes(SYN_ACK)
    assert back.path.hop_limit == 63
    returned = west.one(back.data)
    assert (returned.verdict, returned.data) == ("returned_half_open", lowered(SYN_ACK))

    # the ACK makes a pin to the site in the west, to the agent in the east
    ack = client_tcp("A", seq=1001, ack=5001)
    at_west = west.steer(ack)
    assert at_west.verdict == "promoted"
    assert at_west.data == envelope(
        ack,
        west.flow_sid(WEST, ERRORS, ack),
        [west.flow_sid(address(where + bytes(8)), STEER, ack)],
        fl=0x12345,
        hlim=63,
    )
    at_east = east.one(at_west.data)
    assert (at_east.verdict, at_east.path.ahead) == ("promoted", [(locator(first.locator), ACCEPT, K)])
    assert (west.router.pins.count, east.router.pins.count) == (1, 1)
    assert east.one(west.steer(ack).data).verdict == "pinned"

    # local servers are back: the pin stays, new flows stay here
    for agent in west.spec.agents:
        west.health.agent_no_listener[agent.id] = 0
    assert west.steer(ack).path.ahead[0][1] == STEER
    assert west.steer(client_tcp("S", sport=41000)).path.ahead[0][1] == ACCEPT


def test_syn_of_a_flow_pinned_to_a_site_goes_there(og: OgLibrary, west: Rig) -> None:
    test_whole_connection_over_two_sites(og, west)
    again = west.steer(client_tcp("S", seq=70000))
    assert again.verdict == "offered_pinned"
    assert [function for _, function, _ in again.path.ahead] == [STEER]


def test_packet_from_another_site_uses_only_local_targets(og: OgLibrary, west: Rig) -> None:
    """East would send this flow to the west; a packet from the west must not go back there."""
    east = east_of(og, west.steer(SYN).path.ahead[0][0])
    for agent in east.spec.agents:
        if agent.site == 1:
            east.health.agent_no_listener[agent.id] = 1
    own = east.steer(SYN, source="5f00:2:11::")
    assert own.path.ahead[0][1] == STEER, "from its own hasher: to the west"
    assert east.one(west.steer(SYN).data).verdict == "drop_no_target"


def test_packet_that_visited_another_site_stays_whatever_its_source(west: Rig) -> None:
    cookie = bytes([124, 14, 1]) + bytes(13)
    visited = envelope(
        SYN, sid("5f00:1:11::", ERRORS, 5), [sid(EAST, STEER, 5), sid(WEST, STEER, 5)], active=1, cookies=[cookie]
    )
    assert west.steer(SYN).verdict == "offered_site", "without that: to the other site"
    assert west.one(visited).verdict == "drop_no_target"


def test_pin_to_a_site_is_ignored_and_deleted_for_a_packet_from_another_site(og: OgLibrary, west: Rig) -> None:
    test_whole_connection_over_two_sites(og, west)
    ack = client_tcp("A", seq=1001, ack=5001)
    for agent in west.spec.agents:
        west.health.agent_no_listener[agent.id] = 0
    from_east = envelope(ack, sid(EAST, ERRORS, 5), [sid(WEST, STEER, 5)])
    sent = west.one(from_east)
    assert sent.verdict == "hunt_1"
    assert {where for where, function, _ in sent.path.ahead if function == ACCEPT} <= {
        locator(a.locator) for a in west.spec.agents if a.site == 0
    }
    assert west.router.pins.count == 0


def test_hunting_on_behalf_of_another_site_answers_its_miss(og: OgLibrary, west: Rig) -> None:
    ack = client_tcp("A", ack=1)
    cookie = bytes([124, 14, 1]) + bytes(13)
    east = Rig(og, two_sites(1), secret=1234)
    asked = envelope(
        ack,
        sid(WEST, ERRORS, 5),
        [west.flow_sid(WEST, STEER, ack), sid(EAST, STEER, 5), west.flow_sid(WEST, MISS, ack)],
        active=1,
        cookies=[cookie],
    )
    sent = east.one(asked)
    assert sent.verdict == "hunt_for"
    path = sent.path
    assert [s[:8] for s in path.segments[:2]] == [locator(WEST), locator(EAST)]
    assert path.ahead[-1][:2] == (locator(WEST), MISS)
    assert path.cookies[0] == cookie
    missed = Path.read(east.decline(sent, len(path.ahead) - 1))
    assert missed.ahead[0][:2] == (locator(WEST), MISS)


def test_first_router_knows_its_miss_behind_two_steers(og: OgLibrary, west: Rig) -> None:
    ack = client_tcp("A", ack=1)
    own = west.steer(ack).path  # stage 1 of our own, for a cookie of ours
    east = Rig(og, two_sites(1), secret=1234)
    asked = envelope(
        ack,
        sid(WEST, ERRORS, 5),
        [address(own.segments[0]), sid(EAST, STEER, 5), west.flow_sid(WEST, MISS, ack)],
        active=1,
        cookies=own.cookies,
    )
    sent = east.one(asked)
    second = west.one(east.decline(sent, len(sent.path.ahead) - 1))
    assert (second.verdict, len(second.path.cookies)) == ("hunt_2", 1)


def test_pinned_site_whose_routers_are_suspect_then_dead(og: OgLibrary, west: Rig) -> None:
    test_whole_connection_over_two_sites(og, west)
    before = west.steer(client_tcp("A", ack=5001)).data
    for router in west.spec.routers:
        west.health.router_suspect[router.id] = router.site == 1
    assert west.steer(client_tcp("A", ack=5001)).data == before, "suspect: used nevertheless"
    for router in west.spec.routers:
        west.health.router_dead[router.id] = router.site == 1
    sent = west.steer(client_tcp("A", ack=5001))
    assert sent.verdict == "hunt_3", "dead: its agents are asked"
    agents = {locator(a.locator) for a in west.spec.agents if a.site == 1}
    assert {where for where, function, _ in sent.path.ahead if function == ACCEPT} == agents


def test_return_past_a_router_of_the_own_site_is_refused(rig: Rig, offered: Sent) -> None:
    reply = envelope(
        SYN_ACK,
        sid("5f00:1:22::", ERRORS, 5),
        [sid("5f00:1:22::", PIN, 5), sid(R, PIN, 5)],
        active=1,
        cookies=offered.path.cookies,
    )
    assert rig.one(reply).verdict == "drop_pin_source"


def test_spec_of_one_site_never_leaves_it(og: OgLibrary) -> None:
    rig = Rig(og, Spec())
    for agent in rig.spec.agents:
        rig.health.agent_no_listener[agent.id] = 1
    assert rig.steer(SYN).verdict == "drop_no_target"
