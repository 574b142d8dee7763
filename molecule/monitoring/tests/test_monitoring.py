# SPDX-License-Identifier: Apache-2.0
"""A monitor: InfluxDB returns what was written, the poster writes every second, and what is kept has an end."""

from __future__ import annotations

import json
import time

import pytest

from tests.services.nodes import wait_for

URL = "http://[2001:db8:f001:51::2]:8086"


@pytest.fixture(scope="module")
def node(at):
    return at("mon_w1")


class Influx:
    """InfluxDB over the cable, as the posters of other hosts see it."""

    def __init__(self, other):
        self.other = other

    def query(self, text):
        command = "curl -sS -G %s --data-urlencode db=og --data-urlencode %s"
        shown = self.other.run(command, f"{URL}/query", f"q={text}").stdout  # empty while it does not answer
        [result] = json.loads(shown)["results"]
        assert "error" not in result, result
        return result.get("series", [])

    def write(self, line):
        self.other.check_output("curl -sS --fail --data-binary %s %s", line, f"{URL}/write?db=og&precision=ms")


@pytest.fixture(scope="module")
def influx(at):
    return Influx(at("rtr_w1"))


def test_a_point_that_was_just_written_is_returned(influx):
    now = time.time_ns() // 1_000_000
    influx.write(f"molecule,host=test value=42.5 {now}")
    [series] = wait_for("the point", lambda: influx.query("SELECT value FROM molecule"))
    assert series["values"][-1][1] == 42.5


def test_the_poster_posts_every_second(influx):
    def samples():
        series = influx.query("SELECT count(cpu) FROM og_host WHERE time > now() - 10s GROUP BY host")
        return {row["tags"]["host"]: row["values"][0][1] for row in series}

    wait_for("some samples of this host", lambda: samples().get("mon_w1", 0) >= 3)


def test_what_was_posted_while_it_was_away_comes_later(node, influx):
    begin = time.time_ns()
    node.check_output("systemctl stop influxdb")
    time.sleep(4)
    end = time.time_ns()
    node.check_output("systemctl start influxdb")
    query = f"SELECT count(cpu) FROM og_host WHERE host = 'mon_w1' AND time > {begin} AND time < {end}"  # noqa: S608
    wait_for("the samples of that time", lambda: influx.query(query))


def test_it_comes_back_when_it_is_killed(node, influx):
    node.check_output("systemctl kill --signal=KILL influxdb")
    wait_for("it answers", lambda: node.run("ss -Hltn | grep -q 8086").rc == 0 and influx.query("SHOW MEASUREMENTS"))


def test_how_long_is_kept(influx):
    [rows] = influx.query("SHOW RETENTION POLICIES ON og")
    assert [row[:2] for row in rows["values"] if row[0] == "og"] == [["og", "24h0m0s"]]


def test_it_listens_on_its_own_address_only(node):
    listening = [line.split()[3] for line in node.check_output("ss -Hltn").splitlines()]
    assert [entry for entry in listening if entry.endswith(":8086")] == ["[2001:db8:f001:51::2]:8086"]


def test_units_start_at_boot(node):
    assert node.service("influxdb").is_enabled
    assert node.service("og-stats").is_enabled
