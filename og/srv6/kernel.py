# SPDX-License-Identifier: Apache-2.0
"""Routes of the kernel through pyroute2: read them, carry out a plan, take it back when a step fails.

Messages are pyroute2's, but for RTA_ENCAP, which goes through `codec`. Works with pyroute2 0.7 (Debian 13) to 0.9.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from pyroute2.netlink import (
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    nlmsg,
)
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError
from pyroute2.netlink.rtnl import RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE
from pyroute2.netlink.rtnl.rtmsg import rtmsg_base

from . import codec
from .plan import Action, Delete, Observed, Put, say, undo
from .route import LOCAL, TYPES, UNICAST, Body, Local, Opaque, Route, family

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_TYPES = {"unicast": 1, "local": 2, "blackhole": 6, "unreachable": 7, "prohibit": 8}  # RTN_*
_CLONED = 0x200  # RTM_F_CLONED: an entry of the cache, not a route
_SCOPE_LINK, _SCOPE_HOST, _SCOPE_NOWHERE = 253, 254, 255
_MODIFY = NLM_F_REQUEST | NLM_F_ACK
_DUMP_ATTEMPTS = 5


class KernelError(Exception):
    """The kernel refuses a step; `number` is its errno, `left` what could not be taken back."""

    def __init__(self, message: str, number: int = 0, left: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.number, self.left = number, list(left)


class _Message(rtmsg_base, nlmsg):  # type: ignore[misc] # pyroute2 has no types
    """A route message whose RTA_ENCAP is bytes. A subclass of rtmsg would inherit its table of attributes."""

    __slots__ = ()
    nla_map = tuple((name, "cdata" if name == "RTA_ENCAP" else kind) for name, kind in rtmsg_base.nla_map)


def _request(netlink: Any, message: _Message, kind: int, flags: int) -> list[Any]:  # noqa: ANN401
    with suppress(AttributeError):
        netlink.status["nlm_generator"] = False  # 0.9 looks for it and does not set it
    netlink.register_policy(RTM_NEWROUTE, _Message)
    return list(netlink.nlm_request(message, kind, flags))


def devices(netlink: Any) -> dict[int, str]:  # noqa: ANN401
    """Return the names of interfaces by index."""
    return {link["index"]: link.get_attr("IFLA_IFNAME") for link in netlink.get_links()}


def _dump(netlink: Any, version: int) -> list[Any]:  # noqa: ANN401
    message = _Message()
    message["family"] = _FAMILIES[version]
    for _ in range(_DUMP_ATTEMPTS):
        with suppress(NetlinkDumpInterrupted):  # routes changed meanwhile
            return _request(netlink, message, RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP)
    raise KernelError("the kernel's routes change too fast to be read", errno.EINTR)


def _observed(answer: Any, version: int, names: dict[int, str]) -> tuple[Observed, bytes] | None:  # noqa: ANN401
    """Return a route of a dump and the payload of its tunnel; None for what is no route."""
    kind = next((name for name in TYPES if _TYPES[name] == answer["type"]), None)
    if kind is None or answer["flags"] & _CLONED:
        return None
    hops = answer.get_attr("RTA_MULTIPATH") or []
    payload = answer.get_attr("RTA_ENCAP") or b""
    body: Body = codec.decode(answer.get_attr("RTA_ENCAP_TYPE"), payload) if payload else None
    if hops:
        body = Opaque(0, b"")
    default = "::" if version == 6 else "0.0.0.0"  # noqa: S104 - a prefix, nothing listens
    route = Route(
        str(ip_network(f"{answer.get_attr('RTA_DST') or default}/{answer['dst_len']}")),  # spelled as in a wanted one
        answer.get_attr("RTA_TABLE") or answer["table"],
        answer.get_attr("RTA_PRIORITY") or 0,
        kind,
        body,
        names.get(answer.get_attr("RTA_OIF"), "") if kind in (UNICAST, LOCAL) else "",
        answer.get_attr("RTA_GATEWAY") or "",
    )
    return Observed(route, answer["proto"], max(len(hops), 1)), payload


def _read(netlink: Any, versions: Iterable[int] = (4, 6)) -> list[tuple[Observed, bytes]]:  # noqa: ANN401
    names = devices(netlink)
    answers = [(answer, version) for version in versions for answer in _dump(netlink, version)]
    return [found for answer, version in answers if (found := _observed(answer, version, names)) is not None]


def observe(netlink: Any) -> list[Observed]:  # noqa: ANN401
    """Return every route of this namespace, of both families and all tables."""
    return [found for found, _ in _read(netlink)]


def observe_counters(netlink: Any) -> list[tuple[Observed, dict[str, int]]]:  # noqa: ANN401
    """Return every route, and what it has counted where it counts."""
    return [
        (found, codec.counters(payload) if isinstance(found.route.body, Local) else {})
        for found, payload in _read(netlink)
    ]


def _message(route: Route, protocol: int, indices: dict[str, int]) -> _Message:
    version = family(route)
    address, length = route.prefix.split("/")
    message = _Message()
    message["family"], message["dst_len"] = _FAMILIES[version], int(length)
    message["proto"], message["type"] = protocol, _TYPES[route.type]
    message["table"] = route.table if route.table < 256 else 0
    attrs: list[tuple[str, Any]] = [("RTA_DST", address), ("RTA_TABLE", route.table), ("RTA_PRIORITY", route.metric)]
    if version == 4:
        scopes = {UNICAST: 0 if route.gateway else _SCOPE_LINK, LOCAL: _SCOPE_HOST}
        message["scope"] = scopes.get(route.type, 0)
    if route.gateway:
        attrs.append(("RTA_GATEWAY", route.gateway))
    if route.device:
        index = indices.get(route.device)
        if index is None:
            raise NetlinkError(errno.ENODEV, os.strerror(errno.ENODEV))
        attrs.append(("RTA_OIF", index))
    if route.body is not None:
        kind, payload = codec.encode(route.body)
        attrs += [("RTA_ENCAP_TYPE", kind), ("RTA_ENCAP", payload)]
    message["attrs"] = attrs
    return message


def _put(netlink: Any, action: Put, protocol: int, indices: dict[str, int]) -> None:  # noqa: ANN401
    how = NLM_F_APPEND if action.beside else NLM_F_EXCL if action.old is None else NLM_F_REPLACE
    _request(netlink, _message(action.route, protocol, indices), RTM_NEWROUTE, _MODIFY | NLM_F_CREATE | how)


def _delete(netlink: Any, action: Delete, protocol: int, indices: dict[str, int]) -> None:  # noqa: ANN401
    old = action.old.route
    # A multipath route goes whole: without a device the kernel takes every next hop. The tunnel is not compared.
    device = old.device if action.old.hops == 1 else ""
    message = _message(Route(*old.key, old.type, None, device, old.gateway), protocol, indices)
    if family(old) == 4:
        message["scope"] = _SCOPE_NOWHERE
    _request(netlink, message, RTM_DELROUTE, _MODIFY)


def _step(netlink: Any, action: Action, protocol: int) -> None:  # noqa: ANN401
    indices = {name: index for index, name in devices(netlink).items()}
    match action:
        case Put():
            _put(netlink, action, protocol, indices)
        case Delete():
            _delete(netlink, action, protocol, indices)


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
    done: list[Action] = []
    for action in actions:
        try:
            _step(netlink, action, protocol)
        except NetlinkError as error:
            left = _take_back(netlink, done, protocol)
            state = f"not taken back: {', '.join(left)}" if left else "nothing was changed"
            reason = f"{os.strerror(error.code)}{_hint(action, error.code)}"
            raise KernelError(f"{say(action)}: {reason}; {state}", error.code, left) from error
        done.append(action)


def _take_back(netlink: Any, done: Sequence[Action], protocol: int) -> list[str]:  # noqa: ANN401
    """Undo the steps, last one first; return those that could not be."""
    left = []
    for action in reversed(done):
        inverse = undo(action)
        try:
            if inverse is None:
                left.append(say(action))
            else:
                _step(netlink, inverse, protocol)
        except NetlinkError:
            left.append(say(action))
    return left
