# SPDX-License-Identifier: Apache-2.0
"""The three calls of GoBGP's API that announce a node: which of our paths are there, add one, delete one.

Field numbers are those of GoBGP 4 (proto/api/*.proto, package `api`). The `gobgp` command would do the same at the cost
of a process start for each path.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from og.health.protobuf import ProtobufError, fields, message, number, text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from og.health.grpc import Channel

SERVICE = "/api.GoBgpService/"
TABLE_GLOBAL = 1
AFI_IP6 = 2
SAFI_UNICAST = 1
ORIGIN_IGP = 0
LOOKUP_EXACT = 1
NEXT_HOP_SELF = "::"  # GoBGP puts the session's own address in its place


def _family(field: int) -> bytes:
    return message(field, number(1, AFI_IP6), number(2, SAFI_UNICAST))


def encode_path(field: int, prefix: str) -> bytes:
    """Encode an `api.Path`: IPv6 unicast, origin IGP, next hop self."""
    network = ipaddress.IPv6Network(prefix)
    nlri = message(1, message(1, number(1, network.prefixlen), text(2, str(network.network_address))))
    origin = message(2, message(2, number(1, ORIGIN_IGP)))
    next_hop = message(2, message(4, text(1, NEXT_HOP_SELF)))
    return message(field, nlri, origin, next_hop, _family(9))


def encode_lookup(prefixes: Iterable[str]) -> bytes:
    """Encode an `api.ListPathRequest` for exactly these prefixes."""
    wanted = b"".join(message(4, text(1, prefix), number(2, LOOKUP_EXACT)) for prefix in prefixes)
    return number(1, TABLE_GLOBAL) + _family(3) + wanted


def decode_destination(response: bytes) -> str | None:
    """Return the prefix of an `api.ListPathResponse`, or None if it holds none."""
    for field, value in fields(response):
        if field == 1 and isinstance(value, bytes):
            for inner, name in fields(value):
                if inner == 1 and isinstance(name, bytes):
                    try:
                        return str(ipaddress.IPv6Network(name.decode()))
                    except ValueError as error:
                        raise ProtobufError(f"not an IPv6 prefix: {name!r}") from error
    return None


def announced(channel: Channel, prefixes: Iterable[str]) -> frozenset[str]:
    """Return which of the prefixes the daemon announces now."""
    wanted = frozenset(prefixes)
    found = (decode_destination(each) for each in channel.call(SERVICE + "ListPath", encode_lookup(sorted(wanted))))
    return wanted.intersection(prefix for prefix in found if prefix is not None)


def announce(channel: Channel, prefix: str) -> None:
    """Add the path. Adding one that is there replaces it."""
    channel.call(SERVICE + "AddPath", number(1, TABLE_GLOBAL) + encode_path(3, prefix))


def withdraw(channel: Channel, prefix: str) -> None:
    """Delete the path. Deleting one that is not there is no error."""
    channel.call(SERVICE + "DeletePath", number(1, TABLE_GLOBAL) + _family(3) + encode_path(4, prefix))
