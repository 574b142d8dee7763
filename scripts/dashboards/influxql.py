# SPDX-License-Identifier: Apache-2.0
"""InfluxQL texts (InfluxDB 1.x, "InfluxQL reference"), and the query type that Grafana's SDK lacks. Pure.

`$timeFilter` and `$__interval` are Grafana's: the time range, and the width of one pixel or the panel's least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import DataSourceRef

if TYPE_CHECKING:
    from collections.abc import Sequence


def datasource(site: str) -> DataSourceRef:
    """Return the InfluxDB of a site: each site keeps its own statistics, every Grafana can ask all of them."""
    return DataSourceRef(type_val="influxdb", uid=f"og-influxdb-{site}")


@dataclass
class InfluxQuery(Dataquery):
    """A raw InfluxQL query, as Grafana's InfluxDB datasource stores it."""

    ref_id: str
    query: str
    alias: str
    result_format: str
    site: str

    def to_json(self) -> dict[str, object]:
        """Return the query as Grafana's JSON has it."""
        return {
            "refId": self.ref_id,
            "datasource": datasource(self.site),
            "query": self.query,
            "rawQuery": True,
            "alias": self.alias,
            "resultFormat": self.result_format,
        }


@dataclass
class Influx(Builder[Dataquery]):
    """Builder of one query to a site's InfluxDB; `alias` names its series (`$tag_host`, `$col`)."""

    site: str
    query: str
    alias: str = ""
    ref_id: str = "A"
    result_format: str = "time_series"

    def build(self) -> Dataquery:
        """Return the query."""
        return InfluxQuery(self.ref_id, self.query, self.alias, self.result_format, self.site)


@dataclass(frozen=True)
class Source:
    """One measurement of one site, perhaps of some of its nodes only (`where`, in InfluxQL)."""

    measurement: str
    site: str
    where: str = ""

    def select(self, what: str, by: Sequence[str] = ()) -> str:
        """Values over time, one series per value of the tags `by`."""
        group = ", ".join(["time($__interval)", *(f'"{tag}"' for tag in by)])
        return f"SELECT {what} FROM {self._where} GROUP BY {group} fill(none)"  # noqa: S608 - our own names

    def rate(self, fields: Sequence[str], by: Sequence[str]) -> str:
        """Growth per second of totals; a restart of the counter is left out, not shown as a fall."""
        return self.select(", ".join(_rate(field) for field in fields), by)

    def total(self, fields: Sequence[str], each: Sequence[str] = ("host",), by: Sequence[str] = ()) -> str:
        """Sum over `each` of the newest values."""
        return self._sum(fields, [f'last("{field}") AS "{field}"' for field in fields], each, by)

    def largest(self, fields: Sequence[str], by: Sequence[str]) -> str:
        """Largest value over all nodes, of what each node says of the same thing."""
        return self.select(", ".join(f'max("{field}") AS "{field}"' for field in fields), by)

    def total_rate(self, fields: Sequence[str], each: Sequence[str] = ("host",), by: Sequence[str] = ()) -> str:
        """Sum over `each` of the growth per second of totals."""
        return self._sum(fields, [_rate(field) for field in fields], each, by)

    def newest(self, fields: Sequence[str], by: Sequence[str]) -> str:
        """Newest value of each field, one row per value of the tags `by`."""
        what = ", ".join(f'last("{field}") AS "{field}"' for field in fields)
        return f"SELECT {what} FROM {self._where} GROUP BY {', '.join(by)}"  # noqa: S608 - our own names

    def _sum(self, fields: Sequence[str], inner: Sequence[str], each: Sequence[str], by: Sequence[str]) -> str:
        outer = ", ".join(f'sum("{field}") AS "{field}"' for field in fields)
        group = ", ".join(["time($__interval)", *(f'"{tag}"' for tag in by)])
        source = self.select(", ".join(inner), [*each, *by])
        return f"SELECT {outer} FROM ({source}) WHERE $timeFilter GROUP BY {group} fill(none)"  # noqa: S608 - our own names

    @property
    def _where(self) -> str:
        condition = f" AND {self.where}" if self.where else ""
        return f'"{self.measurement}" WHERE "site" = \'{self.site}\'{condition} AND $timeFilter'


def _rate(field: str) -> str:
    return f'non_negative_derivative(last("{field}"), 1s) AS "{field}"'
