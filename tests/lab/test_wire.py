# SPDX-License-Identifier: Apache-2.0
"""One connection, decoded at every link of its way: RFC 8200, 8754 and 8986, and the wire contract, on real packets."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.packet import Packet, Raw
from scapy.utils import rdpcap, wrpcap

from tests.lab.nodes import Lab, capture, load

if TYPE_CHECKING:
    from pathlib import Path

ERRORS, STEER, PIN, ACCEPT = 0x0000, 0x0001, 0x0002, 0x0010
FLAG_K, FLAG_N, FLAG_LAST = 1, 2, 8
SYN, ACK, PSH = 0x02, 0x10, 0x08


def function(sid: str) -> int:
    return int.from_bytes(IPv6Address(sid).packed[8:10], "big")


def locator(sid: str) -> str:
    return str(IPv6Address(IPv6Address(sid).packed[:8] + bytes(8)))


def argument(sid: str) -> bytes:
    return IPv6Address(sid).packed[10:]


def inner(packet: Packet) -> Packet:
    """The client's packet inside, or the packet itself."""
    return packet.getlayer(IPv6, 2) or packet[IPv6]


def cookies(srh: IPv6ExtHdrSegmentRouting) -> bytes:
    """The TLVs' bytes: what the header holds behind the segment list."""
    return bytes(srh)[8 + 16 * (srh.lastentry + 1) : 8 + 8 * srh.len]


@dataclass
class Way:
    """The packets of one connection, by link and direction (as the network router sees them)."""

    client: list[Packet]
    hasher: list[Packet]
    router: list[Packet]
    agent: list[Packet]
    locators: dict[str, str]


@pytest.fixture(scope="module")
def way(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Way:
    directory = tmp_path_factory.mktemp("wire")
    tables = lab.group("ogr_w")[0].json("cat /var/lib/og/router.tables.json")
    locators = {
        m["name"].replace("-", "_"): str(IPv6Address(m["locator"])) for m in tables["routers"] + tables["agents"]
    }
    links = {
        "client": lab.group("cli_w"),
        "hasher": lab.group("ogh_w"),
        "router": lab.group("ogr_w"),
        "agent": lab.group("agent_w"),
    }
    wire = f"host {lab.vip} or proto 43 or proto 41"
    with ExitStack() as stack:
        files = {
            node.name: stack.enter_context(
                capture(lab.node("rtr_w1"), f"to-{node.name}", wire, directory / f"{node.name}.pcap", snaplen=0)
            )
            for nodes in links.values()
            for node in nodes
        }
        running = stack.enter_context(
            load(
                lab.node("cli_w1"),
                lab.vip,
                "--rate",
                "1",
                "--total",
                "1",
                "--requests-per-connection",
                "4",
                "--stream-interval",
                "0.2",
                "--connections",
                port=int(lab.service["port"]),
            )
        )
        report = running.finish()
        assert report["failed"] == 0, report
        port = report["records"][0]["port"]
    seen: dict[str, list[Packet]] = {}
    for kind, nodes in links.items():
        packets = [p for node in nodes for p in rdpcap(str(files[node.name])) if IPv6 in p]
        mine = [p for p in packets if TCP in p and port in (p[TCP].sport, p[TCP].dport)]
        seen[kind] = sorted(mine, key=lambda p: p.time)
    return Way(**seen, locators=locators)


def test_hasher_encapsulates_to_steer(way: Way) -> None:
    """H.Encaps.Red with one segment: no SRH (RFC 8986 section 5.2); hop limit 64; the inner packet but one hop less."""
    plain = [p for p in way.hasher if p.getlayer(IPv6, 2) is None]
    wrapped = [p for p in way.hasher if p.getlayer(IPv6, 2) is not None]
    assert plain
    assert len(plain) == len(wrapped)
    by_bytes = {bytes(p[IPv6])[:7] + bytes(p[IPv6])[8:]: p for p in plain}
    for packet in wrapped:
        outer = packet[IPv6]
        assert IPv6ExtHdrSegmentRouting not in packet
        assert outer.nh == 41
        assert function(outer.src) == ERRORS
        assert function(outer.dst) == STEER
        assert argument(outer.src) == argument(outer.dst)
        assert outer.hlim == 64
        original = by_bytes.get(bytes(inner(packet))[:7] + bytes(inner(packet))[8:])
        assert original is not None, "the packet inside is not the client's"
        assert inner(packet).hlim == original[IPv6].hlim - 1
        assert outer.tc & 3 == original[IPv6].tc & 3, "ECN is copied (RFC 6040)"
        assert outer.plen == len(bytes(inner(packet)))


def test_router_offers_the_syn_to_two_agents(way: Way) -> None:
    """The SRH of a new connection: visited Steer first, two candidates, a cookie (RFC 8754 section 2)."""
    syn = next(p for p in way.router if IPv6ExtHdrSegmentRouting in p and inner(p)[TCP].flags == "S")
    steer = next(p for p in way.router if IPv6ExtHdrSegmentRouting not in p and inner(p)[TCP].flags == "S")
    srh = syn[IPv6ExtHdrSegmentRouting]
    assert (srh.type, srh.nh, srh.lastentry, srh.segleft, len(srh.addresses)) == (4, 41, 2, 1, 3)
    assert srh.len * 8 == 3 * 16 + 16
    last, active, visited = srh.addresses
    assert syn[IPv6].dst == active
    assert visited == steer[IPv6].dst
    assert (function(visited), function(active), function(last)) == (STEER, ACCEPT, ACCEPT)
    agents = {address for name, address in way.locators.items() if name.startswith("agent")}
    assert {locator(active), locator(last)} <= agents
    assert locator(active) != locator(last)
    assert int.from_bytes(argument(active)[:2], "big") & (FLAG_N | FLAG_LAST) == FLAG_N
    assert int.from_bytes(argument(last)[:2], "big") & (FLAG_N | FLAG_LAST) == FLAG_N | FLAG_LAST
    tlv = cookies(srh)
    assert (len(tlv), tlv[0], tlv[1], tlv[2]) == (16, 124, 14, 1)
    assert syn[IPv6].hlim == steer[IPv6].hlim - 1, "a re-encapsulation copies the received hop limit, less one"
    assert function(syn[IPv6].src) == ERRORS
    assert locator(syn[IPv6].src) == locator(visited)


def test_syn_ack_returns_through_the_router(way: Way) -> None:
    """The agent's answer visits Pin with the Steer's argument and the cookie it was given; the client sees neither."""
    syn = next(p for p in way.router if IPv6ExtHdrSegmentRouting in p and inner(p)[TCP].flags == "S")
    back = next(p for p in way.agent if p.getlayer(IPv6, 2) is not None and inner(p)[TCP].flags == "SA")
    srh = back[IPv6ExtHdrSegmentRouting]
    visited = syn[IPv6ExtHdrSegmentRouting].addresses[-1]
    assert (srh.segleft, srh.lastentry, srh.addresses) == (0, 0, [back[IPv6].dst])
    assert function(back[IPv6].dst) == PIN
    assert locator(back[IPv6].dst) == locator(visited)
    assert argument(back[IPv6].dst) == argument(visited)
    assert cookies(srh) == cookies(syn[IPv6ExtHdrSegmentRouting])
    arrived = next(p for p in way.client if p[TCP].flags == "SA")
    assert arrived.getlayer(IPv6, 2) is None
    assert bytes(arrived[TCP]) == bytes(inner(back)[TCP])
    mss = dict(arrived[TCP].options)["MSS"]
    assert 1220 <= mss <= 2000 - 316
    copy = arrived[IPv6].copy()
    del copy[TCP].chksum
    assert IPv6(bytes(copy))[TCP].chksum == arrived[TCP].chksum, "the checksum is right after the MSS was clamped"


def test_pinned_packets_carry_one_segment(way: Way) -> None:
    """After the handshake: 40 bytes of overhead, Accept with K, and always the same agent."""
    data = [
        p
        for p in way.agent
        if p.getlayer(IPv6, 2) is not None and inner(p)[TCP].dport == 80 and inner(p)[TCP].flags != "S"
    ]
    assert len(data) >= 4
    for packet in data:
        assert IPv6ExtHdrSegmentRouting not in packet
        assert packet[IPv6].nh == 41
        assert function(packet[IPv6].dst) == ACCEPT
        assert int.from_bytes(argument(packet[IPv6].dst)[:2], "big") & FLAG_K
    assert len({packet[IPv6].dst for packet in data}) == 1


def test_replies_leave_directly(way: Way) -> None:
    """Direct server return: the server's data never comes near a router, and its source is the VIP."""
    replies = [p for p in way.agent if inner(p)[TCP].sport == 80 and Raw in p and p.getlayer(IPv6, 2) is None]
    assert len(replies) >= 4
    assert all(inner(p)[TCP].flags == "SA" for p in way.router if inner(p)[TCP].sport == 80)


def test_one_label_for_one_flow(way: Way) -> None:
    """The outer flow label is the gateway's own and the same for the whole flow (RFC 6437 section 3)."""
    labels = {p[IPv6].fl for p in way.hasher if p.getlayer(IPv6, 2) is not None}
    assert len(labels) == 1
    assert labels != {0}


def test_tshark_agrees(way: Way, tmp_path: Path) -> None:
    """An independent decoder finds the same header and nothing malformed."""
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    packets = [p for p in way.router if IPv6ExtHdrSegmentRouting in p]
    wrpcap(str(tmp_path / "srh.pcap"), packets)
    fields = "ipv6.routing.type,ipv6.routing.segleft,ipv6.routing.srh.last_segment,_ws.malformed"
    done = subprocess.run(
        [
            "tshark",
            "-r",
            str(tmp_path / "srh.pcap"),
            "-T",
            "fields",
            *[x for f in fields.split(",") for x in ("-e", f)],
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    expected = [
        [
            str(p[IPv6ExtHdrSegmentRouting].type),
            str(p[IPv6ExtHdrSegmentRouting].segleft),
            str(p[IPv6ExtHdrSegmentRouting].lastentry),
            "",
        ]
        for p in packets
    ]
    assert rows == expected
