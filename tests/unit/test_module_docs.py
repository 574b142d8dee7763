# SPDX-License-Identifier: Apache-2.0
"""Every module's documentation renders, and says of each option what the module's argument_spec says."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "library").glob("*.py"))
FILE_OPTIONS = set(basic.FILE_COMMON_ARGUMENTS)


@pytest.fixture(scope="module")
def rendered() -> dict[str, Any]:
    program = str(Path(sys.executable).with_name("ansible-doc"))
    command = [program, "--json", "--type", "module", "-M", str(ROOT / "library")]
    done = subprocess.run([*command, *MODULES], capture_output=True, text=True, check=True, cwd=ROOT)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def argument_spec(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what the module gives to AnsibleModule."""
    given: dict[str, Any] = {}

    class StopError(Exception):
        pass

    def notice(argument_spec: dict[str, Any], **options: Any) -> None:
        given.update(argument_spec, __options=options)
        raise StopError

    module = import_module(f"library.{name}")
    monkeypatch.setattr(module, "AnsibleModule", notice)
    with pytest.raises(StopError):
        module.main()
    return given


def compare(documented: dict[str, Any], spec: dict[str, Any], place: str) -> None:
    assert set(documented) == set(spec), place
    for name, option in spec.items():
        words, where = documented[name], f"{place}{name}"
        assert words.get("type", "str") == option.get("type", "str"), where
        assert bool(words.get("required")) == bool(option.get("required")), where
        assert words.get("default") == option.get("default"), where
        assert list(words.get("choices") or []) == list(option.get("choices") or []), where
        assert words.get("elements") == option.get("elements"), where
        compare(words.get("suboptions") or {}, option.get("options") or {}, f"{where}.")


@pytest.mark.parametrize("name", MODULES)
def test_documentation_renders_and_agrees_with_the_arguments(
    name: str, rendered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    doc = rendered[name]["doc"]
    assert doc["module"] == name
    assert doc["short_description"]
    assert {"check_mode", "diff_mode", "platform"} <= set(doc["attributes"])
    spec = argument_spec(name, monkeypatch)
    options = spec.pop("__options")
    documented = dict(doc["options"])
    if options.get("add_file_common_args"):
        documented = {option: words for option, words in documented.items() if option not in FILE_OPTIONS}
    compare(documented, spec, f"{name}: ")
    assert options.get("supports_check_mode") is (doc["attributes"]["check_mode"]["support"] != "none")
    assert rendered[name]["return"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_tasks_of_the_module(name: str, rendered: dict[str, Any]) -> None:
    tasks = yaml.safe_load(rendered[name]["examples"])
    assert any(name in task for task in tasks)
    known = set(rendered[name]["doc"]["options"])
    for task in tasks:
        assert task["name"]
        assert set(task.get(name) or {}) <= known  # an example may need no option


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_self_contained(name: str) -> None:
    """What it imports of this project comes from module_utils: nothing else reaches the host."""
    tree = ast.parse((ROOT / "library" / f"{name}.py").read_text())
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [module for module in imported if module.split(".")[0] in ("og", "library", "module_utils")]
