# SPDX-License-Identifier: Apache-2.0
"""Fixtures shared by the tests of native/lib."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from native.tests import oglib
from native.tests.router_rig import Rig

# A busy machine is no failure: no example has a time limit.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fuzz: a short run of a fuzzer under the sanitizers")
    config.addinivalue_line("markers", "netns: makes network namespaces, needs root")


@pytest.fixture(scope="session")
def og() -> oglib.OgLibrary:
    """The library at release flags."""
    return oglib.load()


@pytest.fixture
def rig(og: oglib.OgLibrary) -> Rig:
    """A router of the lab's first site on a bench of its own."""
    return Rig(og)
