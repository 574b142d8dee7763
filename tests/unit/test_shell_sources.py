# SPDX-License-Identifier: Apache-2.0
"""What shellcheck gets to see: every shell script and shell task, and of a template what is shell."""

from __future__ import annotations

from pathlib import Path

from scripts import shell_sources

ROOT = Path(__file__).resolve().parents[2]
TASKS = """---
- name: A block
  block:
    - name: Literal
      ansible.builtin.shell:
        cmd: |
          echo {{ a
            | quote }}
          cd b
        executable: /bin/bash
    - name: Free form
      ansible.builtin.shell: echo c
    - name: No shell
      ansible.builtin.command: echo $d
"""


def test_every_script_is_found():
    found = dict(shell_sources.sources(ROOT))
    assert found.keys() >= {
        ".ci/run",
        "roles/consul/templates/fetch-debian.sh.j2",
        "roles/og_node/templates/og-network.j2",
        "roles/og_preflight/files/host_facts.sh",
        "scripts/bootstrap",
    }
    assert any(name.startswith("roles/web/tasks/main.yml:") for name in found)
    assert all(text.startswith("#!") for text in found.values())


def test_a_template_keeps_its_lines_and_loses_its_jinja(tmp_path):
    template = tmp_path / "script.sh.j2"
    template.write_text("{{ ansible_managed | comment }}\nset -eu\n{% if a %}\necho {{ b }}\n{% endif %}\n")
    assert shell_sources.script(template) == "#!/bin/sh\nset -eu\n\necho value\n\n"


def test_tasks_keep_their_shell_and_their_lines(tmp_path):
    path = tmp_path / "main.yml"
    path.write_text(TASKS)
    literal, free_form = shell_sources.task_scripts(path)
    assert literal == (7, "#!/bin/bash\n\n\n\n\n\necho value\n\ncd b\n")
    assert free_form == (12, "#!/bin/sh\n" + "\n" * 10 + "echo c\n")
    original = TASKS.splitlines()
    for number, line in enumerate(literal[1].splitlines(), 1):
        assert not line.startswith("cd") or original[number - 1].strip() == line


def test_other_files_are_no_scripts(tmp_path):
    (tmp_path / "nft").write_text("#!/usr/sbin/nft -f\n")
    (tmp_path / "x.py").write_text("#!/bin/sh\n")
    assert list(shell_sources.sources(tmp_path)) == []


def test_what_is_not_ours_is_left_out(tmp_path):
    for folder in ("build", ".venv"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.sh").write_text("cd $1\n")
    (tmp_path / "x.sh").write_text("cd $1\n")
    assert [name for name, _ in shell_sources.sources(tmp_path)] == ["x.sh"]
