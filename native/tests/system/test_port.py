# SPDX-License-Identifier: Apache-2.0
"""og-port: idempotent, changes mode and destinations in place, leaves others' programs alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet6 import IPv6

from native.tests.system import harness
from native.tests.system.harness import VIP, Node, run

LOCATOR = "5f00:1:11::/64"


def status(node: Node) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(node.port("status", "--json").stdout)
    return document


def test_attach_is_idempotent(hasher: Node) -> None:
    before = status(hasher)
    assert before["attached"]
    assert before["mode"] == "native"
    assert sorted(before["destinations"]) == ["2001:db8:1::80/128", "5f00:1:11::/64"]
    again = hasher.port("attach", "--locator", LOCATOR, "--vip", VIP)
    assert again.stdout == "fab0: native mode, 2 destinations, unchanged\n"
    assert status(hasher)["program_id"] == before["program_id"]


def test_destinations_change_under_the_running_program(hasher: Node) -> None:
    before = status(hasher)
    assert hasher.port("attach", "--locator", LOCATOR, "--vip", "2001:db8:1::81").stdout.endswith(" changed\n")
    after = status(hasher)
    assert after["program_id"] == before["program_id"]
    assert sorted(after["destinations"]) == ["2001:db8:1::81/128", "5f00:1:11::/64"]


def test_mode_changes_and_the_data_plane_goes_on(hasher: Node) -> None:
    """Generic and back: the pinned map, and so the socket in it, stays."""
    hasher.start()
    hasher.load(harness.tables())
    for mode in ("generic", "native"):
        assert hasher.port("attach", "--locator", LOCATOR, "--vip", VIP, "--mode", mode).stdout.endswith(" changed\n")
        assert status(hasher)["mode"] == mode
        before = hasher.count("steered")
        hasher.wire.send(harness.tcp(46000, "S"))
        wait_steered(hasher, before + 1, mode)


def wait_steered(node: Node, wanted: int, mode: str) -> None:
    harness.wait_for(lambda: node.count("steered") == wanted, f"steered in {mode} mode")


def test_counters(hasher: Node) -> None:
    def counters() -> dict[str, int]:
        values: dict[str, int] = status(hasher)["counters"]
        return values

    before = counters()
    hasher.wire.send(harness.tcp(47000, "S"))
    hasher.wire.send(IPv6(src=harness.CLIENT, dst="5f00:1:11:0:20::"))
    hasher.wire.send(IPv6(src=harness.CLIENT, dst="5f00:1:12:0:20::"))
    harness.wait_for(lambda: counters()["unbound"] == before["unbound"] + 2, "own SIDs and VIPs, no data plane")
    harness.wait_for(lambda: counters()["passed"] > before["passed"], "another node's SID is not ours")


def test_detach(hasher: Node) -> None:
    assert hasher.port("detach").stdout == "fab0: detached\n"
    assert hasher.port("detach").stdout == "fab0: unchanged\n"
    assert status(hasher)["mode"] == "none"
    assert hasher.pin_dir
    assert list(hasher.pin_dir.iterdir()) == []


def test_foreign_program_is_left_alone(hasher: Node) -> None:
    hasher.port("detach")
    source = hasher.directory / "foreign.bpf.c"
    source.write_text(
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
        'SEC("xdp") int foreign(struct xdp_md *ctx) { (void)ctx; return XDP_PASS; }\n'
    )
    multiarch = run("gcc", "-print-multiarch").stdout.strip()
    run("clang", "-O2", "-target", "bpf", "-isystem", f"/usr/include/{multiarch}", "-c", source, "-o", "foreign.o")
    try:
        harness.ip(hasher.namespace, "link", "set", "fab0", "xdpdrv", "obj", "foreign.o", "sec", "xdp")
    finally:
        Path("foreign.o").unlink()
    result = hasher.port("attach", "--locator", LOCATOR, "--vip", VIP, check=False)
    assert result.returncode == 1
    assert 'fab0: the XDP program "foreign"' in result.stderr
    assert "is not ours" in result.stderr
    assert hasher.port("detach").stdout.startswith("fab0: ")
    assert status(hasher)["program"] == "foreign"


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["attach", "--interface", "nope0", "--locator", LOCATOR], 1, "nope0: no such interface"),
        (["attach", "--interface", "lo"], 2, "attach: --locator is missing"),
        (["attach", "--interface", "lo", "--locator", "5f00:1:11::"], 2, "--locator: not an IPv6 prefix of length 64"),
        (["attach", "--interface", "lo", "--locator", "5f00:1:11::1/64"], 2, "--locator: not an IPv6 prefix "),
        (["attach", "--interface", "lo", "--locator", LOCATOR, "--vip", "x"], 2, '--vip: not an IPv6 address: "x"'),
        (["attach", "--interface", "lo", "--locator", LOCATOR, "--mode", "fast"], 2, "--mode: neither native nor "),
        (["attach", "--interface", "lo", "--locator", LOCATOR, "--pin-dir", "/tmp"], 1, "pin directory /tmp is not"),
        (["attach", "--locator", LOCATOR], 2, "--interface is missing"),
        (["frobnicate", "--interface", "lo"], 2, "neither attach, detach nor status: "),
    ],
)
def test_errors_name_what_is_wrong(arguments: list[str], code: int, error: str) -> None:
    result = run(harness.PORT, *arguments, check=False)
    assert result.returncode == code
    assert result.stderr.startswith(f"og-port: {error}"), result.stderr
