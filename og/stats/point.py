# SPDX-License-Identifier: Apache-2.0
"""Points in InfluxDB's line protocol (InfluxDB 1.x, "Line protocol reference"). Pure."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Value = int | float | str
INT64_MAX = (1 << 63) - 1

_MEASUREMENT = str.maketrans({",": r"\,", " ": r"\ ", "\n": " "})
_KEY = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ ", "\n": " "})
_TEXT = str.maketrans({'"': r"\"", "\\": r"\\", "\n": " "})


class Point(NamedTuple):
    """One measurement of one thing at one moment; the moment is the poster's."""

    measurement: str
    tags: Mapping[str, str]
    fields: Mapping[str, Value]


def scalars(data: Mapping[str, object]) -> dict[str, Value]:
    """Keep the entries a field can hold. Booleans become 0 and 1, so that they can be summed; the rest is left out."""
    return {key: value for key, value in ((key, _scalar(value)) for key, value in data.items()) if value is not None}


def encode(points: Iterable[Point], tags: Mapping[str, str], time_ms: int) -> bytes:
    """Lines for all points, each with `tags` and the time (ms since the epoch). Points without a field have no line."""
    lines = [_line(point, {**tags, **point.tags}, time_ms) for point in points if point.fields]
    return "".join(lines).encode()


def _scalar(value: object) -> Value | None:
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if isfinite(value) else None
    return value if isinstance(value, str) else None


def _line(point: Point, tags: Mapping[str, str], time_ms: int) -> str:
    # An empty tag value is a syntax error; sorted tags are what InfluxDB indexes fastest.
    keys = "".join(f",{k.translate(_KEY)}={v.translate(_KEY)}" for k, v in sorted(tags.items()) if v)
    fields = ",".join(f"{key.translate(_KEY)}={_value(value)}" for key, value in point.fields.items())
    return f"{point.measurement.translate(_MEASUREMENT)}{keys} {fields} {time_ms}\n"


def _value(value: Value) -> str:
    if isinstance(value, int):
        return f"{min(value, INT64_MAX)}i"
    if isinstance(value, float):
        return repr(value)
    return f'"{value.translate(_TEXT)}"'
