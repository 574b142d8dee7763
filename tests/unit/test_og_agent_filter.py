# SPDX-License-Identifier: Apache-2.0
"""The inventory's services as the agent gets them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

_SPEC = importlib.util.spec_from_file_location(
    "og_agent_filter", Path(__file__).parents[2] / "filter_plugins/og_agent.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
MODULE: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(MODULE)

WEB = {"name": "web", "vip": "2001:db8:1::80", "protocol": "tcp", "port": 80, "index": 0}


def test_only_what_the_agent_needs_is_passed_on() -> None:
    assert MODULE.og_agent_services([WEB | {"capacity": 1000, "udp_pins": False}]) == [WEB | {"accept_limit": 0}]
    assert MODULE.og_agent_services([WEB | {"accept_limit": 9}])[0]["accept_limit"] == 9


def test_missing_member_is_named() -> None:
    incomplete = {key: value for key, value in WEB.items() if key != "vip"}
    with pytest.raises(AnsibleFilterError, match=r"og_services\[1\]: missing: vip"):
        MODULE.og_agent_services([WEB, incomplete])
