# SPDX-License-Identifier: Apache-2.0
"""For the tests of all scenarios: the nodes, the far end of a cable, and what a unit said when a test fails."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from testinfra.utils.ansible_runner import AnsibleRunner

from native.tests.system.harness import Wire, mac_of
from tests.services.nodes import run

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from testinfra.host import Host

SCENARIO = os.environ.get("MOLECULE_SCENARIO_NAME", "")
LOG_LINES = 40


@pytest.fixture(scope="session")
def at(request: pytest.FixtureRequest) -> Callable[[str], Host]:
    """A node by its inventory name."""
    runner = AnsibleRunner(request.config.getoption("ansible_inventory"))
    nodes: dict[str, Host] = {}

    def get(name: str) -> Host:
        if name not in nodes:
            nodes[name] = runner.get_host(name)
            assert nodes[name] is not None, f"{name} is not in the inventory"
        return nodes[name]

    return get


@pytest.fixture(scope="session")
def consul(at: Callable[[str], Host]) -> Callable[..., Any]:
    """Ask the Consul of a node; with a body, write."""
    script = (
        "import sys, urllib.request as r; url, body = sys.argv[1:];"
        "request = r.Request(url, body.encode() or None, method='PUT' if body else 'GET');"
        "print(r.urlopen(request, timeout=20).read().decode())"
    )

    def ask(node: str, path: str, body: Any = None) -> Any:
        text = json.dumps(body) if body is not None else ""
        done = at(node).run("python3 -c %s %s %s", script, f"http://127.0.0.1:8500/v1/{path}", text)
        if done.rc:
            raise RuntimeError(f"Consul of {node}: {path}: {done.stderr.strip()}")
        return json.loads(done.stdout or "null")

    return ask


@contextlib.contextmanager
def namespace(container: str) -> Iterator[str]:
    """The container's network namespace under a name, as `ip netns` knows it."""
    pid = run("docker", "inspect", "--format", "{{.State.Pid}}", container).stdout.strip()
    run("ip", "netns", "attach", container, pid)
    try:
        yield container
    finally:
        run("ip", "netns", "delete", container)


@pytest.fixture(scope="module")
def far_end() -> Iterator[Callable[[str], Wire]]:
    """The network router's end of a node's cable: raw frames out and in."""
    with contextlib.ExitStack() as stack:

        def get(node: str) -> Wire:
            far = stack.enter_context(namespace(container("rtr_w1")))
            near = stack.enter_context(namespace(container(node)))
            wire = Wire(far, f"to-{node}", mac_of(near, "fab0"))
            stack.callback(wire.close)
            return wire

        yield get


def container(node: str) -> str:
    """Docker's name of a node."""
    return f"og-mol-{SCENARIO}-{node.replace('_', '-')}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the end of every node's journal."""
    report = yield
    if report.failed and SCENARIO:
        label = f"label=org.occam-gateway.molecule.{SCENARIO}"
        for name in run("docker", "ps", "--filter", label, "--format", "{{.Names}}").stdout.split():
            done = run("docker", "exec", name, "journalctl", "--no-pager", "--lines", str(LOG_LINES), check=False)
            report.sections.append((f"journal of {name}", done.stdout))
    return report
