#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Check native/ with one of clang's tools, in a container of og-build: `native_lint.py tidy|scan`. A finding is exit 1.

`tidy` is clang-tidy with .clang-tidy; `scan` is clang's static analyzer, run by scan-build's analyze-build. Both see
every .c file of native/: those meson compiles, as it compiles them, and the fuzzers.
"""

from __future__ import annotations

import json
import os
import plistlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NATIVE = ROOT / "native"
REPORTS = ROOT / "build" / "lint"
FUZZER = f"clang -std=gnu17 -D_GNU_SOURCE -Wall -Wextra -I{NATIVE / 'lib'} -c"
# Besides those that are on by themselves.
CHECKERS = ("optin.portability", "optin.taint", "security.FloatLoopCounter", "security.cert", "valist")
# Meson's paths lead from its folder up to the root.
UP = re.compile(rf"^(\.\./)+(?=native/|bpf/)|^{re.escape(str(ROOT))}/", re.MULTILINE)
FINDING = re.compile(r"^(?=\S+:\d+:\d+: (?:error|warning): )", re.MULTILINE)
# What run-clang-tidy prints besides: progress and commands, how much was found in DPDK's headers and left out.
NOISE = re.compile(
    r"^(\[ *\d+/\d+\].*|Running clang-tidy .*|\d+ warnings? .*|Suppressed .*|Use -header-filter.*|)\n", re.MULTILINE
)


def fail(message: str) -> SystemExit:
    """Name this program in an error."""
    return SystemExit(f"native_lint: {message}")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command; what it prints is in the result."""
    return subprocess.run(command, capture_output=True, text=True, check=False)


def commands(build: Path) -> list[dict[str, str]]:
    """Return the compilation database of native/, each file once; `build` is a new folder for meson."""
    done = run("meson", "setup", str(build), str(NATIVE), "--buildtype=debug")
    if done.returncode:
        raise fail(f"meson setup failed:\n{done.stdout}{done.stderr}")
    found: dict[Path, dict[str, str]] = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        found.setdefault((Path(entry["directory"]) / entry["file"]).resolve(), entry)
    for path in (NATIVE / "fuzz").glob("*.c"):
        found[path] = {"directory": str(build), "file": str(path), "command": f"{FUZZER} {path} -o {path.stem}.o"}
    missing = sorted(str(path.relative_to(ROOT)) for path in set(NATIVE.rglob("*.c")) - found.keys())
    if missing:
        raise fail(f"neither meson nor this program knows how to compile {', '.join(missing)}")
    return list(found.values())


def tidy_findings(output: str) -> list[str]:
    """Split what run-clang-tidy printed into findings: paths from the root, one of a header once."""
    return list(dict.fromkeys(FINDING.split(UP.sub("", NOISE.sub("", output)))))


def tidy(folder: Path) -> bool:
    """Run clang-tidy; print its findings. True if there are none."""
    config = f"-config-file={ROOT}/.clang-tidy"
    done = run("run-clang-tidy-19", "-quiet", config, f"-p={folder}", f"-j={os.cpu_count()}")
    if done.returncode:
        print("".join(tidy_findings(done.stdout + done.stderr)))
    return done.returncode == 0


def scan_findings(report: Path) -> list[str]:
    """Return the findings of one file of the analyzer, as a compiler would print them."""
    content = plistlib.loads(report.read_bytes())
    files = [UP.sub("", name) for name in content["files"]]
    return [
        "{}:{line}:{col}: {} [{}]".format(files[at["file"]], item["description"], item["check_name"], **at)
        for item in content["diagnostics"]
        for at in [item["location"]]
    ]


def scan(folder: Path) -> bool:
    """Run the static analyzer; print its findings and where the paths to them are shown. True if there are none."""
    enable = [f"--enable-checker={checker}" for checker in CHECKERS]
    database = f"--cdb={folder}/compile_commands.json"
    done = run("analyze-build-19", database, f"-o={folder}", "--status-bugs", "--plist-html", *enable)
    found = {line for report in folder.glob("scan-build-*/*.plist") for line in scan_findings(report)}
    if done.returncode or found:
        print("\n".join(sorted(found)) or done.stdout + done.stderr)
        print(*(f"each step: {UP.sub('', str(page))}" for page in folder.glob("scan-build-*/index.html")))
    return done.returncode == 0 and not found


def main() -> int:
    """Run the command."""
    tools = {"tidy": tidy, "scan": scan}
    if len(sys.argv) != 2 or sys.argv[1] not in tools:
        raise fail("say which tool: tidy or scan")
    folder = REPORTS / sys.argv[1]
    shutil.rmtree(folder, ignore_errors=True)
    database = commands(folder / "meson")
    (folder / "compile_commands.json").write_text(json.dumps(database, indent=1))
    return 0 if tools[sys.argv[1]](folder) else 1


if __name__ == "__main__":
    sys.exit(main())
