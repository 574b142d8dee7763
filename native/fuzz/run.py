# SPDX-License-Identifier: Apache-2.0
"""Build the fuzzers with clang's address and undefined-behaviour sanitizers and run them.

`python3 -m native.fuzz.run [--seconds N] [--corpus DIRECTORY] [FUZZER…]`: each for N seconds on its seeds and on what
earlier runs found. Exit code 1 and a reproducer's path when one fails.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from native.fuzz import seeds
from native.tests.oglib import BUILD, LIB, WARNINGS, run

HERE = Path(__file__).resolve().parent
FLAGS = ["-std=gnu17", "-O1", "-g", "-fno-omit-frame-pointer", "-D_GNU_SOURCE", "-fno-sanitize-recover=all"]
INSTRUMENTED = ["-fsanitize=fuzzer-no-link,address,undefined", *FLAGS]
LINKED = ["-fsanitize=fuzzer,address,undefined", *FLAGS]
MAX_LEN = 2100  # bytes of an input: a fabric packet and its options


def digest_of(*paths: Path) -> str:
    """Name what is built by what it is built from: flags, sources, all headers."""
    digest = hashlib.sha256(" ".join(INSTRUMENTED + LINKED).encode())
    for path in [*paths, HERE / "fuzz.h", *sorted(LIB.glob("*.h"))]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def build_library() -> Path:
    """Compile native/lib with the sanitizers, once for all fuzzers."""
    sources = sorted(LIB.glob("*.c"))
    archive = BUILD / f"libog-fuzz-{digest_of(*sources)}.a"
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=BUILD) as name:
            objects = [Path(name) / f"{source.stem}.o" for source in sources]
            for source, target in zip(sources, objects, strict=True):
                run("clang", *INSTRUMENTED, *WARNINGS, "-c", source, "-o", target)
            partial = Path(name) / archive.name
            run("ar", "rcs", partial, *objects)
            partial.rename(archive)
    return archive


def build(name: str) -> Path:
    """Build one fuzzer; again only when something changed."""
    BUILD.mkdir(parents=True, exist_ok=True)
    library = build_library()
    sources = [HERE / f"fuzz_{name}.c", HERE / "fuzz.c"]
    program = BUILD / f"fuzz_{name}-{digest_of(*sources, library)}"
    if not program.exists():
        with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
            partial = Path(scratch) / program.name
            run("clang", *LINKED, *WARNINGS, f"-I{LIB}", f"-I{HERE}", *sources, library, "-o", partial)
            partial.rename(program)
    return program


def fuzz(name: str, seconds: int, corpus: Path) -> subprocess.CompletedProcess[str]:
    """Run one fuzzer on the seeds, then for so many seconds on what grows from them (0: the seeds alone)."""
    given = seeds.write(corpus / "seeds", name, every_truncation=seconds == 0)
    grown = corpus / "grown" / name
    grown.mkdir(parents=True, exist_ok=True)
    limit = [f"-max_total_time={seconds}"] if seconds else ["-runs=0"]
    command = [
        str(build(name)), *limit, f"-max_len={MAX_LEN}", "-timeout=5", "-rss_limit_mb=1024", "-print_final_stats=1",
        f"-artifact_prefix={corpus}/{name}-", str(grown), str(given),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, default=BUILD / "corpus")
    parser.add_argument("fuzzers", nargs="*", metavar="FUZZER", help=f"any of {', '.join(seeds.SEEDS)} (all)")
    options = parser.parse_args()
    if unknown := set(options.fuzzers) - set(seeds.SEEDS):
        parser.error(f"no such fuzzer: {', '.join(sorted(unknown))}")
    failed = 0
    for name in options.fuzzers or seeds.SEEDS:
        done = fuzz(name, options.seconds, options.corpus)
        sys.stdout.write(f"{name}: exit {done.returncode}\n" + "\n".join(done.stderr.splitlines()[-12:]) + "\n")
        failed |= done.returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
