# SPDX-License-Identifier: Apache-2.0
"""veth_link against the kernel: real namespaces, real cables."""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import og_netns
from ansible.module_utils.og_setns import inside
from ansible.module_utils.og_veth import Configure
from pyroute2.ethtool.ioctl import NoSuchDevice
from pyroute2.netlink.exceptions import NetlinkError

from library import veth_link
from tests.unit.conftest import program, run_module

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="making network namespaces needs root"),
]

Run = Callable[..., dict[str, Any]]


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def sysctl(space: str, name: str, value: int) -> None:
    ip("netns", "exec", space, "sysctl", "--quiet", "--write", f"net.ipv6.conf.{name}={value}")


def state_of(spaces: tuple[str, ...]) -> list[Any]:
    """Return what there is in namespaces: interfaces by index, with addresses, settings and offloads."""
    state = []
    for space in spaces:
        links = json.loads(ip("-n", space, "-j", "-d", "address"))
        for link in links:
            # Whether there is a carrier is known some time after an end went up or down.
            del link["operstate"]
            link["flags"] = set(link["flags"]) - {"NO-CARRIER", "LOWER_UP", "M-DOWN"}
        names = [link["ifname"] for link in links if link["ifname"] != "lo"]
        state.append((links, {name: ip("netns", "exec", space, "ethtool", "-k", name) for name in names}))
    return state


def reaches(space: str, address: str) -> bool:
    """Tell whether a TCP segment comes back: a closed port refuses, which takes a valid checksum both ways."""
    with Path("/run/netns", space).open() as name, inside(name.fileno()), socket.socket(socket.AF_INET6) as client:
        client.settimeout(10)
        return client.connect_ex((address, 9)) == errno.ECONNREFUSED


@pytest.fixture
def spaces() -> Iterator[tuple[str, str, str]]:
    names = [f"og-veth-{secrets.token_hex(3)}-{letter}" for letter in "abc"]
    for name in names:
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
        # No link-local addresses of the kernel's own: they come in their own time.
        sysctl(name, "default.addr_gen_mode", 1)
    yield names[0], names[1], names[2]
    for name in names:
        ip("netns", "delete", name)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(links: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
        return run_module(veth_link.main, {"links": links, **options}, capsys)

    return call


def cable(left: str, right: str, **options: Any) -> dict[str, Any]:
    return {
        "a": {"netns": left, "name": "to-right", "addresses": ["2001:db8:0:0::1/64"]},
        "b": {"netns": right, "name": "fab0", "addresses": ["2001:db8::2/64"]},
        "mtu": 2000,
    } | options


def link_of(space: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ip("-n", space, "-j", "-d", "link", "show", name))[0]
    return found


def test_a_cable_carries_packets_at_once(spaces: tuple[str, str, str], run: Run) -> None:
    left, right, _ = spaces
    answer = run([cable(left, right)])
    assert answer["changed"] is True
    for space, name in ((left, "to-right"), (right, "fab0")):
        assert link_of(space, name)["mtu"] == 2000
        assert link_of(space, name)["operstate"] == "UP"
    assert reaches(left, "2001:db8::2")


def test_offloads_are_off(spaces: tuple[str, str, str], run: Run) -> None:
    left, right, _ = spaces
    run([cable(left, right)])
    for space, name in ((left, "to-right"), (right, "fab0")):
        features = ip("netns", "exec", space, "ethtool", "-k", name)
        for feature in ("tx-checksumming", "tcp-segmentation-offload", "generic-segmentation", "generic-receive"):
            lines = [line for line in features.splitlines() if line.startswith(feature)]
            assert [line.split(": ")[1].split()[0] for line in lines] == ["off"], lines


def test_offloads_stay_where_wanted(spaces: tuple[str, str, str], run: Run) -> None:
    left, right, _ = spaces
    run([cable(left, right, offloads=True)])
    assert "tx-checksumming: on" in ip("netns", "exec", right, "ethtool", "-k", "fab0")


def test_second_run_changes_nothing(spaces: tuple[str, str, str], run: Run) -> None:
    left, right, other = spaces
    links = [cable(left, right), {"a": {"netns": left, "name": "x"}, "b": {"netns": other, "name": "y"}}]
    assert run(links)["changed"] is True
    answer = run(links)
    assert answer["changed"] is False
    assert answer["actions"] == []
    assert answer["diff"]["before"] == answer["diff"]["after"]


def test_check_mode_tells_and_touches_nothing(spaces: tuple[str, str, str], run: Run) -> None:
    left, right, _ = spaces
    answer = run([cable(left, right)], _ansible_check_mode=True)
    assert answer["changed"] is True
    assert answer["actions"][0] == f"create netns:{left}:to-right -- netns:{right}:fab0"
    assert answer["diff"]["before"] == {f"netns:{left}:to-right": "absent", f"netns:{right}:fab0": "absent"}
    assert "to-right" not in ip("-n", left, "-br", "link")
    done = run([cable(left, right)])
    assert done["actions"] == answer["actions"]


def test_what_was_damaged_is_repaired(spaces: tuple[str, str, str], run: Run) -> None:
    left, right, _ = spaces
    run([cable(left, right)])
    ip("-n", right, "link", "set", "fab0", "mtu", "1500", "down")
    ip("netns", "exec", right, "ethtool", "-K", "fab0", "tx", "on")
    answer = run([cable(left, right)])
    assert answer["actions"] == [f"set netns:{right}:fab0 mtu 2000, up, tx off, address 2001:db8::2/64"]
    assert reaches(left, "2001:db8::2")
    assert run([cable(left, right)])["changed"] is False


def test_a_lost_namespace_gets_its_cable_back(spaces: tuple[str, str, str], run: Run) -> None:
    left, right, _ = spaces
    run([cable(left, right)])
    ip("netns", "delete", right)
    ip("netns", "add", right)
    # The kernel takes a namespace down in its own time: the old end may be there or not.
    assert f"create netns:{left}:to-right -- netns:{right}:fab0" in run([cable(left, right)])["actions"]
    assert reaches(left, "2001:db8::2")


def test_a_cable_to_the_wrong_place_is_moved(spaces: tuple[str, str, str], run: Run) -> None:
    left, right, other = spaces
    run([cable(left, other)])
    answer = run([cable(left, right)])
    assert answer["actions"][0] == f"delete netns:{left}:to-right"
    assert "fab0" not in ip("-n", other, "-br", "link")
    assert run([cable(left, right)])["changed"] is False


def test_a_loop_inside_one_namespace(spaces: tuple[str, str, str], run: Run) -> None:
    left, _, _ = spaces
    links = [{"a": {"netns": left, "name": "p0"}, "b": {"netns": left, "name": "p1"}}]
    assert run(links)["changed"] is True
    assert run(links)["changed"] is False


def test_absent(spaces: tuple[str, str, str], run: Run) -> None:
    left, right, _ = spaces
    run([cable(left, right)])
    assert run([cable(left, right)], state="absent", _ansible_check_mode=True)["changed"] is True
    assert run([cable(left, right)], state="absent")["actions"] == [f"delete netns:{left}:to-right"]
    assert "fab0" not in ip("-n", right, "-br", "link")
    assert run([cable(left, right)], state="absent")["changed"] is False
    assert run([cable(left, "og-veth-none")], state="absent")["changed"] is False


def test_another_device_of_that_name_stops_everything(spaces: tuple[str, str, str], run: Run) -> None:
    left, right, other = spaces
    ip("-n", right, "link", "add", "fab0", "type", "bridge")
    first = {"a": {"netns": left, "name": "x"}, "b": {"netns": other, "name": "y"}}
    answer = run([first, cable(left, right)])
    assert answer["failed"] is True
    assert f"netns:{right}:fab0 exists and is no veth but bridge" in answer["msg"]
    assert "y" not in ip("-n", other, "-br", "link").split()


def test_without_permission_one_clear_message(spaces: tuple[str, str, str]) -> None:
    """The module as a program that may enter namespaces and change nothing in them."""
    left, right, _ = spaces
    command = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    module = program("veth_link", {"links": [cable(left, right)]})
    done = subprocess.run([*command, *module], capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    assert done.returncode == 1
    assert f"create netns:{left}:to-right -- netns:{right}:fab0: " in answer["msg"]
    assert "Operation not permitted" in answer["msg"]
    assert "to-right" not in ip("-n", left, "-br", "link")
    assert "fab0" not in ip("-n", right, "-br", "link")


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("mtu", 100, "links[1].mtu: mtu 100 is not within 1280..65535"),
        ("netns", "", "links[1].b.netns: '' is not the name of a network namespace"),
        ("netns", "../own", "links[1].b.netns: '../own' is not the name of a network namespace"),
        ("netns", "n" * 300, "is not the name of a network namespace"),
        ("container", "", "links[1].b.container: '' is not the name of a container"),
        ("container", "host", "links[1].b.container: 'host' is not the name of a container"),
        ("container", "netns:own", "links[1].b.container: 'netns:own' is not the name of a container"),
        ("container", "--help", "links[1].b.container: '--help' is not the name of a container"),
        *(
            ("name", name, f"links[1].b.name: {name!r} is not an interface name: ")
            for name in (
                *("", ".", "..", "lo", "all", "default", "eth0:1", "fab%d", "50%", "a/b", "-fab", "sixteen-letters-"),
                *("a b", " a", "a\tb", "a\u00a0b", "a\nb", "a\0b", "a\x1b[0m", "\u00e9" * 8, "\ud800"),
            )
        ),
        *(
            ("addresses", ["2001:db8::9/64", address], f"links[1].b.addresses[1]: {address!r} {wrong}")
            for address, wrong in (
                ("2001:db8::zz/64", "is not an IPv6 address"),
                ("2001:db8::1/129", "is not an IPv6 address"),
                ("192.0.2.1/24", "is not an IPv6 address"),
                ("", "is not an IPv6 address"),
                ("2001:db8::1", "has no prefix length"),
                ("ff02::1/64", "is multicast"),
                ("::/64", "is unspecified"),
                ("::1/128", "is loopback"),
                ("fe80::1%eth0/64", "has a zone"),
                ("2001:db8:0::9/64", "is in the list already"),
                ("2001:db8::9/48", "is in the list already"),
            )
        ),
    ],
)
def test_bad_input_in_the_second_link_leaves_the_first_alone(
    spaces: tuple[str, str, str], run: Run, *, option: str, value: object, message: str, check_mode: bool
) -> None:
    left, right, other = spaces
    run([cable(left, right)])
    ip("-n", right, "link", "set", "fab0", "mtu", "1400")  # a run would mend this
    bad: dict[str, Any] = {"a": {"netns": left, "name": "x"}, "b": {"netns": other, "name": "y"}}
    if option == "container":
        del bad["b"]["netns"]
    (bad if option == "mtu" else bad["b"])[option] = value
    before = state_of(spaces)
    answer = run([cable(left, right), bad], _ansible_check_mode=check_mode)
    assert answer["failed"] is True
    assert message in answer["msg"]
    assert state_of(spaces) == before


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": {"netns": "n", "container": "c", "name": "fab0"}}, "mutually exclusive"),
        ({"b": {"netns": "n", "name": None}}, "links[1].b.name"),
        ({"b": {"netns": "n", "name": "y", "addresses": None}}, "addresses"),
        ({"b": None}, "argument 'b'"),
        ({"mtu": None}, "mtu"),
        ({"b": {"netns": "n", "name": "y", "addresses": ["fe80::1/64"], "mac": "x"}}, "links.b.mac"),
    ],
)
def test_input_of_another_form_changes_nothing(
    spaces: tuple[str, str, str], run: Run, change: dict[str, Any], message: str, check_mode: bool
) -> None:
    left, right, other = spaces
    bad = {"a": {"netns": left, "name": "x"}, "b": {"netns": other, "name": "y"}} | change
    before = state_of(spaces)
    answer = run([cable(left, right), bad], _ansible_check_mode=check_mode)
    assert answer["failed"] is True
    assert message in answer["msg"]
    assert state_of(spaces) == before


def test_unusual_names_and_addresses_that_the_kernel_takes(spaces: tuple[str, str, str], run: Run) -> None:
    """What is not refused is made, under the very name, and found again."""
    left, right, _ = spaces
    links = [
        {
            "a": {"netns": left, "name": "\u00e9" * 7 + "x", "addresses": ["fe80::1/64", "::ffff:192.0.2.1/96"]},
            "b": {"netns": right, "name": 'a"b', "addresses": ["2001:DB8:0:0::/127"]},
        }
    ]
    assert run(links)["changed"] is True
    assert link_of(right, 'a"b')["linkinfo"]["info_kind"] == "veth"
    assert run(links)["changed"] is False


@pytest.mark.parametrize("check_mode", [False, True])
def test_an_address_of_another_length_is_not_kept_for_the_wanted_one(
    spaces: tuple[str, str, str], run: Run, check_mode: bool
) -> None:
    """The kernel takes the wanted one without an error, and keeps the other."""
    left, right, _ = spaces
    run([cable(left, right)])
    ip("-n", left, "address", "delete", "2001:db8::1/64", "dev", "to-right")
    ip("-n", left, "address", "add", "2001:db8::1/48", "dev", "to-right", "nodad")
    before = state_of(spaces)
    answer = run([cable(left, right)], _ansible_check_mode=check_mode)
    assert answer["failed"] is True
    assert f"netns:{left}:to-right has 2001:db8::1/48, not 2001:db8::1/64: remove it first" in answer["msg"]
    assert state_of(spaces) == before


@pytest.mark.parametrize("check_mode", [False, True])
def test_an_address_that_the_kernel_keeps_out_of_use_does_not_count(
    spaces: tuple[str, str, str], run: Run, check_mode: bool
) -> None:
    left, right, _ = spaces
    links = [cable(left, right, b={"netns": right, "name": "fab0", "addresses": []})]
    run(links)
    ip("-n", left, "address", "delete", "2001:db8::1/64", "dev", "to-right")
    ip("-n", right, "address", "add", "2001:db8::1/64", "dev", "fab0", "nodad")
    ip("-n", left, "address", "add", "2001:db8::1/64", "dev", "to-right")
    end = time.monotonic() + 10
    while "dadfailed" not in ip("-n", left, "address", "show", "to-right"):
        assert time.monotonic() < end
        time.sleep(0.1)
    before = state_of(spaces)
    answer = run(links, _ansible_check_mode=check_mode)
    assert answer["failed"] is True
    assert f"netns:{left}:to-right: 2001:db8::1/64 is out of use" in answer["msg"]
    assert state_of(spaces) == before


@pytest.mark.parametrize("check_mode", [False, True])
def test_another_name_of_a_device_is_taken(spaces: tuple[str, str, str], run: Run, check_mode: bool) -> None:
    """Nothing is removed for a cable that could not be made."""
    left, right, other = spaces
    run([cable(left, other)])
    ip("-n", right, "link", "add", "br0", "type", "bridge")
    ip("-n", right, "link", "property", "add", "dev", "br0", "altname", "fab0")
    before = state_of(spaces)
    answer = run([cable(left, right)], _ansible_check_mode=check_mode)
    assert answer["failed"] is True
    assert f"netns:{right}:fab0 exists and is no veth but another name of br0" in answer["msg"]
    assert state_of(spaces) == before
    assert run([cable(left, right)], state="absent", _ansible_check_mode=True)["actions"] == [
        f"delete netns:{left}:to-right"
    ]


@pytest.mark.parametrize(
    ("change", "command"),
    [
        ("address 2001:db8::2/64", ["address", "delete", "2001:db8::2/64", "dev", "fab0"]),
        ("mtu 2000", ["link", "set", "fab0", "mtu", "1500"]),
        ("up, address 2001:db8::2/64", ["link", "set", "fab0", "down"]),
        ("create", ["link", "delete", "fab0"]),
    ],
)
def test_what_is_lost_at_once_is_told(
    spaces: tuple[str, str, str], run: Run, monkeypatch: pytest.MonkeyPatch, change: str, command: list[str]
) -> None:
    """Somebody takes away what the last step has made: the module reads again and says so."""
    left, right, _ = spaces
    carry_out = og_netns.carry_out

    def and_lose(*arguments: Any) -> None:
        carry_out(*arguments)
        ip("-n", right, *command)

    monkeypatch.setattr(veth_link, "carry_out", and_lose)
    answer = run([cable(left, right)])
    assert answer["failed"] is True
    assert answer["changed"] is True
    lacks = f"create netns:{left}:to-right" if change == "create" else f"set netns:{right}:fab0 {change}"
    assert f"every step was done, but the kernel still lacks: {lacks}" in answer["msg"]
    assert answer["actions"][0].startswith("create ")


def test_absent_is_read_again_too(spaces: tuple[str, str, str], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    left, right, _ = spaces
    run([cable(left, right)])
    monkeypatch.setattr(veth_link, "carry_out", lambda *_: None)
    answer = run([cable(left, right)], state="absent")
    assert answer["failed"] is True
    assert f"the kernel still lacks: delete netns:{left}:to-right" in answer["msg"]


def test_a_new_cable_is_taken_back_when_a_later_step_fails(spaces: tuple[str, str, str], run: Run) -> None:
    left, right, other = spaces
    sysctl(right, "default.disable_ipv6", 1)
    first = {"a": {"netns": left, "name": "x"}, "b": {"netns": other, "name": "y"}}
    before = state_of(spaces)
    answer = run([first, cable(left, right)])
    assert answer["failed"] is True
    assert answer["changed"] is False
    assert answer["left"] == []
    failed = f"set netns:{right}:fab0 up, tx off, tso off, gso off, gro off, address 2001:db8::2/64"
    reason = f"netns:{right}: no address 2001:db8::2/64: IPv6 is switched off there (disable_ipv6)"
    assert answer["msg"] == f"{failed}: {reason}; the steps before it were taken back"
    assert [action.split()[0] for action in answer["actions"]] == ["create", "create", "set", "set", "set"]
    assert failed not in answer["actions"]
    assert state_of(spaces) == before


def test_settings_are_taken_back_when_a_later_one_fails(spaces: tuple[str, str, str], run: Run) -> None:
    """One end is down and has an address all the same, which the kernel drops when the end goes down again."""
    left, right, _ = spaces
    run([cable(left, right)])
    ip("-n", left, "link", "set", "to-right", "mtu", "1500", "down")
    ip("-n", left, "address", "add", "2001:db8::7/64", "dev", "to-right", "nodad")
    ip("netns", "exec", left, "ethtool", "-K", "to-right", "tx", "on")
    ip("netns", "exec", right, "ethtool", "-K", "fab0", "tso", "on")
    ip("-n", right, "link", "set", "fab0", "mtu", "1500")
    sysctl(right, "fab0.disable_ipv6", 1)
    before = state_of(spaces)
    answer = run([cable(left, right)])
    assert answer["failed"] is True
    assert answer["changed"] is False
    assert answer["actions"] == [f"set netns:{left}:to-right mtu 2000, up, tx off, address 2001:db8::1/64"]
    assert answer["msg"].startswith(f"set netns:{right}:fab0 mtu 2000, tso off, address 2001:db8::2/64: ")
    assert answer["msg"].endswith("; the steps before it were taken back")
    assert state_of(spaces) == before


def test_what_cannot_be_taken_back_is_told(spaces: tuple[str, str, str], run: Run) -> None:
    """A veth in the way is gone before its name is used again."""
    left, right, other = spaces
    run([cable(left, other)])
    sysctl(right, "default.disable_ipv6", 1)
    answer = run([cable(left, right)])
    assert answer["failed"] is True
    assert answer["changed"] is True
    assert answer["actions"][0] == f"delete netns:{left}:to-right"
    assert len(answer["left"]) == 1
    assert answer["left"][0].startswith(f"netns:{left}:to-right: was {{'peer': 'unknown', 'mtu': 2000")
    assert answer["left"][0].endswith("is absent")
    assert f"not taken back: {answer['left'][0]}" in answer["msg"]
    assert "fab0" not in ip("-n", right, "-br", "link")


def test_check_mode_and_diff_foretell_a_real_run(spaces: tuple[str, str, str], run: Run) -> None:
    left, right, other = spaces
    run([cable(left, other)])
    links = [cable(left, right), {"a": {"netns": left, "name": "x"}, "b": {"netns": other, "name": "y"}}]
    links[1]["offloads"] = True
    foretold = run(links, _ansible_check_mode=True, _ansible_diff=True)
    done = run(links, _ansible_diff=True)
    assert [done[key] for key in ("actions", "diff", "changed")] == [
        foretold[key] for key in ("actions", "diff", "changed")
    ]
    assert run(links, _ansible_diff=True)["diff"]["before"] == foretold["diff"]["after"]


def test_a_namespace_that_may_not_be_entered(spaces: tuple[str, str, str]) -> None:
    left, right, _ = spaces
    command = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    for check_mode in (False, True):
        module = program("veth_link", {"links": [cable(left, right)], "_ansible_check_mode": check_mode})
        before = state_of(spaces)
        done = subprocess.run([*command, *module], capture_output=True, text=True, check=False)
        answer = json.loads(done.stdout)
        assert done.returncode == 1
        assert answer["failed"] is True
        assert "setns: not permitted to enter the namespace; CAP_SYS_ADMIN is needed" in answer["msg"]
        assert any(answer["msg"].startswith(f"netns:{space}: ") for space in (left, right))
        assert "Traceback" not in done.stderr
        assert state_of(spaces) == before


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_file_that_is_no_namespace(spaces: tuple[str, str, str], run: Run, check_mode: bool) -> None:
    """What `ip netns` leaves behind where a namespace could not be made."""
    left, right, _ = spaces
    file = Path("/run/netns", f"{left}-file")
    file.touch()
    try:
        bad = {"a": {"netns": left, "name": "x"}, "b": {"netns": file.name, "name": "y"}}
        before = state_of(spaces)
        answer = run([cable(left, right), bad], _ansible_check_mode=check_mode)
    finally:
        file.unlink()
    assert answer["failed"] is True
    assert f"netns:{file.name}: {file} is not a network namespace" in answer["msg"]
    assert state_of(spaces) == before


NO_CONTAINER = "Error response from daemon: No such container: og-veth-box"
NO_ENGINE = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"


def stand_in(directory: Path, monkeypatch: pytest.MonkeyPatch, inspected: str, errors: str) -> None:
    """Put a program in docker's place. It ends with 1 where it says an error, as docker does."""
    docker = directory / "docker"
    docker.write_text(f"#!/bin/sh\nprintf %s '{inspected}'\necho '{errors}' >&2\n[ -z '{errors}' ]\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)


def test_without_an_engine_nothing_counts_as_gone(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = {"a": {"netns": "og-veth-none", "name": "x"}, "b": {"container": "og-veth-box", "name": "y"}}
    stand_in(tmp_path, monkeypatch, "[]", NO_CONTAINER)
    assert run([link], state="absent")["changed"] is False
    stand_in(tmp_path, monkeypatch, "[]", NO_ENGINE)
    for check_mode in (True, False):
        answer = run([link], state="absent", _ansible_check_mode=check_mode)
        assert answer["msg"] == f"docker inspect cannot be asked about the containers: {NO_ENGINE}"


@pytest.mark.parametrize(
    ("inspected", "errors", "message"),
    [
        (
            '[{"Name": "/og-veth-box", "State": {"Pid": 4194305}}]',
            "",
            "no such namespace or running container: og-veth-box",
        ),
        ('[{"Name": "/og-veth-box", "State": {"Pid": 0}}]', "", "no such namespace or running container: og-veth-box"),
        ("[]", NO_CONTAINER, "no such namespace or running container: og-veth-box"),
        ("[]", NO_ENGINE, f"docker inspect cannot be asked about the containers: {NO_ENGINE}"),
        ("", NO_ENGINE, f"docker inspect cannot be asked about the containers: {NO_ENGINE}"),
        ("", "", "docker inspect cannot be asked about the containers: no answer"),
        ("not JSON", "", "docker inspect does not answer with a list of containers"),
        ('{"Name": 1}', "", "docker inspect does not answer with a list of containers"),
        ('[{"Name": "/og-veth-box", "State": null}]', "", "docker inspect does not answer with a list of containers"),
    ],
)
def test_a_container_that_is_gone(
    spaces: tuple[str, str, str],
    run: Run,
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inspected: str,
    errors: str,
    message: str,
) -> None:
    """Its process ended since, or the container runtime has something else to say. 4194304 is the highest pid."""
    stand_in(tmp_path, monkeypatch, inspected, errors)
    left, right, _ = spaces
    before = state_of(spaces)
    answer = run(
        [cable(left, right), {"a": {"netns": left, "name": "x"}, "b": {"container": "og-veth-box", "name": "y"}}]
    )
    assert answer["failed"] is True
    assert message in answer["msg"]
    assert state_of(spaces) == before


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (NetlinkError(errno.ENOBUFS), "No buffer space available"),
        (NetlinkError(errno.EPERM), "Operation not permitted; CAP_NET_ADMIN is needed"),
        (NoSuchDevice("fab0"), "an interface vanished meanwhile"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
    ],
)
@pytest.mark.parametrize("check_mode", [False, True])
def test_interfaces_that_cannot_be_read(
    spaces: tuple[str, str, str],
    run: Run,
    *,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    message: str,
    check_mode: bool,
) -> None:
    left, right, _ = spaces
    run([cable(left, right)])

    def fail(_: str) -> None:
        raise error

    monkeypatch.setattr(og_netns, "_offloads", fail)
    before = state_of(spaces)
    answer = run([cable(left, right, mtu=3000)], _ansible_check_mode=check_mode)
    assert answer["failed"] is True
    assert answer["msg"] in [f"netns:{space}: {message}; nothing was changed" for space in (left, right)]
    assert state_of(spaces) == before


def blind_after_the_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    observe, calls = og_netns.observe, []

    def once(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) > 1:
            raise og_netns.KernelError("netns:x: Too many open files")
        return observe(*arguments)

    monkeypatch.setattr(veth_link, "observe", once)


def test_what_cannot_be_read_after_a_failure_is_told(
    spaces: tuple[str, str, str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right, _ = spaces
    run([cable(left, right)])
    ip("-n", right, "address", "delete", "2001:db8::2/64", "dev", "fab0")
    sysctl(right, "fab0.disable_ipv6", 1)
    blind_after_the_first_look(monkeypatch)
    answer = run([cable(left, right)])
    assert answer["failed"] is True
    assert "disable_ipv6" in answer["msg"]
    assert answer["msg"].endswith("; what is left cannot be read: netns:x: Too many open files")


def test_what_cannot_be_read_after_every_step_is_told(
    spaces: tuple[str, str, str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right, _ = spaces
    blind_after_the_first_look(monkeypatch)
    answer = run([cable(left, right)])
    assert answer["failed"] is True
    assert answer["msg"] == "every step was done, but netns:x: Too many open files"
    assert answer["actions"][0].startswith("create ")


def test_an_interface_that_vanished(spaces: tuple[str, str, str]) -> None:
    left, _, _ = spaces
    with Path("/run/netns", left).open() as name:
        spaces_by_name = {left: name.fileno()}
        with pytest.raises(og_netns.KernelError, match=f"{left}: there is no fab0 any more"):
            og_netns.execute(Configure(left, "fab0", mtu=2000), spaces_by_name)


@pytest.mark.parametrize("state", ["present", "absent"])
def test_bad_input_is_refused_in_both_states(spaces: tuple[str, str, str], run: Run, state: str) -> None:
    left, right, _ = spaces
    run([cable(left, right)])
    before = state_of(spaces)
    bad = {"a": {"netns": left, "name": "fab%d"}, "b": {"netns": right, "name": "y"}}
    answer = run([cable(left, right), bad], state=state)
    assert answer["failed"] is True
    assert "links[1].a.name: 'fab%d'" in answer["msg"]
    assert state_of(spaces) == before


def test_a_missing_namespace_changes_nothing(spaces: tuple[str, str, str], run: Run) -> None:
    left, right, _ = spaces
    before = state_of(spaces)
    answer = run([cable(left, right), {"a": {"netns": left, "name": "x"}, "b": {"netns": "og-veth-none", "name": "y"}}])
    assert answer["failed"] is True
    assert "no such namespace or running container: netns:og-veth-none" in answer["msg"]
    assert state_of(spaces) == before
