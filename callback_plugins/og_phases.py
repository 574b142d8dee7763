# SPDX-License-Identifier: Apache-2.0
"""Ansible callback: how long each play took, as a table at the end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ansible.plugins.callback import CallbackBase

if TYPE_CHECKING:
    from ansible.executor.stats import AggregateStats
    from ansible.playbook.play import Play

DOCUMENTATION = r"""
name: og_phases
type: aggregate
short_description: Time per play
description:
  - Prints how many seconds each play of the run took, and what they sum up to.
requirements:
  - to be enabled in ANSIBLE_CALLBACKS_ENABLED or callbacks_enabled
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Notes when each play starts."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "og_phases"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._starts: list[tuple[str, float]] = []

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Ansible calls this before the first task of a play."""
        self._starts.append((play.get_name().strip(), time.monotonic()))

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:  # noqa: ARG002 - Ansible's signature
        """Ansible calls this at the end."""
        ends = [start for _, start in self._starts[1:]] + [time.monotonic()]
        self._display.banner("SECONDS")
        for (name, start), end in zip(self._starts, ends, strict=True):
            self._display.display(f"{end - start:6.0f}  {name}")
        if self._starts:
            self._display.display(f"{ends[-1] - self._starts[0][1]:6.0f}  all")
