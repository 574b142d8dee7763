# SPDX-License-Identifier: Apache-2.0
"""`python -m og.drill FOLDER`: judge a drill from what is in its folder; write report.json and timeline.svg there.

In the folder: drill.json (og.drill.records.Plan), `<client>.json` (reports of `og-load --connections`) for each client
of the plan, `<node>.watch` (lines of og.drill.watch) for each node that was watched.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from og.drill import series
from og.drill.picture import draw
from og.drill.records import Connection, Plan, RecordError, Seen, Stall, connection, plan, seen
from og.drill.report import report

SUMMARY_LEAVES_OUT = ("share", "share_in_force")


def load_records(path: Path) -> tuple[list[Connection], list[Stall]]:
    """Read the records and the stalls in a report of `og-load --connections`; the file's stem is the client's name."""
    rows = _read(path)
    if not isinstance(rows, dict) or not isinstance(rows.get("records"), list):
        raise RecordError(f"{path}: no list `records`: og-load needs --connections")
    try:
        stalls = [(float(at), float(late)) for at, late in rows.get("stalls", [])]
    except (TypeError, ValueError) as error:
        raise RecordError(f"{path}: stalls: {error}") from None
    return [connection(path.stem, row) for row in rows["records"]], stalls


def load_watched(path: Path) -> list[Seen]:
    """Read what was seen on one node. A last line that was cut off is left out."""
    lines = path.read_text().split("\n")[:-1]
    try:
        return [seen(path.stem, json.loads(line)) for line in lines]
    except ValueError as error:
        raise RecordError(f"{path}: {error}") from None


def load(folder: Path) -> tuple[Plan, list[Connection], list[Seen], list[Stall]]:
    """Read everything. Raises RecordError naming the file."""
    data = _read(folder / "drill.json")
    if not isinstance(data, dict):
        raise RecordError(f"{folder / 'drill.json'}: not an object")
    what = plan(data)
    loads = [load_records(folder / f"{client}.json") for client in what.clients]
    rows = [row for records, _ in loads for row in records]
    stalls = [stall for _, stalls in loads for stall in stalls]
    watched = [event for path in sorted(folder.glob("*.watch")) for event in load_watched(path)]
    return what, rows, watched, stalls


def main(argv: list[str] | None = None) -> int:
    """Exit status 0: the drill passed, 1: it did not, 2: there is nothing to judge."""
    parser = argparse.ArgumentParser(prog="og-drill", description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder = parser.parse_args(argv).folder
    try:
        what, rows, watched, stalls = load(folder)
        result = report(what, rows, watched, stalls)
    except RecordError as error:
        print(f"og-drill: {error}", file=sys.stderr)
        return 2
    (folder / "report.json").write_text(json.dumps(result, indent=2) + "\n")
    draw(folder / "timeline.svg", result, series.timelines(what, rows))
    print(json.dumps({key: value for key, value in result.items() if key not in SUMMARY_LEAVES_OUT}))
    return 0 if result["verdict"] == "passed" else 1


def _read(path: Path) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: {error}") from None


if __name__ == "__main__":
    raise SystemExit(main())
