# SPDX-License-Identifier: Apache-2.0
"""A server and a client: a leader, both members, and what becomes of a service whose check fails."""

from __future__ import annotations

import pytest

from tests.services.nodes import wait_for

SERVER, CLIENT = "mon_w1", "agent_w1"
ADDRESSES = {"mon_w1": "2001:db8:f001:51::2", "agent_w1": "2001:db8:f001:31::2"}


def check(consul):
    """State of the service's check, as the server has it."""
    [entry] = consul(SERVER, "health/service/web")
    return next(item for item in entry["Checks"] if item["CheckID"] == "web-health")


def test_there_is_a_leader_and_both_know_it(consul):
    leader = f"[{ADDRESSES[SERVER]}]:8300"
    assert [consul(node, "status/leader") for node in (SERVER, CLIENT)] == [leader, leader]


def test_both_are_members_under_their_fabric_address(consul):
    def members():
        return {member["Name"]: (member["Addr"], member["Status"]) for member in consul(CLIENT, "agent/members")}

    wait_for("both alive", lambda: members() == {name: (address, 1) for name, address in ADDRESSES.items()})


def test_the_service_is_registered_with_what_the_control_daemon_reads(consul):
    [entry] = wait_for("the service", lambda: consul(SERVER, "catalog/service/web"))
    assert entry["ServiceMeta"] == {"service": "web", "weight": "100", "capacity": "1000", "locator": "5f00:1:31::/64"}
    assert entry["NodeMeta"].items() >= {"og_role": "agent", "og_site": "west"}.items()


@pytest.fixture
def server(at):
    """Something that answers the check: a file named health, at the service's address and port."""
    node = at(CLIENT)
    node.check_output("ip -6 addr replace 2001:db8:1::80/128 dev lo nodad")
    node.check_output("mkdir -p /srv/test && echo ok >/srv/test/health")
    command = "python3 -m http.server --bind :: --directory /srv/test 80"
    yield lambda: node.check_output(f"systemd-run --quiet --unit=og-test-server --collect {command}")
    node.run("systemctl stop og-test-server")


def test_a_failed_check_is_reported_and_a_mended_one_too(at, consul, server):
    wait_for("critical: nothing listens", lambda: check(consul)["Status"] == "critical")
    server()
    wait_for("passing", lambda: check(consul)["Status"] == "passing")
    at(CLIENT).check_output("systemctl stop og-test-server")
    wait_for("critical again", lambda: check(consul)["Status"] == "critical")
    assert "refused" in check(consul)["Output"]  # told with a change of state; alone it may take minutes


def test_a_value_written_at_one_is_read_at_the_other(consul):
    assert consul(CLIENT, "kv/og/west/test", "written") is True
    assert consul(SERVER, "kv/og/west/test?raw") == "written"


def test_a_client_that_stops_is_failed_not_gone(at, consul):
    at(CLIENT).check_output("systemctl stop consul")
    try:
        states = {member["Name"]: member["Status"] for member in consul(SERVER, "agent/members")}
        assert states[CLIENT] != 3  # 3 = left
        assert [entry["Node"] for entry in consul(SERVER, "catalog/service/web")] == [CLIENT]
    finally:
        at(CLIENT).check_output("systemctl start consul")
    wait_for("it is back", lambda: at(CLIENT).run("true").rc == 0 and consul(CLIENT, "status/leader"))


def test_the_api_listens_on_loopback_only(at):
    for node in (SERVER, CLIENT):
        listening = at(node).check_output("ss -Hltn 'sport = :8500'").split()
        assert listening[3] == "127.0.0.1:8500"


def test_unit_starts_at_boot(at):
    assert at(SERVER).service("consul").is_enabled
    assert at(CLIENT).service("consul").is_enabled
