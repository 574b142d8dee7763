# SPDX-License-Identifier: Apache-2.0
"""The timeline of a drill as SVG: connections per second, with the moments of fault, detection and full service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MOMENTS = (
    ("t_fault", "fault", "tab:red"),
    ("t_detected", "detected", "tab:orange"),
    ("t_restored", "full service", "tab:green"),
    ("t_undone", "undone", "tab:gray"),
)


def draw(path: Path, report: Mapping[str, Any], series: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Write the picture; `series` holds one timeline (og.drill.report.timeline) per site or client."""
    figure, (new, still) = pyplot.subplots(2, 1, sharex=True, figsize=(10, 6))
    zero = float(report["t_fault"])
    for name, line in series.items():
        t = [second - zero for second in line["t"]]
        new.step(t, line["new"], where="post", label=f"{name} new")
        new.step(t, line["failed"], where="post", linestyle=":", label=f"{name} failed")
        still.step(t, line["open"], where="post", label=f"{name} open")
    for axis, label in ((new, "connections per second"), (still, "open connections")):
        for key, text, colour in MOMENTS:
            if report.get(key) is not None:
                axis.axvline(float(report[key]) - zero, color=colour, linewidth=1, label=text)
        axis.set_ylabel(label)
        axis.legend(loc="upper left", fontsize="small")
        axis.grid(alpha=0.3)
    still.set_xlabel("seconds since the fault")
    figure.suptitle(
        f"{report['drill']}: {report['verdict']}, {report['established_broken']} of "
        f"{report['established_before']} established connections broken"
    )
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
