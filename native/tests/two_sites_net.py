# SPDX-License-Identifier: Apache-2.0
"""Two sites in memory: real routers (the library), servers that know their flows, and the wires between them.

Servers follow the wire contract (native/lib/og_wire.h): K takes what it knows, N a new connection, F whatever comes;
the rest goes to the next segment, and a pinned packet that is not known goes back as a Miss.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6

from native.tests.lab_site import locator, sid
from native.tests.router_rig import (
    ERRORS,
    MISS,
    PIN,
    STEER,
    F,
    K,
    N,
    Path,
    Rig,
    address,
    client_tcp,
    envelope,
    server_tcp,
)
from native.tests.table_spec import Member, Spec, two_sites

if TYPE_CHECKING:
    from native.tests.oglib import OgLibrary

HASHERS = ("5f00:1:11::", "5f00:2:11::")
SERVER_ISN = 5000


@dataclass
class Server:
    """An agent and its kernel."""

    member: Member
    flows: set[int] = field(default_factory=set)  # client ports
    alive: bool = True


@dataclass
class Outcome:
    """Where a client's packet ended: the server that took it, what the client got, what the routers said."""

    server: str = ""
    answer: str = ""  # flags of the server's answer that reached the client
    verdicts: list[str] = field(default_factory=list)

    @property
    def last(self) -> str:
        return self.verdicts[-1]


class Net:
    """Both sites. `spec(own_site)` may be changed for all routers with `load`."""

    def __init__(self, og: OgLibrary, base: Spec | None = None) -> None:
        self.og, self.base = og, base or two_sites(slots=1009)
        self.routers: dict[bytes, Rig] = {}
        for number, router in enumerate(self.base.routers):
            self.start(router, secret=100 * number + 7)
        self.servers = {locator(agent.locator): Server(agent) for agent in self.base.agents}

    # ---- things that happen

    def start(self, router: Member, secret: int) -> None:
        """A router begins, or begins anew: without pins, with other keys."""
        spec = replace(self.base, locator=router.locator, own_site=router.site)
        rig = Rig(self.og, spec, secret=secret)
        for key in rig.router.cookies.key:
            key.id = (key.id + secret) % 256
        self.routers[locator(router.locator)] = rig

    def load(self, base: Spec) -> None:
        self.base = base
        for where, rig in self.routers.items():
            own = rig.spec
            rig.load(replace(base, locator=address(where + bytes(8)), own_site=own.own_site,
                             history=base.history if own.own_site == 0 else ()))  # fmt: skip

    def lose_router(self, router: Member) -> None:
        """It dies, and all others know: hashers' and routers' probes, and the fabric."""
        del self.routers[locator(router.locator)]
        for rig in self.routers.values():
            rig.health.router_suspect[router.id] = rig.health.router_dead[router.id] = 1

    def lose_server(self, agent: Member, *, known: bool = True) -> None:
        """Its host dies; with `known`, the routers of its site have two witnesses of it."""
        server = self.servers[locator(agent.locator)]
        server.alive, server.flows = False, set()
        for rig in self.routers.values():
            if known and rig.spec.own_site == agent.site:
                rig.kill(agent)

    def say(self, site: int, *, can_serve: bool) -> None:
        """The routers of a site tell all others whether they can serve service 0."""
        for rig in self.routers.values():
            for router in self.base.routers:
                if router.site == site != rig.spec.own_site:
                    rig.health.router_no_service[router.id] = 0 if can_serve else 1

    def listen(self, site: int, *, listening: bool) -> None:
        """The servers of a site have a listener or none; all routers hear of it."""
        for rig in self.routers.values():
            for agent in self.base.agents:
                if agent.site == site == rig.spec.own_site:
                    rig.health.agent_no_listener[agent.id] = 0 if listening else 1
        self.say(site, can_serve=listening)

    # ---- packets

    def router_for(self, packet: Any, site: int = 0) -> bytes:
        """As a hasher of the site chooses: by any router's tables, which are the same."""
        rig = next(iter(self.routers.values()))
        health, flow_hash = self.og.ffi.new("struct og_health *"), rig.flow_hash(packet)
        for router in self.base.routers:
            health.router_suspect[router.id] = locator(router.locator) not in self.routers
        for where in (site, 1 - site):
            chosen = self.og.lib.og_tables_router_at(rig.tables, health, where, flow_hash)
            if chosen != self.og.const.OG_NO_MEMBER:
                return locator(next(r.locator for r in self.base.routers if r.id == chosen))
        raise AssertionError("no router lives")

    def send(self, packet: Any, site: int = 0, via: bytes | None = None) -> Outcome:
        """A client's packet lands at a site's hasher."""
        to = via or self.router_for(packet, site)
        outcome = Outcome()
        self.carry(envelope(packet, sid(HASHERS[site], ERRORS, 5), [sid(address(to + bytes(8)), STEER, 5)],
                            hlim=64), outcome)  # fmt: skip
        return outcome

    def carry(self, data: bytes, outcome: Outcome) -> None:
        """From node to node until somebody keeps it."""
        for _ in range(64):
            if data[6] == 6:
                outcome.answer = str(IPv6(data)[TCP].flags)
                return
            where = data[24:32]
            if where in self.routers:
                sent = self.routers[where].one(data)
                outcome.verdicts.append(sent.verdict)
                if sent.verdict.startswith("drop"):
                    return
                data = sent.data
                if data[6] != 6:
                    assert len(sent.path.segments) <= 11
                    assert len(data) - len(sent.path.inner) <= 256
            elif where in self.servers and self.servers[where].alive:
                onward = self.at_server(self.servers[where], data, outcome)
                if onward is None:
                    return
                data = onward
            else:
                outcome.verdicts.append("lost")
                return
        raise AssertionError("a packet goes round and round")

    def at_server(self, server: Server, data: bytes, outcome: Outcome) -> bytes | None:
        """What the agent makes of it: the packet passed on, the answer, or None."""
        path = Path.read(data)
        packet = IPv6(path.inner)
        port, flags = packet[TCP].sport, path.ahead[0][2]
        syn = "S" in str(packet[TCP].flags)
        known = port in server.flows
        if not (flags & F or (flags & K and known) or (flags & N and (known or syn))):
            return self.declined(server, data, path)
        if not known and not syn:
            outcome.answer = "R"  # the kernel's own, straight to the client
            return None
        outcome.server = server.member.name
        server.flows.add(port)
        answer = server_tcp(packet, "SA" if syn else "A", seq=SERVER_ISN if syn else SERVER_ISN + 1)
        back = [
            address(s[:8] + PIN.to_bytes(2, "big") + s[10:])
            for s in reversed(path.segments[: path.active])
            if s[8:10] == STEER.to_bytes(2, "big")
        ]
        if not back:
            outcome.answer = "SA" if syn else "A"
            return None
        return envelope(answer, sid(server.member.locator, ERRORS, 5), back, cookies=path.cookies, hlim=64)

    @staticmethod
    def declined(server: Server, data: bytes, path: Path) -> bytes:
        out = bytearray(data)
        out[7] -= 1
        if data[6] == 41:
            out[24:40] = path.source[:8] + MISS.to_bytes(2, "big") + path.source[10:]
            out[8:24] = locator(server.member.locator) + bytes(2) + path.source[10:]
        else:
            out[43] -= 1
            out[24:40] = data[48 + 16 * out[43] : 64 + 16 * out[43]]
        return bytes(out)

    # ---- a client's doings

    def connect(self, sport: int, site: int = 0) -> str:
        """A handshake; returns the server's name."""
        assert self.send(client_tcp("S", sport=sport), site).answer == "SA"
        outcome = self.data(sport, site)
        assert outcome.answer == "A"
        return outcome.server

    def data(self, sport: int, site: int = 0, flags: str = "A", via: bytes | None = None) -> Outcome:
        return self.send(client_tcp(flags, sport=sport, seq=1001, ack=SERVER_ISN + 1), site, via)
