# SPDX-License-Identifier: Apache-2.0
"""Which releases are on this host, which one is current, and which one each program was started from.

Standard library only and no other part of `og`: Ansible ships this file to hosts as module_utils.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/opt/og")
UNITS = {
    "hasher": ("og-routes", "og-hasher", "og-control", "og-health", "og-stats"),
    "router": ("og-routes", "og-router", "og-control", "og-health", "og-stats"),
    "agent": ("og-agent", "og-stats"),
    "monitor": ("og-stats",),
    "client": ("og-stats",),
    "network": ("og-stats",),
}


class Unit(NamedTuple):
    """A systemd unit as it is: `release` is what its main process was started from, empty when it runs no release.

    og-routes does its work at its start: active without a process.
    """

    name: str
    active: bool
    pid: int
    release: str


def current(root: Path = ROOT) -> str:
    """Return the id of the current release; empty when there is none."""
    return _target(root / "current")


def previous(root: Path = ROOT) -> str:
    """Return the id of the release that was current before, if it is still installed; else nothing."""
    return _target(root / "previous")


def installed(root: Path = ROOT) -> list[str]:
    """Return the ids of the releases on this host."""
    return sorted(path.parent.name for path in root.glob("releases/*/manifest.json"))


def units(role: str, proc: Path = Path("/proc"), root: Path = ROOT) -> list[Unit]:
    """Return the units of our programs that are installed on a host of this role."""
    names = [f"{name}.service" for name in UNITS.get(role, ())]
    if not names:
        return []
    command = ["systemctl", "show", "--property=Id,LoadState,ActiveState,MainPID", *names]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = []
    for block in done.stdout.strip().split("\n\n"):
        shown = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if shown.get("LoadState") == "loaded":
            pid = int(shown.get("MainPID", "0"))
            active = shown.get("ActiveState") in ("active", "reloading")
            name = shown["Id"].removesuffix(".service")
            found.append(Unit(name, active, pid, release_of(pid, proc, root)))
    return found


def release_of(pid: int, proc: Path = Path("/proc"), root: Path = ROOT) -> str:
    """Return the release a process was started from: its program's path, or where its Python modules come from."""
    if pid <= 0:
        return ""
    pattern = re.compile(re.escape(f"{root}/releases/") + r"([0-9a-f]{16})/")
    try:
        texts = [str((proc / str(pid) / "exe").readlink()), (proc / str(pid) / "environ").read_bytes().decode("latin1")]
    except OSError:
        return ""
    return next((match.group(1) for text in texts if (match := pattern.search(text))), "")


def _target(path: Path) -> str:
    if not path.is_symlink():
        return ""
    name = path.readlink().name
    return name if (path / "manifest.json").is_file() else ""
