# SPDX-License-Identifier: Apache-2.0
"""The actions of drills."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from filter_plugins.og_drill import og_actions


def test_one_action_for_each_host() -> None:
    assert og_actions(["a", "b"], "stop it") == [
        {"host": "a", "command": "stop it"},
        {"host": "b", "command": "stop it"},
    ]
    assert og_actions("a", "date +%s") == [{"host": "a", "command": "date +%s"}]
    assert og_actions([], "x") == []


def test_on_one_host_for_others() -> None:
    assert og_actions(["a", "b"], "drain {host}", on="mon") == [
        {"host": "mon", "command": "drain a"},
        {"host": "mon", "command": "drain b"},
    ]


@pytest.mark.parametrize(("hosts", "command"), [(None, "x"), ([1], "x"), ([""], "x"), (["a"], ""), (["a"], None)])
def test_what_is_wrong_is_named(hosts: object, command: object) -> None:
    with pytest.raises(AnsibleFilterError, match=r"og_actions: (hosts|command): "):
        og_actions(hosts, command)  # type: ignore[arg-type]
