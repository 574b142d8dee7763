# SPDX-License-Identifier: Apache-2.0
"""og-hasher on AF_XDP: packets in and out, its life and death, its next hop."""

from __future__ import annotations

import json
import signal
import threading
import time
from typing import TYPE_CHECKING

from scapy.layers.inet import TCP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6

from native.tests.system import harness
from native.tests.system.harness import FN_ERRORS, FN_STEER, ROLE_ROUTER, VIP, Envelope, Member, Node, Sid, tables, tcp

if TYPE_CHECKING:
    from collections.abc import Callable

    from scapy.layers.l2 import Ether


def steered(sport: int) -> Callable[[Ether], bool]:
    def match(frame: Ether) -> bool:
        return bool(IPv6 in frame and frame[IPv6].nh in (41, 43) and TCP in frame and frame[TCP].sport == sport)

    return match


def test_syn_is_encapsulated_to_the_router(hasher: Node) -> None:
    hasher.start()
    assert hasher.load(tables()) == {"ok": True, "generation": 1}
    sent = tcp(40001, "S", hlim=61)
    hasher.wire.send(sent)
    frame = hasher.wire.expect(steered(40001), "the encapsulated SYN")
    assert frame.dst == hasher.wire.mac
    assert frame.src == hasher.wire.far_mac
    envelope = Envelope.read(frame)
    assert Sid.read(envelope.outer.src).locator == "5f00:1:11::"
    assert Sid.read(envelope.outer.src).function == FN_ERRORS
    assert (envelope.segments[0].locator, envelope.segments[0].function) == ("5f00:1:21::", FN_STEER)
    assert (envelope.outer.hlim, envelope.outer.tc) == (64, 0)
    # RFC 8986 section 5.1: the packet inside is the client's, its hop limit one lower.
    expected = bytearray(bytes(sent))
    expected[7] -= 1
    assert envelope.inner == bytes(expected)
    counters = hasher.counters()
    assert counters["steered"] == 1
    verdicts = hasher.telemetry("/og/verdicts")
    assert sum(counters[name] for name in verdicts) == counters["rx"]


def test_flows_spread_and_stay(hasher: Node) -> None:
    hasher.start()
    hasher.load(tables(routers=3))
    where: dict[int, set[str]] = {}
    for _ in range(2):
        for sport in range(41000, 41060):
            hasher.wire.send(tcp(sport, "A"))
            envelope = Envelope.read(hasher.wire.expect(steered(sport), f"packet of port {sport}"))
            where.setdefault(sport, set()).add(envelope.segments[0].locator)
    assert all(len(routers) == 1 for routers in where.values()), "a flow changed its router"
    assert len(set.union(*where.values())) == 3, "60 flows did not reach all three routers"


def test_frame_of_the_whole_mtu(hasher: Node) -> None:
    """A client's packet of 1744 bytes is the largest that fits; its envelope is less than 2000."""
    hasher.start()
    hasher.load(tables())
    payload = bytes(range(256)) * 6 + b"x" * (1744 - 60 - 1536)
    sent = tcp(40002, "PA", payload=payload)
    assert len(sent) == 1744
    hasher.wire.send(sent)
    envelope = Envelope.read(hasher.wire.expect(steered(40002), "the large packet"))
    assert envelope.inner[40:] == bytes(sent)[40:]


def test_full_frame_is_received(hasher: Node) -> None:
    """2000 bytes arrive whole (an AF_XDP buffer too small would lose them silently): the answer is Packet Too Big."""
    hasher.start()
    hasher.load(tables())
    hasher.wire.send(tcp(40003, "PA", payload=b"y" * (2000 - 60)))
    frame = hasher.wire.expect(lambda frame: ICMPv6PacketTooBig in frame, "Packet Too Big")
    assert frame[IPv6].src == VIP
    assert frame[ICMPv6PacketTooBig].mtu == 1744
    assert hasher.count("rx_missed") == 0


def test_echo_to_the_vip(hasher: Node) -> None:
    hasher.start()
    hasher.load(tables())
    hasher.wire.send(IPv6(src=harness.CLIENT, dst=VIP) / ICMPv6EchoRequest(id=7, seq=9, data=b"hello"))
    frame = hasher.wire.expect(lambda frame: ICMPv6EchoReply in frame, "the echo reply")
    assert (frame[IPv6].src, frame[IPv6].dst) == (VIP, harness.CLIENT)
    assert bytes(frame[ICMPv6EchoReply].data) == b"hello"


def test_without_tables_everything_is_counted_and_dropped(hasher: Node) -> None:
    hasher.start()
    hasher.wire.send(tcp(40004, "S"))
    harness.wait_for(lambda: hasher.count("drop_no_table") == 1, "the drop is counted")
    assert hasher.heartbeat()["flags"] == 0
    assert hasher.request({"op": "status"})["serving"] is False


def test_serving_follows_the_routers_answers(hasher: Node) -> None:
    router = Member(ROLE_ROUTER)
    hasher.wire.members["5f00:1:21::"] = router
    hasher.start()
    hasher.load(tables(generation=5))
    harness.wait_for(lambda: hasher.heartbeat()["flags"] == 3, "tables loaded and serving")
    beat = hasher.heartbeat()
    assert (beat["version"], beat["generation"], beat["pid"]) == (1, 5, hasher_pid(hasher))
    harness.wait_for(lambda: hasher.heartbeat()["loops"] > beat["loops"], "the heartbeat grows")
    router.flags = 0
    harness.wait_for(lambda: hasher.heartbeat()["flags"] == 1, "router does not serve: bit 1 goes")
    router.flags = harness.PROBE_SERVING
    harness.wait_for(lambda: hasher.heartbeat()["flags"] == 3, "and comes back")
    router.silent = True
    harness.wait_for(lambda: hasher.request({"op": "status"})["suspect"] == ["ogr_w1"], "silent router is suspect")
    assert hasher.heartbeat()["flags"] == 1
    router.silent = False
    harness.wait_for(lambda: hasher.heartbeat()["flags"] == 3, "it answers again")
    router.incarnation = 42
    harness.wait_for(lambda: hasher.telemetry("/og/members")["ogr_w1"]["incarnations"] == 2, "restart is told")


def hasher_pid(hasher: Node) -> int:
    assert hasher.process
    return hasher.process.pid  # nsenter executes the program in its own place


def test_suspect_router_gets_no_flows(hasher: Node) -> None:
    hasher.wire.members["5f00:1:21::"] = Member(ROLE_ROUTER)
    dead = hasher.wire.members["5f00:1:22::"] = Member(ROLE_ROUTER)
    hasher.start()
    hasher.load(tables(routers=2))
    harness.wait_for(lambda: hasher.telemetry("/og/members")["ogr_w2"]["replied"] == 1, "both routers answer")
    dead.silent = True

    def all_to_the_other() -> None:
        harness.wait_for(lambda: hasher.request({"op": "status"})["suspect"] == ["ogr_w2"], "one is suspect")
        for sport in range(42000, 42040):
            hasher.wire.send(tcp(sport, "S"))
            envelope = Envelope.read(hasher.wire.expect(steered(sport), f"SYN of port {sport}"))
            assert envelope.segments[0].locator == "5f00:1:21::"

    hasher.wire.in_time(all_to_the_other)


def test_sigkill_and_immediate_restart(hasher: Node) -> None:
    hasher.start()
    hasher.load(tables(generation=3))
    for life in range(3):
        sport = 43000 + life
        hasher.wire.send(tcp(sport, "S"))
        hasher.wire.expect(steered(sport), f"SYN in life {life}")
        hasher.stop(signal.SIGKILL)
        status = json.loads(hasher.port("status", "--json").stdout)
        assert status["attached"], "the steering program outlives the data plane"
        hasher.wire.send(tcp(sport, "S"))
        wait_unbound(hasher, status["counters"]["unbound"])
        hasher.start()
        assert hasher.request({"op": "status"})["generation"] == 3, "the last tables are loaded at start"


def wait_unbound(node: Node, before: int) -> None:
    def grown() -> bool:
        return bool(json.loads(node.port("status", "--json").stdout)["counters"]["unbound"] > before)

    harness.wait_for(grown, "without a data plane its packets go to the kernel")


def test_sigterm_ends_cleanly_and_keeps_the_port(hasher: Node) -> None:
    hasher.start()
    hasher.load(tables())
    assert hasher.stop() == 0
    assert not (hasher.directory / "run" / "hasher.sock").exists()
    assert json.loads(hasher.port("status", "--json").stdout)["attached"]
    hasher.start()
    hasher.wire.send(tcp(43100, "S"))
    hasher.wire.expect(steered(43100), "SYN after a restart")


def test_tables_change_under_traffic_without_loss(hasher: Node) -> None:
    hasher.start()
    hasher.load(tables(generation=1, routers=2))
    stop = threading.Event()
    sent, loaded = 0, 1

    def swap() -> None:
        nonlocal loaded
        while not stop.is_set():
            following = loaded + 1
            assert hasher.load(tables(generation=following, routers=1 + following % 4))["ok"]
            loaded = following

    before = hasher.counters()
    thread = threading.Thread(target=swap)
    thread.start()
    packets = [tcp(port, "A") for port in range(44000, 44100)]

    def all_steered() -> bool:
        return hasher.count("steered") - before["steered"] == sent

    try:
        while thread.is_alive() and (sent < 1000 or loaded <= 10):
            for packet in packets:
                hasher.wire.send(packet)
            sent += len(packets)
            # So never more are on the way than a ring holds, however late the program comes to it.
            harness.wait_for(all_steered, f"all {sent} packets are steered")
    finally:
        stop.set()
        thread.join()
    assert hasher.request({"op": "status"})["generation"] == loaded > 10, "tables did change meanwhile"
    arrived: list[Ether] = []

    def all_arrived() -> bool:
        arrived.extend(frame for frame in hasher.wire.drain() if frame[IPv6].nh == 41)
        return len(arrived) >= sent

    harness.wait_for(all_arrived, "every packet is on the wire")
    assert len(arrived) == sent, "none twice"


def test_next_hop_is_followed(hasher: Node) -> None:
    hasher.start()
    hasher.load(tables())
    hasher.wire.send(tcp(45000, "S"))
    hasher.wire.expect(steered(45000), "SYN by the resolved next hop")
    new = ("lladdr", "02:00:00:00:00:77", "dev", "fab0")
    harness.ip(hasher.namespace, "neigh", "replace", harness.ROUTER_ADDRESS, *new)

    def sent_to_new() -> bool:
        hasher.wire.send(tcp(45001, "S"))
        return bool(hasher.wire.expect(steered(45001), "SYN").dst == "02:00:00:00:00:77")

    harness.wait_for(sent_to_new, "frames go to the router's new link address")
    harness.ip(hasher.namespace, "-6", "route", "del", "default")

    def dropped() -> bool:
        hasher.wire.send(tcp(45002, "S"))
        return hasher.count("drop_no_neighbour") > 0

    harness.wait_for(dropped, "without a default route there is nobody to send to")
    harness.ip(hasher.namespace, "-6", "route", "add", "default", "via", harness.ROUTER_ADDRESS)

    def sent_again() -> bool:
        hasher.wire.send(tcp(45003, "S"))
        return bool([frame for frame in hasher.wire.drain() if steered(45003)(frame)])

    harness.wait_for(sent_again, "the route is back")


def test_fixed_next_hop(hasher: Node) -> None:
    hasher.options["next_hop"] = {"mode": "fixed", "mac": "02:00:00:00:00:55"}
    hasher.start()
    hasher.load(tables())
    hasher.wire.send(tcp(45100, "S"))
    frame = hasher.wire.expect(steered(45100), "SYN by the fixed next hop")
    assert (frame.src, frame.dst) == (hasher.wire.far_mac, "02:00:00:00:00:55")


def test_what_is_not_ours_stays_with_the_kernel(hasher: Node) -> None:
    hasher.start()
    hasher.load(tables())
    hasher.wire.send(IPv6(src=harness.ROUTER_ADDRESS, dst=harness.OWN_ADDRESS) / ICMPv6EchoRequest(data=b"kernel"))
    frame = hasher.wire.expect(lambda frame: ICMPv6EchoReply in frame, "the kernel's echo reply")
    assert frame[IPv6].src == harness.OWN_ADDRESS
    assert hasher.count("rx") == 0


def test_info_and_load(hasher: Node) -> None:
    hasher.start()
    hasher.load(tables(generation=9))
    info = hasher.telemetry("/og/info")
    status = hasher.request({"op": "status"})
    assert (info["role"], info["wire_version"], info["generation"]) == ("hasher", 1, 9)
    assert info["incarnation"] == status["incarnation"] == f"{hasher.heartbeat()['incarnation']:016x}"
    assert info["digest"] == status["digest"] == "ab" * 32
    first = hasher.telemetry("/og/load")["loops"]
    harness.wait_for(lambda: hasher.telemetry("/og/load")["loops"] > first, "loops grow")


def test_own_stall_makes_nobody_suspect(hasher: Node) -> None:
    """Stopped for longer than three probes wait: the interval says nothing about the router."""
    hasher.wire.members["5f00:1:21::"] = Member(ROLE_ROUTER)
    hasher.start()
    hasher.load(tables())

    def stand_still() -> None:
        harness.wait_for(lambda: hasher.heartbeat()["flags"] == 3, "serving")
        assert hasher.process
        hasher.process.send_signal(signal.SIGSTOP)
        time.sleep(0.6)
        hasher.process.send_signal(signal.SIGCONT)
        rounds = hasher.telemetry("/og/load")["probe_rounds"]

        def nobody_suspect() -> bool:
            assert hasher.request({"op": "status"})["suspect"] == []
            return bool(hasher.telemetry("/og/load")["probe_rounds"] > rounds + 3)

        harness.wait_for(nobody_suspect, "three rounds later")

    hasher.wire.in_time(stand_still)
    assert hasher.telemetry("/og/load")["probe_rounds_discarded"] > 0


def test_unreachable_router_is_suspect_at_once(hasher: Node) -> None:
    """ICMPv6 from the network router about an encapsulated packet; replies take it back."""
    hasher.start()
    hasher.load(tables())
    hasher.wire.send(tcp(46000, "S"))
    lost = hasher.wire.expect(steered(46000), "the encapsulated SYN")[IPv6]
    error = IPv6(src=harness.ROUTER_ADDRESS, dst=lost.src) / ICMPv6DestUnreach(code=0) / bytes(lost)
    hasher.wire.send(error)
    harness.wait_for(lambda: hasher.count("fabric_error") == 1, "the error is for the prober")
    assert hasher.request({"op": "status"})["suspect"] == ["ogr_w1"]
    hasher.wire.members["5f00:1:21::"] = Member(ROLE_ROUTER)
    harness.wait_for(lambda: hasher.request({"op": "status"})["suspect"] == [], "it answers: not suspect any more")


def test_stops_after_max_packets(hasher: Node) -> None:
    hasher.options["max_packets"] = 3
    hasher.start()
    hasher.load(tables())
    process = hasher.process
    assert process
    for sport in range(47000, 47003):
        hasher.wire.send(tcp(sport, "S"))
    assert process.wait(timeout=harness.DEADLINE) == 0


def test_socket_is_for_root_and_og(hasher: Node) -> None:
    hasher.start()
    assert (hasher.directory / "run" / "hasher.sock").stat().st_mode & 0o777 == 0o660
