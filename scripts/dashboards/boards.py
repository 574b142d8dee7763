# SPDX-License-Identifier: Apache-2.0
"""The two dashboards of a site: `high` shows what clients and servers have of it, `low` what each node does. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import common, dashboard, table, timeseries
from grafana_foundation_sdk.models.common import SortOrder, StackingMode, TooltipDisplayMode, VisibilityMode

from scripts.dashboards.influxql import Influx, Source, datasource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from grafana_foundation_sdk.models.dashboard import Dashboard

WIDTH, HEIGHT = 8, 8  # of Grafana's 24 columns; three panels in a row
SITE = "@site@"  # no name a site can have: the role puts the inventory's sites in its place
REMOTE = ("offered_site", "spilled", "returned_onward")
INTERVAL = "2s"  # nodes post once per second: every two seconds have at least one sample


@dataclass(frozen=True)
class Names:
    """What the data plane and the agent count."""

    sent: Sequence[str]
    dropped: Sequence[str]
    agent: Sequence[str]


def graph(site: str, title: str, query: str, alias: str, unit: str = "short") -> timeseries.Panel:
    """One panel with one query; the axis begins at zero."""
    return (
        timeseries.Panel()
        .title(title)
        .datasource(datasource(site))
        .with_target(Influx(site, query, alias))
        .interval(INTERVAL)
        .unit(unit)
        .min(0)
        .height(HEIGHT)
        .span(WIDTH)
        .show_points(VisibilityMode.NEVER)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )


def stack(site: str, title: str, query: str, alias: str, unit: str = "short") -> timeseries.Panel:
    """Make a `graph` whose series lie on each other: the outline is their sum."""
    panel = graph(site, title, query, alias, unit).fill_opacity(20)
    return panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))


def rows(site: str, title: str, query: str, text: str = "") -> table.Panel:
    """One table with the newest values."""
    target = Influx(site, query, result_format="table")
    return (
        table.Panel()
        .title(title)
        .description(text)
        .datasource(datasource(site))
        .with_target(target)
        .height(HEIGHT)
        .span(WIDTH)
    )


def high(site: str, names: Names) -> list[tuple[str, list[timeseries.Panel | table.Panel]]]:
    """Rows of the dashboard `high`: connections, capacity, shares, health, failures."""
    service, member = Source("og_service", site), Source("og_member", site)
    plane, pins = Source("og_dataplane", site), Source("og_pins", site)
    capacity, share = Source("og_capacity", site), Source("og_share", site)
    return [
        (
            "Connections",
            [
                graph(site, "Open connections", service.total(["connections"], by=["service"]), "$tag_service"),
                graph(
                    site,
                    "New connections per second",
                    service.total(["accepts_per_s"], by=["service"]),
                    "$tag_service",
                    "cps",
                ),
                graph(site, "Bytes per second", service.total(["bytes_per_s"], by=["service"]), "$tag_service", "Bps"),
                stack(
                    site, "Open connections per server", service.select('last("connections")', ["host"]), "$tag_host"
                ),
                stack(
                    site,
                    "New connections per server",
                    service.select('last("accepts_per_s")', ["host"]),
                    "$tag_host",
                    "cps",
                ),
                graph(site, "Pinned flows", pins.total(["count", "half_open", "closing"]), "$col"),
            ],
        ),
        (
            "Capacity and traffic to other sites",
            [
                graph(site, "Capacity", capacity.largest(["usable", "total"], ["service"]), "$tag_service $col"),
                graph(
                    site,
                    "Share of new connections given to other sites",
                    share.largest(["share"], ["service", "to"]),
                    "$tag_service to $tag_to",
                    "percentunit",
                ),
                graph(
                    site,
                    "New connections sent to other sites, answers on their way back",
                    plane.total_rate([name for name in REMOTE if name in names.sent]),
                    "$col",
                    "pps",
                ),
            ],
        ),
        (
            "Health",
            [
                graph(site, "Gateway nodes that can serve", plane.total(["serving"], by=["role"]), "$tag_role"),
                graph(site, "Servers that listen", service.total(["listener"], by=["service"]), "$tag_service"),
                graph(
                    site, "Nodes that hold a member suspect", member.total(["suspect"], by=["member"]), "$tag_member"
                ),
            ],
        ),
        (
            "Failures",
            [
                graph(
                    site,
                    "Nobody to serve a flow",
                    plane.total_rate(["drop_no_target", "drop_no_table", "drop_no_service"]),
                    "$col",
                    "pps",
                ),
                graph(
                    site,
                    "Unknown flows hunted",
                    plane.total_rate(["hunt_1", "hunt_2", "hunt_3", "hunt_4"]),
                    "$col",
                    "pps",
                ),
                graph(site, "Packets dropped", plane.total_rate(["drops"], by=["role"]), "$tag_role", "pps"),
            ],
        ),
    ]


def low(site: str, names: Names) -> list[tuple[str, list[timeseries.Panel | table.Panel]]]:
    """Rows of the dashboard `low`: per node packets, verdicts, drops, pins, tables, cost."""
    plane, pins, member = Source("og_dataplane", site), Source("og_pins", site), Source("og_member", site)
    host, unit, agent, stats = (Source(name, site) for name in ("og_host", "og_unit", "og_agent", "og_stats"))
    ns_per_packet = 'non_negative_derivative(last("busy_ns"), 1s) / non_negative_derivative(last("packets"), 1s)'
    cpu = 'non_negative_derivative(last("cpu_us"), 1s) / 1000000'
    return [
        (
            "Packets",
            [
                graph(site, "Received", plane.rate(["rx"], ["host"]), "$tag_host", "pps"),
                graph(site, "Sent", plane.rate(["tx"], ["host"]), "$tag_host", "pps"),
                graph(site, "Missed by the port", plane.rate(["rx_missed"], ["host"]), "$tag_host", "pps"),
                stack(site, "Verdicts: sent and kept", plane.total_rate(names.sent), "$col", "pps"),
                stack(site, "Verdicts: dropped, by reason", plane.total_rate(names.dropped), "$col", "pps"),
                graph(site, "Dropped, by node", plane.rate(["drops"], ["host"]), "$tag_host", "pps"),
            ],
        ),
        (
            "Pins and tables",
            [
                graph(site, "Pins", pins.select('last("count")', ["host"]), "$tag_host"),
                graph(site, "Half-open flows", pins.select('last("half_open")', ["host"]), "$tag_host"),
                graph(
                    site,
                    "Pins per second",
                    pins.total_rate(["inserts", "promotions", "evictions", "expired"]),
                    "$col",
                    "ops",
                ),
                graph(site, "Table generation", plane.select('last("generation")', ["host"]), "$tag_host"),
                rows(
                    site,
                    "Table in use",
                    plane.newest(["generation", "table", "uptime_s"], ["host"]),
                    "`table` is the digest's first half.",
                ),
                graph(
                    site,
                    "Probe round trip",
                    member.select('mean("rtt_us")', ["host", "member"]),
                    "$tag_host $tag_member",
                    "µs",
                ),
            ],
        ),
        (
            "Servers",
            [
                graph(site, "Agent's counters", agent.total_rate(names.agent), "$col", "pps"),
                graph(site, "Programs attached", agent.select('last("attached")', ["host"]), "$tag_host"),
            ],
        ),
        (
            "Cost",
            [
                graph(site, "Time per packet", plane.select(ns_per_packet, ["host"]), "$tag_host", "ns"),
                graph(site, "Processors per unit", unit.select(cpu, ["host", "unit"]), "$tag_host $tag_unit", "short"),
                graph(site, "Machine busy", host.select('mean("cpu")', ["host"]), "$tag_host", "percentunit"),
                graph(
                    site,
                    "Bytes on the data port",
                    host.rate(["rx_bytes", "tx_bytes"], ["host"]),
                    "$tag_host $col",
                    "Bps",
                ),
                graph(
                    site, "Memory available", host.select('last("memory_available")', ["host"]), "$tag_host", "bytes"
                ),
                graph(site, "Samples not delivered yet", stats.select('last("buffer_batches")', ["host"]), "$tag_host"),
            ],
        ),
    ]


def board(site: str, level: str, names: Names) -> Dashboard:
    """One dashboard, with the id `<site>-<level>-dashboard`."""
    content: Callable[[], list[tuple[str, list[timeseries.Panel | table.Panel]]]]
    content = (lambda: high(site, names)) if level == "high" else (lambda: low(site, names))
    builder = (
        dashboard.Dashboard(f"og-{site}-{level}")
        .uid(f"{site}-{level}-dashboard")
        .tags(["occam-gateway", site])
        .refresh("5s")
        .time("now-15m", "now")
        .timezone("browser")
        .readonly()
    )
    numbers = count(1)
    for title, panels in content():
        builder = builder.with_row(dashboard.Row(title).id(next(numbers)))
        for panel in panels:
            builder = builder.with_panel(panel.id(next(numbers)))
    return builder.build()
