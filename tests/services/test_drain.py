# SPDX-License-Identifier: Apache-2.0
"""playbooks/drain.yml and restore.yml with a real Consul: the mark is written where the control daemons look for it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.services.nodes import ROOT, run
from tests.services.test_services import recap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.conftest import Site

# No traffic reaches these nodes: the test says, in place of the agent daemon, how many connections there are.
STATUS = """
import json, pathlib, sys, time
new = pathlib.Path("/run/og/status.new")
new.parent.mkdir(exist_ok=True)
new.write_text(json.dumps({"time": time.time() + 3600, "services": {"web": {"connections": int(sys.argv[1])}}}))
new.rename("/run/og/agent.status.json")
"""


def set_connections(site: Site, count: int) -> None:
    site.agent.sh(f"cat >/tmp/status.py <<'EOF'\n{STATUS}\nEOF\npython3 /tmp/status.py {count}")


def play(name: str, *arguments: str) -> tuple[int, str]:
    """Run a playbook of the repository; return exit status and output."""
    os.environ["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
    ansible, inventory = Path(sys.executable).with_name("ansible-playbook"), ROOT / "tests/services/inventory"
    playbook = ROOT / "playbooks" / f"{name}.yml"
    result = run(str(ansible), "-i", str(inventory), str(playbook), *arguments, check=False, timeout=600)
    return result.returncode, result.stdout


def marks(site: Site) -> list[str]:
    """The keys, as Consul's server has them."""
    out = site.monitor.sh("curl -s 'http://127.0.0.1:8500/v1/kv/og/west/drain/?keys'")
    return re.findall(r'"([^"]+)"', out)


@pytest.fixture
def target(site: Site) -> Iterator[list[str]]:
    yield ["-e", "og_drain_target=agent_w1"]
    site.monitor.sh("curl -s -X DELETE 'http://127.0.0.1:8500/v1/kv/og/?recurse'")
    site.agent.sh("rm -f /run/og/agent.status.json")


def test_drain_is_written_once_and_undone(site: Site, target: list[str]) -> None:
    set_connections(site, 3)
    code, output = play("drain", *target, "--check", "--diff")
    assert code == 0, output
    assert recap(output)["agent_w1"] == (1, 0)
    assert marks(site) == []

    set_connections(site, 0)
    code, output = play("drain", *target)
    assert code == 0, output
    assert recap(output)["agent_w1"] == (1, 0)
    assert marks(site) == ["og/west/drain/agent_w1"]

    code, output = play("drain", *target)
    assert (code, recap(output)["agent_w1"]) == (0, (0, 0)), output

    code, output = play("restore", *target, "--check")
    assert recap(output)["agent_w1"] == (1, 0)
    assert marks(site) == ["og/west/drain/agent_w1"]
    assert play("restore", *target)[0] == 0
    assert marks(site) == []
    code, output = play("restore", *target)
    assert (code, recap(output)["agent_w1"]) == (0, (0, 0)), output


def test_a_server_that_stays_busy_stays_drained_and_fails_the_play(site: Site, target: list[str]) -> None:
    set_connections(site, 2)
    code, output = play("drain", *target, "-e", "og_drain_timeout_s=3")
    assert code != 0
    assert "agent_w1 is drained, but not idle after 3 s: 2 connections." in " ".join(output.split())
    assert marks(site) == ["og/west/drain/agent_w1"]


def test_without_consul_nothing_is_done_and_the_reason_is_said(site: Site, target: list[str]) -> None:
    set_connections(site, 0)
    site.agent.sh("systemctl stop consul")
    try:
        code, output = play("drain", *target)
    finally:
        site.agent.sh("systemctl start consul")
    assert code != 0
    assert "Consul at 127.0.0.1:8500: " in output
    assert "Connection refused" in output


def test_an_unknown_target_is_refused_before_any_host(site: Site) -> None:
    code, output = play("drain", "-e", "og_drain_target=agent_w9")
    assert code != 0
    assert "og_drain_target (agent_w9) is neither a server, router or hasher" in " ".join(output.split())
    assert marks(site) == []
