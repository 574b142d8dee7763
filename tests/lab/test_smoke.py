# SPDX-License-Identifier: Apache-2.0
"""Ten thousand requests through the whole gateway."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.lab.smoke import smoke, verdict

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.nodes import Lab


def test_ten_thousand_requests(lab: Lab, tmp_path: Path) -> None:
    result = smoke(lab, "w", connections=2000, requests=10000, directory=tmp_path)
    print(json.dumps(result))
    assert result["requests"] == 10000
    assert result["connections"] >= 1000
    assert verdict(result) == []
