# SPDX-License-Identifier: Apache-2.0
"""Captures of segment routing and routing headers from public test trees: the folder OG_VECTORS names, if any."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from scapy.utils import PcapReader

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = os.environ.get("OG_VECTORS", "")
SKIP = "set OG_VECTORS to a folder of captures"
ETHERNET = 1
IPV6_TYPE = b"\x86\xdd"


def captures() -> list[str]:
    """Names of the captures; empty without a folder. ValueError for one that has none."""
    names = sorted(path.name for path in Path(FOLDER).glob("*.pcap")) if FOLDER else []
    if FOLDER and not names:
        raise ValueError(f"OG_VECTORS: no *.pcap in {FOLDER}")
    return names


def packets_of(name: str) -> Iterator[bytes]:
    """The captured packets as bytes from the IPv6 header on; at most 50 of one file."""
    with PcapReader(str(Path(FOLDER) / name)) as reader:
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
