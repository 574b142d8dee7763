# SPDX-License-Identifier: Apache-2.0
"""Processors of a data plane as EAL wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from collections.abc import Callable


def _processors(text: str) -> list[int]:
    """Return the numbers of a list such as `2-5,8`, in its order. Raises ValueError."""
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        span = range(int(first), int(last if dash else first) + 1)
        if not span:
            raise ValueError(part)
        numbers += span
    return list(dict.fromkeys(numbers))


def og_lcores(cpus: object, threads: object) -> str:
    """Return EAL's --lcores with thread i on the i-th processor: `0@2,1@3`.

    One processor each: of a set for all the kernel would choose, and among isolated ones it never moves a thread.
    Raises AnsibleFilterError for what is no list of processors, and for more threads than processors.
    """
    try:
        numbers = _processors(str(cpus))
    except ValueError as error:
        message = f'og_dataplane_cpus: not a list of processors: {cpus!r}; write it as "2-5" or "2,4,6"'
        raise AnsibleFilterError(message) from error
    count = int(str(threads))
    if count > len(numbers):
        message = f"og_dataplane_threads: {count} threads on {len(numbers)} processors (og_dataplane_cpus: {cpus})"
        raise AnsibleFilterError(message)
    return ",".join(f"{thread}@{numbers[thread]}" for thread in range(count))


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"og_lcores": og_lcores}
