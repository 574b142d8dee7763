# SPDX-License-Identifier: Apache-2.0
"""Seeds for the fuzzers: valid packets of every kind made by scapy, and what the tests know to be invalid.

`python3 -m native.fuzz.seeds DIRECTORY` writes DIRECTORY/<fuzzer>/<name>. Captures are added where
OG_VECTORS names a folder of them.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from native.tests import test_encap, test_hasher, test_icmp, test_outer, test_parse, test_probe
from native.tests.lab_site import AGENTS, CLIENT, HASHER, ROUTERS, VIP, sid
from native.tests.packets import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    Raw,
    client_tcp,
    client_udp,
    icmp_error,
    server_tcp,
    srh,
)
from native.tests.vectors import captured_packets

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGN = b"\x01"  # option of fuzz_sid: sign the cookies
AS_IS = b"\x00"


def client_seeds() -> Iterator[bytes]:
    """Packets from clients and to a hasher's own SIDs."""
    yield from map(bytes, test_parse.PASS.values())
    for packet, _ in (*test_parse.FAIL.values(), *test_hasher.DROP.values()):
        yield bytes(packet)
    yield from map(bytes, (client_udp(), server_tcp("SA"), IPv6(src=CLIENT, dst=VIP) / ICMPv6EchoRequest()))
    for message in (ICMPv6DestUnreach(), ICMPv6PacketTooBig(mtu=1400), ICMPv6TimeExceeded()):
        yield bytes(icmp_error(message, server_tcp("A", b"data")))
    yield bytes(client_tcp("A", bytes(1800)))
    yield bytes(client_tcp(hlim=1))
    yield bytes(test_hasher.router_probe())
    yield from captured_packets()


def sid_seeds() -> Iterator[bytes]:
    """Packets to a router: every function, with and without header and cookies."""
    argument = 0xABCD12345678
    own = ROUTERS[0]
    steer, pin, miss = (sid(own, function, argument) for function in (1, 2, 3))
    accept = sid(AGENTS[0], 0x10, 0x0001ABCD0000)
    hasher, agent = sid(HASHER, 0, argument), sid(AGENTS[0], 0, argument)
    cookie = test_encap.COOKIES[0]
    inner = [client_tcp(flags, b"data") for flags in ("S", "A", "PA", "FA", "R")] + [
        client_udp(), icmp_error(ICMPv6DestUnreach(), server_tcp("A")),
    ]  # fmt: skip
    for packet in inner:
        yield AS_IS + bytes(IPv6(src=hasher, dst=steer, hlim=62) / packet)
        yield SIGN + bytes(
            IPv6(src=hasher, dst=miss, nh=43) / Raw(srh([steer, accept, miss], 0, cookie) + bytes(packet))
        )
    for flags in ("SA", "A", "RA", "FA"):
        yield SIGN + bytes(IPv6(src=agent, dst=pin, nh=43) / Raw(srh([pin], 0, cookie) + bytes(server_tcp(flags))))
        two = srh([pin, sid(ROUTERS[1], 2, argument)], 1, cookie * 2)
        yield SIGN + bytes(IPv6(src=agent, dst=pin, nh=43) / Raw(two + bytes(server_tcp(flags))))
    for packet, _ in (*test_outer.FAIL.values(), *test_icmp.FAIL.values()):
        yield AS_IS + bytes(packet)
    for packet in test_probe.FAIL.values():
        yield AS_IS + bytes(packet)
    yield AS_IS + bytes(test_probe.packet(test_probe.message()))
    yield AS_IS + bytes(test_icmp.from_fabric(ICMPv6DestUnreach(), test_icmp.SENT))
    yield from (AS_IS + data for data in captured_packets())


def probe_seeds() -> Iterator[bytes]:
    """Give what stands behind the IPv6 header."""
    for kind in (1, 2, 3):
        yield bytes(test_probe.packet(test_probe.message(kind)))[40:]
    yield bytes(test_probe.packet(test_probe.message() + b"new field"))[40:]


def tlv_seeds() -> Iterator[bytes]:
    """Segments, segments left, TLVs."""
    cookie = bytes(test_outer.COOKIE)
    for tlvs in (
        b"",
        bytes(7),
        cookie,
        cookie * 2,
        cookie * 3,
        b"\x04\x06" + bytes(6) + cookie,
        b"\x05\x26" + bytes(38),
        b"\x7c\xff",
    ):
        yield bytes([3, 1]) + tlvs


def router_seeds() -> Iterator[bytes]:
    """Scripts of fuzz_router.c: three bytes a step."""
    client, ack, udp, other_site, hunt_for, again, reply, decline, damage, wait, health, site, tables = range(13)
    handshake = bytes([client, 1, 0x02, reply, 0, 0x12, ack, 1, 1])
    yield handshake + bytes([client, 1, 0x18, client, 1, 0x11, client, 1, 0x02, reply, 1, 0x12, ack, 1, 1])
    yield bytes([client, 2, 0x10, decline, 0, 0, again, 0, 0, wait, 8, 0, client, 2, 0x10, reply, 1, 0x10, ack, 2, 9])
    yield bytes([udp, 3, 0, reply, 0, 0, udp, 3, 0, wait, 40, 0, udp, 3, 0])
    yield handshake + bytes([tables, 2, 0, client, 1, 0x10, decline, 0, 0, tables, 1, 0, wait, 255, 0])
    yield bytes([health, 0, 6, health, 1, 6]) + handshake + bytes([other_site, 1, 0x10, health, 0, 0, client, 4, 2])
    hunt = bytes([client, 5, 0x10]) + bytes([decline, 0, 0]) * 4
    yield hunt + bytes([tables, 1, 0]) + hunt + bytes([site, 1, 0]) + hunt + bytes([site, 3, 0]) + hunt
    data = [client, 1, 0x10]
    yield handshake + bytes([health, 0, 9, *data, health, 0, 0, *data, health, 0, 16, *data])
    yield bytes([site, 0, 255]) + handshake + bytes([site, 3, 255, *data, decline, 0, 0, udp, 3, 0, site, 4, 9])
    yield handshake + bytes([hunt_for, 1, 0x10, reply, 0, 0x10, hunt_for, 9, 0x10, decline, 0, 0, hunt_for, 2, 0x02])
    yield handshake * 3 + bytes([damage, 60, 255, damage, 41, 1, wait, 31, 0])
    yield b"".join(
        bytes([client, flow, 0x02, reply, 0, 0x12, ack, flow, 1, client, flow, 0x11 if flow % 3 else 0x10])
        for flow in range(32)
    )


SEEDS = {
    "client": client_seeds,
    "sid": sid_seeds,
    "probe": probe_seeds,
    "tlv": tlv_seeds,
    "router": router_seeds,
}


def truncations(seeds: Iterator[bytes]) -> Iterator[bytes]:
    """Every beginning of each, up to the length that still has headers."""
    for seed in seeds:
        yield seed
        yield from (seed[:length] for length in range(min(len(seed), 300)))


def write(directory: Path, fuzzer: str, every_truncation: bool = False) -> Path:
    """Write the seeds of one fuzzer, each once; return their folder."""
    folder = directory / fuzzer
    folder.mkdir(parents=True, exist_ok=True)
    seeds = SEEDS[fuzzer]()
    for data in truncations(seeds) if every_truncation else seeds:
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    return folder


if __name__ == "__main__":
    for name in SEEDS:
        write(Path(sys.argv[1]), name)
