# SPDX-License-Identifier: Apache-2.0
"""srv6_route and srv6_route_info against the kernel, in a namespace of their own. `ip` is the oracle."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from library import srv6_route, srv6_route_info
from tests.unit.conftest import ROOT, program, run_module
from tests.unit.srv6.words import BODIES, TYPES, line, mixed_sets, place, unicast

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="making network namespaces needs root"),
]

Run = Callable[..., dict[str, Any]]
NEEDS_VRF = [{"action": "End.DT4", "vrf_table": 100}, {"action": "End.DT46", "vrf_table": 100}]


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def kernel_routes(space: str, protocol: int = 83) -> list[str]:
    """Return what `ip` says about our routes, one line each; asked for a protocol it leaves that word out."""
    lines = ip("-n", space, "-N", "-6", "route", "show", "table", "all", "proto", str(protocol)).splitlines()
    return sorted(" ".join(item.replace(" metric ", f" proto {protocol} metric ").split()) for item in lines)


def lines(routes: list[dict[str, Any]]) -> list[str]:
    return sorted(line(route) for route in routes)


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    name = f"og-srv6-{secrets.token_hex(3)}"
    ip("netns", "add", name)
    ip("-n", name, "link", "set", "lo", "up")
    ip("-n", name, "link", "add", "v0", "type", "veth", "peer", "name", "v1")
    for device, address in (("v0", "2001:db8::1/64"), ("v1", "2001:db8:0:1::1/64")):
        ip("-n", name, "link", "set", device, "up")
        ip("-n", name, "address", "add", address, "dev", device, "nodad")
    ip("-n", name, "address", "add", "192.0.2.1/24", "dev", "v0")
    yield name
    ip("netns", "delete", name)


@pytest.fixture
def space(namespace: str) -> Iterator[str]:
    yield namespace
    for family in ("-4", "-6"):
        for protocol in ("83", "84", "static"):
            ip("-n", namespace, family, "route", "flush", "table", "all", "proto", protocol)


@pytest.fixture
def run(space: str, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*routes: dict[str, Any], module: Any = srv6_route, **options: Any) -> dict[str, Any]:
        listed = {"routes": list(routes)} if module is srv6_route and "prefix" not in options else {}
        return run_module(module.main, {"netns": space, **listed, **options}, capsys)

    return call


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_every_action_and_mode(space: str, run: Run, body: dict[str, Any]) -> None:
    """Create, no-op, change, check mode, delete: for each the kernel's own word."""
    route, other = unicast(body), unicast({"seg6local": {"action": "End.T", "table": 77}}, device="v1")
    assert run(route, _ansible_check_mode=True)["changed"] is True
    assert kernel_routes(space) == []
    created = run(route)
    assert created["actions"] == ["add 5f00:1:31:10::/80 table 254 metric 1024"]
    assert kernel_routes(space) == lines([route])
    assert created["diff"]["before"] == {"routes": []}
    assert created["diff"]["after"] == {"routes": created["routes"]}

    again = run(route)
    assert (again["changed"], again["actions"]) == (False, [])
    assert again["diff"]["before"] == again["diff"]["after"]

    assert run(other, _ansible_check_mode=True)["actions"] == ["replace 5f00:1:31:10::/80 table 254 metric 1024"]
    assert kernel_routes(space) == lines([route])
    assert run(other)["changed"] is True
    assert kernel_routes(space) == lines([other])
    assert run(route)["changed"] is True
    assert kernel_routes(space) == lines([route])

    assert run(route, state="absent", _ansible_check_mode=True)["changed"] is True
    assert kernel_routes(space) == lines([route])
    assert run(route, state="absent")["actions"] == ["delete 5f00:1:31:10::/80 table 254 metric 1024"]
    assert kernel_routes(space) == []
    assert run(route, state="absent")["changed"] is False


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_local_and_discard_routes(space: str, run: Run, kind: str) -> None:
    route = {"prefix": "5f00:1:31::/64", "type": kind, "table": 99}
    assert run(route)["changed"] is True
    assert kernel_routes(space) == lines([route])
    assert run(route)["changed"] is False
    tunnel = unicast({"seg6local": {"action": "End"}}, prefix="5f00:1:31::/64", table=99)
    assert run(tunnel)["changed"] is True
    assert kernel_routes(space) == lines([tunnel])
    assert run(route)["changed"] is True
    assert run(route, state="absent")["changed"] is True
    assert kernel_routes(space) == []


@pytest.mark.parametrize("action", NEEDS_VRF, ids=str)
def test_actions_of_a_vrf(space: str, run: Run, action: dict[str, Any]) -> None:
    """Where the kernel has VRF the route is made; where not, the module says what is missing."""
    made = subprocess.run(
        ["ip", "-n", space, "link", "add", "vrf100", "type", "vrf", "table", "100"], capture_output=True, check=False
    )
    if made.returncode == 0:
        ip("netns", "exec", space, "sysctl", "-qw", "net.vrf.strict_mode=1")
        ip("-n", space, "link", "set", "vrf100", "up")
        assert run(unicast({"seg6local": action}))["changed"] is True
        assert run(unicast({"seg6local": action}))["changed"] is False
        assert run(unicast({"seg6local": action}), state="absent")["changed"] is True
        ip("-n", space, "link", "delete", "vrf100")
        return
    answer = run(unicast({"seg6local": {"action": "End"}}, metric=5), unicast({"seg6local": action}))
    assert answer["failed"] is True
    assert f"{action['action']} needs a VRF (CONFIG_NET_VRF) bound to table 100" in answer["msg"]
    assert "nothing was changed" in answer["msg"]
    assert kernel_routes(space) == []


@pytest.mark.parametrize("options", [{}, {"gateway": "192.0.2.7"}, {"table": 1000, "metric": 7}])
def test_ipv4_into_srv6(space: str, run: Run, options: dict[str, Any]) -> None:
    route = {"prefix": "198.51.100.0/24", "device": "v0", "encap": {"segments": ["5f00:1::1"]}} | options
    assert run(route)["changed"] is True
    found = ip("-n", space, "-N", "route", "show", "table", "all", "proto", "83")
    assert "198.51.100.0/24 encap seg6 mode encap segs 1 [ 5f00:1::1 ]" in " ".join(found.split())
    assert f"metric {options.get('metric', 1024)}" in found
    assert run(route)["changed"] is False
    assert run(route | {"encap": {"mode": "encap.red", "segments": ["5f00:1::1"]}})["changed"] is True
    discard = {name: value for name, value in route.items() if name in ("prefix", "table", "metric")}
    assert run(discard | {"type": "blackhole"})["changed"] is True
    assert run(discard | {"type": "blackhole"})["changed"] is False
    assert run(route, state="absent")["changed"] is True
    assert ip("-n", space, "-N", "route", "show", "table", "all", "proto", "83") == ""


@pytest.mark.parametrize("prefix", ["203.0.113.7/32", "203.0.113.0/24"])
@pytest.mark.parametrize("table", [254, 255])
def test_a_local_route_of_ipv4(space: str, run: Run, prefix: str, table: int) -> None:
    route = {"prefix": prefix, "type": "local", "table": table}
    assert run(route)["changed"] is True
    assert ip("-n", space, "route", "get", "203.0.113.7").startswith("local 203.0.113.7 dev lo")
    assert run(route)["changed"] is False
    assert run(route | {"type": "prohibit"})["actions"] == [f"replace prohibit {prefix} table {table} metric 1024"]
    assert run(route, purge=True)["changed"] is True
    assert run(route, state="absent")["changed"] is True
    assert ip("-n", space, "-N", "route", "show", "table", "all", "proto", "83") == ""


def test_one_route_without_a_list(space: str, run: Run) -> None:
    body = {"seg6local": {"action": "End.DT6", "table": 255}}
    assert run(**unicast(body))["changed"] is True
    assert kernel_routes(space) == lines([unicast(body)])
    assert run(unicast(body))["changed"] is False
    assert "mutually exclusive" in run(unicast(body), routes=[], **unicast(body))["msg"]


def test_purge_takes_our_own_and_nothing_else(space: str, run: Run) -> None:
    ip("-n", space, "route", "add", "5f00:9::/64", "dev", "v0", "proto", "static")
    ip("-n", space, "route", "add", "5f00:8::/64", "encap", "seg6local", "action", "End", "dev", "v0", "proto", "84")
    others = (kernel_routes(space, 4), kernel_routes(space, 84))
    first = [
        unicast({"seg6local": {"action": "End"}}, metric=metric, table=table) for metric in (1, 2) for table in (254, 9)
    ]
    run(*first, {"prefix": "5f00:7::/64", "type": "blackhole"})
    # One of ours that this module would never make goes as well.
    ip("-n", space, "route", "add", "5f00:6::/64", "via", "fe80::1", "dev", "v0", "proto", "83", "mtu", "1400")
    assert len(kernel_routes(space)) == 6
    shown = run(first[0], purge=True, _ansible_check_mode=True)
    assert len(shown["actions"]) == 5
    assert len(kernel_routes(space)) == 6
    assert run(first[0], purge=True)["actions"] == shown["actions"]
    assert kernel_routes(space) == lines([first[0]])
    assert run(first[0], purge=True)["changed"] is False
    assert run(state="absent", purge=True)["changed"] is True
    assert kernel_routes(space) == []
    assert (kernel_routes(space, 4), kernel_routes(space, 84)) == others


def test_a_place_of_somebody_else_stops_everything(space: str, run: Run) -> None:
    ip("-n", space, "route", "add", "5f00:1:31:10::/80", "dev", "v0", "proto", "static", "metric", "1024")
    before = kernel_routes(space, 4)
    answer = run(unicast({"seg6local": {"action": "End"}}, metric=5), unicast({"seg6local": {"action": "End"}}))
    assert "taken by a route of protocol 4, which is not ours (83)" in answer["msg"]
    assert kernel_routes(space) == []
    assert run(unicast({"seg6local": {"action": "End"}}), state="absent")["changed"] is False
    assert kernel_routes(space, 4) == before


def test_multipath_and_doubled_routes_of_ours_are_tidied(space: str, run: Run) -> None:
    route = unicast({"seg6local": {"action": "End"}})
    hops = ["nexthop", "via", "fe80::1", "dev", "v0", "nexthop", "via", "fe80::2", "dev", "v1"]
    ip("-n", space, "-6", "route", "add", route["prefix"], "proto", "83", *hops)
    assert run(route)["actions"] == ["replace 5f00:1:31:10::/80 table 254 metric 1024"]
    assert kernel_routes(space) == lines([route])
    ip("-n", space, "-6", "route", "append", route["prefix"], "dev", "v1", "proto", "83", "metric", "1024")
    assert len(kernel_routes(space)) == 2
    assert run(route)["changed"] is True
    assert kernel_routes(space) == lines([route])
    ip("-n", space, "-6", "route", "del", route["prefix"])
    ip("-n", space, "-6", "route", "add", route["prefix"], "proto", "83", *hops)
    assert run(route, state="absent")["changed"] is True
    assert kernel_routes(space) == []


def test_of_routes_that_differ_in_the_tunnel_alone_the_right_one_stays(space: str, run: Run) -> None:
    """The kernel does not look at the tunnel when it deletes: asked for one it may take the other."""
    bodies: list[dict[str, Any]] = [{"seg6local": {"action": "End.T", "table": table}} for table in (1000, 254)]
    for wanted in bodies:
        for command, table in (("add", "1000"), ("append", "254")):
            encap = ["encap", "seg6local", "action", "End.T", "table", table, "dev", "v0"]
            ip("-n", space, "-6", "route", command, "5f00:1:31:10::/80", *encap, "proto", "83", "metric", "1024")
        assert len(kernel_routes(space)) == 2
        assert run(unicast(wanted))["changed"] is True
        assert kernel_routes(space) == lines([unicast(wanted)])
        assert run(unicast(wanted))["changed"] is False
        assert run(unicast(wanted), state="absent")["changed"] is True


def in_order(space: str) -> list[str]:
    """Return our routes as `ip` shows them, in the order of the kernel: of two at a place the first forwards."""
    return ip("-n", space, "-6", "route", "show", "table", "all", "proto", "83").splitlines()


REFUSED = unicast({"seg6local": {"action": "End.X", "nh6": "fe80::1", "flavors": ["psp"]}}, prefix="5f00:4::/64")
PLACE = ["5f00:1:31:10::/80", "proto", "83", "metric", "1024"]


def test_routes_that_differ_in_the_tunnel_alone_come_back_in_their_order(space: str, run: Run) -> None:
    for command, table in (("add", "1000"), ("append", "254")):
        ip(
            "-n",
            space,
            "-6",
            "route",
            command,
            *PLACE,
            "encap",
            "seg6local",
            "action",
            "End.T",
            "table",
            table,
            "dev",
            "v0",
        )
    stood = in_order(space)
    for routes in ([REFUSED], [unicast({"seg6local": {"action": "End.T", "table": 254}}), REFUSED]):
        answer = run(*routes, purge=True)
        if "failed" not in answer:
            pytest.skip("this kernel takes End.X with psp: nothing to refuse")
        assert answer["not_taken_back"] == []
        assert in_order(space) == stood


@pytest.mark.parametrize("options", [{}, {"state": "absent"}])
def test_a_route_without_a_gateway_does_not_take_one_with_it(space: str, run: Run, options: dict[str, Any]) -> None:
    """IPv6 compares the gateway only where one is given: the second of these, deleted, is the first one."""
    tunnel = ["encap", "seg6local", "action", "End.T", "table"]
    ip("-n", space, "-6", "route", "add", *PLACE, *tunnel, "254", "via", "fe80::9", "dev", "v0")
    ip("-n", space, "-6", "route", "append", *PLACE, *tunnel, "1000", "dev", "v0")
    wanted = unicast({"seg6local": {"action": "End.T", "table": 254}}, gateway="fe80::9")
    assert run(wanted, **options)["changed"] is True
    assert kernel_routes(space) == ([] if options else lines([wanted]))


def test_a_next_hop_whose_link_is_down_comes_back(space: str, run: Run) -> None:
    ip("-n", space, "link", "add", "w0", "type", "veth", "peer", "name", "w1")
    try:
        for device in ("w0", "w1"):
            ip("-n", space, "link", "set", device, "up")
        ip("-n", space, "address", "add", "203.0.113.1/24", "dev", "w0")
        hops = ["nexthop", "via", "203.0.113.7", "dev", "w0", "nexthop", "via", "192.0.2.7", "dev", "v0"]
        ip("-n", space, "route", "add", "198.51.100.0/24", "proto", "83", "metric", "1024", *hops)
        ip("-n", space, "link", "set", "w1", "down")
        stood = shown(space)
        assert "linkdown" in "".join(stood)
        answer = run({"prefix": "198.51.100.0/24", "device": "v0", "encap": {"segments": ["5f00:5::1"]}}, REFUSED)
        if "failed" not in answer:
            pytest.skip("this kernel takes End.X with psp: nothing to refuse")
        assert answer["not_taken_back"] == []
        assert shown(space) == stood
    finally:
        ip("-n", space, "link", "delete", "w0")


MORE: list[list[str]] = [
    ["5f00:2::/64", "dev", "v0", "mtu", "1400"],
    ["5f00:2::/64", "dev", "v0", "expires", "300"],
    ["5f00:2::/64", "dev", "v0", "pref", "high"],
    ["5f00:2::/64", "via", "fe80::9", "dev", "v0", "onlink"],
    ["5f00:2::/64", "dev", "v0", "src", "2001:db8::1"],
    ["5f00:2::/64", "nhid", "7"],
    ["5f00:2::/64", "nexthop", "via", "fe80::1", "dev", "v0", "nexthop", "via", "fe80::2", "dev", "v1", "weight", "3"],
    ["5f00:2::/64", "encap", "seg6", "mode", "l2encap", "segs", "5f00::1", "dev", "v0"],
    ["198.51.100.0/24", "dev", "v0", "mtu", "1400"],
    ["198.51.100.0/24", "dev", "v0", "src", "192.0.2.1"],
    ["198.51.100.0/24", "nexthop", "via", "192.0.2.7", "dev", "v0", "nexthop", "via", "192.0.2.8", "dev", "v0"],
    ["198.51.100.0/24", "via", "inet6", "fe80::9", "dev", "v0"],
]


def shown(space: str) -> list[str]:
    """Return our routes of both families as `ip` shows them, without the time they have left."""
    text = "".join(ip("-n", space, family, "route", "show", "table", "all", "proto", "83") for family in ("-4", "-6"))
    return sorted(re.sub(r"expires \d+sec", "expires", line).strip() for line in text.splitlines())


@pytest.fixture
def nexthop(space: str) -> Iterator[None]:
    ip("-n", space, "-6", "nexthop", "add", "id", "7", "via", "fe80::7", "dev", "v0")
    yield
    ip("-n", space, "-6", "nexthop", "delete", "id", "7")


@pytest.mark.usefixtures("nexthop")
@pytest.mark.parametrize("words", MORE, ids=" ".join)
def test_what_the_module_has_no_word_for_comes_back_too(space: str, run: Run, words: list[str]) -> None:
    """One of ours that somebody made by hand: replaced, or taken away and put back, with all it has."""
    made = ["-n", space, "route", "add", words[0], "proto", "83", "metric", "1024", *words[1:]]
    ip(*made)
    stood = shown(space)
    encap = {"device": "v0", "encap": {"segments": ["5f00:5::1"]}}
    route = encap | {"prefix": words[0]}
    for routes in ([route, REFUSED], [{"prefix": "5f00:7::/64", "type": "blackhole"}, REFUSED]):
        answer = run(*routes, purge=True)
        if "failed" not in answer:
            pytest.skip("this kernel takes End.X with psp: nothing to refuse")
        assert shown(space) == stood
        assert answer["not_taken_back"] == []
    assert run(route)["changed"] is True
    assert len(shown(space)) == 1
    assert run(route)["changed"] is False
    assert run(route, state="absent")["changed"] is True
    ip(*made)
    assert run(state="absent", purge=True)["changed"] is True
    assert shown(space) == []


def test_a_route_for_other_sources_is_not_at_the_same_place(space: str, run: Run) -> None:
    for protocol in ("83", "static"):
        source = f"2001:db8:{protocol[:1].replace('s', '5')}::/64"
        there = ["5f00:1:31:10::/80", "from", source, "dev", "v0", "proto", protocol, "metric", "1024"]
        ip("-n", space, "-6", "route", "add", *there)
    stood = shown(space)
    route = unicast({"seg6local": {"action": "End"}})
    assert run(route)["changed"] is True
    assert run(route)["changed"] is False
    assert run(route, state="absent")["changed"] is True
    assert shown(space) == stood
    run(route)
    assert run(route, purge=True)["changed"] is True
    assert kernel_routes(space) == lines([route])
    assert len(kernel_routes(space, 4)) == 1


def test_routes_that_change_while_they_are_read_are_read_again(
    space: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyroute2 0.9 hands on the mark of an interrupted dump (NLM_F_DUMP_INTR), 0.7 raises an exception."""
    module = sys.modules["ansible.module_utils.og_srv6.kernel"]
    request, left = vars(module)["_request"], [3]

    def interrupted(netlink: Any, message: Any, kind: int, flags: int) -> list[Any]:
        answers: list[Any] = request(netlink, message, kind, flags)
        if flags & 0x300 and left[0]:
            left[0] -= 1
            if left[0] == 1:
                raise vars(module)["NetlinkDumpInterrupted"]
            answers[0]["header"]["flags"] |= 0x10
        return answers

    monkeypatch.setattr(module, "_request", interrupted)
    route = unicast({"seg6local": {"action": "End"}})
    assert run(route)["changed"] is True
    assert left == [0]
    left[0] = 99
    assert "change too fast to be read; nothing was changed" in run(route, state="absent")["msg"]
    assert kernel_routes(space) == lines([route])


@pytest.mark.parametrize("module", [srv6_route, srv6_route_info])
def test_a_kernel_that_cannot_be_read_is_one_clear_message(
    run: Run, monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    kernel = sys.modules["ansible.module_utils.og_srv6.kernel"]

    def refuse(*_: Any) -> list[Any]:
        raise OSError(errno.ENOBUFS, "no")

    monkeypatch.setattr(kernel, "_request", refuse)
    answer = run(module=module)
    assert answer["failed"] is True
    changes = "; nothing was changed" if module is srv6_route else ""
    assert answer["msg"] == f"the kernel's routes cannot be read: No buffer space available{changes}"
    assert answer["errno"] == errno.ENOBUFS


def test_what_was_done_before_a_refusal_is_taken_back(space: str, run: Run) -> None:
    """The kernel refuses the last of four steps (End.X has no psp): an add, a change and a deletion come back."""
    before = [
        unicast({"encap": {"segments": ["5f00:5::1"], "hmac_key_id": 5}}, prefix="5f00:2::/64"),
        unicast({"seg6local": {"action": "End.B6.Encaps", "segments": ["5f00:5::1"]}}, prefix="5f00:3::/64"),
    ]
    run(*before)
    ip("-n", space, "-6", "route", "append", "5f00:2::/64", "dev", "v1", "proto", "83", "metric", "1024")
    stood = kernel_routes(space)
    answer = run(
        unicast({"seg6local": {"action": "End"}}, prefix="5f00:1::/64"),
        before[0],
        {"prefix": "5f00:3::/64", "type": "blackhole"},
        unicast({"seg6local": {"action": "End.X", "nh6": "fe80::1", "flavors": ["psp"]}}, prefix="5f00:4::/64"),
    )
    if "failed" not in answer:
        pytest.skip("this kernel takes End.X with psp: nothing to refuse")
    assert answer["msg"].startswith("add 5f00:4::/64 table 254 metric 1024: ")
    assert "nothing was changed" in answer["msg"]
    assert answer["not_taken_back"] == []
    assert kernel_routes(space) == stood


@pytest.mark.parametrize(
    ("routes", "options", "message"),
    [
        (
            [unicast({"encap": {"segments": ["5f00::zz"]}})],
            {},
            "routes[1].encap.segments[0]: '5f00::zz' is not an IPv6",
        ),
        ([unicast({"seg6local": {"action": "End.Q"}})], {}, "value of action must be one of: End, End.X"),
        (
            [unicast({"seg6local": {"action": "End"}}, device="none0", metric=9)],
            {},
            "no such device: none0; nothing was changed",
        ),
        ([], {"protocol": 4}, "protocol: 4 is not a number within 5..255"),
        ([], {"protocol": 186, "purge": True}, "protocol: 186 is that of BGP, whose routes purge would remove"),
        ([], {"netns": "../etc"}, "netns: '../etc' is not the name of a network namespace"),
        ([], {"netns": "og-none"}, "network namespace og-none: No such file or directory"),
    ],
)
def test_wrong_input_changes_nothing(
    space: str, run: Run, routes: list[dict[str, Any]], options: dict[str, Any], message: str
) -> None:
    answer = run(unicast({"seg6local": {"action": "End"}}), *routes, **options)
    assert answer["failed"] is True
    assert message in answer["msg"]
    assert "Traceback" not in answer["msg"]
    assert kernel_routes(space) == []


@pytest.mark.parametrize("option", [{"table": 100}, {"metric": 7}, {"type": "blackhole"}])
def test_options_of_a_single_route_do_not_go_with_a_list(space: str, run: Run, option: dict[str, Any]) -> None:
    answer = run(unicast({"seg6local": {"action": "End"}}), **option)
    assert answer["failed"] is True
    assert f"parameters are mutually exclusive: routes|{next(iter(option))}" in answer["msg"]
    assert kernel_routes(space) == []


def test_without_permission_one_clear_message(space: str) -> None:
    """The module as a program, inside the namespace, with CAP_NET_ADMIN taken away."""
    command = ["ip", "netns", "exec", space, "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    module = program("srv6_route", unicast({"seg6local": {"action": "End"}}))
    done = subprocess.run([*command, *module], capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    assert done.returncode == 1
    assert answer["msg"] == (
        "add 5f00:1:31:10::/80 table 254 metric 1024: Operation not permitted; CAP_NET_ADMIN is needed; "
        "nothing was changed"
    )
    assert kernel_routes(space) == []


def test_a_kernel_that_disagrees_is_noticed(space: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody takes the route away between the step and the second look."""
    kernel = sys.modules["ansible.module_utils.og_srv6.kernel"]
    execute: Callable[..., None] = vars(kernel)["execute"]

    def and_somebody(*arguments: Any) -> None:
        execute(*arguments)
        ip("-n", space, "-6", "route", "del", "5f00:1:31:10::/80")

    monkeypatch.setattr(kernel, "execute", and_somebody)
    answer = run(unicast({"seg6local": {"action": "End"}}))
    assert answer["failed"] is True
    assert (
        "every step was done, but the kernel's routes differ from the plan. Missing: [{'prefix': '5f" in answer["msg"]
    )
    assert answer["changed"] is True
    assert answer["actions"] == ["add 5f00:1:31:10::/80 table 254 metric 1024"]


def test_a_result_that_cannot_be_read_is_not_called_nothing(
    space: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = sys.modules["ansible.module_utils.og_srv6.kernel"]
    execute: Callable[..., None] = vars(kernel)["execute"]

    def blind(*_: Any) -> list[Any]:
        raise OSError(errno.ENOBUFS, "no")

    def and_no_more(*arguments: Any) -> None:
        execute(*arguments)
        monkeypatch.setattr(kernel, "_request", blind)

    monkeypatch.setattr(kernel, "execute", and_no_more)
    route = unicast({"seg6local": {"action": "End"}})
    answer = run(route)
    assert answer["msg"] == "every step was done, but the kernel's routes cannot be read: No buffer space available"
    assert (answer["changed"], len(answer["actions"])) == (True, 1)
    assert kernel_routes(space) == lines([route])


def test_info_reads_what_is_there(space: str, run: Run) -> None:
    ours = [unicast({"seg6local": {"action": "End", "counters": True}}), {"prefix": "5f00:7::/64", "type": "blackhole"}]
    run(*ours)
    ip(
        "-n",
        space,
        "route",
        "add",
        "5f00:8::/64",
        "encap",
        "seg6",
        "mode",
        "encap",
        "segs",
        "5f00::1",
        "dev",
        "v0",
        "proto",
        "84",
    )
    ip(
        "-n",
        space,
        "route",
        "add",
        "5f00:6::/64",
        "encap",
        "seg6",
        "mode",
        "l2encap",
        "segs",
        "5f00::1",
        "dev",
        "v0",
        "proto",
        "84",
    )

    def prefixes(**options: Any) -> list[str]:
        return [route["prefix"] for route in run(module=srv6_route_info, **options)["routes"]]

    assert prefixes() == ["5f00:1:31:10::/80", "5f00:6::/64", "5f00:8::/64"]
    assert prefixes(protocol=83) == ["5f00:1:31:10::/80", "5f00:7::/64"]
    assert prefixes(table=9) == []
    first, second, third = run(module=srv6_route_info)["routes"]
    assert first["counted"] == {"packets": 0, "bytes": 0, "errors": 0}
    assert first["seg6local"] == {"action": "End", "counters": True}
    assert second["other"].startswith("lwtunnel 5 ")
    assert third["encap"] == {"mode": "encap", "segments": ["5f00::1"]}
    # What info says can be asked for again.
    assert (
        run({name: value for name, value in first.items() if name not in ("protocol", "counted")})["changed"] is False
    )
    assert "og-none" in run(module=srv6_route_info, netns="og-none")["msg"]


def og_srv6(space: str, what: str, document: Any, file: Path) -> tuple[int, str, str]:
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    command = ["ip", "netns", "exec", space, sys.executable, "-m", "og.srv6", what, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return done.returncode, done.stdout, done.stderr


def test_the_program_for_boot_does_the_same(space: str, run: Run, tmp_path: Path) -> None:
    routes = [unicast({"seg6local": {"action": "End"}}), {"prefix": "5f00:7::/64", "type": "blackhole"}]
    document = {"purge": True, "routes": routes}
    code, output, _ = og_srv6(space, "check", document, tmp_path / "routes.json")
    assert (code, output.splitlines()[0]) == (1, "add 5f00:1:31:10::/80 table 254 metric 1024")
    assert kernel_routes(space) == []
    assert og_srv6(space, "apply", document, tmp_path / "routes.json")[0] == 0
    assert kernel_routes(space) == lines(routes)
    assert og_srv6(space, "check", document, tmp_path / "routes.json")[:2] == (0, "")
    assert run(*routes, purge=True)["changed"] is False
    assert og_srv6(space, "apply", {"purge": True, "routes": []}, tmp_path / "routes.json")[0] == 0
    assert kernel_routes(space) == []


@pytest.mark.parametrize(
    ("document", "code", "message"),
    [
        ("{", 2, "routes.json: not JSON: "),
        ([], 2, "routes.json: routes: missing, or not a list"),
        ({"routes": [7]}, 2, "routes.json: routes[0]: not an object"),
        ({"routes": [], "table": 7}, 2, "routes.json: table: unknown"),
        ({"routes": [], "protocol": 2}, 2, "routes.json: protocol: 2 is not a number within 5..255"),
        ({"routes": [], "protocol": 11, "purge": True}, 2, "routes.json: protocol: 11 is that of Zebra, whose routes"),
        (
            {"routes": [unicast({"seg6local": {"action": "End.Z"}})]},
            2,
            "routes[0].seg6local.action: 'End.Z' is not",
        ),
        ({"routes": [unicast({"seg6local": {"action": "End"}}, device="none0")]}, 1, "no such device: none0"),
        (
            {"routes": [unicast({"seg6local": {"action": "End.X", "nh6": "fe80::1", "flavors": ["psp"]}})]},
            1,
            "og-srv6: add 5f00:1:31:10::/80 table 254 metric 1024: ",
        ),
    ],
)
def test_the_program_for_boot_says_what_is_wrong(
    space: str, tmp_path: Path, document: Any, code: int, message: str
) -> None:
    found, _, errors = og_srv6(space, "apply", document, tmp_path / "routes.json")
    if code == 1 and found == 0:
        pytest.skip("this kernel takes End.X with psp: nothing to refuse")
    assert found == code
    assert message in errors
    assert "Traceback" not in errors
    assert kernel_routes(space) == []


steps = st.lists(
    st.tuples(mixed_sets(), st.sampled_from(["present", "absent"]), st.booleans(), st.booleans()),
    min_size=1,
    max_size=4,
)
foreign_places = st.sets(
    st.tuples(
        st.sampled_from(["5f00:1::/64", "5f00:9::/64", "198.51.100.0/24", "198.51.100.0/26"]),
        st.sampled_from([254, 1000]),
        st.sampled_from([7, 9, 1024]),
    ),
    max_size=2,
)


def asked_for(there: dict[Any, Any], routes: list[dict[str, Any]], state: str, *, purge: bool) -> dict[Any, Any]:
    """Return what the documentation says must be there after one call."""
    named = {place(route): route for route in routes}
    if purge:
        return named if state == "present" else {}
    if state == "present":
        return there | named
    return {at: route for at, route in there.items() if at not in named}


def routes_of_ipv4(space: str) -> list[tuple[Any, ...]]:
    """Return what `ip` says about our IPv4 routes."""
    found = json.loads(ip("-n", space, "-4", "-j", "-N", "-d", "route", "show", "table", "all", "proto", "83") or "[]")
    words = ("dst", "table", "metric", "type", "mode", "segs", "gateway")
    return sorted(tuple(str(route.get(word, "")) for word in words) for route in found)


def words_of_ipv4(route: dict[str, Any]) -> tuple[Any, ...]:
    encap = route.get("encap", {})
    kind = TYPES.get(route.get("type", "unicast"), 1)
    words = (*place(route), kind, encap.get("mode", ""), encap.get("segments", ""), route.get("gateway", ""))
    return tuple(map(str, words))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps, foreign_places)
def test_any_sequence_ends_in_the_state_asked_for(space: str, run: Run, sequence: list[Any], foreign: set[Any]) -> None:
    """Routes of both families, beside those of somebody else, which stay and whose places are refused."""
    run(state="absent", purge=True)
    for prefix, table, metric in foreign:
        where = ["table", str(table), "metric", str(metric)]
        ip("-n", space, "route", "add", prefix, "dev", "v0", "proto", "static", *where)
    try:
        others = [ip("-n", space, family, "route", "show", "table", "all", "proto", "4") for family in ("-4", "-6")]
        there: dict[Any, Any] = {}
        for routes, state, purge, check_mode in sequence:
            answer = run(*routes, state=state, purge=purge, _ansible_check_mode=check_mode)
            if state == "present" and foreign & set(map(place, routes)):
                assert "taken by a route of protocol 4" in answer["msg"]
            else:
                assert "failed" not in answer, answer["msg"]
                goal = asked_for(there, routes, state, purge=purge)
                assert answer["changed"] is (goal != there)
                there = there if check_mode else goal
            six, four = ([route for at, route in there.items() if (":" in at[0]) is six] for six in (True, False))
            assert kernel_routes(space) == lines(six)
            assert routes_of_ipv4(space) == sorted(map(words_of_ipv4, four))
        assert others == [
            ip("-n", space, family, "route", "show", "table", "all", "proto", "4") for family in ("-4", "-6")
        ]
    finally:
        for family in ("-4", "-6"):
            ip("-n", space, family, "route", "flush", "table", "all", "proto", "static")
