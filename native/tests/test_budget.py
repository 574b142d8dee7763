# SPDX-License-Identifier: Apache-2.0
"""Hunt budgets: per source, per thread, more in the first seconds, a tenth for the other site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from native.tests.oglib import OgLibrary

SECOND = 10**9


@pytest.fixture
def budget(og: OgLibrary) -> Any:
    budget = og.ffi.new("struct og_budget *")
    og.lib.og_budget_init(budget, [1, 2], SECOND)
    return budget


def source(number: int) -> bytes:
    """An address in a /64 of its own."""
    return bytes([0x20, 1, 0xD, 0xB8]) + number.to_bytes(4, "big") + bytes(8)


def taken(og: OgLibrary, budget: Any, count: int, now: int, remote: bool = False) -> int:
    """How many of `count` hunts from different sources are let through at once."""
    return sum(og.lib.og_budget_take(budget, source(i), remote, now) for i in range(count))


@pytest.mark.parametrize(
    ("after_s", "remote", "wanted"), [(0, False, 200_000), (0, True, 20_000), (40, False, 20_000), (40, True, 2_000)]
)
def test_rate_of_a_thread(og: OgLibrary, budget: Any, after_s: int, remote: bool, wanted: int) -> None:
    now = SECOND + after_s * SECOND
    assert taken(og, budget, wanted * 2, now, remote) == pytest.approx(wanted, rel=0.01)
    assert taken(og, budget, wanted, now + SECOND // 2, remote) == pytest.approx(wanted / 2, rel=0.01)


def test_source_gets_fifty_a_second(og: OgLibrary, budget: Any) -> None:
    hunts = [og.lib.og_budget_take(budget, source(1), False, SECOND) for _ in range(80)]
    assert hunts == [True] * 50 + [False] * 30
    assert og.lib.og_budget_take(budget, source(2), False, SECOND)
    assert sum(og.lib.og_budget_take(budget, source(1), False, 2 * SECOND) for _ in range(80)) == 50


def test_same_64_is_one_source(og: OgLibrary, budget: Any) -> None:
    hunts = [og.lib.og_budget_take(budget, source(1)[:8] + i.to_bytes(8, "big"), False, SECOND) for i in range(80)]
    assert sum(hunts) == 50


def test_failed_hunt_is_remembered_for_two_seconds(og: OgLibrary, budget: Any) -> None:
    assert not og.lib.og_budget_failed(budget, 77, SECOND)
    og.lib.og_budget_fail(budget, 77, SECOND)
    assert og.lib.og_budget_failed(budget, 77, 3 * SECOND - 1)
    assert not og.lib.og_budget_failed(budget, 77, 3 * SECOND)
    assert not og.lib.og_budget_failed(budget, 77 + (1 << 20), SECOND), "another flow in the same place"


def test_memory_of_failed_hunts_is_bounded_newest_wins(og: OgLibrary, budget: Any) -> None:
    for flow in range(3 * 4096):
        og.lib.og_budget_fail(budget, flow, SECOND)
    remembered = [flow for flow in range(3 * 4096) if og.lib.og_budget_failed(budget, flow, SECOND)]
    assert remembered == list(range(2 * 4096, 3 * 4096))


def test_flow_that_had_a_pin_counts_for_the_thread_alone(og: OgLibrary, budget: Any) -> None:
    assert all(og.lib.og_budget_take(budget, og.ffi.NULL, False, SECOND) for _ in range(500))
    assert og.lib.og_budget_take(budget, source(1), False, SECOND)


@pytest.mark.parametrize("sites", [(False,), (False, True)], ids=["own", "other"])
def test_hunt_that_found_its_server_gives_the_sources_tokens_back(
    og: OgLibrary, budget: Any, sites: tuple[bool, ...]
) -> None:
    """What is found at another site was looked for here before: both tokens come back."""
    for _ in range(300):
        assert all(og.lib.og_budget_take(budget, source(1), remote, SECOND) for remote in sites)
        og.lib.og_budget_found(budget, source(1), sites[-1])
    for remote in sites:
        assert sum(og.lib.og_budget_take(budget, source(1), remote, SECOND) for _ in range(80)) == 50
