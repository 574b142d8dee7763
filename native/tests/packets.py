# SPDX-License-Identifier: Apache-2.0
"""Packets for the tests, built by scapy: the oracle that shares no code with the library."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import Any

from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
    IPv6ExtHdrSegmentRoutingTLV,
    Pad1,
    PadN,
)
from scapy.packet import Raw

from native.tests.lab_site import CLIENT, VIP, VIP_UDP

__all__ = [
    "CLIENT", "TCP", "UDP", "VIP", "VIP_UDP", "ICMPv6DestUnreach", "ICMPv6EchoReply", "ICMPv6EchoRequest",
    "ICMPv6PacketTooBig", "ICMPv6ParamProblem", "ICMPv6TimeExceeded", "IPv6", "IPv6ExtHdrDestOpt", "IPv6ExtHdrFragment",
    "IPv6ExtHdrHopByHop", "IPv6ExtHdrRouting", "IPv6ExtHdrSegmentRouting", "IPv6ExtHdrSegmentRoutingTLV", "Pad1",
    "PadN", "Raw", "client_tcp", "client_udp", "icmp_error", "options", "server_tcp", "srh", "tlv",
]  # fmt: skip


def client_tcp(flags: str = "S", payload: bytes = b"", **fields: Any) -> Any:
    """A client's TCP segment to the VIP. Fields of either header by name."""
    ip = IPv6(
        src=fields.pop("src", CLIENT), dst=fields.pop("dst", VIP), hlim=fields.pop("hlim", 64), tc=fields.pop("tc", 0),
        fl=fields.pop("fl", 0x12345),
    )  # fmt: skip
    tcp = TCP(sport=fields.pop("sport", 40000), dport=fields.pop("dport", 80), flags=flags, seq=1000, ack=0, **fields)
    return ip / tcp / Raw(payload) if payload else ip / tcp


def client_udp(payload: bytes = b"query", **fields: Any) -> Any:
    """A client's datagram to the UDP service."""
    ip = IPv6(src=fields.pop("src", CLIENT), dst=fields.pop("dst", VIP_UDP), hlim=fields.pop("hlim", 64))
    return ip / UDP(sport=fields.pop("sport", 40000), dport=fields.pop("dport", 53)) / Raw(payload)


def server_tcp(flags: str = "SA", payload: bytes = b"", **fields: Any) -> Any:
    """A server's reply from the VIP to the client."""
    ip = IPv6(src=fields.pop("src", VIP), dst=fields.pop("dst", CLIENT), hlim=64)
    tcp = TCP(
        sport=fields.pop("sport", 80), dport=fields.pop("dport", 40000), flags=flags, seq=7000, ack=1001, **fields
    )
    return ip / tcp / Raw(payload) if payload else ip / tcp


def icmp_error(
    message: Any, embedded: Any, src: str = "2001:db8:c001:ff::1", dst: str = VIP, cut: int | None = None
) -> Any:
    """An ICMPv6 error from a router on the way, about `embedded`, of which `cut` bytes are left."""
    return IPv6(src=src, dst=dst) / message / Raw(bytes(embedded)[:cut])


def options(bytes_total: int, kind: Any = IPv6ExtHdrDestOpt) -> Any:
    """An options header of so many bytes (a multiple of 8, at least 8), all padding."""
    return kind(options=[PadN(optdata=bytes(bytes_total - 4))])


def tlv(kind: int, value: bytes) -> Any:
    """A TLV of the segment routing header."""
    return IPv6ExtHdrSegmentRoutingTLV(type=kind, len=len(value), value=value)


def srh(segments: list[str], left: int, tlvs: bytes = b"", **fields: int) -> bytes:
    """A segment routing header with the segments in the order they are travelled; without what follows it.

    Built by hand from RFC 8754 section 2, so that it can also lie: scapy mends lengths.
    """
    body = b"".join(IPv6Address(segment).packed for segment in reversed(segments)) + tlvs
    length, last_entry = fields.get("length", len(body) // 8), fields.get("last_entry", (len(segments) - 1) & 0xFF)
    next_header, kind, flags = fields.get("next_header", 41), fields.get("routing_type", 4), fields.get("flags", 0)
    return struct.pack(">6BH", next_header, length, kind, left, last_entry, flags, fields.get("tag", 0)) + body
