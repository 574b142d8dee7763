# SPDX-License-Identifier: Apache-2.0
"""Role og_rolling on one node, in a real run of Ansible. What asks a gateway node, and its programs, are stand-ins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from filter_plugins.og_rolling import ROUND
from tests.unit.conftest import ROOT

A, B = "a" * 16, "b" * 16

# A module that notes how it was called, and fails where the test says so.
STANDIN = """#!{python}
import json, pathlib, sys
from ansible.module_utils.basic import AnsibleModule
spec = json.loads({spec!r})
module = AnsibleModule({{name: {{"type": kind}} for name, kind in spec.items()}})
name = pathlib.Path({log!r})
call = {module!r} + ":" + str(module.params.get("state") or module.params.get("id") or "ready")
with name.open("a") as log:
    log.write(call + "\\n")
seen = name.read_text().splitlines().count(call)
failures = json.loads({failures!r})
said = failures.get(call + "#" + str(seen), failures.get(call))
if said:
    module.fail_json(msg=said, ready=False)
module.exit_json(changed=False, ready=True, previous={after!r})
"""
READY = {
    "role": "str", "node": "str", "state": "str", "timeout_s": "float", "release": "str", "others": "int",
    "leaving": "list", "consul_url": "str", "root": "path",
}  # fmt: skip
RELEASE = {"id": "str", "previous": "str", "root": "path", "keep": "int"}


class Node:
    """A router that a round reaches: its folder, and what the role did to it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.health = folder, folder / "log", folder / "health.log"
        self.drain_file = folder / "health.drain"
        for release in (A, B):
            binaries = folder / "og/releases" / release / "bin"
            binaries.mkdir(parents=True)
            for name in ("og-router", "og-control", "og-health"):
                (binaries / name).write_text(
                    f'#!/bin/sh\ncase "$1" in --*drain) echo {release[0]} "$1" >>{self.health};; esac\n'
                )
                (binaries / name).chmod(0o755)
        (folder / "og/current").symlink_to(f"releases/{A}")
        (folder / "library").mkdir()

    def take(self, failures: dict[str, str], **state: Any) -> tuple[int, str]:
        """Run the role; return Ansible's exit status and what it said, on one line."""
        for name, spec in (("og_ready", READY), ("og_release", RELEASE)):
            (self.folder / "library" / f"{name}.py").write_text(
                STANDIN.format(
                    python=sys.executable,
                    spec=json.dumps(spec),
                    log=str(self.log),
                    module=name,
                    after=A,
                    failures=json.dumps(failures),
                )
            )
        release = {"current": A, "previous": "", "installed": [A, B], "running": {}, "stale": []}
        play = {
            "hosts": "ogr_x",
            "connection": "local",
            "gather_facts": False,
            "vars": {
                "og_role": "router",
                "og_rolling_root": str(self.folder / "og"),
                "__og_rolling_state": {"release": release, **state},
                "ansible_python_interpreter": sys.executable,
            },
            "tasks": [{"ansible.builtin.import_role": {"name": "og_rolling"}}],
        }
        inventory = {"all": {"hosts": {"ogr_x": {}, "localhost": {"__og_rolling_decided": B}}}}
        (self.folder / "inventory.json").write_text(json.dumps(inventory))
        (self.folder / "play.yml").write_text(json.dumps([play]))
        program = Path(sys.executable).with_name("ansible-playbook")
        variables = ["-e", f"__og_rolling_drain_file={self.drain_file}"]
        done = subprocess.run(
            [program, "-i", self.folder / "inventory.json", self.folder / "play.yml", *variables],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_LIBRARY": str(self.folder / "library"),
                "ANSIBLE_NOCOLOR": "1",
            },
        )
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    def asked(self) -> list[str]:
        """Calls of the stand-in modules, in order."""
        return self.log.read_text().splitlines()

    def drains(self) -> list[str]:
        """Calls of og-health, by the first letter of the release it is of."""
        return self.health.read_text().splitlines() if self.health.exists() else []


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_node_that_goes_back_is_announced_again(node: Node) -> None:
    code, said = node.take({"og_ready:aside#1": "og-router does not run"})
    assert code != 0
    assert f"release {B} does not work there. Wait until it works, still aside: og-router does not run." in said
    assert f"The node is back on {A} and works. Nodes that were done before" in said
    assert node.asked()[-3:] == [f"og_release:{A}", "og_ready:aside", "og_ready:ready"]
    assert node.drains()[-1] == "a --undrain", "by the release that ran"


def test_a_way_back_that_fails_leaves_no_drained_node_and_is_told(node: Node) -> None:
    failures = {
        "og_ready:aside#1": "no tables",
        f"og_release:{A}": "no space left",
        "og_ready:ready#2": "ogr_x is lost",
    }
    code, said = node.take(failures)
    assert code != 0
    assert "Wait until it works, still aside: no tables." in said
    assert (
        f"The way back to {A} failed, too. Switch back: no space left. The node does not work: ogr_x is lost." in said
    )
    assert node.drains()[-1] == "a --undrain"
    assert node.asked()[-2:] == [f"og_release:{A}", "og_ready:ready"]


def test_a_node_that_was_drained_on_purpose_stays_so(node: Node) -> None:
    code, said = node.take({}, drained="Consul")
    assert code == 0, said
    assert not node.drain_file.exists()
    assert node.drains() == []
    assert node.asked() == [
        "og_ready:aside", "og_ready:drained", f"og_release:{B}", "og_ready:aside", "og_ready:aside"
    ]  # fmt: skip


def test_what_a_round_has_drained_is_known_by_the_file(node: Node) -> None:
    """A round that is cut off after the drain: the stand-in's failure ends it there, and back cannot undo it."""
    code, _ = node.take({"og_ready:drained": "packets still come in"})
    assert code != 0
    assert node.drain_file.read_text().strip() == ROUND
    assert node.asked()[0] == "og_ready:ready"
