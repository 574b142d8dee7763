# SPDX-License-Identifier: Apache-2.0
"""What the loader knows of the kernel and of the C headers, against the kernel and the compiler."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from og.agent import bpf, btf, layout, loader

from . import wire


def test_offsets_are_those_bpftool_reads() -> None:
    kernel = btf.Btf.of_kernel()
    command = ["bpftool", "btf", "dump", "file", str(btf.VMLINUX), "format", "raw"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    types = dict(re.findall(r"^\[(\d+)\] (?:STRUCT|UNION) (.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL))

    def bits(body: str, member: str) -> int | None:
        """Its offset, also inside members without a name."""
        for name, kind, offset in re.findall(r"'(.*?)' type_id=(\d+) bits_offset=(\d+)", body):
            inner = 0 if name == member else bits(types[kind], member) if name == "(anon)" else None
            if inner is not None:
                return int(offset) + inner
        return None

    for _, structure, member in loader.OFFSETS:
        body = next(body for body in types.values() if body.startswith(f"'{structure}' "))
        found = bits(body, member)
        assert found is not None
        assert kernel.offset(structure, member) == found // 8


@pytest.mark.usefixtures("loaded")  # the headers to compile against have been found
def test_wrong_load_offsets_turn_load_aware_accept_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offsets that are wrong by four bytes, as those of other headers are, do not pass the self-test."""
    right = loader.kernel_offsets(btf.VMLINUX)
    wrong = right | {"OG_OFF_ACK_BACKLOG": right["OG_OFF_ACK_BACKLOG"] + 4}
    monkeypatch.setattr(loader, "kernel_offsets", lambda _: wrong)
    maps = {name: bpf.BpfMap.create(spec) for name, spec in layout.MAPS.items()}
    offsets, problem = loader.tested_offsets(wire.BPF_DIR, maps, btf.VMLINUX)
    assert offsets == {}
    assert "a listener with 4 of 9 connections waiting reads as" in problem


@pytest.mark.usefixtures("space")
def test_struct_sizes_in_python_are_those_of_the_c_headers(tmp_path: Path) -> None:
    """Compiled for libbpf, the maps' definitions are in the object's BTF."""
    for name in layout.PROGRAMS:
        target = tmp_path / f"{name}.o"
        subprocess.run(
            ["clang", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf", "-DOG_LIBBPF", "-mcpu=v3",
             f"-I{wire.ROOT}/native/lib", "-I/usr/include/x86_64-linux-gnu", "-c", f"{wire.BPF_DIR}/og_agent_{name}.c",
             "-o", str(target)],
            check=True,
        )  # fmt: skip
        pinned = f"/sys/fs/bpf/{name}_sizes"
        subprocess.run(["bpftool", "prog", "loadall", str(target), pinned, "pinmaps", f"{pinned}_maps"], check=True)
        made = {path.name: bpf.BpfMap.pinned(path).spec for path in Path(f"{pinned}_maps").iterdir()}
        assert made
        assert set(made) <= {spec.name for spec in layout.MAPS.values()}
        for spec in layout.MAPS.values():
            if spec.name in made:
                have = made[spec.name]
                assert (have.type, have.key_size, have.value_size, have.entries, have.flags) == (
                    spec.type, spec.key_size, spec.value_size, spec.entries, spec.flags,
                )  # fmt: skip
