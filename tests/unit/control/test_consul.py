# SPDX-License-Identifier: Apache-2.0
"""The HTTP half: answers that are none, index rules, and a scripted server for what a healthy Consul never does."""

from __future__ import annotations

import http.server
import json
import threading

import pytest

from og.control import consul
from og.control.consul import Client, ConsulError, Query, Watch, backoff_s, keys_query, service_query
from og.control.view import Health, parse_drains, parse_instances


class Scripted:
    """An HTTP server on loopback that gives the answers of a script, one per request, and then the last one again."""

    def __init__(self, script):
        self.script = list(script)
        self.requests: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.requests.append(self.path)
                status, headers, body = outer.script.pop(0) if len(outer.script) > 1 else outer.script[0]
                payload = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(payload)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def scripted():
    servers = []

    def start(*script):
        servers.append(Scripted(script))
        return servers[-1]

    yield start
    for server in servers:
        server.server.shutdown()
        server.server.server_close()


def index(number):
    return {"X-Consul-Index": str(number)}


def test_get(scripted):
    server = scripted((200, index(7), [1]))
    client = Client(server.url)
    assert client.get(service_query("web", None)) == consul.Answer([1], 7)
    assert client.get(service_query("web", "east"), 7).index == 7
    assert client.get(keys_query("og/west/drain/", None)).value == [1]
    client.close()
    assert server.requests == [
        "/v1/health/service/web?stale=",
        "/v1/health/service/web?stale=&dc=east&index=7&wait=55s",
        "/v1/kv/og/west/drain/?keys=&stale=",
    ]


def test_a_prefix_without_keys_is_an_answer(scripted):
    assert Client(scripted((404, index(0), b"")).url).get(Query("kv/x")) == consul.Answer([], 1)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((500, index(3), b"rpc error: No cluster leader"), "status 500: rpc error: No cluster leader"),
        ((404, {}, b"no such route"), "status 404"),
        ((200, {**index(3), "X-Consul-KnownLeader": "false"}, []), "knows no leader"),
        ((200, index(3), b"["), "not JSON"),
        ((200, {}, []), "X-Consul-Index is None"),
        ((200, {"X-Consul-Index": "x"}, []), "X-Consul-Index is 'x'"),
        ((200, {**index(3), "Content-Length": "100"}, b"[]"), "timed out"),
    ],
)
def test_not_an_answer(scripted, answer, expected, monkeypatch):
    monkeypatch.setattr(consul, "ANSWER_S", 1 if expected == "timed out" else 10)
    with pytest.raises(ConsulError, match=expected):
        Client(scripted(answer).url).get(Query("x"))


def test_nobody_there():
    with pytest.raises(ConsulError, match=r"127\.0\.0\.1:1: .*refused"):
        Client("http://127.0.0.1:1").get(Query("x"))


def test_a_watch_waits_on_the_index_and_starts_again_when_it_goes_back(scripted, monkeypatch):
    monkeypatch.setattr(consul, "BACKOFF_S", (0.01, 0.01))
    server = scripted(
        (200, index(5), ["a"]),
        (200, index(5), ["a"]),  # the wait is over, nothing new
        (200, index(9), ["b"]),
        (200, index(2), ["c"]),  # restored from a backup
        (500, {}, b"no leader"),
        (200, index(3), "nonsense"),
        (200, index(4), ["d"]),
    )
    told: list[object] = []

    class EnoughError(Exception):
        pass

    def parse(value):
        assert len(server.requests) < 20, told
        if not isinstance(value, list):
            raise ValueError("not a list")
        return value

    def tell(value, error):
        told.append(error or value)
        if value == ["d"]:
            raise EnoughError

    with pytest.raises(EnoughError):
        Watch(server.url, Query("x"), parse, tell).run()  # not in a thread, which would go on asking for ever
    assert told == [
        ["a"],
        ["b"],
        ["c"],
        "status 500: no leader",
        "not a list",
        ["d"],
    ]
    waited = [path.partition("index=")[2].partition("&")[0] for path in server.requests]
    assert waited == ["", "5", "5", "9", "", "", ""]


def test_backoff():
    assert [backoff_s(n, 1.0) for n in (1, 2, 3, 9, 1000)] == [0.5, 1.0, 2.0, 10.0, 10.0]
    assert backoff_s(1, 0.0) == 0.25


CHECK = {"Node": "n", "CheckID": "serfHealth", "Status": "passing"}


def entry(node="n", checks=(), meta=None):
    return {
        "Node": {"Node": node},
        "Service": {"Service": "web", "Meta": {"locator": "5f00:1:31::"} if meta is None else meta},
        "Checks": [CHECK, *({"CheckID": name, "Status": status} for name, status in checks)],
    }


@pytest.mark.parametrize(
    ("checks", "health", "reason"),
    [
        ([], Health.UP, ""),
        ([("service:web", "warning")], Health.UP, ""),
        ([("service:web", "critical")], Health.DOWN, "service:web"),
        ([("serfHealth", "critical")], Health.LOST, "serfHealth"),
        ([("serfHealth", "critical"), ("service:web", "critical")], Health.DOWN, "service:web"),
        ([("_node_maintenance", "critical"), ("a", "critical")], Health.MAINTENANCE, "_node_maintenance"),
        ([("_service_maintenance:web", "critical")], Health.MAINTENANCE, "_service_maintenance:web"),
    ],
)
def test_checks(checks, health, reason):
    (instance,) = parse_instances([entry(checks=checks)])
    assert (instance.health, instance.reason) == (health, reason)


def test_two_registrations_of_a_node_are_one_member():
    down, up = entry(checks=[("c", "critical")]), entry()
    for answer in ([down, up], [up, down]):
        (instance,) = parse_instances(answer)
        assert instance.health is Health.UP


@pytest.mark.parametrize("answer", [None, {}, [None], [{}], [{"Node": {"Node": "n"}}], [{"Node": 1, "Service": {}}]])
def test_nonsense_is_not_an_empty_answer(answer):
    with pytest.raises(ValueError, match="not a"):
        parse_instances(answer)


def test_drains():
    prefix = "og/west/drain/"
    assert parse_drains([prefix, prefix + "a", prefix + "b"], prefix) == {"a", "b"}
    with pytest.raises(ValueError, match="not a list of keys"):
        parse_drains({}, prefix)
