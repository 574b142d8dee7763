# SPDX-License-Identifier: Apache-2.0
"""Role og_release on a node that has a release: which one is current then. In check mode: it would write to /etc."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.unit.conftest import ROOT

A, B = "a" * 16, "b" * 16


@pytest.mark.parametrize(
    ("current", "values", "switched", "told"),
    [
        (A, "", False, True),
        (A, "og_release_allow_switch=true", True, False),
        (A, "og_release_allow_switch=true og_release_activate=false", False, False),
        ("", "", True, False),
        (B, "", False, False),
    ],
)
def test_another_release_stays_current_without_consent(
    tmp_path: Path, current: str, values: str, switched: bool, told: bool
) -> None:
    for name in (A, B):
        (tmp_path / "og/releases" / name).mkdir(parents=True)
        (tmp_path / "og/releases" / name / "manifest.json").write_text("{}")
    if current:
        (tmp_path / "og/current").symlink_to(f"releases/{current}")
    said = run_role(tmp_path, values, og_release_id=B)
    assert (f'+ "current": "{B}"' in said) is switched, said
    assert (f"{A} stays current" in " ".join(said.split())) is told, said


def test_a_round_puts_the_release_of_its_plan_in_place_whatever_e_says(tmp_path: Path) -> None:
    """`rollback.yml -e og_release_id=` means the release before, which only the plan knows."""
    (tmp_path / "og/releases" / B).mkdir(parents=True)
    (tmp_path / "og/releases" / B / "manifest.json").write_text("{}")
    said = run_role(tmp_path, "og_release_id=", og_release_planned=B)
    assert f'+ "current": "{B}"' in said, said
    (called,) = [
        play["tasks"][0]
        for play in yaml.safe_load((ROOT / "playbooks/rolling_round.yml").read_text())
        if play["name"] == "Put the release in place"
    ]
    assert called["vars"]["og_release_planned"] == "{{ hostvars['localhost'].__og_rolling_decided }}"


def run_role(tmp_path: Path, values: str, **variables: str) -> str:
    """Run the role in check mode on a root of its own; `values` are given with -e. Returns what Ansible said."""
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False}
    task = {"ansible.builtin.import_role": {"name": "og_release"}, "vars": variables}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play | {"tasks": [task]}]))
    values += f" ansible_python_interpreter={sys.executable} __og_release_root={tmp_path}/og"
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "--check", "--diff"]
    done = subprocess.run(
        [*command, str(tmp_path / "play.yml"), "-e", values],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
