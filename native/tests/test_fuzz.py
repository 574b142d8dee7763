# SPDX-License-Identifier: Apache-2.0
"""The fuzzers under the sanitizers: every seed and every truncation of it, then a few seconds of search."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from native.fuzz.run import fuzz
from native.fuzz.seeds import SEEDS

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 4


@pytest.mark.fuzz
@pytest.mark.parametrize("name", SEEDS)
def test_seeds_and_all_their_truncations(name: str, tmp_path: Path) -> None:
    done = fuzz(name, 0, tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    executed = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    assert executed is not None
    assert int(executed[1]) >= len(list((tmp_path / "seeds" / name).iterdir()))


@pytest.mark.fuzz
@pytest.mark.parametrize("name", SEEDS)
def test_a_short_search(name: str, tmp_path: Path) -> None:
    done = fuzz(name, SECONDS, tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    assert list((tmp_path / "grown" / name).iterdir()), "nothing was found: the fuzzer does not reach the library"
