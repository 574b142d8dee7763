# SPDX-License-Identifier: Apache-2.0
"""veth_link against the kernel: real namespaces, real cables."""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.og_setns import inside
from ansible.module_utils.testing import patch_module_args

from library import veth_link
from tests.unit.conftest import program

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="making network namespaces needs root"),
]

Run = Callable[..., dict[str, Any]]


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


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
    yield names[0], names[1], names[2]
    for name in names:
        ip("netns", "delete", name)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(links: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
        with patch_module_args({"links": links, **options}), pytest.raises(SystemExit):
            veth_link.main()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mtu": 100}, "mtu 100 is not within"),
        (
            {"b": {"netns": "og-veth-none", "name": "fab0"}},
            "no such namespace or running container: netns:og-veth-none",
        ),
        ({"b": {"netns": "n", "name": "fab0", "addresses": ["2001:db8::zz/64"]}}, "2001:db8::zz"),
        ({"b": {"netns": "n", "container": "c", "name": "fab0"}}, "mutually exclusive"),
    ],
)
def test_wrong_input_changes_nothing(
    spaces: tuple[str, str, str], run: Run, change: dict[str, Any], message: str
) -> None:
    left, right, _ = spaces
    answer = run([cable(left, right) | change])
    assert answer["failed"] is True
    assert message in answer["msg"]
    assert "to-right" not in ip("-n", left, "-br", "link")
