# SPDX-License-Identifier: Apache-2.0
"""A monitor and an application host, deployed once by the roles as an operator would."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.services.nodes import BARE, IMAGE, ROOT, VIP, Influx, Node, join, run

if TYPE_CHECKING:
    from collections.abc import Iterator

LAUNCHER = '#!/bin/sh\nPYTHONPATH=/opt/og/current/lib exec python3 -m og.stats "$@"\n'


@dataclass
class Site:
    """The two nodes, and what Ansible printed on each of its runs."""

    monitor: Node
    agent: Node
    runs: dict[str, str] = field(default_factory=dict)

    @property
    def influx(self) -> Influx:
        return Influx(self.monitor)

    def play(self, name: str, *arguments: str, fails: bool = False) -> str:
        """Run the playbook; the output is kept under `name`. `fails`: it must."""
        ansible = Path(sys.executable).with_name("ansible-playbook")
        os.environ["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
        playbook, inventory = ROOT / "tests/services/site.yml", ROOT / "tests/services/inventory"
        result = run(str(ansible), "-i", str(inventory), str(playbook), *arguments, check=False, timeout=900)
        self.runs[name] = result.stdout
        if bool(result.returncode) is not fails:
            raise RuntimeError(f"ansible-playbook {' '.join(arguments)}: exit {result.returncode}\n{result.stdout}")
        return result.stdout


def install_release(node: Node) -> None:
    """What the role og_release leaves behind, as far as the poster is concerned."""
    node.sh("mkdir -p /opt/og/releases/test/bin /opt/og/releases/test/lib && ln -sfn releases/test /opt/og/current")
    run("docker", "cp", str(ROOT / "og"), f"{node.name}:/opt/og/releases/test/lib/og")
    node.sh(f"cat >/opt/og/current/bin/og-stats <<'EOF'\n{LAUNCHER}EOF\nchmod 755 /opt/og/current/bin/og-stats")


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    if shutil.which("docker") is None or run("docker", "image", "inspect", BARE, IMAGE, check=False).returncode:
        pytest.skip(f"no images {BARE} and {IMAGE}: `make images` builds them")
    monitor = Node("ogsvc-mon-w1", "2001:db8:f001:51::2")
    agent = Node("ogsvc-agent-w1", "2001:db8:f001:31::2")
    site = Site(monitor, agent)
    try:
        for node in (monitor, agent):
            node.stop()  # what a killed run has left
            node.start(BARE)
        site.play("check", "--check")
        for node in (monitor, agent):
            node.stop()
            node.start()
            install_release(node)
        join(monitor, agent)
        agent.sh(f"ip addr add {VIP}/128 dev lo nodad noprefixroute preferred_lft 0")
        site.play("first")
        site.play("second")
        yield site
    finally:
        for node in (monitor, agent):
            node.stop()
