# SPDX-License-Identifier: Apache-2.0
"""Two poll threads on two software queues: each flow is handled by its owner, whichever queue it came in by."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import rdpcap, wrpcap

from native.tests.system import harness
from native.tests.system.harness import FN_ERRORS, FN_STEER, Envelope, run, sid, srv6, tables, tcp

OWN = "5f00:1:21::"
HASHER = "5f00:1:11::"
FLOWS = 200


def test_strays_go_to_their_owner(tmp_path: Path) -> None:
    """The same packets come in by both queues, so half of them are strays. All leave, each with its flow's owner."""
    packets = [
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        / srv6(sid(HASHER, FN_ERRORS), [sid(OWN, FN_STEER, number % 7 << 32)], 0, tcp(20000 + number, "S", hlim=63))
        for number in range(FLOWS)
    ]
    wrpcap(str(tmp_path / "in.pcap"), packets)
    # The flows' hand-over takes a few turns after the last packet came: max_packets is not used, SIGTERM ends it.
    options = {
        "port": {"kind": "vdev", "args": ",".join(
            ["net_pcap0"] + 2 * [f"rx_pcap={tmp_path}/in.pcap"] + [f"tx_pcap={tmp_path}/out{i}.pcap" for i in range(2)]
        )},
        "eal": ["--no-huge", "-m", "128"], "locator": OWN, "threads": 2, "idle_us": 200, "pins": 65536,
        "fabric_mtu": 2000, "next_hop": {"mode": "fixed", "mac": "02:00:00:00:00:03"},
        "runtime_dir": str(tmp_path / "run"), "state_dir": str(tmp_path / "state"),
    }  # fmt: skip
    (tmp_path / "tables.json").write_text(json.dumps(tables(agents=2, own=OWN)))
    node = harness.Node("router", tmp_path, "", None, OWN, options)  # type: ignore[arg-type]
    node.start("--tables", tmp_path / "tables.json")
    harness.wait_for(lambda: node.count("offered") == 2 * FLOWS, "all packets are offered")
    counters = node.counters()
    assert counters["rx"] == 2 * FLOWS
    assert counters["handoff"] > 0
    assert sum(value for name, value in counters.items() if name in node.telemetry("/og/verdicts")) == (
        counters["rx"] + counters["handoff"]
    ), "a stray counts as handoff where it came in and under its verdict at its owner"
    assert node.telemetry("/og/info")["threads"] == 2
    beat = node.heartbeat()["loops"]
    harness.wait_for(lambda: node.heartbeat()["loops"] > beat, "both threads turn")
    assert node.stop() == 0
    captures = [[Ether(bytes(frame)) for frame in rdpcap(str(tmp_path / f"out{i}.pcap"))] for i in range(2)]
    # All but the probes, which are UDP.
    by_thread = [{Envelope.read(frame).inner for frame in side if frame[IPv6].nh != 17} for side in captures]
    assert not by_thread[0] & by_thread[1], "a flow was handled by two threads"
    assert len(by_thread[0] | by_thread[1]) == FLOWS
    assert min(map(len, by_thread)) > FLOWS // 5, "both threads own flows"


def affinity(process: int) -> dict[str, set[int]]:
    """Return the processors each thread may use, by its name."""
    found = {}
    for task in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one that has ended meanwhile
            found[(task / "comm").read_text().strip()] = os.sched_getaffinity(int(task.name))
    return found


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor: all threads share it")
def test_nothing_else_runs_on_the_processor_of_a_poll_thread(tmp_path: Path) -> None:
    """Else a document of the control daemon stops the packets for as long as it takes to read."""
    own, *others = sorted(os.sched_getaffinity(0))
    options = {
        "port": {"kind": "vdev", "args": "net_null0"}, "eal": ["--no-huge", "-m", "128", f"--lcores=0@{own}"],
        "locator": OWN, "threads": 1, "idle_us": 200, "pins": 65536, "fabric_mtu": 2000,
        "next_hop": {"mode": "fixed", "mac": "02:00:00:00:00:03"},
        "runtime_dir": str(tmp_path / "run"), "state_dir": str(tmp_path / "state"),
    }  # fmt: skip
    (tmp_path / "tables.json").write_text(json.dumps(tables(agents=2, own=OWN)))
    node = harness.Node("router", tmp_path, "", None, OWN, options)  # type: ignore[arg-type]
    node.start("--tables", tmp_path / "tables.json")
    assert node.process is not None
    found = affinity(node.process.pid)
    assert found.pop("og-router") == {own}
    assert found.pop("og-tables") == set(others)
    assert not [name for name, cpus in found.items() if own in cpus]
    assert node.stop() == 0


def test_version_and_help() -> None:
    for program in (harness.HASHER, harness.ROUTER, harness.PORT):
        assert run(program, "--version").stdout.startswith(f"{program.name} ")
        assert "usage: " in run(program, "--help").stdout
        assert run(program, "--frobnicate", check=False).returncode == 2
