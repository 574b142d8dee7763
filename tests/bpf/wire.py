# SPDX-License-Identifier: Apache-2.0
"""Packets of the gateway, written with scapy from the wire contract: independent of the C code that is under test."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET6, inet_ntop, inet_pton
from typing import Any

from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

ROOT = Path(__file__).resolve().parents[2]
BPF_DIR = ROOT / "bpf"

VIP, OTHER_VIP = "2001:db8:1::80", "2001:db8:1::99"
PORT, UDP_PORT = 80, 53
CLIENT = "2001:db8:c001:41::2"
FAR_CLIENT, FAR_PORT = "2001:db8:c001:42::2", "far1"  # beyond a cable; what tests do not answer there nobody does
AGENT, AGENT_2 = "5f00:1:31::", "5f00:1:32::"
HASHER, ROUTER, ROUTER_2 = "5f00:1:11::", "5f00:1:21::", "5f00:2:21::"
HASH = 0x5EEDBEEF
OWNER = 3

MAC_HERE, MAC_THERE = "02:00:00:00:00:31", "02:00:00:00:00:01"

ERRORS, STEER, PIN, MISS, ACCEPT, PROBE = 0, 1, 2, 3, 0x10, 0x20
K, N, F, LAST = 1, 2, 4, 8

XDP_DROP, XDP_PASS, XDP_TX = 1, 2, 3
TC_OK, TC_SHOT, TC_REDIRECT = 0, 2, 7


def constant(name: str) -> int:
    """A number of the wire header, to hold the constants above against."""
    text = (ROOT / "native/lib/og_wire.h").read_text()
    match = re.search(rf"#define {name} (0x[0-9a-f]+|\d+)", text)
    assert match, name
    return int(match[1], 0)


def sid(locator: str, function: int, argument: int = 0) -> str:
    """Locator, function (16 bits), argument (48 bits)."""
    return inet_ntop(
        AF_INET6,
        inet_pton(AF_INET6, locator)[:8] + struct.pack("!HHI", function, argument >> 32, argument & 0xFFFFFFFF),
    )


def flow_argument(owner: int = OWNER, flow_hash: int = HASH) -> int:
    return owner << 32 | flow_hash


def accept(flags: int, locator: str = AGENT) -> str:
    return sid(locator, ACCEPT, flags << 32 | OWNER << 16)


def steer(locator: str = ROUTER) -> str:
    return sid(locator, STEER, flow_argument())


def cookie(byte: int = 0xC0) -> bytes:
    """A cookie TLV; the agent does not look into it."""
    return bytes([124, 14, 1, 7, 0, 9, 0, 0]) + bytes([byte]) * 8


def tcp(
    flags: str = "S", *, tc: int = 0, src: str = CLIENT, dst: str = VIP, payload: bytes = b"", **fields: int
) -> Packet:
    """A client's segment, as it leaves the hasher: hop limit 63. `fields`: of the TCP header."""
    header: dict[str, Any] = {"sport": 40000, "dport": PORT, "seq": 1000, "ack": 0} | fields
    packet = IPv6(src=src, dst=dst, hlim=63, tc=tc) / TCP(flags=flags, **header)
    return packet / Raw(payload) if payload else packet


@dataclass(frozen=True)
class Path6:
    """Where a packet goes: all segments in the order of travel, the active one at `visited`."""

    segments: tuple[str, ...]
    visited: int = 0
    cookies: tuple[bytes, ...] = ()


def envelope(inner: Packet | bytes, path: Path6, *, src: str = "", tc: int = 0, hlim: int = 62) -> Packet:
    """The packet in its envelope, from the link on. One segment and no cookie: no SRH (RFC 8986 section 5.2)."""
    src = src or sid(ROUTER, ERRORS, flow_argument())
    outer = IPv6(src=src, dst=path.segments[path.visited], tc=tc, fl=HASH & 0xFFFFF, hlim=hlim)
    inside = Raw(bytes(inner))
    if len(path.segments) == 1 and not path.cookies:
        outer.nh = 41
        return Ether(dst=MAC_HERE, src=MAC_THERE) / outer / inside
    outer.nh = 43
    return Ether(dst=MAC_HERE, src=MAC_THERE) / outer / Raw(srh(path) + bytes(inside))


def srh(path: Path6, tag: int = 0x1234) -> bytes:
    """The segment routing header, RFC 8754 section 2, byte for byte."""
    n = len(path.segments)
    tlvs = b"".join(path.cookies)
    fixed = struct.pack("!BBBBBBH", 41, (16 * n + len(tlvs)) // 8, 4, n - 1 - path.visited, n - 1, 0, tag)
    return fixed + b"".join(inet_pton(AF_INET6, segment) for segment in reversed(path.segments)) + tlvs


def offered(*candidates: str, visited: int = 1, steers: tuple[str, ...] = (steer(),)) -> Path6:
    """The path of a SYN or of a hunt: visited Steers with their cookies, then candidates."""
    return Path6((*steers, *candidates), visited, tuple(cookie(0xC0 + i) for i in range(len(steers))))


def known(flags: int = K) -> Path6:
    """The path of a pinned packet: one segment."""
    return Path6((accept(flags),))


def probe(*, src: str = ROUTER, nonce: int = 0x112233445566, version: int = 1, kind: int = 1, **wrong: int) -> Packet:
    """A probe request, struct og_probe."""
    body = struct.pack(
        "!BBBBIQQQQIIQ", version, kind, 2, 0, 0, wrong.get("other_nonce", nonce), 0, 0x1234567890, 0, 0, 0, 0
    )
    udp = UDP(sport=wrong.get("sport", 20295), dport=wrong.get("dport", 20295)) / Raw(body)
    if "chksum" in wrong:
        udp.chksum = wrong["chksum"]
    outer = IPv6(src=sid(src, ERRORS), dst=sid(AGENT, PROBE, nonce), hlim=62)
    return Ether(dst=MAC_HERE, src=MAC_THERE) / outer / udp


@dataclass(frozen=True)
class Probe:
    """struct og_probe as read from a reply."""

    version: int
    type: int
    role: int
    flags: int
    generation: int
    nonce: int
    incarnation: int
    sent_ns: int
    listeners: int
    connections: int
    accepts_per_s: int
    bytes_per_s: int

    @classmethod
    def read(cls, body: bytes) -> Probe:
        return cls(*struct.unpack("!BBBBIQQQQIIQ", body))


__all__ = ["TCP", "UDP", "Ether", "IPv6", "IPv6ExtHdrSegmentRouting", "Raw"]  # scapy's, for the tests
