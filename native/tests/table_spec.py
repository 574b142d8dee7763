# SPDX-License-Identifier: Apache-2.0
"""struct og_tables_spec from Python, with every field in reach: several sites, generations, wrong values."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any

from native.tests.lab_site import FLOW_SEED, SR_DOMAIN, VIP, VIP_UDP, locator

if TYPE_CHECKING:
    from native.tests.oglib import OgLibrary

PROTOCOLS = {"tcp": 6, "udp": 17}


@dataclass(frozen=True)
class Service:
    """struct og_service."""

    vip: str = VIP
    protocol: str | int = "tcp"
    port: int = 80
    name: str = "web"
    udp_pins: bool = False
    idle_s: int = 8000
    closing_s: int = 60
    half_open_s: int = 8


@dataclass(frozen=True)
class Member:
    """struct og_member."""

    locator: str
    id: int
    name: str
    site: int = 0
    weight: int = 100
    generation: int = 0
    services: int = 0
    dead: bool = False


def agents(count: int, site: int = 0, services: int = 0b111) -> tuple[Member, ...]:
    """agent_w1 … of site 0, agent_e1 … of site 1; ids are unique over the sites."""
    letter = "we"[site]
    return tuple(
        Member(f"5f00:{site + 1:x}:{0x31 + i:x}::", 100 * site + i, f"agent_{letter}{i + 1}", site, services=services)
        for i in range(count)
    )


def routers(count: int, site: int = 0) -> tuple[Member, ...]:
    """ogr_w1 … of site 0, ogr_e1 … of site 1."""
    letter = "we"[site]
    return tuple(
        Member(f"5f00:{site + 1:x}:{0x21 + i:x}::", 100 * site + i, f"ogr_{letter}{i + 1}", site) for i in range(count)
    )


SERVICES = (
    Service(),
    Service(VIP_UDP, "udp", 53, "dns"),
    Service(VIP_UDP, "udp", 5060, "sip", udp_pins=True, idle_s=30),
)


@dataclass(frozen=True)
class Past:
    """struct og_past: ids with their weights."""

    agents: tuple[tuple[int, int], ...]
    service: int = 0


@dataclass(frozen=True)
class Spec:
    """struct og_tables_spec."""

    locator: str = "5f00:1:21::"
    own_site: int = 0
    services: tuple[Service, ...] = SERVICES
    routers: tuple[Member, ...] = field(default_factory=lambda: routers(4))
    agents: tuple[Member, ...] = field(default_factory=lambda: agents(3))
    gateways: tuple[str, ...] = ("5f00:1:11::", "5f00:1:12::")
    sr_domain: tuple[str | tuple[str, int], ...] = SR_DOMAIN
    fabric_mtu: int = 2000
    traffic_class: int = 0
    slots: int = 65537
    generation: int = 1
    flow_seed: bytes = FLOW_SEED
    history: tuple[Past, ...] = ()
    spill: tuple[tuple[int, int], ...] | None = None  # (service, site); None: not listed

    def with_agent(self, number: int, **changes: Any) -> Spec:
        """The same with one agent changed."""
        changed = list(self.agents)
        changed[number] = replace(changed[number], **changes)
        return replace(self, agents=tuple(changed))

    def with_service(self, number: int, **changes: Any) -> Spec:
        """The same with one service changed."""
        changed = list(self.services)
        changed[number] = replace(changed[number], **changes)
        return replace(self, services=tuple(changed))


def two_sites(own_site: int = 0, **changes: Any) -> Spec:
    """Both sites' members as a router of one of them sees them."""
    spec = Spec(
        locator=("5f00:1:21::", "5f00:2:21::")[own_site],
        own_site=own_site,
        routers=routers(2) + routers(2, 1),
        agents=agents(3) + agents(2, 1),
        gateways=("5f00:1:11::", "5f00:2:11::"),
    )
    return replace(spec, **changes)


def _members(ffi: Any, members: tuple[Member, ...]) -> Any:
    result = ffi.new("struct og_member[]", max(len(members), 1))
    for member, out in zip(members, result, strict=False):
        out.locator = locator(member.locator)
        out.id, out.site, out.weight, out.generation = member.id, member.site, member.weight, member.generation
        out.services, out.dead = member.services, member.dead
        out.name = member.name.encode()
    return result


def _services(ffi: Any, services: tuple[Service, ...]) -> Any:
    result = ffi.new("struct og_service[]", max(len(services), 1))
    for service, out in zip(services, result, strict=False):
        out.vip = IPv6Address(service.vip).packed
        out.port = socket.htons(service.port)
        out.protocol = PROTOCOLS[service.protocol] if isinstance(service.protocol, str) else service.protocol
        out.udp_pins = service.udp_pins
        out.idle_s, out.closing_s, out.half_open_s = service.idle_s, service.closing_s, service.half_open_s
        out.name = service.name.encode()
    return result


def _history(ffi: Any, history: tuple[Past, ...]) -> tuple[Any, list[Any]]:
    """The array, and what its entries point to."""
    result = ffi.new("struct og_past[]", max(len(history), 1))
    agents = [ffi.new("struct og_past_agent[]", past.agents or [(0, 0)]) for past in history]
    for past, kept, out in zip(history, agents, result, strict=False):
        out.service, out.n_agents, out.agents = past.service, len(past.agents), kept
    return result, agents


def build(og: OgLibrary, spec: Spec) -> Any:
    """og_tables_build; ValueError with the library's message. Freed with the returned object."""
    ffi = og.ffi
    c_spec = ffi.new("struct og_tables_spec *")
    kept = [
        _services(ffi, spec.services),
        _members(ffi, spec.routers),
        _members(ffi, spec.agents),
        ffi.new("uint8_t[][8]", [locator(text) for text in spec.gateways] or 1),
    ]
    c_spec.services, c_spec.routers, c_spec.agents, c_spec.gateways = kept
    c_spec.n_services, c_spec.n_routers = len(spec.services), len(spec.routers)
    c_spec.n_agents, c_spec.n_gateways = len(spec.agents), len(spec.gateways)
    c_spec.generation, c_spec.own_site, c_spec.slots = spec.generation, spec.own_site, spec.slots
    c_spec.traffic_class_dscp, c_spec.fabric_mtu = spec.traffic_class, spec.fabric_mtu
    c_spec.digest = bytes(range(32))
    c_spec.locator = locator(spec.locator)
    ffi.memmove(ffi.addressof(c_spec.flow_seed), spec.flow_seed, 16)
    c_spec.n_sr_domain = len(spec.sr_domain)
    for entry, out in zip(spec.sr_domain, c_spec.sr_domain, strict=False):
        if isinstance(entry, str):
            network = IPv6Network(entry)
            out.prefix, out.length = network.network_address.packed, network.prefixlen
        else:
            out.prefix, out.length = IPv6Address(entry[0]).packed, entry[1]
    past, kept_agents = _history(ffi, spec.history)
    spill = ffi.new("struct og_spill[]", list(spec.spill or ()) or 1)
    c_spec.history, c_spec.n_history = past, len(spec.history)
    c_spec.spill, c_spec.n_spill, c_spec.spill_listed = spill, len(spec.spill or ()), spec.spill is not None
    kept += [past, kept_agents, spill]
    error = ffi.new("char[]", 256)
    tables = og.lib.og_tables_build(c_spec, error, 256)
    if tables == ffi.NULL:
        raise ValueError(ffi.string(error).decode())
    return ffi.gc(tables, og.lib.og_tables_free)
