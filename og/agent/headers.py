# SPDX-License-Identifier: Apache-2.0
"""Kernel headers for bcc.

bcc compiles against `/lib/modules/$(uname -r)/{build,source}`. In this order: the headers of the running kernel, the
kernel's own archive of them (kheaders, which bcc unpacks by itself), else a packaged tree of another version, linked
to that place. The last is enough because nothing is read from kernel structures at offsets these headers give (btf.py).
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path

_MODULES = Path("/lib/modules")
_SOURCES = Path("/usr/src")
_KHEADERS = Path("/sys/kernel/kheaders.tar.xz")
_VERSION = re.compile(r"linux-headers-(\d+(?:\.\d+)*)")


class HeadersError(RuntimeError):
    """No kernel headers, and how to get some."""


@dataclass(frozen=True)
class Headers:
    """Where bcc will find the headers: `origin` says what they are."""

    origin: str


def _newest_packaged(sources: Path) -> tuple[Path, Path] | None:
    """Return (architecture tree, common tree) of the newest packaged headers: Debian splits them, others do not."""

    def version(path: Path) -> tuple[int, ...]:
        match = _VERSION.match(path.name)
        return tuple(int(part) for part in match[1].split(".")) if match else ()

    found = [path for path in sources.glob("linux-headers-*") if not path.name.endswith("-common")]
    trees = [path for path in found if (path / "include/config").is_dir()]
    for tree in sorted(trees, key=version, reverse=True):
        common = sources / re.sub(r"-[a-z0-9]+$", "-common", tree.name)
        return tree, common if common.is_dir() else tree
    return None


def find(release: str = "", modules: Path = _MODULES, sources: Path = _SOURCES, kheaders: Path = _KHEADERS) -> Headers:
    """Make sure bcc finds headers. Links a packaged tree if need be. Raises HeadersError."""
    release = release or platform.release()
    here = modules / release
    if (here / "build/include").is_dir() or (here / "source/include").is_dir():
        return Headers(f"{here}/build -> {(here / 'build').resolve()}")
    if kheaders.exists():
        return Headers(str(kheaders))
    packaged = _newest_packaged(sources)
    if packaged is None:
        raise HeadersError(
            f"kernel headers: none for {release} in {here}/build, no {kheaders}, and none in {sources}: "
            f"install linux-headers-{release} or, on Debian 13, linux-headers-amd64"
        )
    try:
        here.mkdir(parents=True, exist_ok=True)
        for name, tree in zip(("build", "source"), packaged, strict=True):
            link = here / name
            if link.is_symlink():
                link.unlink()  # it leads nowhere
            link.symlink_to(tree)
    except OSError as error:
        raise HeadersError(f"kernel headers: link {packaged[0]} to {here}: {error}") from error
    return Headers(f"{packaged[0].name}, linked to {here}")
