# SPDX-License-Identifier: Apache-2.0
"""Shared by the unit tests of what runs on the controller."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import ansible.module_utils
import pytest
import yaml
from ansible.module_utils import _internal
from ansible.module_utils.testing import patch_module_args

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]

# Ansible gives a module its project's module_utils under ansible.module_utils; so do the tests.
ansible.module_utils.__path__.append(str(ROOT / "module_utils"))

# Before a directory and a command: runs the command where the directory is read-only. Needs root.
READ_ONLY = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"']


def program(module: str, arguments: dict[str, Any]) -> list[str]:
    """Return the command that runs a module of library/ as a process of its own, for a test that takes rights away."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import ansible.module_utils as u; "
        f"u.__path__.append({str(ROOT / 'module_utils')!r}); from ansible.module_utils import basic; "
        f"basic._ANSIBLE_ARGS = {json.dumps({'ANSIBLE_MODULE_ARGS': arguments}).encode()!r}; "
        f"basic._ANSIBLE_PROFILE = 'legacy'; from library import {module}; {module}.main()"
    )
    return [sys.executable, "-c", code]


# What no module documents: the common return values, and what AnsibleModule adds, of a file also.
COMMON = {"changed", "failed", "msg", "diff", "warnings", "deprecations", "exception", "invocation"}
COMMON |= {"path", "details", "uid", "gid", "owner", "group", "mode", "state", "size"}


@cache
def documented(module: str) -> dict[str, Any]:
    """Return what a module's RETURN says."""
    values: dict[str, Any] = yaml.safe_load(sys.modules[module].RETURN)
    return values


def undocumented(answer: dict[str, Any], values: dict[str, Any], place: str = "") -> list[str]:
    """Return the places of what is in an answer and not in the documentation, looking into what has `contains`."""
    found = [f"{place}{name}" for name in answer if name not in values]
    for name, value in answer.items():
        inner = values.get(name, {}).get("contains")
        for item in (value if isinstance(value, list) else [value]) if inner else []:
            found += undocumented(item, inner, f"{place}{name}.")
    return found


def run_module(
    main: Callable[[], None], arguments: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """Run a module's main() as on a host and return its answer.

    Its exit status is held to `failed`, and what it returns to its documentation.

    Once a test has loaded a controller's plugin, module_utils take this process for a controller for good: warnings
    then go to the display, and arguments are read more strictly. Not here, whatever ran before.
    """
    with (
        mock.patch.object(_internal, "is_controller", False),
        mock.patch.object(_internal, "import_controller_module", return_value=None),
        patch_module_args(arguments),
        pytest.raises(SystemExit) as status,
    ):
        main()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert status.value.code == (1 if answer.get("failed") else 0)
    own = {name: value for name, value in answer.items() if name not in COMMON}
    assert undocumented(own, documented(main.__module__)) == []
    return answer
