# SPDX-License-Identifier: Apache-2.0
"""veth links between network namespaces: what is there, what is wanted, and the steps from one to the other.

Nothing here touches a namespace: `plan` is a pure function of the wanted links and the observed interfaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

OFFLOADS = ("tx", "tso", "gso", "gro")
"""Offloads a link can be rid of, by their ethtool names. A frame whose checksum or segmentation is left to a device
that never does it cannot be read by an AF_XDP socket or compared to the byte in a capture."""

MIN_MTU = 1280  # RFC 8200 section 5
MAX_MTU = 65535
MAX_NAME = 15  # IFNAMSIZ less the terminating zero


class LinkError(Exception):
    """A wanted link that is wrong in itself, or that cannot be made without harm to what is there."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a wanted link: an interface `name` in the namespace `space`, with `addresses` as `address/length`."""

    space: str
    name: str
    addresses: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.space}:{self.name}"


@dataclass(frozen=True, slots=True)
class Link:
    """A wanted veth pair; `offloads` False means every one of OFFLOADS is switched off at both ends."""

    a: Endpoint
    b: Endpoint
    mtu: int
    offloads: bool = False

    def __str__(self) -> str:
        return f"{self.a} -- {self.b}"

    def ends(self) -> tuple[Endpoint, Endpoint]:
        """Return both ends."""
        return self.a, self.b


@dataclass(frozen=True, slots=True)
class Interface:
    """An observed interface; `peer` is the other end (namespace, name) where that is known."""

    kind: str
    mtu: int
    up: bool
    peer: tuple[str, str] | None = None
    addresses: frozenset[str] = frozenset()
    offloads: frozenset[str] = frozenset()


World = Mapping[str, Mapping[str, Interface]]
"""Every interface of every namespace that takes part, by namespace and name."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the interface, and with it its peer."""

    space: str
    name: str


@dataclass(frozen=True, slots=True)
class Create:
    """Make the pair, both ends down."""

    link: Link


@dataclass(frozen=True, slots=True)
class Configure:
    """Change what is not None or not empty of one interface."""

    space: str
    name: str
    mtu: int | None = None
    up: bool | None = None
    offloads_off: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()

    def is_empty(self) -> bool:
        """Tell whether there is nothing to change."""
        return self.mtu is None and self.up is None and not self.offloads_off and not self.addresses


Action = Delete | Create | Configure


def check(links: Sequence[Link]) -> None:
    """Raise LinkError where a wanted link is wrong in itself, or two of them claim one interface."""
    owner: dict[tuple[str, str], Link] = {}
    for link in links:
        if not MIN_MTU <= link.mtu <= MAX_MTU:
            raise LinkError(f"{link}: mtu {link.mtu} is not within {MIN_MTU}..{MAX_MTU}")
        for end in link.ends():
            if not 0 < len(end.name) <= MAX_NAME or "/" in end.name or end.name.split() != [end.name]:
                raise LinkError(f"{link}: {end.name!r} is not an interface name of 1 to {MAX_NAME} characters")
            key = (end.space, end.name)
            if key in owner:
                raise LinkError(f"{link}: {end} is an end of {owner[key]} too")
            owner[key] = link


def _configure(end: Endpoint, link: Link, found: Interface | None) -> Configure:
    """Return what has to change at one end; `found` is None for a pair that has just been made."""
    unwanted = () if link.offloads else OFFLOADS
    if found is None:
        return Configure(end.space, end.name, up=True, offloads_off=unwanted, addresses=end.addresses)
    return Configure(
        end.space,
        end.name,
        mtu=None if found.mtu == link.mtu else link.mtu,
        up=None if found.up else True,
        offloads_off=tuple(name for name in unwanted if name in found.offloads),
        addresses=tuple(address for address in end.addresses if address not in found.addresses),
    )


def _is_wired(link: Link, world: World) -> bool:
    found = world.get(link.a.space, {}).get(link.a.name)
    return found is not None and found.peer == (link.b.space, link.b.name)


def _in_the_way(link: Link, world: World) -> list[Action]:
    """Return the removal of veths that bear a wanted name but lead elsewhere; anything else is not ours to remove."""
    actions: list[Action] = []
    for end in link.ends():
        found = world.get(end.space, {}).get(end.name)
        if found is None:
            continue
        if found.kind != "veth":
            raise LinkError(f"{link}: {end} exists and is no veth but {found.kind or 'a device'}: rename or remove it")
        actions.append(Delete(end.space, end.name))
    return actions


def plan(links: Sequence[Link], world: World) -> list[Action]:
    """Return the steps after which every link is present: removals, new pairs, settings; none if all is well."""
    check(links)
    removals: list[Action] = []
    pairs: list[Action] = []
    settings: list[Configure] = []
    for link in links:
        wired = _is_wired(link, world)
        if not wired:
            removals += _in_the_way(link, world)
            pairs.append(Create(link))
        settings += [_configure(end, link, world[end.space][end.name] if wired else None) for end in link.ends()]
    return [*removals, *pairs, *(change for change in settings if not change.is_empty())]


def plan_absent(links: Sequence[Link], world: World) -> list[Action]:
    """Return the steps after which no wanted interface exists: one removal for each pair or stray end."""
    check(links)
    actions: list[Action] = []
    for link in links:
        ends = link.ends()[:1] if _is_wired(link, world) else link.ends()
        for end in ends:
            found = world.get(end.space, {}).get(end.name)
            if found is not None and found.kind == "veth":
                actions.append(Delete(end.space, end.name))
    return actions


def describe(links: Iterable[Link], world: World) -> dict[str, object]:
    """Return the observed state of the wanted interfaces, for a diff."""
    return {str(end): _describe(world.get(end.space, {}).get(end.name)) for link in links for end in link.ends()}


def _describe(found: Interface | None) -> object:
    if found is None:
        return "absent"
    return {
        "peer": ":".join(found.peer) if found.peer else "unknown",
        "mtu": found.mtu,
        "up": found.up,
        "addresses": sorted(found.addresses),
        "offloads": sorted(found.offloads),
    }


def apply(actions: Sequence[Action], world: World) -> dict[str, dict[str, Interface]]:
    """Return the world after `actions`: what check mode and the diff show, and the law the tests hold `plan` to."""
    after = {space: dict(interfaces) for space, interfaces in world.items()}
    for action in actions:
        match action:
            case Delete(space, name):
                gone = after[space].pop(name, None)
                if gone is not None and gone.peer is not None:
                    after.get(gone.peer[0], {}).pop(gone.peer[1], None)
            case Create(link):
                for end, other in ((link.a, link.b), (link.b, link.a)):
                    after.setdefault(end.space, {})[end.name] = Interface(
                        "veth", link.mtu, up=False, peer=(other.space, other.name), offloads=frozenset(OFFLOADS)
                    )
            case Configure(space, name, mtu, up, offloads_off, addresses):
                old = after[space][name]
                after[space][name] = Interface(
                    old.kind,
                    old.mtu if mtu is None else mtu,
                    old.up if up is None else up,
                    old.peer,
                    old.addresses | set(addresses),
                    old.offloads - set(offloads_off),
                )
    return after
