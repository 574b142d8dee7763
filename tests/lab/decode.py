# SPDX-License-Identifier: Apache-2.0
"""Just enough decoding to sort tens of thousands of captured frames; scapy judges the details of a few elsewhere."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scapy.utils import RawPcapReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIN, SYN, RST, ACK = 1, 2, 4, 16


@dataclass(frozen=True)
class Frame:
    """One captured IPv6 frame with its innermost TCP segment."""

    time: float
    outer_src: str
    outer_dst: str
    srh: bool
    encapsulated: bool
    src: str
    dst: str
    sport: int
    dport: int
    flags: int
    payload: int  # TCP payload bytes by the inner length, not by what was captured

    @property
    def syn(self) -> bool:
        """A connection request."""
        return self.flags & (SYN | ACK) == SYN

    @property
    def syn_ack(self) -> bool:
        """Its answer."""
        return self.flags & (SYN | ACK) == SYN | ACK


def _address(data: bytes) -> str:
    return str(ipaddress.IPv6Address(data))


def frame(data: bytes, when: float = 0.0) -> Frame | None:
    """Decode an Ethernet frame; None if there is no TCP segment in IPv6, or in IPv6 in IPv6 with or without an SRH."""
    if len(data) < 14 or data[12:14] != b"\x86\xdd":
        return None
    packet = data[14:]
    outer, srh, encapsulated = packet, False, False
    next_header, offset = packet[6] if len(packet) >= 40 else 59, 40
    if next_header == 43 and len(packet) >= 48:
        srh = packet[42] == 4
        next_header, offset = packet[40], 40 + 8 + packet[41] * 8
    if next_header == 41:
        encapsulated, packet = True, packet[offset:]
        next_header, offset = packet[6] if len(packet) >= 40 else 59, 40
    if next_header != 6 or len(packet) < offset + 20:
        return None
    tcp = packet[offset:]
    payload = int.from_bytes(packet[4:6], "big") - (offset - 40) - (tcp[12] >> 4) * 4
    return Frame(
        time=when,
        outer_src=_address(outer[8:24]),
        outer_dst=_address(outer[24:40]),
        srh=srh,
        encapsulated=encapsulated,
        src=_address(packet[8:24]),
        dst=_address(packet[24:40]),
        sport=int.from_bytes(tcp[0:2], "big"),
        dport=int.from_bytes(tcp[2:4], "big"),
        flags=tcp[13],
        payload=payload,
    )


def frames(path: Path) -> Iterator[Frame]:
    """All TCP frames of a capture."""
    with RawPcapReader(str(path)) as reader:
        for data, meta in reader:
            decoded = frame(data, meta.sec + meta.usec / 1e6)
            if decoded is not None:
                yield decoded
