# SPDX-License-Identifier: Apache-2.0
"""A gateway node's GoBGP and FRRouting of the network router: a session, what is learned over it, and its end."""

from __future__ import annotations

import json

import pytest

from tests.services.nodes import ROOT, wait_for

ADDRESS = "2001:db8:f001:11::2"
LOCATOR = "5f00:1:11::/64"
VIP = "2001:db8:1::80/128"
GOBGP = "/usr/local/bin/gobgp --target unix:///run/gobgp/api.sock"


@pytest.fixture
def node(at):
    return at("ogh_w1")


@pytest.fixture
def neighbour(at):
    return at("rtr_w1")


def session(neighbour):
    shown = neighbour.check_output("vtysh -c 'show bgp ipv6 unicast summary json'")
    return json.loads(shown)["peers"][ADDRESS]["state"]


def next_hop(neighbour, prefix):
    routes = json.loads(neighbour.check_output(f"ip -6 -json route show {prefix}") or "[]")
    return [route.get("gateway") for route in routes]


def test_session_is_established_on_both_sides(node, neighbour):
    wait_for("FRRouting: Established", lambda: session(neighbour) == "Established")
    assert "ESTABLISHED" in node.check_output(f"{GOBGP} neighbor 2001:db8:f001:11::1").upper()


def test_bfd_watches_the_session(neighbour):
    def status():
        return [peer["status"] for peer in json.loads(neighbour.check_output("vtysh -c 'show bfd peers json'"))]

    wait_for("BFD: up", lambda: status() == ["up"])


@pytest.mark.parametrize("prefix", [LOCATOR, VIP])
def test_prefix_is_learned_and_withdrawn(node, neighbour, prefix):
    wait_for("the session", lambda: session(neighbour) == "Established")
    node.check_output(f"{GOBGP} global rib add {prefix} -a ipv6")
    wait_for(f"a route to {prefix} in the kernel", lambda: next_hop(neighbour, prefix) == [ADDRESS])
    node.check_output(f"{GOBGP} global rib del {prefix} -a ipv6")
    wait_for(f"no route to {prefix}", lambda: next_hop(neighbour, prefix) == [])


def test_stop_withdraws_and_start_brings_the_session_back(node, neighbour):
    node.check_output(f"{GOBGP} global rib add {VIP} -a ipv6")
    wait_for("the route", lambda: next_hop(neighbour, VIP) == [ADDRESS])
    node.check_output("systemctl stop gobgpd")
    wait_for("no route", lambda: next_hop(neighbour, VIP) == [])
    node.check_output("systemctl start gobgpd")
    wait_for("the session is back", lambda: session(neighbour) == "Established")


def restart(node, wait_s):
    """Run what the role runs on one node after the other."""
    return node.run("python3 -c %s %s", (ROOT / "roles/gobgp/files/restart.py").read_text(), str(wait_s))


def test_the_role_s_restart_ends_with_the_session_established(node, neighbour):
    wait_for("the session", lambda: session(neighbour) == "Established")
    pid = node.service("gobgpd").systemd_properties["MainPID"]
    done = restart(node, 90)
    assert (done.rc, done.stderr) == (0, "")
    assert node.service("gobgpd").systemd_properties["MainPID"] != pid
    assert "ESTABLISHED" in node.check_output(f"{GOBGP} neighbor 2001:db8:f001:11::1").upper()


def test_the_role_s_restart_tells_what_nobody_announces_again(node, neighbour):
    wait_for("the session", lambda: session(neighbour) == "Established")
    node.check_output(f"{GOBGP} global rib add {VIP} -a ipv6")
    done = restart(node, 1)
    assert done.rc == 1
    assert "1 s after the restart of GoBGP: " in done.stderr
    assert f"not announced again: {VIP}" in done.stderr
    wait_for("the session is back", lambda: session(neighbour) == "Established")


def test_api_is_a_socket_of_the_group_and_no_tcp_port(node):
    socket = node.file("/run/gobgp/api.sock")
    assert (socket.user, socket.group, socket.mode) == ("gobgp", "og", 0o660)
    listening = node.check_output("ss -Hltnp").splitlines()
    assert [line.split()[3] for line in listening if "gobgpd" in line] == [f"[{ADDRESS}]:179"]


def test_unit_starts_at_boot(node):
    assert node.service("gobgpd").is_enabled
