# SPDX-License-Identifier: Apache-2.0
"""One lab site as tables: the numbers of the recovery inventory, in the form the C library takes them."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from native.tests.oglib import OgLibrary

VIP = "2001:db8:1::80"
VIP_UDP = "2001:db8:1::53"
CLIENT = "2001:db8:c001:41::1"
HASHER = "5f00:1:11::"
ROUTERS = ("5f00:1:21::", "5f00:1:22::", "5f00:1:23::", "5f00:1:24::")
AGENTS = ("5f00:1:31::", "5f00:1:32::", "5f00:1:33::")
SR_DOMAIN = ("5f00::/16", "2001:db8:f000::/36", "2001:db8:1::/48")
FLOW_SEED = bytes(range(16))
FABRIC_MTU = 2000


def locator(text: str) -> bytes:
    """The upper 8 bytes of an address."""
    return IPv6Address(text).packed[:8]


def sid(text: str, function: int, argument: int = 0) -> str:
    """A SID as text: locator | function | argument (48 bits)."""
    return str(IPv6Address(locator(text) + function.to_bytes(2, "big") + argument.to_bytes(6, "big")))


@dataclass
class Site:
    """What differs from the lab's recovery topology."""

    locator: str = HASHER
    routers: tuple[str, ...] = ROUTERS
    agents: tuple[str, ...] = AGENTS
    gateways: tuple[str, ...] = (HASHER, *ROUTERS)
    services: tuple[tuple[str, str, int], ...] = ((VIP, "tcp", 80), (VIP_UDP, "udp", 53))
    weights: dict[str, int] = field(default_factory=dict)
    fabric_mtu: int = FABRIC_MTU
    dscp: int = 0
    generation: int = 1
    flow_seed: bytes = FLOW_SEED


def build_tables(og: OgLibrary, site: Site | None = None) -> Any:
    """og_tables_build of a site; freed with the returned object. AssertionError with the library's message."""
    site = site or Site()
    ffi = og.ffi
    services = ffi.new("struct og_service[]", len(site.services))
    for service, (vip, protocol, port) in zip(services, site.services, strict=True):
        service.vip = IPv6Address(vip).packed
        service.port = socket.htons(port)
        service.protocol = {"tcp": 6, "udp": 17}[protocol]
        service.idle_s, service.closing_s, service.half_open_s = 8000, 60, 8
        service.name = f"{protocol}{port}".encode()

    def members(prefix: str, locators: tuple[str, ...], mask: int) -> Any:
        result = ffi.new("struct og_member[]", max(len(locators), 1))
        for number, text in enumerate(locators):
            member = result[number]
            member.locator = locator(text)
            member.id = number
            member.weight = site.weights.get(text, 100)
            member.services = mask
            member.name = f"{prefix}{number}".encode()
        return result

    spec = ffi.new("struct og_tables_spec *")
    spec.generation = site.generation
    spec.digest = bytes(range(32))
    ffi.memmove(ffi.addressof(spec.flow_seed), site.flow_seed, 16)
    spec.locator = locator(site.locator)
    spec.traffic_class_dscp = site.dscp << 2
    spec.fabric_mtu = site.fabric_mtu
    spec.slots = og.const.OG_TABLE_SLOTS
    routers, agents = members("router", site.routers, 0), members("agent", site.agents, (1 << len(services)) - 1)
    gateways = ffi.new("uint8_t[][8]", [locator(text) for text in site.gateways])
    spec.services, spec.n_services = services, len(site.services)
    spec.routers, spec.n_routers = routers, len(site.routers)
    spec.agents, spec.n_agents = agents, len(site.agents)
    spec.gateways, spec.n_gateways = gateways, len(site.gateways)
    for number, text in enumerate(SR_DOMAIN):
        network = IPv6Network(text)
        spec.sr_domain[number].prefix = network.network_address.packed
        spec.sr_domain[number].length = network.prefixlen
    spec.n_sr_domain = len(SR_DOMAIN)

    error = ffi.new("char[]", 256)
    tables = og.lib.og_tables_build(spec, error, 256)
    assert tables != ffi.NULL, ffi.string(error).decode()
    return ffi.gc(tables, og.lib.og_tables_free)
