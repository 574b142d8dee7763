# SPDX-License-Identifier: Apache-2.0
"""Captures of segment routing and routing headers from public test trees, where their folder is present."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scapy.utils import PcapReader

from native.tests.oglib import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

VECTORS = ROOT.parent / "shared" / "vectors"
SKIP = f"no captures: {VECTORS} is not there"
ETHERNET = 1
IPV6_TYPE = b"\x86\xdd"


def captures() -> list[str]:
    """Names of the captures; empty where there are none."""
    return sorted(path.name for path in VECTORS.glob("*.pcap")) if VECTORS.is_dir() else []


def packets_of(name: str) -> Iterator[bytes]:
    """The captured packets as bytes from the IPv6 header on; at most 50 of one file."""
    with PcapReader(str(VECTORS / name)) as reader:
        for number, packet in enumerate(reader):
            if number == 50:
                return
            data = bytes(packet.original)
            if reader.linktype == ETHERNET:
                data = data[14:] if data[12:14] == IPV6_TYPE else data
            yield data


def captured_packets() -> Iterator[bytes]:
    """All of them."""
    for name in captures():
        yield from packets_of(name)
