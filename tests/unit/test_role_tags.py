# SPDX-License-Identifier: Apache-2.0
"""A part of a role runs alone by its tag: what another part has registered may be missing then."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.unit.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if (path / "tasks/main.yml").exists())


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.exists() else None


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def tasks_of(role: str, file: str = "main.yml", inherited: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """Every task of a role with all its tags, files that it imports and blocks unfolded."""
    found = []

    def walk(tasks: object, above: frozenset[str]) -> None:
        for task in as_list(tasks):
            tags = above | set(as_list(task.get("tags")))
            for action in ("import_tasks", "include_tasks"):
                called = task.get(f"ansible.builtin.{action}")
                if called is not None:
                    called = called if isinstance(called, dict) else {"file": called}
                    more = as_list(called.get("apply", {}).get("tags")) if action == "include_tasks" else tags
                    found.extend(tasks_of(role, called["file"], frozenset(more)))
            for part in ("block", "rescue", "always"):
                walk(task.get(part), tags)
            body = {key: value for key, value in task.items() if key not in ("block", "rescue", "always", "tags")}
            found.append({**body, "tags": tags})

    walk(load(ROOT / "roles" / role / "tasks" / file), inherited)
    return found


def bare(text: str, variables: dict[str, Any], seen: frozenset[str] = frozenset()) -> set[str]:
    """Names of private variables that a text needs: those without a default, and what the role's own are made of."""
    needed = set()
    for match in re.finditer(r"\b__\w+", text):
        name, rest = match.group(), text[match.end() :]
        if re.match(r"(\.\w+|\[[^]]*\])*\s*\|\s*default\b|\s+is (not )?defined| is undefined", rest):
            continue
        needed.add(name)
        if name in variables and name not in seen:
            needed |= bare(str(variables[name]), variables, seen | {name})
    return needed


def kept_by(tasks: list[dict[str, Any]]) -> set[str]:
    """What tasks leave for those after them."""
    facts = {name for task in tasks for name in task.get("ansible.builtin.set_fact", {})}
    return facts | {task["register"] for task in tasks if "register" in task}


@pytest.mark.parametrize("role", ROLES)
def test_a_part_alone_misses_nothing_that_another_part_has_looked_up(role: str) -> None:
    tasks = tasks_of(role)
    variables = load(ROOT / "roles" / role / "vars/main.yml") or {}
    parts = {tag for task in tasks for tag in task["tags"] if tag.startswith(f"{role}_")}
    for part in parts:
        alone = [task for task in tasks if part in task["tags"] or "always" in task["tags"]]
        elsewhere = kept_by(tasks) - kept_by(alone)
        for task in alone:
            missing = bare(str(task), variables | task.get("vars", {})) & elsewhere
            assert not missing, f"{part}: {task['name']}"
