# SPDX-License-Identifier: Apache-2.0
"""The site after a router died under load and came back: nobody noticed, and everything works."""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from tests.services.nodes import run, wait_for

URL = "http://[2001:db8:1::80]/"
GATEWAYS = ["ogh_w1", "ogr_w1", "ogr_w2"]
OGCTL = "/opt/og/current/bin/ogctl"


def test_the_drill_broke_no_established_connection():
    report = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / "build/reports/router_loss/report.json"
    drill = json.loads(report.read_text())
    started = run("docker", "inspect", "--format", "{{.State.StartedAt}}", "og-mol-default-cli-w1").stdout.strip()
    assert drill["t_fault"] > datetime.fromisoformat(started).timestamp(), "the report of another drill"
    assert (drill["verdict"], drill["established_broken"]) == ("passed", 0), drill["reasons"]
    assert drill["established_before"] >= 200


@pytest.mark.parametrize("node", GATEWAYS)
def test_every_gateway_node_is_well(at, node):
    def problems():
        return json.loads(at(node).run(f"{OGCTL} status --json --interval 0.1").stdout)["problems"]

    wait_for(f"{node} without problems", lambda: problems() == [])


def test_requests_reach_both_servers(at):
    def backends():
        shown = at("cli_w1").check_output("for n in $(seq 40); do curl -sf --max-time 10 '%s'; done", URL)
        return Counter(json.loads(line)["backend"] for line in shown.splitlines())

    found = backends()
    assert set(found) == {"agent_w1", "agent_w2"}
    assert sum(found.values()) == 40


def test_the_network_router_knows_every_gateway_node(at):
    def routes():
        shown = at("rtr_w1").check_output("vtysh -c 'show bgp ipv6 unicast json'")
        return set(json.loads(shown)["routes"])

    wanted = {"2001:db8:1::80/128", "5f00:1:11::/64", "5f00:1:21::/64", "5f00:1:22::/64"}
    wait_for("all of them", lambda: routes() == wanted)


def test_statistics_of_every_node_of_the_domain_arrive(at):
    """Those of clients end at the edge filter: docs/interfaces.md."""

    def hosts():
        query = "q=SELECT last(cpu) FROM og_host WHERE time > now() - 20s GROUP BY host"
        url = "http://[2001:db8:f001:51::2]:8086/query"
        shown = at("mon_w1").run("curl -sS -G %s --data-urlencode db=og --data-urlencode %s", url, query).stdout
        return {series["tags"]["host"] for series in json.loads(shown)["results"][0]["series"]}

    nodes = {"rtr_w1", "ogh_w1", "ogr_w1", "ogr_w2", "agent_w1", "agent_w2", "mon_w1"}
    wait_for("a sample of each", lambda: hosts() == nodes)
