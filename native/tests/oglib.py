# SPDX-License-Identifier: Apache-2.0
"""The C library for Python tests: built at release flags from native/lib, loaded through cffi's ABI mode.

The declarations are the library's own headers, run through the preprocessor. cffi computes struct layouts by itself, so
each one is compared with the compiler's before anything runs: a struct that differs stops the tests by name.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cffi

ROOT = Path(__file__).resolve().parents[2]
LIB = ROOT / "native" / "lib"
BUILD = ROOT / "build" / "native-tests"

# As meson builds the release: see native/meson.build and the default of its option x86_baseline.
RELEASE_FLAGS = ["-std=gnu17", "-O3", "-march=corei7", "-g", "-fPIC", "-D_GNU_SOURCE"]
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wvla"]

TYPEDEFS = """
typedef unsigned char __u8; typedef unsigned short __u16; typedef unsigned int __u32; typedef unsigned long long __u64;
"""


def run(*command: str | Path) -> str:
    """Run a tool, return its output; its own message is the error."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        message = f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        raise RuntimeError(message)
    return done.stdout


# ---- declarations ----------------------------------------------------------------------------------------------------


def own_lines(preprocessed: str) -> str:
    """Only what comes from the library's headers, by the preprocessor's line markers."""
    kept: list[str] = []
    ours = False
    for line in preprocessed.splitlines():
        marker = re.match(r'# \d+ "([^"]*)"', line)
        if marker:
            ours = Path(marker[1]).resolve().parent == LIB
        elif ours:
            kept.append(line)
    return "\n".join(kept)


def without_parenthesised(text: str, word: str) -> str:
    """Cut `word (…)` with balanced parentheses, and a semicolon right after it."""
    while (start := re.search(rf"\b{word}\s*\(", text)) is not None:
        depth, end = 1, start.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        if word == "_Static_assert":
            end = text.index(";", end) + 1
        text = text[: start.start()] + text[end:]
    return text


def top_level(text: str) -> list[str]:
    """Split C into declarations; a function's body is cut off and marked by its end: `) ;`."""
    declarations: list[str] = []
    depth = start = position = 0
    body = False
    current = ""
    while position < len(text):
        char = text[position]
        if char == "{":
            if depth == 0 and current.rstrip().endswith(")"):
                body, start = True, len(current)
            depth += 1
        current += char
        position += 1
        if char == "}":
            depth -= 1
            if depth == 0 and body:
                declarations.append("\0" + current[:start] + ";")
                body, current = False, ""
        elif char == ";" and depth == 0:
            declarations.append(current)
            current = ""
    return declarations


def includes(headers: list[Path]) -> str:
    return "".join(f'#include "{header}"\n' for header in headers)


def declarations(headers: list[Path], scratch: Path) -> str:
    """What cffi can read: types, prototypes of what the library exports. Structs of forced alignment become opaque."""
    source = scratch / "declarations.c"
    source.write_text(includes(headers))
    text = own_lines(run("gcc", "-E", *RELEASE_FLAGS, source))
    for word in ("_Static_assert", "__attribute__"):
        text = without_parenthesised(text, word)

    result: list[str] = []
    for declaration in top_level(text):
        line = declaration.strip()
        if "_Alignas" in line:
            result.append(line.split("{")[0] + ";")
        elif line.startswith("\0"):
            if not re.search(r"\bstatic\b", line):
                result.append(line[1:].replace("inline", ""))
        else:
            result.append(re.sub(r"\bextern\b", "", line))
    return TYPEDEFS + "\n".join(result)


def constants(headers: list[Path], scratch: Path) -> SimpleNamespace:
    """Macros with an integer value, as attributes."""
    names = {
        match[1]
        for header in headers
        for match in re.finditer(r"^#define (OG_[A-Z0-9_]+) ", header.read_text(), re.MULTILINE)
    }
    source = scratch / "constants.c"
    source.write_text(includes(headers) + "".join(f'@"{name}" {name}\n' for name in sorted(names)))
    values: dict[str, int] = {}
    for line in run("gcc", "-E", "-P", *RELEASE_FLAGS, source).splitlines():
        match = re.match(r'@"(\w+)" (.*)$', line)
        if match is None:
            continue
        expression = re.sub(r"\b(0[xX][0-9a-fA-F]+|\d+)[uUlL]+\b", r"\1", match[2])
        if re.fullmatch(r"[\s\d\w+*<>()-]+", expression) and not re.search(r"\b(?!0[xX])[a-zA-Z_]\w*", expression):
            values[match[1]] = int(eval(expression, {"__builtins__": {}}))  # noqa: S307 - digits and operators only
    return SimpleNamespace(**values)


# ---- layout ----------------------------------------------------------------------------------------------------------


def check_layout(ffi: Any, headers: list[Path], scratch: Path) -> None:
    """Compare cffi's sizes and offsets with the compiler's; raise RuntimeError naming what differs."""
    source, program = scratch / "layout.c", scratch / "layout"
    _, structs, unions = ffi.list_types()
    expected: list[tuple[str, int]] = []
    for kind, names in (("struct", structs), ("union", unions)):
        for name in names:
            ctype = ffi.typeof(f"{kind} {name}")
            if ctype.fields is None:
                continue
            expected.append((f"sizeof({kind} {name})", ffi.sizeof(ctype)))
            expected += [
                (f"offsetof({kind} {name}, {field})", detail.offset)
                for field, detail in ctype.fields
                if field and detail.bitsize < 0
            ]
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n"
        + includes(headers)
        + "int main(void)\n{\n"
        + "".join(f'printf("%zu\\n", {expression});\n' for expression, _ in expected)
        + "}\n"
    )
    run("gcc", *RELEASE_FLAGS, source, "-o", program)
    actual = [int(line) for line in run(program).split()]
    wrong = [
        f"{what}: cffi {mine}, gcc {theirs}"
        for (what, mine), theirs in zip(expected, actual, strict=True)
        if mine != theirs
    ]
    if wrong:
        message = "cffi and the compiler disagree: " + "; ".join(wrong)
        raise RuntimeError(message)


# ---- the library -----------------------------------------------------------------------------------------------------


def build_library(flags: list[str], compiler: str = "gcc") -> Path:
    """Compile native/lib into a shared object; built again only when a source, a header or the flags changed."""
    BUILD.mkdir(parents=True, exist_ok=True)
    sources = sorted(LIB.glob("*.c"))
    digest = hashlib.sha256(" ".join([compiler, *flags]).encode())
    for path in [*sources, *sorted(LIB.glob("*.h"))]:
        digest.update(path.name.encode() + path.read_bytes())
    library = BUILD / f"libog-{digest.hexdigest()[:16]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
            partial = Path(scratch) / library.name
            run(compiler, *flags, *WARNINGS, "-shared", "-o", partial, *sources)
            partial.rename(library)
    return library


@dataclass(frozen=True)
class OgLibrary:
    """The loaded library: `ffi`, `lib` (functions, enums), `const` (macros)."""

    ffi: Any
    lib: Any
    const: SimpleNamespace

    def verdict(self, number: int) -> str:
        """The operator's name of a verdict; "none" where a parser lets a packet go on."""
        if number == self.lib.OG_V_NONE:
            return "none"
        return str(self.ffi.string(self.lib.og_verdict_name(number)).decode())


def load() -> OgLibrary:
    """Build, check and load the library."""
    library = build_library(RELEASE_FLAGS)
    headers = sorted(LIB.glob("*.h"))
    ffi = cffi.FFI()
    with tempfile.TemporaryDirectory(dir=BUILD) as name:
        scratch = Path(name)
        ffi.cdef(declarations(headers, scratch))
        check_layout(ffi, headers, scratch)
        const = constants(headers, scratch)
    return OgLibrary(ffi=ffi, lib=ffi.dlopen(str(library)), const=const)


class Buf:
    """A struct og_buf with its own memory: room before and after the packet, both filled with a pattern."""

    PATTERN = 0xA5

    def __init__(self, og: OgLibrary, packet: bytes, headroom: int = 320, tailroom: int = 64) -> None:
        self.og = og
        pattern = bytes([self.PATTERN])
        self.memory = og.ffi.new("uint8_t[]", pattern * headroom + packet + pattern * (tailroom + 1))
        self.buf = og.ffi.new(
            "struct og_buf *",
            {"data": self.memory + headroom, "len": len(packet), "headroom": headroom, "tailroom": tailroom},
        )
        self.total = headroom + len(packet) + tailroom

    def __bytes__(self) -> bytes:
        return bytes(self.og.ffi.buffer(self.buf.data, self.buf.len))

    @property
    def verdict(self) -> str:
        return self.og.verdict(self.buf.verdict)

    def check(self) -> None:
        """The bookkeeping still adds up: data where headroom ends, nothing lost, nothing written behind the end."""
        assert self.buf.data - self.memory == self.buf.headroom
        assert self.buf.headroom + self.buf.len + self.buf.tailroom == self.total
        assert self.memory[self.total] == self.PATTERN
