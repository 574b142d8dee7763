# SPDX-License-Identifier: Apache-2.0
"""Run the real programs on a veth pair and be everything around them: client, network router and servers.

The program under test lives in one network namespace; the other end of its veth is in a second one, where raw frames
are sent and captured. Packets are built and read with scapy and struct, never with code of the data plane: this is the
oracle.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import ipaddress
import itertools
import json
import os
import queue
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.layers.l2 import Ether

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUILD = Path(os.environ.get("OG_NATIVE_BUILD", "build/native")).resolve()
HASHER = BUILD / "hasher" / "og-hasher"
ROUTER = BUILD / "router" / "og-router"
PORT = BUILD / "port" / "og-port"
PORT_OBJECT = BUILD / "port" / "og_port.bpf.o"

VIP = "2001:db8:1::80"
CLIENT = "2001:db8:c001:41::2"
ROUTER_ADDRESS = "2001:db8:f001:11::1"
OWN_ADDRESS = "2001:db8:f001:11::2"
CLONE_NEWNET = 0x40000000
PROBE_PORT, PROBE_SIZE, PROBE_REQUEST, PROBE_REPLY = 20295, 56, 1, 2
SO_TIMESTAMPNS = 35
PRIORITY = -15
LATE_S = 0.05  # a reply this late, and those after it, may have been missed
FN_ERRORS, FN_STEER, FN_PIN, FN_MISS, FN_ACCEPT, FN_PROBE = 0x0000, 0x0001, 0x0002, 0x0003, 0x0010, 0x0020
ACCEPT_K, ACCEPT_N, ACCEPT_F, ACCEPT_LAST = 0x1, 0x2, 0x4, 0x8
ROLE_ROUTER, ROLE_AGENT = 2, 3
PROBE_SERVING, PROBE_DRAINING = 0x01, 0x02
_numbers = itertools.count()
DEADLINE = 20.0  # seconds: for things that take milliseconds on an idle machine


def wait_for(condition: Callable[[], Any], what: str, seconds: float = DEADLINE) -> Any:
    """Poll until `condition` is true and return its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


def sid(locator: str, function: int, argument: int = 0) -> str:
    """A SID as text: locator (64 bits), function (16), argument (48)."""
    return str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(locator)) | function << 48 | argument))


@dataclass(frozen=True)
class Sid:
    """A SID as read from the wire."""

    locator: str
    function: int
    argument: int

    @classmethod
    def read(cls, address: str) -> Sid:
        number = int(ipaddress.IPv6Address(address))
        return cls(str(ipaddress.IPv6Address(number >> 64 << 64)), number >> 48 & 0xFFFF, number & (1 << 48) - 1)

    @property
    def flags(self) -> int:
        """Of an Accept SID."""
        return self.argument >> 32


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Sockets made here belong to the namespace, whoever uses them later. Affects the calling thread alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as own, Path(f"/run/netns/{namespace}").open() as other:
        if libc.setns(other.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
        try:
            yield
        finally:
            if libc.setns(own.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns back")


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], check=check, text=True, capture_output=True)


def in_namespace(namespace: str, *command: str | Path) -> list[str]:
    """`ip netns exec` would hide the BPF file system; nsenter changes the network alone. "" is our own."""
    return [*map(str, command)] if not namespace else ["nsenter", f"--net=/run/netns/{namespace}", *map(str, command)]


@dataclass
class Member:
    """A router or an agent that answers probes."""

    role: int
    flags: int = PROBE_SERVING
    listeners: int = 1
    generation: int = 1
    incarnation: int = 0x1122334455667788
    connections: int = 0
    accepts_per_s: int = 0
    bytes_per_s: int = 0
    silent: bool = False
    probes: int = 0


def udp_checksum(source: bytes, target: bytes, datagram: bytes) -> int:
    """Of a datagram of an even length whose checksum is still 0 (RFC 8200 section 8.1)."""
    covered = source + target + struct.pack(">II", len(datagram), socket.IPPROTO_UDP) + datagram
    total = sum(struct.unpack(f">{len(covered) // 2}H", covered))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF or 0xFFFF


class Wire:
    """The far end of the port: raw frames out and in, probes answered for the members given.

    Who does not answer for 300 ms is suspect. Therefore a thread does nothing but answer, on bytes, and this process is
    ahead of others in the queue for a processor while the wire is there. `in_time` knows how late the answers were.
    """

    def __init__(self, namespace: str, interface: str, far_mac: str) -> None:
        self.members: dict[str, Member] = {}
        self.frames: queue.Queue[Ether] = queue.Queue()
        self.far_mac = far_mac
        self.answers, self.slowest_s = 0, 0.0
        self._stop = threading.Event()
        self._socket, self._probes = (self._open(namespace, interface) for _ in range(2))
        self._probes.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        mine = self._socket.getsockname()[4]
        self.mac = ":".join(f"{byte:02x}" for byte in mine)
        self._link_header = bytes.fromhex(far_mac.replace(":", "")) + mine + b"\x86\xdd"
        self._priority = os.getpriority(os.PRIO_PROCESS, 0)
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)  # of this thread and those that it starts
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._answer)]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _open(namespace: str, interface: str) -> socket.socket:
        with inside(namespace):
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        opened.bind((interface, 0))
        opened.settimeout(0.1)
        return opened

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._socket.close()
        self._probes.close()
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, self._priority)

    def send(self, packet: Any) -> None:
        self._socket.send(bytes(Ether(src=self.mac, dst=self.far_mac) / packet))

    def _read(self) -> None:
        while not self._stop.is_set():
            try:
                data, address = self._socket.recvfrom(65536)
            except TimeoutError:
                continue
            # Only what the program sent: not our own frames, nor neighbour discovery; and no probe that is answered.
            if address[2] == socket.PACKET_OUTGOING or data[12:14] != b"\x86\xdd" or self._asked(data):
                continue
            self.frames.put(Ether(data))

    def _asked(self, frame: bytes) -> Member | None:
        """The member that is probed with this frame: Ethernet, IPv6, UDP, and 56 bytes by the words of the contract."""
        udp = frame[54:]
        if frame[12:14] != b"\x86\xdd" or frame[20] != socket.IPPROTO_UDP or len(udp) != 8 + PROBE_SIZE:
            return None
        if int.from_bytes(udp[2:4], "big") != PROBE_PORT or udp[8 + 1] != PROBE_REQUEST:
            return None
        return self.members.get(str(ipaddress.IPv6Address(frame[38:46] + bytes(8))))

    def _answer(self) -> None:
        while not self._stop.is_set():
            try:
                frame, [(_, _, stamp)], _, address = self._probes.recvmsg(65536, socket.CMSG_SPACE(16))
            except TimeoutError:
                continue
            member = None if address[2] == socket.PACKET_OUTGOING else self._asked(frame)
            if member is None:
                continue
            member.probes += 1
            if not member.silent:
                self._probes.send(self._link_header + self._reply(member, frame[22:38], frame[38:54], frame[62:]))
            seconds, nanoseconds = struct.unpack("qq", stamp)  # when it came, by the kernel
            self.slowest_s = max(self.slowest_s, time.time() - seconds - nanoseconds / 1e9)
            self.answers += 1

    @staticmethod
    def _reply(member: Member, prober: bytes, target: bytes, message: bytes) -> bytes:
        """An IPv6 packet: from the member's Errors SID to the prober's Probe SID with the same argument."""
        nonce, sent = message[8:16], message[24:32]
        assert nonce == bytes(2) + target[10:], "nonce differs from the SID's argument"
        source, back = target[:8] + bytes(8), prober[:8] + struct.pack(">H", FN_PROBE) + target[10:]
        reply = struct.pack(">BBBBI", 1, PROBE_REPLY, member.role, member.flags, member.generation)
        reply += nonce + struct.pack(">Q", member.incarnation) + sent + struct.pack(">Q", member.listeners)
        reply += struct.pack(">IIQ", member.connections, member.accepts_per_s, member.bytes_per_s)
        ports = struct.pack(">HHH", PROBE_PORT, PROBE_PORT, 8 + len(reply))
        checksum = udp_checksum(source, back, ports + bytes(2) + reply)
        header = struct.pack(">IHBB", 6 << 28, 8 + len(reply), socket.IPPROTO_UDP, 64)
        return header + source + back + ports + struct.pack(">H", checksum) + reply

    def _answered_after(self, answers: int) -> bool:
        return self.answers > answers

    def in_time(self, step: Callable[[], None], tries: int = 3) -> None:
        """What holds as long as members answer in time. It is tried again if we ourselves were late meanwhile."""
        for left in reversed(range(tries)):
            self.slowest_s = 0.0
            try:
                step()
            except AssertionError:
                wait_for(functools.partial(self._answered_after, self.answers), "a probe comes")  # late just now?
                if not left or self.slowest_s < LATE_S:
                    raise
                print(f"a probe was answered after {self.slowest_s:.2f} s: once more")
            else:
                return

    def probe(self, locator: str, prober: str) -> dict[str, int]:
        """Ask the program under test as a gateway node with the locator `prober`; what it says of itself."""
        nonce = 0x4F47_0000_0000 | next(_numbers)
        message = struct.pack(">BBBBIQQQQIIQ", 1, 1, ROLE_ROUTER, 0, 0, nonce, 0, 0, 0, 0, 0, 0)
        ports = UDP(sport=PROBE_PORT, dport=PROBE_PORT)
        self.send(IPv6(src=sid(prober, FN_ERRORS), dst=sid(locator, FN_PROBE, nonce)) / ports / message)
        reply = self.expect(lambda f: UDP in f and f[IPv6].dst == sid(prober, FN_PROBE, nonce), "the reply to a probe")
        names = ("version", "type", "role", "flags", "generation", "nonce", "incarnation", "sent_ns", "listeners",
                 "connections", "accepts_per_s", "bytes_per_s")  # fmt: skip
        return dict(zip(names, struct.unpack(">BBBBIQQQQIIQ", bytes(reply[UDP].payload)), strict=True))

    def expect(self, match: Callable[[Ether], bool], what: str, seconds: float = DEADLINE) -> Ether:
        """Return the next frame that matches; others are thrown away."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                frame = self.frames.get(timeout=0.1)
                if match(frame):
                    return frame
        raise AssertionError(f"no frame within {seconds} s: {what}")

    def drain(self) -> list[Ether]:
        frames = []
        with contextlib.suppress(queue.Empty):
            while True:
                frames.append(self.frames.get_nowait())
        return frames


@dataclass(frozen=True)
class Envelope:
    """An SRv6 packet taken apart: segments in the order they are travelled."""

    outer: IPv6
    segments: list[Sid]
    segments_left: int
    cookies: bytes
    inner: bytes

    @classmethod
    def read(cls, frame: Ether) -> Envelope:
        outer = frame[IPv6]
        if outer.nh == 41:
            return cls(outer, [Sid.read(outer.dst)], 0, b"", bytes(outer.payload))
        assert outer.nh == 43, outer.nh
        srh = outer[IPv6ExtHdrSegmentRouting]
        raw = bytes(outer.payload)
        length = 8 + 8 * raw[1]
        count = srh.lastentry + 1
        segments = [str(ipaddress.IPv6Address(raw[8 + 16 * i : 24 + 16 * i])) for i in range(count)]
        assert segments[srh.segleft] == outer.dst, "the destination is the active segment"
        travelled = [Sid.read(text) for text in reversed(segments)]
        return cls(outer, travelled, srh.segleft, raw[8 + 16 * count : length], raw[length:])

    @property
    def active(self) -> int:
        return len(self.segments) - 1 - self.segments_left


def srv6(source: str, segments: list[str], left: int, inner: Any, *, cookies: bytes = b"", label: int = 0) -> Any:
    """An SRv6 packet; `segments` in the order they are travelled."""
    if len(segments) == 1 and not cookies:
        return IPv6(src=source, dst=segments[0], hlim=63, nh=41, fl=label) / bytes(inner)
    wire_order = [ipaddress.IPv6Address(text).packed for text in reversed(segments)]
    count = len(segments)
    header = struct.pack(">BBBBBBH", 41, 2 * count + len(cookies) // 8, 4, left, count - 1, 0, 0)
    raw = header + b"".join(wire_order) + cookies + bytes(inner)
    return IPv6(src=source, dst=str(ipaddress.IPv6Address(wire_order[left])), hlim=63, nh=43, fl=label) / raw


def tcp(sport: int, flags: str, *, seq: int = 1000, ack: int = 0, hlim: int = 64, payload: bytes = b"") -> Any:
    """A client's packet to the VIP."""
    return IPv6(src=CLIENT, dst=VIP, hlim=hlim) / TCP(sport=sport, dport=80, flags=flags, seq=seq, ack=ack) / payload


def tcp_reply(dport: int, flags: str, *, seq: int, ack: int, payload: bytes = b"") -> Any:
    """A server's packet from the VIP."""
    return IPv6(src=VIP, dst=CLIENT) / TCP(sport=80, dport=dport, flags=flags, seq=seq, ack=ack) / payload


def tables(generation: int = 1, *, routers: int = 1, agents: int = 0, own: str = "5f00:1:11::") -> dict[str, Any]:
    """A table document. Routers are 5f00:1:21::.., agents 5f00:1:31::.."""
    document: dict[str, Any] = {
        "format": 1,
        "generation": generation,
        "digest": "ab" * 32,
        "flow_seed": "000102030405060708090a0b0c0d0e0f",
        "own_site": "west",
        "sites": ["west", "east"],
        "slots": 251,
        "sr_domain": ["5f00::/16", "2001:db8:f000::/36", "2001:db8:1::/48"],
        "services": [
            {"index": 0, "name": "web", "vip": VIP, "protocol": "tcp", "port": 80, "udp_pins": False, "idle_s": 8000,
             "closing_s": 60, "half_open_s": 8}
        ],
        "routers": [
            {"id": i, "name": f"ogr_w{i + 1}", "site": "west", "locator": f"5f00:1:{0x21 + i:x}::", "weight": 100,
             "generation": 0}
            for i in range(routers)
        ],
        "agents": [
            {"id": i, "name": f"agent_w{i + 1}", "site": "west", "locator": f"5f00:1:{0x31 + i:x}::", "weight": 100,
             "generation": 0, "services": ["web"]}
            for i in range(agents)
        ],
        "gateways": sorted({own, "5f00:1:11::", "5f00:1:12::", "5f00:1:21::"}),
    }  # fmt: skip
    return document


@dataclass
class Node:
    """A namespace with a port, and a data plane in it."""

    role: str
    directory: Path
    namespace: str
    wire: Wire
    locator: str
    options: dict[str, Any]
    pin_dir: Path | None = None
    process: subprocess.Popen[str] | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.directory / "log"

    @property
    def program(self) -> Path:
        return HASHER if self.role == "hasher" else ROUTER

    def write_options(self) -> Path:
        path = self.directory / "options.json"
        path.write_text(json.dumps(self.options))
        return path

    def start(self, *arguments: str | Path) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                in_namespace(self.namespace, self.program, "--config", self.write_options(), *arguments),
                stdout=log, stderr=log, text=True,
            )  # fmt: skip
        self.wait_running()

    def wait_running(self) -> None:
        def running() -> bool:
            assert self.process
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError, ValueError):
                return bool(self.request({"op": "status"})["ok"] and self.telemetry("/og/info")["next_hop"])
            return False

        wait_for(running, f"og-{self.role} answers on its socket and knows its next hop")

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process
        self.process.send_signal(number)
        code = self.process.wait(timeout=DEADLINE)
        self.process = None
        return code

    def request(self, document: Any) -> dict[str, Any]:
        line = document if isinstance(document, bytes) else json.dumps(document).encode()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(DEADLINE)
            client.connect(str(self.directory / "run" / f"{self.role}.sock"))
            client.sendall(line + b"\n")
            with client.makefile("rb") as stream:
                reply: dict[str, Any] = json.loads(stream.readline())
        return reply

    def load(self, document: dict[str, Any], **more: Any) -> dict[str, Any]:
        return self.request({"op": "load", "tables": document, **more})

    def telemetry(self, command: str) -> Any:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.settimeout(DEADLINE)
            client.connect(f"/var/run/dpdk/og-{self.role}/dpdk_telemetry.v2")
            client.recv(1024)
            client.send(command.encode())
            return next(iter(json.loads(client.recv(1 << 16)).values()))

    def counters(self) -> dict[str, int]:
        counters: dict[str, int] = self.telemetry("/og/counters")
        return counters

    def count(self, name: str) -> int:
        return self.counters()[name]

    def heartbeat(self) -> dict[str, int]:
        data = (self.directory / "run" / f"{self.role}.heartbeat").read_bytes()
        assert len(data) == 64
        assert data[:4] == b"OGHB"
        names = ("version", "loops", "generation", "flags", "pid", "incarnation")
        return dict(zip(names, struct.unpack_from("<IQQIIQ", data, 4), strict=True))

    def port(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run og-port on this node's interface."""
        extra = ["--object", str(PORT_OBJECT)] if arguments[0] == "attach" else []
        command: list[str | Path] = [PORT, *arguments, "--interface", "fab0", "--pin-dir", str(self.pin_dir), *extra]
        return run(*in_namespace(self.namespace, *command), check=check)

    def attach(self) -> None:
        self.port("attach", "--locator", f"{self.locator}/64", "--vip", VIP)


def ip(namespace: str, *arguments: str) -> None:
    run("ip", "-n", namespace, *arguments)


@contextlib.contextmanager
def veth_pair(near: str, far: str, mtu: int = 2000) -> Iterator[None]:
    """Two namespaces: fab0 in `near`, with a default route, and peer0, its router, in `far`."""
    try:
        for name in (near, far):
            run("ip", "netns", "add", name)
            ip(name, "link", "set", "lo", "up")
        run("ip", "link", "add", "fab0", "netns", near, "type", "veth", "peer", "name", "peer0", "netns", far)
        for name, interface, address in ((near, "fab0", OWN_ADDRESS), (far, "peer0", ROUTER_ADDRESS)):
            ip(name, "link", "set", interface, "mtu", str(mtu), "up")
            ip(name, "addr", "add", f"{address}/64", "dev", interface, "nodad")
        ip(near, "-6", "route", "add", "default", "via", ROUTER_ADDRESS)
        yield
    finally:
        for name in (near, far):
            run("ip", "netns", "del", name, check=False)


def mac_of(namespace: str, interface: str) -> str:
    [link] = json.loads(run("ip", "-n", namespace, "-j", "link", "show", interface).stdout)
    mac: str = link["address"]
    return mac


@contextlib.contextmanager
def node(role: str, directory: Path) -> Iterator[Node]:
    """A node on AF_XDP, its port steering, nothing started."""
    name = f"ogs{os.getpid()}-{next(_numbers)}"
    locator = "5f00:1:11::" if role == "hasher" else "5f00:1:21::"
    bpf = directory / "bpf"
    bpf.mkdir(parents=True)
    run("mount", "-t", "bpf", "bpf", bpf)
    try:
        with veth_pair(f"{name}n", f"{name}f"):
            wire = Wire(f"{name}f", "peer0", mac_of(f"{name}n", "fab0"))
            options = {
                "port": {"kind": "af_xdp", "interface": "fab0", "xsks_map": str(bpf / "port" / "xsks_map")},
                "eal": ["--no-huge", "-m", "128"],
                "locator": locator,
                "threads": 1,
                "idle_us": 200,
                "fabric_mtu": 2000,
                "dscp": 0,
                "next_hop": {"mode": "kernel"},
                "runtime_dir": str(directory / "run"),
                "state_dir": str(directory / "state"),
            } | ({"pins": 65536} if role == "router" else {})
            under_test = Node(role, directory, f"{name}n", wire, locator, options, bpf / "port")
            try:
                under_test.attach()
                yield under_test
            finally:
                if under_test.process:
                    under_test.process.kill()
                    under_test.process.wait()
                wire.close()
    finally:
        run("umount", bpf, check=False)
        shutil.rmtree(directory, ignore_errors=True)
