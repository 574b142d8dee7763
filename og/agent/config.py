# SPDX-License-Identifier: Apache-2.0
"""`/etc/og/agent.json`: read, checked, typed. A wrong file yields every error it has, each with its place."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from og.agent.layout import MAX_SERVICES, PROTOCOLS
from og.configfile import ConfigError, read_json

if TYPE_CHECKING:
    from collections.abc import Callable

MSS_OVERHEAD = 316  # OG_MSS_OVERHEAD: 256 of encapsulation, 40 of IPv6, 20 of TCP
MSS_MIN = 1220  # OG_MSS_MIN
MTU_MIN = 1280 + 256  # the smallest client packet and the largest envelope


@dataclass(frozen=True)
class Service:
    """A service this host offers. `index`: its bit in masks; `accept_limit`: backlog, 0 = the listener's maximum."""

    index: int
    name: str
    vip: IPv6Address
    protocol: str
    port: int
    accept_limit: int


@dataclass(frozen=True)
class AgentConfig:
    """The whole file. MTU in bytes, `dscp` 0..63, `report_s` in seconds."""

    interface: str
    locator: IPv6Address
    fabric_mtu: int
    gateways: tuple[IPv6Network, ...]
    services: tuple[Service, ...]
    bpf_dir: Path
    pin_dir: Path = Path("/sys/fs/bpf/og/agent")
    xdp_mode: str = "native"
    address: IPv6Address | None = None
    dscp: int = 0
    report_s: float = 1.0
    draining: bool = False
    tx_checksum: str = "auto"
    prepare_host: bool = True
    status_file: Path = Path("/run/og/agent.status.json")

    @property
    def mss_limit(self) -> int:
        """Highest MSS a service of this host may announce, bytes."""
        return max(self.fabric_mtu - MSS_OVERHEAD, MSS_MIN)


@dataclass
class _Reader:
    """Takes members out of a JSON object and collects what is wrong with them."""

    source: dict[str, Any]
    place: str
    errors: list[str] = field(default_factory=list)

    def get(self, key: str, convert: Callable[[Any], Any], default: Any = ...) -> Any:  # noqa: ANN401 - JSON
        if key not in self.source:
            if default is ...:
                self.errors.append(f"{self.place}{key}: missing")
                return None
            return default
        value = self.source.pop(key)
        try:
            return convert(value)
        except (ValueError, TypeError) as error:
            self.errors.append(f"{self.place}{key}: {error}: {json.dumps(value)}")
            return None

    def end(self) -> list[str]:
        return self.errors + [f"{self.place}{key}: unknown" for key in self.source]


def _text(value: Any) -> str:  # noqa: ANN401 - JSON
    if not isinstance(value, str) or not value:
        raise ValueError("not a non-empty string")
    return value


def _interface(value: Any) -> str:  # noqa: ANN401
    name = _text(value)
    if len(name.encode()) > 15 or "/" in name or name in (".", ".."):
        raise ValueError("not the name of a network interface")
    return name


def _path(value: Any) -> Path:  # noqa: ANN401
    path = Path(_text(value))
    if not path.is_absolute():
        raise ValueError("not an absolute path")
    return path


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def convert(value: Any) -> str:  # noqa: ANN401
        if value not in allowed:
            raise ValueError(f"not one of {', '.join(allowed)}")
        return str(value)

    return convert


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:  # noqa: ANN401
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"not a whole number from {low} to {high}")
        return value

    return convert


def _seconds(value: Any) -> float:  # noqa: ANN401
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.1 <= value <= 60:
        raise ValueError("not a number of seconds from 0.1 to 60")
    return float(value)


def _boolean(value: Any) -> bool:  # noqa: ANN401
    if not isinstance(value, bool):
        raise TypeError("not true or false")
    return value


def _address(value: Any) -> IPv6Address:  # noqa: ANN401
    try:
        return IPv6Address(_text(value))
    except ValueError:
        raise ValueError("not an IPv6 address") from None


def _prefix(value: Any) -> IPv6Network:  # noqa: ANN401
    try:
        return IPv6Network(_text(value))
    except ValueError:
        raise ValueError("not an IPv6 prefix") from None


def _locator(value: Any) -> IPv6Address:  # noqa: ANN401
    address = IPv6Address(_address(str(value).removesuffix("/64")))
    if int(address) & (1 << 64) - 1:
        raise ValueError("not a locator: bits are set behind the first 64")
    return address


def _list(value: Any) -> list[Any]:  # noqa: ANN401
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _service(value: Any, place: str, errors: list[str]) -> Service | None:  # noqa: ANN401
    if not isinstance(value, dict):
        errors.append(f"{place}: not an object: {json.dumps(value)}")
        return None
    reader = _Reader(dict(value), f"{place}.")
    found = Service(
        index=reader.get("index", _integer(0, MAX_SERVICES - 1)),
        name=reader.get("name", _text),
        vip=reader.get("vip", _address),
        protocol=reader.get("protocol", _one_of(*PROTOCOLS)),
        port=reader.get("port", _integer(1, 65535)),
        accept_limit=reader.get("accept_limit", _integer(0, 2**31 - 1), 0),
    )
    bad = reader.end()
    errors.extend(bad)
    return None if bad else found


def _services(values: list[Any], errors: list[str]) -> tuple[Service, ...]:
    found: list[Service] = []
    for i, value in enumerate(values):
        service = _service(value, f"services[{i}]", errors)
        if service is None:
            continue
        for other in found:
            if other.index == service.index:
                errors.append(f"services[{i}].index: {service.index} is also that of {other.name}")
            if (other.vip, other.protocol, other.port) == (service.vip, service.protocol, service.port):
                errors.append(f"services[{i}]: same address, protocol and port as {other.name}")
        found.append(service)
    return tuple(found)


def _prefixes(values: list[Any], errors: list[str]) -> tuple[IPv6Network, ...]:
    found = []
    for i, value in enumerate(values):
        try:
            found.append(_prefix(value))
        except (ValueError, TypeError) as error:
            errors.append(f"gateways[{i}]: {error}: {json.dumps(value)}")
    return tuple(found)


def check(document: Any, name: str = "configuration") -> AgentConfig:  # noqa: ANN401 - JSON
    """Return the configuration a JSON document holds. Raises ConfigError: one line per error, each with its place."""
    if not isinstance(document, dict):
        raise ConfigError(f"{name}: not a JSON object")
    reader = _Reader(dict(document), "")
    errors: list[str] = []
    config = AgentConfig(
        interface=reader.get("interface", _interface),
        locator=reader.get("locator", _locator),
        fabric_mtu=reader.get("fabric_mtu", _integer(MTU_MIN, 65535)),
        gateways=_prefixes(reader.get("gateways", _list) or [], errors),
        services=_services(reader.get("services", _list) or [], errors),
        bpf_dir=reader.get("bpf_dir", _path),
        pin_dir=reader.get("pin_dir", _path, AgentConfig.pin_dir),
        xdp_mode=reader.get("xdp_mode", _one_of("native", "generic"), AgentConfig.xdp_mode),
        address=reader.get("address", _address, None),
        dscp=reader.get("dscp", _integer(0, 63), 0),
        report_s=reader.get("report_s", _seconds, 1.0),
        draining=reader.get("draining", _boolean, False),
        tx_checksum=reader.get("tx_checksum", _one_of("auto", "keep"), "auto"),
        prepare_host=reader.get("prepare_host", _boolean, True),
        status_file=reader.get("status_file", _path, AgentConfig.status_file),
    )
    errors = reader.end() + errors
    if errors:
        raise ConfigError("\n".join(f"{name}: {error}" for error in errors))
    return config


def load(path: Path) -> AgentConfig:
    """Read and check a file. Raises ConfigError."""
    return check(read_json(path), str(path))
