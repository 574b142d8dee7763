# SPDX-License-Identifier: Apache-2.0
"""A release broken on purpose is whole in every checksum: nothing but running it shows."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from library import og_release, og_release_build
from tests.broken_release import break_release

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("way", "check"), [("exits", 0), ("refuses", 1)])
def test_it_installs_and_does_not_run(tmp_path: Path, way: str, check: int) -> None:
    files = {"bin/og-router": (0o755, b"good"), "bin/ogctl": (0o755, b"good")}
    checksums = {name: hashlib.sha256(content).hexdigest() for name, (_, content) in files.items()}
    manifest = json.dumps({"id": "0" * 16, "files": checksums}).encode()
    good = tmp_path / "og-good.tar.gz"
    og_release_build.pack(good, {**files, "manifest.json": (0o644, manifest)}, 9)
    identity = break_release(good, "og-router", way, tmp_path)
    archive = tmp_path / f"og-{identity}.tar.gz"
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["bin/og-router", "bin/ogctl", "manifest.json"]
    og_release.unpack(archive, tmp_path / "releases", identity)
    program = tmp_path / "releases" / identity / "bin/og-router"
    assert subprocess.run([program, "--check-config", "--config", "x"], check=False).returncode == check
    assert subprocess.run([program, "--config", "x"], capture_output=True, check=False).returncode == 1
