# SPDX-License-Identifier: Apache-2.0
"""Routes of the kernel through pyroute2: read them, carry out a plan, take it back when a step fails.

Attributes are bytes here, as the kernel wrote them: pyroute2's own codec has no word for much of what a route may hold
(RTA_ENCAP of SRv6, RTA_NH_ID), and a route that was taken away comes back by the very message it was seen in. Works
with pyroute2 0.7 (Debian 13) to 0.9.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import time
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from pyroute2.netlink import (
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    nlmsg,
)
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError
from pyroute2.netlink.rtnl import RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE

from . import codec
from .plan import Action, Delete, Observed, Put, Restore, apply, compare, say, undo
from .route import LOCAL, TYPES, UNICAST, Body, Local, Opaque, Route, RouteError, family

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_TYPES = {"unicast": 1, "local": 2, "blackhole": 6, "unreachable": 7, "prohibit": 8}  # RTN_*
_CLONED = 0x200  # RTM_F_CLONED: an entry of the cache, not a route
_ONLINK = 0x4  # RTNH_F_ONLINK: the only flag of a dump that may be asked for; the others are the state of links
_SCOPE_LINK, _SCOPE_HOST = 253, 254
_MODIFY = NLM_F_REQUEST | NLM_F_ACK
_DUMP_ATTEMPTS, _DUMP_PAUSE_S = 5, 0.05
_FIELDS = ("family", "dst_len", "src_len", "tos", "table", "proto", "scope", "type", "flags")
# fmt: off
_ATTRIBUTES = (  # linux/rtnetlink.h, enum rtattr_type_t
    "unspec", "dst", "src", "iif", "oif", "gateway", "priority", "prefsrc", "metrics", "multipath", "protoinfo",
    "flow", "cacheinfo", "session", "mp_algo", "table", "mark", "mfc_stats", "via", "newdst", "pref", "encap_type",
    "encap", "expires", "pad", "uid", "ttl_propagate", "ip_proto", "sport", "dport", "nh_id", "flowlabel",
)
# fmt: on
_IN_WORDS = {"dst", "oif", "gateway", "priority", "table", "encap_type", "encap", "multipath", "src", "pad"}
_NEXT_HOP = {"RTA_OIF", "RTA_GATEWAY", "RTA_VIA", "RTA_MULTIPATH", "RTA_ENCAP_TYPE", "RTA_ENCAP"}
_EXPIRES_AT = 8  # of rta_expires in struct rta_cacheinfo, in ticks


class KernelError(Exception):
    """The kernel refuses a step; `number` is its errno, `left` what could not be taken back."""

    def __init__(self, message: str, number: int = 0, left: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.number, self.left = number, list(left)


class UnverifiedError(Exception):
    """Every step was done, and what is there now is not what was planned, or cannot be read."""


class _Message(nlmsg):  # type: ignore[misc] # pyroute2 has no types
    """A route message (struct rtmsg) whose attributes are bytes."""

    __slots__ = ()
    prefix = "RTA_"
    fields = tuple((name, "I" if name == "flags" else "B") for name in _FIELDS)
    nla_map = tuple((f"RTA_{name.upper()}", "none" if name == "unspec" else "cdata") for name in _ATTRIBUTES)


def _request(netlink: Any, message: _Message, kind: int, flags: int) -> list[Any]:  # noqa: ANN401
    with suppress(AttributeError):
        netlink.status["nlm_generator"] = False  # 0.9 looks for it and does not set it
    netlink.register_policy(RTM_NEWROUTE, _Message)
    return list(netlink.nlm_request(message, kind, flags))


def devices(netlink: Any) -> dict[int, str]:  # noqa: ANN401
    """Return the names of interfaces by index. Raises KernelError."""
    try:
        return {link["index"]: link.get_attr("IFLA_IFNAME") for link in netlink.get_links()}
    except (NetlinkError, OSError) as error:
        raise _unread("interfaces", error) from error


def _unread(what: str, error: Exception) -> KernelError:
    number = _number(error)
    return KernelError(f"the kernel's {what} cannot be read: {os.strerror(number)}", number)


def _number(error: Exception) -> int:
    return int(getattr(error, "code", None) or getattr(error, "errno", None) or errno.EIO)


def _dump(netlink: Any, version: int) -> list[Any]:  # noqa: ANN401
    message = _Message()
    message["family"] = _FAMILIES[version]
    for _ in range(_DUMP_ATTEMPTS):
        try:
            answers = _request(netlink, message, RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP)
        except NetlinkDumpInterrupted:  # pyroute2 0.7; 0.9 leaves it to the reader
            time.sleep(_DUMP_PAUSE_S)
            continue
        except (NetlinkError, OSError) as error:
            raise _unread("routes", error) from error
        if not any(answer["header"]["flags"] & NLM_F_DUMP_INTR for answer in answers):
            return answers
        time.sleep(_DUMP_PAUSE_S)
    raise KernelError("the kernel's routes change too fast to be read", errno.EINTR)


def _u32(value: bytes | None) -> int:
    return int(struct.unpack("=I", value)[0]) if value else 0


def _address(value: bytes | None) -> str:
    return str(ip_address(value)) if value else ""


def _prefix(value: bytes | None, length: int, version: int) -> str:
    """Return a prefix spelled as in a wanted route; without an address it is the default route."""
    return str(ip_network((value or bytes(16 if version == 6 else 4), length)))


def _hops(multipath: bytes) -> Iterator[bytes]:
    """Yield the next hops (struct rtnexthop and its attributes) of RTA_MULTIPATH."""
    while len(multipath) >= 2:
        (length,) = struct.unpack_from("=H", multipath)
        yield multipath[:length]
        multipath = multipath[max((length + 3) & ~3, 4) :]


def _beyond(answer: Any, found: dict[str, bytes]) -> tuple[str, ...]:  # noqa: ANN401
    """Return the names of what the route has and `Route` has no word for."""
    names = {name for name, value in found.items() if name not in _IN_WORDS and any(value)}
    names.discard("cacheinfo")  # statistics, but for the time left
    if _expires(found.get("cacheinfo", b"")):
        names.add("expires")
    if answer["flags"] & _ONLINK:
        names.add("onlink")
    return tuple(sorted(names))


def _plain(multipath: bytes) -> bytes:
    """Return next hops as they may be asked for, without the state of their links."""
    return b"".join(hop[:2] + bytes([hop[2] & _ONLINK]) + hop[3:] + bytes(-len(hop) % 4) for hop in _hops(multipath))


def _expires(cacheinfo: bytes) -> int:
    """Return the ticks after which the kernel takes the route away; 0: it stays."""
    return int.from_bytes(cacheinfo[_EXPIRES_AT : _EXPIRES_AT + 4], sys.byteorder, signed=True)


def _selector(answer: Any, found: dict[str, bytes], version: int) -> str:  # noqa: ANN401
    """Return what chooses the packets of this route besides their destination."""
    if answer["src_len"]:
        return f"from {_prefix(found.get('src'), answer['src_len'], version)}"
    return f"tos {answer['tos']:#04x}" if answer["tos"] else ""


def _observed(answer: Any, version: int, names: dict[int, str]) -> tuple[Observed, bytes] | None:  # noqa: ANN401
    """Return a route of a dump and the payload of its tunnel; None for what is no route."""
    kind = next((name for name in TYPES if _TYPES[name] == answer["type"]), None)
    if kind is None or answer["flags"] & _CLONED:
        return None
    found = {name[4:].lower(): bytes(value) for name, value in answer["attrs"] if isinstance(value, bytes | bytearray)}
    hops = list(_hops(found.get("multipath", b"")))
    payload = found.get("encap", b"")
    body: Body = None
    if hops:
        body = Opaque(0, b"")
    elif payload:
        body = codec.decode(struct.unpack("=H", found["encap_type"])[0], payload)
    route = Route(
        _prefix(found.get("dst"), answer["dst_len"], version),
        _u32(found.get("table")) or answer["table"],
        _u32(found.get("priority")),
        kind,
        body,
        names.get(_u32(found.get("oif")), "") if kind in (UNICAST, LOCAL) else "",
        _address(found.get("gateway")),
    )
    seen = Observed(
        route, answer["proto"], max(len(hops), 1), _selector(answer, found, version), _beyond(answer, found), answer
    )
    return seen, payload


def _read(netlink: Any, versions: Iterable[int] = (4, 6)) -> list[tuple[Observed, bytes]]:  # noqa: ANN401
    names = devices(netlink)
    answers = [(answer, version) for version in versions for answer in _dump(netlink, version)]
    return [found for answer, version in answers if (found := _observed(answer, version, names)) is not None]


def observe(netlink: Any) -> list[Observed]:  # noqa: ANN401
    """Return every route of this namespace, of both families and all tables. Raises KernelError."""
    return [found for found, _ in _read(netlink)]


def observe_counters(netlink: Any) -> list[tuple[Observed, dict[str, int]]]:  # noqa: ANN401
    """Return every route, and what it has counted where it counts. Raises KernelError."""
    return [
        (found, codec.counters(payload) if isinstance(found.route.body, Local) else {})
        for found, payload in _read(netlink)
    ]


def _message(route: Route, protocol: int, indices: dict[str, int]) -> _Message:
    """Return the message of a wanted route. Raises KernelError where its device is not there."""
    version = family(route)
    network = ip_network(route.prefix)
    message = _Message()
    message["family"], message["dst_len"] = _FAMILIES[version], network.prefixlen
    message["proto"], message["type"] = protocol, _TYPES[route.type]
    message["table"] = route.table if route.table < 256 else 0
    attrs: list[tuple[str, bytes]] = [
        ("RTA_DST", network.network_address.packed),
        ("RTA_TABLE", struct.pack("=I", route.table)),
        ("RTA_PRIORITY", struct.pack("=I", route.metric)),
    ]
    if version == 4:
        scopes = {UNICAST: 0 if route.gateway else _SCOPE_LINK, LOCAL: _SCOPE_HOST}
        message["scope"] = scopes.get(route.type, 0)
    if route.gateway:
        attrs.append(("RTA_GATEWAY", ip_address(route.gateway).packed))
    if route.device:
        if route.device not in indices:
            raise KernelError(f"no such device: {route.device}", errno.ENODEV)
        attrs.append(("RTA_OIF", struct.pack("=I", indices[route.device])))
    if route.body is not None:
        kind, payload = codec.encode(route.body)
        attrs += [("RTA_ENCAP_TYPE", struct.pack("=H", kind)), ("RTA_ENCAP", payload)]
    message["attrs"] = attrs
    return message


def _seen(answer: Any) -> _Message:  # noqa: ANN401
    """Return the message a route was seen in, to be sent. The kernel's statistics are left out."""
    message = _Message()
    for name in _FIELDS:
        message[name] = answer[name]
    message["flags"] = answer["flags"] & _ONLINK
    attrs = {name: bytes(value) for name, value in answer["attrs"] if isinstance(value, bytes | bytearray)}
    ticks = _expires(attrs.pop("RTA_CACHEINFO", b""))
    if ticks > 0:
        attrs["RTA_EXPIRES"] = struct.pack("=I", max(1, ticks // os.sysconf("SC_CLK_TCK")))
    if "RTA_MULTIPATH" in attrs:
        attrs["RTA_MULTIPATH"] = _plain(attrs["RTA_MULTIPATH"])
    if "RTA_NH_ID" in attrs:  # a dump has both, a request may have one
        attrs = {name: value for name, value in attrs.items() if name not in _NEXT_HOP}
    message["attrs"] = list(attrs.items())
    return message


Step = tuple[_Message, int, int]  # message, its type, flags


def _step(action: Action, protocol: int, indices: dict[str, int]) -> Step:
    match action:
        case Put(route, old, beside):
            how = NLM_F_APPEND if beside else NLM_F_EXCL if old is None else NLM_F_REPLACE
            return _message(route, protocol, indices), RTM_NEWROUTE, _MODIFY | NLM_F_CREATE | how
        case Restore(old, instead):
            how = NLM_F_REPLACE if instead else NLM_F_APPEND
            return _seen(old.message), RTM_NEWROUTE, _MODIFY | NLM_F_CREATE | how
        case Delete(old):
            message = _seen(old.message) if old.message is not None else _message(old.route, protocol, indices)
            return message, RTM_DELROUTE, _MODIFY
    raise AssertionError(action)


def missing_devices(netlink: Any, routes: Iterable[Route]) -> list[str]:  # noqa: ANN401
    """Return the devices that routes need and this namespace does not have."""
    there = set(devices(netlink).values())
    return sorted({route.device for route in routes if route.device} - there)


def _hint(action: Action, number: int) -> str:
    """Return what an errno means for this step."""
    if number in (errno.EPERM, errno.EACCES):
        return "; CAP_NET_ADMIN is needed"
    body = action.route.body if isinstance(action, Put) else None
    if isinstance(body, Local) and body.vrf_table:
        return f"; {body.action} needs a VRF (CONFIG_NET_VRF) bound to table {body.vrf_table} and net.vrf.strict_mode=1"
    if body is not None and number in (errno.EOPNOTSUPP, errno.EINVAL):
        return "; this kernel lacks the action, mode or flavor (CONFIG_IPV6_SEG6_LWTUNNEL)"
    return ""


def execute(netlink: Any, actions: Sequence[Action], protocol: int) -> None:  # noqa: ANN401
    """Carry out a plan. Where a step fails the ones before it are taken back, and KernelError says which it was."""
    indices = {name: index for index, name in devices(netlink).items()}
    steps = [_step(action, protocol, indices) for action in actions]  # what cannot be said fails before the first
    done: list[Action] = []
    for action, step in zip(actions, steps, strict=True):
        try:
            _request(netlink, *step)
        except (NetlinkError, OSError) as error:
            left = _take_back(netlink, done, protocol, indices)
            state = f"not taken back: {', '.join(left)}" if left else "nothing was changed"
            number = _number(error)
            reason = f"{os.strerror(number)}{_hint(action, number)}"
            raise KernelError(f"{say(action)}: {reason}; {state}", number, left) from error
        done.append(action)


def bring(
    netlink: Any,  # noqa: ANN401
    actions: Sequence[Action],
    observed: Sequence[Observed],
    wanted: Sequence[Route],
    protocol: int,
) -> None:
    """Carry out the plan made for `observed`, read again and compare. Raises KernelError or UnverifiedError."""
    execute(netlink, actions, protocol)
    try:
        compare(apply(actions, observed, protocol), observe(netlink), wanted, protocol)
    except (KernelError, RouteError) as error:
        raise UnverifiedError(f"every step was done, but {error}") from error


def _take_back(netlink: Any, done: Sequence[Action], protocol: int, indices: dict[str, int]) -> list[str]:  # noqa: ANN401
    """Undo the steps; return those that could not be. What was deleted comes back last, in the order it stood in."""
    left = []
    puts = [action for action in reversed(done) if not isinstance(action, Delete)]
    for action in [*puts, *(action for action in done if isinstance(action, Delete))]:
        try:
            _request(netlink, *_step(undo(action), protocol, indices))
        except (NetlinkError, OSError):
            left.append(say(action))
    return left
