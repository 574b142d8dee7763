# SPDX-License-Identifier: Apache-2.0
"""The daemon as a process beside a real Consul: health, drains, a killed server, a server that lost its data."""

from __future__ import annotations

import base64
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

from og.control.consul import Client
from og.control.lock import Lock
from og.jsonsock import SocketError
from og.jsonsock import request as ask
from tests.unit.control.builders import config_data, locator_of
from tests.unit.control.tableserver import TableServer
from tests.unit.telemetry.test_telemetry import serve

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
        telemetry_socket=str(tmp_path / "telemetry"),
        consul_url=f"http://127.0.0.1:{consul.http}",
    )
    (tmp_path / "control.json").write_text(json.dumps(data))
    command = [sys.executable, "-m", "og.control", "--config", str(tmp_path / "control.json")]
    daemon = subprocess.Popen(command, cwd=Path(__file__).parents[3])
    yield consul, data_plane, daemon, str(tmp_path / "control.sock")
    until((tmp_path / "control.sock").exists)  # before that a signal ends it without a word
    daemon.terminate()
    assert daemon.wait(10) == 0
    consul.kill()
    data_plane.close()


def status(path):
    try:
        return ask(path, {"op": "status"})
    except SocketError:
        return {"applied": False, "consul": {}, "members": [], "spill": {"is_writer": False}}


def errors_of(path, site):
    return [error for source, error in status(path)["consul"].items() if source.startswith(site)] or [""]


def weights(data_plane):
    return {agent["name"]: agent["weight"] for agent in (data_plane.tables or {"agents": []})["agents"]}


def test_a_day_with_consul(world):
    consul, data_plane, daemon, control = world
    until(lambda: weights(data_plane) == dict.fromkeys(AGENTS, 100))
    capacity = {"web": {"usable": 1500, "total": 1500, "unit": "connections"}}
    until(lambda: status(control).get("capacity") == capacity)

    consul.register("agent_w2", "web", AGENTS["agent_w2"], "critical")
    until(lambda: weights(data_plane)["agent_w2"] == 0)
    consul.call("PUT", "/v1/kv/og/west/drain/agent_w3", "by hand")
    until(lambda: weights(data_plane) == {"agent_w1": 100, "agent_w2": 0, "agent_w3": 0})
    reasons = {"ogr_w1": "", "agent_w1": "", "agent_w2": "down: check", "agent_w3": "drained in Consul"}
    until(lambda: {member["name"]: member["reason"] for member in status(control)["members"]} == reasons)
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
        assert status(control)["capacity"]["web"] == {"usable": 1500, "total": 1500, "unit": "connections"}  # of west
        members = data_plane.tables["agents"], data_plane.tables["routers"]
    finally:
        east.kill()
    west.register("agent_w1", "web", AGENTS["agent_w1"], "critical")  # the own site goes on
    until(lambda: weights(data_plane)["agent_w1"] == 0)
    west.register("agent_w1", "web", AGENTS["agent_w1"])
    until(lambda: weights(data_plane)["agent_w1"] == 100)
    assert (data_plane.tables["agents"], data_plane.tables["routers"]) == members


class SpillingRouter:
    """Telemetry of a router whose servers take what the shares in force leave of `offered` new flows per second."""

    def __init__(self, path, data_plane, offered=390.0):
        self.data_plane, self.offered, self.sent, self.at = data_plane, offered, 0.0, time.monotonic()
        serve(path, self.answer)

    def answer(self, command):
        name = command.decode().partition(",")[0]
        share = sum(entry["share"] for entry in self.data_plane.shares) / 1024
        now = time.monotonic()
        self.sent, self.at = self.sent + (now - self.at) * self.offered * share, now
        agent = {"replied": 1, "suspect": 0, "misses": 0, "serving": 1, "draining": 0, "listeners": 1}
        members = {name: {**agent, "accepts_per_s": round(self.offered * (1 - share) / 3)} for name in AGENTS}
        members["ogr_e1"] = {**agent, "accepts_per_s": round(50 + self.offered * share)}
        answers = {
            "/og/members": {name: {"name": name, **fields} for name, fields in members.items()},
            "/og/pins": {"to_sites": 0},
            "/og/counters": {"spilled": int(self.sent), "offered_site": 0},
        }
        return json.dumps({name: answers.get(name)}).encode()


def key(consul, name):
    answer = json.loads(consul.call("GET", f"/v1/kv/og/west/{name}") or "[]")
    return answer[0] if answer else None


def value(consul, name):
    entry = key(consul, name)
    return json.loads(base64.b64decode(entry["Value"])) if entry else None


def test_the_writer_holds_a_site_at_its_target(world, tmp_path):
    """Two Consul datacenters, a daemon, a data plane's table socket and telemetry that follows the shares."""
    west, data_plane, _, control = world
    if not isinstance(data_plane, TableServer):
        pytest.skip("the load is played: a real router has its own")
    (tmp_path / "east").mkdir()
    east = Consul(tmp_path / "east", "east", west)
    east.start()
    try:
        east.register_all()
        policy = "version: 1\nservices: {web: {capacity: {new_per_s: 100}, spill: {target: 0.9}}}\n"
        (tmp_path / "policy.yml").write_text(policy)
        until(lambda: weights(data_plane) == dict.fromkeys([*AGENTS, *EAST_AGENTS], 100))
        SpillingRouter(tmp_path / "telemetry", data_plane)
        until(lambda: status(control)["spill"]["is_writer"])
        held = 1 - 270 / 390
        until(lambda: data_plane.shares and abs(data_plane.shares[0]["share"] / 1024 - held) < 0.02)
        record = value(west, "spill")
        assert (record["writer"], record["shares"][0]["site"]) == ("ogr_w1", "east")
        assert status(control)["spill"]["reasons"] == {"web": "390 offered, 270 stay"}
        assert key(west, "spill-lock")["Session"]

        west.register("agent_w2", "web", AGENTS["agent_w2"], "critical")  # the log goes to Consul too
        until(lambda: (value(west, "history") or {"services": {"web": {"past": []}}})["services"]["web"]["past"])
        (past,) = value(west, "history")["services"]["web"]["past"]
        assert past["agents"] == [[name, 100] for name in AGENTS]
        west.register("agent_w2", "web", AGENTS["agent_w2"])
        until(lambda: weights(data_plane)["agent_w2"])

        west.kill()  # the last shares stay
        until(lambda: all(errors_of(control, "west")))
        shares = data_plane.shares
        until(lambda: not status(control)["spill"]["is_writer"])
        assert data_plane.shares == shares
        assert status(control)["shares"] == shares
        west.start()
        until(lambda: not any(errors_of(control, "west")))
        until(lambda: status(control)["spill"]["is_writer"])
    finally:
        east.kill()


def lock_of(consul, holder):
    return Lock(Client(f"http://127.0.0.1:{consul.http}"), "og/west/spill-lock", holder)


def test_the_lock_has_one_holder_and_only_that_one_writes(world):
    consul, _, _, control = world
    until(lambda: status(control)["applied"])  # this daemon wants no lock: it has no telemetry
    one, two = lock_of(consul, "one"), lock_of(consul, "two")
    assert one.hold(time.monotonic())
    assert not two.hold(time.monotonic())
    assert one.write("og/west/x", {"from": "one"})
    assert not two.write("og/west/x", {"from": "two"})
    assert value(consul, "x") == {"from": "one"}
    consul.call("PUT", f"/v1/session/destroy/{key(consul, 'spill-lock')['Session']}")
    assert not one.write("og/west/x", {"from": "one again"})
    assert not one.held
    until(lambda: two.hold(time.monotonic()))  # after the lock delay
    assert two.write("og/west/x", {"from": "two"})
    assert value(consul, "x") == {"from": "two"}
    two.release()
    assert not key(consul, "spill-lock").get("Session")


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_memory(world):
    _, data_plane, daemon, _ = world
    until(lambda: data_plane.tables)
    resident = int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[1]) * resource.getpagesize()
    assert resident < 64 << 20
