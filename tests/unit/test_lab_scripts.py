# SPDX-License-Identifier: Apache-2.0
"""What the lab's scripts print: the table by site, programs by name, seconds per play."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.lab_cpu import program
from scripts.lab_table import table

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_groups_by_site() -> None:
    rows = [
        ("west", "rtr_w1", "network router", "running", "2001:db8::1", "frr"),
        ("west", "ogh_w1", "hasher", "exited (1)", "", ""),
        ("core", "rtr_c1", "network router", "running", "2001:db8::2", "frr"),
    ]
    assert table(rows) == [
        "SITE  NODE    ROLE            STATE       ADDRESS      RUNS",
        "west  rtr_w1  network router  running     2001:db8::1  frr",
        "west  ogh_w1  hasher          exited (1)",
        "",
        "core  rtr_c1  network router  running     2001:db8::2  frr",
    ]


@pytest.mark.parametrize(
    ("name", "words", "wanted"),
    [
        ("consul", ["/usr/local/bin/consul", "agent"], "consul"),
        ("python3", ["python3", "-m", "og.stats", "--config", "/etc/og/stats.json"], "og.stats"),
        ("python3", ["/usr/bin/python3", "/usr/lib/frr/frr-reload.py", "--reload"], "frr-reload.py"),
        ("python3", ["python3"], "python3"),
        ("kworker", [""], "kworker"),
    ],
)
def test_programs_have_their_own_name(name: str, words: list[str], wanted: str) -> None:
    assert program(name, words) == wanted


def test_seconds_per_play_are_printed(tmp_path: Path) -> None:
    plays = "".join(f"- {{name: Play {i}, hosts: localhost, gather_facts: false, tasks: []}}\n" for i in (1, 2))
    (tmp_path / "play.yml").write_text(plays)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(tmp_path / "play.yml")],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_CALLBACKS_ENABLED": "og_phases"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.partition("SECONDS")[2].splitlines()[1:]
    assert [line.split(maxsplit=1)[1] for line in lines if line.strip()] == ["Play 1", "Play 2", "all"]
    assert all(line.split()[0].isdigit() for line in lines if line.strip())
