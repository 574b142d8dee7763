#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Print what the lab that is up costs: processor time of each program, over all nodes, in percent of one processor."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

LABEL = "org.occam-gateway.lab"
TICKS = os.sysconf("SC_CLK_TCK")
# /proc/PID/stat behind the name: utime, stime, and those of children that were waited for.
TIMES = slice(11, 15)


def containers() -> dict[str, str]:
    """Return the lab's containers: name by id."""
    form = "{{.ID}} {{.Names}}"
    argv = ["docker", "ps", "--no-trunc", "--filter", f"label={LABEL}", "--format", form]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout:
        sys.exit(f"No lab is up: run `make lab`. {done.stderr.strip()}")
    return dict(line.split() for line in done.stdout.splitlines())


def sample(ids: dict[str, str]) -> dict[int, tuple[str, int]]:
    """Return command and ticks of every process of the lab's nodes, by process id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if not any(part in ids for part in (path / "cgroup").read_text().replace("\n", "/").split("/")):
                continue
            name, _, rest = (path / "stat").read_text().partition("(")[2].rpartition(")")
            words = (path / "cmdline").read_text().split("\0")
        except OSError:
            continue  # it has just ended
        found[int(path.name)] = (program(name, words), sum(int(value) for value in rest.split()[TIMES]))
    return found


def program(name: str, words: list[str]) -> str:
    """Return what a process is called here: a Python module or script by its own name."""
    if name.startswith("python") or "python" in Path(words[0]).name:
        modules = [words[place + 1] for place, word in enumerate(words[:-1]) if word == "-m"]
        scripts = [Path(word).name for word in words[1:] if word.startswith("/")]
        return (modules + scripts + [name])[0]
    return name


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    ids = containers()
    begin, before = time.monotonic(), sample(ids)
    time.sleep(options.seconds)
    elapsed, after = time.monotonic() - begin, sample(ids)
    ticks: dict[str, int] = defaultdict(int)
    number: dict[str, int] = defaultdict(int)
    for process, (name, used) in after.items():
        known = before.get(process)
        ticks[name] += used - (known[1] if known and known[0] == name else 0)
        number[name] += 1
    print(f"{'PROGRAM':<16}  {'RUNNING':>7}  PERCENT OF ONE PROCESSOR")
    for name in sorted(ticks, key=lambda item: -ticks[item]):
        print(f"{name:<16}  {number[name]:>7}  {ticks[name] / TICKS / elapsed:24.1%}")
    print(f"{'all':<16}  {sum(number.values()):>7}  {sum(ticks.values()) / TICKS / elapsed:24.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
