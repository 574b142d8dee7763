# SPDX-License-Identifier: Apache-2.0
"""The maps as `bpf/og_maps.h` declares them, and what their values mean. A test compares both."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from og.agent import bpf
from og.agent.bpf import MapSpec

if TYPE_CHECKING:
    from pathlib import Path

MAX_SERVICES = 64
LOCATOR_BITS = 64
LOAD_AWARE, DRAINING = 0x1, 0x2

MAPS = {
    "config": MapSpec("config_map", bpf.ARRAY, 4, 24, 1),
    "counters": MapSpec("counters_map", bpf.PERCPU_ARRAY, 4, 8, 128),
    "locators": MapSpec("locators_map", bpf.HASH, 8, 4, 4096, bpf.NO_PREALLOC),
    "gateways": MapSpec("gateways_map", bpf.LPM_TRIE, 20, 4, 4096, bpf.NO_PREALLOC),
    "services": MapSpec("services_map", bpf.HASH, 24, 8, MAX_SERVICES),
    "ports": MapSpec("ports_map", bpf.ARRAY, 4, 24, MAX_SERVICES),
    "notes": MapSpec("notes_map", bpf.LRU_HASH, 40, 120, 65536),
    "scratch": MapSpec("scratch_map", bpf.PERCPU_ARRAY, 4, 248, 1),
    "probers": MapSpec("probers_map", bpf.LRU_HASH, 8, 16, 1024),
    "load": MapSpec("load_map", bpf.ARRAY, 4, 16, 1),
    "stats": MapSpec("stats_map", bpf.PERCPU_ARRAY, 4, 24, MAX_SERVICES),
}
PROGRAMS = ("xdp", "tc")

PROTOCOLS = {"tcp": 6, "udp": 17}


def index(number: int) -> bytes:
    """Key of an array."""
    return struct.pack("=I", number)


def service_key(vip: IPv6Address, protocol: str, port: int) -> bytes:
    """Struct og_service_key."""
    return struct.pack("!16sHB5x", vip.packed, port, PROTOCOLS[protocol])


def service_value(number: int, accept_limit: int) -> bytes:
    """Struct og_service_value."""
    return struct.pack("=II", number, accept_limit)


def gateway_key(prefix: IPv6Network) -> bytes:
    """Struct og_gateway_key: the key of a longest-prefix match starts with the length in bits."""
    return struct.pack("=I", prefix.prefixlen) + prefix.network_address.packed


@dataclass(frozen=True)
class Config:
    """Struct og_config. MTU and MSS in bytes; `dscp`: 0..63."""

    locator: IPv6Address
    incarnation: bytes
    fabric_mtu: int
    mss_limit: int
    dscp: int
    load_aware: bool
    draining: bool

    def pack(self) -> bytes:
        """Return the map's value."""
        flags = LOAD_AWARE * self.load_aware | DRAINING * self.draining
        numbers = (self.fabric_mtu, self.mss_limit, self.dscp << 2, flags)
        return struct.pack("=8s8sIHBB", self.locator.packed[:8], self.incarnation, *numbers)

    @classmethod
    def unpack(cls, raw: bytes) -> Config:
        """Read the map's value."""
        locator, incarnation, mtu, mss, dscp_bits, flags = struct.unpack("=8s8sIHBB", raw)
        address = IPv6Address(locator + bytes(8))
        return cls(address, incarnation, mtu, mss, dscp_bits >> 2, bool(flags & LOAD_AWARE), bool(flags & DRAINING))


@dataclass(frozen=True)
class Load:
    """Struct og_load: of all services together."""

    connections: int = 0
    accepts_per_s: int = 0
    bytes_per_s: int = 0

    def pack(self) -> bytes:
        """Return the map's value."""
        counts = (min(count, 2**32 - 1) for count in (self.connections, self.accepts_per_s))
        return struct.pack("=IIQ", *counts, self.bytes_per_s)

    @classmethod
    def unpack(cls, raw: bytes) -> Load:
        """Read the map's value."""
        return cls(*struct.unpack("=IIQ", raw))


@dataclass(frozen=True)
class ServiceStats:
    """Struct og_service_stats, summed over all CPUs."""

    accepts: int = 0
    packets: int = 0
    octets: int = 0

    @classmethod
    def total(cls, values: list[bytes]) -> ServiceStats:
        """Add up the values of a per-CPU map."""
        rows = [struct.unpack("=QQQ", value) for value in values]
        return cls(*(sum(column) for column in zip(*rows, strict=True))) if rows else cls()


@dataclass(frozen=True)
class Counter:
    """A name of `bpf/og_counters.h`, at its place."""

    name: str
    kind: str  # PASS, TX, DROP or EVENT
    text: str


_COUNTER = re.compile(r'^\s*X\((\w+), "(\w+)", (\w+), "(.*)"\)', re.MULTILINE)


@cache
def counters(header: Path) -> tuple[Counter, ...]:
    """Read the counters' names from the X-macro, so that there is one list of them. Raises OSError, ValueError."""
    found = tuple(Counter(name, kind, text) for _, name, kind, text in _COUNTER.findall(header.read_text()))
    if not found:
        raise ValueError(f"{header}: no counters found")
    return found
