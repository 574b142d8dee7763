# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the system tests: the real programs on a veth pair."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from native.tests.system import harness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "system: runs the real programs; needs root, BPF and a native build")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "native/tests/system" in item.nodeid:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session", autouse=True)
def _needs() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces and BPF")
    missing = [str(path) for path in (harness.HASHER, harness.ROUTER, harness.PORT) if not path.exists()]
    if missing:
        pytest.fail(f"not built: {', '.join(missing)} (OG_NATIVE_BUILD names the build directory)")


@pytest.fixture
def hasher(tmp_path: Path) -> Iterator[harness.Node]:
    with harness.node("hasher", tmp_path / "n") as node:
        yield node


@pytest.fixture
def router(tmp_path: Path) -> Iterator[harness.Node]:
    with harness.node("router", tmp_path / "n") as node:
        yield node
