# SPDX-License-Identifier: Apache-2.0
"""An application host goes from eBPF to the kernel's own seg6local and back; no mode leaves anything behind."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.lab.nodes import Lab, Node, load, playbook, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

AGENT = "agent_w3"


def mode(node: Node) -> str:
    """What the agent itself says it runs as."""
    return str(node.json("cat /run/og/agent.status.json")["mode"])


def programs(node: Node) -> int:
    """How many of the agent's programs are attached to the data port."""
    (link,) = node.json("ip -j link show dev fab0")
    filters = json.loads(node.run("tc -j filter show dev fab0 egress") or "[]")
    return int("xdp" in link) + int(any("options" in entry for entry in filters))


def routes(node: Node) -> int:
    """How many SIDs the kernel's own seg6local serves."""
    return node.run("ip -6 route show table all").count("seg6local")


def deploy(lab: Lab, wanted: str) -> None:
    done = playbook(lab, "deploy_agents", "--limit", AGENT, "-e", f"og_agent_mode={wanted}")
    assert done.returncode == 0, done.stdout[-4000:]


@contextmanager
def served_by_kernel(lab: Lab) -> Iterator[Node]:
    """The host in mode kernel while the block runs; what it was before in any case afterwards."""
    try:
        deploy(lab, "kernel")
        yield lab.node(AGENT)
    finally:
        deploy(lab, "ebpf")


def answered(lab: Lab) -> dict[str, Any]:
    """New connections of west's client by server; none may fail."""
    options = ("--rate", "40", "--total", "120")
    with load(lab.node("cli_w1"), lab.vip, *options, port=int(lab.service["port"])) as running:
        report = running.finish()
    assert report["failed"] == 0, report["failures"]
    return dict(report["connections_per_backend"])


def test_a_host_changes_its_mode_and_back(lab: Lab) -> None:
    with served_by_kernel(lab) as node:
        assert (mode(node), programs(node)) == ("kernel", 0)
        assert routes(node) > 0
        wait_for("the host to be given connections", lambda: answered(lab).get(AGENT, 0) > 0)
    assert programs(node) == 2
    assert (routes(node), "og_agent_kernel" in node.run("nft list tables")) == (0, False)
    wait_for("its status", lambda: mode(node) != "kernel")
    wait_for("the host to be given connections", lambda: answered(lab).get(AGENT, 0) > 0)
