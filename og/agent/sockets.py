# SPDX-License-Identifier: Apache-2.0
"""The kernel's socket tables, through sock_diag(7): listeners with their queues, open connections."""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from og.agent import netlink
from og.agent.layout import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterator

_BY_FAMILY = 20
_REQUEST = struct.Struct("=BBBxI")
_ID = struct.Struct("!HH16s16s")
_MESSAGE_SIZE = 72

# TCP states, include/net/tcp_states.h
_ESTABLISHED, _CLOSE, _LISTEN = 1, 7, 10
_OPEN = sum(1 << state for state in (1, 4, 5, 8, 9, 11))  # ESTABLISHED, FIN_WAIT1/2, CLOSE_WAIT, LAST_ACK, CLOSING


@dataclass(frozen=True)
class Listener:
    """A socket that waits for new flows. TCP: `backlog` connections wait to be accepted, of at most `limit`."""

    address: IPv6Address
    port: int
    backlog: int
    limit: int


def _dump(protocol: str, port: int, states: int) -> Iterator[bytes]:
    """Yield struct inet_diag_msg of every IPv6 socket with this local port (0: any) in one of `states`."""
    wanted = _ID.pack(port, 0, bytes(16), bytes(16)) + bytes(12)
    payload = _REQUEST.pack(socket.AF_INET6, PROTOCOLS[protocol], 0, states) + wanted
    try:
        yield from netlink.request(netlink.NETLINK_SOCK_DIAG, _BY_FAMILY, netlink.DUMP, payload)
    except OSError as error:
        if error.errno != errno.ENOENT:  # the kernel has no diag module for this protocol
            raise


def listeners(protocol: str, port: int = 0) -> list[Listener]:
    """Return the sockets that wait for new flows. UDP: the unconnected ones."""
    found = []
    for message in _dump(protocol, port, 1 << (_LISTEN if protocol == "tcp" else _CLOSE)):
        local, _, source, _ = _ID.unpack_from(message, 4)
        queued, limit = struct.unpack_from("=II", message, 56)
        found.append(Listener(IPv6Address(source), local, queued, limit))
    return found


def connections(port: int) -> dict[IPv6Address, int]:
    """Count open TCP connections with this local port by local address."""
    counts: dict[bytes, int] = {}
    for message in _dump("tcp", port, _OPEN):
        source = message[8:24]
        counts[source] = counts.get(source, 0) + 1
    return {IPv6Address(source): count for source, count in counts.items()}


def listener_for(vip: IPv6Address, found: list[Listener]) -> Listener | None:
    """Of the listeners on a port, the one that gets a packet to `vip`: its own, else the wildcard's."""
    own = [listener for listener in found if listener.address == vip]
    return next(iter(own + [listener for listener in found if listener.address.is_unspecified]), None)
