# SPDX-License-Identifier: Apache-2.0
"""The dashboards in the repository are the ones the code makes, and show every verdict the data plane counts."""

from __future__ import annotations

import json
import re

import pytest

pytest.importorskip("grafana_foundation_sdk", reason="grafana-foundation-sdk is not installed")

from scripts.dashboards import names
from scripts.dashboards.__main__ import OUTPUT, files, read_names
from scripts.dashboards.boards import SITE


def test_files_are_up_to_date() -> None:
    """`python -m scripts.dashboards` writes them."""
    wanted = files()
    assert {path.name: path.read_text() for path in OUTPUT.iterdir()} == wanted


def test_every_verdict_has_a_place() -> None:
    found = read_names()
    header = names.VERDICT_H.read_text()
    defined = re.findall(r'^ +X\([A-Z0-9_]+, "([a-z0-9_]+)"', header, re.MULTILINE)
    assert len(defined) > 50
    assert sorted([*found.sent, *found.dropped]) == sorted(defined)
    low = files()["low.json"]
    assert all(f'sum(\\"{name}\\")' in low for name in (*defined, *found.agent))


def test_ids_and_panels() -> None:
    for name, text in files("north").items():
        board = json.loads(text)
        level = name.removesuffix(".json")
        assert (board["uid"], board["title"]) == (f"north-{level}-dashboard", f"og-north-{level}")
        panels = [panel for panel in board["panels"] if panel["type"] != "row"]
        assert len(panels) > 10
        assert len({panel["title"] for panel in panels}) == len(panels)
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        for panel in panels:
            assert panel["datasource"] == {"type": "influxdb", "uid": "og-influxdb-north"}
            assert all("'north'" in target["query"] for target in panel["targets"])
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
        assert len(set(places)) == len(places)


def test_a_site_takes_the_place_of_the_placeholder() -> None:
    """What the role does with text is what the code would have made for that site."""
    assert {name: text.replace(SITE, "north") for name, text in files().items()} == files("north")
    assert SITE not in "".join(files("north").values())
