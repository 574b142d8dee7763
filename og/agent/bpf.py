# SPDX-License-Identifier: Apache-2.0
"""The bpf(2) system call, as far as the agent needs it: maps, pinned objects, test runs.

`og-agent --status` and the statistics need nothing but this: no bcc, no compiler.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_LIBC = ctypes.CDLL(None, use_errno=True)

# enum bpf_cmd, linux/bpf.h
_MAP_CREATE, _LOOKUP, _UPDATE, _DELETE, _NEXT_KEY = 0, 1, 2, 3, 4
_OBJ_PIN, _OBJ_GET, _TEST_RUN, _OBJ_INFO = 6, 7, 10, 15

ARRAY, HASH, PERCPU_ARRAY, LRU_HASH, LPM_TRIE = 2, 1, 6, 9, 11
PER_CPU = frozenset({PERCPU_ARRAY})
NO_PREALLOC = 1

BPF_FS_MAGIC = 0xCAFE4A11


class BpfError(OSError):
    """A bpf(2) command failed; `errno` is the kernel's."""


def _bpf(command: int, attr: bytes, what: str) -> tuple[int, bytes]:
    """Issue a command; return its result and the attribute as the kernel left it."""
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise BpfError(0, f"bpf(2) on {platform.machine()}: system call number not known")
    buffer = ctypes.create_string_buffer(attr, len(attr))
    result = _LIBC.syscall(number, command, buffer, len(attr))
    if result < 0:
        code = ctypes.get_errno()
        raise BpfError(code, f"{what}: {os.strerror(code)}")
    return result, buffer.raw


def _memory(data: bytes | int) -> ctypes.Array[ctypes.c_char]:
    """Return memory the kernel may read or write: with this content, or of this many bytes."""
    if isinstance(data, int):
        return ctypes.create_string_buffer(data)
    return ctypes.create_string_buffer(data, len(data))


def possible_cpus() -> int:
    """Return how many values a per-CPU map holds per key: the kernel's possible CPUs, not those that are online."""
    text = Path("/sys/devices/system/cpu/possible").read_text()
    return int(text.strip().replace(",", "-").rsplit("-", 1)[-1]) + 1


@dataclass(frozen=True)
class MapSpec:
    """What a map is made of: type and flags as in linux/bpf.h, sizes in bytes."""

    name: str
    type: int
    key_size: int
    value_size: int
    entries: int
    flags: int = 0


class BpfMap:
    """A map, by its descriptor; keys and values are bytes. Closed with the object."""

    def __init__(self, fd: int, spec: MapSpec) -> None:
        self.fd = fd
        self.spec = spec
        self._stride = (spec.value_size + 7) // 8 * 8

    def __del__(self) -> None:
        os.close(self.fd)

    @classmethod
    def create(cls, spec: MapSpec) -> BpfMap:
        """Make an empty map."""
        numbers = (spec.type, spec.key_size, spec.value_size, spec.entries, spec.flags, 0, 0)
        attr = struct.pack("=IIIIIII16s", *numbers, spec.name[:15].encode()).ljust(72, b"\0")
        return cls(_bpf(_MAP_CREATE, attr, f"create map {spec.name}")[0], spec)

    @classmethod
    def pinned(cls, path: Path) -> BpfMap:
        """Open a pinned map."""
        fd = get_pinned(path)
        info = _info(fd, 80)
        kind, _, key_size, value_size, entries, flags, name = struct.unpack_from("=IIIIII16s", info)
        return cls(fd, MapSpec(name.rstrip(b"\0").decode(), kind, key_size, value_size, entries, flags))

    @property
    def _value_bytes(self) -> int:
        return self._stride * possible_cpus() if self.spec.type in PER_CPU else self.spec.value_size

    def _element(self, command: int, key: bytes, value: ctypes.Array[ctypes.c_char] | None) -> None:
        if len(key) != self.spec.key_size:
            raise ValueError(f"map {self.spec.name}: key of {len(key)} bytes, not {self.spec.key_size}")
        held = _memory(key)
        attr = struct.pack("=IxxxxQQQ", self.fd, ctypes.addressof(held), ctypes.addressof(value) if value else 0, 0)
        _bpf(command, attr, f"map {self.spec.name}")

    def get(self, key: bytes) -> bytes | None:
        """Return the value (for a per-CPU map all values, each at a multiple of 8 bytes), or None."""
        value = _memory(self._value_bytes)
        try:
            self._element(_LOOKUP, key, value)
        except BpfError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return value.raw

    def get_cpus(self, key: bytes) -> list[bytes]:
        """Return the values of a per-CPU map, one for each possible CPU."""
        raw = self.get(key) or b""
        return [raw[at : at + self.spec.value_size] for at in range(0, len(raw), self._stride)]

    def set(self, key: bytes, value: bytes) -> None:
        """Write a value; for a per-CPU map the values of all CPUs."""
        if len(value) != self._value_bytes:
            raise ValueError(f"map {self.spec.name}: value of {len(value)} bytes, not {self._value_bytes}")
        self._element(_UPDATE, key, _memory(value))

    def delete(self, key: bytes) -> bool:
        """Delete a key; False if it was not there."""
        try:
            self._element(_DELETE, key, None)
        except BpfError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    def keys(self) -> Iterator[bytes]:
        """Go through the keys; those written or deleted meanwhile may be missed or seen twice."""
        following = _memory(self.spec.key_size)
        current: ctypes.Array[ctypes.c_char] | None = None
        while True:
            start = ctypes.addressof(current) if current else 0
            attr = struct.pack("=IxxxxQQQ", self.fd, start, ctypes.addressof(following), 0)
            try:
                _bpf(_NEXT_KEY, attr, f"map {self.spec.name}")
            except BpfError as error:
                if error.errno == errno.ENOENT:  # that was the last one
                    return
                raise
            yield following.raw
            current = _memory(following.raw)


def _info(fd: int, size: int) -> bytes:
    held = _memory(size)
    _bpf(_OBJ_INFO, struct.pack("=IIQ", fd, size, ctypes.addressof(held)), "object info")
    return held.raw


@dataclass(frozen=True)
class ProgramInfo:
    """Identity of a loaded program."""

    id: int
    tag: str
    name: str


def program_info(fd: int) -> ProgramInfo:
    """Return id, tag (a digest of the instructions) and name of a program."""
    info = _info(fd, 128)
    _, number, tag = struct.unpack_from("=II8s", info)
    return ProgramInfo(number, tag.hex(), info[64:80].split(b"\0")[0].decode())


def get_pinned(path: Path) -> int:
    """Return a descriptor for a pinned object."""
    held = _memory(str(path).encode() + b"\0")
    return _bpf(_OBJ_GET, struct.pack("=QII", ctypes.addressof(held), 0, 0), f"open {path}")[0]


def pin(fd: int, path: Path) -> None:
    """Pin an object; whatever was pinned there is replaced in one step."""
    fresh = path.with_name(f"{path.name}_new")  # no dots: bpffs keeps them for itself
    fresh.unlink(missing_ok=True)
    held = _memory(str(fresh).encode() + b"\0")
    _bpf(_OBJ_PIN, struct.pack("=QII", ctypes.addressof(held), fd, 0), f"pin {path}")
    fresh.rename(path)


@dataclass(frozen=True)
class TestRun:
    """What a program did with a packet."""

    retval: int
    data: bytes
    ns: int  # mean of all repetitions


def run_program(fd: int, data: bytes, repeat: int = 1, context: bytes = b"", room: int = 512) -> TestRun:
    """Run a program on a packet (BPF_PROG_TEST_RUN). `room`: bytes by which it may grow."""
    held = _memory(data)
    out = _memory(len(data) + room)
    ctx = _memory(context)
    attr = struct.pack(
        "=IIIIQQIIIIQQIIII",
        fd, 0, len(data), len(data) + room, ctypes.addressof(held), ctypes.addressof(out), repeat, 0,
        len(context), 0, ctypes.addressof(ctx) if context else 0, 0, 0, 0, 0, 0,
    )  # fmt: skip
    attr = _bpf(_TEST_RUN, attr, "test run")[1]
    retval, _, size = struct.unpack_from("=III", attr, 4)
    (duration,) = struct.unpack_from("=I", attr, 36)
    return TestRun(retval, out.raw[:size], duration)


class _Statfs(ctypes.Structure):
    _fields_ = (("type", ctypes.c_long), ("rest", ctypes.c_char * 256))


def is_bpffs(path: Path) -> bool:
    """Say whether `path` is in a BPF file system."""
    found = _Statfs()
    return bool(_LIBC.statfs(str(path).encode(), ctypes.byref(found)) == 0 and found.type & 0xFFFFFFFF == BPF_FS_MAGIC)


def mount_bpffs(path: Path) -> None:
    """Mount a BPF file system at `path`."""
    if _LIBC.mount(b"bpf", str(path).encode(), b"bpf", 0, b"mode=0700") != 0:
        code = ctypes.get_errno()
        raise BpfError(code, f"mount a BPF file system at {path}: {os.strerror(code)}")
