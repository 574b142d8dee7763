# SPDX-License-Identifier: Apache-2.0
"""Measure the agent's programs: nanoseconds per packet, as JSON on standard output.

BPF_PROG_TEST_RUN on real sockets in a namespace of its own, programs loaded by bcc as in production. `own_ns` is the
total minus a base line that moves the packet's start and restores the envelope as the measured program's wrapper does.
Each row gives the packets that were counted under the expected name meanwhile, so that a row cannot measure something
else. Runs are short (some tenths of a millisecond), so that most of them are not interrupted on a busy machine; the
median is reported. One packet is repeated: caches are warm. Needs root and bcc.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import socket
import statistics
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET6, inet_pton

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from og.agent import bpf, btf, config, headers, layout, loader, report  # noqa: E402

BPF_DIR, BENCH_DIR = ROOT / "bpf", ROOT / "bpf/bench"
VIP, CLIENT, PORT = "2001:db8:1::80", "2001:db8:c001:41::2", 80
AGENT, OTHER_AGENT, ROUTER = "5f00:1:31::", "5f00:1:32::", "5f00:1:21::"
STEER, MISS, ACCEPT = 1, 3, 0x10
K, N, LAST = 1, 2, 8
TARGET_NS = 150
_ARGUMENT = 3 << 32 | 0x5EEDBEEF
_LINK = bytes([2, 0, 0, 0, 0, 0x31, 2, 0, 0, 0, 0, 1]) + b"\x86\xdd"


def sid(locator: str, function: int, argument: int) -> bytes:
    """Locator, function, argument (48 bits)."""
    return inet_pton(AF_INET6, locator)[:8] + struct.pack("!HHI", function, argument >> 32, argument & 0xFFFFFFFF)


def ipv6(src: bytes, dst: bytes, next_header: int, payload: bytes) -> bytes:
    """An IPv6 packet."""
    return struct.pack("!IHBB", 6 << 28, len(payload), next_header, 63) + src + dst + payload


def tcp(sport: int, dport: int, seq: int, flags: int, payload: bytes = b"") -> bytes:
    """A segment; nobody here looks at its checksum."""
    return struct.pack("!HHIIBBHHH", sport, dport, seq, 0, 5 << 4, flags, 65535, 0, 0) + payload


def accept(locator: str, flags: int) -> bytes:
    """An Accept SID."""
    return sid(locator, ACCEPT, flags << 32)


def envelope(inner: bytes, *segments: bytes) -> bytes:
    """The frame with `inner` in an envelope: one segment without SRH, or a visited Steer, a cookie and candidates."""
    source = sid(ROUTER, 0, _ARGUMENT)
    if len(segments) == 1:
        return _LINK + ipv6(source, segments[0], 41, inner)
    path = [sid(ROUTER, STEER, _ARGUMENT), *segments]
    cookie = bytes([124, 14, 1, 0]) + bytes(12)
    srh = struct.pack("!BBBBBBH", 41, 2 * len(path) + 2, 4, len(path) - 2, len(path) - 1, 0, 0)
    return _LINK + ipv6(source, segments[0], 43, srh + b"".join(reversed(path)) + cookie + inner)


@dataclass(frozen=True)
class Case:
    """What is measured: a frame, and the name it must be counted under.

    `cut`: the envelope is taken off. `repeatable`: the program can run on the same buffer again.
    """

    name: str
    frame: bytes
    counted: str
    cut: bool = True
    repeatable: bool = True


def head_of(frame: bytes) -> int:
    """Bytes before the inner packet."""
    return 54 + (8 + frame[55] * 8 if frame[20] == 43 else 0)


class Bench:
    """The programs, their maps, and one established connection."""

    def __init__(self, repeat: int, runs: int) -> None:
        self.repeat, self.runs = repeat, runs
        headers.find()
        self.maps = {name: bpf.BpfMap.create(spec) for name, spec in layout.MAPS.items()}
        self.offsets = loader.kernel_offsets(btf.VMLINUX)
        document = {
            "interface": "lo",
            "locator": AGENT,
            "fabric_mtu": 2000,
            "gateways": [f"{ROUTER}/64"],
            "bpf_dir": str(BPF_DIR),
            "services": [{"index": 0, "name": "web", "vip": VIP, "protocol": "tcp", "port": PORT}],
        }
        loader.fill_maps(self.maps, config.check(document), load_aware=True)

    def counters(self) -> dict[str, int]:
        """Return the programs' counters."""
        return report.counters(self.maps, BPF_DIR / "og_counters.h")

    def runs_of(self, case: Case) -> tuple[int, int]:
        """Return repetitions in a run, and runs. What cannot be repeated on one buffer gets many runs of one."""
        return (self.repeat, self.runs) if case.repeatable else (1, self.runs * 20)

    def times(self, fd: int, case: Case) -> list[int]:
        """Return the mean time of one repetition for each run, in ns."""
        repeat, runs = self.runs_of(case)
        return [bpf.run_program(fd, case.frame, repeat).ns for _ in range(runs)]

    def forget(self, case: Case) -> None:
        """Delete the note of the flow a server's frame belongs to, if the case is to find none."""
        src, dst, ports = case.frame[22:38], case.frame[38:54], case.frame[54:58]
        if case.repeatable:
            self.maps["notes"].delete(dst + src + ports[2:] + ports[:2] + bytes([6, 0, 0, 0]))

    def ingress(self, case: Case) -> dict[str, object]:
        """Measure the XDP program on a case."""
        head = head_of(case.frame)
        times: list[list[int]] = []
        hits = 0
        for defines in ({"OG_BENCH_BASE": 1}, {}):
            bench_map = bpf.BpfMap.create(bpf.MapSpec("bench_map", bpf.ARRAY, 4, (head + 7) // 8 * 8, 1))
            macros = (
                self.offsets
                | defines
                | {"OG_BENCH_HEAD": head, "OG_BENCH_CUT": int(case.cut), "OG_FD_bench_map": bench_map.fd}
            )
            fd = loader.compile_file(BENCH_DIR / "og_bench_xdp.c", BPF_DIR, self.maps, macros, for_tc=False)
            before = self.counters()[case.counted]
            times.append(self.times(fd, case))
            hits = self.counters()[case.counted] - before
            os.close(fd)
        return self.row("xdp", case, times[1], times[0], hits)

    def egress(self, case: Case) -> dict[str, object]:
        """Measure the tc program on a case."""
        self.forget(case)
        base = loader.compile_file(BENCH_DIR / "og_bench_tc.c", BPF_DIR, self.maps, {}, for_tc=True)
        fd = loader.compile_program("tc", BPF_DIR, self.maps, self.offsets)
        before = self.counters()[case.counted]
        base_ns, total_ns = self.times(base, case), self.times(fd, case)
        return self.row("tc", case, total_ns, base_ns, self.counters()[case.counted] - before)

    def row(self, program: str, case: Case, total: list[int], base: list[int], hits: int) -> dict[str, object]:
        """Return one row of the result. `least_own_ns`: of the quickest runs, what a quiet machine would show."""
        middle, middle_base = statistics.median(total), statistics.median(base)
        return {
            "program": program,
            "case": case.name,
            "total_ns": middle,
            "base_ns": middle_base,
            "own_ns": middle - middle_base,
            "least_own_ns": min(total) - min(base),
            "mpps": round(1000 / middle, 2),
            "counted": case.counted,
            "packets": hits,
            "expected": math.prod(self.runs_of(case)),
            "target_own_ns": TARGET_NS,
        }


def cases(sport: int, seq: int) -> tuple[list[Case], list[Case]]:
    """Return the packets for ingress and for egress."""
    client, vip = inet_pton(AF_INET6, CLIENT), inet_pton(AF_INET6, VIP)
    data = ipv6(client, vip, 6, tcp(sport, PORT, seq, 0x10, bytes(64)))
    syn = ipv6(client, vip, 6, tcp(50000, PORT, 1, 0x02))
    unknown = ipv6(client, vip, 6, tcp(50001, PORT, 1, 0x10))
    back = sid(ROUTER, MISS, _ARGUMENT)
    ingress = [
        Case("pinned packet, established connection", envelope(data, accept(AGENT, K)), "taken_known"),
        Case(
            "hunted packet, established connection, note written", envelope(data, accept(AGENT, K), back), "taken_known"
        ),
        Case("SYN taken, note written", envelope(syn, accept(AGENT, N), accept(OTHER_AGENT, N | LAST)), "taken_new"),
        Case(
            "not mine, next segment",
            envelope(unknown, accept(AGENT, K), accept(OTHER_AGENT, K)),
            "next_segment",
            cut=False,
        ),
        Case("not for the locator", _LINK + ipv6(client, vip, 59, bytes(64)), "pass_other", cut=False),
    ]
    reply = _LINK + ipv6(vip, client, 6, tcp(PORT, sport, 1, 0x10, bytes(1400)))
    synack = _LINK + ipv6(vip, client, 6, tcp(PORT, 50000, 1, 0x12))
    egress = [
        Case("data straight to the client", reply, "egress_direct"),
        Case("SYN-ACK in an envelope", synack, "egress_synack", repeatable=False),
    ]
    return ingress, egress


def established(listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Return both ends of a connection from CLIENT to VIP; the server's end first."""
    for _ in range(100):  # the kernel makes an address work a moment after it was added
        with contextlib.suppress(OSError):
            client = socket.create_connection((VIP, PORT), source_address=(CLIENT, 0))
            break
        time.sleep(0.05)
    return listener.accept()[0], client


def next_sequence(client: socket.socket) -> int:
    """Return the sequence number the peer of `client` expects, as the kernel tells under TCP_REPAIR."""
    client.setsockopt(socket.IPPROTO_TCP, 19, 1)
    client.setsockopt(socket.IPPROTO_TCP, 20, 2)
    return client.getsockopt(socket.IPPROTO_TCP, 21) & 0xFFFFFFFF


def main() -> int:
    """Run all cases and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=1000, help="repetitions in a run (default %(default)s)")
    parser.add_argument("--runs", type=int, default=201, help="runs; the median is reported (default %(default)s)")
    options = parser.parse_args()
    os.unshare(os.CLONE_NEWNET)
    for command in ("link set lo up", f"addr add {VIP}/128 dev lo nodad", f"addr add {CLIENT}/128 dev lo nodad"):
        subprocess.run(["ip", *command.split()], check=True)
    with socket.create_server((VIP, PORT), family=AF_INET6, backlog=128) as listener:
        server, client = established(listener)
        with server, client:
            ingress, egress = cases(client.getsockname()[1], next_sequence(client))
            bench = Bench(options.repeat, options.runs)
            rows = [bench.ingress(case) for case in ingress]
            rows += [bench.egress(case) for case in egress]
    result = {
        "benchmark": "agent",
        "kernel": os.uname().release,
        "repeat": options.repeat,
        "runs": options.runs,
        "rows": rows,
    }
    json.dump(result, sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
