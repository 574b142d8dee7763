# SPDX-License-Identifier: Apache-2.0
"""Interfaces of network namespaces: reading them, carrying out a plan of og_veth."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv6Interface
from typing import TYPE_CHECKING, Any

from ansible.module_utils.og_setns import inside
from ansible.module_utils.og_veth import Action, Configure, Create, Delete, Interface, say, undo
from pyroute2.ethtool.ioctl import EthtoolError, IoctlEthtool, NoSuchDevice, NotSupportedError
from pyroute2.netlink.exceptions import NetlinkError

if TYPE_CHECKING:
    from pyroute2 import IPRoute

Spaces = Mapping[str, int]
"""Open descriptors of namespaces by name."""

IFF_UP = 0x1
IFA_F_NODAD = 0x02
IFA_F_DADFAILED = 0x08


class KernelError(Exception):
    """The kernel refuses to show or change something; the text says where, and what it answered."""


class StepError(KernelError):
    """A step failed after those of `done`; what could be taken back was."""

    def __init__(self, message: str, done: Sequence[Action]) -> None:
        super().__init__(message)
        self.done = list(done)


def _reason(error: Exception) -> str:
    """Return what an error of pyroute2 or of a system call means."""
    match error:
        case NetlinkError(code=errno.EPERM):
            return f"{os.strerror(errno.EPERM)}; CAP_NET_ADMIN is needed"
        case NetlinkError():
            return str(error.args[1])
        case NoSuchDevice():
            return "an interface vanished meanwhile"
        case OSError():
            return error.strerror or str(error)
    return str(error) or type(error).__name__


@contextlib.contextmanager
def _within(space: str, spaces: Spaces) -> Iterator[IPRoute]:
    """Enter a namespace by its name. Raises KernelError, whatever went wrong there."""
    try:
        with inside(spaces[space]) as netlink:
            yield netlink
    except (NetlinkError, EthtoolError, OSError) as error:
        raise KernelError(f"{space}: {_reason(error)}") from error


def _belongs(feature: str) -> str | None:
    """Return which of OFFLOADS a feature of the kernel is part of; ethtool groups them the same way."""
    if feature.startswith("tx-checksum-"):
        return "tx"
    if feature.startswith("tx-tcp") and feature.endswith("segmentation"):
        return "tso"
    return {"tx-generic-segmentation": "gso", "rx-gro": "gro"}.get(feature)


@contextlib.contextmanager
def _ethtool(name: str) -> Iterator[IoctlEthtool]:
    device = IoctlEthtool(name)
    try:
        yield device
    finally:
        device.close()


def _offloads(name: str) -> frozenset[str]:
    """Return the offloads of which any part is on, of an interface in the present namespace."""
    with _ethtool(name) as device:
        features = device.get_features()
    return frozenset(group for feature, active, *_ in features if active and (group := _belongs(feature)) is not None)


def _switch(name: str, offloads: tuple[str, ...], *, on: bool) -> None:
    with _ethtool(name) as device:
        features = device.get_features()
        for feature, active, available, *_ in features:
            if active != on and (available or active) and _belongs(feature) in offloads:
                features[feature] = on
        # The kernel answers "not quite" where one feature brings down another: what counts is what is left.
        with contextlib.suppress(NotSupportedError):
            device.set_features(features)


def _switch_off(name: str, offloads: tuple[str, ...]) -> None:
    _switch(name, offloads, on=False)
    left = sorted(_offloads(name) & set(offloads))
    if left:
        raise OSError(errno.EOPNOTSUPP, f"{name}: the driver keeps {', '.join(left)} on")


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one namespace says of itself: interfaces as they are, and peers by (namespace, index)."""

    names: dict[int, str]
    interfaces: dict[str, Interface]
    peers: dict[str, tuple[str, int]]


def _other_names(link: Any) -> set[str]:  # noqa: ANN401 - pyroute2 has no types
    """Return the names an interface can be called by beside its own."""
    properties = link.get("prop_list")
    return {value for key, value in properties["attrs"] if key == "IFLA_ALT_IFNAME"} if properties else set()


def _look(space: str, spaces: Spaces, names: set[str], partners: set[str]) -> _Seen:
    with _within(space, spaces) as netlink:
        links = list(netlink.get_links())
        # The kernel numbers other namespaces as it names them in a dump: ask for the numbers after the dump.
        numbers = {netlink.get_netnsid(fd=spaces[partner])["nsid"]: partner for partner in partners}
        numbers[None] = space
        addresses: dict[int, set[str]] = {}
        refused: set[tuple[int, str]] = set()
        for entry in netlink.get_addr(family=socket.AF_INET6):
            # Point to point, "address" is the other side's. The spelling is made that of a wanted one.
            own = entry.get("local") or entry.get("address")
            address = str(IPv6Interface(f"{own}/{entry['prefixlen']}"))
            addresses.setdefault(entry["index"], set()).add(address)
            if entry["flags"] & IFA_F_DADFAILED:
                refused.add((entry["index"], address))
        seen = _Seen({link["index"]: link.get("ifname") for link in links}, {}, {})
        for link in links:
            name = link.get("ifname")
            for other in _other_names(link) & names:
                seen.interfaces[other] = Interface(f"another name of {name}", link.get("mtu"), up=False)
            if name not in names:
                continue
            seen.interfaces[name] = Interface(
                kind=link.get_nested("linkinfo", "kind") or "",
                mtu=link.get("mtu"),
                up=bool(link["flags"] & IFF_UP),
                addresses=frozenset(addresses.get(link["index"], ())),
                offloads=_offloads(name),
                refused=frozenset(address for index, address in refused if index == link["index"]),
            )
            peer_space = numbers.get(link.get("link_netnsid"))
            if peer_space is not None and link.get("link"):
                seen.peers[name] = (peer_space, link.get("link"))
    return seen


def observe(
    spaces: Spaces, wanted: Mapping[str, set[str]], partners: Mapping[str, set[str]]
) -> dict[str, dict[str, Interface]]:
    """Return the `wanted` interfaces of every namespace; peers are known where they lie in one of its `partners`.

    Raises KernelError.
    """
    seen = {space: _look(space, spaces, wanted[space], partners[space]) for space in spaces}
    world: dict[str, dict[str, Interface]] = {}
    for space, view in seen.items():
        world[space] = {}
        for name, found in view.interfaces.items():
            peer_space, peer_index = view.peers.get(name, ("", 0))
            peer_name = seen[peer_space].names.get(peer_index) if peer_space else None
            peer = (peer_space, peer_name) if peer_name is not None else None
            world[space][name] = replace(found, peer=peer)
    return world


def _delete(action: Delete, spaces: Spaces) -> None:
    with _within(action.space, spaces) as netlink:
        index = netlink.link_lookup(ifname=action.name)
        if not index:  # went with its peer
            return
        try:
            netlink.link("del", index=index[0])
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise


def _create(action: Create, spaces: Spaces) -> None:
    link = action.link
    with _within(link.a.space, spaces) as netlink:
        peer = {"ifname": link.b.name, "mtu": link.mtu, "net_ns_fd": spaces[link.b.space]}
        netlink.link("add", ifname=link.a.name, kind="veth", mtu=link.mtu, peer=peer)


def _configure(action: Configure, spaces: Spaces) -> None:
    with _within(action.space, spaces) as netlink:
        index = next(iter(netlink.link_lookup(ifname=action.name)), None)
        if index is None:
            raise OSError(errno.ENODEV, f"there is no {action.name} any more")
        if action.offloads_off:
            _switch_off(action.name, action.offloads_off)
        if action.offloads_on:
            _switch(action.name, action.offloads_on, on=True)
        if action.mtu is not None:
            netlink.link("set", index=index, mtu=action.mtu)
        if action.up is not None:
            netlink.link("set", index=index, state="up" if action.up else "down")
        for address in action.surplus:
            with contextlib.suppress(NetlinkError):  # not there is as good; what is left is read again
                netlink.addr("del", index=index, **_address(address))
        for address in action.addresses:
            _add(netlink, index, address)


def _address(address: str) -> dict[str, Any]:
    host, length = address.split("/")
    return {"address": host, "prefixlen": int(length), "family": socket.AF_INET6}


def _add(netlink: IPRoute, index: int, address: str) -> None:
    try:
        netlink.addr("replace", index=index, flags=IFA_F_NODAD, **_address(address))
    except NetlinkError as error:
        if error.code != errno.EACCES:
            raise
        raise OSError(error.code, f"no address {address}: IPv6 is switched off there (disable_ipv6)") from error


def execute(action: Action, spaces: Spaces) -> None:
    """Carry out one step of a plan. Raises KernelError.

    An address is usable at once: a cable with two ends has no duplicates to detect.
    """
    match action:
        case Delete():
            _delete(action, spaces)
        case Create():
            _create(action, spaces)
        case Configure():
            _configure(action, spaces)


def carry_out(actions: Sequence[Action], world: Mapping[str, Mapping[str, Interface]], spaces: Spaces) -> None:
    """Carry out a plan made for `world`. Raises StepError, with what can be taken back taken back."""
    for at, action in enumerate(actions):
        try:
            execute(action, spaces)
        except KernelError as error:
            # Settings may be made in part; a pair is made and removed in one go.
            begun = [*actions[:at], *([action] if isinstance(action, Configure) else [])]
            for back in undo(begun, world):
                with contextlib.suppress(KernelError):  # the rest may succeed; what is left is read again
                    execute(back, spaces)
            raise StepError(f"{say(action)}: {error}", actions[:at]) from error
