# SPDX-License-Identifier: Apache-2.0
"""Interfaces of network namespaces: reading them, carrying out a plan of og_veth."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ansible.module_utils.og_setns import inside
from ansible.module_utils.og_veth import Action, Configure, Create, Delete, Interface
from pyroute2.ethtool.ioctl import IoctlEthtool, NotSupportedError
from pyroute2.netlink.exceptions import NetlinkError

Spaces = Mapping[str, int]
"""Open descriptors of namespaces by name."""

IFF_UP = 0x1
IFA_F_NODAD = 0x02


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


def _switch_off(name: str, offloads: tuple[str, ...]) -> None:
    with _ethtool(name) as device:
        features = device.get_features()
        for feature, active, *_ in features:
            if active and _belongs(feature) in offloads:
                features[feature] = False
        # The kernel answers "not quite" where one feature brings down another: what counts is what is left.
        with contextlib.suppress(NotSupportedError):
            device.set_features(features)
    left = sorted(_offloads(name) & set(offloads))
    if left:
        raise OSError(errno.EOPNOTSUPP, f"{name}: the driver keeps {', '.join(left)} on")


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one namespace says of itself: interfaces as they are, and peers by (namespace, index)."""

    names: dict[int, str]
    interfaces: dict[str, Interface]
    peers: dict[str, tuple[str, int]]


def _look(space: str, spaces: Spaces, names: set[str], partners: set[str]) -> _Seen:
    with inside(spaces[space]) as netlink:
        links = list(netlink.get_links())
        # The kernel numbers other namespaces as it names them in a dump: ask for the numbers after the dump.
        numbers = {netlink.get_netnsid(fd=spaces[partner])["nsid"]: partner for partner in partners}
        numbers[None] = space
        addresses: dict[int, set[str]] = {}
        for entry in netlink.get_addr(family=socket.AF_INET6):
            addresses.setdefault(entry["index"], set()).add(f"{entry.get('address')}/{entry['prefixlen']}")
        seen = _Seen({link["index"]: link.get("ifname") for link in links}, {}, {})
        for link in links:
            name = link.get("ifname")
            if name not in names:
                continue
            seen.interfaces[name] = Interface(
                kind=link.get_nested("linkinfo", "kind") or "",
                mtu=link.get("mtu"),
                up=bool(link["flags"] & IFF_UP),
                addresses=frozenset(addresses.get(link["index"], ())),
                offloads=_offloads(name),
            )
            peer_space = numbers.get(link.get("link_netnsid"))
            if peer_space is not None and link.get("link"):
                seen.peers[name] = (peer_space, link.get("link"))
    return seen


def observe(
    spaces: Spaces, wanted: Mapping[str, set[str]], partners: Mapping[str, set[str]]
) -> dict[str, dict[str, Interface]]:
    """Return the `wanted` interfaces of every namespace; peers are known where they lie in one of its `partners`."""
    seen = {space: _look(space, spaces, wanted[space], partners[space]) for space in spaces}
    world: dict[str, dict[str, Interface]] = {}
    for space, view in seen.items():
        world[space] = {}
        for name, found in view.interfaces.items():
            peer_space, peer_index = view.peers.get(name, ("", 0))
            peer_name = seen[peer_space].names.get(peer_index) if peer_space else None
            peer = (peer_space, peer_name) if peer_name is not None else None
            world[space][name] = Interface(found.kind, found.mtu, found.up, peer, found.addresses, found.offloads)
    return world


def _delete(action: Delete, spaces: Spaces) -> None:
    with inside(spaces[action.space]) as netlink:
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
    with inside(spaces[link.a.space]) as netlink:
        peer = {"ifname": link.b.name, "mtu": link.mtu, "net_ns_fd": spaces[link.b.space]}
        netlink.link("add", ifname=link.a.name, kind="veth", mtu=link.mtu, peer=peer)


def _configure(action: Configure, spaces: Spaces) -> None:
    with inside(spaces[action.space]) as netlink:
        index = netlink.link_lookup(ifname=action.name)[0]
        if action.offloads_off:
            _switch_off(action.name, action.offloads_off)
        if action.mtu is not None:
            netlink.link("set", index=index, mtu=action.mtu)
        if action.up is not None:
            netlink.link("set", index=index, state="up" if action.up else "down")
        for address in action.addresses:
            host, length = address.split("/")
            netlink.addr(
                "replace", index=index, address=host, prefixlen=int(length), family=socket.AF_INET6, flags=IFA_F_NODAD
            )


def execute(action: Action, spaces: Spaces) -> None:
    """Carry out one step of a plan. An address is usable at once: a cable with two ends has no duplicates to detect."""
    match action:
        case Delete():
            _delete(action, spaces)
        case Create():
            _create(action, spaces)
        case Configure():
            _configure(action, spaces)
