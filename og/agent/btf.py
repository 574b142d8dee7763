# SPDX-License-Identifier: Apache-2.0
"""Offsets of kernel structure members, from the running kernel's own type information (BTF).

Format: Documentation/bpf/btf.rst of the kernel. Only what is needed to find members of structures is read.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import cast

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_MAGIC = 0xEB9F
_STRUCT, _UNION = 4, 5
_HEADER = struct.Struct("=HBBIIIII")
_TYPE = struct.Struct("=III")
_MEMBER = struct.Struct("=III")
# What follows struct btf_type, in bytes, by kind: fixed, or per element (`vlen` of them).
_FIXED = {1: 4, 3: 12, 14: 4, 17: 4}
_PER_ELEMENT = {_STRUCT: 12, _UNION: 12, 6: 8, 13: 8, 15: 12, 19: 12}


class BtfError(ValueError):
    """The type information is not there, not readable, or does not have what was asked for."""


class Btf:
    """Type information, indexed by structure name."""

    def __init__(self, data: bytes) -> None:
        if len(data) < _HEADER.size:
            raise BtfError("BTF: shorter than its header")
        magic, version, _, header_len, type_off, type_len, str_off, str_len = _HEADER.unpack_from(data)
        if magic != _MAGIC or version != 1:
            raise BtfError(f"BTF: magic {magic:#x}, version {version}: not of this machine's byte order, or not BTF")
        self._data = data
        self._strings = data[header_len + str_off : header_len + str_off + str_len]
        self._offsets: list[int] = [0]  # by type id; 0 is void
        self._by_name: dict[int, list[int]] = {}
        self._index(header_len + type_off, header_len + type_off + type_len)

    @classmethod
    def of_kernel(cls, path: Path = VMLINUX) -> Btf:
        """Read the running kernel's. Raises BtfError."""
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise BtfError(f"{path}: {error.strerror}") from error

    def _index(self, at: int, end: int) -> None:
        unpack, add = _TYPE.unpack_from, self._offsets.append
        while at + _TYPE.size <= end:
            name, info, _ = unpack(self._data, at)
            kind = info >> 24 & 0x1F
            if kind == _STRUCT and name:
                self._by_name.setdefault(name, []).append(len(self._offsets))
            add(at)
            at += _TYPE.size + _FIXED.get(kind, 0) + _PER_ELEMENT.get(kind, 0) * (info & 0xFFFF)

    def _string(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _find(self, type_id: int, member: str) -> int | None:
        """Bit offset of `member`, also inside anonymous structures and unions."""
        at = self._offsets[type_id]
        _, info, _ = _TYPE.unpack_from(self._data, at)
        if info >> 24 & 0x1F not in (_STRUCT, _UNION):
            return None
        bitfields = info >> 31
        for i in range(info & 0xFFFF):
            name, kind, offset = cast(
                "tuple[int, int, int]", _MEMBER.unpack_from(self._data, at + _TYPE.size + i * _MEMBER.size)
            )
            bits = offset & 0xFFFFFF if bitfields else offset
            if name == 0:
                inner = self._find(kind, member)
                if inner is not None:
                    return bits + inner
            elif self._string(name) == member:
                return bits
        return None

    def offset(self, structure: str, member: str) -> int:
        """Return the offset of a member in bytes. Raises BtfError."""
        for name, ids in self._by_name.items():
            if self._string(name) != structure:
                continue
            for type_id in ids:
                bits = self._find(type_id, member)
                if bits is not None:
                    return bits // 8
        raise BtfError(f"BTF: no member {member} in struct {structure}")
