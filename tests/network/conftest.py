# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.network.site import GATEWAYS, ROUTER, Site, find_image, run

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site, deployed; removed again whatever happens."""
    if os.geteuid() != 0:
        pytest.skip("needs root: makes network interfaces")
    if shutil.which("docker") is None or run("docker", "info", check=False).returncode != 0:
        pytest.skip("needs a running Docker engine")
    image = find_image()
    if image is None:
        pytest.skip("needs the image og-node:latest (make lab makes it) or the one named in OG_TEST_IMAGE")
    made = Site(image, tmp_path_factory.mktemp("site"))
    try:
        made.up()
        made.first_check = made.play("--check", "--limit", f"{ROUTER},ogh_w1").stdout
        made.play()
        for name in GATEWAYS:
            made.start_heartbeat(name)
        yield made
    finally:
        made.down()
