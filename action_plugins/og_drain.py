# SPDX-License-Identifier: Apache-2.0
"""The waiting of og_drain, seen from the controller: the module is asked in slices, and each says what is left.

Without this plugin the module works all the same, in silence.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

SLICE_S = 10
DEFAULT_TIMEOUT_S = 300

display = Display()


def merge(results: list[dict[str, Any]], offsets: list[float]) -> dict[str, Any]:
    """Return one result for the slices: the last one, with what the first has changed and the progress of all."""
    first, last = results[0], results[-1]
    progress = [
        note | {"after_s": round(offset + note["after_s"], 1)}
        for result, offset in zip(results, offsets, strict=True)
        for note in result.get("progress", [])
    ]
    # The first note of a slice repeats the last one of the slice before.
    kept = [note for at, note in enumerate(progress) if not at or note["left"] != progress[at - 1]["left"]]
    return last | {name: first[name] for name in ("changed", "actions", "diff") if name in first} | {"progress": kept}


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible has no types
    """Runs the module again and again until it is idle or time is up."""

    _requires_connection = True

    def run(self, tmp: object = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result."""
        super().run(tmp, task_vars)
        arguments = self._task.args
        host = (task_vars or {}).get("inventory_hostname", "")
        try:
            timeout_s = int(arguments.get("timeout_s", DEFAULT_TIMEOUT_S))
        except (TypeError, ValueError):
            timeout_s = 0  # the module says what is wrong with it
        if timeout_s <= SLICE_S or self._task.check_mode or arguments.get("state", "drained") != "drained":
            return dict(self._execute_module(task_vars=task_vars))
        start, results, offsets = time.monotonic(), [], []
        while True:
            passed = time.monotonic() - start
            left = timeout_s - passed
            final = left <= SLICE_S
            more = {"timeout_s": max(int(left), 1)} if final else {"timeout_s": SLICE_S, "fail_on_timeout": False}
            result = dict(self._execute_module(module_args=arguments | more, task_vars=task_vars))
            results.append(result)
            offsets.append(passed)
            if final or result.get("failed") or result.get("idle"):
                return merge(results, offsets)
            display.display(
                f"{host}: {arguments.get('name', host)} drained {time.monotonic() - start:.0f} s ago, "
                f"{result['left']} {result['unit']} left (waiting {timeout_s} s at most)"
            )
