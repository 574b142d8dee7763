# SPDX-License-Identifier: Apache-2.0
"""The hasher's whole path: what goes in, what comes out to the byte, and under which verdict."""

from __future__ import annotations

import socket
from collections import Counter
from ipaddress import IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.tests.lab_site import (
    AGENTS,
    CLIENT,
    FABRIC_MTU,
    FLOW_SEED,
    HASHER,
    ROUTERS,
    VIP,
    Site,
    build_tables,
    locator,
    sid,
)
from native.tests.oglib import Buf, OgLibrary
from native.tests.packets import (
    UDP,
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    Raw,
    client_tcp,
    client_udp,
    icmp_error,
    server_tcp,
    srh,
)
from native.tests.test_parse import FAIL as PARSE_FAIL
from native.tests.test_parse import PASS as PARSE_PASS
from native.tests.test_probe import LOAD, SAID, SELF, message
from native.tests.test_siphash import model

NOW = 10**12
SECOND = 10**9
MASK = (1 << 64) - 1
CLIENT_MTU = FABRIC_MTU - 256


class Hasher:
    """One hasher thread with its tables."""

    def __init__(self, og: OgLibrary, site: Site | None = None, tables: bool = True) -> None:
        self.og = og
        self.tables = build_tables(og, site) if tables else og.ffi.NULL
        self.health = og.ffi.new("struct og_health *")
        self.state = og.ffi.new("struct og_hasher *")
        og.lib.og_hasher_init(self.state, self.health, [3, 4], og.ffi.new("struct og_probe_self *", SELF))

    def burst(self, packets: list[Any], now: int = NOW, **room: int) -> list[Buf]:
        bufs = [Buf(self.og, bytes(packet), **room) for packet in packets]
        pointers = self.og.ffi.new("struct og_buf *[]", [buf.buf for buf in bufs])
        for buf in bufs:
            buf.buf.verdict = self.og.lib.OG_V_COUNT
        self.og.lib.og_hasher_burst(self.state, self.tables, pointers, len(bufs), now)
        for buf in bufs:
            buf.check()
        return bufs

    def one(self, packet: Any, now: int = NOW, **room: int) -> tuple[str, bytes]:
        buf = self.burst([packet], now, **room)[0]
        return buf.verdict, bytes(buf)


@pytest.fixture
def hasher(og: OgLibrary) -> Hasher:
    return Hasher(og)


# ---- the oracle ------------------------------------------------------------------------------------------------------


def flow_key(client: str, vip: str, sport: int, dport: int, protocol: int) -> bytes:
    return (
        IPv6Address(client).packed + IPv6Address(vip).packed + sport.to_bytes(2, "big") + dport.to_bytes(2, "big")
        + bytes([protocol, 0, 0, 0])
    )  # fmt: skip


def use_of(flow_hash: int, use: int) -> int:
    """MurmurHash3's fmix64 of the flow hash and the use's constant, as og_flow.h says."""
    h = flow_hash ^ (use + 1) * 0x9E3779B97F4A7C15 & MASK
    h ^= h >> 33
    h = h * 0xFF51AFD7ED558CCD & MASK
    h ^= h >> 33
    h = h * 0xC4CEB9FE1A85EC53 & MASK
    return h ^ h >> 33


def steered(hasher: Hasher, inner: bytes, key: bytes, dscp: int = 0) -> bytes:
    """The packet that must come out: RFC 8986 section 5.2 and the wire contract, written by scapy."""
    og = hasher.og
    flow_hash = model(FLOW_SEED, key, 1, 3)
    router = og.lib.og_tables_router(hasher.tables, hasher.health, flow_hash)
    argument = (use_of(flow_hash, og.lib.OG_USE_OWNER) & 0xFFFF) << 32 | flow_hash & 0xFFFFFFFF
    ecn = inner[1] >> 4 & 3
    one_hop_less = inner[:7] + bytes([inner[7] - 1]) + inner[8:]
    return bytes(
        IPv6(
            src=sid(HASHER, 0, argument), dst=sid(ROUTERS[router], 1, argument), tc=dscp << 2 | ecn, hlim=64, nh=41,
            fl=use_of(flow_hash, og.lib.OG_USE_LABEL) & 0xFFFFF,
        ) / Raw(one_hop_less)
    )  # fmt: skip


TCP_KEY = flow_key(CLIENT, VIP, 40000, 80, 6)

# ---- what is steered -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARSE_PASS)
def test_well_formed_packets_are_steered(hasher: Hasher, name: str) -> None:
    inner = bytes(PARSE_PASS[name])
    assert hasher.one(inner) == ("steered", steered(hasher, inner, TCP_KEY))


def test_udp_is_steered(hasher: Hasher) -> None:
    inner = bytes(client_udp())
    key = flow_key(CLIENT, "2001:db8:1::53", 40000, 53, 17)
    assert hasher.one(inner) == ("steered", steered(hasher, inner, key))


@given(
    st.integers(1, 2**32 - 1), st.integers(0, 65535), st.sampled_from(["S", "A", "PA", "FA", "R"]),
    st.binary(max_size=80), st.integers(0, 255), st.integers(2, 255), st.integers(0, 0xFFFFF), st.integers(0, 30),
)  # fmt: skip
def test_any_valid_packet_is_steered_to_the_byte(  # noqa: PLR0917 - a property over many fields
    og: OgLibrary, host: int, sport: int, flags: str, payload: bytes, tc: int, hlim: int, label: int, padding: int
) -> None:
    hasher = shared(og)
    src = f"2001:db8:c001:{host >> 16:x}::{host & 0xFFFF:x}"
    inner = bytes(client_tcp(flags, payload, src=src, sport=sport, tc=tc, hlim=hlim, fl=label))
    assert hasher.one(inner + bytes(padding)) == ("steered", steered(hasher, inner, flow_key(src, VIP, sport, 80, 6)))


_shared: list[Hasher] = []


def shared(og: OgLibrary) -> Hasher:
    """One hasher for all examples of a property: building tables takes milliseconds."""
    if not _shared:
        _shared.append(Hasher(og))
    return _shared[0]


@pytest.mark.parametrize("ecn", [0, 1, 2, 3])
def test_outer_class_is_the_gateways_dscp_and_the_packets_ecn(og: OgLibrary, ecn: int) -> None:
    hasher = Hasher(og, Site(dscp=26))
    inner = bytes(client_tcp(tc=0xB8 | ecn))
    assert hasher.one(inner) == ("steered", steered(hasher, inner, TCP_KEY, dscp=26))


@pytest.mark.parametrize("message", [ICMPv6DestUnreach(), ICMPv6PacketTooBig(mtu=1400), ICMPv6TimeExceeded()])
def test_icmp_errors_go_where_their_flow_goes(hasher: Hasher, message: Any) -> None:
    inner = bytes(icmp_error(message, server_tcp("A", b"data")))
    verdict, out = hasher.one(inner)
    assert (verdict, out) == ("steered_icmp", steered(hasher, inner, TCP_KEY))
    assert out[:4] + out[8:40] == hasher.one(client_tcp("A"))[1][:4] + hasher.one(client_tcp("A"))[1][8:40]


def test_flows_spread_over_routers_and_stay(hasher: Hasher) -> None:
    packets = [client_tcp(sport=port) for port in range(20000, 21000)]
    first = [buf.verdict + bytes(buf)[24:32].hex() for buf in hasher.burst(packets)]
    assert first == [buf.verdict + bytes(buf)[24:32].hex() for buf in hasher.burst(packets)]
    counts = Counter(first)
    assert set(counts) == {"steered" + locator(router).hex() for router in ROUTERS}
    assert all(abs(n - 250) < 70 for n in counts.values())


def test_a_suspect_router_gets_no_packets_and_others_flows_stay(hasher: Hasher) -> None:
    packets = [client_tcp(sport=port) for port in range(20000, 20300)]
    before = [bytes(buf)[24:32] for buf in hasher.burst(packets)]
    hasher.health.router_suspect[2] = 1
    after = [bytes(buf)[24:32] for buf in hasher.burst(packets)]
    gone = locator(ROUTERS[2])
    assert gone in before
    assert gone not in after
    assert all(b == a for b, a in zip(before, after, strict=True) if b != gone)


@pytest.mark.parametrize("n", [1, 31, 32, 33, 100])
def test_any_burst_size(hasher: Hasher, n: int) -> None:
    packets = [client_tcp(sport=1000 + i) if i % 3 else client_tcp("SA") for i in range(n)]
    for i, buf in enumerate(hasher.burst(packets)):
        if i % 3:
            key = flow_key(CLIENT, VIP, 1000 + i, 80, 6)
            assert (buf.verdict, bytes(buf)) == ("steered", steered(hasher, bytes(packets[i]), key))
        else:
            assert buf.verdict == "drop_tcp_flags"


def test_services_of_one_vip_are_told_apart_within_a_burst(hasher: Hasher) -> None:
    packets = [client_tcp(), client_tcp(dport=81), client_udp(dst=VIP, dport=80), client_udp(), client_tcp()]
    verdicts = [buf.verdict for buf in hasher.burst(packets)]
    assert verdicts == ["steered", "drop_no_service", "drop_no_service", "steered", "steered"]


# ---- what is answered ------------------------------------------------------------------------------------------------


def test_echo_is_answered_and_limited(hasher: Hasher) -> None:
    asked = IPv6(src=CLIENT, dst=VIP, hlim=1) / ICMPv6EchoRequest(id=5, seq=9, data=b"data")
    wanted = bytes(IPv6(src=VIP, dst=CLIENT, hlim=64) / ICMPv6EchoReply(id=5, seq=9, data=b"data"))
    assert hasher.one(asked) == ("echo_reply", wanted)
    verdicts = Counter(hasher.one(asked)[0] for _ in range(50))
    assert verdicts == {"echo_reply": 9, "drop_icmp_rate": 41}
    assert hasher.one(asked, NOW + SECOND)[0] == "echo_reply"


@pytest.mark.parametrize(
    ("size", "verdict"), [(CLIENT_MTU, "steered"), (CLIENT_MTU + 1, "too_big"), (65000, "too_big")]
)
def test_packet_too_big(hasher: Hasher, size: int, verdict: str) -> None:
    packet = bytes(client_tcp("A", bytes(size - 60)))
    assert len(packet) == size
    got, out = hasher.one(packet)
    assert got == verdict
    if verdict == "too_big":
        assert out == bytes(IPv6(src=VIP, dst=CLIENT) / ICMPv6PacketTooBig(mtu=CLIENT_MTU) / Raw(packet[:1232]))
        assert Counter(hasher.one(packet)[0] for _ in range(20)) == {"too_big": 9, "drop_too_big": 11}


def test_1280_bytes_always_fit(og: OgLibrary) -> None:
    hasher = Hasher(og, Site(fabric_mtu=1536))
    assert hasher.one(client_tcp("A", bytes(1220)))[0] == "steered"
    verdict, out = hasher.one(client_tcp("A", bytes(1221)))
    assert (verdict, int.from_bytes(out[44:48], "big")) == ("too_big", 1280)


@pytest.mark.parametrize("hlim", [0, 1])
def test_time_exceeded(hasher: Hasher, hlim: int) -> None:
    packet = bytes(client_tcp("S", hlim=hlim))
    assert hasher.one(packet) == (
        "time_exceeded",
        bytes(IPv6(src=VIP, dst=CLIENT) / ICMPv6TimeExceeded() / Raw(packet)),
    )
    assert Counter(hasher.one(packet)[0] for _ in range(20)) == {"time_exceeded": 9, "drop_hop_limit": 11}


def test_errors_are_never_answered_with_errors(hasher: Hasher) -> None:
    """RFC 4443 section 2.4 e."""
    error = icmp_error(ICMPv6DestUnreach(), server_tcp("A", bytes(1800)))
    assert hasher.one(error)[0] == "drop_too_big"
    error = icmp_error(ICMPv6DestUnreach(), server_tcp("A"))
    error.hlim = 1
    assert hasher.one(error)[0] == "drop_hop_limit"


def test_errors_from_clients_are_limited(hasher: Hasher) -> None:
    error = icmp_error(ICMPv6DestUnreach(), server_tcp("A"))
    assert Counter(hasher.one(error)[0] for _ in range(50)) == {"steered_icmp": 10, "drop_icmp_rate": 40}


def test_probes_are_answered_and_limited(hasher: Hasher) -> None:
    asked = bytes(router_probe())
    wanted = IPv6(src=sid(HASHER, 0), dst=sid(ROUTERS[1], 0x20, 77), tc=0xB8) / UDP(sport=20295, dport=20295)
    assert hasher.one(asked) == ("probe_answered", bytes(wanted / Raw(message(2, 77, **SAID, **LOAD))))
    verdicts = Counter(buf.verdict for buf in hasher.burst([asked] * 1200))
    assert verdicts == {"probe_answered": 999, "drop_probe_rate": 201}


def router_probe(body: bytes | None = None, src: str = ROUTERS[1]) -> Any:
    ip = IPv6(src=sid(src, 0), dst=sid(HASHER, 0x20, 77), tc=0xB8)
    return ip / UDP(sport=20295, dport=20295) / Raw(body or message(1, 77))


# ---- what is kept for the program ------------------------------------------------------------------------------------


def test_replies_to_probes_and_errors_of_the_fabric_are_kept_as_they_came(hasher: Hasher) -> None:
    reply = bytes(router_probe(message(2, 77, role=2, flags=1)))
    assert hasher.one(reply) == ("probe_reply", reply)
    error = bytes(
        IPv6(src="2001:db8:f001:11::1", dst=sid(HASHER, 0, 5)) / ICMPv6DestUnreach()
        / Raw(bytes(IPv6(src=sid(HASHER, 0, 5), dst=sid(ROUTERS[0], 1, 5)) / client_tcp()))
    )  # fmt: skip
    assert hasher.one(error) == ("fabric_error", error)


# ---- what is dropped -------------------------------------------------------------------------------------------------

DROP: dict[str, tuple[Any, str]] = {
    "port without a service": (client_tcp(dport=81), "drop_no_service"),
    "protocol without a service": (client_udp(dst=VIP, dport=80), "drop_no_service"),
    "address without a service": (client_tcp(dst="2001:db8:1::81"), "drop_no_service"),
    "echo to no service": (IPv6(src=CLIENT, dst="2001:db8:1::81") / ICMPv6EchoRequest(), "drop_no_service"),
    "error about no service": (icmp_error(ICMPv6DestUnreach(), server_tcp("A", sport=81)), "drop_icmp_embedded"),
    **{
        f"source {source}": (client_tcp(src=source), "drop_source")
        for source in (
            VIP, "2001:db8:1::53", "2001:db8:1::9999", "ff02::1", "ff0e::1:2", "::", "::1", "fe80::1", "febf::1",
            "5f00:1:21::", "5f00:9::1", "2001:db8:f001:21::2", "2001:db8:ffff::1",
        )
    },
    "error from the SR domain": (icmp_error(ICMPv6DestUnreach(), server_tcp("A"), src="5f00::1"), "drop_source"),
    "echo from a VIP": (IPv6(src="2001:db8:1::53", dst=VIP) / ICMPv6EchoRequest(), "drop_source"),
    # to own SIDs
    "Steer, a router's": (IPv6(src=sid(ROUTERS[0], 0), dst=sid(HASHER, 1)) / client_tcp(), "drop_sid_function"),
    "unknown function": (IPv6(src=sid(ROUTERS[0], 0), dst=sid(HASHER, 0x7777)) / client_tcp(), "drop_sid_function"),
    "probe from a stranger": (router_probe(src="5f00:2:21::"), "drop_outer_source"),
    "probe from an agent": (router_probe(src=AGENTS[0]), "drop_outer_source"),
    "probe from outside": (IPv6(src=CLIENT, dst=sid(HASHER, 0x20, 77)) / UDP() / message(1, 77), "drop_outer_source"),
    "malformed probe": (router_probe(message(1, 78)), "drop_probe"),
    "bad header to own SID": (
        IPv6(src=sid(ROUTERS[0], 0), dst=sid(HASHER, 0x20), nh=43) / Raw(srh([sid(HASHER, 0x20)], 9) + bytes(60)),
        "drop_srh",
    ),
    "not an error at Errors": (IPv6(src=CLIENT, dst=sid(HASHER, 0), nh=6) / Raw(bytes(60)), "drop_protocol"),
    "truncated packet to own SID": (bytes(router_probe())[:60], "drop_truncated"),
}  # fmt: skip


@pytest.mark.parametrize("name", DROP)
def test_each_drop_has_its_own_name_and_changes_nothing(hasher: Hasher, name: str) -> None:
    packet, verdict = DROP[name]
    assert hasher.one(packet) == (verdict, bytes(packet))


@pytest.mark.parametrize("name", PARSE_FAIL)
def test_what_the_parser_refuses_is_dropped_under_its_name(hasher: Hasher, name: str) -> None:
    packet, verdict = PARSE_FAIL[name]
    assert hasher.one(packet) == (verdict, bytes(packet))


def test_sources_next_to_the_forbidden_ones_pass(hasher: Hasher) -> None:
    for source in (
        "::2",
        "fec0::1",
        "fe7f::1",
        "feff::1",
        "2001:db8:2::1",
        "5eff:ffff::1",
        "5f01::1",
        "2001:db8:efff::1",
    ):
        assert hasher.one(client_tcp(src=source))[0] == "steered", source


def test_without_tables_and_without_routers(og: OgLibrary) -> None:
    assert Hasher(og, tables=False).one(client_tcp())[0] == "drop_no_table"
    nobody = Hasher(og, Site(weights=dict.fromkeys(ROUTERS, 0)))
    assert nobody.one(client_tcp()) == ("drop_no_target", bytes(client_tcp()))


def test_without_headroom(hasher: Hasher) -> None:
    assert hasher.one(client_tcp(), headroom=39) == ("drop_no_room", bytes(client_tcp()))
    assert hasher.one(client_tcp(), headroom=40)[0] == "steered"
    assert hasher.one(client_tcp(hlim=1), headroom=40) == ("drop_hop_limit", bytes(client_tcp(hlim=1)))


def test_every_truncation_of_valid_packets(hasher: Hasher) -> None:
    for packet in (
        *PARSE_PASS.values(),
        client_udp(),
        icmp_error(ICMPv6DestUnreach(), server_tcp("A")),
        router_probe(),
    ):
        data = bytes(packet)
        assert {buf.verdict for buf in hasher.burst([data[:length] for length in range(len(data))])} == {
            "drop_truncated"
        }


@given(st.lists(st.binary(max_size=120), min_size=1, max_size=40))
def test_random_bytes_get_a_verdict(og: OgLibrary, packets: list[bytes]) -> None:
    hasher = shared(og)
    to_sid = bytes(IPv6(src=sid(ROUTERS[0], 0), dst=sid(HASHER, 0x20)))[:40]
    to_vip = bytes(IPv6(src=CLIENT, dst=VIP))
    for start in (b"", to_vip[:6], to_sid[:6]):
        whole = [start + data if not start else start + data[:2] + to_vip[8:] + data for data in packets]
        for buf, data in zip(hasher.burst(whole), whole, strict=True):
            assert og.lib.og_verdict_class(buf.buf.verdict) in {og.lib.OG_CLASS_TX, og.lib.OG_CLASS_DROP}
            if og.lib.og_verdict_class(buf.buf.verdict) == og.lib.OG_CLASS_DROP:
                assert data.startswith(bytes(buf))


@given(st.sampled_from(sorted(PARSE_PASS)), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6))
def test_changed_bytes_come_out_steered_whole_or_under_a_name(
    og: OgLibrary, name: str, changes: list[tuple[int, int]]
) -> None:
    hasher = shared(og)
    data = bytearray(bytes(PARSE_PASS[name]))
    for place, value in changes:
        data[place % len(data)] = value
    verdict, out = hasher.one(bytes(data))
    if verdict == "steered":
        inner = out[40:]
        assert inner == bytes(data[:7]) + bytes([data[7] - 1]) + bytes(data[8 : len(inner)])
        assert IPv6(out).plen == len(inner)


def test_a_hasher_has_no_state_per_flow(hasher: Hasher) -> None:
    """Two hashers with different rate keys and histories send a flow to the same place."""
    other = Hasher(hasher.og)
    other.burst([client_tcp(sport=port) for port in range(100, 200)])
    assert hasher.one(client_tcp("A")) == other.one(client_tcp("A"))
    assert socket.inet_ntop(socket.AF_INET6, hasher.one(client_tcp("A"))[1][24:40]).startswith("5f00:1:2")
