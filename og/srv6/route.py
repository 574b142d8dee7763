# SPDX-License-Identifier: Apache-2.0
"""A route as wanted or observed, and the rules a wanted one must keep. Pure: no netlink here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NoReturn

MODES = ("inline", "encap", "encap.red")
FLAVORS = ("psp", "next-csid")
UNICAST, LOCAL, DISCARDS = "unicast", "local", ("blackhole", "unreachable", "prohibit")
TYPES = (UNICAST, LOCAL, *DISCARDS)
MAIN_TABLE = 254
DEFAULT_METRIC = 1024
PROTOCOL = 83  # rtm_protocol of what srv6_route makes, unless told otherwise; "S"
MIN_PROTOCOL = 5  # up to RTPROT_STATIC routes belong to the kernel and to people
# fmt: off
OWNERS = {  # rtm_protocol of other programs: linux/rtnetlink.h, RTPROT_*
    8: "GateD", 9: "router advertisements", 10: "Merit MRT", 11: "Zebra", 12: "BIRD", 13: "the DECnet routing daemon",
    14: "XORP", 15: "Netsukuku", 16: "DHCP clients", 17: "multicast daemons", 18: "Keepalived", 42: "Babel", 84: "OVN",
    99: "Open/R", 186: "BGP", 187: "IS-IS", 188: "OSPF", 189: "RIP", 192: "EIGRP",
}
# fmt: on
MAX_SEGMENTS = 16
MAX_NAME = 15  # IFNAMSIZ less the terminating zero
MAX_U32 = 0xFFFFFFFF


class RouteError(Exception):
    """A wanted route that is wrong in itself, or that cannot be made without harm to others. The text names it."""


@dataclass(frozen=True, slots=True)
class Encap:
    """RFC 8986 H.Encaps, H.Encaps.Red, or insertion; `segments` in travel order, HMAC key id 0 = none."""

    mode: str
    segments: tuple[str, ...]
    hmac_key_id: int = 0


@dataclass(frozen=True, slots=True)
class Local:
    """One behaviour of a SID, by its name in RFC 8986; what the action has no use for stays empty or 0."""

    action: str
    nh6: str = ""
    nh4: str = ""
    table: int = 0
    vrf_table: int = 0
    segments: tuple[str, ...] = ()
    hmac_key_id: int = 0
    flavors: tuple[str, ...] = ()
    counters: bool = False


@dataclass(frozen=True, slots=True)
class Opaque:
    """A light-weight tunnel of any other form, as the kernel gave it: kind (LWTUNNEL_ENCAP_*) and payload."""

    kind: int
    payload: bytes


Body = Encap | Local | Opaque | None


@dataclass(frozen=True, slots=True)
class Route:
    """One route. Its key is (prefix, table, metric); `body` is None but for unicast routes."""

    prefix: str
    table: int = MAIN_TABLE
    metric: int = DEFAULT_METRIC
    type: str = UNICAST
    body: Body = None
    device: str = ""
    gateway: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        """Return what the kernel tells routes apart by."""
        return self.prefix, self.table, self.metric

    def __str__(self) -> str:
        kind = "" if self.type == UNICAST else f"{self.type} "
        return f"{kind}{self.prefix} table {self.table} metric {self.metric}"


@dataclass(frozen=True, slots=True)
class Rule:
    """Number (SEG6_LOCAL_ACTION_*) of an action, the options one of which it must have, and those it may have."""

    number: int
    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()


ACTIONS: Mapping[str, Rule] = {
    "End": Rule(1, (), ("flavors",)),
    "End.X": Rule(2, ("nh6",), ("flavors",)),
    "End.T": Rule(3, ("table",)),
    "End.DX6": Rule(5, ("nh6",)),
    "End.DX4": Rule(6, ("nh4",)),
    "End.DT6": Rule(7, ("table", "vrf_table")),
    "End.DT4": Rule(8, ("vrf_table",)),
    "End.B6.Encaps": Rule(10, ("segments",), ("hmac_key_id",)),
    "End.DT46": Rule(16, ("vrf_table",)),
}


_LOCAL_OPTIONS = ("action", "nh6", "nh4", "table", "vrf_table", "segments", "hmac_key_id", "flavors", "counters")
_OPTIONS = ("prefix", "table", "metric", "type", "device", "gateway", "encap", "seg6local")


class _Fields:
    """Reads the options of one route; an error names the option by its place, as `routes[2].encap.segments`."""

    def __init__(self, options: Mapping[str, Any], place: str) -> None:
        self._options, self._place = options, place

    def fail(self, name: str, message: str) -> NoReturn:
        where = ".".join(part for part in (self._place, name) if part)
        raise RouteError(f"{where}: {message}")

    def given(self, name: str) -> Any:  # noqa: ANN401 - options as Ansible gives them
        value = self._options.get(name)
        return None if value is False or value in ("", []) else value

    def only(self, names: Sequence[str]) -> None:
        for name in self._options:
            if name not in names:
                self.fail(str(name), "unknown")

    def sub(self, name: str) -> _Fields:
        value = self._options[name]
        if not isinstance(value, Mapping):
            self.fail(name, f"not a mapping: {value!r}")
        return _Fields(value, f"{self._place}.{name}" if self._place else name)

    def text(self, name: str, default: str = "") -> str:
        value = self.given(name)
        return default if value is None else str(value)

    def choice(self, name: str, choices: Sequence[str], default: str = "") -> str:
        value = self.text(name, default)
        if value not in choices:
            self.fail(name, f"{value!r} is not one of {', '.join(choices)}")
        return value

    def number(self, name: str, default: int, low: int = 1) -> int:
        value = self.given(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= MAX_U32:
            self.fail(name, f"{value!r} is not a number within {low}..{MAX_U32}")
        return value

    def address(self, name: str, version: int) -> str:
        return str(self._address(name, self.given(name), version)) if self.given(name) else ""

    def _address(self, name: str, value: object, version: int) -> IPv4Address | IPv6Address:
        try:
            address = ip_address(str(value))
        except ValueError:
            self.fail(name, f"{value!r} is not an IPv{version} address")
        if address.version != version or address.is_multicast:
            self.fail(name, f"{value!r} is not a unicast IPv{version} address")
        if isinstance(address, IPv6Address) and address.scope_id:
            self.fail(name, f"{value!r} has a zone; the interface is given by device")
        return address

    def segments(self) -> tuple[str, ...]:
        values = self.given("segments") or []
        if not isinstance(values, list) or not 0 < len(values) <= MAX_SEGMENTS:
            self.fail("segments", f"1 to {MAX_SEGMENTS} SIDs are needed")
        found = [self._address(f"segments[{at}]", value, 6) for at, value in enumerate(values)]
        for at, address in enumerate(found):
            if address.is_unspecified or address.is_loopback:
                self.fail(f"segments[{at}]", f"'{address}' cannot be a SID")
        return tuple(str(address) for address in found)

    def names(self, name: str, choices: Sequence[str]) -> tuple[str, ...]:
        values = self.given(name) or []
        if not isinstance(values, list):
            self.fail(name, f"{values!r} is not a list")
        for value in values:
            if value not in choices:
                self.fail(name, f"{value!r} is not one of {', '.join(choices)}")
        return tuple(choice for choice in choices if choice in values)

    def flag(self, name: str) -> bool:
        value = self._options.get(name)
        if value is not None and not isinstance(value, bool):
            self.fail(name, f"{value!r} is neither true nor false")
        return bool(value)

    def interface(self, name: str) -> str:
        value = self.text(name)
        if len(value) > MAX_NAME or "/" in value or value.split() not in ([], [value]):
            self.fail(name, f"{value!r} is not an interface name of 1 to {MAX_NAME} characters")
        return value


def _prefix(fields: _Fields) -> str:
    value = fields.text("prefix")
    if "%" in value:
        fields.fail("prefix", f"{value!r} has a zone; the interface is given by device")
    try:
        return str(ip_network(value))
    except ValueError as error:
        fields.fail("prefix", f"{value!r} is not a prefix: {error}")


def _encap(fields: _Fields, *, inner: int) -> Encap:
    fields.only(("mode", "segments", "hmac_key_id"))
    mode = fields.choice("mode", MODES, "encap")
    if mode == "inline" and inner != 6:
        fields.fail("mode", "a segment routing header cannot be inserted into IPv4: use encap")
    return Encap(mode, fields.segments(), fields.number("hmac_key_id", 0, 0))


def _local(fields: _Fields) -> Local:
    fields.only(_LOCAL_OPTIONS)
    action = fields.choice("action", tuple(ACTIONS))
    rule = ACTIONS[action]
    allowed = {"action", "counters", *rule.needs, *rule.may}
    for name in _LOCAL_OPTIONS:
        if name not in allowed and fields.given(name) not in (None, 0):
            fields.fail(name, f"{action} has no use for it")
    if rule.needs and sum(fields.given(name) is not None for name in rule.needs) != 1:
        fields.fail(" or ".join(rule.needs), f"{action} needs {'it' if len(rule.needs) == 1 else 'one of them'}")
    return Local(
        action,
        nh6=fields.address("nh6", 6),
        nh4=fields.address("nh4", 4),
        table=fields.number("table", 0),
        vrf_table=fields.number("vrf_table", 0),
        segments=fields.segments() if "segments" in rule.needs else (),
        hmac_key_id=fields.number("hmac_key_id", 0, 0),
        flavors=fields.names("flavors", FLAVORS),
        counters=fields.flag("counters"),
    )


def parse_key(options: Mapping[str, Any], place: str = "") -> Route:
    """Return a route of which only the key counts, as for a removal. Raises RouteError."""
    fields = _Fields(options, place)
    fields.only(_OPTIONS)
    return Route(
        _prefix(fields),
        fields.number("table", MAIN_TABLE),
        fields.number("metric", DEFAULT_METRIC),
    )


def parse(options: Mapping[str, Any], place: str = "") -> Route:
    """Return the route that `options` (those of the module srv6_route) ask for. Raises RouteError."""
    fields = _Fields(options, place)
    key = parse_key(options, place)
    kind = fields.choice("type", TYPES, UNICAST)
    device = fields.interface("device")
    inner = ip_network(key.prefix).version
    bodies = [name for name in ("encap", "seg6local") if options.get(name) is not None]
    if kind != UNICAST:
        for name in (*bodies, *(name for name in ("device", "gateway") if fields.given(name))):
            fields.fail(name, f"a {kind} route has none")
        return Route(*key.key, kind, None, "lo" if kind == LOCAL else "")
    if len(bodies) != 1:
        fields.fail("", f"{key}: a unicast route needs either encap or seg6local")
    if not device:
        fields.fail("device", f"{key}: needed for encap and seg6local")
    if device == "lo":
        fields.fail("device", f"{key}: lo makes it a reject route, another interface is needed")
    if bodies == ["seg6local"]:
        if inner != 6:
            fields.fail("prefix", f"{key.prefix}: a SID is IPv6")
        body: Body = _local(fields.sub("seg6local"))
    else:
        body = _encap(fields.sub("encap"), inner=inner)
    return Route(*key.key, kind, body, device, fields.address("gateway", inner))


def check_protocol(protocol: object, *, purge: bool) -> int:
    """Return the route protocol. Raises RouteError for the kernel's, and for one whose owner would lose its routes."""
    if isinstance(protocol, bool) or not isinstance(protocol, int) or not MIN_PROTOCOL <= protocol <= 255:
        raise RouteError(f"protocol: {protocol!r} is not a number within {MIN_PROTOCOL}..255")
    if purge and protocol in OWNERS:
        raise RouteError(
            f"protocol: {protocol} is that of {OWNERS[protocol]}, whose routes purge would remove; choose another one"
        )
    return protocol


def check(routes: Sequence[Route]) -> None:
    """Raise RouteError where two wanted routes have the same key."""
    seen: set[tuple[str, int, int]] = set()
    for route in routes:
        if route.key in seen:
            raise RouteError(f"{route}: wanted twice; prefix, table and metric together must be unique")
        seen.add(route.key)


def family(route: Route) -> int:
    """Return 4 or 6."""
    return 6 if isinstance(ip_network(route.prefix), IPv6Network) else 4


def describe(route: Route) -> dict[str, Any]:
    """Return a route in the words of the module's options; what is not set is left out."""
    words: dict[str, Any] = {"prefix": route.prefix, "table": route.table, "metric": route.metric, "type": route.type}
    if route.type == UNICAST and route.device:
        words["device"] = route.device
    if route.gateway:
        words["gateway"] = route.gateway
    match route.body:
        case Encap(mode, segments, key):
            words["encap"] = {"mode": mode, "segments": list(segments)} | ({"hmac_key_id": key} if key else {})
        case Local():
            values = {name: getattr(route.body, name) for name in _LOCAL_OPTIONS}
            words["seg6local"] = {
                name: list(value) if isinstance(value, tuple) else value for name, value in values.items() if value
            }
        case Opaque(kind, payload):
            words["other"] = f"lwtunnel {kind} {payload.hex()}"
    return words
