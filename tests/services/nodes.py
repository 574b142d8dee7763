# SPDX-License-Identifier: Apache-2.0
"""Two Debian containers with systemd, joined by a cable: what the services' tests deploy to and look at."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
BARE = os.environ.get("OG_BASE_IMAGE", "og-base:latest")  # Debian as it comes
IMAGE = os.environ.get("OG_NODE_IMAGE", "og-node:latest")  # with the packages the roles install
LABEL = "org.occam-gateway.test=services"
PORT = "fab0"
VIP = "2001:db8:1::80"
T = TypeVar("T")


def run(*argv: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run one command; its output is in the error when it fails."""
    result = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
    if check and result.returncode:
        raise RuntimeError(f"{' '.join(argv)}: exit {result.returncode}\n{result.stdout}{result.stderr}")
    return result


def wait_for(what: str, look: Callable[[], T], timeout: float = 240) -> T:
    """Look every 0.2 s until there is something; the last error is in the message when there is not."""
    deadline, last = time.monotonic() + timeout, ""
    while time.monotonic() < deadline:
        try:
            if found := look():
                return found
        except (RuntimeError, ValueError, KeyError, IndexError) as error:
            last = str(error)
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {timeout:.0f} s. {last}")


class Node:
    """One container."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address

    def start(self, image: str = IMAGE) -> None:
        """Start it and wait for systemd."""
        cgroup = "/sys/fs/cgroup/unified" if Path("/sys/fs/cgroup/unified").is_dir() else "/sys/fs/cgroup"
        run("docker", "run", "--detach", "--name", self.name, "--hostname", self.name, "--label", LABEL,
            "--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--security-opt=seccomp=unconfined",
            "--security-opt=apparmor=unconfined", "--cgroupns=host", "--volume", f"{cgroup}:/sys/fs/cgroup:rw",
            "--tmpfs=/run", "--tmpfs=/run/lock", "--env=container=docker", "--log-driver=none",
            "--sysctl=net.ipv6.conf.all.disable_ipv6=0", "--sysctl=net.ipv6.conf.default.disable_ipv6=0",
            image, "/sbin/init")  # fmt: skip
        wait_for(f"{self.name}: systemd", self._booted)

    def _booted(self) -> bool:
        state = run("docker", "exec", self.name, "systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def stop(self) -> None:
        """Remove it and what it holds."""
        run("docker", "rm", "--force", "--volumes", self.name, check=False)

    def sh(self, script: str, check: bool = True) -> str:
        """Run a shell script in it."""
        return run("docker", "exec", self.name, "sh", "-c", script, check=check).stdout

    def json(self, script: str) -> Any:
        """Decode what a shell script prints."""
        return json.loads(self.sh(script))

    def consul(self, path: str) -> Any:
        """Ask its Consul."""
        return self.json(f"curl -sf 'http://127.0.0.1:8500/v1/{path}'")

    def pid(self) -> str:
        """Process id of its init, on this machine."""
        return run("docker", "inspect", "--format", "{{.State.Pid}}", self.name).stdout.strip()


def join(a: Node, b: Node) -> None:
    """Lay a cable between two nodes and give each its address."""
    run("ip", "link", "add", "name", PORT, "netns", a.pid(), "type", "veth", "peer", "name", PORT, "netns", b.pid())
    for node in (a, b):
        node.sh(f"ip addr add {node.address}/32 dev {PORT} nodad && ip link set {PORT} up")


class Influx:
    """Queries to the InfluxDB of a node."""

    def __init__(self, node: Node, database: str = "og") -> None:
        self.node = node
        self.database = database

    def query(self, text: str) -> list[dict[str, Any]]:
        """Series of one InfluxQL query. An error InfluxDB answers is raised."""
        url = f"http://[{self.node.address}]:8086/query"
        words = ["curl", "-s", "-G", url, "--data-urlencode", f"db={self.database}", "--data-urlencode", f"q={text}"]
        answer = self.node.json(shlex.join(words))
        result = answer.get("results", [{}])[0]
        problem = answer.get("error") or result.get("error")
        if problem:
            raise ValueError(f"{text}: {problem}")
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    def write(self, lines: bytes) -> None:
        """Write line protocol with times in ms."""
        url = f"http://[{self.node.address}]:8086/write?db={self.database}&precision=ms"
        argv = ["docker", "exec", "-i", self.node.name, "curl", "-sS", "--fail", "--data-binary", "@-", url]
        subprocess.run(argv, input=lines, check=True, timeout=60)

    def value(self, text: str) -> Any:
        """First value of the first series."""
        return self.query(text)[0]["values"][0][1]
