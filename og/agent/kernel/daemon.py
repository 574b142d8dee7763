# SPDX-License-Identifier: Apache-2.0
"""An application host without eBPF: the kernel's seg6local takes the gateway's packets.

Routes and packet filter are files that the unit applies (`og-srv6 apply`, `nft`). What is left is done here: the
service addresses, an answer to probes, and the load. Nothing of a flow is known here: no new connection is declined,
no packet goes back along its way, none is passed on to the next server.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import logging
import os
import select
import signal
import socket
import struct
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyroute2 import IPRoute

from og.agent import config as configuration
from og.agent import host, sockets
from og.agent.daemon import signals, write_status
from og.agent.report import connections
from og.configfile import ConfigError
from og.control.notify import notify
from og.srv6.kernel import observe_counters
from og.srv6.route import PROTOCOL

if TYPE_CHECKING:
    from og.agent.config import AgentConfig

log = logging.getLogger("og-agent-kernel")

# native/lib/og_wire.h; a test compares
ACCEPT, PROBE = 0x0010, 0x0020
PROBE_PORT, PROBE_VERSION, REQUEST, REPLY, ROLE_AGENT, SERVING, DRAINING = 20295, 1, 1, 2, 3, 0x01, 0x02
PROBE_FORMAT = struct.Struct("!BBBBI8s8sQQIIQ")
PROBES_PER_S = 1000

_FREEBIND = 78  # IPV6_FREEBIND: the source of an answer is a SID, which is no address of an interface
_FUNCTION = 64 - 16  # place of the function in the lower half of a SID


@dataclass(frozen=True)
class Load:
    """What a probe reply says: bit i of `listeners` = service index i has a listener."""

    listeners: int = 0
    connections: int = 0


def sid(locator: IPv6Address, function: int, argument: int = 0) -> IPv6Address:
    """Return locator | function (16 bits) | argument (48 bits)."""
    return IPv6Address(int(locator) | function << _FUNCTION | argument)


def incarnation(locator: IPv6Address) -> bytes:
    """Return 8 bytes that stay the same for as long as the kernel's sockets can: until the next boot."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    space = Path("/proc/self/ns/net").readlink()
    return hashlib.sha256(f"{boot} {space} {locator}".encode()).digest()[:8]


def answer(request: bytes, source: IPv6Address, target: IPv6Address, config: AgentConfig, load: Load) -> bytes | None:
    """Return the reply to a probe, as bpf/og_probe.h makes it; None for no sound request from a gateway node."""
    if len(request) != PROBE_FORMAT.size or not any(source in prefix for prefix in config.gateways):
        return None
    version, kind, _, _, _, nonce, _, sent_ns, *_ = PROBE_FORMAT.unpack(request)
    argument = int(target) & (1 << 48) - 1
    if (version, kind) != (PROBE_VERSION, REQUEST) or target != sid(config.locator, PROBE, argument):
        return None
    if int.from_bytes(nonce) != argument:
        return None
    flags = SERVING | (DRAINING if config.draining else 0)
    me = incarnation(config.locator)
    return PROBE_FORMAT.pack(
        PROBE_VERSION, REPLY, ROLE_AGENT, flags, 0, nonce, me, sent_ns, load.listeners, load.connections, 0, 0
    )


class Prober:
    """The socket on which probes arrive. The locator's Probe SIDs are local by a route."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        self.sock.setsockopt(socket.IPPROTO_IPV6, _FREEBIND, 1)
        self.sock.bind(("::", PROBE_PORT))
        self.counters: Counter[str] = Counter()
        self._second, self._seen = 0, Counter[bytes]()

    def turn(self, config: AgentConfig, load: Load) -> None:
        """Answer what has arrived."""
        with suppress(BlockingIOError):
            while True:
                self._one(config, load)

    def _one(self, config: AgentConfig, load: Load) -> None:
        data, ancillary, _, (source_text, port, *_) = self.sock.recvmsg(PROBE_FORMAT.size + 1, 64)
        info = next((value for _, kind, value in ancillary if kind == socket.IPV6_PKTINFO), bytes(20))
        source, target = IPv6Address(source_text.partition("%")[0]), IPv6Address(info[:16])
        if not self._allowed(source):
            self.counters["drop_probe_rate"] += 1
            return
        reply = answer(data, source, target, config, load) if port == PROBE_PORT else None
        if reply is None:
            self.counters["drop_probe"] += 1
            return
        # From Errors to prober.Probe|nonce: its locator, and the second half of the SID the request was sent to.
        prober = IPv6Address(source.packed[:8] + target.packed[8:])
        control = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, config.locator.packed + struct.pack("=I", 0))]
        try:
            self.sock.sendmsg([reply], control, 0, (str(prober), PROBE_PORT))
        except OSError as error:
            log.debug("probe of %s: %s", source, error)
            self.counters["probe_unanswered"] += 1
        else:
            self.counters["probe_answered"] += 1

    def _allowed(self, source: IPv6Address) -> bool:
        """At most PROBES_PER_S in each second of a prober."""
        now = int(time.monotonic())
        if now != self._second:
            self._second, self._seen = now, Counter()
        self._seen[source.packed[:8]] += 1
        return self._seen[source.packed[:8]] <= PROBES_PER_S


def look(config: AgentConfig) -> tuple[Load, dict[str, dict[str, Any]]]:
    """Return the load, and the figures of each service for the status file."""
    open_now = connections(config.services)
    services: dict[str, dict[str, Any]] = {}
    mask = 0
    for service in config.services:
        listener = sockets.listener_for(service.vip, sockets.listeners(service.protocol, service.port))
        mask |= 1 << service.index if listener else 0
        services[service.name] = {
            "listener": listener is not None,
            "backlog": listener.backlog if listener else 0,
            "connections": open_now[service.name],
            "accepts_per_s": 0.0,
            "bytes_per_s": 0.0,
        }
    return Load(mask, sum(open_now.values())), services


def accepted(config: AgentConfig) -> tuple[bool, dict[str, int]]:
    """Tell whether the Accept SIDs of this host are routed, and what the route has counted."""
    prefix = str(ipaddress.IPv6Network((sid(config.locator, ACCEPT), 80)))
    with IPRoute() as netlink:
        for found, counted in observe_counters(netlink):
            if found.protocol == PROTOCOL and found.route.prefix == prefix:
                return True, {f"accept_{name}": value for name, value in counted.items()}
    return False, {}


def status(config: AgentConfig) -> dict[str, Any]:
    """Return the state as it is in the kernel, and what the daemon wrote last."""
    attached, counted = accepted(config)
    problems = host.problems(config)
    if not attached:
        problems.append(f"no route for {sid(config.locator, ACCEPT)}/80: og-srv6 apply /etc/og/agent-routes.json")
    daemon: dict[str, Any] = {"running": False}
    with suppress(OSError, ValueError, KeyError, TypeError):
        written = json.loads(config.status_file.read_text(encoding="utf-8"))
        os.kill(written["pid"], 0)
        daemon = {"running": True, "pid": written["pid"], "services": written["services"]}
        counted = written["counters"] | counted
    return {
        "attached": attached,
        "mode": "kernel",
        "load_aware": False,
        "daemon": daemon,
        "problems": problems,
        "counters": counted,
    }


def report(config: AgentConfig, prober: Prober) -> Load:
    """Write the status file; return the load."""
    load, services = look(config)
    attached, counted = accepted(config)
    state = {"attached": attached, "mode": "kernel", "services": services}
    write_status(config.status_file, state | {"counters": prober.counters | Counter(counted)})
    return load


def run(path: Path, config: AgentConfig) -> None:
    """Answer probes and report until told to stop. Routes and service addresses stay."""
    with signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as arrived, IPRoute() as route:
        host.prepare(route, config)
        prober = Prober()
        due = time.monotonic() + config.report_s
        load = report(config, prober)  # first: who waited for the start finds a status file
        notify("READY=1\nSTATUS=served by seg6local")
        while True:
            now = time.monotonic()
            if now >= due:
                due = now + config.report_s
                load = report(config, prober)
            probes = prober.sock.fileno()
            ready = select.select([arrived, probes], [], [], max(due - time.monotonic(), 0))[0]
            if probes in ready:
                prober.turn(config, load)
            if arrived not in ready:
                continue
            numbers = os.read(arrived, 64)
            if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                break
            config = reload(path, config, route)
    config.status_file.unlink(missing_ok=True)
    log.info("stopped; routes and service addresses stay")


def reload(path: Path, config: AgentConfig, route: Any) -> AgentConfig:  # noqa: ANN401 - pyroute2 has no types
    """Take over a changed file; a wrong one changes nothing."""
    try:
        fresh = configuration.load(path)
        host.prepare(route, fresh, config)
    except (ConfigError, OSError) as error:
        log.error("not reloaded, the running configuration stays: %s", error)
        return config
    log.info("reloaded %s", path)
    return fresh
