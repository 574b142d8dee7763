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
drained = pathlib.Path({drain_file!r})
if drained.exists():
    drained.with_suffix(".seen").write_text(drained.read_text())
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
        self.folder, self.log = folder, folder / "log"
        self.drain_file = folder / "health.drain"
        for release in (A, B):
            binaries = folder / "og/releases" / release / "bin"
            binaries.mkdir(parents=True)
            for name in ("og-router", "og-control", "og-health"):
                (binaries / name).write_text("#!/bin/sh\n")
                (binaries / name).chmod(0o755)
        (folder / "og/current").symlink_to(f"releases/{A}")
        (folder / "library").mkdir()

    def take(self, failures: dict[str, str], *, before: tuple[str, ...] = (), **state: Any) -> tuple[int, str]:
        """Run the role; return Ansible's exit status and what it said, on one line.

        `before`: nodes whose turn was earlier.
        """
        for name, spec in (("og_ready", READY), ("og_release", RELEASE)):
            (self.folder / "library" / f"{name}.py").write_text(
                STANDIN.format(
                    python=sys.executable,
                    spec=json.dumps(spec),
                    log=str(self.log),
                    module=name,
                    after=A,
                    drain_file=str(self.drain_file),
                    failures=json.dumps(failures),
                )
            )
        release = {"current": A, "previous": "", "installed": [A, B], "running": {}, "stale": []}
        release |= state.pop("release", {})
        play = {
            "hosts": "ogr_x",
            "connection": "local",
            "gather_facts": False,
            "vars": {
                "og_role": "router",
                "__og_rolling_state": {"release": release, **state},
                "ansible_python_interpreter": sys.executable,
            },
            "tasks": [{"ansible.builtin.import_role": {"name": "og_rolling"}}],
        }
        steps = [{"host": name} for name in (*before, "ogr_x")]
        inventory = {
            "all": {
                "hosts": {
                    **{name: {} for name in (*before, "ogr_x")},
                    "localhost": {"__og_rolling_decided": B, "__og_rolling_steps": steps},
                }
            }
        }
        (self.folder / "inventory.json").write_text(json.dumps(inventory))
        (self.folder / "play.yml").write_text(json.dumps([play]))
        program = Path(sys.executable).with_name("ansible-playbook")
        # No units: this machine has none of them.
        own = {"__og_rolling_root": str(self.folder / "og"), "__og_rolling_drain_file": str(self.drain_file)}
        variables = ["-e", json.dumps({**own, "__og_rolling_units": []})]
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
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_node_that_goes_back_is_announced_again(node: Node) -> None:
    code, said = node.take({"og_ready:aside#1": "og-router does not run"})
    assert code != 0
    assert f"release {B} does not work there. Wait until it works, still aside: og-router does not run." in said
    assert f"The node is back on {A} and works. Nodes that were done before" in said
    assert node.asked()[-3:] == [f"og_release:{A}", "og_ready:aside", "og_ready:ready"]
    assert not node.drain_file.exists()


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
    assert not node.drain_file.exists()
    assert node.asked()[-2:] == [f"og_release:{A}", "og_ready:ready"]


def test_a_node_that_was_drained_on_purpose_stays_so(node: Node) -> None:
    code, said = node.take({}, drained="Consul")
    assert code == 0, said
    assert not node.drain_file.exists()
    assert node.asked() == [
        "og_ready:aside", "og_ready:drained", f"og_release:{B}", "og_ready:aside", "og_ready:aside"
    ]  # fmt: skip


def test_what_a_round_has_drained_is_known_by_the_file(node: Node) -> None:
    """What a round that is cut off after the drain would leave."""
    code, said = node.take({})
    assert code == 0, said
    assert node.drain_file.with_suffix(".seen").read_text().strip() == ROUND
    assert not node.drain_file.exists()


def test_a_round_does_not_go_on_without_a_node_that_was_lost(node: Node) -> None:
    code, said = node.take({}, before=("ogr_lost",))
    assert code != 0
    assert "The round stopped: ogr_lost could not be reached any more, may be drained and on either release." in said
    assert node.asked() == [], "nothing was asked or touched"


def test_the_way_back_is_what_the_data_plane_ran(node: Node) -> None:
    release = {"current": B, "previous": A, "running": {"og-router": A}}
    code, said = node.take({"og_ready:aside#1": "og-router does not run"}, release=release)
    assert code != 0
    assert f"The node is back on {A} and works." in said
    assert node.asked()[-3:] == [f"og_release:{A}", "og_ready:aside", "og_ready:ready"]


def test_a_node_that_was_only_drained_is_only_undrained(node: Node) -> None:
    code, said = node.take({"og_ready:drained": "packets still come in"})
    assert code != 0
    assert "Wait until nothing of clients comes in: packets still come in." in said
    assert not any(call.startswith("og_release") for call in node.asked())
    assert node.asked()[-1] == "og_ready:ready"
    assert not node.drain_file.exists()
