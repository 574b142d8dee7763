# SPDX-License-Identifier: Apache-2.0
"""The host's own load, from /proc, /sys and the control groups of its units (proc(5), cgroup-v2.rst).

Parsing is pure and works on text; only `Host` reads files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from og.stats.point import Point, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CGROUP_MOUNT = Path("/sys/fs/cgroup")


def parse_stat(text: str) -> tuple[int, int]:
    """(busy, total) clock ticks of all processors since boot, from /proc/stat. Guest time is within user time."""
    ticks = [int(word) for word in text.split("\n", 1)[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def parse_meminfo(text: str) -> dict[str, int]:
    """Total and available memory in bytes, from /proc/meminfo."""
    names = {"MemTotal:": "memory_total", "MemAvailable:": "memory_available"}
    words = (line.split() for line in text.splitlines())
    return {names[word[0]]: int(word[1]) * 1024 for word in words if word and word[0] in names}


def parse_net_dev(text: str, interface: str) -> dict[str, int]:
    """Totals of one interface, from /proc/net/dev; empty where there is no such interface."""
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        if colon and name.strip() == interface:
            n = [int(word) for word in rest.split()]
            return {
                "rx_bytes": n[0],
                "rx_packets": n[1],
                "rx_dropped": n[3],
                "tx_bytes": n[8],
                "tx_packets": n[9],
                "tx_dropped": n[11],
            }
    return {}


def parse_cpu_stat(text: str) -> int | None:
    """Processor time in µs a control group has used, from its cpu.stat."""
    for line in text.splitlines():
        if line.startswith("usage_usec "):
            return int(line.split()[1])
    return None


def system_slice(cgroup: str, mount: Path = CGROUP_MOUNT) -> Path:
    """Where the units' control groups are, from /proc/self/cgroup of one of them (the `0::` line, cgroup v2)."""
    path = next((line[3:] for line in cgroup.splitlines() if line.startswith("0::")), "/")
    head, found, _ = path.partition("/system.slice/")
    return mount / head.lstrip("/") / "system.slice" if found else mount / "system.slice"


class Host:
    """Reads the host once per call; processor shares are of the time since the last call."""

    def __init__(
        self, interface: str, units: Sequence[str], proc: Path = Path("/proc"), mount: Path = CGROUP_MOUNT
    ) -> None:
        self._interface = interface
        self._proc = proc
        self._ticks = (0, 0)
        root = system_slice((proc / "self/cgroup").read_text(), mount)
        self._units = {unit: root / unit / "cpu.stat" for unit in units}

    def points(self) -> Iterable[Point]:
        """One `og_host`, and one `og_unit` for each unit that runs."""
        yield Point("og_host", {}, self._host())
        for unit, path in self._units.items():
            try:
                used = parse_cpu_stat(path.read_text())
            except OSError:
                continue  # the unit does not run
            if used is not None:
                yield Point("og_unit", {"unit": unit.removesuffix(".service")}, {"cpu_us": used})

    def _host(self) -> dict[str, Value]:
        fields: dict[str, Value] = {"cpu": self._cpu()}
        fields["load1"] = float((self._proc / "loadavg").read_text().split()[0])
        fields |= parse_meminfo((self._proc / "meminfo").read_text())
        fields |= parse_net_dev((self._proc / "net/dev").read_text(), self._interface)
        return fields

    def _cpu(self) -> float:
        """Busy share of the machine's processors, 0 to 1. In a container: of the machine it runs on."""
        busy, total = parse_stat((self._proc / "stat").read_text())
        last_busy, last_total = self._ticks
        self._ticks = (busy, total)
        return round((busy - last_busy) / (total - last_total), 4) if total > last_total else 0.0
