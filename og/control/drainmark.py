# SPDX-License-Identifier: Apache-2.0
"""The file by which the health daemon of the same node drains it (docs/interfaces.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

DRAIN_MARK = "by policy\n"  # in the drain file, when the control daemon made it


def mark_drained(role: str, path: Path, drained: bool) -> None:
    """Make or remove a hasher's drain file; an operator's own file is left alone. Raises OSError."""
    if role != "hasher":
        return
    if drained:
        if not path.exists():
            path.write_text(DRAIN_MARK, encoding="utf-8")
    elif path.exists() and path.read_text(encoding="utf-8") == DRAIN_MARK:
        path.unlink()
