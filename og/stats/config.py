# SPDX-License-Identifier: Apache-2.0
"""`/etc/og/stats.json`: what to read and where to post it. A wrong value is one error that names file and key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from og.configfile import ConfigError, read_json

if TYPE_CHECKING:
    from pathlib import Path

ROLES = ("hasher", "router")


@dataclass(frozen=True)
class Config:
    """A checked configuration. Times are in seconds."""

    host: str
    port: int
    database: str
    tags: dict[str, str]
    interval_s: float = 1.0
    timeout_s: float = 0.5
    buffer_bytes: int = 8 << 20
    interface: str = "fab0"
    units: tuple[str, ...] = ()
    dataplane: str = ""
    agent_status: str = ""
    control_socket: str = ""


def load(path: Path) -> Config:
    """Read and check the file. Raises ConfigError."""
    data = read_json(path)
    try:
        return parse(data)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse(data: object) -> Config:
    """Check a decoded file; ValueError names the key."""
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    known = {"url", *Config.__dataclass_fields__} - {"host", "port"}
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(f"unknown key: {', '.join(unknown)}")
    host, port = _url(_want(data, "url", str))
    tags = _want(data, "tags", dict)
    for name in ("host", "role", "site"):
        if not isinstance(tags.get(name), str) or not tags[name]:
            raise ValueError(f"tags.{name}: a text is wanted, not {tags.get(name)!r}")
    dataplane = _want(data, "dataplane", str, "")
    if dataplane not in ("", *ROLES):
        raise ValueError(f"dataplane: `hasher`, `router` or nothing is wanted, not {dataplane!r}")
    return Config(
        host=host,
        port=port,
        database=_want(data, "database", str, "og"),
        tags={key: str(value) for key, value in tags.items()},
        interval_s=_seconds(data, "interval_s", Config.interval_s),
        timeout_s=_seconds(data, "timeout_s", Config.timeout_s),
        buffer_bytes=_positive(data, "buffer_bytes", Config.buffer_bytes),
        interface=_want(data, "interface", str, Config.interface),
        units=tuple(str(unit) for unit in _want(data, "units", list, [])),
        dataplane=dataplane,
        agent_status=_want(data, "agent_status", str, ""),
        control_socket=_want(data, "control_socket", str, ""),
    )


_KINDS: dict[type, str] = {str: "a text", dict: "an object", list: "a list"}


def _want(data: dict[str, Any], key: str, kind: type, default: object = None) -> Any:  # noqa: ANN401 - JSON, of the kind asked for
    value = data.get(key, default)
    if not isinstance(value, kind):
        raise ValueError(f"{key}: {_KINDS[kind]} is wanted, not {value!r}")
    return value


def _number(data: dict[str, Any], key: str, default: float) -> float:
    value = data.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"{key}: a number above 0 is wanted, not {value!r}")
    return value


def _seconds(data: dict[str, Any], key: str, default: float) -> float:
    return float(_number(data, key, default))


def _positive(data: dict[str, Any], key: str, default: int) -> int:
    return int(_number(data, key, default))


def _url(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"url: {error}: {url!r}") from error
    if parts.scheme != "http" or not host or parts.path not in ("", "/") or parts.query:
        raise ValueError(f"url: http://<address>:<port> is wanted, not {url!r}")
    return host, port or 8086
