# SPDX-License-Identifier: Apache-2.0
"""One server with the real daemon, one client, and between them a router of our own making: the test's oracle.

    client --- cli0 | c-<n>   (this process)   s-<n> | fab0 --- server: og-agent, VIP on lo

The oracle does by the wire contract what hasher and router do: SYNs in an envelope with a visited Steer and its cookie,
known flows with one segment, flows it was told to forget with a hunt. It writes down what comes back.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from socket import AF_INET6, inet_pton
from typing import Any

from og.agent import bpf, report

from .conftest import config_document
from .sockets import wait_for
from .wire import (
    BPF_DIR,
    ERRORS,
    LAST,
    MISS,
    PIN,
    PORT,
    ROOT,
    ROUTER,
    STEER,
    VIP,
    K,
    N,
    Path6,
    accept,
    cookie,
    flow_argument,
    sid,
    srh,
)

SERVER_ADDRESS, SERVER_GATEWAY = "2001:db8:f001:31::2", "2001:db8:f001:31::1"
CLIENT_ADDRESS, CLIENT_GATEWAY = "2001:db8:c001:41::2", "2001:db8:c001:41::1"
MTU = 2000

_P_ALL = 3
_SOL_PACKET, _IGNORE_OUTGOING = 263, 23
_VIP = inet_pton(AF_INET6, VIP)
_PIN_SID = inet_pton(AF_INET6, sid(ROUTER, PIN, flow_argument()))
_MISS_SID = inet_pton(AF_INET6, sid(ROUTER, MISS, flow_argument()))
_SOURCE = inet_pton(AF_INET6, sid(ROUTER, ERRORS, flow_argument()))
_OFFER = Path6((sid(ROUTER, STEER, flow_argument()), accept(N | LAST)), 1, (cookie(0xC0),))
_HUNT = Path6((sid(ROUTER, STEER, flow_argument()), accept(K), sid(ROUTER, MISS, flow_argument())), 1, (cookie(0xC1),))
_PINNED = Path6((accept(K),))


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def envelope(inner: bytes, path: Path6) -> bytes:
    """Outer header (and SRH, if there is more than one segment) in front of `inner`; outer hop limit 62."""
    header = b"" if len(path.segments) == 1 else srh(path)
    next_header = 43 if header else 41
    fixed = struct.pack("!IHBB", 6 << 28, len(header) + len(inner), next_header, 62)
    return fixed + _SOURCE + inet_pton(AF_INET6, path.segments[path.visited]) + header + inner


class Space:
    """A network namespace, held by a process of ours."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        mine = Path("/proc/self/ns/net").readlink()
        wait_for(lambda: Path(f"/proc/{self._holder.pid}/ns/net").readlink() != mine)
        self.pid = str(self._holder.pid)

    def prefix(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--"]

    def run(self, *arguments: str) -> str:
        return subprocess.run([*self.prefix(), *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen([*self.prefix(), *arguments], text=True, **options)

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()


class Gateway(threading.Thread):
    """The oracle. Runs until stopped; everything it saw is in its attributes."""

    def __init__(self, client_port: str, server_port: str, client_mac: str, server_mac: str) -> None:
        super().__init__(daemon=True)
        self._client, self._server = self._open(client_port), self._open(server_port)
        self._to_client = bytes.fromhex(client_mac.replace(":", "")) + bytes([2, 0, 0, 0, 0, 1]) + b"\x86\xdd"
        self._to_server = bytes.fromhex(server_mac.replace(":", "")) + bytes([2, 0, 0, 0, 0, 2]) + b"\x86\xdd"
        self._end = threading.Event()
        self.forget: set[int] = set()  # ports of the client whose flows are hunted
        self.drop_synacks = 0  # so many of the next SYN-ACKs get lost
        self.returned: list[bytes] = []  # frames that came to Pin
        self.direct: list[bytes] = []  # the first frames that came from the VIP
        self.synacks: list[bytes] = []
        self.seen: Counter[str] = Counter()

    @staticmethod
    def _open(port: str) -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.bind((port, _P_ALL))
        return sock

    def stop(self) -> None:
        self._end.set()
        self.join()
        self._client.close()
        self._server.close()

    def run(self) -> None:
        while not self._end.is_set():
            for sock in select.select([self._client, self._server], [], [], 0.1)[0]:
                frame = sock.recv(65536)
                if frame[12:14] == b"\x86\xdd":
                    (self._from_client if sock is self._client else self._from_server)(frame)

    def send(self, packet: bytes) -> None:
        """An IPv6 packet to the server's port."""
        self._server.send(self._to_server + packet)

    def _from_client(self, frame: bytes) -> None:
        if frame[38:54] != _VIP or frame[20] != 6:
            return
        inner = frame[14:21] + bytes([frame[21] - 1]) + frame[22:]
        sport, flags = int.from_bytes(frame[54:56], "big"), frame[67]
        path = _OFFER if flags & 0x12 == 0x02 else _HUNT if sport in self.forget else _PINNED
        self.seen["hunted" if path is _HUNT else "offered" if path is _OFFER else "pinned"] += 1
        self.send(envelope(inner, path))

    def _from_server(self, frame: bytes) -> None:
        if frame[38:54] == _PIN_SID:
            at = 54 + 8 + frame[55] * 8
            inner = frame[at:]
            self.seen["returned"] += 1
            if len(self.returned) < 10000:
                self.returned.append(frame)
            self.forget.discard(int.from_bytes(inner[42:44], "big"))
            if inner[53] & 0x12 == 0x12:
                self.synacks.append(inner)
                if self.drop_synacks > 0:
                    self.drop_synacks -= 1
                    return
            self._client.send(self._to_client + inner)
        elif frame[38:54] == _MISS_SID:
            self.seen["miss"] += 1
        elif frame[22:38] == _VIP:
            self.seen["direct"] += 1
            self.seen["reset"] += bool(frame[20] == 6 and frame[67] & 4)
            if len(self.direct) < 1000:
                self.direct.append(frame)
            self._client.send(self._to_client + frame[14:])


class Rig:
    """Both hosts, wired; the daemon runs once `start_agent` was called."""

    def __init__(self, folder: Path, *, offloads: bool, mode: str = "generic") -> None:
        self.folder = folder
        self.server, self.client = Space(), Space()
        self._processes: list[subprocess.Popen[str]] = []
        self.agent: subprocess.Popen[str] | None = None
        self.ports = (f"s-{self.server.pid}", f"c-{self.server.pid}")
        self._wire(self.ports[0], "fab0", self.server, (SERVER_ADDRESS, SERVER_GATEWAY), MTU)
        self._wire(self.ports[1], "cli0", self.client, (CLIENT_ADDRESS, CLIENT_GATEWAY), 1500)
        self.client.run("ethtool", "-K", "cli0", "tx", "off")  # the oracle forwards frames as it gets them
        if not offloads:
            self.server.run("ethtool", "-K", "fab0", "tx", "off", "tso", "off", "gso", "off", "gro", "off")
        self.gateway = Gateway(self.ports[1], self.ports[0], "02:00:00:00:00:41", "02:00:00:00:00:31")
        self.gateway.start()
        self.config = folder / "agent.json"
        self.status_file = folder / "status.json"
        self.pin_dir = Path(f"/sys/fs/bpf/{folder.name}")
        self.write_config(xdp_mode=mode)

    def _wire(self, here: str, there: str, space: Space, addresses: tuple[str, str], mtu: int) -> None:
        address, gateway = addresses
        ip(
            "link",
            "add",
            here,
            "mtu",
            str(mtu),
            "type",
            "veth",
            "peer",
            "name",
            there,
            "mtu",
            str(mtu),
            "netns",
            space.pid,
        )
        Path(f"/proc/sys/net/ipv6/conf/{here}/disable_ipv6").write_text("1")
        ip("link", "set", here, "up")
        space.run("ip", "link", "set", "lo", "up")
        space.run(
            "ip", "link", "set", there, "address", "02:00:00:00:00:31" if there == "fab0" else "02:00:00:00:00:41", "up"
        )
        space.run("ip", "addr", "add", f"{address}/64", "dev", there, "nodad")
        space.run("ip", "neigh", "replace", gateway, "lladdr", "02:00:00:00:00:02", "dev", there)
        space.run("ip", "-6", "route", "add", "default", "via", gateway, "dev", there)

    def write_config(self, **changes: object) -> None:
        document = config_document(pin_dir=str(self.pin_dir), status_file=str(self.status_file), **changes)
        self.config.write_text(json.dumps(document))

    def agent_command(self, *arguments: str, package: Path = ROOT) -> subprocess.CompletedProcess[str]:
        command = [*self.server.prefix(), sys.executable, "-m", "og.agent", "--config", str(self.config), *arguments]
        return subprocess.run(command, cwd=package, capture_output=True, text=True, check=False)

    def start_agent(self) -> None:
        """Start the daemon and wait until it reports."""
        self.status_file.unlink(missing_ok=True)
        with (self.folder / "agent.log").open("a") as log:
            self.agent = self.server.start(
                sys.executable, "-m", "og.agent", "--config", str(self.config), cwd=ROOT, stderr=log
            )
        agent = self.agent
        wait_for(lambda: self.status_file.exists() or agent.poll() is not None, 240)
        assert agent.poll() is None, (self.folder / "agent.log").read_text()

    def stop_agent(self, number: int = signal.SIGTERM) -> None:
        assert self.agent is not None
        self.agent.send_signal(number)
        self.agent.wait(30)
        self.agent = None

    def status(self) -> dict[str, Any]:
        done = self.agent_command("--status")
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def counters(self) -> dict[str, int]:
        """The programs' counters, from the pinned map: quicker than --status."""
        return report.counters({"counters": bpf.BpfMap.pinned(self.pin_dir / "counters")}, BPF_DIR / "og_counters.h")

    def serve(self) -> None:
        """An HTTP server on all addresses, port 80."""
        server = self.server.start(
            sys.executable, str(Path(__file__).with_name("httpd.py")), str(PORT), stdout=subprocess.PIPE
        )
        self._processes.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"

    def load(self, *arguments: str) -> subprocess.Popen[str]:
        """The load generator at the client."""
        command = [sys.executable, "-m", "og.load", "--host", VIP, "--timeout", "30", *arguments]
        process = self.client.start(*command, cwd=ROOT, stdout=subprocess.PIPE)
        self._processes.append(process)
        return process

    def close(self) -> None:
        if self.agent is not None:
            self.stop_agent(signal.SIGKILL)
        for process in self._processes:
            process.kill()
            process.wait()
        self.gateway.stop()
        self.server.close()
        self.client.close()
        for path in self.pin_dir.glob("*"):
            path.unlink()
        for port in self.ports:
            subprocess.run(["ip", "link", "del", port], check=False, stderr=subprocess.DEVNULL)


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The load generator's report."""
    output, _ = process.communicate(timeout=180)
    report: dict[str, Any] = json.loads(output)
    return report
