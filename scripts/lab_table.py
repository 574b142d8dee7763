#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Print the lab that is up, site by site: every node with its role, state and address, and what runs on it."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

LABEL = "org.occam-gateway"
UNITS = (
    "frr", "gobgpd", "consul", "og-hasher", "og-router", "og-agent", "og-control", "og-health", "og-stats", "nginx",
    "influxdb", "grafana-server",
)  # fmt: skip
# One line each: systemd's state, the address in use, the units that run, the units that failed.
PROBE = f"""
systemctl is-system-running
ip -6 -br addr show scope global to 2000::/3 |
    awk '$1 == "lo" {{own = $3}} $1 ~ /^fab0/ {{own = $3; exit}} END {{print own}}'
for unit in {" ".join(UNITS)}; do [ "$(systemctl is-active $unit.service)" = active ] && printf '%s ' $unit; done; echo
systemctl list-units --state=failed --plain --no-legend --no-pager | awk '{{printf "%s ", $1}}'
"""


@dataclass(frozen=True)
class Node:
    """One container of the lab."""

    site: str
    name: str
    role: str
    container: str
    status: str


def run(*command: str) -> str:
    """Return what a command prints; a message and the end of the program if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[:3])}: {done.stderr.strip()}")
    return done.stdout


def nodes() -> list[Node]:
    """Return the lab's containers, site by site; within it in the order in which they were made, the inventory's."""
    labels = "\t".join(f'{{{{.Label "{LABEL}.{label}"}}}}' for label in ("site", "node", "role"))
    form = labels + "\t{{.Names}}\t{{.Status}}"
    lines = run("docker", "ps", "--all", "--filter", f"label={LABEL}.lab", "--format", form).splitlines()
    found = [Node(*line.split("\t")) for line in reversed(lines)]
    sites = list(dict.fromkeys(node.site for node in found))
    return sorted(found, key=lambda node: sites.index(node.site))


def row(node: Node) -> tuple[str, str, str, str, str, str]:
    """Return a node's row; a container that does not run has no more to say."""
    if not node.status.startswith("Up"):
        return node.site, node.name, node.role, node.status.lower(), "", ""
    done = subprocess.run(
        ["docker", "exec", node.container, "sh", "-c", PROBE], capture_output=True, text=True, check=False
    )
    state, address, active, failed = (*done.stdout.splitlines(), "", "", "", "")[:4]
    runs = active.strip() + (f"  FAILED: {failed.strip()}" if failed.strip() else "")
    return node.site, node.name, node.role, state or "no answer", address.split("/")[0], runs


def main() -> int:
    """Print the table; exit status 1 where a node is not as it should be."""
    found = nodes()
    if not found:
        sys.exit("No lab is up: run `make lab`.")
    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(row, found))
    if "--json" in sys.argv[1:]:
        keys = ("site", "node", "role", "state", "address", "runs")
        print(json.dumps([dict(zip(keys, line, strict=True)) for line in rows]))
    else:
        print("\n".join(table(rows)))
    return int(any(state != "running" for _, _, _, state, _, _ in rows))


def table(rows: list[tuple[str, str, str, str, str, str]]) -> list[str]:
    """Return the lines of the table, with an empty one between sites."""
    head = ("SITE", "NODE", "ROLE", "STATE", "ADDRESS", "RUNS")
    widths = [*(max(len(line[column]) for line in [head, *rows]) for column in range(5)), 0]

    def text(line: tuple[str, ...]) -> str:
        return "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()

    lines = [text(head)]
    for site, group in groupby(rows, key=lambda line: line[0]):
        lines += [""] if site != rows[0][0] else []
        lines += [text(line) for line in group]
    return lines


if __name__ == "__main__":
    sys.exit(main())
