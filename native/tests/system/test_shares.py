# SPDX-License-Identifier: Apache-2.0
"""Spill shares over the table socket, and /og/why: what is set, what is kept, what is explained."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6

from native.tests.system import harness
from native.tests.system.harness import (
    FN_ERRORS,
    FN_STEER,
    ROLE_AGENT,
    ROLE_ROUTER,
    Envelope,
    Member,
    Node,
    sid,
    srv6,
    tables,
    tcp,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN, HASHER, EAST = "5f00:1:21::", "5f00:1:11::", "5f00:2:21::"


def two_sites(generation: int = 1, **changes: Any) -> dict[str, Any]:
    """West as before, one router and one agent in the east."""
    document = tables(generation, agents=2, own=OWN) | changes
    document["routers"].append(
        {"id": 9, "name": "ogr_e1", "site": "east", "locator": EAST, "weight": 100, "generation": 0}
    )
    document["agents"].append(
        {"id": 9, "name": "agent_e1", "site": "east", "locator": "5f00:2:31::", "weight": 100, "generation": 0,
         "services": ["web"]}
    )  # fmt: skip
    return document


def share(number: int, site: str = "east", service: str = "web") -> dict[str, Any]:
    return {"service": service, "site": site, "share": number}


def set_shares(node: Node, *shares: Any) -> dict[str, Any]:
    return node.request({"op": "shares", "shares": list(shares)})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with harness.node("router", tmp_path_factory.mktemp("shares") / "n") as node:
        node.wire.members[EAST] = Member(ROLE_ROUTER)
        node.wire.members |= {locator: Member(ROLE_AGENT) for locator in ("5f00:1:31::", "5f00:1:32::")}
        node.start()
        assert node.load(two_sites())["ok"]
        yield node


@pytest.mark.parametrize(
    ("shares", "error"),
    [
        ([share(5, "north")], 'shares[0].site: not in sites: "north"'),
        ([share(5), share(1, "west")], 'shares[1].site: the own one: "west"'),
        ([share(5, service="mail")], 'shares[0].service: no such service: "mail"'),
        ([share(1025)], "shares[0].share: 1025 is not in 0..1024"),
        ([share(-1)], "shares[0].share: -1 is not in 0..1024"),
        ([{"service": "web", "site": "east"}], "shares[0].share: is missing"),
        ([share(1) | {"until": 3}], 'shares[0]: unknown member "until"'),
        ([share(1), share(2)], "shares[1]: same service and site as shares[0]"),
        ("all", 'shares: not an array: "all"'),
        (None, "shares: not an array: null"),
    ],
)
def test_bad_shares_are_refused_and_change_nothing(running: Node, shares: Any, error: str) -> None:
    assert set_shares(running, share(7)) == {"ok": True}
    kept = (running.directory / "state" / "router.shares.json").read_text()
    reply = running.request({"op": "shares", "shares": shares})
    assert reply == {"ok": False, "error": reply["error"]}
    assert reply["error"].startswith(error), reply["error"]
    assert running.request({"op": "shares"})["error"] == "shares: is missing"
    assert running.request({"op": "status"})["shares"] == [share(7)]
    assert (running.directory / "state" / "router.shares.json").read_text() == kept


def test_shares_are_kept_without_a_new_generation(running: Node) -> None:
    assert set_shares(running, share(300)) == {"ok": True}
    status = running.request({"op": "status"})
    assert (status["shares"], status["generation"]) == ([share(300)], 1)
    assert running.telemetry("/og/shares") == {"web/east": 300}
    assert json.loads((running.directory / "state" / "router.shares.json").read_text())["shares"] == [share(300)]
    assert set_shares(running) == {"ok": True}, "what is not named is 0"
    assert running.telemetry("/og/shares") == {"web/east": 0}


def where_to(node: Node, sport: int) -> str:
    """The locator of the first segment a SYN is sent to."""
    node.wire.send(srv6(sid(HASHER, FN_ERRORS, 1), [sid(OWN, FN_STEER, 1)], 0, tcp(sport, "S", hlim=63)))
    frame = node.wire.expect(
        lambda f: f[IPv6].nh == 43 and IPv6(Envelope.read(f).inner)[TCP].sport == sport, "the offered SYN"
    )
    return Envelope.read(frame).segments[1].locator


def why(node: Node, port: object, service: object = "web", client: str = harness.CLIENT) -> dict[str, Any]:
    answer: dict[str, Any] = node.telemetry(f"/og/why,{client};{port};{service}")
    return answer


def asked_and_seen(node: Node, sport: int) -> tuple[dict[str, Any], str] | None:
    """What is said of a flow, and where its SYN goes; None if a late reply to a probe changed something meanwhile."""
    told = why(node, sport)
    to = where_to(node, sport)
    calm = told == why(node, sport) and sorted(told["picks"]) == ["agent_w1", "agent_w2"]
    return (told, to) if calm and not node.request({"op": "status"})["suspect"] else None


def test_what_is_explained_is_what_is_done(running: Node) -> None:
    set_shares(running, share(512))
    running.wire.members[EAST].listeners = 1
    harness.wait_for(lambda: running.telemetry("/og/members").get("ogr_e1", {}).get("replied"), "the east answers")
    harness.wait_for(lambda: not running.request({"op": "status"})["suspect"], "nobody is suspect")
    for sport in range(50000, 50030):
        told, to = harness.wait_for(lambda: asked_and_seen(running, sport), "nobody is suspect meanwhile")  # noqa: B023
        assert told["pin"] == "none"
        assert told["share"] == 512
        assert told["site"] == ("east" if told["bucket"] < 512 else "west")
        if told["site"] == "east":
            assert (to, told["router"]) == (EAST, "ogr_e1")
            assert told["reason"] == "its bucket is within the share of another site"
        else:
            assert to == {"agent_w1": "5f00:1:31::", "agent_w2": "5f00:1:32::"}[told["picks"][0]]
    assert why(running, 50000)["hash"] == why(running, 50000, 0)["hash"]


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ("", "not <client address>;<client port>;<service>"),
        (",2001:db8::1", "not <client address>;<client port>;<service>"),
        (",2001:db8::zz;1;web", "client: not an IPv6 address"),
        (",2001:db8::1;65536;web", "port: not a number in 0..65535"),
        (",2001:db8::1;1x;web", "port: not a number in 0..65535"),
        (",2001:db8::1;1;mail", "service: there is none of this name or index"),
        (",2001:db8::1;1;1", "service: there is none of this name or index"),
        ("," + "x" * 500, "not <client address>;<client port>;<service>"),
    ],
)
def test_bad_questions_are_answered_by_name(running: Node, parameters: str, error: str) -> None:
    assert running.telemetry(f"/og/why{parameters}") == {"error": error}


def test_hasher_explains_its_router_and_has_no_shares(hasher: Node) -> None:
    hasher.start()
    assert why(hasher, 1) == {"error": "no tables are loaded yet"}
    assert hasher.load(tables(routers=3))["ok"]
    told = why(hasher, 40000)
    assert told["router"] in {"ogr_w1", "ogr_w2", "ogr_w3"}
    assert told["site"] == "west"
    assert set_shares(hasher, share(5)) == {"ok": False, "error": "shares: a hasher has none"}
