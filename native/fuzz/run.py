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
FLAGS = [
    "-std=gnu17", "-O1", "-g", "-fno-omit-frame-pointer", "-D_GNU_SOURCE",
    "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all",
]  # fmt: skip
MAX_LEN = 2100  # bytes of an input: a fabric packet and its options


def build(name: str) -> Path:
    """Compile one fuzzer with the whole library; again only when something changed."""
    BUILD.mkdir(parents=True, exist_ok=True)
    sources = [HERE / f"fuzz_{name}.c", HERE / "fuzz.c", *sorted(LIB.glob("*.c"))]
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for path in [*sources, HERE / "fuzz.h", *sorted(LIB.glob("*.h"))]:
        digest.update(path.name.encode() + path.read_bytes())
    program = BUILD / f"fuzz_{name}-{digest.hexdigest()[:16]}"
    if not program.exists():
        with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
            partial = Path(scratch) / program.name
            run("clang", *FLAGS, *WARNINGS, f"-I{LIB}", f"-I{HERE}", *sources, "-o", partial)
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
