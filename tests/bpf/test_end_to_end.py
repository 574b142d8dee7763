# SPDX-License-Identifier: Apache-2.0
"""The daemon and its programs on a real link, with real connections: handshake, hunting, crash, upgrade, removal."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from scapy.layers.inet import TCP

from . import wire
from .rig import CLIENT_ADDRESS, SERVER_GATEWAY, Rig, envelope, finished
from .sockets import wait_for
from .wire import (
    AGENT,
    ERRORS,
    HASH,
    LAST,
    PORT,
    ROUTER,
    VIP,
    IPv6,
    K,
    N,
    Path6,
    accept,
    cookie,
    flow_argument,
    sid,
    srh,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def rig(space: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:  # noqa: ARG001 - it is in there
    """In generic mode, with a port that would leave checksums to others; test_native_mode has the opposite of both."""
    made = Rig(tmp_path_factory.mktemp("rig"), offloads=True)
    try:
        made.start_agent()
        made.serve()
        yield made
    finally:
        made.close()


def sound(packet: bytes) -> bool:
    """Is the TCP checksum of this IPv6 packet complete and right?"""
    parsed = IPv6(packet)
    sent = parsed[TCP].chksum
    del parsed[TCP].chksum
    return IPv6(bytes(parsed))[TCP].chksum == sent


def get(rig: Rig, path: str = "/") -> bytes:
    """One request on a connection of its own, by the client's kernel."""
    script = (
        "import socket,sys\n"
        f"s=socket.create_connection(({VIP!r},{PORT}),20)\n"
        f"s.sendall(b'GET {path} HTTP/1.1\\r\\n\\r\\n')\n"
        "d=b''\n"
        "while b'\\r\\n\\r\\n' not in d: d+=s.recv(65536)\n"
        "h,b=d.split(b'\\r\\n\\r\\n',1)\n"
        "n=int(h.rsplit(b':',1)[1])\n"
        "while len(b)<n: b+=s.recv(65536)\n"
        "print(len(b))\n"
    )
    return rig.client.run("python3", "-c", script).encode().strip()


def told(returned: list[bytes]) -> list[bytes]:
    """What went back to the router, a segment that was sent again left out: a slow handshake repeats its SYN-ACK."""
    return list({frame[94 + 42 : 94 + 48]: frame for frame in returned}.values())  # client's port, sequence number


def test_handshake_goes_the_way_back_and_data_goes_directly(rig: Rig) -> None:
    rig.gateway.returned.clear()
    rig.gateway.direct.clear()
    assert get(rig) == b"2"
    (back,) = told(rig.gateway.returned)
    outer = IPv6(back[14:])
    assert back[:6] == bytes([2, 0, 0, 0, 0, 2])  # by the route of the outer destination
    assert (outer.src, outer.dst) == (sid(AGENT, ERRORS, flow_argument()), sid(ROUTER, wire.PIN, flow_argument()))
    assert (outer.nh, outer.hlim, outer.fl, outer.plen) == (43, 64, HASH & 0xFFFFF, len(back) - 54)
    path = Path6((sid(ROUTER, wire.PIN, flow_argument()),), 0, (cookie(0xC0),))
    assert back[54 : 54 + 40] == srh(path)
    inner = back[14 + 80 :]
    assert IPv6(inner)[TCP].flags == "SA"
    assert dict(IPv6(inner)[TCP].options)["MSS"] == rig.status()["mss_limit"] == 1684
    assert sound(inner)
    assert rig.gateway.direct
    assert all(sound(frame[14:]) for frame in rig.gateway.direct)


def test_large_answers_go_directly(rig: Rig) -> None:
    before = len(rig.gateway.returned)
    assert get(rig, "/bytes/1000000") == b"1000000"
    assert len(told(rig.gateway.returned[before:])) == 1


def test_lost_synack_is_sent_along_the_way_back_again(rig: Rig) -> None:
    before = rig.gateway.seen["returned"]
    rig.gateway.drop_synacks = 1
    assert get(rig) == b"2"
    assert rig.gateway.seen["returned"] >= before + 2
    assert all(sound(inner) for inner in rig.gateway.synacks)


def test_hunted_flow_tells_once_and_goes_on(rig: Rig) -> None:
    """A router that forgot the flow asks; the next reply tells it, with a complete checksum; later ones go directly."""
    load = rig.load("--held", "20", "--interval", "0.2", "--duration", "600")
    wait_for(lambda: rig.gateway.seen["offered"] > 0)
    wait_for(lambda: _connections(rig) >= 20)
    before = len(rig.gateway.returned)
    rig.gateway.forget |= _client_ports(rig)
    wait_for(lambda: not rig.gateway.forget)
    report = ended(rig, load)
    assert (report["failed"], report["moved"]) == (0, 0)
    assert rig.gateway.seen["hunted"] >= 20
    returned = rig.gateway.returned[before:]
    assert len(told(returned)) >= 20
    assert all(sound(frame[94:]) for frame in returned)
    assert rig.counters()["egress_hunted"] >= 20


def ended(rig: Rig, load: subprocess.Popen[str]) -> dict[str, Any]:
    """Let it go on for some hundred packets, end it, and return its report."""
    seen = rig.gateway.seen["pinned"]
    wait_for(lambda: rig.gateway.seen["pinned"] > seen + 300)
    load.terminate()
    return finished(load)


def _client_ports(rig: Rig) -> set[int]:
    rows = rig.client.run("ss", "-6Htn", "state", "established").splitlines()
    return {int(row.split()[2].rsplit(":", 1)[1]) for row in rows}


def _connections(rig: Rig) -> int:
    return len(_client_ports(rig))


def test_daemon_reports_load_listeners_and_itself(rig: Rig) -> None:
    load = rig.load("--held", "10", "--interval", "0.1", "--duration", "600")
    wait_for(lambda: json.loads(rig.status_file.read_text())["services"]["web"]["connections"] == 10)
    status = rig.status()
    load.terminate()
    web = next(service for service in status["services"] if service["name"] == "web")
    assert (web["listener"], web["backlog"], web["backlog_limit"], web["connections"]) == (True, 0, 1024, 10)
    assert (status["attached"], status["load_aware"], status["daemon"]["running"]) == (True, True, True)
    assert status["problems"] == []
    written = json.loads(rig.status_file.read_text())  # what og-stats and ogctl read
    assert (written["attached"], written["mode"]) == (True, status["mode"])
    assert written["services"]["web"].items() >= {"listener": True, "backlog": 0}.items()
    assert 0 < written["counters"]["taken_known"] <= rig.counters()["taken_known"]
    assert finished(load)["failed"] == 0


def test_host_is_prepared(rig: Rig) -> None:
    address = rig.server.run("ip", "-6", "addr", "show", "dev", "lo", "to", VIP)
    assert "deprecated" in address
    assert "nodad" in address
    assert "noprefixroute" in address
    assert f"blackhole {AGENT}/64" in rig.server.run("ip", "-6", "route")
    assert "notrack" in rig.server.run("nft", "list", "table", "inet", "og_agent")
    assert rig.server.run("cat", "/proc/sys/net/ipv6/flowlabel_reflect") == "3\n"
    for destination in (CLIENT_ADDRESS, ROUTER, SERVER_GATEWAY):
        assert f"src {VIP}" not in rig.server.run("ip", "-6", "route", "get", destination)


def test_port_completes_checksums_by_itself(rig: Rig) -> None:
    features = rig.server.run("ethtool", "-k", "fab0")
    assert "tx-checksumming: off" in features


def traffic(rig: Rig) -> subprocess.Popen[str]:
    return rig.load("--held", "30", "--interval", "0.1", "--rate", "40", "--duration", "600")


def assert_unharmed(rig: Rig, load: subprocess.Popen[str], resets: int) -> None:
    report = ended(rig, load)
    assert report["requests"] > 100
    assert (report["failed"], report["moved"]) == (0, 0), report["failures"]
    assert rig.gateway.seen["reset"] == resets


def test_traffic_does_not_notice_that_the_daemon_is_killed_and_started_again(rig: Rig) -> None:
    before, counted = rig.status(), rig.counters()
    resets = rig.gateway.seen["reset"]
    load = traffic(rig)
    wait_for(lambda: _connections(rig) >= 30)
    rig.stop_agent(signal.SIGKILL)
    alone = rig.status()
    assert (alone["attached"], alone["daemon"]) == (True, {"running": False})
    rig.start_agent()
    after = rig.status()
    assert after["incarnation"] == before["incarnation"]
    assert after["counters"]["taken_known"] > counted["taken_known"]  # contents of the maps are kept
    assert_unharmed(rig, load, resets)


def test_traffic_does_not_notice_an_upgrade(rig: Rig) -> None:
    """Several replacements in a row under load, each with newly compiled programs."""
    resets = rig.gateway.seen["reset"]
    load = traffic(rig)
    wait_for(lambda: _connections(rig) >= 30)
    ids = {rig.status()["programs"]["xdp"]["id"]}
    for _ in range(2):
        rig.stop_agent()
        rig.start_agent()
        status = rig.status()
        assert status["attached"]
        ids.add(status["programs"]["xdp"]["id"])
    assert len(ids) == 3
    assert_unharmed(rig, load, resets)


def test_reload_takes_over_services_and_keeps_a_wrong_file_out(rig: Rig) -> None:
    assert rig.agent is not None
    good = rig.config.read_text()
    document = json.loads(good)
    document["services"][0]["accept_limit"] = 77
    document["services"].pop()
    document["draining"] = True
    rig.config.write_text(json.dumps(document))
    rig.agent.send_signal(signal.SIGHUP)
    wait_for(lambda: rig.status()["draining"])
    status = rig.status()
    assert status["services"][0]["backlog_limit"] == 77
    assert wire.OTHER_VIP not in rig.server.run("ip", "-6", "addr", "show", "dev", "lo")
    rig.config.write_text('{"interface": "fab0"}')
    rig.agent.send_signal(signal.SIGHUP)
    wait_for(lambda: "locator: missing" in (rig.folder / "agent.log").read_text())
    rig.config.write_text(good)
    assert rig.status()["draining"]
    rig.agent.send_signal(signal.SIGHUP)
    wait_for(lambda: not rig.status()["draining"])
    assert wire.OTHER_VIP in rig.server.run("ip", "-6", "addr", "show", "dev", "lo")


def syn(port: int, seq: int = 100) -> bytes:
    """Below the ports that the kernel gives to the rig's real client: answers must not be taken for each other's."""
    return bytes(wire.tcp(sport=port, seq=seq, src=CLIENT_ADDRESS))


OFFER_OR_NEXT = Path6(
    (sid(ROUTER, wire.STEER, flow_argument()), accept(N), accept(N | LAST, wire.AGENT_2)), 1, (cookie(),)
)


def test_retransmitted_syn_is_known_even_when_the_queue_is_full(rig: Rig) -> None:
    """A SYN whose ACK is missing has a request socket: its retransmit is taken although a new SYN would be declined."""
    before = rig.counters()
    rig.gateway.send(envelope(syn(20001), OFFER_OR_NEXT))
    wait_for(lambda: rig.counters()["taken_new"] == before["taken_new"] + 1)
    wait_for(lambda: any(IPv6(inner)[TCP].dport == 20001 for inner in rig.gateway.synacks))
    rig.gateway.send(envelope(syn(20001), OFFER_OR_NEXT))
    wait_for(lambda: rig.counters()["taken_known"] > before["taken_known"])


def test_syn_cookie_is_recognised(rig: Rig) -> None:
    """With SYN cookies there is no socket until the ACK: only the listener can tell that it is mine."""
    rig.server.run("sysctl", "-qw", "net.ipv4.tcp_syncookies=2")
    try:
        rig.gateway.send(envelope(syn(20002, seq=7000), OFFER_OR_NEXT))
        wait_for(lambda: any(IPv6(inner)[TCP].dport == 20002 for inner in rig.gateway.synacks))
        synack = next(IPv6(inner)[TCP] for inner in rig.gateway.synacks if IPv6(inner)[TCP].dport == 20002)
        before = rig.counters()
        wrong = bytes(wire.tcp("A", sport=20002, seq=7001, ack=(synack.seq + 12345678) % 2**32, src=CLIENT_ADDRESS))
        rig.gateway.send(envelope(wrong, Path6((accept(K),))))
        wait_for(lambda: rig.counters()["returned_miss"] == before["returned_miss"] + 1)
        right = bytes(wire.tcp("A", sport=20002, seq=7001, ack=(synack.seq + 1) % 2**32, src=CLIENT_ADDRESS))
        rig.gateway.send(envelope(right, Path6((accept(K),))))
        wait_for(lambda: rig.counters()["taken_cookie"] == before["taken_cookie"] + 1)
        wait_for(lambda: "20002" in rig.server.run("ss", "-6Htn", "state", "established"))
    finally:
        rig.server.run("sysctl", "-qw", "net.ipv4.tcp_syncookies=1")


def test_candidate_without_room_is_passed_by_on_the_wire(rig: Rig) -> None:
    """XDP_TX on the real link: the packet leaves by the port it came by, with the next segment as destination."""
    before = rig.counters()["next_segment"]
    packet = bytes(wire.tcp(sport=20003, dport=81, src=CLIENT_ADDRESS))  # a service without a listener
    rig.gateway.send(envelope(packet, OFFER_OR_NEXT))
    wait_for(lambda: rig.counters()["next_segment"] == before + 1)


def test_probe_is_answered_without_the_daemon(rig: Rig) -> None:
    before = rig.counters()["probe_answered"]
    rig.stop_agent(signal.SIGKILL)
    try:
        rig.gateway.send(bytes(wire.probe())[14:])
        wait_for(lambda: rig.counters()["probe_answered"] == before + 1)
    finally:
        rig.start_agent()


def test_detach_leaves_nothing(rig: Rig) -> None:
    rig.stop_agent()
    done = rig.agent_command("--detach")
    assert done.returncode == 0, done.stderr
    assert "xdp" not in rig.server.run("ip", "link", "show", "fab0")
    assert "clsact" not in rig.server.run("tc", "qdisc", "show", "dev", "fab0")
    assert VIP not in rig.server.run("ip", "-6", "addr", "show", "dev", "lo")
    assert "blackhole" not in rig.server.run("ip", "-6", "route")
    assert "og_agent" not in rig.server.run("nft", "list", "ruleset")
    assert list(rig.pin_dir.parent.glob(rig.pin_dir.name)) == []
    assert rig.agent_command("--status").returncode == 1
    rig.start_agent()
    assert get(rig) == b"2"


@pytest.mark.usefixtures("space")
def test_native_mode(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The mode of real ports, on a port without offloads, after generic mode."""
    rig = Rig(tmp_path_factory.mktemp("native"), offloads=False)
    try:
        rig.start_agent()
        rig.serve()
        assert rig.status()["mode"] == "generic"
        incarnation = rig.status()["incarnation"]
        rig.write_config(xdp_mode="native")
        assert rig.agent is not None
        rig.agent.send_signal(signal.SIGHUP)
        wait_for(lambda: rig.status()["mode"] == "native", 240)
        assert rig.status()["incarnation"] == incarnation
        assert get(rig, "/bytes/100000") == b"100000"
        (back,) = told(rig.gateway.returned)
        assert sound(back[94:])
        assert all(sound(frame[14:]) for frame in rig.gateway.direct)
    finally:
        rig.close()
