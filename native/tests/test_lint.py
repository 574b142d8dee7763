# SPDX-License-Identifier: Apache-2.0
"""The gates of clang's tools: a finding fails, and is named by file, line and check; clean code passes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from scripts import native_lint

if TYPE_CHECKING:
    from pathlib import Path

CLEAN = "int og_first(const int *list);\nint og_first(const int *list)\n{\n    return list ? *list : 0;\n}\n"
NARROW = """#include <stddef.h>
#include <stdint.h>
int og_sum(size_t n);
int og_sum(size_t n)
{
    int sum = 0;
    for (uint8_t i = 0; i < n; i++)
        sum++;
    return sum;
}
"""
NULL = """int og_first(const int *list);
int og_first(const int *list)
{
    if (!list)
        return *list;
    return 0;
}
"""


@pytest.fixture
def folder(tmp_path):
    """Return a function: text of a program -> folder with its compilation database."""

    def make(text: str) -> Path:
        (tmp_path / "it.c").write_text(text)
        entry = {"directory": str(tmp_path), "file": "it.c", "command": "cc -std=gnu17 -c it.c -o it.o"}
        (tmp_path / "compile_commands.json").write_text(json.dumps([entry]))
        return tmp_path

    return make


@pytest.mark.parametrize("tool", [native_lint.tidy, native_lint.scan])
def test_clean_code_passes(tool, folder, capsys):
    assert tool(folder(CLEAN)) is True
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("tool", "text", "named"),
    [
        (native_lint.tidy, NARROW, r"it\.c:7:25: error: .*\[bugprone-too-small-loop-variable,-warnings-as-errors\]\n"),
        (native_lint.scan, NULL, r"it\.c:5:16: .*\[core\.NullDereference\]\neach step: .*/index\.html\n"),
    ],
)
def test_a_finding_fails_and_is_named(tool, text, named, folder, capsys):
    assert tool(folder(text)) is False
    assert re.match(named, capsys.readouterr().out)


def test_a_finding_in_a_header_is_told_once():
    text = "native/lib/a.h:1:2: error: narrow [x]\n    1 | a\n"
    output = f"[ 1/49] clang-tidy x\n../../../../{text}\n12 warnings generated.\n{native_lint.ROOT}/{text}"
    assert "".join(native_lint.tidy_findings(output)) == text
