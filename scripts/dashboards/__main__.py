# SPDX-License-Identifier: Apache-2.0
"""Write the dashboards, or with `--check` say which of them are not what this code makes.

They are written once for all sites, with a placeholder where the site's name goes: the role monitoring makes a pair for
each site of the inventory, so that a deployment needs neither this code nor Grafana's SDK.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from scripts.dashboards import names
from scripts.dashboards.boards import SITE, Names, board

OUTPUT = names.ROOT / "roles/monitoring/files/dashboards"
LEVELS = ("high", "low")


def read_names() -> Names:
    """Names of the headers of this checkout."""
    verdict_h = names.VERDICT_H.read_text()
    return Names(
        sent=names.verdicts("TX", verdict_h) + names.verdicts("KEEP", verdict_h),
        dropped=names.verdicts("DROP", verdict_h),
        agent=names.counters(names.COUNTERS_H.read_text()),
    )


def files(site: str = SITE) -> dict[str, str]:
    """File names and contents: `high.json` and `low.json`."""
    found = read_names()
    encoder = JSONEncoder(indent=2, sort_keys=True)
    return {f"{level}.json": encoder.encode(board(site, level, found)) + "\n" for level in LEVELS}


def main() -> int:
    """Write or check; 1 when a check finds a difference."""
    parser = argparse.ArgumentParser(prog="scripts.dashboards", description="Write Grafana's dashboards.")
    parser.add_argument("--site", default=SITE, help="write them for one site instead of the placeholder")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="directory (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="write nothing, list the files that differ")
    arguments = parser.parse_args()
    wanted = files(arguments.site)
    differ = [name for name, text in wanted.items() if _read(arguments.output / name) != text]
    if not arguments.check:
        arguments.output.mkdir(parents=True, exist_ok=True)
        for name in differ:
            (arguments.output / name).write_text(wanted[name])
    for name in differ:
        print(f"{arguments.output / name}: {'differs' if arguments.check else 'written'}")
    return int(arguments.check and bool(differ))


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
