# SPDX-License-Identifier: Apache-2.0
"""Every panel's query, run by a real InfluxDB on points of og-stats whose rates are known."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from og.stats import agent, control, dataplane
from og.stats.point import Point, encode
from scripts.dashboards import names
from tests.services.nodes import ROOT, Influx, run, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.conftest import Site

BOARDS = {path.stem: path for path in sorted((ROOT / "roles/monitoring/files/dashboards").glob("*.json"))}
SITE = "@site@"  # as the role replaces it
RUNS_HERE = ("og_host", "og_unit", "og_stats")
SECONDS = 60
GATEWAYS = {"ogh_w1": "hasher", "ogr_w1": "router", "ogr_w2": "router"}
AGENTS = ("agent_w1", "agent_w2")


def queries(path: Path, window: str = "time > now() - 1m", site: str = "west") -> dict[str, str]:
    """InfluxQL of each panel by its title, with the site and Grafana's variables filled in as role and Grafana do."""
    board: dict[str, Any] = json.loads(path.read_text().replace(SITE, site))
    return {
        panel["title"]: target["query"].replace("$timeFilter", window).replace("$__interval", "2s")
        for panel in board["panels"]
        if panel["type"] != "row"
        for target in panel["targets"]
    }


class Answers:
    """Telemetry of a data plane that has run for `second` seconds at 10 packets per second of every kind."""

    def __init__(self, second: int) -> None:
        header = names.VERDICT_H.read_text()
        verdicts = [name for kind in ("TX", "KEEP", "DROP") for name in names.verdicts(kind, header)]
        self._all = {
            "/og/info": {"generation": 3, "digest": "ab" * 32, "uptime_s": second, "serving": 1, "incarnation": "1"},
            "/og/counters": dict.fromkeys([*verdicts, "rx", "tx", "rx_missed"], 10 * second),
            "/og/shares": {"web/east": 256},
            "/og/load": {"packets": 10 * second, "busy_ns": 900 * second},
            "/og/members": {"agent_w1": {"kind": "agent", "suspect": 1, "rtt_us": 80}},
            "/og/pins": {
                "count": 100,
                "half_open": 7,
                "closing": 2,
                **dict.fromkeys(("inserts", "promotions", "evictions", "expired"), 5 * second),
            },
        }

    def query(self, command: str) -> Any:
        return self._all[command]


def lines(second: int, time_ms: int) -> bytes:
    """What all nodes of a small site post in one second."""
    status = {
        "attached": True,
        "mode": "generic",
        "counters": dict.fromkeys(names.counters(names.COUNTERS_H.read_text()), 4 * second),
        "services": {"web": {"listener": True, "connections": 30, "accepts_per_s": 2.5, "bytes_per_s": 1e6}},
    }
    common = [
        Point(
            "og_host", {}, {"cpu": 0.5, "memory_available": 1 << 30, "rx_bytes": 100 * second, "tx_bytes": 100 * second}
        ),
        Point("og_unit", {"unit": "x"}, {"cpu_us": 250_000 * second}),
        Point("og_stats", {}, {"buffer_batches": 0}),
    ]
    data = b""
    for host, role in GATEWAYS.items():
        points = dataplane.read(Answers(second), role)
        if role == "router":
            points += control.capacity_points({"capacity": {"web": {"usable": 80, "total": 90, "unit": "connections"}}})
        data += encode([*common, *points], {"host": host, "role": role, "site": "west"}, time_ms)
    for host in AGENTS:
        data += encode([*common, *agent.points(status)], {"host": host, "role": "agent", "site": "west"}, time_ms)
    return data


class Known(Influx):
    """A database that holds one minute of that site, and its panels over that minute."""

    begin_ms = 0

    def panels(self, board: str) -> dict[str, str]:
        """Queries by title."""
        end_ms = self.begin_ms + 1000 * SECONDS
        return queries(BOARDS[board], f"time >= {self.begin_ms}ms AND time < {end_ms}ms")


@pytest.fixture(scope="module")
def known(site: Site) -> Iterator[Known]:
    monitor = site.monitor
    url = f"http://[{monitor.address}]:8086/query"
    run("docker", "exec", monitor.name, "curl", "-sS", "--fail", url, "--data-urlencode", "q=CREATE DATABASE panels")
    influx = Known(monitor, "panels")
    influx.begin_ms = (int(time.time()) - SECONDS) * 1000
    influx.write(b"".join(lines(second, influx.begin_ms + 1000 * second) for second in range(SECONDS)))
    yield influx
    run("docker", "exec", monitor.name, "curl", "-sS", "--fail", url, "--data-urlencode", "q=DROP DATABASE panels")


@pytest.mark.parametrize("board", ["high", "low"])
def test_every_panel_shows_something(known: Known, board: str) -> None:
    for title, query in known.panels(board).items():
        series = known.query(query)
        values = [value for row in series for entry in row["values"] for value in entry[1:]]
        assert values, f"{title}: no series: {query}"
        assert None not in values, f"{title}: empty values: {query}"


@pytest.mark.parametrize(
    ("board", "title", "series", "value"),
    [
        ("high", "Open connections", 1, 60),
        ("high", "New connections per second", 1, 5.0),
        ("high", "Open connections per server", 2, 30),
        ("high", "Pinned flows", 1, 200),
        ("high", "Capacity", 1, 80),
        ("high", "Share of new connections given to other sites", 1, 0.25),
        ("high", "Gateway nodes that can serve", 2, None),
        ("high", "Servers that listen", 1, 2),
        ("high", "Nodes that hold a member suspect", 1, 3),
        ("high", "Unknown flows hunted", 1, 30),
        ("low", "Received", 3, 10),
        ("low", "Verdicts: dropped, by reason", 1, 30),
        ("low", "Pins", 2, 100),
        ("low", "Time per packet", 3, 90),
        ("low", "Processors per unit", 5, 0.25),
        ("low", "Agent's counters", 1, 8),
        ("low", "Bytes on the data port", 5, 100),
    ],
)
def test_panels_show_the_numbers_that_were_posted(
    known: Known, board: str, title: str, series: int, value: float | None
) -> None:
    result = known.query(known.panels(board)[title])
    assert len(result) == series
    if value is not None:
        # Not at the edges: a bucket that the window cuts in two has fewer nodes or a shorter step in it.
        middle = [entry[1] for row in result for entry in row["values"][5:-5]]
        assert middle
        assert set(middle) == {value}


@pytest.mark.parametrize("level", ["high", "low"])
def test_the_other_site_has_the_same_panels(level: str) -> None:
    west, east = queries(BOARDS[level]), queries(BOARDS[level], site="east")
    assert east == {title: query.replace("'west'", "'east'") for title, query in west.items()}
    assert list(west.values()) != list(east.values())


def test_panels_about_this_host_show_what_its_poster_posts(site: Site) -> None:
    panels = queries(BOARDS["low"])
    here = {title: query for title, query in panels.items() if any(f'"{name}"' in query for name in RUNS_HERE)}
    assert len(here) >= 4
    for title, query in here.items():
        series = wait_for(title, lambda query=query: site.influx.query(query))  # type: ignore[misc]
        assert {row["tags"]["host"] for row in series} == {"agent_w1", "mon_w1"}, title
