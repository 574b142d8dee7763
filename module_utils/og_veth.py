# SPDX-License-Identifier: Apache-2.0
"""veth links between network namespaces: what is there, what is wanted, and the steps from one to the other.

Nothing here touches a namespace: `plan` is a pure function of the wanted links and the observed interfaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv6Interface

OFFLOADS = ("tx", "tso", "gso", "gro")
"""Offloads a link can be rid of, by their ethtool names. A frame whose checksum or segmentation is left to a device
that never does it cannot be read by an AF_XDP socket or compared to the byte in a capture."""

MIN_MTU = 1280  # RFC 8200 section 5
MAX_MTU = 65535
MAX_NAME = 15  # IFNAMSIZ less the terminating zero
MAX_FILE_NAME = 255
TAKEN_NAMES = frozenset({".", "..", "lo", "all", "default"})
"""Names no link can have: the kernel makes a directory of each name beside `all` and `default`, and lo is there."""

HOST = "host"
NETNS = "netns:"
_CONTAINER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")  # as Docker has it


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
    refused: frozenset[str] = frozenset()
    """Those of `addresses` that the kernel keeps out of use, because another node on the link has them."""


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
    offloads_on: tuple[str, ...] = ()
    """Only `undo` asks for these two: a link takes no address away and switches nothing on."""
    surplus: tuple[str, ...] = ()

    def is_empty(self) -> bool:
        """Tell whether there is nothing to change."""
        return self == Configure(self.space, self.name)


Action = Delete | Create | Configure


def parse_space(container: str | None, netns: str | None, place: str) -> str:
    """Return the namespace two options name: a container's name, `netns:NAME`, or `host` where neither is given."""
    if netns is not None:
        if netns in ("", ".", "..") or "/" in netns or not netns.isprintable() or len(netns.encode()) > MAX_FILE_NAME:
            raise LinkError(f"{place}.netns: {netns!r} is not the name of a network namespace")
        return NETNS + netns
    if container is None:
        return HOST
    if container == HOST or not _CONTAINER.fullmatch(container):
        # An empty name, most often of a variable that is not set, must not lead to the host.
        raise LinkError(f"{place}.container: {container!r} is not the name of a container")
    return container


def parse_addresses(texts: Iterable[str], place: str) -> tuple[str, ...]:
    """Return addresses as `address/length`, spelled one way. An interface can have each of them once."""
    found: list[str] = []
    for at, text in enumerate(texts):
        try:
            address = IPv6Interface(text)
        except ValueError as error:
            raise LinkError(f"{place}.addresses[{at}]: {text!r} is not an IPv6 address: {error}") from error
        wrong = _wrong_address(text, address)
        if wrong is None and str(address.ip) in [_host(other) for other in found]:
            wrong = "is in the list already"
        if wrong is not None:
            raise LinkError(f"{place}.addresses[{at}]: {text!r} {wrong}")
        found.append(str(address))
    return tuple(found)


def _wrong_address(text: str, address: IPv6Interface) -> str | None:
    """Return what makes an address unfit for one end of a cable. The kernel takes one without a length as a /128."""
    if "%" in text:
        return "has a zone: the interface it goes to is named by the link"
    if "/" not in text:
        return "has no prefix length"
    for kind in ("multicast", "unspecified", "loopback"):
        if getattr(address.ip, f"is_{kind}"):
            return f"is {kind}: no interface of a link can have it"
    return None


def _host(address: str) -> str:
    return address.partition("/")[0]


def wrong_name(name: str) -> str | None:
    """Return why an interface cannot be called so: the kernel or a tool refuses the name or reads it otherwise."""
    if not name.isprintable() or any(letter.isspace() or letter in "/:%" for letter in name) or name.startswith("-"):
        return "no spaces, no '/', ':' or '%', no '-' at the start"
    if not 0 < len(name.encode()) <= MAX_NAME:
        return f"1 to {MAX_NAME} bytes"
    return "taken by the kernel" if name in TAKEN_NAMES else None


def check(links: Sequence[Link]) -> None:
    """Raise LinkError where a wanted link is wrong in itself, or two of them claim one interface."""
    owner: dict[tuple[str, str], Link] = {}
    for at, link in enumerate(links):
        if not MIN_MTU <= link.mtu <= MAX_MTU:
            raise LinkError(f"links[{at}].mtu: mtu {link.mtu} is not within {MIN_MTU}..{MAX_MTU}")
        for letter, end in zip("ab", link.ends(), strict=True):
            wrong = wrong_name(end.name)
            if wrong is not None:
                raise LinkError(f"links[{at}].{letter}.name: {end.name!r} is not an interface name: {wrong}")
            key = (end.space, end.name)
            if key in owner:
                raise LinkError(f"links[{at}].{letter}: {end} is an end of {owner[key]} too")
            owner[key] = link


def _configure(end: Endpoint, link: Link, found: Interface | None) -> Configure:
    """Return what has to change at one end; `found` is None for a pair that has just been made."""
    unwanted = () if link.offloads else OFFLOADS
    if found is None:
        return Configure(end.space, end.name, up=True, offloads_off=unwanted, addresses=end.addresses)
    _refuse_conflict(end, link, found)
    return Configure(
        end.space,
        end.name,
        mtu=None if found.mtu == link.mtu else link.mtu,
        up=None if found.up else True,
        offloads_off=tuple(name for name in unwanted if name in found.offloads),
        addresses=tuple(address for address in end.addresses if address not in found.addresses),
    )


def _refuse_conflict(end: Endpoint, link: Link, found: Interface) -> None:
    """Raise LinkError where the kernel would take an address and change nothing, for it has that one already."""
    for address in end.addresses:
        if address in found.refused:
            raise LinkError(f"{link}: {end}: {address} is out of use, as another node on the link has it (dadfailed)")
        other = next((old for old in found.addresses if _host(old) == _host(address) and old != address), None)
        if other is not None:
            raise LinkError(f"{link}: {end} has {other}, not {address}: remove it first")


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
    return {str(end): _describe(link, world.get(end.space, {}).get(end.name)) for link in links for end in link.ends()}


def _describe(link: Link, found: Interface | None) -> object:
    if found is None:
        return "absent"
    shown = {
        "peer": ":".join(found.peer) if found.peer else "unknown",
        "mtu": found.mtu,
        "up": found.up,
        "addresses": sorted(found.addresses),
    }
    # Which offloads a new veth has is the kernel's choice: where they may stay, a diff cannot foretell them.
    return shown if link.offloads else shown | {"offloads": sorted(found.offloads)}


def differences(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Return in words what differs between two descriptions of the same links."""
    return [f"{place}: was {old}, is {after[place]}" for place, old in before.items() if old != after[place]]


def say(action: Action) -> str:
    """Return one step in words."""
    match action:
        case Delete(space, name):
            return f"delete {space}:{name}"
        case Create(link):
            return f"create {link}"
        case Configure():
            words = [f"mtu {action.mtu}"] if action.mtu is not None else []
            words += [] if action.up is None else ["up" if action.up else "down"]
            words += [f"{offload} off" for offload in action.offloads_off]
            words += [f"{offload} on" for offload in action.offloads_on]
            words += [f"address {address}" for address in action.addresses]
            words += [f"no address {address}" for address in action.surplus]
            return f"set {action.space}:{action.name} {', '.join(words)}"
    raise AssertionError(action)


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
            case Configure(space, name):
                after[space][name] = _configured(after[space][name], action)
    return after


def _configured(old: Interface, action: Configure) -> Interface:
    # The kernel drops the addresses of an interface that goes down.
    kept = frozenset[str]() if action.up is False else old.addresses - set(action.surplus)
    return replace(
        old,
        mtu=old.mtu if action.mtu is None else action.mtu,
        up=old.up if action.up is None else action.up,
        addresses=kept | set(action.addresses),
        offloads=old.offloads - set(action.offloads_off) | set(action.offloads_on),
    )


def undo(actions: Iterable[Action], world: World) -> list[Action]:
    """Return the steps that lead back to `world`, as far as any do.

    What was set on a pair of the same run goes with the pair. A veth that was in the way had its other end and its
    routes somewhere: nothing brings it back.
    """
    back: list[Action] = []
    made: set[tuple[str, str]] = set()
    for action in actions:
        match action:
            case Create(link):
                made |= {(end.space, end.name) for end in link.ends()}
                back.append(Delete(link.a.space, link.a.name))
            case Configure(space, name) if (space, name) not in made:
                back.append(_unset(action, world[space][name]))
    return back[::-1]


def _unset(action: Configure, old: Interface) -> Configure:
    down = bool(action.up) and not old.up
    return Configure(
        action.space,
        action.name,
        mtu=None if action.mtu is None else old.mtu,
        up=False if down else None,
        offloads_on=tuple(name for name in action.offloads_off if name in old.offloads),
        addresses=tuple(sorted(old.addresses)) if down else (),
        surplus=() if down else tuple(address for address in action.addresses if address not in old.addresses),
    )
