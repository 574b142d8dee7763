# SPDX-License-Identifier: Apache-2.0
"""A gate opens for a node in full service only, and says what keeps it shut."""

from __future__ import annotations

from typing import Any

import pytest

from og.drill.gate import consul, data_plane, health, main

MEMBERS: dict[str, dict[str, Any]] = {
    "agent_w1": {"name": "agent_w1", "kind": "agent", "suspect": 0, "listeners": ["web"]},
    "ogr_w1": {"name": "ogr_w1", "kind": "router", "suspect": 0},
}


def test_full_service() -> None:
    assert data_plane({"serving": True, "suspect": []}, MEMBERS) == []
    assert health({"healthy": True, "announced": ["5f00:1:21::/64"]}, "router") == []
    assert health({"healthy": True, "announced": ["5f00:1:11::/64", "2001:db8:1::80/128"]}, "hasher") == []
    assert consul({"service:og-router": {"Name": "og-router", "Status": "passing"}}) == []


@pytest.mark.parametrize(
    ("status", "members", "reason"),
    [
        ({"serving": False, "suspect": []}, MEMBERS, "cannot serve"),
        ({"serving": True, "suspect": ["ogr_w1"]}, MEMBERS, "ogr_w1 does not answer"),
        (
            {"serving": True, "suspect": []},
            {**MEMBERS, "agent_w1": {**MEMBERS["agent_w1"], "listeners": []}},
            "nothing listens on agent_w1",
        ),
    ],
)
def test_what_the_data_plane_lacks(status: dict[str, Any], members: dict[str, Any], reason: str) -> None:
    found = data_plane(status, members)
    assert len(found) == 1
    assert reason in found[0]


def test_what_announcement_and_consul_lack() -> None:
    assert health({"healthy": False, "reason": "drained", "announced": ["a"]}, "router") == ["health: drained"]
    assert health({"healthy": True, "announced": ["a"]}, "hasher") == ["health: announces only ['a']"]
    assert consul({}) == ["consul: no check is registered"]
    assert consul({"x": {"Name": "og-router", "Status": "critical"}}) == ["consul: og-router is critical"]


def test_a_host_without_anything_is_shut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["gate", "--role", "router"])
    assert main() == 1
    assert "/run/og/router.sock" in capsys.readouterr().out
