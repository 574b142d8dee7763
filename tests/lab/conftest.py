# SPDX-License-Identifier: Apache-2.0
"""Tests of the lab that is up (`make lab`). Without one they are skipped, and say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.nodes import Lab, LabError

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder carries the marker `lab`."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab, or a skip with the reason."""
    try:
        return Lab()
    except LabError as error:
        pytest.skip(str(error))
