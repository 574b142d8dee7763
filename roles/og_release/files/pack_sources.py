#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pack what a release is made of into one archive, the same bytes for the same files.

Prints `changed` when the archive was written and `unchanged` when it was there already. A source tree needs no version
control for this: everything below the folders counts but what tools leave behind.
"""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
from pathlib import Path

FOLDERS = ("native", "bpf", "og")
LEFT_OUT = (Path("native/tests"), Path("native/fuzz"))  # the build looks whether they are there
SUFFIXES = {".c", ".h", ".py", ".json", ".build", ".txt", ".map"}


def pack(root: Path) -> bytes:
    """Return the archive of the sources below `root`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder in FOLDERS:
            for path in sorted((root / folder).rglob("*")):
                if path.is_file() and is_source(path.relative_to(root)):
                    content = path.read_bytes()
                    member = tarfile.TarInfo(path.relative_to(root).as_posix())
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def is_source(path: Path) -> bool:
    """Tell the sources of a release from caches and tests."""
    hidden = any(part.startswith((".", "__pycache__")) for part in path.parts)
    left_out = any(path.is_relative_to(folder) for folder in LEFT_OUT)
    return path.suffix in SUFFIXES and not hidden and not left_out


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("archive", type=Path)
    options = parser.parse_args()
    missing = [folder for folder in FOLDERS if not (options.root / folder).is_dir()]
    if missing:
        sys.stderr.write(f"{options.root}: not the project: no folder {', '.join(missing)}\n")
        return 1
    archive = pack(options.root)
    if options.archive.is_file() and options.archive.read_bytes() == archive:
        sys.stdout.write("unchanged\n")
        return 0
    options.archive.parent.mkdir(parents=True, exist_ok=True)
    temporary = options.archive.with_suffix(".new")
    temporary.write_bytes(archive)
    temporary.rename(options.archive)
    sys.stdout.write("changed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
