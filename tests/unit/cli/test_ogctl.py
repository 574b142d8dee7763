# SPDX-License-Identifier: Apache-2.0
"""ogctl on a node made of real sockets and files, and over an inventory with a real ssh command line in its place."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time

import pytest

from og.cli import fleet, show
from og.cli.__main__ import main
from og.cli.node import Paths, check, status
from og.jsonsock import Server
from tests.unit.telemetry.test_telemetry import serve


@pytest.fixture
def node(tmp_path):
    class Node:
        paths = Paths(config=tmp_path / "etc", runtime=tmp_path / "run")

        def __init__(self):
            self.servers = []

        def serve(self, name, answer):
            server = Server(str(self.paths.runtime / name), lambda _: answer)
            server.start()
            self.servers.append(server)

    made = Node()
    made.paths.config.mkdir()
    made.paths.runtime.mkdir()
    yield made
    for server in made.servers:
        server.close()


DATA_PLANE = {"ok": True, "generation": 7, "digest": "ab" * 32, "incarnation": "1", "serving": True, "suspect": []}
CONTROL = {
    "node": "ogr_w1",
    "applied": True,
    "detail": "",
    "policy": {"name": "", "digest": "", "error": ""},
    "consul": {"west/web": ""},
    "members": [{"name": "agent_w1", "kind": "agent", "weight": 100, "reason": ""}],
}


def router(node, data_plane=DATA_PLANE, control=CONTROL):
    (node.paths.config / "router.json").write_text("{}")
    if data_plane:
        node.serve("router.sock", data_plane)
    if control:
        node.serve("control.sock", control)


def test_a_host_without_anything(node, capsys):
    assert main(["status"], node.paths) == 1
    assert "neither a gateway node nor an application host" in capsys.readouterr().out
    assert main(["counters"], node.paths) == 1
    assert "no data plane on this host" in capsys.readouterr().err


def test_status_names_what_is_wrong(node, capsys):
    router(
        node,
        {**DATA_PLANE, "suspect": ["agent_w2"]},
        {
            **CONTROL,
            "applied": False,
            "detail": "tables 8 refused: slots",
            "policy": {"name": "", "digest": "", "error": "policy.yml:2:1: x"},
            "consul": {"west/web": "no leader", "west/og-router": ""},
        },
    )
    assert main(["status", "--json", "--interval", "0"], node.paths) == 1
    facts = json.loads(capsys.readouterr().out)
    assert (facts["node"], facts["role"], facts["generation"], facts["suspect"]) == (
        "ogr_w1",
        "router",
        7,
        ["agent_w2"],
    )
    problems = "\n".join(facts["problems"])
    for expected in ("agent_w2 does not answer probes", "tables 8 refused", "policy.yml:2:1", "west/web: no leader"):
        assert expected in problems
    assert "west/og-router" not in problems


def test_a_dead_data_plane(node):
    router(node, None)
    facts = status(node.paths, 0)
    assert (facts["running"], facts["suspect"], facts["ok"]) == (False, [], False)
    assert any("router.sock" in problem for problem in facts["problems"])


@pytest.mark.parametrize(
    ("agent", "problem"),
    [
        ({"attached": True, "services": {"web": {"listener": True}}}, None),
        ({"attached": False, "services": {}}, "programs not attached"),
        ({"attached": True, "services": {"web": {"listener": False}}}, "web: no listener"),
        ({"attached": True, "time": 1}, "s old"),
        ("[", "not a status"),
        (None, "No such file"),
    ],
)
def test_agents(node, agent, problem):
    (node.paths.config / "agent.json").write_text("{}")
    if agent is not None:
        text = agent if isinstance(agent, str) else json.dumps({"time": time.time(), **agent})
        (node.paths.runtime / "agent.status.json").write_text(text)
    facts = status(node.paths, 0)
    assert facts["role"] == "agent"
    assert [problem in found for found in facts["problems"]] == ([] if problem is None else [True])


def test_check(node, capsys):
    assert "no data plane" in check(node.paths, tables=True)
    router(node, {**DATA_PLANE, "generation": 0}, {**CONTROL, "applied": False, "detail": "waiting"})
    assert check(node.paths, tables=False) == ""
    assert check(node.paths, tables=True) == "control daemon: waiting"
    assert main(["check", "--process"], node.paths) == 0
    assert main(["check", "--timeout", "0.3"], node.paths) == 1
    assert "waiting" in capsys.readouterr().err


def test_check_waits(node):
    router(node, None, None)

    def late():
        time.sleep(0.5)
        router(node)

    thread = threading.Thread(target=late)
    thread.start()
    assert main(["check", "--timeout", "20"], node.paths) == 0
    thread.join()


INVENTORY = """
all:
  vars: {ansible_connection: community.docker.docker, ansible_host: "lab-{{ inventory_hostname }}"}
  children:
    gateways: {children: {hashers: {hosts: {h1: {}}}, routers: {hosts: {r1: {}}}}}
    agents:
      hosts: {a1: {ansible_connection: ssh, ansible_host: 2001:db8::1, ansible_user: root, ansible_port: 2222}}
    clients: {hosts: {c1: {}}}
"""


def test_inventory(tmp_path, monkeypatch):
    (tmp_path / "hosts.yml").write_text(INVENTORY)
    monkeypatch.setattr(fleet, "_containers", lambda: {"h1": "oglab-h1"})
    hosts = {host.name: host for host in fleet.read_hosts(str(tmp_path / "hosts.yml"))}
    assert list(hosts) == ["h1", "r1", "a1"]
    assert hosts["h1"].prefix == ("docker", "exec", "oglab-h1")
    assert hosts["r1"].prefix == ("docker", "exec", "r1")  # not running: docker itself will say so
    assert hosts["a1"].prefix[-4:] == ("-p", "2222", "root@2001:db8::1", fleet.AS_ROOT)


@pytest.mark.parametrize(("user", "asked"), [("0", "--help"), ("1000", "sudo -n {program} --help")])
def test_over_ssh_who_is_not_root_asks_sudo(tmp_path, user, asked):
    """The line that the shell at the other end gets, as ssh puts it together of its arguments."""
    program = tmp_path / "ogctl"
    for name, text in (("id", f"echo {user}"), ("sudo", 'echo "sudo $*"'), ("ogctl", 'echo "$*"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    line = " ".join((fleet.AS_ROOT, str(program), "--help"))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "s": "rm"}
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == asked.format(program=program)


def test_inventory_that_is_none(tmp_path, capsys):
    assert main(["--inventory", str(tmp_path / "none"), "status"]) == 1
    assert "no host in the groups hashers, routers, agents" in capsys.readouterr().err


def test_asking_nodes(tmp_path, monkeypatch):
    program = tmp_path / "ogctl"
    program.write_text('#!/bin/sh\necho "{\\"rx\\": 3, \\"said\\": \\"$*\\"}"\n')
    program.chmod(0o755)
    monkeypatch.setattr(fleet, "PROGRAM", str(program))
    hosts = [
        fleet.Host("good", "routers", ("env",)),
        fleet.Host("bad", "routers", ("sh", "-c", "echo gone >&2; exit 7", "x")),
    ]
    answers = fleet.ask_all(hosts, ["counters"])
    assert answers["good"] == {"rx": 3, "said": "counters --json"}
    assert answers["bad"]["problems"] == ["ogctl does not answer: gone"]
    text = show.counters(answers)
    assert "rx" in text
    assert "bad: ogctl does not answer: gone" in text


# What a router of two sites answered to /og/why, and a hasher.
ROUTER_WHY = {
    "service": "web",
    "hash": "8c2e41f6a90d7b35",
    "thread": 0,
    "generation": 7,
    "digest": "ab" * 32,
    "pin": "pinned",
    "target_dead": 0,
    "target": "agent_w2",
    "slot": 35885,
    "bucket": 311,
    "share": 512,
    "picks": ["agent_w2", "agent_w1"],
    "history": ["agent_w3"],
    "site": "east",
    "router": "ogr_e1",
    "reason": "its bucket is within the share of another site",
}
HASHER_WHY = {
    **{key: ROUTER_WHY[key] for key in ("service", "hash", "thread", "generation", "digest", "slot")},
    "site": "west",
    "router": "ogr_w1",
    "reason": "its slot",
}


def telemetry_of(monkeypatch, tmp_path, answers):
    path = tmp_path / "telemetry"

    def answer(command):
        name, _, parameters = command.decode().partition(",")
        return json.dumps(
            {name: answers.get(parameters, {"error": "service: there is none of this name or index"})}
        ).encode()

    seen = serve(path, answer)
    monkeypatch.setattr("og.cli.node.default_path", lambda _: str(path))
    return seen


def test_why_on_a_node(node, monkeypatch, tmp_path, capsys):
    router(node)
    seen = telemetry_of(monkeypatch, tmp_path, {"2001:db8::1;4711;web": ROUTER_WHY})
    arguments = ["why", "2001:0db8::1", "4711"]
    assert main([*arguments, "--service", "web"], node.paths) == 0
    text = capsys.readouterr().out
    for expected in ("agent_w2, agent_w1", "bucket of 1024  311", "leave of 1024   512", "within the share", "pinned"):
        assert expected in text
    assert main([*arguments, "--service", "web", "--json"], node.paths) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["role"], facts["reason"], facts["generation"]) == ("router", ROUTER_WHY["reason"], 7)
    assert main(arguments, node.paths) == 1
    assert "service: there is none of this name or index" in capsys.readouterr().out
    assert seen[-1] == b"/og/why,2001:db8::1;4711;0"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(["2001:db8::zz", "1"], "IPv6 address"), (["::1", "65536"], "port"), (["::1", "x"], "port")],
)
def test_why_of_what_is_no_client(arguments, error, capsys):
    with pytest.raises(SystemExit):
        main(["why", *arguments])
    assert f"invalid {error} value" in capsys.readouterr().err


def test_why_everywhere_shows_the_hashers_and_the_router_they_pick():
    answers = {
        "ogh_w1": {**HASHER_WHY, "role": "hasher"},
        "ogr_w1": {**ROUTER_WHY, "role": "router"},
        "ogr_w2": {**ROUTER_WHY, "role": "router"},
        "ogr_w3": fleet.unreachable("ogr_w3", "no answer"),
    }
    picked = fleet.picked(answers)
    assert list(picked) == ["ogh_w1", "ogr_w1", "ogr_w3"]
    text = show.why(picked)
    assert "ogh_w1 (hasher)" in text
    assert "ogr_w3: no answer" in text
    assert "ogr_w2" not in text


def test_status_shows_shares(node, capsys):
    spill = {
        "shares": [{"service": "web", "site": "east", "share": 256}],
        "spill": {"writer": "ogr_w2", "is_writer": False, "reasons": {"web": "390 offered, 270 stay"}, "trouble": ""},
        "history": {"web": 3},
        "site": "west",
    }
    router(node, control={**CONTROL, **spill})
    main(["status", "--interval", "0"], node.paths)
    line = capsys.readouterr().out.splitlines()[-1]
    assert re.split(r"\s{2,}", line) == ["west", "web", "east", "25.0 %", "390 offered, 270 stay", "ogr_w2", "3"]


def test_tables_align_and_tell_who_disagrees():
    facts = {"role": "router", "ok": True, "generation": 3, "rates": {"rx_per_s": 1.5}, "pins": {"count": 10}}
    text = show.status({"a": {**facts, "digest": "11" * 32}, "long-name": {**facts, "digest": "22" * 32}})
    lines = text.splitlines()
    assert lines[0].index("role") == lines[1].index("router") == lines[2].index("router")
    assert "routers run 2 different tables" in text
    assert "different" not in show.status({"a": {**facts, "digest": "11"}, "b": {**facts, "digest": "11"}})
    assert show.table(("n",), []) == "n\n"


def test_releases_that_differ_are_said():
    def facts(current, running):
        return {"problems": [], "release": {"current": current, "previous": "", "running": {"og-router": running}}}

    assert "release" not in show.status({"x": facts("a", "a"), "y": facts("a", "a")})
    text = show.status({"x": facts("a", "a"), "y": facts("b", "a")})
    assert "nodes have 2 different releases: a, b" in text
    assert "y: og-router runs release a, current is b" in text


def test_status_tells_the_release(node, tmp_path):
    (tmp_path / "og/releases/0123456789abcdef").mkdir(parents=True)
    (tmp_path / "og/releases/0123456789abcdef/manifest.json").write_text("{}")
    (tmp_path / "og/current").symlink_to("releases/0123456789abcdef")
    paths = Paths(node.paths.config, node.paths.runtime, tmp_path / "og")
    router(node)
    assert status(paths, 0)["release"]["current"] == "0123456789abcdef"
