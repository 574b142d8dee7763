# SPDX-License-Identifier: Apache-2.0
"""Names of verdicts and counters, from the X-macros that define them: what is new in C is new in the dashboards."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERDICT_H = ROOT / "native/lib/og_verdict.h"
COUNTERS_H = ROOT / "bpf/og_counters.h"


def verdicts(kind: str, text: str) -> list[str]:
    """Names of all verdicts of one class (`TX`, `DROP`, `KEEP`), in the header's order."""
    return re.findall(rf'^\s*X\(\w+, "(\w+)", {kind},', text, re.MULTILINE)


def counters(text: str) -> list[str]:
    """Names of the agent's counters, in the header's order."""
    return re.findall(r'^\s*X\(\w+, "(\w+)",', text, re.MULTILINE)
