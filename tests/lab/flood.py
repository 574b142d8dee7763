# SPDX-License-Identifier: Apache-2.0
"""Runs on a client: TCP segments from many spoofed sources of its own /64 to a VIP, bounded in number.

Arguments: own address, VIP, port, flags (`S` or `A`), count, packets per second at most. Prints how many were sent.
"""

from __future__ import annotations

import ipaddress
import random
import socket
import struct
import sys
import time


def checksum(data: bytes) -> int:
    """RFC 1071 over an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def segment(source: bytes, vip: bytes, port: int, flags: int, chance: random.Random) -> bytes:
    """An IPv6 packet with a TCP header: random ports and sequence numbers, a right checksum."""
    tcp = struct.pack(
        "!HHIIBBHHH",
        chance.randrange(1024, 65536),
        port,
        chance.getrandbits(32),
        chance.getrandbits(32) if flags & 16 else 0,
        5 << 4,
        flags,
        65535,
        0,
        0,
    )
    pseudo = source + vip + struct.pack("!II", len(tcp), 6)
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    return struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + source + vip + tcp


def main() -> None:
    """Send, evenly in time."""
    own, target, port, kind, count, rate = sys.argv[1:7]
    vip = ipaddress.IPv6Address(target).packed
    network = ipaddress.IPv6Address(own).packed[:8]
    flags = {"S": 2, "A": 16}[kind]
    chance = random.Random(20191029)
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        begin = time.monotonic()
        for number in range(int(count)):
            # Hosts 2^32 and up of the /64: nobody has these addresses.
            source = network + struct.pack("!II", 1 + number, chance.getrandbits(32))
            sock.sendto(segment(source, vip, int(port), flags, chance), (target, 0))
            ahead = number / float(rate) - (time.monotonic() - begin)
            if ahead > 0.005:
                time.sleep(ahead)
            elif ahead < 0:
                begin -= ahead  # who is late stays late: a burst would fill queues, and packets in them are lost
    print(count)


if __name__ == "__main__":
    main()
