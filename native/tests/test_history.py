# SPDX-License-Identifier: Apache-2.0
"""History per slot: against a second implementation in Python, made of single tables."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from native.tests.table_spec import Past, Spec, agents, build, two_sites

if TYPE_CHECKING:
    from collections.abc import Sequence

    from native.tests.oglib import OgLibrary
    from native.tests.table_spec import Member

SLOTS = 1009


def spec_of(members: Sequence[Member], weights: Sequence[int], past: Sequence[Sequence[int]] = ()) -> Spec:
    """Members with today's weights; `past` are earlier ones, newest first."""
    return Spec(
        agents=tuple(replace(m, weight=w) for m, w in zip(members, weights, strict=True)),
        slots=SLOTS,
        history=tuple(Past(tuple((m.id, w) for m, w in zip(members, row, strict=True))) for row in past),
    )


def picks(og: OgLibrary, tables: Any, flow_hash: int) -> list[int]:
    out = og.ffi.new("uint16_t[2]")
    return list(out[0 : og.lib.og_tables_agents(tables, og.ffi.NULL, 0, 0, flow_hash, out)])


def history(og: OgLibrary, tables: Any, flow_hash: int, service: int = 0, health: Any = None) -> list[int]:
    out = og.ffi.new("uint16_t[]", og.const.OG_HISTORY_AGENTS)
    n = og.lib.og_tables_history(tables, health or og.ffi.NULL, service, flow_hash, out)
    return list(out[0:n])


def hashes(count: int) -> list[int]:
    generator = random.Random(3)
    return [generator.getrandbits(64) for _ in range(count)]


@pytest.mark.parametrize("seed", range(8))
def test_earlier_picks_newest_first_without_todays(og: OgLibrary, seed: int) -> None:
    generator = random.Random(seed)
    members = agents(generator.randint(2, 14))
    rows = [[generator.choice((0, 50, 100)) for _ in members] for _ in range(generator.randint(2, 12))]
    today, *past = rows
    tables = build(og, spec_of(members, today, past))
    earlier = [build(og, spec_of(members, row)) for row in past]
    for flow_hash in hashes(300):
        now = picks(og, tables, flow_hash)
        wanted: list[int] = []
        for one in earlier:
            wanted += [a for a in picks(og, one, flow_hash) if a not in now + wanted]
        assert history(og, tables, flow_hash) == wanted[:8]


def test_without_history_there_is_none(og: OgLibrary) -> None:
    tables = build(og, Spec())
    assert {tuple(history(og, tables, h)) for h in hashes(50)} == {()}
    assert history(og, tables, 1, service=64) == []


def test_agents_that_are_gone_or_of_another_site_are_skipped(og: OgLibrary) -> None:
    spec = two_sites(0, history=(Past(((0, 100), (500, 100), (100, 100))),), slots=SLOTS).with_agent(0, weight=0)
    tables = build(og, spec)
    assert {tuple(history(og, tables, h)) for h in hashes(100)} == {(0,)}


def test_the_dead_are_left_out(og: OgLibrary) -> None:
    members = agents(4)
    tables = build(og, spec_of(members, [0, 0, 100, 100], [[100, 0, 100, 100], [0, 100, 0, 0]]))
    health = og.ffi.new("struct og_health *")
    health.agent_dead[1] = 1
    found = {agent for h in hashes(200) for agent in history(og, tables, h, health=health)}
    assert found == {0}


def test_services_have_their_own_history_or_share_it(og: OgLibrary) -> None:
    spec = replace(
        spec_of(agents(4), [100, 100, 0, 0]),
        history=(Past(((2, 1),), 0), Past(((3, 1),), 1), Past(((2, 1),), 2)),
    )
    tables = build(og, spec)
    assert [history(og, tables, 7, service) for service in range(3)] == [[2], [3], [2]]


def loss(og: OgLibrary, total: int, drained: int) -> float:
    """Servers are drained one by one; the share of flows whose server neither picks nor history name, without pins."""
    members, flows = agents(total), hashes(3000)
    rows = [[0] * gone + [100] * (total - gone) for gone in range(drained + 1)]
    began = [build(og, spec_of(members, row)) for row in rows]
    now = build(og, spec_of(members, rows[-1], rows[-2::-1]))
    lost = asked = 0
    for tables in began:
        for flow_hash in flows[:: len(began)]:
            server = picks(og, tables, flow_hash)[flow_hash & 1]
            lost += server not in picks(og, now, flow_hash) + history(og, now, flow_hash)
            asked += 1
    return lost / asked


def test_loss_after_servers_were_drained_one_by_one(og: OgLibrary) -> None:
    """5 of 10 servers cost nothing, 24 of 48 less than 1 % (with three whole tables: 20 %, 45 %)."""
    assert loss(og, 10, 5) == 0
    assert loss(og, 48, 24) < 0.012
