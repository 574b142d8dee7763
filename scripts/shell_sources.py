#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Copy the project's shell sources to a folder, for shellcheck: `shell_sources.py FOLDER` prints the copies' paths.

A source is a file that begins with #!/bin/sh or bash or is named *.sh, templates of such included, and every task of
ansible.builtin.shell. A copy has the original's path (and a task's first line) and its lines at the same numbers. Of a
template every branch is kept, and an expression becomes a word.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
NOT_OURS = {".git", ".venv", "build", "__pycache__"}
SHEBANG = re.compile(r"#!\s*/(usr/)?bin/(env )?(ba|da)?sh\b")
MANAGED = re.compile(r"^\{\{ ansible_managed .*\}\}$", re.MULTILINE)
STATEMENT = re.compile(r"\{[%#].*?[%#]\}", re.DOTALL)
EXPRESSION = re.compile(r"\{\{.*?\}\}", re.DOTALL)


def without_jinja(text: str) -> str:
    """Make a shell script of a template, line by line: statements vanish, an expression becomes a word."""
    text = STATEMENT.sub(lambda found: "\n" * found.group().count("\n"), MANAGED.sub("#", text))
    return EXPRESSION.sub(lambda found: "value" + "\n" * found.group().count("\n"), text)


def is_script(path: Path) -> bool:
    """Tell a shell script, or a template of one, by its name or its first line."""
    if path.name.endswith((".sh", ".sh.j2")):
        return True
    if path.suffix not in ("", ".j2"):
        return False
    with path.open("rb") as file:
        return bool(SHEBANG.match(file.readline(80).decode(errors="replace")))


def script(path: Path) -> str:
    """Return a script's text, with a first line that says which shell it is for."""
    text = without_jinja(path.read_text()) if path.suffix == ".j2" else path.read_text()
    return text if text.startswith("#!") else "#!/bin/sh\n" + text.removeprefix("#\n")


def shell_tasks(node: yaml.Node) -> Iterator[tuple[yaml.ScalarNode, str]]:
    """Yield the commands of ansible.builtin.shell in a YAML document, each with its shell."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from shell_tasks(item)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if key.value != "ansible.builtin.shell":
            yield from shell_tasks(value)
            continue
        members = {name.value: member for name, member in value.value} if isinstance(value, yaml.MappingNode) else {}
        shell = members.get("executable")
        yield members.get("cmd", value), shell.value if shell else "/bin/sh"


def task_scripts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield what the shell tasks of a YAML file run, each with its first line's number."""
    for document in yaml.compose_all(path.read_text(), Loader=yaml.SafeLoader):
        for node, shell in shell_tasks(document):
            line = node.start_mark.line + (2 if node.style in ("|", ">") else 1)
            yield line, f"#!{shell}\n" + "\n" * (line - 2) + without_jinja(node.value).rstrip("\n") + "\n"


def sources(root: Path) -> Iterator[tuple[str, str]]:
    """Yield name and text of every copy."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if not path.is_file() or NOT_OURS.intersection(name.parts):
            continue
        if is_script(path):
            yield str(name), script(path)
        elif path.suffix == ".yml":
            for line, text in task_scripts(path):
                yield f"{name}:{line}", text


def main() -> int:
    """Run the command."""
    if len(sys.argv) != 2:
        raise SystemExit("shell_sources: say the folder for the copies")
    folder = Path(sys.argv[1])
    for name, text in sources(ROOT):
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text)
        print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
