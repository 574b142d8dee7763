#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run Molecule scenarios one after the other: progress, a table with the time of each, exit status 1 if one failed.

`molecule_run.py [SCENARIO...]`, by default all. What a scenario prints is in build/molecule/<scenario>.log, and on the
terminal when it is the only one. Its containers are removed in the end, also after a failure, Ctrl-C or SIGTERM.
Molecule asks that the second run (idempotence) change nothing; here it must show no difference either. A step without
its playbook has failed too; but for cleanup, which only a failed scenario goes through.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "build/molecule"
BIN = Path(sys.executable).parent
LABEL = "org.occam-gateway.molecule"
TAIL = 80
STEP = re.compile(r"INFO +\[\S+ > (\w+)\] Executing$")
FAILED = re.compile(r"\[\S+ > (\w+)\] +Executed: (?:Failed|Missing playbook)")
DIFFERENCE = re.compile(r"^(--- (before|after)|\+\+\+ (before|after)|@@ )", re.MULTILINE)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Result:
    """How one scenario went: seconds, exit status, the step it ended in or failed at."""

    name: str
    seconds: float
    status: int
    step: str


@dataclass
class Progress:
    """What Molecule's lines tell: its step, the first one that failed, whether the second run showed a difference."""

    step: str = "start"
    failed: str = ""
    differs: bool = False

    def read(self, line: str) -> bool:
        """Take in a line; tell whether a step begins with it."""
        plain = COLOUR.sub("", line).rstrip()
        if (match := FAILED.search(plain)) and match[1] != "cleanup":
            self.failed = self.failed or match[1]
        self.differs = self.differs or (self.step == "idempotence" and bool(DIFFERENCE.match(plain + " ")))
        if match := STEP.search(plain):
            self.step = match[1]
        return match is not None


def scenarios() -> list[str]:
    """Return the names of all scenarios, `default` (the whole site) last."""
    names = {path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")}
    return sorted(names, key=lambda name: (name == "default", name))


def needs_release(name: str) -> bool:
    """Tell whether a scenario's converge.yml installs the release."""
    text = (ROOT / "molecule" / name / "converge.yml").read_text()
    return "og_release" in text or "playbooks/" in text


def environment() -> dict[str, str]:
    """Return the environment of the commands: the project's programs first, plain text."""
    return os.environ | {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "NO_COLOR": "1",
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }


def lines(command: list[str], log: Path) -> Iterator[str]:
    """Run a command and yield what it prints, which goes into the log too; the last item is its exit status."""
    with log.open("w") as file, subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:  # fmt: skip
        try:
            for line in process.stdout or ():
                file.write(line)
                yield line
        except BaseException:
            process.send_signal(signal.SIGINT)
            raise
    yield str(process.returncode)


def run(name: str, *, verbose: bool) -> Result:
    """Run one scenario from create to destroy."""
    begin, last, progress = time.monotonic(), "1", Progress()
    for last in lines(["molecule", "-c", ".config/molecule/config.yml", "test", "-s", name], LOGS / f"{name}.log"):
        if verbose:
            sys.stdout.write(last)
        if progress.read(last):
            say(f"{time.monotonic() - begin:6.0f} s  {name}: {progress.step}")
    if last == "0" and progress.failed:
        say(f"{name}: {progress.failed} did not run: its playbook is missing")
        last = "1"
    if last == "0" and progress.differs:
        say(f"{name}: the second run shows a difference")
        last, progress.failed = "1", "idempotence"
    return Result(name, time.monotonic() - begin, int(last), progress.failed or progress.step)


def say(text: str) -> None:
    """Print at once: somebody is waiting."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def clean(name: str) -> None:
    """Remove the scenario's containers, whatever became of it, and Molecule's notes about them."""
    command = ["docker", "ps", "--all", "--quiet", "--filter", f"label={LABEL}.{name}"]
    left = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    if left:
        subprocess.run(["docker", "rm", "--force", "--volumes", *left], capture_output=True, check=False)
        reset = ["molecule", "-c", ".config/molecule/config.yml", "destroy", "-s", name]
        subprocess.run(reset, cwd=ROOT, env=environment(), capture_output=True, check=False)


def build_release() -> bool:
    """Build the release unless it is there; say what went wrong."""
    log = LOGS / "release.log"
    command = ["ansible-playbook", "-i", "/dev/null", "molecule/_shared/release.yml"]
    *_, status = lines(command, log)
    if status != "0":
        say(tail(log))
    return status == "0"


def tail(log: Path) -> str:
    """Return the end of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-TAIL:])


def table(results: list[Result]) -> str:
    """Return the summary."""
    rows = [f"{r.name:<12} {r.seconds:7.0f} s  {'ok' if r.status == 0 else f'FAILED at {r.step}'}" for r in results]
    total = sum(result.seconds for result in results)
    return "\n".join([f"{'scenario':<12} {'time':>9}  result", *rows, f"{'together':<12} {total:7.0f} s"])


def main() -> int:
    """Run the command."""
    known = scenarios()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="*", help=f"one or more of: {', '.join(known)}; without one, all")
    wanted: list[str] = parser.parse_args().scenario or known
    if unknown := sorted(set(wanted) - set(known)):
        parser.error(f"no scenario {', '.join(unknown)}; there are: {', '.join(known)}")
    LOGS.mkdir(parents=True, exist_ok=True)
    if any(map(needs_release, wanted)):
        say("==> The release (molecule/_shared/release.yml)")
        if not build_release():
            return 1
    results: list[Result] = []
    for number, name in enumerate(wanted, start=1):
        say(f"==> {name} ({number} of {len(wanted)})")
        try:
            results.append(run(name, verbose=len(wanted) == 1))
        finally:
            clean(name)
        if results[-1].status and len(wanted) > 1:
            log = LOGS / f"{name}.log"
            say(f"{tail(log)}\nFAILED: {name}, at {results[-1].step}; all of it: {log.relative_to(ROOT)}")
    say("\n" + table(results))
    return int(any(result.status for result in results))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
