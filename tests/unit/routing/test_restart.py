# SPDX-License-Identifier: Apache-2.0
"""What a restart of GoBGP, FRRouting or Consul waits for (roles/*/files/restart.py)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROLES = Path(__file__).resolve().parents[3] / "roles"


def program(role: str) -> ModuleType:
    name = f"{role}_restart"
    spec = importlib.util.spec_from_file_location(name, ROLES / role / "files/restart.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gobgp, consul, frr = program("gobgp"), program("consul"), program("quagga")
A, B, VIP = "2001:db8:f001:11::a", "2001:db8:f001:11::b", "2001:db8:1::80/128"


def neighbor(address: str, state: int) -> dict[str, Any]:
    return {"conf": {"neighbor_address": address}, "state": {"neighbor_address": address, "session_state": state}}


def test_gobgp_s_answers_are_read() -> None:
    learned = {"2001:db8:2::/48": [{"attrs": [{"type": 14, "nexthop": A}]}]}
    own = {VIP: [{"attrs": [{"type": 1, "value": 2}, {"type": 14, "nexthop": "::"}]}]}
    view = gobgp.read([neighbor(A, 6), neighbor(B, 3)], own | learned)
    assert view == gobgp.View(frozenset({A}), frozenset({VIP}))


@pytest.mark.parametrize(
    ("sessions", "prefixes", "configured", "said"),
    [
        ({A, B}, {VIP}, {A, B}, ""),
        ({A}, {VIP}, {A, B}, f"no session with {B}"),
        ({A}, {VIP}, {A}, ""),  # taken out of the configuration
        ({A, B}, set(), {A, B}, f"not announced again: {VIP}"),
        (set(), set(), {A, B}, f"no session with {A}, {B}; not announced again: {VIP}"),
    ],
)
def test_gobgp_is_waited_for(sessions: set[str], prefixes: set[str], configured: set[str], said: str) -> None:
    before = gobgp.View(frozenset({A, B}), frozenset({VIP}))
    now = gobgp.View(frozenset(sessions), frozenset(prefixes))
    assert gobgp.missing(before, now, frozenset(configured)) == said
    assert not gobgp.missing(gobgp.View(), now, frozenset(configured))  # nothing was there, nothing is waited for


def test_consul_is_waited_for() -> None:
    checks = {"web": {"Status": "passing"}, "dns": {"Status": "critical"}}
    before = consul.read("[::1]:8300", checks)
    assert consul.missing(before, before) == ""
    assert consul.missing(before, consul.read("", checks)) == "no leader is known"
    later = consul.read("[::1]:8300", checks | {"web": {"Status": "critical"}})
    assert consul.missing(before, later) == "not passing again: web"
    assert consul.missing(before, consul.read("[::1]:8300", {})) == ""  # its service was taken away


def test_frr_s_answer_is_read() -> None:
    peers = {A: {"state": "Established", "pfxRcd": 2}, B: {"state": "Active"}}
    assert frr.read({"routerId": "0.2.0.1", "peers": peers}) == frr.View(frozenset({A, B}), frozenset({A}))
    assert frr.read({}) == frr.View()


@pytest.mark.parametrize(
    ("configured", "established", "said"),
    [
        ({A, B}, {A, B}, ""),
        ({A, B}, {B}, f"no session with {A}"),
        ({B}, {B}, ""),  # taken out of the configuration
        (set(), set(), f"no session with {A}, {B}"),  # bgpd has not read its own yet
    ],
)
def test_frr_is_waited_for(configured: set[str], established: set[str], said: str) -> None:
    before = frr.View(frozenset({A, B}), frozenset({A, B}))
    assert frr.missing(before, frr.View(frozenset(configured), frozenset(established))) == said
    assert not frr.missing(frr.View(), frr.View())


@pytest.mark.parametrize(("running", "expected"), [(True, None), (False, frr.View())])
def test_a_bgpd_that_does_not_answer_is_not_one_without_sessions(
    monkeypatch: pytest.MonkeyPatch, running: bool, expected: Any
) -> None:
    monkeypatch.setattr(frr, "SUMMARY", ("false",))
    monkeypatch.setattr(frr, "POLL_S", 0)
    monkeypatch.setattr(frr, "runs", lambda: running)
    assert frr.look_before() == expected
    answers = iter([None, frr.View(frozenset({A}), frozenset({A}))])
    monkeypatch.setattr(frr, "look", lambda: next(answers))
    assert frr.look_before() == (frr.View(frozenset({A}), frozenset({A})) if running else frr.View())
