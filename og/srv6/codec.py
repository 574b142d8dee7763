# SPDX-License-Identifier: Apache-2.0
"""The attribute RTA_ENCAP of SRv6 routes: linux/seg6_iptunnel.h, linux/seg6_local.h, linux/seg6.h.

Written out here because pyroute2 (0.7 to 0.9) knows neither encap.red, flavors nor counters, takes an unknown mode for
encap, and wants segments in the order of the header, last one first. Pure: bytes in, bytes out.
"""

from __future__ import annotations

import struct
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from .route import ACTIONS, MODES, Body, Encap, Local, Opaque

if TYPE_CHECKING:
    from collections.abc import Iterator

SEG6, SEG6_LOCAL = 5, 7  # LWTUNNEL_ENCAP_*
_SRH = 1  # SEG6_IPTUNNEL_SRH
_MODES = {"inline": 0, "encap": 1, "encap.red": 3}  # SEG6_IPTUN_MODE_*; 2 and 4 are for Ethernet frames
_ACTION, _LOCAL_SRH, _TABLE, _NH4, _NH6, _VRF_TABLE, _COUNTERS, _FLAVORS = 1, 2, 3, 4, 5, 9, 10, 11  # SEG6_LOCAL_*
_FLAVOR_BITS = {"psp": 1 << 1, "next-csid": 1 << 4}  # 1 << SEG6_LOCAL_FLV_OP_*
_FLAVOR_OPERATION, _FLAVOR_BLOCK_BITS, _FLAVOR_FUNCTION_BITS = 1, 2, 3
_CSID_BITS = (32, 16)  # the kernel's own lengths of locator block and node function
_COUNTER_NAMES = {2: "packets", 3: "bytes", 4: "errors"}  # SEG6_LOCAL_CNT_*
_NESTED = 0x8000
_HMAC_FLAG, _HMAC_TLV = 0x08, 5  # RFC 8754 section 2.1.2
_HMAC_BYTES = 40
_NUMBER_OF_ACTION = {name: rule.number for name, rule in ACTIONS.items()}
_UNSPECIFIED = bytes(16)


class CodecError(ValueError):
    """The payload is not of a form this code writes."""


def attribute(kind: int, value: bytes) -> bytes:
    """Return one netlink attribute, padded to 4 bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind, without flags, and value of the attributes in `data`. Raises CodecError where they do not fit."""
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise CodecError("attribute header cut off")
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4 or at + length > len(data):
            raise CodecError(f"attribute of {length} bytes does not fit")
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += (length + 3) & ~3


def encode_srh(segments: tuple[str, ...], hmac_key_id: int = 0, *, inline: bool = False) -> bytes:
    """Return a segment routing header (RFC 8754 section 2); `inline` leaves room for the packet's destination."""
    wire = [IPv6Address(segment).packed for segment in reversed(segments)]
    if inline:
        wire.insert(0, _UNSPECIFIED)
    tlv = b""
    if hmac_key_id:
        tlv = struct.pack(">BBHI", _HMAC_TLV, _HMAC_BYTES - 2, 0, hmac_key_id) + bytes(32)
    last = len(wire) - 1
    size = 8 + 16 * len(wire) + len(tlv)
    header = struct.pack(">BBBBBBH", 0, size // 8 - 1, 4, last, last, _HMAC_FLAG if tlv else 0, 0)
    return header + b"".join(wire) + tlv


def decode_srh(data: bytes, *, inline: bool = False) -> tuple[tuple[str, ...], int]:
    """Return segments in travel order and HMAC key id. Raises CodecError for a header that `encode_srh` never makes."""
    if len(data) < 8:
        raise CodecError("segment routing header cut off")
    _, _, _, left, last, flags, _ = struct.unpack_from(">BBBBBBH", data)
    end = 8 + 16 * (last + 1)
    if left != last or len(data) < end:
        raise CodecError("segment routing header with other segments than its own")
    wire = [data[at : at + 16] for at in range(8, end, 16)]
    key = 0
    if flags & _HMAC_FLAG:
        if len(data) < end + 8:
            raise CodecError("HMAC cut off")
        (key,) = struct.unpack_from(">I", data, end + 4)
    if inline:
        if wire[0] != _UNSPECIFIED:
            raise CodecError("inline without room for the destination")
        wire = wire[1:]
    segments = tuple(str(IPv6Address(segment)) for segment in reversed(wire))
    if encode_srh(segments, key, inline=inline) != data:
        raise CodecError("segment routing header of another form")
    return segments, key


def encode(body: Encap | Local | Opaque) -> tuple[int, bytes]:
    """Return RTA_ENCAP_TYPE and the payload of RTA_ENCAP."""
    match body:
        case Encap(mode, segments, key):
            srh = encode_srh(segments, key, inline=mode == "inline")
            return SEG6, attribute(_SRH, struct.pack("=i", _MODES[mode]) + srh)
        case Local():
            return SEG6_LOCAL, _encode_local(body)
        case Opaque(kind, payload):
            return kind, payload
    raise AssertionError(body)


def _u32(value: int) -> bytes:
    return struct.pack("=I", value)


def _encode_local(body: Local) -> bytes:
    parts = [attribute(_ACTION, _u32(_NUMBER_OF_ACTION[body.action]))]
    if body.segments:
        parts.append(attribute(_LOCAL_SRH, encode_srh(body.segments, body.hmac_key_id)))
    if body.table:
        parts.append(attribute(_TABLE, _u32(body.table)))
    if body.nh4:
        parts.append(attribute(_NH4, IPv4Address(body.nh4).packed))
    if body.nh6:
        parts.append(attribute(_NH6, IPv6Address(body.nh6).packed))
    if body.vrf_table:
        parts.append(attribute(_VRF_TABLE, _u32(body.vrf_table)))
    if body.counters:
        zeros = b"".join(attribute(kind, bytes(8)) for kind in _COUNTER_NAMES)
        parts.append(attribute(_COUNTERS | _NESTED, zeros))
    if body.flavors:
        operation = sum(_FLAVOR_BITS[name] for name in body.flavors)
        parts.append(attribute(_FLAVORS | _NESTED, attribute(_FLAVOR_OPERATION, _u32(operation))))
    return b"".join(parts)


def decode(kind: int, payload: bytes) -> Body:
    """Return what the attribute says; Opaque where it is of a form this code does not write."""
    try:
        if kind == SEG6:
            return _decode_encap(payload)
        if kind == SEG6_LOCAL:
            return _decode_local(payload)
    except (CodecError, struct.error, AddressValueError):  # the last: a next hop of another length
        pass
    return Opaque(kind, payload)


def _decode_encap(payload: bytes) -> Encap:
    found = dict(attributes(payload))
    if set(found) != {_SRH}:
        raise CodecError(f"attributes {sorted(found)}")
    (number,) = struct.unpack_from("=i", found[_SRH])
    mode = next((name for name in MODES if _MODES[name] == number), None)
    if mode is None:
        raise CodecError(f"mode {number}")
    return Encap(mode, *decode_srh(found[_SRH][4:], inline=mode == "inline"))


def _decode_local(payload: bytes) -> Local:
    found = dict(attributes(payload))
    known = {_ACTION, _LOCAL_SRH, _TABLE, _NH4, _NH6, _VRF_TABLE, _COUNTERS, _FLAVORS}
    if not set(found) <= known:
        raise CodecError(f"attributes {sorted(found)}")
    (number,) = struct.unpack("=I", found[_ACTION]) if _ACTION in found else (0,)
    action = next((name for name in ACTIONS if _NUMBER_OF_ACTION[name] == number), None)
    if action is None:
        raise CodecError(f"action {number}")
    segments, key = decode_srh(found[_LOCAL_SRH]) if _LOCAL_SRH in found else ((), 0)
    return Local(
        action,
        nh6=str(IPv6Address(found[_NH6])) if _NH6 in found else "",
        nh4=str(IPv4Address(found[_NH4])) if _NH4 in found else "",
        table=struct.unpack("=I", found[_TABLE])[0] if _TABLE in found else 0,
        vrf_table=struct.unpack("=I", found[_VRF_TABLE])[0] if _VRF_TABLE in found else 0,
        segments=segments,
        hmac_key_id=key,
        flavors=_decode_flavors(found[_FLAVORS]) if _FLAVORS in found else (),
        counters=_COUNTERS in found,
    )


def _decode_flavors(data: bytes) -> tuple[str, ...]:
    found = dict(attributes(data))
    (operation,) = struct.unpack("=I", found.get(_FLAVOR_OPERATION, bytes(4)))
    flavors = tuple(name for name, bit in _FLAVOR_BITS.items() if operation & bit)
    lengths = tuple(
        found[kind][0] if found.get(kind) else default
        for kind, default in zip((_FLAVOR_BLOCK_BITS, _FLAVOR_FUNCTION_BITS), _CSID_BITS, strict=True)
    )
    if operation != sum(_FLAVOR_BITS[name] for name in flavors) or lengths != _CSID_BITS:
        raise CodecError("flavors of another form")
    return flavors


def counters(payload: bytes) -> dict[str, int]:
    """Return packets, bytes and errors of a seg6local route with counters; empty without."""
    try:
        nested = dict(attributes(dict(attributes(payload)).get(_COUNTERS, b"")))
    except CodecError:
        return {}
    values = {name: nested.get(kind, b"") for kind, name in _COUNTER_NAMES.items()}
    return {name: struct.unpack("=Q", value)[0] for name, value in values.items() if len(value) == 8}
