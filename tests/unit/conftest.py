# SPDX-License-Identifier: Apache-2.0
"""Shared by the unit tests of what runs on the controller."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import ansible.module_utils

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
