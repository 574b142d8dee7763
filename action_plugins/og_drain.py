# SPDX-License-Identifier: Apache-2.0
"""The waiting of og_drain, seen from the controller: the module is asked in slices, and each says what is left.

Without this plugin the module works all the same, in silence.
"""

from __future__ import annotations

import re
import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

SLICE_S = 10
DEFAULT_TIMEOUT_S = 300
DEFAULT_SETTLE_S = 5
MISSES_MAX = 5  # slices in a row that may fail, but for the first
MISS_S = 2

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
            settle_s = float(int(arguments.get("settle_s", DEFAULT_SETTLE_S)))
        except (TypeError, ValueError, OverflowError):
            timeout_s, settle_s = 0, 0.0  # the module says what is wrong with it
        # Each slice counts the quiet time from its own start: there must be room for it, in the last one too.
        slice_s = max(SLICE_S, int(2 * settle_s))
        if timeout_s <= slice_s + settle_s or self._task.check_mode or arguments.get("state", "drained") != "drained":
            return dict(self._execute_module(task_vars=task_vars))
        start = time.monotonic()
        results: list[dict[str, Any]] = []
        offsets: list[float] = []
        misses = 0
        while True:
            passed = time.monotonic() - start
            left = timeout_s - passed
            final = left <= slice_s + settle_s
            more = {"timeout_s": max(int(left), 1)} if final else {"timeout_s": slice_s, "fail_on_timeout": False}
            if results and self._would_change(arguments, task_vars):
                failure = {
                    "failed": True,
                    "msg": f"{arguments.get('name', host)}: somebody has ended the drain meanwhile",
                }
                return merge(results, offsets) | failure
            result = dict(self._execute_module(module_args=arguments | more, task_vars=task_vars))
            if results and result.get("failed") and "idle" not in result and misses < MISSES_MAX and not final:
                misses += 1  # of a member that is drained: Consul or the data plane may be away for a moment
                time.sleep(MISS_S)
                continue
            misses = 0
            results.append(result)
            offsets.append(passed)
            if final or result.get("failed") or result.get("idle"):
                whole = merge(results, offsets)
                if whole.get("failed"):  # of its own slice the module says how long
                    whole["msg"] = re.sub(r"not idle after \d+ s:", f"not idle after {timeout_s} s:", str(whole["msg"]))
                return whole
            display.display(
                f"{host}: {arguments.get('name', host)} drained {time.monotonic() - start:.0f} s ago, "
                f"{result['left']} {result['unit']} left (waiting {timeout_s} s at most)"
            )

    def _would_change(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> bool:
        """Tell whether the module would drain again what the first slice has drained: then the wait is over."""
        self._task.check_mode = True
        try:
            return bool(self._execute_module(module_args=dict(arguments), task_vars=task_vars).get("changed"))
        finally:
            self._task.check_mode = False
