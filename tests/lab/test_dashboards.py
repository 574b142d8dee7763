# SPDX-License-Identifier: Apache-2.0
"""Every panel of every site's dashboards, asked of the lab's InfluxDB while there is load."""

from __future__ import annotations

import json
import math
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.nodes import LONGEST, Lab, LabError, Node, load

if TYPE_CHECKING:
    from collections.abc import Iterator

BOARDS = Path(__file__).parents[2] / "roles/monitoring/files/dashboards"
HELD, RATE = 100, 20
WINDOW_S, RECENT_S = 20, 15
PATIENCE_S = 60  # a machine that stalls leaves gaps: what a panel shows may be of too few points for a while
WINDOW = f"time > now() - {WINDOW_S}s"
# Panels about what only happens when something is wrong, or with servers that spill: no point, or 0, is fine.
# Bounds for the newest value summed over the series of a panel; None = no bound.
PLAUSIBLE: dict[str, tuple[float, float | None]] = {
    "Open connections": (HELD, 100 * HELD),
    "New connections per second": (RATE / 4, 100 * RATE),
    "Bytes per second": (100, 1e9),
    "Pinned flows": (HELD, 1e6),
    "Capacity": (1, None),
    "Share of new connections given to other sites": (0, 1),
    "Servers that listen": (1, 100),
    "Gateway nodes that can serve": (2, 100),
    "Received": (10, 1e6),
    "Time per packet": (10, 1e7),
    "Machine busy": (0.001, 1000),
    "Table generation": (1, None),
}


def queries(level: str, site: str) -> dict[str, str]:
    """InfluxQL of each panel by its title, with the site and Grafana's variables filled in as role and Grafana do."""
    board: dict[str, Any] = json.loads((BOARDS / f"{level}.json").read_text().replace("@site@", site))
    return {
        panel["title"]: target["query"].replace("$timeFilter", WINDOW).replace("$__interval", "2s")
        for panel in board["panels"]
        if panel["type"] != "row"
        for target in panel["targets"]
    }


def ask(monitor: Node, query: str) -> list[dict[str, Any]]:
    """Series of one query, times in seconds since the epoch."""
    config = monitor.json("cat /etc/og/stats.json")
    answer = monitor.json(
        f"curl -sS -G {config['url']}/query --data-urlencode db={config['database']} --data-urlencode epoch=s "
        '--data-urlencode "q=$(cat)"',
        stdin=query.encode(),
    )
    result = answer["results"][0]
    if "error" in result:
        raise LabError(f"{query}: {result['error']}")
    return list(result.get("series", []))


@pytest.fixture(scope="module")
def loaded(lab: Lab) -> Iterator[Lab]:
    """The lab with load at every site for long enough to fill the window."""
    options = ("--held", str(HELD), "--interval", "1", "--rate", str(RATE), *LONGEST)
    with ExitStack() as stack:
        running = [
            stack.enter_context(load(client, lab.vip, *options, port=int(lab.service["port"])))
            for client in lab.group("cli")
        ]
        for each in running:
            each.wait_open(HELD)
        for each in running:
            each.go_on(WINDOW_S + 2)
        yield lab
        for each in running:
            each.stop()


@pytest.mark.parametrize("level", ["high", "low"])
@pytest.mark.parametrize("letter", ["w", "e"])
def test_every_panel_shows_what_happens_now(loaded: Lab, letter: str, level: str) -> None:
    """Recent, not empty, plausible: for each panel of the dashboard."""
    if letter not in loaded.sites:
        pytest.skip("the lab that is up has no such site")
    site = loaded.site_names[letter]
    monitor = loaded.group(f"mon_{letter}")[0]
    asked = queries(level, site)
    end = time.monotonic() + PATIENCE_S
    while True:
        last = time.monotonic() > end
        wrong = {title: why for title, query in asked.items() if (why := judged(title, query, ask(monitor, query)))}
        if last or not wrong:
            break
        asked = {title: asked[title] for title in wrong}
        time.sleep(2)
    assert wrong == {}


def judged(title: str, query: str, series: list[dict[str, Any]]) -> str:
    """What is wrong with what a panel shows; empty: nothing."""
    values = [entry for row in series for entry in row["values"]]
    numbers = [value for entry in values for value in entry[1:] if isinstance(value, (int, float))]
    newest = max((entry[0] for entry in values), default=0)
    total = sum(_newest(row) for row in series)
    low, high = PLAUSIBLE.get(title, (0, None))
    if not numbers:
        return f"nothing: {query}"
    if newest < time.time() - RECENT_S and "Table in use" not in title:
        return f"newest point is {time.time() - newest:.0f} s old"
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        return f"negative or not finite: {min(numbers)}"
    if total < low or (high is not None and total > high):
        return f"{total} is not within {low} and {high}"
    return ""


def _newest(row: dict[str, Any]) -> float:
    """Newest values of a series that is not cut by the end of the window, summed over its fields."""
    entry = row["values"][-2 if len(row["values"]) > 1 else -1]
    return float(sum(value for value in entry[1:] if isinstance(value, (int, float))))


@pytest.mark.parametrize("letter", ["w", "e"])
def test_grafana_has_the_dashboards_of_all_sites(lab: Lab, letter: str) -> None:
    if letter not in lab.sites:
        pytest.skip("the lab that is up has no such site")
    monitor = lab.group(f"mon_{letter}")[0]
    if not monitor.run("test -x /usr/sbin/grafana-server && echo yes", check=False):
        pytest.skip("Grafana is not installed: its package repository did not answer when the lab was deployed")
    address = monitor.json("cat /etc/og/stats.json")["url"].rpartition(":")[0]
    for site in lab.site_names.values():
        for level in ("high", "low"):
            board = monitor.json(f"curl -sSf {address}:3000/api/dashboards/uid/{site}-{level}-dashboard")
            assert board["dashboard"]["title"] == f"og-{site}-{level}"
