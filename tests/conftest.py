# SPDX-License-Identifier: Apache-2.0
"""For all tests: nothing is judged by the time it takes, so that a busy machine makes nothing fail."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("og", deadline=None)
settings.load_profile("og")
