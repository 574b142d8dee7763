# SPDX-License-Identifier: Apache-2.0
"""Ten thousand requests through the whole gateway."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.lab.smoke import smoke, verdict

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.nodes import Lab


@pytest.mark.parametrize("site", ["w", "e"])
def test_ten_thousand_requests(lab: Lab, tmp_path: Path, site: str) -> None:
    """Each client is served by its own site: the nearest by BGP path length."""
    if site not in lab.sites:
        pytest.skip("the lab that is up has one site")
    result = smoke(lab, site, connections=2000, requests=10000, directory=tmp_path)
    print(json.dumps(result))
    assert result["requests"] == 10000
    assert result["connections"] >= 1000
    assert result["served_at_home"]
    assert verdict(result) == []
