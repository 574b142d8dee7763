# SPDX-License-Identifier: Apache-2.0
"""Options of the health daemon, `/etc/og/health.json`."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from og.configfile import ConfigError, read_json
from og.health.machine import Limits

ROLES = ("hasher", "router")
API_SCHEME = "unix://"


@dataclass(frozen=True, slots=True)
class Config:
    """Checked options. Prefixes are in GoBGP's spelling; `vips` is empty on a router."""

    role: str
    heartbeat: Path
    locator: str
    vips: tuple[str, ...]
    gobgp_api: Path
    listen: tuple[str, int]
    drain_file: Path
    limits: Limits
    reconcile_ms: int
    api_timeout_ms: int


DEFAULTS: dict[str, Any] = {
    "vips": [],
    "gobgp_api": "unix:///run/gobgp/api.sock",
    "listen": "127.0.0.1:9441",
    "drain_file": "/run/og/health.drain",
    "poll_ms": 50,
    "stall_ms": 200,
    "hold_up_ms": 500,
    "hold_up_max_ms": 10_000,
    "reconcile_ms": 5_000,
    "api_timeout_ms": 1_000,
}
REQUIRED = ("role", "heartbeat", "locator")


def _text(options: dict[str, Any], key: str) -> str:
    value = options[key]
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{key}: expected a non-empty string, got {json.dumps(value)}")
    return value


def _milliseconds(options: dict[str, Any], key: str, least: int, most: int) -> int:
    value = options[key]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"{key}: expected {least} to {most} milliseconds, got {json.dumps(value)}")
    return value


def _prefix(value: object, key: str, length: int) -> str:
    try:
        network = ipaddress.IPv6Network(value if isinstance(value, str) else "")
    except ValueError as error:
        raise ConfigError(f"{key}: not an IPv6 prefix: {json.dumps(value)}") from error
    if network.prefixlen != length:
        raise ConfigError(f"{key}: expected a /{length}, got {network}")
    return str(network)


def _listen(value: str) -> tuple[str, int]:
    address, _, port = value.rpartition(":")
    try:
        ip = ipaddress.ip_address(address.strip("[]"))
        number = int(port)
    except ValueError as error:
        raise ConfigError(f"listen: expected ADDRESS:PORT, got {json.dumps(value)}") from error
    if not ip.is_loopback or not 0 <= number <= 65535:
        raise ConfigError(f"listen: expected a loopback address and a port, got {json.dumps(value)}")
    return str(ip), number


def _limits(options: dict[str, Any]) -> Limits:
    limits = Limits(
        poll=_milliseconds(options, "poll_ms", 5, 1_000),
        stall=_milliseconds(options, "stall_ms", 10, 60_000),
        hold_up=_milliseconds(options, "hold_up_ms", 0, 600_000),
        hold_up_max=_milliseconds(options, "hold_up_max_ms", 1, 3_600_000),
    )
    if limits.stall < 2 * limits.poll:
        raise ConfigError(f"stall_ms: {limits.stall} is below twice poll_ms ({limits.poll})")
    if limits.hold_up_max < limits.hold_up:
        raise ConfigError(f"hold_up_max_ms: {limits.hold_up_max} is below hold_up_ms ({limits.hold_up})")
    return limits


def check(document: object) -> Config:
    """Turn a parsed JSON document into a Config. Raises ConfigError naming the key."""
    if not isinstance(document, dict):
        raise ConfigError("expected a JSON object")
    for key in document:
        if key not in DEFAULTS and key not in REQUIRED:
            raise ConfigError(f"{key}: unknown option")
    for key in REQUIRED:
        if key not in document:
            raise ConfigError(f"{key}: missing")
    options = DEFAULTS | document
    role = _text(options, "role")
    if role not in ROLES:
        raise ConfigError(f"role: expected one of {', '.join(ROLES)}, got {json.dumps(role)}")
    vips = options["vips"]
    if not isinstance(vips, list):
        raise ConfigError(f"vips: expected a list of addresses, got {json.dumps(vips)}")
    if role == "router" and vips:
        raise ConfigError("vips: a router announces none")
    api = _text(options, "gobgp_api")
    if not api.startswith(API_SCHEME + "/"):
        raise ConfigError(f"gobgp_api: expected {API_SCHEME}/absolute/path, got {json.dumps(api)}")
    return Config(
        role=role,
        heartbeat=Path(_text(options, "heartbeat")),
        locator=_prefix(options["locator"], "locator", 64),
        vips=tuple(_prefix(vip, f"vips[{index}]", 128) for index, vip in enumerate(vips)),
        gobgp_api=Path(api.removeprefix(API_SCHEME)),
        listen=_listen(_text(options, "listen")),
        drain_file=Path(_text(options, "drain_file")),
        limits=_limits(options),
        reconcile_ms=_milliseconds(options, "reconcile_ms", 100, 3_600_000),
        api_timeout_ms=_milliseconds(options, "api_timeout_ms", 10, 60_000),
    )


def load(path: Path) -> Config:
    """Read and check the file. Raises ConfigError naming the file and the key."""
    document = read_json(path)
    try:
        return check(document)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
