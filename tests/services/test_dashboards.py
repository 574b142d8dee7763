# SPDX-License-Identifier: Apache-2.0
"""Every panel's query is one a real InfluxDB understands; those about what runs here return series."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.services.nodes import ROOT, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.conftest import Site

BOARDS = sorted((ROOT / "roles/monitoring/files/dashboards").glob("*.json"))
RUNS_HERE = ("og_host", "og_unit", "og_stats")


def queries(path: Path) -> list[tuple[str, str]]:
    """(panel's title, InfluxQL) of all panels, with Grafana's variables filled in as Grafana would."""
    board: dict[str, Any] = json.loads(path.read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    return [
        (panel["title"], target["query"].replace("$timeFilter", "time > now() - 1m").replace("$__interval", "2s"))
        for panel in panels
        for target in panel["targets"]
    ]


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_influxdb_understands_every_query(site: Site, path: Path) -> None:
    for _, query in queries(path):
        site.influx.query(query)  # raises what InfluxDB says is wrong


def test_panels_about_this_host_show_something(site: Site) -> None:
    west = [(title, query) for title, query in queries(BOARDS[-1]) if any(f'"{name}"' in query for name in RUNS_HERE)]
    assert len(west) >= 4
    for title, query in west:
        series = wait_for(title, lambda query=query: site.influx.query(query))  # type: ignore[misc]
        assert any(value is not None for row in series[0]["values"] for value in row[1:]), title
