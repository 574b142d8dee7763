# SPDX-License-Identifier: Apache-2.0
"""Measure the data plane and write `bench.json` and `bench.svg`.

Two parts. `og-bench` calls the library on packets in memory. The second part runs the real programs between DPDK's
`net_pcap` (a capture replayed from memory without end) and its own drop: what comes out is I/O, poll loop and library
together, beside DPDK's `testpmd` on the same packets as a base line. CPU time is the poll thread's own, from
/proc/<pid>/task/<tid>/schedstat; packets are those the program counted. No hardware, no hugepages needed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HASHER_LOCATOR = "5f00:1:11::"
ROUTER_LOCATOR = "5f00:1:21::"
VIP = "2001:db8:1::80"
FLOWS = 4096
MAC = "02:00:00:00:00:01"
BUSY = 1.8  # load average with the benchmark itself: above, caches and sibling threads were shared
# ns per packet on one core: the marks in the picture.
TARGETS = {
    "hasher": 30.0,
    "router, pinned, 1 M flows": 55.0,
    "router, pinned, 10 M flows": 70.0,
    "og-hasher, pcap to null": 70.0,
}


def address(text: str) -> bytes:
    """16 bytes of an IPv6 address."""
    return socket.inet_pton(socket.AF_INET6, text)


def client_packet(number: int, flags: int) -> bytes:
    """A 60-byte packet of flow `number` from a client to the VIP (RFC 8200, RFC 9293)."""
    source = address("2001:db8:c001:41::")[:8] + struct.pack("<Q", number)
    header = struct.pack(">IHBB", 0x60000000, 20, 6, 63) + source + address(VIP)
    return header + struct.pack(">HHIIBBHHH", 1024 + number % 64000, 80, 1, 1, 5 << 4, flags, 65535, 0, 0)


def steered(packet: bytes) -> bytes:
    """The same as a hasher hands it on: H.Encaps.Red to the router's Steer SID (RFC 8986 section 5.2)."""
    steer = address(ROUTER_LOCATOR)[:8] + b"\x00\x01" + bytes(6)
    return struct.pack(">IHBB", 0x60000000, len(packet), 41, 63) + address(HASHER_LOCATOR) + steer + packet


def write_pcap(path: Path, packets: list[bytes]) -> None:
    """An Ethernet capture file."""
    ethernet = bytes.fromhex("020000000002020000000001") + b"\x86\xdd"
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for packet in packets:
            frame = ethernet + packet
            file.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)


def tables() -> dict[str, Any]:
    """A table document with one router and three agents."""
    member = {"site": "west", "weight": 100, "generation": 0}
    return {
        "format": 1,
        "generation": 1,
        "digest": "00" * 32,
        "flow_seed": "11" * 16,
        "own_site": "west",
        "sites": ["west"],
        "slots": 65537,
        "sr_domain": ["5f00::/16"],
        "services": [{"index": 0, "name": "web", "vip": VIP, "protocol": "tcp", "port": 80}],
        "routers": [member | {"id": 0, "name": "ogr_w1", "locator": ROUTER_LOCATOR}],
        "agents": [
            member | {"id": i, "name": f"agent_w{i + 1}", "locator": f"5f00:1:3{i + 1}::", "services": ["web"]}
            for i in range(3)
        ],
        "gateways": [HASHER_LOCATOR, ROUTER_LOCATOR],
    }


def cpu_ns(pid: int, tid: int) -> int:
    """CPU time of a thread, nanoseconds."""
    return int(Path(f"/proc/{pid}/task/{tid}/schedstat").read_text(encoding="ascii").split()[0])


def telemetry(prefix: str, command: str) -> dict[str, int]:
    """Ask a DPDK process; see docs/interfaces.md."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(10)
        client.connect(f"/var/run/dpdk/{prefix}/dpdk_telemetry.v2")
        client.recv(1024)
        client.send(command.encode())
        [answer] = json.loads(client.recv(1 << 16)).values()
        return dict(answer)


def thread_named(pid: int, name: str) -> int:
    """The thread of a process with this name."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text(encoding="utf-8").strip() == name:
            return int(task.name)
    raise LookupError(f"process {pid} has no thread {name}")


@dataclass(frozen=True)
class Plan:
    """How often and how long a program is looked at."""

    runs: int
    seconds: float


@dataclass(frozen=True)
class Meter:
    """Where a DPDK program counts: its file prefix, its packet thread (None: the main one), command and field."""

    prefix: str
    thread: str | None
    command: str
    field: str

    def packets(self) -> int:
        """How many it has received."""
        return int(telemetry(self.prefix, self.command)[self.field])


def sample(process: subprocess.Popen[bytes], meter: Meter, plan: Plan) -> list[float]:
    """CPU nanoseconds per packet over the plan's intervals of a running process, after one to warm up."""
    end = time.monotonic() + 20
    while True:
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{meter.prefix}: does not run (exit code {process.poll()})")
        with contextlib.suppress(OSError, LookupError, TypeError):
            tid = process.pid if meter.thread is None else thread_named(process.pid, meter.thread)
            if meter.packets() > 0:
                break
        time.sleep(0.1)
    values = []
    for _ in range(plan.runs + 1):
        packets, cpu = meter.packets(), cpu_ns(process.pid, tid)
        time.sleep(plan.seconds)
        packets, cpu = meter.packets() - packets, cpu_ns(process.pid, tid) - cpu
        values.append(cpu / packets)
    return values[1:]


def row(name: str, values: list[float], base: float, more: dict[str, Any]) -> dict[str, Any]:
    """One figure as og-bench prints them."""
    median = statistics.median(values)
    return {
        "name": name,
        "total_ns": round(median, 1),
        "least_ns": round(min(values), 1),
        "most_ns": round(max(values), 1),
        "base_ns": round(base, 1),
        "own_ns": round(median - base, 1),
        "mpps": round(1000 / median, 2),
        **more,
    }


def run_testpmd(capture: Path, plan: Plan) -> list[float] | None:
    """Testpmd in io mode on the same packets; None where it is not installed."""
    prefix = "og-bench-testpmd"
    command = [
        "dpdk-testpmd", f"--file-prefix={prefix}", "--no-huge", "--no-shconf", "-m", "256", "--no-pci",
        f"--lcores={floating(2)}", "--log-level=warning",
        f"--vdev=net_pcap0,rx_pcap={capture},infinite_rx=1", "--", "--auto-start", "--forward-mode=io", "--nb-cores=1",
        "--total-num-mbufs=16384", "--no-mlockall",
    ]  # fmt: skip
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        return None
    try:
        return sample(process, Meter(prefix, "dpdk-worker1", "/ethdev/stats,0", "ipackets"), plan)
    finally:
        process.kill()
        process.wait()


def floating(lcores: int) -> str:
    """EAL's --lcores for n threads that float over the CPUs this process may use."""
    cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    return f"(0-{lcores - 1})@({cpus})"


def run_program(build: Path, role: str, capture: Path, plan: Plan) -> tuple[list[float], dict[str, Any]]:
    """One of our programs from pcap to null; also what it counted, as proof of what was measured."""
    program, verdict = build / role / f"og-{role}", "steered" if role == "hasher" else "offered"
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        document = tables()
        if role == "hasher":
            document["agents"] = []
        (directory / "tables.json").write_text(json.dumps(document), encoding="utf-8")
        options = {
            "port": {"kind": "vdev", "args": f"net_pcap0,rx_pcap={capture},infinite_rx=1"},
            "eal": ["--no-huge", "-m", "256"],
            "locator": HASHER_LOCATOR if role == "hasher" else ROUTER_LOCATOR,
            "fabric_mtu": 2000,
            "probe": False,
            "next_hop": {"mode": "fixed", "mac": MAC},
            "runtime_dir": str(directory / "run"),
            "state_dir": str(directory / "state"),
        }
        (directory / "options.json").write_text(json.dumps(options), encoding="utf-8")
        process = subprocess.Popen(
            [program, "--config", directory / "options.json", "--tables", directory / "tables.json"],
            stderr=subprocess.DEVNULL,
        )
        try:
            values = sample(process, Meter(f"og-{role}", None, "/og/load", "packets"), plan)
            counters = telemetry(f"og-{role}", "/og/counters")
        finally:
            process.terminate()
            process.wait()
    if counters[verdict] < 0.99 * counters["rx"]:
        raise RuntimeError(f"og-{role}: only {counters[verdict]} of {counters['rx']} packets are {verdict}")
    return values, {"packets": counters["rx"], "verdict": verdict, "verdicts": counters[verdict], "tx": counters["tx"]}


def bench_programs(build: Path, plan: Plan) -> list[dict[str, Any]]:
    """From pcap to null: testpmd, then ours."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        plain, wrapped = Path(name) / "plain.pcap", Path(name) / "steered.pcap"
        write_pcap(plain, [client_packet(number, 0x10) for number in range(FLOWS)])
        write_pcap(wrapped, [steered(client_packet(number, 0x02)) for number in range(FLOWS)])
        base = 0.0
        values = run_testpmd(plain, plan)
        if values:
            base = statistics.median(values)
            rows.append(row("testpmd io, pcap to null", values, 0.0, {"base_line": True}))
        else:
            sys.stderr.write("bench: dpdk-testpmd is not installed: no base line for the programs\n")
        values, more = run_program(build, "hasher", plain, plan)
        rows.append(row("og-hasher, pcap to null", values, base, more))
        values, more = run_program(build, "router", wrapped, plan)
        rows.append(row("og-router, SYN, pcap to null", values, base, more))
    return rows


def draw(rows: list[dict[str, Any]]) -> str:
    """Bars of total and own time, a mark at each target, as SVG."""
    scale, left, height = 3.2, 250, 34
    widest = max([*(item["total_ns"] for item in rows), *TARGETS.values()])
    width, tall = int(left + widest * scale + 150), 60 + height * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{tall}" font-family="sans" font-size="13">',
        f'<rect width="{width}" height="{tall}" fill="white"/>',
        '<text x="10" y="22" font-size="15">ns per packet, one core: base line grey, own blue, target red</text>',
    ]
    for index, item in enumerate(rows):
        y = 40 + index * height
        base, own = item["base_ns"] * scale, max(item["own_ns"], 0) * scale
        parts.append(f'<text x="{left - 8}" y="{y + 17}" text-anchor="end">{item["name"]}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{base:.1f}" height="24" fill="#bbbbbb"/>')
        parts.append(f'<rect x="{left + base:.1f}" y="{y}" width="{own:.1f}" height="24" fill="#3b78b5"/>')
        text = f"{item['total_ns']} ({item['own_ns']} own)"
        parts.append(f'<text x="{left + base + own + 6:.1f}" y="{y + 17}">{text}</text>')
        if item["name"] in TARGETS:
            # A target of the library is for its own time, one of a program for the whole.
            start = 0.0 if "pcap" in item["name"] else base
            x = left + start + TARGETS[item["name"]] * scale
            parts.append(f'<rect x="{x:.1f}" y="{y - 3}" width="2" height="30" fill="#cc2222"/>')
    return "\n".join([*parts, "</svg>\n"])


def show(document: dict[str, Any]) -> str:
    """The table an operator reads."""
    lines = [f"{'':32} {'total':>8} {'own':>8} {'Mpps':>7}  target"]
    for item in document["rows"] + document["programs"]:
        target = TARGETS.get(item["name"])
        value = item["total_ns"] if "pcap" in item["name"] else item["own_ns"]
        verdict = "" if target is None else f"{target:.0f} {'met' if value <= target else 'MISSED'}"
        lines.append(f"{item['name']:32} {item['total_ns']:8.1f} {item['own_ns']:8.1f} {item['mpps']:7.2f}  {verdict}")
        if "bytes_per_pin" in item:
            lines.append(
                f"{'':32} {item['bytes_per_pin']} bytes per pin, load factor {item['load_factor']}, "
                f"{item['lines_per_hit']} lines per hit, {item['hits']} hits"
            )
    lines += [
        f"table of {table['slots']} slots, {table['agents']:4} agents: {table['median_ms']} ms"
        for table in document["tables"]
    ]
    if document["load_average"] > BUSY:
        lines.append(f"load average {document['load_average']:.1f}: others were running, so the figures are too high")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write, show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--build", type=Path, default=Path("build/native"), help="native build directory")
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="where bench.json and bench.svg go")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs, no 10 M flows")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    command = [str(build / "bench/og-bench")] + (["--quick"] if arguments.quick else [])
    document = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    document["programs"] = bench_programs(build, Plan(3, 0.5) if arguments.quick else Plan(7, 1.0))
    document["load_average"] = os.getloadavg()[0]
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "bench.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (arguments.output / "bench.svg").write_text(draw(document["rows"] + document["programs"]), encoding="utf-8")
    sys.stdout.write(show(document))


if __name__ == "__main__":
    main()
