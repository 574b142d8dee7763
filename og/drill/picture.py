# SPDX-License-Identifier: Apache-2.0
"""The timeline of a drill as SVG: per second and site, with the moments of fault, detection and full service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

MOMENTS = (
    ("t_fault", "fault", "tab:red"),
    ("t_detected", "detected", "tab:orange"),
    ("t_restored", "full service", "tab:green"),
    ("t_undone", "undone", "tab:gray"),
)
ROWS = (("new", "new per second"), ("failed", "failed per second"), ("open", "open connections"))


def draw(path: Path, report: Mapping[str, Any], series: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Write the picture; `series` holds one timeline (og.drill.series.timeline) per site."""
    figure, axes = pyplot.subplots(4, 1, sharex=True, figsize=(10, 9))
    zero = float(report["t_fault"])
    for axis, (key, label) in zip(axes, ROWS, strict=False):
        for site, line in series.items():
            axis.step([second - zero for second in line["t"]], line[key], where="post", label=site)
        axis.set_ylabel(label)
    _share(axes[3], report)
    for axis in axes:
        for key, text, colour in MOMENTS:
            if report.get(key) is not None:
                axis.axvline(float(report[key]) - zero, color=colour, linewidth=1, label=text)
        axis.set_ylim(bottom=0)
        axis.legend(loc="upper left", fontsize="small")
        axis.grid(alpha=0.3)
    axes[3].set_xlabel("seconds since the fault")
    figure.suptitle(
        f"{report['drill']}: {report['verdict']}, {report['established_broken']} of "
        f"{report['established_before']} established connections broken"
    )
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def _share(axis: Axes, report: Mapping[str, Any]) -> None:
    """Share of the new connections of the site's clients that another site served, and the share in force."""
    for key, label in (("share", "as clients saw it"), ("share_in_force", "in force")):
        if report.get(key):
            seconds, values = zip(*report[key], strict=True)
            axis.step(seconds, values, where="post", label=label)
    axis.set_ylabel(f"share leaving {report['site']}")
