# SPDX-License-Identifier: Apache-2.0
"""`python -m og.drill`: judge a drill from the clients' records; write report.json and timeline.svg."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from og.drill.picture import draw
from og.drill.report import Connection, Fault, Limits, RecordError, connection, report, timeline


def load_records(path: Path) -> list[Connection]:
    """Read the records in a report of `og-load --connections`; the file's stem is the client's name."""
    try:
        rows = json.loads(path.read_text())["records"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: {error!r}") from None
    return [connection(path.stem, row) for row in rows]


def main(argv: list[str] | None = None) -> int:
    """Exit status 0: the drill passed, 1: it did not, 2: there is nothing to judge."""
    parser = argparse.ArgumentParser(prog="og-drill", description=__doc__)
    parser.add_argument("drill")
    parser.add_argument("records", type=Path, nargs="+", help="reports of og-load --connections, one per client")
    parser.add_argument("--fault-at", type=float, required=True, metavar="T", help="seconds since epoch")
    parser.add_argument("--undone-at", type=float, metavar="T")
    parser.add_argument(
        "--killed", action="append", default=[], metavar="BACKEND", help="a server that was itself taken down"
    )
    parser.add_argument("--max-broken", type=int, default=0)
    parser.add_argument("--max-failed-new", type=int)
    parser.add_argument("--max-restore-ms", type=float)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    args = parser.parse_args(argv)
    try:
        clients = {path.stem: load_records(path) for path in args.records}
        rows = [row for each in clients.values() for row in each]
        result = report(
            args.drill,
            rows,
            Fault(args.fault_at, args.undone_at, frozenset(args.killed)),
            Limits(args.max_broken, args.max_failed_new, args.max_restore_ms),
        )
    except RecordError as error:
        print(f"og-drill: {error}", file=sys.stderr)
        return 2
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "report.json").write_text(json.dumps(result, indent=2) + "\n")
    draw(args.output / "timeline.svg", result, {name: timeline(each) for name, each in clients.items() if each})
    print(json.dumps(result))
    return 0 if result["verdict"] == "passed" else 1


if __name__ == "__main__":
    raise SystemExit(main())
