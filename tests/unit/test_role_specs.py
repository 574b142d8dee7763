# SPDX-License-Identifier: Apache-2.0
"""A role's defaults and its argument_specs are two places for one thing: they must say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROLES = sorted(path for path in (Path(__file__).resolve().parents[2] / "roles").iterdir() if (path / "meta").is_dir())


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
