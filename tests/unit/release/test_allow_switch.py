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
    variables = {"og_release_id": B, "ansible_python_interpreter": sys.executable}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": variables}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play | {"roles": ["og_release"]}]))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "--check", "--diff"]
    done = subprocess.run(
        [*command, str(tmp_path / "play.yml"), "-e", f"__og_release_root={tmp_path}/og {values}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (f'+ "current": "{B}"' in done.stdout) is switched, done.stdout
    assert (f"{A} stays current" in " ".join(done.stdout.split())) is told, done.stdout
