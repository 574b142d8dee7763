# SPDX-License-Identifier: Apache-2.0
"""og-stats: line protocol, buffer, readers and configuration; the poster against an HTTP server that comes and goes."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from og import jsonsock
from og.configfile import ConfigError
from og.stats import agent, config, control, dataplane
from og.stats.buffer import Buffer
from og.stats.host import Host, parse_cpu_stat, parse_meminfo, parse_net_dev, parse_stat, system_slice
from og.stats.influx import Influx, Outcome, outcome
from og.stats.point import Point, encode, scalars
from og.telemetry import TelemetryError

if TYPE_CHECKING:
    from collections.abc import Iterator

# ---- line protocol


def test_lines_carry_common_and_own_tags() -> None:
    points = [
        Point("og_member", {"member": "a 1"}, {"rtt_us": 7, "ratio": 0.5, "table": 'x"y\\z'}),
        Point("empty", {}, {}),
    ]
    assert encode(points, {"site": "west", "role": ""}, 1234) == (
        b'og_member,member=a\\ 1,site=west rtt_us=7i,ratio=0.5,table="x\\"y\\\\z" 1234\n'
    )


def test_counters_beyond_what_influxdb_stores_stop_at_its_largest_integer() -> None:
    assert encode([Point("m", {}, {"n": (1 << 64) - 1})], {}, 1) == b"m n=9223372036854775807i 1\n"


def test_only_scalars_become_fields() -> None:
    data = {"a": True, "b": 2, "c": [1], "d": None, "e": "t", "f": float("nan"), "g": float("inf"), "h": {}}
    assert scalars(data) == {"a": 1, "b": 2, "e": "t"}


@given(
    st.dictionaries(
        st.text(min_size=1),
        st.one_of(st.integers(), st.text(), st.floats(allow_nan=False, allow_infinity=False)),
        min_size=1,
    )
)
def test_a_point_is_one_line_whatever_it_holds(fields: dict[str, Any]) -> None:
    data = encode([Point("m", {"t": next(iter(fields))}, fields)], {}, 5)
    assert data.count(b"\n") == 1
    assert data.endswith(b" 5\n")


# ---- buffer


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=50), st.integers(1, 200))
def test_buffer_keeps_the_newest_that_fit(batches: list[bytes], limit: int) -> None:
    buffer = Buffer(limit)
    for batch in batches:
        buffer.add(batch)
    kept = batches[buffer.dropped :]
    assert buffer.peek(1 << 20) == (b"".join(kept), len(kept))
    assert buffer.size == sum(map(len, kept))
    assert buffer.size <= limit or len(kept) == 1
    # nothing was dropped that would have fitted
    assert buffer.dropped == 0 or sum(map(len, batches[buffer.dropped - 1 :])) > limit


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=50), st.integers(1, 60))
def test_buffer_gives_everything_once_and_in_order(batches: list[bytes], size: int) -> None:
    buffer = Buffer(1 << 20)
    for batch in batches:
        buffer.add(batch)
    bodies = []
    while len(buffer):
        body, count = buffer.peek(size)
        assert count == 1 or len(body) <= size
        bodies.append(body)
        buffer.remove(count)
    assert b"".join(bodies) == b"".join(batches)
    assert buffer.size == 0


# ---- posting


class Server:
    """An InfluxDB's /write as far as statuses go: records the bodies, answers what it is told to."""

    def __init__(self, port: int = 0) -> None:
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.status = 204
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.paths.append(self.path)
                outer.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.block_on_close = False
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    instance = Server()
    yield instance
    instance.close()


def filled(*batches: bytes) -> Buffer:
    buffer = Buffer(1 << 20)
    for batch in batches:
        buffer.add(batch)
    return buffer


def test_posts_what_is_waiting_in_one_request(server: Server) -> None:
    buffer = filled(b"a\n", b"b\n")
    influx = Influx("127.0.0.1", server.port, "og", 2)
    influx.flush(buffer, 0)
    influx.close()
    assert server.bodies == [b"a\nb\n"]
    assert server.paths == ["/write?db=og&precision=ms"]
    assert (len(buffer), influx.failures, influx.problem) == (0, 0, "")


def test_what_will_never_be_taken_is_counted_and_dropped(server: Server) -> None:
    server.status = 400
    buffer = filled(b"a\n", b"b\n")
    influx = Influx("127.0.0.1", server.port, "og", 2)
    influx.flush(buffer, 0)
    influx.close()
    assert (len(buffer), influx.refused, influx.failures) == (0, 2, 0)
    assert "status 400" in influx.problem


@pytest.mark.parametrize("status", [404, 401, 500, 503])
def test_a_server_that_is_not_ready_is_asked_again_later_and_later(server: Server, status: int) -> None:
    server.status = status
    buffer = filled(b"a\n")
    influx = Influx("127.0.0.1", server.port, "og", 2)
    asked = []
    for second in range(60):
        before = len(server.bodies)
        influx.flush(buffer, float(second))
        if len(server.bodies) > before:
            asked.append(second)
    assert asked == [0, 1, 3, 7, 15, 30, 45]
    assert influx.failures == len(asked)
    server.status = 204
    influx.flush(buffer, 60.0)
    influx.close()
    assert (len(buffer), influx.problem) == (0, "")


def test_lines_written_while_nobody_listened_arrive_in_order() -> None:
    first = Server()
    port = first.port
    buffer = filled(b"1\n")
    influx = Influx("127.0.0.1", port, "og", 2)
    influx.flush(buffer, 0)
    first.close()
    influx.close()  # as the kernel does when the server's host goes
    for batch in (b"2\n", b"3\n"):
        buffer.add(batch)
        influx.flush(buffer, 1)
    assert len(buffer) == 2
    assert influx.failures == 1
    assert "refused" in influx.problem
    second = Server(port)
    influx.flush(buffer, 10)
    influx.close()
    second.close()
    assert (first.bodies, second.bodies) == ([b"1\n"], [b"2\n3\n"])


def test_statuses() -> None:
    assert [outcome(status) for status in (204, 400, 413, 404, 500)] == [
        Outcome.TAKEN, Outcome.REFUSED, Outcome.REFUSED, Outcome.UNAVAILABLE, Outcome.UNAVAILABLE,
    ]  # fmt: skip


# ---- host

STAT = "cpu  100 10 50 800 40 0 5 0 7 0\ncpu0 100 10 50 800 40 0 5 0 7 0\nintr 1\n"
NET_DEV = """Inter-|   Receive                         |  Transmit
 face |bytes    packets errs drop …          |bytes    packets errs drop …
    lo:     900       9 0 0 0 0 0 0 900 9 0 0 0 0 0 0
  fab0: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0
"""


def test_parsing_of_proc() -> None:
    assert parse_stat(STAT) == (165, 1005)
    assert parse_meminfo("MemTotal:  2 kB\nMemFree: 1 kB\nMemAvailable:  1 kB\n") == {
        "memory_total": 2048,
        "memory_available": 1024,
    }
    assert parse_net_dev(NET_DEV, "fab0") == {
        "rx_bytes": 1000, "rx_packets": 10, "rx_dropped": 2, "tx_bytes": 2000, "tx_packets": 20, "tx_dropped": 4,
    }  # fmt: skip
    assert parse_net_dev(NET_DEV, "fab1") == {}
    assert parse_cpu_stat("usage_usec 77\nuser_usec 70\n") == 77
    assert parse_cpu_stat("nr_periods 0\n") is None


@pytest.mark.parametrize(
    ("cgroup", "path"),
    [
        ("0::/system.slice/og-stats.service\n", "/m/system.slice"),
        ("4:memory:/x\n0::/docker/ab12/system.slice/og-stats.service\n", "/m/docker/ab12/system.slice"),
        ("0::/user.slice/user-0.slice/session-1.scope\n", "/m/system.slice"),
        ("", "/m/system.slice"),
    ],
)
def test_place_of_the_units(cgroup: str, path: str) -> None:
    assert system_slice(cgroup, Path("/m")) == Path(path)


def test_this_host_and_a_unit_that_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "system.slice/a.service").mkdir(parents=True)
    (tmp_path / "system.slice/a.service/cpu.stat").write_text("usage_usec 5\n")
    proc = tmp_path / "proc"
    files = {"stat": STAT, "loadavg": "0.5 0 0 1/2 3\n", "meminfo": "MemTotal: 1 kB\n"}
    for name, text in {**files, "net/dev": NET_DEV, "self/cgroup": "0::/\n"}.items():
        (proc / name).parent.mkdir(parents=True, exist_ok=True)
        (proc / name).write_text(text)
    host = Host("fab0", ["a.service", "b.service"], proc, tmp_path)
    first, unit = host.points()
    assert unit == Point("og_unit", {"unit": "a"}, {"cpu_us": 5})
    assert first.fields["load1"] == 0.5
    (proc / "stat").write_text("cpu  200 10 50 1000 40 0 5 0\n")
    assert next(iter(host.points())).fields["cpu"] == round(100 / 300, 4)
    assert next(iter(host.points())).fields["cpu"] == 0.0


def test_the_real_host() -> None:
    point = next(iter(Host("lo", []).points()))
    assert 0 <= float(point.fields["cpu"]) <= 1
    assert point.fields["rx_bytes"] == point.fields["tx_bytes"]


# ---- data plane and agent


class Plane:
    """Answers of a data plane, in the shape docs/interfaces.md gives them."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    def query(self, command: str) -> Any:
        if command not in self.answers:
            raise TelemetryError(command)
        return self.answers[command]


ANSWERS: dict[str, Any] = {
    "/og/info": {
        "role": "router",
        "generation": 7,
        "digest": "ab" * 32,
        "uptime_s": 9,
        "serving": 1,
        "incarnation": 1 << 63,
    },
    "/og/counters": {"pinned": 5, "drop_srh": 2, "drop_tx": 3, "rx": 10},
    "/og/load": {"loops": 100, "busy_loops": 50, "packets": 10, "busy_ns": 900},
    "/og/members": {
        "agent_w1": {
            "name": "agent_w1",
            "kind": "agent",
            "suspect": 0,
            "rtt_us": 80,
            "listeners": [0, 1],
            "incarnation": 5,
        }
    },
    "/og/pins": {"count": 1, "capacity": 100},
}


def test_data_plane_points() -> None:
    plane, member, pins = dataplane.read(Plane(ANSWERS), "router")
    assert plane.measurement == "og_dataplane"
    assert plane.fields["drops"] == 5
    assert plane.fields["table"] == "abababababab"
    assert plane.fields["incarnation"] == str(1 << 63)
    assert {"pinned", "busy_ns", "generation", "uptime_s"} <= set(plane.fields)
    assert member == Point(
        "og_member",
        {"member": "agent_w1", "kind": "agent"},
        {"suspect": 0, "rtt_us": 80, "listeners": 2, "incarnation": "5"},
    )
    assert pins == Point("og_pins", {}, {"count": 1, "capacity": 100})
    assert [p.measurement for p in dataplane.read(Plane(ANSWERS), "hasher")] == ["og_dataplane", "og_member"]


def test_shares_of_a_router() -> None:
    """In parts of 1; a data plane that does not tell them costs no other point."""
    told = dataplane.read(Plane(ANSWERS | {"/og/shares": {"web/east": 256, "web/north": 0}}), "router")
    assert told[3:] == [
        Point("og_share", {"service": "web", "to": "east"}, {"share": 0.25}),
        Point("og_share", {"service": "web", "to": "north"}, {"share": 0.0}),
    ]


def test_capacity_of_a_control_daemon(tmp_path: Path) -> None:
    status = {"ok": True, "capacity": {"web": {"usable": 80, "total": 90.5, "unit": "connections"}}}
    path = str(tmp_path / "control.sock")
    server = jsonsock.Server(path, lambda _: status)
    server.start()
    try:
        points = control.read(path, 1.0)
    finally:
        server.close()
    assert points == [Point("og_capacity", {"service": "web", "unit": "connections"}, {"usable": 80.0, "total": 90.5})]
    with pytest.raises(jsonsock.SocketError, match=r"control\.sock"):
        control.read(path, 0.2)


STATUS: dict[str, Any] = {
    "time": 1000.0,
    "attached": True,
    "mode": "generic",
    "counters": {"accepted": 4},
    "services": {"web": {"listener": True, "connections": 3, "accepts_per_s": 2, "bytes_per_s": 10.5}},
}


def test_agent_points(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.write_text(json.dumps(STATUS))
    points = agent.read(path, 1001.0)
    assert points[0] == Point("og_agent", {"mode": "generic"}, {"accepted": 4, "attached": 1})
    assert points[1] == Point(
        "og_service", {"service": "web"}, {"listener": 1, "connections": 3, "accepts_per_s": 2.0, "bytes_per_s": 10.5}
    )
    assert isinstance(points[1].fields["accepts_per_s"], float)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("{", "not an agent's status"),
        ("[]", "not an agent's status"),
        ("{}", "not an agent's status"),
        (json.dumps({**STATUS, "time": 900}), "written 101 s ago"),
    ],
)
def test_a_status_that_cannot_be_used(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "status.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(agent.StatusError, match=message):
        agent.read(path, 1001.0)


# ---- configuration

GOOD: dict[str, Any] = {"url": "http://[2001:db8::1]:8086", "tags": {"host": "a", "role": "router", "site": "west"}}


def test_configuration() -> None:
    options = config.parse({**GOOD, "dataplane": "router", "units": ["og-router.service"], "interval_s": 2})
    assert (options.host, options.port, options.database, options.interval_s) == ("2001:db8::1", 8086, "og", 2.0)
    assert options.units == ("og-router.service",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "2001:db8::1"}, "url: http://"),
        ({"url": "http://[2001:db8::1"}, "url: "),
        ({"url": "https://a"}, "url: http://"),
        ({"url": 5}, "url: a text is wanted, not 5"),
        ({"tags": {"host": "a", "role": "router"}}, "tags.site: a text"),
        ({"dataplane": "agent"}, "dataplane: "),
        ({"interval_s": 0}, "interval_s: a number above 0"),
        ({"interval_s": True}, "interval_s: a number above 0"),
        ({"timeout_s": float("nan")}, "timeout_s: a number above 0"),
        ({"buffer_bytes": "1"}, "buffer_bytes: a number above 0"),
        ({"units": "x"}, "units: a list"),
        ({"colour": 1}, "unknown key: colour"),
    ],
)
def test_a_wrong_configuration_names_the_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config.parse({**GOOD, **change})


@pytest.mark.parametrize(("text", "message"), [(None, "No such file"), ("{", "not JSON"), ("[]", "not a JSON object")])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "stats.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=f"{path}: {message}"):
        config.load(path)
