# SPDX-License-Identifier: Apache-2.0
"""What a watcher makes of answers, that it writes changes only, and that it sees a route change when it happens."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from og.drill.watch import Changes, down, hops, shares

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
VIP = "2001:db8:1::80"


def test_who_gets_no_new_flow() -> None:
    members = {
        "agent_w1": {"name": "agent-w1", "kind": "agent", "suspect": 0, "listeners": ["web"]},
        "agent_w2": {"name": "agent-w2", "kind": "agent", "suspect": 0, "listeners": []},
        "agent_w3": {"name": "agent-w3", "kind": "agent", "suspect": 1, "listeners": ["web"]},
        "ogr_w1": {"name": "ogr_w1", "kind": "router", "suspect": 0, "listeners": []},
        "ogr_w2": {"name": "ogr_w2", "kind": "router", "suspect": 1},
    }
    assert down(members) == ["agent-w2", "agent-w3", "ogr_w2"]


def test_shares_of_a_status() -> None:
    status = {"shares": [{"service": "web", "site": "east", "share": 512}, {"service": "a", "site": "b", "share": 0}]}
    assert shares(status) == {"web/east": 512}
    assert shares({}) == {}


def test_next_hops_of_either_form() -> None:
    assert hops([{"gateway": "2001:db8::2"}]) == ["2001:db8::2"]
    assert hops([{"nexthops": [{"gateway": "2001:db8::3"}, {"gateway": "2001:db8::2"}]}]) == [
        "2001:db8::2",
        "2001:db8::3",
    ]
    assert hops([]) == hops([{"dev": "lo"}]) == []


def test_only_changes_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    tell = Changes()
    tell({"a": 1, "b": []}, 1.0)
    tell({"a": 1, "b": ["x"]}, 2.0)
    tell({"b": ["x"]}, 3.0)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        {"t": 1.0, "what": "a", "value": 1},
        {"t": 1.0, "what": "b", "value": []},
        {"t": 2.0, "what": "b", "value": ["x"]},
    ]


@pytest.fixture
def space() -> Iterator[str]:
    if os.geteuid() != 0:
        pytest.skip("making network namespaces needs root")
    name = f"og-watch-{secrets.token_hex(3)}"
    ip = ["ip", "-n", name]
    subprocess.run(["ip", "netns", "add", name], check=True)
    for command in (
        "link add p0 type veth peer name p1",
        "link set p1 up",
        "link set p0 up",
        "addr add 2001:db8:f::1/64 dev p0 nodad",
        f"route add {VIP}/128 nexthop via 2001:db8:f::2 nexthop via 2001:db8:f::3",
    ):
        subprocess.run([*ip, *command.split()], check=True)
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.mark.netns
def test_a_withdrawn_next_hop_is_seen(space: str) -> None:
    argv = ["ip", "netns", "exec", space, sys.executable, "-m", "og.drill.watch", "--hops", VIP]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) as watcher:
        assert watcher.stdout
        try:
            first = json.loads(watcher.stdout.readline())
            begin = time.time()
            route = ["ip", "-n", space, "route", "replace", f"{VIP}/128", "via", "2001:db8:f::3"]
            subprocess.run(route, check=True)
            second = json.loads(watcher.stdout.readline())
        finally:
            watcher.terminate()
    assert first["value"] == ["2001:db8:f::2", "2001:db8:f::3"]
    assert second["value"] == ["2001:db8:f::3"]
    assert second["t"] >= begin
    assert watcher.returncode == 0
