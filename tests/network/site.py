# SPDX-License-Identifier: Apache-2.0
"""A small site of containers: a network router, two hashers and a router, with the roles applied, and bare hosts in the
places of an agent and a client. Real FRRouting, real GoBGP, real kernel routes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
LABEL = "org.occam-gateway.test=routing"
PREFIX = "ogrt-"
ROUTER = "rtr_w1"
NODES = {ROUTER: 0x1, "ogh_w1": 0x11, "ogh_w2": 0x12, "ogr_w1": 0x21, "agent_w1": 0x31, "cli_w1": 0x41}
HASHERS = ("ogh_w1", "ogh_w2")
ROUTERS = ("ogr_w1",)
GATEWAYS = HASHERS + ROUTERS
MANAGED = (ROUTER, *GATEWAYS)  # with systemd; the others only have a link
VIP = "2001:db8:1::80"
WAIT_S = 30.0
TICKLE = "2001:db8:ffff::1"


def run(*argv: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command; a failure is shown with what it printed."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def wait_for(what: str, probe: Callable[[], Any], timeout: float = WAIT_S) -> Any:
    """The first true result of `probe`, or a failure that says what did not come."""
    deadline = time.monotonic() + timeout
    while not (result := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(0.05)
    return result


def block(node: str) -> str:
    return "c001" if node.startswith("cli") else "f001"


def container(node: str) -> str:
    """Docker's name of the node."""
    return PREFIX + node.replace("_", "-")


def address(node: str) -> str:
    """The node's address on its link; for the router, see `gateway`."""
    return f"2001:db8:{block(node)}:{NODES[node]:x}::2"


def gateway(node: str) -> str:
    """The network router's address on the node's link."""
    return f"2001:db8:{block(node)}:{NODES[node]:x}::1"


def locator(node: str) -> str:
    return f"5f00:1:{NODES[node]:x}::/64"


def find_image() -> str | None:
    """The image to use, or None: OG_TEST_IMAGE, else what the lab made."""
    wanted = os.environ.get("OG_TEST_IMAGE", "og-node:latest")
    return wanted if run("docker", "image", "inspect", wanted, check=False).returncode == 0 else None


def inventory() -> dict[str, Any]:
    """As the lab's, for this site."""
    hosts = {
        name: {
            "ansible_host": container(name),
            "og_node": NODES[name],
            "og_site": "west",
            "og_locator": locator(name),
            "og_address": address(name),
            "og_gateway_address": gateway(name),
        }
        for name in NODES
    }
    variables = {
        "ansible_connection": "community.docker.docker",
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_managed": "Written by a test.",
        "og_sid_block": "5f00::/16",
        "og_fabric_block": "2001:db8:f000::/36",
        "og_client_block": "2001:db8:c000::/36",
        "og_vip_block": "2001:db8:1::/48",
        "og_sites": {"west": {"number": 1, "asn": 64601, "gateway_asn": 64701}},
        "og_services": [{"name": "web", "vip": VIP, "protocol": "tcp", "port": 80, "index": 0}],
        "gobgp_sources": ["go", "debian"],
        # Two cores carry four systems and the test: 300 ms would be a coin toss.
        "quagga_bfd_interval_ms": 1000,
        "gobgp_bfd_interval_ms": 1000,
    }
    groups = {
        "network_routers": [ROUTER],
        "hashers": HASHERS,
        "routers": ROUTERS,
        "gateways": GATEWAYS,
        "agents": ["agent_w1"],
        "clients": ["cli_w1"],
        "site_west": NODES,
    }
    children: dict[str, Any] = {group: {"hosts": {key: {} for key in members}} for group, members in groups.items()}
    return {"all": {"hosts": hosts, "vars": variables, "children": children}}


PLAYBOOK = [
    {
        "name": "Network router",
        "hosts": "network_routers",
        "gather_facts": False,
        "roles": ["quagga"],
    },
    {
        "name": "Gateway nodes",
        "hosts": "gateways",
        "gather_facts": False,
        "roles": ["gobgp", "og_health"],
    },
]


class RouteMonitor:
    """What `ip monitor route` says, line by line, with the kernel's time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._lines: list[str] = []
        self._process = process
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.append(line.rstrip())

    def lines_about(self, prefix: str) -> list[str]:
        return [line for line in self._lines if f" {prefix} " in line + " "]

    def time_of(self, prefix: str, next_hop: str) -> float | None:
        """Unix time of the change after which the prefix has only this next hop."""
        for line in self.lines_about(prefix):
            stamp, _, rest = line.partition("]")
            if f"via {next_hop} " in rest and "nexthop" not in rest and "Deleted" not in rest:
                return datetime.fromisoformat(stamp.strip("[] ")).replace(tzinfo=UTC).timestamp()
        return None


@dataclass
class Site:
    """The running site."""

    image: str
    work: Path
    pids: dict[str, int] = field(default_factory=dict)
    first_check: str = ""  # what the first run, in check mode, printed

    # -- making it ----------------------------------------------------------------------------------------------------

    def up(self) -> None:
        self.down()
        for name in NODES:
            self._start(name)
        for name in MANAGED:
            wait_for(f"{name} has booted", partial(self._booted, name), timeout=120)
            # What a container engine mounts read-only is the network namespace's own and harms nobody.
            self.execute(name, "mount", "-o", "remount,rw", "/proc/sys")
        for name in NODES:
            if name != ROUTER:
                self._wire(name)
        for name in GATEWAYS:
            self._install_health(name)
        (self.work / "hosts.yml").write_text(yaml.safe_dump(inventory()))
        (self.work / "site.yml").write_text(yaml.safe_dump(PLAYBOOK, sort_keys=False))

    def down(self) -> None:
        left = run("docker", "ps", "--all", "--quiet", "--filter", f"label={LABEL}").stdout.split()
        if left:
            run("docker", "rm", "--force", "--volumes", *left)

    def _start(self, name: str) -> None:
        unified = Path("/sys/fs/cgroup/unified")
        cgroup = unified if unified.is_dir() else unified.parent
        options = [
            "--name", container(name), "--hostname", name.replace("_", "-"), "--label", LABEL,
            "--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE",
            "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
            "--cgroupns", "host", "--volume", f"{cgroup}:/sys/fs/cgroup:rw",
            "--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "--env", "container=docker",
            "--sysctl", "net.ipv6.conf.all.disable_ipv6=0", "--stop-signal", "SIGRTMIN+3",
        ]  # fmt: skip
        command = ["/sbin/init"] if name in MANAGED else ["sleep", "infinity"]
        run("docker", "run", "--detach", *options, self.image, *command)
        shown = run("docker", "inspect", "--format", "{{.State.Pid}}", container(name))
        self.pids[name] = int(shown.stdout)

    def _booted(self, name: str) -> bool:
        state = self.execute(name, "systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def _wire(self, name: str) -> None:
        port = f"to-{name}"
        run("ip", "link", "add", port, "mtu", "2000", "netns", str(self.pids[ROUTER]),
            "type", "veth", "peer", "name", "fab0", "mtu", "2000", "netns", str(self.pids[name]))  # fmt: skip
        self.execute(ROUTER, "ip", "address", "add", f"{gateway(name)}/64", "dev", port, "nodad")
        self.execute(ROUTER, "ip", "link", "set", port, "up")
        self.execute(name, "ip", "address", "add", f"{address(name)}/64", "dev", "fab0", "nodad")
        self.execute(name, "ip", "link", "set", "fab0", "up")
        self.execute(name, "ip", "-6", "route", "replace", "default", "via", gateway(name), "src", address(name))

    def _install_health(self, name: str) -> None:
        """What the release will bring: the package and a launcher."""
        self.execute(name, "mkdir", "-p", "/opt/og/current/lib", "/opt/og/current/bin", "/run/og")
        run("docker", "cp", str(REPOSITORY / "og"), f"{container(name)}:/opt/og/current/lib/og")
        run("docker", "cp", str(Path(__file__).with_name("heartbeat_writer.py")), f"{container(name)}:/opt/writer.py")
        launcher = '#!/bin/sh\nPYTHONPATH=/opt/og/current/lib exec python3 -m og.health "$@"\n'
        path = "/opt/og/current/bin/og-health"
        self.execute(name, "sh", "-c", f"printf '%s' '{launcher}' > {path} && chmod 755 {path}")

    # -- using it -----------------------------------------------------------------------------------------------------

    def execute(self, name: str, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on a node."""
        return run("docker", "exec", container(name), *argv, check=check)

    def play(self, *options: str, fails: bool = False) -> subprocess.CompletedProcess[str]:
        """Apply the roles. `fails`: it must."""
        argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(self.work / "hosts.yml")]
        environment = os.environ | {
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_ROLES_PATH": str(REPOSITORY / "roles"),
            "ANSIBLE_FILTER_PLUGINS": str(REPOSITORY / "filter_plugins"),
            "ANSIBLE_LIBRARY": str(REPOSITORY / "library"),
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_NOCOLOR": "1",
        }
        done = subprocess.run(
            [*argv, *options, str(self.work / "site.yml")],
            capture_output=True, text=True, timeout=540, check=False, cwd=REPOSITORY, env=environment,
        )  # fmt: skip
        assert bool(done.returncode) is fails, done.stdout[-6000:] + done.stderr[-2000:]
        return done

    def vtysh(self, command: str) -> Any:
        """What the router's FRRouting says, parsed."""
        return json.loads(self.execute(ROUTER, "vtysh", "-c", command + " json").stdout or "{}")

    def next_hops(self, prefix: str) -> set[str]:
        """Next hops of a route in the router's kernel; empty without the route."""
        shown = self.execute(ROUTER, "ip", "-6", "-json", "route", "show", prefix, check=False).stdout
        found = set()
        for route in json.loads(shown or "[]"):
            for hop in route.get("nexthops", [route]):
                if "gateway" in hop:
                    found.add(hop["gateway"])
        return found

    def bgp_prefixes(self) -> set[str]:
        """What the router's BGP holds."""
        return set(self.vtysh("show bgp ipv6 unicast").get("routes", {}))

    @staticmethod
    def heartbeat(name: str) -> str:
        """The file with the node's heartbeat."""
        return f"/run/og/{'hasher' if name in HASHERS else 'router'}.heartbeat"

    def start_heartbeat(self, name: str, flags: int = 3) -> None:
        """Before others in the queue for a processor: silence of 200 ms is a failure."""
        writer = ("nice", "-n", "-15", "python3", "/opt/writer.py", self.heartbeat(name), str(flags))
        run("docker", "exec", "--detach", container(name), *writer)

    def _heartbeat_field(self, name: str, kind: str, offset: int, size: int) -> str:
        where = (f"-j{offset}", f"-N{size}", self.heartbeat(name))
        return self.execute(name, "od", "-An", f"-t{kind}", *where).stdout.strip()

    def heartbeat_pid(self, name: str) -> str:
        """Process that writes the heartbeat, as seen on the node."""
        return self._heartbeat_field(name, "u4", 28, 4)

    def late_heartbeats(self, name: str) -> list[str]:
        """How late those turns of the heartbeat were that came late, in ms; what is late just now is waited for."""
        loops = self._heartbeat_field(name, "u8", 8, 8)
        wait_for("the heartbeat goes on", lambda: self._heartbeat_field(name, "u8", 8, 8) != loops)
        return self.execute(name, "cat", f"{self.heartbeat(name)}.late", check=False).stdout.split()

    def signal(self, name: str, signal: str) -> float:
        """Send a signal to the process that writes the heartbeat; returns when, as a Unix time."""
        source = f"import os, signal, time; print(time.time()); os.kill({self.heartbeat_pid(name)}, signal.SIG{signal})"
        return float(self.execute(name, "python3", "-c", source).stdout)

    @contextmanager
    def route_monitor(self) -> Iterator[RouteMonitor]:
        """Watch the router's kernel routes."""
        argv = ["docker", "exec", container(ROUTER), "ip", "-6", "-o", "-ts", "monitor", "route"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            try:
                monitor = RouteMonitor(process)
                # A route of our own shows that the monitor listens.
                wait_for("the route monitor listens", partial(self._tickle, monitor))
                yield monitor
            finally:
                process.terminate()

    def _tickle(self, monitor: RouteMonitor) -> bool:
        self.execute(ROUTER, "ip", "-6", "route", "replace", "blackhole", TICKLE)
        self.execute(ROUTER, "ip", "-6", "route", "delete", "blackhole", TICKLE)
        return bool(monitor.lines_about(TICKLE))

    def health(self, name: str) -> dict[str, Any]:
        shown = self.execute(name, "curl", "--silent", "http://127.0.0.1:9441/health", check=False).stdout
        return json.loads(shown) if shown else {}
