# SPDX-License-Identifier: Apache-2.0
"""The daemon with real files and sockets; events are put in as the watches would. No Consul: see test_real_consul."""

from __future__ import annotations

import json
import threading
import time

import pytest

from og.control.__main__ import main
from og.control.daemon import Daemon, Heard, Stop
from og.control.history import Log, Past
from og.control.policyfile import NoPolicyError
from og.control.shares import Record
from og.control.sources import sources
from og.jsonsock import SocketError, request
from tests.unit.control.builders import config, config_data, instance
from tests.unit.control.tableserver import TableServer

AGENTS = ["agent_w1", "agent_w2", "agent_w3"]


class Node:
    """One node's files, and a daemon that can be started, told things and stopped."""

    def __init__(self, root, role="router"):
        self.root = root
        (root / "control").mkdir(exist_ok=True)
        self.policy = root / "policy.yml"
        self.paths = {
            "policy": str(self.policy),
            "state_dir": str(root / "control"),
            "table_socket": str(root / "router.sock"),
            "control_socket": str(root / "control.sock"),
            "consul_url": "http://127.0.0.1:1",
        }
        self.config = config(role, **self.paths)
        self.thread = None

    def start(self):
        self.daemon = Daemon(self.config)
        self.daemon._watch = lambda: None  # type: ignore[method-assign]  # Consul is played by hear()
        self.daemon._watched = sources(self.config, self.daemon._policy.policy)
        self.thread = threading.Thread(target=self.daemon.run)
        self.thread.start()
        self.until(lambda: self.ask("status"))

    def stop(self):
        if self.thread is not None:
            self.daemon.events.put(Stop())
            self.thread.join(10)
            assert not self.thread.is_alive()
            self.thread = None

    def hear(self, web=AGENTS, routers=("ogr_w1",), error=None, site="west", spill=None, history=None):  # noqa: PLR0917
        values = {
            "web": tuple(instance(n) if isinstance(n, str) else n for n in web),
            "og-router": tuple(instance(name) for name in routers),
            "drain": frozenset(),
            "spill": spill,
            "history": history,
        }
        for source in self.daemon._watched:
            if source.site == site:
                self.daemon.events.put(Heard(source, None if error else values[source.name], error))

    def ask(self, op):
        try:
            return request(self.paths["control_socket"], {"op": op}, timeout_s=30)
        except SocketError:
            return None

    def until(self, true, seconds=20):
        end = time.monotonic() + seconds
        while not (result := true()):
            assert time.monotonic() < end, self.ask("status")
            time.sleep(0.02)
        return result


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path)
    made.policy.write_text("version: 1\n")
    yield made
    made.stop()


@pytest.fixture
def data_plane(node):
    server = TableServer(node.paths["table_socket"])
    yield server
    server.close()


def test_nothing_is_loaded_before_consul_has_answered_everything(node, data_plane):
    node.start()
    status = node.until(lambda: node.ask("status"))
    assert status["detail"] == "waiting for the first answers of Consul"
    node.hear()
    node.until(lambda: data_plane.tables)
    assert [agent["name"] for agent in data_plane.tables["agents"]] == AGENTS
    assert data_plane.tables["generation"] == 1
    assert node.until(lambda: node.ask("status")["applied"])
    assert node.ask("document")["document"] == data_plane.tables


def test_a_burst_is_one_load_and_no_change_is_none(node, data_plane):
    node.start()
    node.hear()
    node.until(lambda: data_plane.loads == 1)
    for state in ("down", "up", "down"):
        node.hear([instance("agent_w1", state), "agent_w2", "agent_w3"])
    node.until(lambda: data_plane.loads > 1)
    node.hear([instance("agent_w1", "down"), "agent_w2", "agent_w3"])
    asked = len(data_plane.asked)
    node.until(lambda: len(data_plane.asked) >= asked + 2)
    assert data_plane.loads == 2
    assert data_plane.tables["generation"] == 2
    assert data_plane.tables["agents"][0]["weight"] == 0


def test_the_other_site_joins_when_it_answers_and_stays_when_it_does_not(node, data_plane):
    node.start()
    node.hear(site="east", error="No path to datacenter")
    node.hear()
    node.until(lambda: data_plane.loads == 1)  # the first tables did not wait for it
    assert {router["site"] for router in data_plane.tables["routers"]} == {"west"}
    node.hear(["agent_e1"], ["ogr_e1"], site="east")
    node.until(lambda: data_plane.loads == 2)
    assert [(a["name"], a["site"], a["weight"]) for a in data_plane.tables["agents"]] == [
        ("agent_e1", "east", 100),
        *((name, "west", 100) for name in AGENTS),
    ]
    node.hear(site="east", error="No path to datacenter")
    node.until(lambda: node.ask("status")["consul"]["east/web"])
    assert data_plane.loads == 2


def record(share, at=0.0, site="east", generation=1):
    return Record(generation, "ogr_w2", frozenset({("web", site, share)}), at, {"web": "because"})


EAST = [{"service": "web", "site": "east", "share": 512}]


def test_published_shares_are_applied_verbatim_and_when_they_are_due(node, data_plane):
    node.start()
    node.hear(spill=record(512))
    node.until(lambda: data_plane.shares == EAST)
    status = node.until(lambda: (s := node.ask("status"))["shares"] and s)
    assert status["shares"] == EAST
    assert (status["spill"]["writer"], status["spill"]["reasons"]) == ("ogr_w2", {"web": "because"})
    due = time.time() + 3
    node.hear(spill=record(100, due))
    node.until(lambda: data_plane.shares != EAST)
    assert time.time() >= due
    assert data_plane.shares == [{"service": "web", "site": "east", "share": 100}]
    node.hear(spill=record(7, time.time() + 1000))  # somebody's clock is wrong
    node.until(lambda: data_plane.shares[0]["share"] == 7)


def test_without_consul_and_over_restarts_the_last_shares_stay(node):
    first = TableServer(node.paths["table_socket"])
    node.start()
    node.hear(spill=record(512))
    node.until(lambda: first.shares == EAST)
    node.hear(error="connection refused")
    node.until(lambda: node.ask("status")["consul"]["west/spill"])
    node.stop()
    first.close()
    second = TableServer(node.paths["table_socket"])
    node.start()
    node.until(lambda: second.shares == EAST)
    node.stop()
    second.close()


def test_what_a_data_plane_kept_itself_stays_where_nobody_knows_better(node, data_plane):
    data_plane.shares = EAST
    node.start()
    node.hear()
    node.until(lambda: node.ask("status")["applied"])
    assert node.ask("status")["shares"] == EAST
    assert data_plane.share_sets == 0


def test_shares_of_an_unknown_site_are_left_out(node, data_plane):
    node.start()
    node.hear(spill=record(512, site="south"))
    node.until(lambda: node.ask("status")["applied"])
    assert (data_plane.shares, data_plane.share_sets) == ([], 0)


def test_an_earlier_membership_is_in_the_tables_and_survives_a_restart(node, data_plane):
    node.start()
    node.hear()
    node.until(lambda: data_plane.loads == 1)
    assert "history" not in data_plane.tables
    node.hear([*AGENTS[:2], instance("agent_w3", "down")])
    node.until(lambda: data_plane.loads == 2)
    ids = {agent["name"]: agent["id"] for agent in data_plane.tables["agents"]}
    before = [{"service": "web", "agents": [[ids[name], 100] for name in AGENTS]}]
    assert data_plane.tables["history"] == before
    node.until(lambda: node.ask("status")["history"] == {"web": 1})  # the status follows the load
    node.stop()
    node.start()
    node.hear([*AGENTS[:2], instance("agent_w3", "down")])
    node.until(lambda: node.ask("status")["applied"])
    assert data_plane.tables["history"] == before
    assert data_plane.loads == 2


def test_a_new_node_takes_the_log_from_consul(node, data_plane):
    now = tuple((name, 100) for name in AGENTS)
    written = {"web": Log(now, (Past(time.time(), now[:2]),))}
    node.start()
    node.hear(history=written)
    node.until(lambda: data_plane.tables)
    ids = {agent["name"]: agent["id"] for agent in data_plane.tables["agents"]}
    assert data_plane.tables["history"] == [{"service": "web", "agents": [[ids[name], 100] for name in AGENTS[:2]]}]
    assert data_plane.loads == 1


def test_a_member_is_dead_when_gossip_and_probes_agree(node, data_plane):
    node.start()
    node.hear([*AGENTS[:2], instance("agent_w3", "lost")])
    node.until(lambda: data_plane.loads == 1)
    assert not any("dead" in agent for agent in data_plane.tables["agents"])
    data_plane.suspect = ["agent_w3", "agent_w2"]
    node.until(lambda: data_plane.loads == 2)
    assert [agent["name"] for agent in data_plane.tables["agents"] if agent.get("dead")] == ["agent_w3"]
    data_plane.suspect = []
    node.until(lambda: data_plane.loads == 3)
    assert not any("dead" in agent for agent in data_plane.tables["agents"])


def test_a_hasher_drains_itself_by_policy_and_leaves_an_operators_drain_alone(tmp_path):
    node = Node(tmp_path, "hasher")
    node.policy.write_text("version: 1\ndrain: [ogh_w1]\n")
    mark = tmp_path / "health.drain"
    node.start()
    node.until(mark.exists)
    node.policy.write_text("version: 1\n")
    node.until(lambda: not mark.exists())
    mark.touch()
    node.policy.write_text("version: 1\ndrain: [ogh_w1]\n")
    assert node.ask("reload")["ok"]
    node.policy.write_text("version: 1\n")
    assert node.ask("reload")["ok"]
    node.stop()
    assert mark.exists()


def test_consul_gone_and_daemon_restarted_tables_stay(node, data_plane):
    node.start()
    node.hear()
    node.until(lambda: data_plane.loads == 1)
    node.hear(error="connection refused")
    node.until(lambda: all(error for source, error in node.ask("status")["consul"].items() if "west" in source))
    node.stop()
    node.start()
    node.until(lambda: node.ask("status")["applied"])
    assert data_plane.loads == 1


def test_a_restarted_data_plane_gets_its_tables_again_without_consul(node):
    first = TableServer(node.paths["table_socket"])
    node.start()
    node.hear()
    node.until(lambda: first.tables)
    node.hear(error="connection refused")
    first.close()
    node.until(lambda: not node.ask("status")["applied"])
    second = TableServer(node.paths["table_socket"])
    node.until(lambda: second.tables)
    assert second.tables == first.tables
    second.close()


def test_a_lost_state_follows_the_data_planes_generation(node, data_plane):
    data_plane.tables = {"generation": 70, "digest": "f" * 64}
    node.start()
    node.hear()
    node.until(lambda: data_plane.loads)
    assert data_plane.tables["generation"] == 71


def test_refused_tables_are_reported_and_not_sent_in_a_loop(node, data_plane):
    data_plane.refuse = "slots: not a prime"
    node.start()
    node.hear()
    node.until(lambda: "refused: slots" in node.ask("status")["detail"])
    asked = data_plane.asked.copy()
    node.until(lambda: len(data_plane.asked) >= len(asked) + 2)
    assert asked.count("load") == data_plane.asked.count("load") == 1


def test_policy_by_request_by_mtime_and_a_bad_one(node, data_plane):
    node.start()
    node.hear()
    node.until(lambda: data_plane.loads == 1)
    node.policy.write_text("version: 1\ndrain: [agent_w1]\n")
    reply = node.ask("reload")
    assert (reply["ok"], reply["applied"], reply["generation"]) == (True, True, 2)
    assert data_plane.tables["agents"][0]["weight"] == 0

    node.policy.write_text("version: 1\ndrain: 7\n")
    reply = node.ask("reload")
    assert not reply["ok"]
    assert "policy.yml:2:1: drain: 7 is not of type 'array'" in reply["error"]
    assert node.ask("status")["policy"]["error"] == reply["error"]
    assert data_plane.loads == 2

    node.stop()  # a bad file does not keep it from starting again with the last good policy
    node.start()
    assert node.until(lambda: node.ask("status")["applied"])
    assert data_plane.loads == 2

    node.policy.write_text("version: 1\n")  # nobody tells the daemon
    node.until(lambda: data_plane.loads == 3)
    node.until(lambda: node.ask("status")["policy"]["error"] == "")


def test_without_any_policy_it_does_not_start(node):
    node.policy.unlink()
    with pytest.raises(NoPolicyError, match=r"policy\.yml"):
        Daemon(node.config)


def test_reload_says_when_the_data_plane_is_not_there(node):
    node.start()
    node.hear()
    reply = node.until(lambda: (answer := node.ask("reload")) and answer["ok"] and answer)
    assert reply["applied"] is False
    assert "router.sock" in reply["detail"]


def test_bad_requests(node):
    node.start()
    assert "unknown op 'x'" in node.ask("x")["error"]
    assert request(node.paths["control_socket"], [1])["error"] == "not a JSON object"  # type: ignore[arg-type]


def test_the_socket_is_for_the_group(node):
    node.start()
    assert (node.root / "control.sock").stat().st_mode & 0o777 == 0o660


def test_check_config(node, capsys):
    file = node.root / "control.json"
    file.write_text(json.dumps(config_data(**node.paths)))
    arguments = ["--config", str(file), "--check-config"]
    assert main(arguments) == 0
    node.policy.write_text("version: 1\nservices: {db: {}}\n")
    assert main(arguments) == 1
    assert "policy.yml:2:12: services.db: no such service; the inventory defines: web" in capsys.readouterr().err
    node.policy.unlink()
    assert main(arguments) == 1
    assert f"{node.policy}: No such file" in capsys.readouterr().err
    file.write_text("{}")
    assert main(arguments) == 1
    with pytest.raises(SystemExit):
        main(["--once"])


def test_events_do_not_pile_up(node, data_plane):
    node.start()
    for _ in range(200):
        node.hear()
    node.until(lambda: data_plane.loads)
    node.until(node.daemon.events.empty)
    assert data_plane.loads == 1
