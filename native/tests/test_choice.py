# SPDX-License-Identifier: Apache-2.0
"""Where a new flow goes: shares, eligibility, last resorts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.tests.router_rig import ACCEPT, STEER, Rig, client_tcp, client_udp
from native.tests.table_spec import Member, Spec, build, two_sites

if TYPE_CHECKING:
    from native.tests.oglib import OgLibrary

NONE = 0xFFFF
REASONS = ("here", "stays", "spilled", "not_eligible", "no_server", "suspect", "last_resort", "nobody")


class Chooser:
    """og_choose over three sites: two agents and two routers each."""

    def __init__(self, og: OgLibrary, **changes: Any) -> None:
        members = [(site, node) for site in range(3) for node in range(2)]
        spec = Spec(
            routers=tuple(Member(f"5f00:{s + 1}:{0x21 + n:x}::", 10 * s + n, f"r{s}{n}", s) for s, n in members),
            agents=tuple(
                Member(f"5f00:{s + 1}:{0x31 + n:x}::", 10 * s + n, f"a{s}{n}", s, services=7) for s, n in members
            ),
            slots=251,
        )
        self.og, self.tables = og, build(og, replace(spec, **changes))
        self.health, self.shares = og.ffi.new("struct og_health *"), og.ffi.new("struct og_shares *")

    def __call__(self, flow_hash: int, *, service: int = 0, local_only: bool = False) -> Any:
        out = self.og.ffi.new("struct og_choice *")
        self.og.lib.og_choose(self.tables, self.health, self.shares, service, local_only, flow_hash, out)
        return out

    def where(self, flow_hash: int, **how: Any) -> tuple[str, int, bool]:
        """Reason, site, whether it leaves."""
        out = self(flow_hash, **how)
        return REASONS[out.reason], out.site, out.router != NONE

    def bucket(self, flow_hash: int) -> int:
        return int(self.og.lib.og_hash_for(flow_hash, self.og.lib.OG_USE_SPILL) >> 54)


FLOWS = [hash_ * 0x9E3779B97F4A7C15 % 2**64 for hash_ in range(1, 2001)]


def test_every_reason_has_a_text(og: OgLibrary) -> None:
    texts = {og.ffi.string(og.lib.og_reason_text(i)) for i in range(og.lib.OG_REASON_COUNT)}
    assert len(texts) == og.lib.OG_REASON_COUNT == len(REASONS)


@given(flow=st.integers(0, 2**64 - 1), data=st.data())
@settings(max_examples=200)
def test_buckets_of_the_sites_follow_each_other(og: OgLibrary, flow: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, 1024))
    second = data.draw(st.integers(0, 1024 - first))
    choose = Chooser(og)
    choose.shares.share[0][1], choose.shares.share[0][2] = first, second
    bucket = choose.bucket(flow)
    wanted = 1 if bucket < first else 2 if bucket < first + second else 0
    reason = "spilled" if wanted else "stays" if first + second else "here"
    assert choose.where(flow) == (reason, wanted, wanted > 0)
    assert 0 <= bucket < 1024
    assert choose(flow).bucket == bucket
    assert choose.where(flow, local_only=True) == ("here", 0, False)
    assert choose.where(flow, service=1) == ("here", 0, False), "the share of another service"


def test_share_is_the_part_that_leaves(og: OgLibrary) -> None:
    choose = Chooser(og)
    choose.shares.share[0][1] = 300
    left = sum(choose.where(flow)[1] == 1 for flow in FLOWS)
    assert left / len(FLOWS) == pytest.approx(300 / 1024, rel=0.15)
    choose.shares.share[0][1] = 1024
    assert {choose.where(flow)[1] for flow in FLOWS} == {1}


def test_order_of_the_policy(og: OgLibrary) -> None:
    choose = Chooser(og, spill=((0, 2), (0, 1), (1, 1)))
    choose.shares.share[0][1], choose.shares.share[0][2] = 200, 100
    for flow in FLOWS:
        bucket = choose.bucket(flow)
        assert choose.where(flow)[1] == (2 if bucket < 100 else 1 if bucket < 300 else 0)
    for service in (1, 2):
        choose.shares.share[service][2] = 1024
        assert {choose.where(flow, service=service)[1] for flow in FLOWS} == {0}, "not among its sites"


def test_never_to_a_site_that_does_not_say_it_can_serve(og: OgLibrary) -> None:
    choose = Chooser(og)
    choose.shares.share[0][1] = 1024
    choose.health.router_no_service[10] = 0b001
    assert {choose(flow).router for flow in FLOWS} == {11}, "the site's other router does"
    choose.health.router_suspect[11] = 1
    assert {choose.where(flow) for flow in FLOWS} == {("not_eligible", 0, False)}
    choose.health.router_no_service[10] = 0b010
    assert {choose.where(flow) for flow in FLOWS} == {("spilled", 1, True)}, "it denied another service"


def test_no_usable_server_here_is_share_one_at_once(og: OgLibrary) -> None:
    choose = Chooser(og)
    choose.health.agent_suspect[0] = 1
    choose.health.agent_no_listener[1] = 1
    assert {choose.where(flow) for flow in FLOWS} == {("no_server", 1, True)}
    assert {choose.where(flow, local_only=True) for flow in FLOWS} == {("suspect", 0, False)}
    for router in (10, 11):
        choose.health.router_no_service[router] = 1
    assert {choose.where(flow) for flow in FLOWS} == {("no_server", 2, True)}, "the next site of the policy"
    for router in (20, 21):
        choose.health.router_suspect[router] = 1
    assert {choose.where(flow) for flow in FLOWS} == {("suspect", 0, False)}, "nobody can: those here"
    choose.health.agent_dead[0] = 1
    assert {choose.where(flow) for flow in FLOWS} == {("last_resort", 1, True)}, "a router that may be wrong"
    for router in (10, 11):
        choose.health.router_suspect[router] = 1
    assert {choose.where(flow) for flow in FLOWS} == {("nobody", 0, False)}


def test_a_service_that_may_go_nowhere(og: OgLibrary) -> None:
    choose = Chooser(og, spill=())
    choose.health.agent_no_listener[0] = choose.health.agent_no_listener[1] = 1
    assert {choose.where(flow) for flow in FLOWS} == {("nobody", 0, False)}


def test_a_site_without_an_agent_of_the_service_is_not_eligible(og: OgLibrary) -> None:
    choose = Chooser(og, agents=tuple(Member(f"5f00:1:3{i}::", i, f"a{i}", services=1) for i in range(2)))
    choose.shares.share[0][1] = 1024
    assert {choose.where(flow) for flow in FLOWS} == {("not_eligible", 0, False)}


# ---- the router does so ----------------------------------------------------------------------------------------------


def test_syn_and_datagram_leave_by_share(og: OgLibrary) -> None:
    rig = Rig(og, two_sites(0))
    for service in range(3):
        rig.shares.share[service][1] = 512
    seen = set()
    for sport in range(2000, 2100):
        for packet, stays in ((client_tcp("S", sport=sport), "offered"), (client_udp(sport=sport), "offered_udp"),
                              (client_udp(5060, sport=sport), "offered_udp")):  # fmt: skip
            leaves = og.lib.og_hash_for(rig.flow_hash(packet), og.lib.OG_USE_SPILL) >> 54 < 512
            sent = rig.steer(packet)
            assert sent.verdict == ("spilled" if leaves else stays)
            assert sent.path.ahead[0][1] == (STEER if leaves else ACCEPT)
            seen.add(sent.verdict)
    assert seen == {"spilled", "offered", "offered_udp"}


def test_known_flow_does_not_leave_by_share(og: OgLibrary) -> None:
    rig = Rig(og, two_sites(0))
    rig.connect()
    rig.shares.share[0][1] = 1024
    assert rig.steer(client_tcp("A", ack=5001)).path.ahead[0][1] == ACCEPT
    again = rig.steer(client_tcp("S", seq=99000))
    assert (again.verdict, again.path.ahead[0][1]) == ("offered_pinned", ACCEPT)
    assert rig.steer(client_tcp("S", sport=9)).verdict == "spilled"
