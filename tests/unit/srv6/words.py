# SPDX-License-Identifier: Apache-2.0
"""Routes as options of srv6_route, and the line `ip -N route show table all` has for each: the tests' oracle."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

DEVICES = ("v0", "v1")
SIDS = ("5f00:1:21::", "5f00:2:21:1::", "5f00:1:31:10:1:2:3:4")

ACTIONS: list[dict[str, Any]] = [
    {"action": "End"},
    {"action": "End", "flavors": ["psp"]},
    {"action": "End", "flavors": ["next-csid"]},
    {"action": "End", "counters": True},
    {"action": "End.X", "nh6": "fe80::1"},
    {"action": "End.X", "nh6": "2001:db8::7", "counters": True},
    {"action": "End.T", "table": 254},
    {"action": "End.T", "table": 1000},
    {"action": "End.DX6", "nh6": "::"},
    {"action": "End.DX6", "nh6": "2001:db8::7"},
    {"action": "End.DX4", "nh4": "192.0.2.7"},
    {"action": "End.DT6", "table": 255},
    {"action": "End.DT6", "table": 100000},
    {"action": "End.B6.Encaps", "segments": list(SIDS[:1])},
    {"action": "End.B6.Encaps", "segments": list(SIDS), "hmac_key_id": 9},
]
ENCAPS: list[dict[str, Any]] = [
    {"mode": mode, "segments": list(SIDS[:count]), **hmac}
    for mode in ("encap", "encap.red", "inline")
    for count in (1, 3)
    for hmac in ({}, {"hmac_key_id": 0x01020304})
]
BODIES = [{"seg6local": action} for action in ACTIONS] + [{"encap": encap} for encap in ENCAPS]
TYPES = {"local": 2, "blackhole": 6, "unreachable": 7, "prohibit": 8}  # RTN_*


def unicast(body: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"prefix": "5f00:1:31:10::/80", "device": "v0"} | body | more


def line(route: dict[str, Any], protocol: int = 83) -> str:
    """Return the line of `ip`, written from what its manual says about each word."""
    words = [str(TYPES[route["type"]])] if route.get("type", "unicast") != "unicast" else []
    words.append(route["prefix"])
    if "encap" in route:
        encap = route["encap"]
        segments = encap["segments"] + (["::"] if encap.get("mode") == "inline" else [])
        words += ["encap seg6 mode", encap.get("mode", "encap"), f"segs {len(segments)} [", *segments, "]"]
        words += [f"hmac {encap['hmac_key_id']:X}"] if encap.get("hmac_key_id") else []
    if "seg6local" in route:
        local = route["seg6local"]
        words += ["encap seg6local action", local["action"]]
        if "segments" in local:
            words += [f"segs {len(local['segments'])} [", *local["segments"], "]"]
            words += [f"hmac {local['hmac_key_id']:X}"] if local.get("hmac_key_id") else []
        words += [f"{name} {local[name]}" for name in ("table", "nh4", "nh6") if name in local]
        words += [f"flavors {','.join(local['flavors'])}"] if local.get("flavors") else []
        words += ["lblen 32 nflen 16"] if "next-csid" in local.get("flavors", []) else []  # the kernel's own lengths
    words += [f"via {route['gateway']}"] if route.get("gateway") else []
    words.append(f"dev {route.get('device', 'lo')}")
    words += [f"table {route['table']}"] if route.get("table", 254) != 254 else []
    words += [f"proto {protocol} metric {route.get('metric', 1024)} pref medium"]
    return " ".join(words)


@st.composite
def routes(draw: st.DrawFn) -> dict[str, Any]:
    """One IPv6 route: few places, so that routes meet, and every body the kernel takes."""
    place = {
        "prefix": draw(st.sampled_from(["5f00:1::/64", "5f00:1:0:0:10::/80", "2001:db8:7::/48"])),
        "table": draw(st.sampled_from([254, 1000])),
        "metric": draw(st.sampled_from([7, 1024])),
    }
    kind = draw(st.sampled_from(["unicast"] * 5 + sorted(TYPES)))
    if kind != "unicast":
        return place | {"type": kind}
    gateway = {"gateway": "fe80::77"} if draw(st.booleans()) else {}
    return place | {"device": draw(st.sampled_from(DEVICES))} | draw(st.sampled_from(BODIES)) | gateway


@st.composite
def routes_of_ipv4(draw: st.DrawFn) -> dict[str, Any]:
    """One IPv4 route into SRv6, or one of the other kinds."""
    place = {
        "prefix": draw(st.sampled_from(["198.51.100.0/24", "198.51.100.0/25"])),
        "table": draw(st.sampled_from([254, 1000])),
        "metric": draw(st.sampled_from([7, 1024])),
    }
    kind = draw(st.sampled_from(["unicast"] * 3 + sorted(TYPES)))
    if kind != "unicast":
        return place | {"type": kind}
    mode = draw(st.sampled_from(["encap", "encap.red"]))
    gateway = {"gateway": "192.0.2.7"} if draw(st.booleans()) else {}
    return place | {"device": "v0", "encap": {"mode": mode, "segments": list(SIDS[:2])}} | gateway


def place(route: dict[str, Any]) -> tuple[str, int, int]:
    """Return what the kernel tells routes apart by."""
    return route["prefix"], route["table"], route["metric"]


def mixed_sets() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Routes of both families."""
    return st.lists(st.one_of(routes(), routes_of_ipv4()), max_size=6, unique_by=place)


def route_sets() -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(routes(), max_size=6, unique_by=place)
