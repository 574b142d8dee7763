# SPDX-License-Identifier: Apache-2.0
"""Bad input is refused by name and changes nothing: table documents, requests, options."""

from __future__ import annotations

import copy
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from native.tests.system import harness
from native.tests.system.harness import Node, run, tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OWN = "5f00:1:21::"
GOOD = tables(generation=5, routers=2, agents=2, own=OWN) | {
    "history": [{"service": "web", "agents": [[0, 100], [1, 50], [77, 100]]}],
    "spill": [{"service": "web", "site": "east"}],
}


def put(document: Any, path: str, value: Any) -> Any:
    """A copy of the document with one place changed; `...` as the value removes it."""
    copied = copy.deepcopy(document)
    at = copied
    *way, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    for step in way:
        at = at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return copied


BAD_TABLES = [
    ("format", 2, "format: this data plane reads format 1, not 2"),
    ("format", ..., "format: is missing"),
    ("generation", 0, "generation: 0 is not in 1.."),
    ("generation", 5, "generation: 5 is not above the running one, 5"),
    ("generation", "6", 'generation: not an integer: "6"'),
    ("digest", "ab", 'digest: not 64 hexadecimal digits: "ab"'),
    ("flow_seed", "zz" * 16, "flow_seed: not 32 hexadecimal digits: "),
    ("own_site", "north", 'own_site: not in sites: "north"'),
    ("sites", ["west", "west"], 'sites[1]: same as sites[0]: "west"'),
    ("sites", "west", 'sites: not an array: "west"'),
    ("slots", 65536, "slots: not a prime in 3..655373: 65536"),
    ("sr_domain/1", "5f00::1/16", 'sr_domain[1]: has bits set beyond its length: "5f00::1/16"'),
    ("sr_domain/0", "5f00::", 'sr_domain[0]: not an IPv6 prefix: "5f00::"'),
    ("services/0/protocol", "sctp", 'services[0].protocol: neither tcp nor udp: "sctp"'),
    ("services/0/port", 0, "services[0].port: 0 is not in 1..65535"),
    ("services/0/index", 64, "services[0].index: 64 is not in 0..63"),
    ("services/0/vip", "10.0.0.1", 'services[0].vip: not an IPv6 address: "10.0.0.1"'),
    ("services/0/vip", "ff02::1", "services[0].vip: not a global unicast address"),
    ("services/0/idle_s", 0, "services[0].idle_s: 0 is not in 1.."),
    ("services/0/color", "red", 'services[0]: unknown member "color"'),
    ("routers/1/id", 0, "routers[1].id: used twice: 0"),
    ("routers/1/name", "ogr_w1", 'routers[1].name: used twice: "ogr_w1"'),
    ("routers/1/locator", "5f00:1:21::", 'routers[1].locator: same as that of "ogr_w1"'),
    ("routers/0/weight", -1, "routers[0].weight: -1 is not in 0..65535"),
    ("agents/1/locator", "5f00::zz", 'agents[1].locator: not an IPv6 address: "5f00::zz"'),
    ("agents/1/locator", "5f00:1:32::1", "agents[1].locator: not a locator (the last 64 bits must be zero): "),
    ("agents/0/site", "north", 'agents[0].site: not in sites: "north"'),
    ("agents/0/services/0", "mail", 'agents[0].services[0]: no such service: "mail"'),
    ("agents/0/name", "", "agents[0].name: is empty"),
    ("agents/0/name", "x" * 64, "agents[0].name: longer than 63 bytes"),
    ("agents/0/id", 1024, "agents[0].id: 1024 is not in 0..1023"),
    ("agents/0/dead", "yes", 'agents[0].dead: neither true nor false: "yes"'),
    ("routers/1/dead", 1, "routers[1].dead: neither true nor false: 1"),
    ("history", {}, "history: not an array: {}"),
    ("history/0/service", "mail", 'history[0].service: no such service: "mail"'),
    ("history/0/color", "red", 'history[0]: unknown member "color"'),
    ("history/0/agents", ..., "history[0].agents: is missing"),
    ("history/0/agents/0", 7, "history[0].agents[0]: not a pair of id and weight"),
    ("history/0/agents/0", [7], "history[0].agents[0]: not a pair of id and weight"),
    ("history/0/agents/1/0", 1024, "history[0].agents[1][0]: 1024 is not in 0..1023"),
    ("history/0/agents/1/1", -1, "history[0].agents[1][1]: -1 is not in 0..65535"),
    ("history/0/agents/1/0", 0, "history[0].agents[1]: id 0 is there before"),
    ("history", [{"service": "web", "agents": []}] * 33, 'history[32].service: more than 32 memberships of "web"'),
    ("spill", "east", 'spill: not an array: "east"'),
    ("spill/0/site", "north", 'spill[0].site: not in sites: "north"'),
    ("spill/0/site", "west", 'spill[0].site: the own one: "west"'),
    ("spill/0/service", "mail", 'spill[0].service: no such service: "mail"'),
    ("spill", [{"service": "web", "site": "east"}] * 2, "spill[1]: same service and site as spill[0]"),
    ("gateways/0", "fab0", 'gateways[0]: not an IPv6 address: "fab0"'),
    ("gateways", {}, "gateways: not an array: {}"),
    ("extra", 1, 'unknown member "extra"'),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with harness.node("router", tmp_path_factory.mktemp("documents") / "n") as node:
        node.start()
        assert node.load(GOOD)["ok"]
        yield node


@pytest.mark.parametrize(("path", "value", "error"), BAD_TABLES, ids=[f"{row[0]}={row[1]!s:.20}" for row in BAD_TABLES])
def test_bad_tables_are_refused_by_name(running: Node, path: str, value: Any, error: str) -> None:
    before = (running.directory / "state" / "router.tables.json").read_text()
    document = put(GOOD | {"generation": 6}, path, value)
    reply = running.load(document)
    assert reply["ok"] is False
    assert reply["error"].startswith(error), reply["error"]
    assert running.request({"op": "status"})["generation"] == 5
    assert (running.directory / "state" / "router.tables.json").read_text() == before


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b'{"op": "load"}', "tables: is missing"),
        (b'{"op": "fly"}', "op: neither load, status nor shares"),
        (b"[]", "op: neither load, status nor shares"),
        (b"{", "not a JSON document: column 1: "),
        (b'{"op": "load", "tables": []}', "not a JSON object"),
        (b'{"op": "load", "tables": {}, "force": 1}', "force: neither true nor false"),
        (b'{"op": "status", "op": "load"}', "not a JSON document: column "),
    ],
)
def test_bad_requests_are_refused(running: Node, line: bytes, error: str) -> None:
    reply = running.request(line)
    assert reply["ok"] is False
    assert reply["error"].startswith(error), reply["error"]


def test_force_goes_back(running: Node) -> None:
    assert running.load(GOOD | {"generation": 4}, force=True) == {"ok": True, "generation": 4}
    assert running.load(GOOD) == {"ok": True, "generation": 5}


def test_accepted_document_is_kept(running: Node) -> None:
    kept = json.loads((running.directory / "state" / "router.tables.json").read_text())
    assert kept == GOOD
    assert not list((running.directory / "state").glob("*.new"))


def test_one_connection_many_requests(running: Node) -> None:
    """Requests may come in pieces, several in one, and a client may leave in the middle of one."""
    path = str(running.directory / "run" / "router.sock")
    with socket.socket(socket.AF_UNIX) as rude:
        rude.connect(path)
        rude.sendall(b'{"op": "sta')
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(harness.DEADLINE)
        client.connect(path)
        client.sendall(b'{"op": "status"}\n{"op": "sta')
        with client.makefile("rb") as stream:
            assert json.loads(stream.readline())["ok"]
            client.sendall(b'tus"}\n')
            assert json.loads(stream.readline())["ok"]


OPTIONS: dict[str, Any] = {
    "port": {"kind": "vdev", "args": "net_null0"},
    "eal": ["--no-huge"],
    "locator": OWN,
    "threads": 1,
    "idle_us": 200,
    "pins": 4096,
    "fabric_mtu": 2000,
    "next_hop": {"mode": "fixed", "mac": "02:00:00:00:00:01"},
}

BAD_OPTIONS = [
    ("port/kind", "tap", 'port.kind: neither af_xdp, vdev nor pci: "tap"'),
    ("port", ..., "port: is missing"),
    ("port/arg", "x", 'port: unknown member "arg"'),
    ("locator", "5f00:1:21::/64", 'locator: not an IPv6 address: "5f00:1:21::/64"'),
    ("locator", "5f00:1:21::1", "locator: not a locator (the last 64 bits must be zero)"),
    ("threads", 0, "threads: 0 is not in 1..32"),
    ("idle_us", 100000, "idle_us: 100000 is not in 0..5000"),
    ("fabric_mtu", 1500, "fabric_mtu: 1500 is not in 1536..65535"),
    ("fabric_mtu", ..., "fabric_mtu: is missing"),
    ("dscp", 64, "dscp: 64 is not in 0..63"),
    ("next_hop/mac", "02:00", 'next_hop.mac: not a MAC address: "02:00"'),
    ("next_hop/mac", "03:00:00:00:00:01", "next_hop.mac: a multicast MAC address"),
    ("next_hop", {"mode": "kernel"}, "next_hop.mode: kernel needs port.interface"),
    ("eal/0", 7, "eal[0]: not a string: 7"),
    ("telemetry", "yes", 'telemetry: neither true nor false: "yes"'),
    ("idle", 3, 'unknown member "idle"'),
]


def check(program: Path, *arguments: str | Path) -> tuple[int, str]:
    result = run(program, "--check-config", *arguments, check=False)
    return result.returncode, result.stderr


@pytest.mark.parametrize(("path", "value", "error"), BAD_OPTIONS, ids=[f"{r[0]}={r[1]!s:.20}" for r in BAD_OPTIONS])
def test_bad_options_are_refused_by_name(tmp_path: Path, path: str, value: Any, error: str) -> None:
    file = tmp_path / "router.json"
    file.write_text(json.dumps(put(OPTIONS, path, value)))
    code, text = check(harness.ROUTER, "--config", file)
    assert code == 1
    assert text.startswith(f"og-router: {file}: {error}"), text


def test_good_options_and_tables_pass(tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text(json.dumps(OPTIONS))
    (tmp_path / "t.json").write_text(json.dumps(GOOD))
    assert check(harness.ROUTER, "--config", tmp_path / "o.json", "--tables", tmp_path / "t.json") == (0, "")
    code, text = check(harness.HASHER, "--config", tmp_path / "o.json")
    assert (code, text) == (1, f"og-hasher: {tmp_path}/o.json: pins: a hasher has none\n")


def test_files_that_are_not_json(tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text("{\n  port\n}")
    code, text = check(harness.ROUTER, "--config", tmp_path / "o.json")
    assert code == 1
    assert text.startswith(f"og-router: {tmp_path}/o.json: line 2: "), text
    code, text = check(harness.ROUTER, "--config", tmp_path / "none.json")
    assert code == 1
    assert "No such file" in text


def test_missing_port_is_named(tmp_path: Path) -> None:
    options = OPTIONS | {"port": {"kind": "af_xdp", "interface": "nope0", "xsks_map": "/nowhere/xsks_map"},
                         "runtime_dir": str(tmp_path / "run"), "state_dir": str(tmp_path / "state")}  # fmt: skip
    (tmp_path / "o.json").write_text(json.dumps(options))
    result = run(harness.ROUTER, "--config", tmp_path / "o.json", check=False)
    assert (result.returncode, result.stderr) == (1, "og-router: port.interface: no such interface: nope0\n")
