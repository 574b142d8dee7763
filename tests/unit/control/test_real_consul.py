# SPDX-License-Identifier: Apache-2.0
"""The daemon as a process beside a real Consul: health, drains, a killed server, a server that lost its data."""

from __future__ import annotations

import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from og.jsonsock import SocketError
from og.jsonsock import request as ask
from tests.unit.control.builders import config_data, locator_of
from tests.unit.control.tableserver import TableServer

pytestmark = pytest.mark.skipif(shutil.which("consul") is None, reason="no consul binary here")
AGENTS = {f"agent_w{i}": f"5f00:1:3{i}::" for i in range(1, 4)}
EAST_AGENTS = [f"agent_e{i}" for i in range(1, 4)]


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not (result := true()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return result


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


class Consul:
    """One Consul server on loopback, in a directory of its own; `peer` is one of another datacenter to join."""

    def __init__(self, root, site="west", peer=None):
        self.root = root
        self.site = site
        self.http, serf_lan, self.serf_wan, server, grpc = free_ports(5)
        ports = {
            "http": self.http,
            "serf_lan": serf_lan,
            "serf_wan": self.serf_wan,
            "server": server,
            "grpc": grpc,
            "dns": -1,
        }
        self.options = {
            "server": True,
            "bootstrap_expect": 1,
            "bind_addr": "127.0.0.1",
            "node_name": f"mon_{site[0]}1",
            "datacenter": site,
            "data_dir": str(root / "data"),
            "ports": ports,
            "performance": {"raft_multiplier": 1},
            "retry_join_wan": [f"127.0.0.1:{peer.serf_wan}"] if peer else [],
            "retry_interval_wan": "1s",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self):
        (self.root / "consul.json").write_text(json.dumps(self.options))
        command = ["consul", "agent", "-config-file", str(self.root / "consul.json")]
        with (self.root / "consul.log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until(lambda: self.call("GET", "/v1/status/leader") not in (None, "", '""'))

    def kill(self):
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=10)
        try:
            connection.request(method, path, body if body is None or isinstance(body, str) else json.dumps(body))
            response = connection.getresponse()
            text = response.read().decode()
        except OSError:
            return None
        finally:
            connection.close()
        return text if response.status == 200 else None

    def register(self, node, service, locator, status="passing"):
        body = {
            "Node": node,
            "Address": "127.0.0.1",
            "Service": {"Service": service, "Meta": {"locator": locator, "weight": "100", "capacity": "500"}},
            "Check": {"CheckID": "check", "Name": "check", "Status": status, "ServiceID": service},
        }
        until(lambda: self.call("PUT", "/v1/catalog/register", body) == "true")

    def register_all(self):
        place = self.site[0]
        self.register(f"ogr_{place}1", "og-router", locator_of(f"ogr_{place}1"))
        for name in AGENTS:
            name_here = name.replace("_w", f"_{place}")
            self.register(name_here, "web", locator_of(name_here))


class Router:
    """A real og-router on a port that swallows everything; `OG_BIN_DIR` says where the program is."""

    def __init__(self, root, program):
        self.root = root
        options = {
            "port": {"kind": "vdev", "args": "net_null0"},
            "eal": ["--no-huge", "-m", "64", "--no-pci", "--file-prefix", f"og-test-{os.getpid()}", "-l", "0"],
            "locator": "5f00:1:21::",
            "idle_us": 1000,
            "pins": 1024,
            "fabric_mtu": 2000,
            "next_hop": {"mode": "fixed", "mac": "02:00:00:00:00:01"},
            "runtime_dir": str(root),
            "state_dir": str(root),
        }
        (root / "router.json").write_text(json.dumps(options))
        with (root / "router.log").open("w") as log:
            command = [program, "--config", str(root / "router.json")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until((root / "router.sock").exists)

    @property
    def tables(self):
        """What it accepted last, as it wrote it to disk."""
        path = self.root / "router.tables.json"
        return json.loads(path.read_text()) if path.exists() else None

    @property
    def loads(self):
        return ask(str(self.root / "router.sock"), {"op": "status"})["generation"]

    def close(self):
        self.process.terminate()
        assert self.process.wait(20) == 0


PROGRAM = shutil.which("og-router", path=os.environ.get("OG_BIN_DIR", os.environ["PATH"]))


@pytest.fixture(
    params=[
        "table socket alone",
        pytest.param("og-router", marks=pytest.mark.skipif(PROGRAM is None, reason="no og-router: set OG_BIN_DIR")),
    ]
)
def world(tmp_path, request):
    (tmp_path / "control").mkdir()
    (tmp_path / "policy.yml").write_text("version: 1\nservices: {web: {capacity: {connections: 100}}}\n")
    consul = Consul(tmp_path)
    consul.start()
    consul.register_all()
    data_plane = Router(tmp_path, PROGRAM) if request.param == "og-router" else TableServer(tmp_path / "router.sock")
    data = config_data(
        policy=str(tmp_path / "policy.yml"),
        state_dir=str(tmp_path / "control"),
        table_socket=str(tmp_path / "router.sock"),
        control_socket=str(tmp_path / "control.sock"),
        consul_url=f"http://127.0.0.1:{consul.http}",
    )
    (tmp_path / "control.json").write_text(json.dumps(data))
    command = [sys.executable, "-m", "og.control", "--config", str(tmp_path / "control.json")]
    daemon = subprocess.Popen(command, cwd=Path(__file__).parents[3])
    yield consul, data_plane, daemon, str(tmp_path / "control.sock")
    daemon.terminate()
    assert daemon.wait(10) == 0
    consul.kill()
    data_plane.close()


def status(path):
    try:
        return ask(path, {"op": "status"})
    except SocketError:
        return {"applied": False, "consul": {}, "members": []}


def errors_of(path, site):
    return [error for source, error in status(path)["consul"].items() if source.startswith(site)] or [""]


def weights(data_plane):
    return {agent["name"]: agent["weight"] for agent in (data_plane.tables or {"agents": []})["agents"]}


def test_a_day_with_consul(world):
    consul, data_plane, daemon, control = world
    until(lambda: weights(data_plane) == dict.fromkeys(AGENTS, 100))
    assert status(control)["capacity"] == {"web": {"usable": 1500, "total": 1500, "unit": "connections"}}

    consul.register("agent_w2", "web", AGENTS["agent_w2"], "critical")
    until(lambda: weights(data_plane)["agent_w2"] == 0)
    consul.call("PUT", "/v1/kv/og/west/drain/agent_w3", "by hand")
    until(lambda: weights(data_plane) == {"agent_w1": 100, "agent_w2": 0, "agent_w3": 0})
    reasons = {member["name"]: member["reason"] for member in status(control)["members"]}
    assert reasons == {"ogr_w1": "", "agent_w1": "", "agent_w2": "down: check", "agent_w3": "drained in Consul"}
    consul.register("agent_w2", "web", AGENTS["agent_w2"])
    consul.call("DELETE", "/v1/kv/og/west/drain/agent_w3")
    until(lambda: weights(data_plane) == dict.fromkeys(AGENTS, 100))
    digest, loads = data_plane.tables["digest"], data_plane.loads

    consul.kill()
    until(lambda: all(errors_of(control, "west")))
    assert (data_plane.tables["digest"], data_plane.loads) == (digest, loads)

    shutil.rmtree(consul.root / "data")  # it comes back with nothing
    consul.start()
    until(lambda: not any(errors_of(control, "west")))
    until(lambda: any("knows none of 3 members" in note for note in status(control)["notes"]))
    consul.register_all()
    until(lambda: not status(control)["notes"])
    assert (data_plane.tables["digest"], data_plane.loads) == (digest, loads)

    before = cpu_seconds(daemon.pid)
    time.sleep(3)
    assert cpu_seconds(daemon.pid) - before < 1.0  # no busy loop; a busy one takes all of them


def test_two_datacenters(world, tmp_path):
    west, data_plane, _, control = world
    until(lambda: weights(data_plane) == dict.fromkeys(AGENTS, 100))  # the first tables need the own one alone
    until(lambda: all(errors_of(control, "east")))

    (tmp_path / "east").mkdir()
    east = Consul(tmp_path / "east", "east", west)
    east.start()
    try:
        east.register_all()
        until(lambda: weights(data_plane) == dict.fromkeys([*AGENTS, *EAST_AGENTS], 100))
        east.register("agent_e2", "web", locator_of("agent_e2"), "critical")
        until(lambda: weights(data_plane)["agent_e2"] == 0)
        east.call("PUT", "/v1/kv/og/east/drain/agent_e1", "by hand")
        until(lambda: weights(data_plane)["agent_e1"] == 0)
        assert status(control)["capacity"]["web"] == {"usable": 1500, "total": 1500, "unit": "connections"}
        digest, loads = data_plane.tables["digest"], data_plane.loads
    finally:
        east.kill()
    west.register("agent_w1", "web", AGENTS["agent_w1"], "critical")  # the own site goes on
    until(lambda: weights(data_plane)["agent_w1"] == 0)
    west.register("agent_w1", "web", AGENTS["agent_w1"])
    until(lambda: data_plane.tables["digest"] == digest)
    assert data_plane.loads == loads + 2


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_memory(world):
    _, data_plane, daemon, _ = world
    until(lambda: data_plane.tables)
    resident = int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[1]) * resource.getpagesize()
    assert resident < 64 << 20
