# SPDX-License-Identifier: Apache-2.0
"""Shared by the unit tests of what runs on the controller."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils

ROOT = Path(__file__).resolve().parents[2]

# Ansible gives a module its project's module_utils under ansible.module_utils; so do the tests.
ansible.module_utils.__path__.append(str(ROOT / "module_utils"))
