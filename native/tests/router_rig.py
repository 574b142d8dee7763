# SPDX-License-Identifier: Apache-2.0
"""A router on a bench: packets made by scapy go in, what comes out is compared with packets made by scapy.

The servers here are Python too: they answer along the way back as the wire contract says (og_wire.h).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrSegmentRouting,
    IPv6ExtHdrSegmentRoutingTLV,
)

from native.tests.lab_site import CLIENT, HASHER, ROUTERS, VIP, VIP_UDP, locator, sid
from native.tests.oglib import Buf, OgLibrary
from native.tests.table_spec import Member, Spec, build

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scapy.packet import Packet

R = ROUTERS[0]  # the router on the bench, unless its tables say otherwise
ERRORS, STEER, PIN, MISS, ACCEPT = 0x0000, 0x0001, 0x0002, 0x0003, 0x0010
K, N, F, LAST = 1, 2, 4, 8
TAG = 0x1E1F  # last two bytes of the digest 00 01 … 1f
SECOND = 10**9


def client_tcp(flags: str = "S", *, sport: int = 40000, client: str = CLIENT, hlim: int = 63, **tcp: Any) -> Packet:
    """A client's segment as the hasher leaves it: hop limit one lower."""
    tcp.setdefault("seq", 1000)
    payload = tcp.pop("payload", b"")
    return IPv6(bytes(IPv6(src=client, dst=VIP, hlim=hlim) / TCP(sport=sport, dport=80, flags=flags, **tcp) / payload))


def client_udp(port: int = 53, *, sport: int = 40000, payload: bytes = b"query") -> Packet:
    return IPv6(bytes(IPv6(src=CLIENT, dst=VIP_UDP, hlim=63) / UDP(sport=sport, dport=port) / payload))


def server_tcp(of: Packet, flags: str, **tcp: Any) -> Packet:
    """The server's answer to a client's segment, as the server sends it."""
    tcp.setdefault("ack", of[TCP].seq + 1)
    ip = IPv6(src=of.dst, dst=of.src, hlim=64)
    return IPv6(bytes(ip / TCP(sport=of[TCP].dport, dport=of[TCP].sport, flags=flags, **tcp)))


def server_udp(of: Packet, payload: bytes = b"answer") -> Packet:
    ip = IPv6(src=of.dst, dst=of.src, hlim=64)
    return IPv6(bytes(ip / UDP(sport=of[UDP].dport, dport=of[UDP].sport) / payload))


def envelope(
    inner: Packet | bytes,
    source: str,
    segments: Sequence[str],
    active: int = 0,
    cookies: Sequence[bytes] = (),
    **outer: Any,
) -> bytes:
    """`inner` in an envelope made by scapy. `segments` in the order travelled; one segment and no cookie: no SRH."""
    ip = IPv6(src=source, dst=segments[active], **outer)
    if len(segments) == 1 and not cookies:
        ip.nh = 41
        return bytes(ip / bytes(inner))
    srh = IPv6ExtHdrSegmentRouting(
        nh=41,
        addresses=list(reversed(segments)),
        segleft=len(segments) - 1 - active,
        lastentry=len(segments) - 1,
        tag=TAG,
        tlv_objects=[IPv6ExtHdrSegmentRoutingTLV(type=124, len=14, value=cookie[2:]) for cookie in cookies],
    )
    return bytes(ip / srh / bytes(inner))


@dataclass(frozen=True)
class Path:
    """What an envelope says, read without scapy: segments in the order travelled."""

    source: bytes
    destination: bytes
    hop_limit: int
    label: int
    segments: tuple[bytes, ...]
    active: int
    cookies: tuple[bytes, ...]
    inner: bytes

    @classmethod
    def read(cls, data: bytes) -> Path:
        source, destination = data[8:24], data[24:40]
        label = int.from_bytes(data[:4], "big") & 0xFFFFF
        if data[6] == 41:
            return cls(source, destination, data[7], label, (destination,), 0, (), data[40:])
        assert data[6] == 43
        length, left, last = 8 + 8 * data[41], data[43], data[44]
        listed = [data[48 + 16 * i : 64 + 16 * i] for i in range(last + 1)]
        tlvs = data[48 + 16 * (last + 1) : 40 + length]
        cookies = tuple(tlvs[i : i + 16] for i in range(0, len(tlvs), 16))
        assert all(cookie[:2] == bytes([124, 14]) for cookie in cookies)
        segments = tuple(reversed(listed))
        return cls(source, destination, data[7], label, segments, last - left, cookies, data[40 + length :])

    @property
    def ahead(self) -> list[tuple[bytes, int, int]]:
        """From the active segment on: (locator, function, first 16 bits of the argument)."""
        return [
            (s[:8], int.from_bytes(s[8:10], "big"), int.from_bytes(s[10:12], "big"))
            for s in self.segments[self.active :]
        ]

    @property
    def stages(self) -> list[int]:
        """Flags of the cookies."""
        return [int.from_bytes(cookie[6:8], "big") for cookie in self.cookies]


@dataclass(frozen=True)
class Sent:
    """What became of one packet."""

    verdict: str
    data: bytes
    owner: int

    @property
    def path(self) -> Path:
        return Path.read(self.data)


class Rig:
    """One router thread."""

    def __init__(
        self,
        og: OgLibrary,
        spec: Spec | None = None,
        *,
        pins: int = 4096,
        halfopen: int = 1024,
        thread: int = 0,
        threads: int = 1,
        secret: int = 7,
    ) -> None:
        self.og, self.spec = og, spec or Spec()
        self.now_ns = 1000 * SECOND
        self.tables = build(og, self.spec)
        self.health = og.ffi.new("struct og_health *")
        config = og.ffi.new("struct og_router_config *")
        self.kept = [
            og.ffi.new("uint8_t[]", og.lib.og_pins_bytes(pins) + 64),
            og.ffi.new("uint8_t[]", og.lib.og_halfopen_bytes(halfopen)),
        ]
        aligned = self.kept[0] + (-int(og.ffi.cast("uintptr_t", self.kept[0])) % 64)
        config.thread, config.threads = thread, threads
        config.pins, config.pins_memory = pins, aligned
        config.halfopen, config.halfopen_memory = halfopen, self.kept[1]
        config.health = self.health
        self.shares = og.ffi.new("struct og_shares *")
        config.shares = self.shares
        config.cookies.key = [secret, secret + 1]
        config.cookies.start_ns = self.now_ns
        config.key = [3, 4]
        config.self.role = og.const.OG_ROLE_ROUTER
        self.router = og.ffi.new("struct og_router *")
        assert og.lib.og_router_init(self.router, config, self.now_ns)
        self.counted: Counter[str] = Counter()

    # ---- time, tables, health

    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND)

    def load(self, spec: Spec) -> None:
        """Swap the tables."""
        self.spec = spec
        self.tables = build(self.og, spec)

    def tick(self, seconds: float, steps: int) -> None:
        """House-keeping over a time."""
        for _ in range(steps):
            self.wait(seconds / steps)
            self.og.lib.og_router_tick(self.router, self.tables, self.now_ns)

    # ---- packets in, packets out

    def burst(self, packets: Sequence[bytes], headroom: int = 320, tables: Any = None) -> list[Sent]:
        """og_router_burst. Every packet has exactly one verdict, counted once."""
        bufs = [Buf(self.og, packet, headroom) for packet in packets]
        pointers = self.og.ffi.new("struct og_buf *[]", [buf.buf for buf in bufs])
        self.og.lib.og_router_burst(
            self.router, self.tables if tables is None else tables, pointers, len(bufs), self.now_ns
        )
        for buf in bufs:
            buf.check()
            self.counted[buf.verdict] += 1
        assert self.verdicts() == self.counted
        return [Sent(buf.verdict, bytes(buf), buf.buf.owner) for buf in bufs]

    def one(self, packet: bytes, **how: Any) -> Sent:
        return self.burst([packet], **how)[0]

    def steer(self, inner: Packet | bytes, source: str = HASHER, **outer: Any) -> Sent:
        """A client's packet from a hasher."""
        return self.one(self.to_steer(inner, source, **outer))

    def to_steer(self, inner: Packet | bytes, source: str = HASHER, **outer: Any) -> bytes:
        outer.setdefault("hlim", 64)
        outer.setdefault("fl", 0x12345)
        return envelope(inner, sid(source, ERRORS, 5), [sid(self.spec.locator, STEER, 5)], **outer)

    # ---- the other ends

    def reply(self, sent: Sent, agent: Member, inner: Packet | bytes, **changes: Any) -> bytes:
        """What an agent makes of its server's reply to a packet that was sent to it: along the way back."""
        path = sent.path
        visited = [s for s in path.segments[: path.active] if s[8:10] == STEER.to_bytes(2, "big")]
        pins = [address(s[:8] + PIN.to_bytes(2, "big") + s[10:]) for s in reversed(visited)]
        source = changes.pop("source", sid(agent.locator, ERRORS, 5))
        cookies = changes.pop("cookies", path.cookies)
        return envelope(inner, source, pins, cookies=cookies, **({"hlim": 64} | changes))

    def decline(self, sent: Sent, times: int) -> bytes:
        """The packet after `times` agents passed it on."""
        data = bytearray(sent.data)
        for _ in range(times):
            data[43] -= 1
            data[7] -= 1
            left = data[43]
            data[24:40] = data[48 + 16 * left : 64 + 16 * left]
        return bytes(data)

    def missed(self, sent: Sent) -> bytes:
        """The packet after every agent ahead passed it on: at the Miss."""
        return self.decline(sent, len(sent.path.ahead) - 1)

    def kill(self, agent: Member, *, dead: bool = True) -> None:
        """As the prober does when a second witness has spoken, and when it answers again."""
        self.health.agent_suspect[agent.id] = self.health.agent_dead[agent.id] = dead
        self.health.version += 1

    def restart(self, agent: Member) -> None:
        """It answers as a new incarnation."""
        self.health.agent_epoch[agent.id] += 1
        self.kill(agent, dead=False)

    def connect(self, sport: int = 40000, server_isn: int = 5000, client_isn: int = 1000) -> Member:
        """A whole handshake; returns the agent that has the connection."""
        offered = self.steer(client_tcp("S", sport=sport, seq=client_isn))
        assert offered.verdict in {"offered", "offered_pinned"}
        agent = self.agent(offered.path.ahead[0][0])
        syn = client_tcp("S", sport=sport, seq=client_isn)
        answer = server_tcp(syn, "SA", seq=server_isn)
        assert self.one(self.reply(offered, agent, answer)).verdict == "returned_half_open"
        ack = client_tcp("A", sport=sport, seq=client_isn + 1, ack=server_isn + 1)
        promoted = self.steer(ack)
        assert promoted.verdict == "promoted"
        assert promoted.path.ahead == [(locator(agent.locator), ACCEPT, K)]
        return agent

    def agent(self, of: bytes) -> Member:
        """The agent with a locator."""
        return next(agent for agent in self.spec.agents if locator(agent.locator) == of)

    # ---- what the library says

    def verdicts(self) -> Counter[str]:
        counts = self.router.verdicts
        return Counter({self.og.verdict(i): counts[i] for i in range(self.og.lib.OG_V_COUNT) if counts[i]})

    def argument(self, inner: Packet) -> tuple[int, int]:
        """Owner and low 32 bits of the flow hash, as they stand in SIDs."""
        flow_hash = self.flow_hash(inner)
        return self.og.lib.og_hash_for(flow_hash, self.og.lib.OG_USE_OWNER) & 0xFFFF, flow_hash & 0xFFFFFFFF

    def flow_hash(self, inner: Packet) -> int:
        """Of a client's packet."""
        layer = inner[TCP] if TCP in inner else inner[UDP]
        flow = self.og.ffi.new("union og_flow *")
        flow.client, flow.vip = IPv6Address(inner.src).packed, IPv6Address(inner.dst).packed
        ports = bytes(layer)[:4]
        self.og.ffi.memmove(self.og.ffi.addressof(flow, "client_port"), ports, 4)
        flow.protocol = inner.nh
        seed = self.og.lib.og_tables_spec(self.tables).flow_seed
        return int(self.og.lib.og_flow_hash(self.og.ffi.addressof(seed), flow))

    def picks(self, inner: Packet, service: int = 0, site: int = 0) -> list[Member]:
        """First and second pick of the tables."""
        out = self.og.ffi.new("uint16_t[2]")
        n = self.og.lib.og_tables_agents(self.tables, self.health, service, site, self.flow_hash(inner), out)
        return [next(a for a in self.spec.agents if a.id == out[i]) for i in range(n)]

    def flow_sid(self, where: str, function: int, inner: Packet) -> str:
        """Errors, Steer, Pin or Miss with the flow's argument."""
        owner, low = self.argument(inner)
        return sid(where, function, owner << 32 | low)

    def accept(self, agent: Member, flags: int, inner: Packet) -> str:
        """Accept with the flow's owner."""
        return sid(agent.locator, ACCEPT, flags << 32 | self.argument(inner)[0] << 16)


def address(packed: bytes) -> str:
    """Sixteen bytes as text."""
    return str(IPv6Address(packed))
