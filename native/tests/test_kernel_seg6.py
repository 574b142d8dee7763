# SPDX-License-Identifier: Apache-2.0
"""The second oracle: the kernel's own SRv6 (seg6, seg6local) in network namespaces.

Two namespaces, joined by a veth pair. `near` encapsulates by routes (`encap seg6`) what is sent into it; what comes out
is compared with the library's encapsulation of the same packet. `far` has seg6local SIDs (End, End.DX6); the library's
packets are sent to it, and what the kernel unwraps must be the packet that went in.

Two differences are the kernel's choice and are not compared: the outer hop limit (the kernel's is the inner one's; the
hasher sets 64) and the outer flow label (the kernel's is its own hash or a copy); the inner hop limit is one lower here
(RFC 8986 section 5.1), while the kernel's forwarding has lowered it already. All else must be equal.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import time
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

import pytest

from native.tests.lab_site import AGENTS, CLIENT, HASHER, ROUTERS, VIP, sid
from native.tests.oglib import Buf, OgLibrary
from native.tests.packets import IPv6, client_tcp
from native.tests.test_encap import COOKIES, fields, make_path, make_sid, parse_outer

if TYPE_CHECKING:
    from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
NEAR, FAR = "og-seg6-near", "og-seg6-far"
NEAR_MAC, FAR_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
ETH_P_IPV6 = 0x86DD
SOURCE = sid(HASHER, 0)
STEER, A1, A2 = sid(ROUTERS[0], 1), sid(AGENTS[0], 0x10, 1), sid(AGENTS[1], 0x10, 9)
END, DX6 = sid("5f00:1:99::", 0xE0), sid("5f00:1:99::", 0xD6)

LISTS = {  # destination -> segments: where the kernel is told to send it
    "2001:db8:1::a1": [STEER],
    "2001:db8:1::a2": [STEER, A1],
    "2001:db8:1::a3": [STEER, A1, A2],
}


def tool(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def ip(namespace: str, command: str) -> None:
    tool("ip", "-n", namespace, *command.split())


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread in a namespace, for opening sockets."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as home, open(f"/run/netns/{namespace}") as there:  # noqa: PTH123 - descriptors
        if libc.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
        try:
            yield
        finally:
            libc.setns(home.fileno(), CLONE_NEWNET)


def packet_socket(namespace: str, interface: str) -> socket.socket:
    with inside(namespace):
        result = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IPV6))
        result.bind((interface, ETH_P_IPV6))
    result.settimeout(5)
    return result


def setup() -> None:
    for namespace in (NEAR, FAR):
        tool("ip", "netns", "add", namespace)
    # client -- (c0) near (n0) -- (f0) far (s0) -- server; c1 and s1 are the ends that the test holds
    ip(NEAR, "link add c0 type veth peer name c1")
    ip(NEAR, f"link add n0 type veth peer name f0 netns {FAR}")
    ip(FAR, "link add s0 type veth peer name s1")
    for namespace, interfaces in ((NEAR, ("lo", "c0", "c1", "n0")), (FAR, ("lo", "f0", "s0", "s1"))):
        settings = ["all/disable_ipv6=0", "all/forwarding=1", "all/seg6_enabled=1"]
        for interface in interfaces:
            settings += [f"{interface}/{name}" for name in ("disable_ipv6=0", "accept_dad=0", "seg6_enabled=1")]
        set_ipv6(namespace, settings)
        for interface in interfaces:
            ip(namespace, f"link set {interface} up mtu {65536 if interface == 'lo' else 2000}")
    ip(NEAR, f"link set c0 address {NEAR_MAC}")
    ip(FAR, f"link set f0 address {FAR_MAC}")
    ip(NEAR, "addr add 2001:db8:f001:1::1/64 dev n0 nodad")
    ip(FAR, "addr add 2001:db8:f001:1::2/64 dev f0 nodad")
    ip(FAR, "addr add 2001:db8:f001:2::1/64 dev s0 nodad")
    ip(NEAR, f"neigh add 2001:db8:f001:1::2 lladdr {FAR_MAC} dev n0")
    ip(FAR, "neigh add 2001:db8:f001:2::2 lladdr 02:00:00:00:00:03 dev s0")
    ip(NEAR, "-6 route add 5f00::/16 via 2001:db8:f001:1::2 dev n0")
    tool("ip", "-n", NEAR, "sr", "tunsrc", "set", SOURCE)
    for destination, segments in LISTS.items():
        ip(NEAR, f"-6 route add {destination} encap seg6 mode encap segs {','.join(segments)} dev n0")
    ip(NEAR, f"-6 route add 2001:db8:1::b1 encap seg6 mode encap.red segs {STEER} dev n0")
    ip(FAR, f"-6 route add {END} encap seg6local action End dev s0")
    ip(FAR, f"-6 route add {DX6} encap seg6local action End.DX6 nh6 2001:db8:f001:2::2 dev s0")


def set_ipv6(namespace: str, settings: list[str]) -> None:
    """Settings of the namespace alone.

    `ip netns exec` has mounts of its own: /proc/sys, read-only in containers, is made writable there and nowhere else.
    """
    writes = [f"echo {value} > {name}" for name, _, value in (setting.partition("=") for setting in settings)]
    script = "mount -o remount,rw /proc/sys 2>/dev/null; cd /proc/sys/net/ipv6/conf && " + " && ".join(writes)
    tool("ip", "netns", "exec", namespace, "sh", "-c", script)


@pytest.fixture(scope="module")
def kernel() -> Iterator[None]:
    """The namespaces; skipped, saying why, where they cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    try:
        setup()
        yield
    except (OSError, RuntimeError) as error:
        pytest.skip(f"this kernel or container cannot do it: {error}")
    finally:
        for namespace in (NEAR, FAR):
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)


def through(sender: tuple[str, str, str], receiver: tuple[str, str], packet: bytes, wanted: Any) -> bytes:
    """Send a packet at one place, return what `wanted` recognises at the other; AssertionError after five seconds."""
    namespace, interface, mac = sender
    with packet_socket(*receiver) as listening, packet_socket(namespace, interface) as sending:
        sending.sendto(packet, (interface, ETH_P_IPV6, 0, 0, bytes.fromhex(mac.replace(":", ""))))
        end = time.monotonic() + 5
        while time.monotonic() < end:
            try:
                data = listening.recv(4096)
            except TimeoutError:
                break
            if wanted(data):
                return data
    raise AssertionError("the kernel let nothing through")


def kernel_encapsulates(packet: bytes) -> bytes:
    return through((NEAR, "c1", NEAR_MAC), (FAR, "f0"), packet, lambda data: data[8:24] == IPv6Address(SOURCE).packed)


def kernel_delivers(packet: bytes, wanted: Any) -> bytes:
    return through((NEAR, "n0", FAR_MAC), (FAR, "s1"), packet, wanted)


def without_choices(packet: bytes) -> bytes:
    """The documented differences blanked: outer flow label and hop limit."""
    return packet[:1] + bytes([packet[1] & 0xF0, 0, 0]) + packet[4:7] + b"\0" + packet[8:]


def ours(og: OgLibrary, inner: bytes, segments: list[str], traffic_class: int) -> bytes:
    buf = Buf(og, inner)
    path = make_path(og, segments)
    assert og.lib.og_encap_push(buf.buf, path, make_sid(og, SOURCE), 0, fields(og, traffic_class)) != og.ffi.NULL
    return bytes(buf)


@pytest.mark.netns
@pytest.mark.parametrize("traffic_class", [0, 0xB8, 0xB9, 0x03])
@pytest.mark.parametrize("destination", LISTS)
def test_encapsulation_equals_the_kernels(og: OgLibrary, kernel: None, destination: str, traffic_class: int) -> None:  # noqa: ARG001
    packet = client_tcp("PA", b"data" * 10, dst=destination, tc=traffic_class)
    theirs = kernel_encapsulates(bytes(packet))
    inner = theirs[-len(bytes(packet)) :]
    assert inner[:7] + inner[8:] == bytes(packet)[:7] + bytes(packet)[8:]  # all but the hop limit
    if len(LISTS[destination]) == 1:  # the kernel writes a header of one segment, the library none (H.Encaps.Red)
        assert theirs[40] == 41
        outer: Any = IPv6(theirs)
        bare = bytes(IPv6(src=outer.src, dst=outer.dst, tc=outer.tc, hlim=outer.hlim, nh=41) / inner)
        assert without_choices(ours(og, inner, [STEER], traffic_class)) == without_choices(bare)
    else:
        assert without_choices(ours(og, inner, LISTS[destination], traffic_class)) == without_choices(theirs)


@pytest.mark.netns
def test_reduced_encapsulation_equals_the_kernels(og: OgLibrary, kernel: None) -> None:  # noqa: ARG001
    packet = client_tcp("PA", b"data" * 10, dst="2001:db8:1::b1", tc=0xB8)
    theirs = kernel_encapsulates(bytes(packet))
    assert len(theirs) == 40 + len(bytes(packet))
    assert without_choices(ours(og, theirs[40:], [STEER], 0xB8)) == without_choices(theirs)


@pytest.mark.netns
@pytest.mark.parametrize("cookies", [0, 1, 2])
@pytest.mark.parametrize("visited", [0, 1])
def test_the_kernel_unwraps_our_packets(og: OgLibrary, kernel: None, cookies: int, visited: int) -> None:  # noqa: ARG001
    """End.DX6 takes off whatever we put on: no header at all, or one with visited segments and cookies."""
    inner = bytes(client_tcp("PA", b"data"))
    buf = Buf(og, inner)
    path = make_path(og, [STEER] * visited + [DX6], visited, COOKIES[:cookies])
    assert og.lib.og_encap_push(buf.buf, path, make_sid(og, SOURCE), 0x1234, fields(og, 0, 64, 0x54321)) != og.ffi.NULL
    got = kernel_delivers(bytes(buf), lambda data: data[8:40] == IPv6Address(CLIENT).packed + IPv6Address(VIP).packed)
    assert got[:7] + got[8:] == inner[:7] + inner[8:]


@pytest.mark.netns
def test_the_kernels_end_passes_our_packet_to_the_next_segment(og: OgLibrary, kernel: None) -> None:  # noqa: ARG001
    """[END, DX6] with a cookie: the kernel goes on to the next segment, and then unwraps."""
    inner = bytes(client_tcp("PA", b"data"))
    buf = Buf(og, inner)
    path = make_path(og, [END, DX6], 0, COOKIES[:1])
    og.lib.og_encap_push(buf.buf, path, make_sid(og, SOURCE), 0, fields(og))
    outer = parse_outer(og, buf)
    assert (outer.segments_left, outer.n_segments, outer.n_cookies) == (1, 2, 1)
    got = kernel_delivers(bytes(buf), lambda data: data[8:40] == IPv6Address(CLIENT).packed + IPv6Address(VIP).packed)
    assert got[:7] + got[8:] == inner[:7] + inner[8:]


@pytest.mark.netns
@pytest.mark.parametrize("destination", LISTS)
def test_we_unwrap_the_kernels_packets(og: OgLibrary, kernel: None, destination: str) -> None:  # noqa: ARG001
    packet = bytes(client_tcp("PA", b"data", dst=destination))
    theirs = kernel_encapsulates(packet)
    buf = Buf(og, theirs)
    outer = parse_outer(og, buf)
    assert outer.n_segments == len(LISTS[destination])
    assert outer.segments_left == outer.n_segments - 1
    assert og.verdict(og.lib.og_decap(buf.buf, outer, True)) == "none"
    assert bytes(buf)[:7] + bytes(buf)[8:] == packet[:7] + packet[8:]
