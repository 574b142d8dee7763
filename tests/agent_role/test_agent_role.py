# SPDX-License-Identifier: Apache-2.0
"""The role og_agent on a container of its own: from a bare host in check mode to a changed option."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.services.nodes import BARE, IMAGE, ROOT, Node, run, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

LAUNCHER = '#!/bin/sh\nPYTHONPATH=/opt/og/current/lib exec python3 -m og.agent "$@"\n'
HERE = ROOT / "tests/agent_role"
NAME = "ogagt-agent-w1"


def install_release(node: Node) -> None:
    """What the role og_release leaves behind, as far as the agent is concerned."""
    release = "/opt/og/releases/test"
    node.sh(f"mkdir -p {release}/bin {release}/lib && ln -sfn releases/test /opt/og/current")
    node.sh(f"echo {{}} >{release}/manifest.json")
    run("docker", "cp", str(ROOT / "og"), f"{node.name}:{release}/lib/og")
    run("docker", "cp", str(ROOT / "bpf"), f"{node.name}:{release}/bpf")
    run("docker", "cp", str(ROOT / "native/lib/og_wire.h"), f"{node.name}:{release}/bpf/og_wire.h")
    node.sh(f"cat >{release}/bin/og-agent <<'EOF'\n{LAUNCHER}EOF\nchmod 755 {release}/bin/og-agent")


def play(*arguments: str) -> str:
    """Run the playbook; fails with its output."""
    ansible = shutil.which("ansible-playbook", path=os.path.dirname(sys.executable)) or "ansible-playbook"  # noqa: PTH120
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    command = [ansible, "-i", str(HERE / "inventory"), str(HERE / "site.yml"), "--limit", "agents", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def started(image: str) -> Node:
    """A host with a data port and a default route, as the base role leaves it."""
    node = Node(NAME, "2001:db8:f001:31::2")
    node.stop()
    node.start(image)
    node.sh(
        "ip link add fab0 mtu 2000 type veth peer name far0 && ip link set far0 up && ip link set fab0 up"
        " && ip addr add 2001:db8:f001:31::2/64 dev fab0 nodad && sleep 1"
        " && ip -6 route add default via 2001:db8:f001:31::1 src 2001:db8:f001:31::2"
    )
    return node


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    if shutil.which("docker") is None or run("docker", "image", "inspect", BARE, IMAGE, check=False).returncode:
        pytest.skip(f"no images {BARE} and {IMAGE}: `make images` builds them")
    bare = started(BARE)
    try:
        check = play("--check")
        assert "failed=0" in check
        bare.stop()
        made = started(IMAGE)
        install_release(made)
        play()
        yield made
    finally:
        bare.stop()


def status(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(node.sh("/opt/og/current/bin/og-agent --status"))
    return found


def test_agent_runs_and_is_attached(node: Node) -> None:
    state = status(node)
    assert (state["attached"], state["mode"], state["load_aware"]) == (True, "generic", True)
    assert (state["daemon"]["running"], state["problems"]) == (True, [])
    assert state["locator"] == "5f00:1:31::"
    assert node.sh("systemctl is-enabled og-agent").strip() == "enabled"
    assert "2001:db8:1::80/128" in node.sh("ip -6 addr show dev lo")
    assert json.loads(node.sh("cat /etc/og/agent.json"))["gateways"] == ["5f00:1:11::/64", "5f00:1:21::/64"]


@pytest.mark.usefixtures("node")
def test_second_run_changes_nothing() -> None:
    assert "changed=0" in play("--diff")
    assert "changed=0" in play("--check", "--diff")


def test_changed_option_is_reloaded_without_a_restart(node: Node) -> None:
    before = node.sh("systemctl show --value --property MainPID og-agent")
    assert "changed=2" in play("-e", '{"og_agent_draining": true}')  # the file, and the reload
    wait_for("it drains", lambda: status(node)["draining"])
    assert node.sh("systemctl show --value --property MainPID og-agent") == before
    play()
    wait_for("it drains no more", lambda: not status(node)["draining"])


def test_stop_leaves_the_programs(node: Node) -> None:
    node.sh("systemctl stop og-agent")
    state = status(node)
    assert (state["attached"], state["daemon"]["running"]) == (True, False)
    assert "2001:db8:1::80/128" in node.sh("ip -6 addr show dev lo")
    node.sh("systemctl start og-agent")
    assert status(node)["daemon"]["running"] is True


def test_another_release_is_started(node: Node) -> None:
    node.sh('echo \'{"id": "other"}\' >/opt/og/releases/test/manifest.json')
    before = node.sh("systemctl show --value --property MainPID og-agent")
    assert "changed=1" in play()
    assert node.sh("systemctl show --value --property MainPID og-agent") != before
    assert "changed=0" in play()
    assert status(node)["attached"] is True
