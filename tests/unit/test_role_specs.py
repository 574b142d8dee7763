# SPDX-License-Identifier: Apache-2.0
"""A role's defaults and its argument_specs are two places for one thing: they must say the same."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.unit.conftest import ROOT

ROLES = sorted(path for path in (ROOT / "roles").iterdir() if (path / "meta").is_dir())
PLAYBOOKS = sorted(
    file
    for folder in ("playbooks", "roles", "molecule", "tests")
    for file in (ROOT / folder).rglob("*.yml")
    if "tasks_from" in file.read_text()
)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_and_argument_specs_agree(role):
    entries = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"].values()
    options = [item for entry in entries for item in (entry.get("options") or {}).items()]
    file = role / "defaults/main.yml"
    defaults = (yaml.safe_load(file.read_text()) or {}) if file.exists() else {}
    required = {name for name, option in options if option.get("required")}
    assert {name for name, _ in options} - required == set(defaults) - required
    assert set(defaults) <= {name for name, _ in options}
    for name, option in options:
        if "default" in option:
            assert option["default"] == defaults[name], name


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_refused_variable_shows_no_secret(role):
    """Where a variable is refused Ansible shows the whole specification, its defaults as they are templated."""
    for entry in yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"].values():
        for name, option in (entry.get("options") or {}).items():
            default = str(option.get("default", ""))
            kept = re.search(r"vault_|\.password'|flow_seed\b.*}}", default)
            if kept or re.search("password|secret|token|flow_seed$", name):
                assert option.get("no_log"), name
                assert not default, name


def tasks_of(data):
    """Every mapping of a playbook or file of tasks."""
    if isinstance(data, dict):
        yield data
    for item in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from tasks_of(item)


@pytest.mark.parametrize("file", PLAYBOOKS, ids=lambda file: str(file.relative_to(ROOT)))
def test_an_entry_point_is_named_as_its_specification_is(file):
    """With another name, such as `plan.yml`, its variables would not be checked."""
    for task in tasks_of(yaml.safe_load(file.read_text())):
        for action in ("import_role", "include_role"):
            called = task.get(f"ansible.builtin.{action}") or {}
            if "tasks_from" in called:
                assert "." not in called["tasks_from"]
                assert (ROOT / "roles" / called["name"] / "tasks" / f"{called['tasks_from']}.yml").exists()
