# SPDX-License-Identifier: Apache-2.0
"""The running lab as the tests see it: nodes to run commands on, captures, and the clients' load."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
LABEL = "org.occam-gateway.lab"
# A load that its test ends has this for its duration: if the test is killed, the load is not there for ever.
LONGEST = ("--duration", "1800")


class LabError(Exception):
    """The lab is not there or a command on a node failed; the message names the node and the command."""


@dataclass(frozen=True)
class Node:
    """One container of the lab, by its inventory name."""

    name: str

    @property
    def container(self) -> str:
        """Docker's name of it."""
        return "oglab-" + self.name.replace("_", "-")

    def run(self, command: str, *, check: bool = True, timeout: float = 60, stdin: bytes | None = None) -> str:
        """Standard output of a shell command. Raises LabError with its standard error if it fails."""
        argv = ["docker", "exec", *(["-i"] if stdin is not None else []), self.container, "sh", "-c", command]
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise LabError(f"{self.name}: {command!r} ended with {done.returncode}: {done.stderr.decode().strip()}")
        return done.stdout.decode()

    def json(self, command: str, **options: Any) -> Any:
        """Its output, decoded."""
        output = self.run(command, **options)
        try:
            return json.loads(output)
        except ValueError as error:
            raise LabError(f"{self.name}: {command!r} did not print JSON: {error}: {output[:200]!r}") from None

    def python(self, source: str, *arguments: str, timeout: float = 60) -> str:
        """Run a Python program, given as text, on the node."""
        quoted = " ".join(shlex.quote(argument) for argument in arguments)
        return self.run(f"python3 - {quoted}", stdin=source.encode(), timeout=timeout)

    def main_pid(self, unit: str) -> int:
        """Process id of a systemd unit inside the container; 0 if it does not run."""
        return int(self.run(f"systemctl show -p MainPID --value {unit}").strip() or 0)

    def counters(self) -> dict[str, int]:
        """Packets by verdict of the node's data plane."""
        return dict(self.json("/opt/og/current/bin/ogctl counters --json"))


class Lab:
    """All nodes of the lab that is up."""

    def __init__(self) -> None:
        listed = subprocess.run(
            ["docker", "ps", "--filter", f"label={LABEL}", "--format", "{{.Names}}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if listed.returncode:
            raise LabError(f"no Docker engine answers: {listed.stderr.strip()}")
        self.names = sorted(line.removeprefix("oglab-").replace("-", "_") for line in listed.stdout.split())
        if not self.names:
            raise LabError("no lab is up: run `make lab` first")

    def node(self, name: str) -> Node:
        """One node by its inventory name."""
        if name not in self.names:
            raise LabError(f"no node {name!r} in the lab; there are {', '.join(self.names)}")
        return Node(name)

    def group(self, prefix: str) -> list[Node]:
        """All nodes of a kind: `ogh`, `ogr`, `agent`, `cli`, `mon`, `rtr`, with a site's letter if wanted (`ogr_w`)."""
        return [Node(name) for name in self.names if name.startswith(prefix)]

    @cached_property
    def sites(self) -> list[str]:
        """Letters of the sites, as in the nodes' names: those that have a client, west first."""
        return sorted({name.split("_")[1][0] for name in self.names if name.startswith("cli_")}, reverse=True)

    @cached_property
    def site_names(self) -> dict[str, str]:
        """Names of the sites by letter, as their Consul says."""
        agents = {site: self.group(f"mon_{site}")[0] for site in self.sites}
        path = "http://127.0.0.1:8500/v1/agent/self"
        return {site: str(node.json(f"curl -sf {path}")["Config"]["Datacenter"]) for site, node in agents.items()}

    @cached_property
    def service(self) -> dict[str, Any]:
        """The first service as the routers know it: {name, vip, port, index, ...}."""
        tables = self.group("ogr")[0].json("cat /var/lib/og/router.tables.json")
        return dict(tables["services"][0])

    @property
    def vip(self) -> str:
        """Its address."""
        return str(self.service["vip"])

    def weights(self, site: str) -> dict[str, int]:
        """Weight of each server of a site, as Consul has it."""
        consul = self.group(f"mon_{site}")[0]
        catalog = consul.json(f"curl -sf http://127.0.0.1:8500/v1/catalog/service/{self.service['name']}")
        return {row["Node"].replace("-", "_"): int(row["ServiceMeta"]["weight"]) for row in catalog}


def ansible_playbook(lab: Lab, name: str) -> list[str]:
    """Return the command that runs a playbook against the lab that is up."""
    inventory = "lab" if len(lab.sites) > 1 else "recovery"
    program = Path(sys.executable).with_name("ansible-playbook")
    return [str(program), "-i", str(ROOT / "inventories" / inventory), str(ROOT / f"playbooks/{name}.yml")]


def ansible_environment(**environment: str) -> dict[str, str]:
    """Return the environment it runs in."""
    return {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", **environment}


def playbook(
    lab: Lab, name: str, *arguments: str, timeout: float = 180, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a playbook against the lab that is up. `timeout` is for one that hangs: its `always` parts do not run then.

    Raises LabError with the end of what it printed. A test that is interrupted leaves no playbook behind either.
    """
    argv = [*ansible_playbook(lab, name), *arguments]
    process = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=ansible_environment(**environment),
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        out, err = _end_playbook(process)
        raise LabError(f"{name}.yml was not over after {timeout:g} s: {out[-4000:]}{err[-2000:]}") from None
    except BaseException:
        _end_playbook(process)
        raise
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def _end_playbook(process: subprocess.Popen[str]) -> tuple[str, str]:
    """End it with all its processes, and return what it printed. Its workers have sessions of their own: it tells them
    when it is interrupted.
    """
    for number, patience in ((signal.SIGINT, 30), (signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=patience)
    return "", ""


@contextmanager
def capture(node: Node, interface: str, expression: str, into: Path, snaplen: int = 256) -> Iterator[Path]:
    """Record packets of one interface into a pcap file on this machine while the block runs."""
    remote = f"/tmp/og-capture-{time.monotonic_ns()}.pcap"
    command = (
        f"exec tcpdump -i {interface} -s {snaplen} -U -B 8192 -w {remote} {shlex.quote(expression)} 2>{remote}.log"
    )
    process = subprocess.Popen(["docker", "exec", node.container, "sh", "-c", f"echo $$ > {remote}.pid; {command}"])
    try:
        for _ in range(100):
            if "listening on" in node.run(f"cat {remote}.log 2>/dev/null", check=False):
                break
            if process.poll() is not None:
                break
            time.sleep(0.1)
        else:
            raise LabError(
                f"{node.name}: tcpdump did not start on {interface}: {node.run(f'cat {remote}.log', check=False)}"
            )
        if process.poll() is not None:
            raise LabError(f"{node.name}: tcpdump on {interface}: {node.run(f'cat {remote}.log', check=False)}")
        yield into
        time.sleep(1.5)  # tcpdump hands packets on once a second
    finally:
        node.run(f"kill -INT $(cat {remote}.pid)", check=False)
        process.wait(timeout=20)
        into.parent.mkdir(parents=True, exist_ok=True)
        with into.open("wb") as local:
            subprocess.run(["docker", "exec", node.container, "cat", remote], stdout=local, check=True)
        node.run(f"rm -f {remote} {remote}.pid {remote}.log", check=False)


class Background:
    """A command that runs on a node while the test goes on. A signal to `docker exec` does not reach it: it says its
    process id first.
    """

    def __init__(self, node: Node, command: str) -> None:
        self.node = node
        # Files, not pipes: nobody has to read them for the command to go on.
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the command runs
        self._err = tempfile.TemporaryFile()  # noqa: SIM115
        argv = ["docker", "exec", node.container, "sh", "-c", f"echo $$ >&2; exec {command}"]
        self.process = subprocess.Popen(argv, stdout=self._out, stderr=self._err)

    @property
    def out(self) -> str:
        """What it has said so far on standard output."""
        return _content(self._out.fileno())

    @property
    def err(self) -> str:
        """And on standard error, its process id ahead of it."""
        return _content(self._err.fileno())

    def signal(self, name: str) -> None:
        """Send it a signal; one that is over does not mind."""
        pid, end, _ = self.err.partition("\n")
        if end and pid.isdigit() and self.process.poll() is None:
            self.node.run(f"kill -{name} {pid}", check=False)

    def close(self, patience: float = 20) -> None:
        """End it, if it still runs: as it likes to end, or after `patience` seconds anyhow."""
        try:
            for name in ("TERM", "KILL"):
                self.signal(name)
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(patience)
                    break
        finally:
            self.process.kill()
            self.process.wait()
            self._out.close()
            self._err.close()


def _content(descriptor: int) -> str:
    """All of a file that a process still writes through the same descriptor: its place is left where it is."""
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode()


class Load(Background):
    """`og-load` on a client, in the background; `finish()` or `stop()` give its report, which is then `report`, too."""

    def __init__(self, client: Node, vip: str, *options: str, port: int = 80) -> None:
        argv = ["--host", vip, "--port", str(port), "--progress", *options]
        super().__init__(client, f"env PYTHONPATH=/opt/og/current/lib python3 -m og.load {shlex.join(argv)}")
        self.report: dict[str, Any] = {}

    def seconds(self) -> list[dict[str, int]]:
        """What it has said of each second so far: connections that were `open` at its end, `opened` in it, ..."""
        complete = self.err.rpartition("\n")[0].splitlines()
        words = [line.split()[1:] for line in complete if " open=" in line]
        return [{name: int(value) for name, _, value in (word.partition("=") for word in line)} for line in words]

    def wait_open(self, connections: int) -> None:
        """Wait until so many are open."""

        def reached() -> bool:
            seconds = self.seconds()
            return bool(seconds) and seconds[-1]["open"] >= connections

        self._wait(f"{connections} open connections", reached)

    def go_on(self, seconds: int) -> None:
        """Wait until it has worked for so many seconds from now on. It counts them itself: those in which the machine
        stalls are none.
        """
        wanted = len(self.seconds()) + 1 + seconds  # the next line is about a second that has begun already
        self._wait(f"{seconds} s of load", lambda: len(self.seconds()) >= wanted, 60 + 10 * seconds)

    def _wait(self, what: str, probe: Callable[[], bool], timeout: float = 60) -> None:
        def done() -> bool:
            if self.process.poll() is not None:
                raise LabError(f"{self.node.name}: og-load is over, without {what}: {self.err[-2000:].strip()}")
            return probe()

        wait_for(f"{what} of {self.node.name}", done, timeout)

    def finish(self, timeout: float = 180) -> dict[str, Any]:
        """Wait for the end and decode the report."""
        code = self.process.wait(timeout)
        if code not in (0, 1):
            raise LabError(f"{self.node.name}: og-load ended with {code}: {self.err[-2000:].strip()}")
        self.report = dict(json.loads(self.out))
        return self.report

    def stop(self) -> dict[str, Any]:
        """Have it close its connections and end."""
        self.signal("TERM")
        return self.finish()


@contextmanager
def load(client: Node, vip: str, *options: str, port: int = 80) -> Iterator[Load]:
    """A load that does not outlive the block."""
    running = Load(client, vip, *options, port=port)
    try:
        yield running
    finally:
        running.close()


def wait_for(what: str, probe: Any, timeout: float = 30, every: float = 0.2) -> Any:
    """The first true result of `probe()`. Raises LabError naming `what` when there is none in time."""
    end = time.monotonic() + timeout
    while True:
        last = time.monotonic() > end  # a machine that stalls does not keep the last look from being taken
        result = probe()
        if result:
            return result
        if last:
            raise LabError(f"waited {timeout:g} s for {what}")
        time.sleep(every)
