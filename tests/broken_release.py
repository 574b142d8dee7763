# SPDX-License-Identifier: Apache-2.0
"""Make a release that is broken on purpose from a good one, whole in every checksum: `python -m tests.broken_release`.

Prints the new release's id. A round must stop at its first node, and take that one back.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

# What the program does instead, told its arguments.
WAYS = {
    "exits": '#!/bin/sh\ncase " $* " in *" --check-config "*) exit 0 ;; esac\necho "broken on purpose" >&2\nexit 1\n',
    "refuses": '#!/bin/sh\necho "$0: broken on purpose: no configuration is good enough" >&2\nexit 1\n',
    "hangs": '#!/bin/sh\ncase " $* " in *" --check-config "*) exit 0 ;; esac\nexec sleep 1000000\n',
}


def break_release(archive: Path, program: str, way: str, output: Path) -> str:
    """Write a copy of the release in which `program` is broken in this way; return its id."""
    with tarfile.open(archive) as tar:
        files = {m.name: (m.mode, tar.extractfile(m).read()) for m in tar.getmembers() if m.isfile()}  # type: ignore[union-attr]
    text = WAYS[way].encode()
    files[f"bin/{program}"] = (0o755, text)
    manifest = json.loads(files["manifest.json"][1])
    manifest["files"][f"bin/{program}"] = hashlib.sha256(text).hexdigest()
    manifest["label"] = f"broken: {program} {way}"
    manifest["id"] = hashlib.sha256(json.dumps(manifest["files"], sort_keys=True).encode()).hexdigest()[:16]
    files["manifest.json"] = (0o644, (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, (mode, content) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
    (output / f"og-{manifest['id']}.tar.gz").write_bytes(buffer.getvalue())
    return str(manifest["id"])


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path, help="a good release, build/release/og-ID.tar.gz")
    parser.add_argument("--program", default="og-router")
    parser.add_argument("--way", choices=sorted(WAYS), default="exits")
    parser.add_argument("--output", type=Path, help="folder for it; the good one's by default")
    options = parser.parse_args()
    print(break_release(options.archive, options.program, options.way, options.output or options.archive.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
