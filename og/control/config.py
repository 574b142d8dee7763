# SPDX-License-Identifier: Apache-2.0
"""/etc/og/control.json: what the inventory says about this node. Written by Ansible, read once at start."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import jsonschema

from og.configfile import ConfigError
from og.telemetry import default_path

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

FORMAT = 1
MAX_SERVICES = 64  # og_tables.h
MAX_SITES = 16
MAX_MEMBERS = 1024

_NAME = {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"}
_TEXT = {"type": "string", "minLength": 1}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        *("format", "role", "node", "site", "sites", "locator"),
        *("flow_seed", "sr_domain", "services", "gateways"),
    ],
    "properties": {
        "format": {"const": FORMAT},
        "role": {"enum": ["hasher", "router"]},
        "node": _NAME,
        "site": _NAME,
        "sites": {"type": "array", "items": _NAME, "minItems": 1, "maxItems": MAX_SITES, "uniqueItems": True},
        "locator": _TEXT,
        "slots": {"type": "integer", "minimum": 101, "maximum": 655373},
        "flow_seed": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "sr_domain": {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 16},
        "services": {
            "type": "array",
            "maxItems": MAX_SERVICES,
            "items": {
                "type": "object",  # og_services of the inventory, whole: other programs use other fields
                "required": ["index", "name", "vip", "protocol", "port"],
                "properties": {
                    "index": {"type": "integer", "minimum": 0, "maximum": MAX_SERVICES - 1},
                    "name": _NAME,
                    "vip": _TEXT,
                    "protocol": {"enum": ["tcp", "udp"]},
                    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
                    "udp_pins": {"type": "boolean"},
                },
            },
        },
        "gateways": {
            "type": "array",
            "maxItems": MAX_MEMBERS,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "role", "site", "locator"],
                "properties": {"name": _NAME, "role": {"enum": ["hasher", "router"]}, "site": _NAME, "locator": _TEXT},
            },
        },
        "consul_url": _TEXT,
        "policy": _TEXT,
        "state_dir": _TEXT,
        "table_socket": _TEXT,
        "control_socket": _TEXT,
        "telemetry_socket": _TEXT,
    },
}


@dataclass(frozen=True)
class Service:
    """One (VIP, protocol, port). `index` is its bit in masks, the same on every node."""

    index: int
    name: str
    vip: str
    protocol: str
    port: int
    udp_pins: bool


@dataclass(frozen=True)
class Gateway:
    """A hasher or router the inventory knows."""

    name: str
    role: str
    site: str
    locator: str


@dataclass(frozen=True)
class Config:
    """Everything but policy and Consul. Addresses are in canonical text form (RFC 5952)."""

    role: str
    node: str
    site: str
    sites: tuple[str, ...]
    locator: str
    slots: int
    flow_seed: str
    sr_domain: tuple[str, ...]
    services: tuple[Service, ...]
    gateways: tuple[Gateway, ...]
    consul_url: str
    policy: str
    state_dir: str
    table_socket: str
    control_socket: str
    telemetry_socket: str

    @property
    def service_names(self) -> tuple[str, ...]:
        """Names of the services, in the order of the file."""
        return tuple(service.name for service in self.services)


def load_config(path: str) -> Config:
    """Read and check a file. Raises ConfigError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    return parse_config(text, path)


def parse_config(text: str, source: str) -> Config:
    """Check the text of a file named `source`. Raises ConfigError."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{source}: not JSON: {error}") from None
    errors = sorted(jsonschema.Draft202012Validator(SCHEMA).iter_errors(data), key=lambda e: list(map(str, e.path)))
    if errors:
        raise ConfigError(f"{source}: {_field(errors[0].absolute_path)}{errors[0].message}")
    try:
        return _build(data)
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from None


def parse_locator(value: str) -> str:
    """Canonical text of a node's locator: an IPv6 address whose lower 64 bits are zero. Raises ValueError.

    A locator is also accepted as what it is, a /64.
    """
    address = ipaddress.IPv6Address(value.removesuffix("/64"))
    if int(address) & ((1 << 64) - 1) or not int(address):
        raise ValueError(f"not a locator, whose upper 64 bits are set and lower 64 bits zero: {value!r}")
    return str(address)


def _field(path: Any) -> str:  # noqa: ANN401 - jsonschema's deque of names and indices
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    return f"{text}: " if text else ""


def _build(data: dict[str, Any]) -> Config:
    role, sites = data["role"], tuple(data["sites"])
    if data["site"] not in sites:
        raise ValueError(f"site: {data['site']!r} is not one of sites {list(sites)}")
    services = tuple(_service(i, entry) for i, entry in enumerate(data["services"]))
    gateways = tuple(_gateway(i, entry, sites) for i, entry in enumerate(data["gateways"]))
    _unique("services", "index", [service.index for service in services])
    _unique("services", "name", [service.name for service in services])
    _unique("services", "vip, protocol, port", [(s.vip, s.protocol, s.port) for s in services])
    _unique("gateways", "name", [gateway.name for gateway in gateways])
    _unique("gateways", "locator", [gateway.locator for gateway in gateways])
    consul_url = data.get("consul_url", "http://127.0.0.1:8500")
    parts = urlsplit(consul_url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"consul_url: not an http URL: {consul_url!r}")
    return Config(
        role=role,
        node=data["node"],
        site=data["site"],
        sites=sites,
        locator=_checked("locator", parse_locator, data["locator"]),
        slots=data.get("slots", 65537),
        flow_seed=data["flow_seed"],
        sr_domain=tuple(
            str(_checked(f"sr_domain[{index}]", ipaddress.IPv6Network, prefix))
            for index, prefix in enumerate(data["sr_domain"])
        ),
        services=services,
        gateways=gateways,
        consul_url=consul_url,
        policy=data.get("policy", "/etc/og/policy.yml"),
        state_dir=data.get("state_dir", "/var/lib/og/control"),
        table_socket=data.get("table_socket", f"/run/og/{role}.sock"),
        control_socket=data.get("control_socket", "/run/og/control.sock"),
        telemetry_socket=data.get("telemetry_socket", default_path(role)),
    )


def _service(index: int, entry: dict[str, Any]) -> Service:
    vip = str(_checked(f"services[{index}].vip", ipaddress.IPv6Address, entry["vip"]))
    return Service(entry["index"], entry["name"], vip, entry["protocol"], entry["port"], entry.get("udp_pins", False))


def _gateway(index: int, entry: dict[str, Any], sites: tuple[str, ...]) -> Gateway:
    if entry["site"] not in sites:
        raise ValueError(f"gateways[{index}].site: {entry['site']!r} is not one of sites {list(sites)}")
    address = _checked(f"gateways[{index}].locator", parse_locator, entry["locator"])
    return Gateway(entry["name"], entry["role"], entry["site"], address)


def _checked(where: str, parse: Callable[[str], T], value: str) -> T:
    try:
        return parse(value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _unique(where: str, what: str, values: list[Any]) -> None:
    for position, value in enumerate(values):
        if value in values[:position]:
            raise ValueError(f"{where}[{position}]: {what} {value!r} is there twice")
