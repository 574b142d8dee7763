# SPDX-License-Identifier: Apache-2.0
"""og_agent_mode: kernel on a container of its own. A namespace beside it plays the gateway node and the client.

The gateway's envelopes are made by that namespace's own kernel (seg6 encapsulation) and, to the byte, with scapy.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from tests.agent_role.test_agent_role import HERE, LAUNCHER, install_release
from tests.bpf.wire import LAST, PORT, VIP, F, K, N, Path6, accept, cookie, sid, srh, steer
from tests.services.nodes import BARE, IMAGE, ROOT, Node, run, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a namespace of the machine needs root")

NAME = "ogkern-agent-w1"
HOST, GATEWAY, CLIENT = "2001:db8:f001:31::2", "2001:db8:f001:31::1", "2001:db8:c001:41::2"
LOCATOR, ROUTER = "5f00:1:31::", "5f00:1:21::"
ERRORS, PROBE, MISS = 0, 0x20, 3
BIG = 3_000_000  # bytes


def play(*arguments: str, mode: str = "kernel", fails: bool = False) -> str:
    """Run the playbook; return its output."""
    ansible = str(Path(sys.executable).with_name("ansible-playbook"))
    variables = ["-e", f"ansible_host={NAME}", "-e", f"og_agent_mode={mode}", "--limit", "agents"]
    result = subprocess.run(
        [ansible, "-i", str(HERE / "inventory"), str(HERE / "site.yml"), *variables, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        timeout=900,
        check=False,
    )
    assert bool(result.returncode) is fails, result.stdout + result.stderr
    return result.stdout


class Peer:
    """The namespace at the other end of the host's data port: network router, gateway node and client in one."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.name = f"og-kern-{secrets.token_hex(3)}"
        run("ip", "netns", "add", self.name)
        ends = ["fab0", "netns", node.pid(), "mtu", "2000", "type", "veth", "peer", "name", "r0", "netns", self.name]
        run("ip", "link", "add", "name", *ends, "mtu", "2000")
        for command in (
            "ip link set lo up; ip link set r0 up; ethtool -K r0 tx off tso off gso off gro off",
            f"ip addr add {GATEWAY}/64 dev r0 nodad; ip addr add {CLIENT}/128 dev lo",
            f"ip -6 route add local {ROUTER}/64 dev lo; ip -6 route add {LOCATOR}/64 via {HOST} dev r0",
            f"ip sr tunsrc set {sid(ROUTER, ERRORS)}",
        ):
            self.sh(command)
        off = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"]
        run("nsenter", f"--net=/proc/{node.pid()}/ns/net", "ethtool", "-K", "fab0", *off)  # a bare host has no ethtool
        node.sh("ip link set fab0 up")
        node.sh(f"ip addr add {HOST}/64 dev fab0 nodad; ip -6 route add default via {GATEWAY} src {HOST}")

    def sh(self, script: str, check: bool = True) -> str:
        return run("ip", "netns", "exec", self.name, "sh", "-c", script, check=check).stdout

    def steer(self, *segments: str, mode: str = "encap", to: str = VIP) -> None:
        """From now on the client's packets travel in an envelope of these segments."""
        self.sh(
            f"ip -6 route replace {to}/128 encap seg6 mode {mode} segs {','.join(segments)} "
            f"via {HOST} dev r0 src {CLIENT}"
        )

    def get(self, size: int) -> str:
        """One request by the client's kernel; status and size of the answer."""
        what = f"http://[{VIP}]:{PORT}/{size}"
        return self.sh(
            f"curl -s -g -o /dev/null --max-time 20 -w '%{{http_code}} %{{size_download}}' {what}", check=False
        )

    def exchange(self, packet: bytes, answer: Callable[[Any], bool], seconds: float = 20) -> Any:
        """Send a packet to the host, return the first frame back that fits; None if none comes."""
        macs = (self.node.sh("cat /sys/class/net/fab0/address"), self.sh("cat /sys/class/net/r0/address"))
        frame = bytes(Ether(dst=macs[0].strip(), src=macs[1].strip(), type=0x86DD)) + packet
        script = (
            "import socket,sys,time\n"
            "s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW,socket.htons(3));s.bind(('r0',3));s.settimeout(0.2)\n"
            f"s.send(bytes.fromhex('{frame.hex()}'));end=time.monotonic()+{seconds}\n"
            "while time.monotonic()<end:\n"
            " try:\n  d,a=s.recvfrom(65536)\n except TimeoutError: continue\n"
            " if a[2]!=4 and d[12:14]==b'\\x86\\xdd': print(d.hex(),flush=True)\n"
        )
        command = ["ip", "netns", "exec", self.name, sys.executable, "-c", script]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                found = Ether(bytes.fromhex(line))[IPv6]
                if answer(found):
                    process.kill()
                    return found
        return None

    def close(self) -> None:
        run("ip", "netns", "delete", self.name, check=False)


def fresh(image: str) -> Node:
    node = Node(NAME, HOST)
    node.stop()
    node.start(image)
    return node


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    if shutil.which("docker") is None or run("docker", "image", "inspect", BARE, IMAGE, check=False).returncode:
        pytest.skip(f"no images {BARE} and {IMAGE}: `make images` builds them")
    node, peers = fresh(BARE), []
    try:
        peers.append(Peer(node))
        assert "failed=0" in play("--check")
        peers.pop().close()
        node = fresh(IMAGE)
        peers.append(Peer(node))
        install_release(node)
        for name, module in (("og-agent-kernel", "og.agent.kernel"), ("og-srv6", "og.srv6")):
            text = LAUNCHER.replace("og.agent ", f"{module} ")
            node.sh(f"cat >/opt/og/current/bin/{name} <<'EOF'\n{text}EOF\nchmod 755 /opt/og/current/bin/{name}")
        play()
        node.sh(
            f"mkdir -p /srv/t && cd /srv/t && head -c {BIG} /dev/zero >{BIG} && echo hello >6 && "
            f"systemd-run --quiet --unit web python3 -m http.server {PORT} --bind {VIP} --directory /srv/t"
        )
        wait_for("the service", lambda: f":{PORT}" in node.sh("ss -Hltn"))
        yield peers[0]
    finally:
        for made in peers:
            made.close()
        node.stop()


def status(peer: Peer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(peer.node.sh("/opt/og/current/bin/og-agent-kernel --status", check=False))
    return found


def envelope(inner: bytes, path: Path6, source: str = sid(ROUTER, ERRORS)) -> bytes:
    """An envelope as a router makes it; no segment routing header for a single segment (H.Encaps.Red)."""
    header = srh(path) if len(path.segments) > 1 else b""
    next_header = 43 if header else 41
    fixed = struct.pack("!IHBB", 6 << 28, len(header) + len(inner), next_header, 62)
    addresses = [socket.inet_pton(socket.AF_INET6, item) for item in (source, path.segments[path.visited])]
    return fixed + b"".join(addresses) + header + inner


def segment(flags: str, sport: int, dst: str = VIP, **fields: int) -> bytes:
    options = [("MSS", 1940)] if flags == "S" else []
    header: dict[str, Any] = {"sport": sport, "dport": PORT, "seq": 1000} | fields
    return bytes(IPv6(src=CLIENT, dst=dst, hlim=63) / TCP(flags=flags, options=options, **header))


def is_reply(sport: int) -> Callable[[Any], bool]:
    return lambda packet: packet.dst == CLIENT and TCP in packet and packet[TCP].dport == sport


def test_host_is_served_by_the_kernels_own_routes(peer: Peer) -> None:
    state = status(peer)
    assert (state["attached"], state["mode"], state["load_aware"]) == (True, "kernel", False)
    assert (state["daemon"]["running"], state["problems"]) == (True, [])
    routes = peer.node.sh("ip -N -6 route show table all proto 83").splitlines()
    words = [" ".join(line.split()) for line in routes]
    assert words[0] == f"2 {VIP} dev lo table 79 metric 1024 pref medium"
    assert words[1].startswith("5f00:1:31:0:10::/80 encap seg6local action End.DT6 table 79 ")
    assert words[2] == "2 5f00:1:31:0:20::/80 dev lo metric 1024 pref medium"
    assert "blackhole 5f00:1:31::/64" in peer.node.sh("ip -6 route show")
    assert "bpf" not in peer.node.sh("tc filter show dev fab0 egress; ip -d link show fab0")
    assert peer.node.sh("systemctl is-enabled og-agent").strip() == "enabled"


@pytest.mark.usefixtures("peer")
def test_second_run_changes_nothing() -> None:
    assert "changed=0" in play("--diff")
    assert "changed=0" in play("--check", "--diff")


PATHS = {
    "pinned: one segment, no header": ("encap.red", [accept(K)]),
    "final": ("encap.red", [accept(F)]),
    "last candidate": ("encap", [accept(N | LAST)]),
    "first candidate of two": ("encap", [accept(N), accept(N | LAST, "5f00:1:32::")]),
    "hunted": ("encap", [accept(K), accept(K, "5f00:1:32::"), sid(ROUTER, MISS)]),
}


@pytest.mark.parametrize("path", PATHS)
def test_connection_through_an_encapsulated_path(peer: Peer, path: str) -> None:
    """Every packet of the connection comes in this envelope; the answers go straight to the client."""
    mode, segments = PATHS[path]
    peer.steer(*segments, mode=mode)
    before = status(peer)["counters"]
    assert peer.get(6) == "200 6"
    assert peer.get(BIG) == f"200 {BIG}"
    after = status(peer)["counters"]
    assert after["accept_packets"] > before["accept_packets"]
    assert after["accept_errors"] == before["accept_errors"]


def test_syn_as_a_router_offers_it_is_answered_directly(peer: Peer) -> None:
    """[own Steer visited, A1 N, A2 N+LAST] with the router's cookie; its MSS leaves room: 1684 = 2000 - 316."""
    path = Path6((steer(), accept(N), accept(N | LAST, "5f00:1:32::")), 1, (cookie(),))
    reply = peer.exchange(envelope(segment("S", 40001), path), is_reply(40001))
    assert reply is not None
    assert (reply.src, reply[TCP].flags, reply[TCP].ack) == (VIP, "SA", 1001)
    assert dict(reply[TCP].options)["MSS"] == 1684


@pytest.mark.parametrize("flags", [K, F])
def test_unknown_flow_is_reset_here_and_not_hunted_elsewhere(peer: Peer, flags: int) -> None:
    """What this mode cannot do: pass the packet on. A server of mode ebpf would send K to the next segment."""
    path = Path6((steer(), accept(flags), sid(ROUTER, MISS)), 1, (cookie(),))
    packet = envelope(segment("A", 40002, ack=7), path)
    reply = peer.exchange(packet, lambda found: is_reply(40002)(found) or found.dst == sid(ROUTER, MISS))
    assert reply is not None
    assert (reply.src, reply[TCP].flags) == (VIP, "R")


def test_only_gateway_nodes_reach_sids_and_only_services_are_reached(peer: Peer) -> None:
    single = Path6((accept(F),))
    assert peer.exchange(envelope(segment("S", 40003), single, "2001:db8:bad::1"), is_reply(40003), 3) is None
    dropped = peer.node.sh("nft list chain ip6 og_agent_kernel sids")
    assert "saddr != @gateways counter packets 1 " in dropped
    # The host's own address listens as well, and is no service.
    peer.node.sh(f"systemd-run --quiet --unit own python3 -m http.server {PORT} --bind {HOST}")
    wait_for("the other listener", lambda: f"[{HOST}]:{PORT}" in peer.node.sh("ss -Hltn"))
    try:
        packet = envelope(segment("S", 40004, dst=HOST), single)
        assert (
            peer.exchange(
                packet, lambda found: TCP in found and found[TCP].dport == 40004 and found[TCP].flags == "SA", 3
            )
            is None
        )
    finally:
        peer.node.sh("systemctl stop own")
    assert peer.exchange(envelope(segment("S", 40005), single), is_reply(40005)) is not None


def probe(nonce: int, in_sid: int, locator: str = ROUTER) -> bytes:
    """Request of a router (native/lib/og_wire.h, struct og_probe)."""
    data = struct.pack("!BBBBI8s8sQQIIQ", 1, 1, 2, 0, 0, nonce.to_bytes(8), bytes(8), 0xABCDEF, 0, 0, 0, 0)
    packet = IPv6(src=sid(locator, ERRORS), dst=sid(LOCATOR, PROBE, in_sid), hlim=64)
    return bytes(packet / UDP(sport=20295, dport=20295) / Raw(data))


def is_probe_reply(packet: Any) -> bool:
    return UDP in packet and packet[UDP].sport == 20295


def test_routers_probes_are_answered(peer: Peer) -> None:
    nonce = 0x1234_5678_9ABC
    reply = peer.exchange(probe(nonce, nonce), is_probe_reply)
    assert reply is not None
    assert (reply.src, reply.dst, reply[UDP].dport) == (sid(LOCATOR, ERRORS), sid(ROUTER, PROBE, nonce), 20295)
    fields = struct.unpack("!BBBBI8s8sQQIIQ", bytes(reply[UDP].payload)[:56])
    assert fields[:6] == (1, 2, 3, 1, 0, nonce.to_bytes(8))
    assert (fields[7], fields[8]) == (0xABCDEF, 1)  # the prober's clock; service 0 has a listener
    again = peer.exchange(probe(nonce + 1, nonce + 1), is_probe_reply)
    assert struct.unpack_from("!8s", bytes(again[UDP].payload), 16) == (fields[6],)  # the same incarnation
    assert peer.exchange(probe(nonce, nonce + 1), is_probe_reply, 2) is None
    assert status(peer)["counters"]["drop_probe"] >= 1
    peer.node.sh("systemctl stop web")

    def listeners() -> list[int]:
        reply = peer.exchange(probe(7, 7), is_probe_reply)
        return [] if reply is None else [*struct.unpack_from("!Q", bytes(reply[UDP].payload), 32)]

    try:
        wait_for("a reply that tells of no listener", lambda: listeners() == [0])
    finally:
        peer.node.sh(f"systemd-run --quiet --unit web python3 -m http.server {PORT} --bind {VIP} --directory /srv/t")
        wait_for("the service", lambda: f"[{VIP}]:{PORT}" in peer.node.sh("ss -Hltn"))


def test_status_file_is_what_ogctl_and_og_stats_read(peer: Peer) -> None:
    found = peer.node.json("cat /run/og/agent.status.json")
    assert (found["attached"], found["mode"]) == (True, "kernel")
    assert found["services"]["web"].keys() >= {"listener", "backlog", "connections", "accepts_per_s", "bytes_per_s"}
    assert found["counters"]["accept_packets"] > 0


def test_what_was_taken_away_comes_back(peer: Peer) -> None:
    peer.node.sh("ip -6 route del 5f00:1:31:0:10::/80; ip -6 route add 5f00:9::/64 dev fab0 proto 83")
    assert status(peer)["attached"] is False
    shown = play("--check", "--diff")
    assert "changed=1" in shown
    assert "5f00:1:31:0:10::/80" in shown
    assert "changed=1" in play()
    assert status(peer)["attached"] is True
    assert "5f00:9::" not in peer.node.sh("ip -6 route show")
    peer.steer(accept(F), mode="encap.red")
    assert peer.get(6) == "200 6"


def test_it_serves_without_its_daemon_and_after_a_start_from_nothing(peer: Peer) -> None:
    """Boot: the unit alone brings filter, routes and addresses."""
    peer.steer(accept(K), mode="encap.red")
    peer.node.sh("systemctl stop og-agent")
    assert peer.get(6) == "200 6"
    peer.node.sh("ip -6 route flush table all proto 83; nft delete table ip6 og_agent_kernel; systemctl start og-agent")
    assert peer.get(6) == "200 6"
    assert "og_agent_kernel" in peer.node.sh("nft list tables")


def test_a_kernel_that_lacks_it_is_refused(peer: Peer) -> None:
    """The trial's answer is put in its place: this kernel lacks nothing."""
    before = peer.node.sh("cat /etc/og/agent.json; ip -6 route show table all")
    lacks = {"__og_agent_kernel_trial": "echo SRv6 behaviours", "og_agent_fabric_mtu": 1800}
    output = play("-e", json.dumps(lacks), fails=True)
    words = " ".join(output.split())
    assert (
        "og_agent_mode kernel cannot work on agent_w1, its kernel lacks SRv6 behaviours. Nothing was changed." in words
    )
    assert peer.node.sh("cat /etc/og/agent.json; ip -6 route show table all") == before
