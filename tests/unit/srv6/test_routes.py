# SPDX-License-Identifier: Apache-2.0
"""SRv6 routes without a kernel: what is refused, what the attribute holds, and that a plan reaches its goal."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from library import srv6_route, srv6_route_info
from og.srv6 import codec
from og.srv6.__main__ import read
from og.srv6.plan import Delete, Observed, Put, Restore, apply, plan, plan_absent, say, show, undo, word
from og.srv6.route import (
    MIN_PROTOCOL,
    OWNERS,
    PROTOCOL,
    Encap,
    Local,
    Opaque,
    Route,
    RouteError,
    check,
    check_protocol,
    describe,
    parse,
)
from tests.unit.conftest import ROOT
from tests.unit.srv6.words import BODIES, SIDS, route_sets, routes, unicast

OURS, OTHERS = 83, 11


def observed(options: list[dict[str, Any]], protocol: int = OURS) -> list[Observed]:
    return [Observed(parse(item), protocol) for item in options]


# ---- what is wrong in itself


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (unicast({"seg6local": {"action": "End"}}, prefix="5f00::1/64"), "prefix: '5f00::1/64' is not a prefix"),
        (unicast({"seg6local": {"action": "End"}}, prefix="5f00::zz/64"), "prefix: '5f00::zz/64' is not a prefix"),
        (unicast({"seg6local": {"action": "End"}}, prefix=""), "prefix: '' is not a prefix"),
        (unicast({"seg6local": {"action": "End"}}, prefix="192.0.2.0/24"), "prefix: 192.0.2.0/24: a SID is IPv6"),
        (unicast({"seg6local": {"action": "End.Y"}}), "seg6local.action: 'End.Y' is not one of End, End.X"),
        (unicast({"seg6local": {"action": "End.X"}}), "seg6local.nh6: End.X needs it"),
        (unicast({"seg6local": {"action": "End.DX6", "nh6": "192.0.2.1"}}), "seg6local.nh6: '192.0.2.1' is not a uni"),
        (
            unicast({"seg6local": {"action": "End.DX4", "nh4": "5f00::1"}}),
            "seg6local.nh4: '5f00::1' is not a unicast IPv4",
        ),
        (unicast({"seg6local": {"action": "End.DX4", "nh4": "next"}}), "seg6local.nh4: 'next' is not an IPv4 address"),
        (unicast({"seg6local": {"action": "End.DX6", "nh6": "ff02::1"}}), "seg6local.nh6: 'ff02::1' is not a unicast"),
        (unicast({"seg6local": {"action": "End.T"}}), "seg6local.table: End.T needs it"),
        (unicast({"seg6local": {"action": "End.T", "table": -1}}), "seg6local.table: -1 is not a number within"),
        (unicast({"seg6local": {"action": "End.DT6"}}), "seg6local.table or vrf_table: End.DT6 needs one of them"),
        (unicast({"seg6local": {"action": "End.DT6", "table": 1, "vrf_table": 1}}), "End.DT6 needs one of them"),
        (unicast({"seg6local": {"action": "End.DT46", "table": 1}}), "seg6local.table: End.DT46 has no use for it"),
        (unicast({"seg6local": {"action": "End", "nh6": "::"}}), "seg6local.nh6: End has no use for it"),
        (unicast({"seg6local": {"action": "End.DT6", "table": 1, "flavors": ["psp"]}}), "flavors: End.DT6 has no use"),
        (unicast({"seg6local": {"action": "End", "flavors": ["usd"]}}), "flavors: 'usd' is not one of psp, next-csid"),
        (unicast({"seg6local": {"action": "End.B6.Encaps"}}), "seg6local.segments: End.B6.Encaps needs it"),
        (unicast({"seg6local": "End"}), "seg6local: not a mapping: 'End'"),
        (unicast({"encap": {"segments": []}}), "encap.segments: 1 to 16 SIDs are needed"),
        (unicast({"encap": {"segments": list(SIDS) * 6}}), "encap.segments: 1 to 16 SIDs are needed"),
        (unicast({"encap": {"segments": ["5f00::1", "fünf"]}}), "encap.segments[1]: 'fünf' is not an IPv6 address"),
        (unicast({"encap": {"segments": ["::"]}}), "encap.segments[0]: '::' cannot be a SID"),
        (unicast({"encap": {"segments": ["::1"]}}), "encap.segments[0]: '::1' cannot be a SID"),
        (unicast({"encap": {"segments": ["ff02::5"]}}), "encap.segments[0]: 'ff02::5' is not a unicast IPv6 address"),
        (unicast({"encap": {"mode": "l2encap", "segments": ["5f00::1"]}}), "encap.mode: 'l2encap' is not one of"),
        (unicast({"encap": {"segments": ["5f00::1"], "hmac_key_id": 1 << 32}}), "encap.hmac_key_id: 4294967296 is not"),
        (
            unicast({"encap": {"mode": "inline", "segments": ["5f00::1"]}}, prefix="192.0.2.0/24"),
            "encap.mode: a segment routing header cannot be inserted into IPv4",
        ),
        (unicast({"encap": {"segments": ["5f00::1"]}}, gateway="192.0.2.1"), "gateway: '192.0.2.1' is not a unicast"),
        (
            unicast({"encap": {"segments": ["5f00::1"]}}, device=""),
            "device: 5f00:1:31:10::/80 table 254 metric 1024: nee",
        ),
        (
            unicast({"encap": {"segments": ["5f00::1"]}}, device="sixteen-letters-"),
            "'sixteen-letters-' is not an inter",
        ),
        (unicast({"encap": {"segments": ["5f00::1"]}}, device="lo"), "lo makes it a reject route"),
        (unicast({"encap": {"segments": ["5f00::1"]}}, prefix="fe80::%v0/64"), "prefix: 'fe80::%v0/64' has a zone"),
        (unicast({"encap": {"segments": ["5f00::1"]}}, gateway="fe80::1%v0"), "gateway: 'fe80::1%v0' has a zone"),
        (unicast({"seg6local": {"action": "End.X", "nh6": "fe80::1%v0"}}), "seg6local.nh6: 'fe80::1%v0' has a zone"),
        (unicast({"encap": {"segments": ["5f00::1"]}}, device="a/b"), "device: 'a/b' is not an interface name"),
        (unicast({"encap": {"segments": ["5f00::1"]}}, metric=0), "metric: 0 is not a number within 1.."),
        (unicast({"encap": {"segments": ["5f00::1"]}}, table=1 << 32), "table: 4294967296 is not a number"),
        (unicast({"encap": {"segments": ["5f00::1"]}}, table=True), "table: True is not a number"),
        (unicast({"encap": {"segments": ["5f00::1"]}, "seg6local": {"action": "End"}}), "either encap or seg6local"),
        (unicast({}), "a unicast route needs either encap or seg6local"),
        (unicast({}, type="blackhole"), "device: a blackhole route has none"),
        (unicast({"encap": {"segments": ["5f00::1"]}}, type="local", device=""), "encap: a local route has none"),
        (unicast({}, type="throw"), "type: 'throw' is not one of unicast, local"),
    ],
)
def test_a_wrong_route_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RouteError) as error:
        parse(options, "routes[3]")
    assert str(error.value).startswith("routes[3]")
    assert message in str(error.value)


def test_two_routes_at_one_place_are_refused() -> None:
    route = parse(unicast({"seg6local": {"action": "End"}}))
    with pytest.raises(RouteError, match=r"5f00:1:31:10::/80 table 254 metric 1024: wanted twice"):
        check([route, parse(unicast({"encap": {"segments": ["5f00::1"]}}))])


@given(routes())
def test_a_route_is_described_in_the_words_it_was_asked_for_in(options: dict[str, Any]) -> None:
    words = describe(parse(options))
    assert parse(words) == parse(options)
    assert {name: words[name] for name in options if name not in ("encap", "seg6local")} == {
        name: value for name, value in options.items() if name not in ("encap", "seg6local")
    }


# ---- the attribute


def test_segments_are_on_the_wire_last_one_first() -> None:
    """RFC 8754 section 2: Segment List[0] is the last segment of the path; encap.red is SEG6_IPTUN_MODE_ENCAP_RED."""
    kind, payload = codec.encode(Encap("encap.red", SIDS[:2]))
    assert kind == 5
    length, attribute, mode = struct.unpack_from("=HHi", payload)
    assert (length, attribute, mode) == (len(payload), 1, 3)
    assert payload[8:16] == bytes([0, 4, 4, 1, 1, 0, 0, 0])
    assert payload[16:] == IPv6Address(SIDS[1]).packed + IPv6Address(SIDS[0]).packed


def test_an_hmac_has_its_flag_and_its_tlv() -> None:
    """RFC 8754 section 2.1.2: type 5, length 38, key id in network order, and room for 32 bytes."""
    srh = codec.encode_srh(SIDS[:1], 0x01020304, inline=True)
    assert len(srh) == 8 + 2 * 16 + 40 == 8 * (srh[1] + 1)
    assert srh[5] == 0x08
    assert srh[8:24] == bytes(16)  # inline: room for the packet's own destination
    assert srh[40:] == bytes([5, 38, 0, 0, 1, 2, 3, 4]) + bytes(32)


@pytest.mark.parametrize("options", BODIES, ids=str)
def test_every_body_comes_back(options: dict[str, Any]) -> None:
    body = parse(unicast(options)).body
    assert isinstance(body, Encap | Local)
    assert codec.decode(*codec.encode(body)) == body


@given(st.sampled_from([0, 3, 5, 7]), st.binary(max_size=120))
def test_any_payload_is_kept_as_it_is(kind: int, payload: bytes) -> None:
    body = codec.decode(kind, payload)
    if isinstance(body, Opaque):
        assert codec.encode(body) == (kind, payload)
    assert codec.counters(payload) == {} or kind  # never raises


@given(st.sampled_from(BODIES), st.data())
def test_a_damaged_payload_is_never_taken_for_another_route(options: dict[str, Any], data: st.DataObject) -> None:
    body = parse(unicast(options)).body
    assert isinstance(body, Encap | Local)
    kind, payload = codec.encode(body)
    at = data.draw(st.integers(0, len(payload) - 1))
    damaged = payload[:at] + bytes([payload[at] ^ data.draw(st.integers(1, 255))]) + payload[at + 1 :]
    found = codec.decode(kind, damaged)
    if isinstance(body, Encap) and isinstance(found, Encap):
        assert codec.encode(found) == (kind, damaged)


@pytest.mark.parametrize("next_hop", [4, 5])  # SEG6_LOCAL_NH4, SEG6_LOCAL_NH6
def test_a_next_hop_of_another_length_is_kept_as_it_is(next_hop: int) -> None:
    payload = codec.attribute(1, struct.pack("=I", 5)) + codec.attribute(next_hop, b"\xc0")
    assert codec.decode(7, payload) == Opaque(7, payload)


def test_flavors_and_tables_of_a_vrf_are_on_the_wire() -> None:
    """linux/seg6_local.h: SEG6_LOCAL_VRFTABLE is 9; SEG6_LOCAL_FLAVORS, 11, holds 1 << SEG6_LOCAL_FLV_OP_NEXT_CSID."""
    vrf = Local("End.DT6", vrf_table=100)
    assert codec.encode(vrf) == (7, struct.pack("=HHI", 8, 1, 7) + struct.pack("=HHI", 8, 9, 100))
    csid = Local("End", flavors=("next-csid",))
    flavors = struct.pack("=HH", 12, 11 | 0x8000) + struct.pack("=HHI", 8, 1, 1 << 4)
    assert codec.encode(csid) == (7, struct.pack("=HHI", 8, 1, 1) + flavors)
    for body in (vrf, csid, Local("End", flavors=("psp", "next-csid"))):
        assert codec.decode(*codec.encode(body)) == body


def test_counters_are_read() -> None:
    values = b"".join(codec.attribute(kind, struct.pack("=Q", value)) for kind, value in ((2, 5), (3, 640), (4, 1)))
    payload = codec.attribute(1, struct.pack("=I", 1)) + codec.attribute(10 | 0x8000, values)
    assert codec.counters(payload) == {"packets": 5, "bytes": 640, "errors": 1}
    assert codec.decode(7, payload) == Local("End", counters=True)


def test_the_attribute_is_bytes_whoever_has_read_routes_before() -> None:
    """pyroute2 keeps a table of attributes per class, inherited by subclasses: a process of its own starts without."""
    code = """
from pyroute2.netlink.rtnl.rtmsg import rtmsg
rtmsg()
from og.srv6 import codec, kernel
from og.srv6.route import parse
route = parse({"prefix": "5f00::/80", "device": "v0", "seg6local": {"action": "End", "counters": True}})
message = kernel._message(route, 83, {"v0": 7})
message.encode()
found = kernel._Message(message.data)
found.decode()
assert found.get_attr("RTA_ENCAP_TYPE") == bytes([7, 0])
assert codec.decode(7, found.get_attr("RTA_ENCAP")) == route.body
assert codec.counters(found.get_attr("RTA_ENCAP")) == {"packets": 0, "bytes": 0, "errors": 0}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


# ---- the plan


def test_from_nothing_and_again() -> None:
    wanted = [parse(unicast({"seg6local": {"action": "End"}})), parse({"prefix": "5f00:1::/48", "type": "blackhole"})]
    actions = plan(wanted, [], OURS)
    assert actions == [Put(wanted[0]), Put(wanted[1])]
    assert plan(wanted, apply(actions, [], OURS), OURS) == []
    assert [say(action) for action in actions][1] == "add blackhole 5f00:1::/48 table 254 metric 1024"


def test_a_change_is_one_step() -> None:
    old = observed([unicast({"seg6local": {"action": "End"}})])
    new = parse(unicast({"seg6local": {"action": "End.T", "table": 9}}))
    assert plan([new], old, OURS) == [Put(new, old[0])]
    assert say(Put(new, old[0])).startswith("replace ")


def test_others_routes_are_left_alone() -> None:
    there = observed([unicast({"seg6local": {"action": "End"}})], OTHERS)
    with pytest.raises(RouteError, match="taken by a route of protocol 11, which is not ours"):
        plan([parse(unicast({"seg6local": {"action": "End"}}))], there, OURS)
    elsewhere = parse(unicast({"seg6local": {"action": "End"}}, metric=5))
    assert plan([elsewhere], there, OURS, purge=True) == [Put(elsewhere)]
    assert plan_absent([there[0].route], there, OURS, purge=True) == []


def test_a_multipath_route_of_ours_is_replaced() -> None:
    route = parse(unicast({"seg6local": {"action": "End"}}))
    there = [Observed(Route(*route.key, body=Opaque(0, b"")), OURS, hops=2)]
    actions = plan([route], there, OURS)
    assert actions == [Put(route, there[0])]
    assert undo(actions[0]) == Restore(there[0], instead=True)


def test_surplus_routes_at_one_place_go() -> None:
    both = observed([unicast({"seg6local": {"action": "End"}}, device=device) for device in ("v0", "v1")])
    assert plan([both[1].route], both, OURS) == [Delete(both[0])]


@given(route_sets(), route_sets(), st.booleans())
def test_a_plan_reaches_its_goal(before: list[dict[str, Any]], wanted: list[dict[str, Any]], purge: bool) -> None:
    there = observed(before)
    goal = [parse(item) for item in wanted]
    after = apply(plan(goal, there, OURS, purge=purge), there, OURS)
    assert plan(goal, after, OURS, purge=purge) == []
    left = [found.route for found in after]
    assert all(left.count(route) == 1 for route in goal)
    keys = {route.key for route in goal}
    others = [found.route for found in there if found.route.key not in keys]
    assert sorted(map(str, left)) == sorted(map(str, goal + ([] if purge else others)))


@given(route_sets(), route_sets(), st.booleans())
def test_absent_reaches_its_goal(before: list[dict[str, Any]], unwanted: list[dict[str, Any]], purge: bool) -> None:
    there = observed(before)
    goal = [parse(item) for item in unwanted]
    after = apply(plan_absent(goal, there, OURS, purge=purge), there, OURS)
    keys = {route.key for route in goal}
    kept = [] if purge else [found.route for found in there if found.route.key not in keys]
    assert [found.route for found in after] == kept


@given(route_sets(), route_sets(), st.booleans())
def test_every_step_can_be_taken_back(before: list[dict[str, Any]], wanted: list[dict[str, Any]], purge: bool) -> None:
    there = observed(before)
    actions = plan([parse(item) for item in wanted], there, OURS, purge=purge)
    state = apply(actions, there, OURS)
    for action in reversed(actions):
        inverse = undo(action)
        if isinstance(inverse, Delete):  # the protocol of a route that is to go is the executor's affair
            state.remove(Observed(inverse.old.route, OURS))
        else:
            state = apply([inverse], state, OURS)
    assert show([], state, OURS) == show([], there, OURS)


def test_of_routes_that_differ_in_the_tunnel_alone_both_go() -> None:
    """IPv6 does not compare RTA_ENCAP when it deletes: which of the two goes is not known."""
    tables = (9, 10)
    twins = observed([unicast({"seg6local": {"action": "End.T", "table": table}}) for table in tables])
    other = observed([unicast({"seg6local": {"action": "End"}}, device="v1")])
    assert plan([twins[1].route], twins, OURS) == [Delete(twins[0]), Delete(twins[1]), Put(twins[1].route)]
    assert plan([other[0].route], twins + other, OURS) == [Delete(twins[0]), Delete(twins[1])]


def test_a_route_that_has_more_than_was_asked_for_is_replaced() -> None:
    route = parse(unicast({"seg6local": {"action": "End"}}))
    there = Observed(route, OURS, beyond=("metrics",))
    assert plan([route], [there], OURS) == [Put(route, there)]
    assert word(there)["beyond"] == ["metrics"]


def test_a_route_for_other_sources_is_at_a_place_of_its_own() -> None:
    route = parse(unicast({"seg6local": {"action": "End"}}))
    foreign, own = (Observed(route, of, selector="from 2001:db8::/64") for of in (OTHERS, OURS))
    assert plan([route], [foreign, own], OURS) == [Put(route)]
    assert plan_absent([route], [foreign, own], OURS) == []
    assert plan([route], [foreign, own], OURS, purge=True) == [Put(route), Delete(own)]
    assert word(own)["selector"] == "from 2001:db8::/64"


@pytest.mark.parametrize("module", [srv6_route, srv6_route_info])
def test_every_word_of_a_route_is_documented(module: Any) -> None:
    documented = set(yaml.safe_load(module.RETURN)["routes"]["contains"])
    words: set[str] = set()
    for body in (*(parse(unicast(body)).body for body in BODIES), Opaque(5, b"x")):
        route = Route("5f00::/16", device="v0", gateway="fe80::1", body=body)
        words |= set(word(Observed(route, OURS, 2, "tos 0x04", ("expires",))))
    assert words == documented - {"counted"}


# ---- whose routes they are


def test_purge_is_not_for_the_routes_of_other_programs() -> None:
    """The names are those of the kernel's own header, where it is installed."""
    for protocol in OWNERS:
        assert check_protocol(protocol, purge=False) == protocol
        with pytest.raises(RouteError, match=f"^protocol: {protocol} is that of .*, whose routes purge would remove"):
            check_protocol(protocol, purge=True)
    for protocol in (PROTOCOL, 5, 7, 255):
        assert check_protocol(protocol, purge=True) == protocol
    header = Path("/usr/include/linux/rtnetlink.h")
    if header.exists():
        assigned = {int(number) for number in re.findall(r"#define RTPROT_\w+\s+(\d+)", header.read_text())}
        assert {number for number in assigned if number >= MIN_PROTOCOL} <= set(OWNERS)


# ---- what a file may say


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"routes": [], "purge": "no"}, "purge: 'no' is neither true nor false"),
        ({"routes": [], "purge": 1}, "purge: 1 is neither true nor false"),
        ({"routes": [], "protocol": True}, "protocol: True is not a number within 5..255"),
        ({"routes": [], "protocol": 84, "purge": True}, "protocol: 84 is that of OVN, whose routes purge would remove"),
        ({"routes": [unicast({"encap": {"segments": ["5f00::1"]}}, metrik=9)]}, "routes[0].metrik: unknown"),
        ({"routes": [unicast({"encap": {"segments": ["5f00::1"], "modus": 1}})]}, "routes[0].encap.modus: unknown"),
        ({"routes": [unicast({"seg6local": {"action": "End", "x": 1}})]}, "routes[0].seg6local.x: unknown"),
        ({"routes": [unicast({"seg6local": {"action": "End", "flavors": 7}})]}, "flavors: 7 is not a list"),
        ({"routes": [unicast({"seg6local": {"action": "End", "flavors": [7]}})]}, "flavors: 7 is not one of"),
        ({"routes": [unicast({"seg6local": {"action": "End", "counters": "no"}})]}, "counters: 'no' is neither"),
    ],
)
def test_a_wrong_file_is_refused_by_name(document: dict[str, Any], message: str) -> None:
    with pytest.raises(RouteError) as error:
        read(json.dumps(document))
    assert message in str(error.value)
