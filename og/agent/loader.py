# SPDX-License-Identifier: Apache-2.0
"""Maps and programs into the kernel: maps are made and pinned here, programs compiled by bcc against them."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from og.agent import bpf, layout
from og.agent.bpf import BpfMap
from og.agent.btf import Btf, BtfError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from og.agent.config import AgentConfig

log = logging.getLogger("og-agent")

INCARNATION_BYTES = 8

# Macro of bpf/og_mine.h, structure and member it stands for.
OFFSETS = (
    ("OG_OFF_ACK_BACKLOG", "sock", "sk_ack_backlog"),
    ("OG_OFF_MAX_ACK_BACKLOG", "sock", "sk_max_ack_backlog"),
    ("OG_OFF_RCV_NXT", "tcp_sock", "rcv_nxt"),
    ("OG_OFF_RCV_ISN", "tcp_request_sock", "rcv_isn"),
    ("OG_OFF_SNT_ISN", "tcp_request_sock", "snt_isn"),
    ("OG_OFF_TW_RCV_NXT", "sock_common", "skc_tw_rcv_nxt"),
)


class LoadError(RuntimeError):
    """A program or a map could not be made."""


# ---- maps -----------------------------------------------------------------------------------------------------------


def ensure_bpffs(pin_dir: Path) -> None:
    """Make the directory for pins, on a BPF file system: mounts one at /sys/fs/bpf where that is missing."""
    top = pin_dir
    while not top.exists():
        top = top.parent
    if not bpf.is_bpffs(top):
        if str(top) != "/sys/fs/bpf":
            raise LoadError(f"{pin_dir}: not on a BPF file system")
        bpf.mount_bpffs(top)
    pin_dir.mkdir(parents=True, exist_ok=True, mode=0o700)


def open_maps(pin_dir: Path) -> dict[str, BpfMap]:
    """Open the pinned maps; make those that are missing, or that an older release laid out differently."""
    maps = {}
    for name, spec in layout.MAPS.items():
        path = pin_dir / name
        if path.exists():
            present = BpfMap.pinned(path)
            if replace(present.spec, name="", flags=0) == replace(spec, name="", flags=0):
                maps[name] = present
                continue
            log.warning("map %s: laid out differently by another release: starts empty", name)
        maps[name] = BpfMap.create(spec)
        bpf.pin(maps[name].fd, path)
    return maps


def incarnation(maps: Mapping[str, BpfMap]) -> bytes:
    """Return the pinned incarnation, or a new one for a new map.

    It lives as long as the kernel's sockets do: routers drop their pins to this host when it changes.
    """
    raw = maps["config"].get(layout.index(0)) or bytes(24)
    present = layout.Config.unpack(raw).incarnation
    return present if any(present) else secrets.token_bytes(INCARNATION_BYTES)


def _replace(target: BpfMap, wanted: Mapping[bytes, bytes]) -> None:
    """Make a hash or prefix map hold exactly `wanted`: new entries first, so that none that stays is ever missing."""
    for key, value in wanted.items():
        target.set(key, value)
    for key in [key for key in target.keys() if key not in wanted]:  # noqa: SIM118 - not a dict
        target.delete(key)


def fill_maps(maps: Mapping[str, BpfMap], config: AgentConfig, *, load_aware: bool) -> None:
    """Write the configuration to the maps. Packets may flow meanwhile: each entry is replaced in one step."""
    keys = [layout.service_key(s.vip, s.protocol, s.port) for s in config.services]
    locators = {prefix for prefix in config.gateways if prefix.prefixlen == layout.LOCATOR_BITS}
    aggregates = set(config.gateways) - locators
    _replace(maps["locators"], {prefix.network_address.packed[:8]: layout.index(1) for prefix in locators})
    _replace(maps["gateways"], {layout.gateway_key(prefix): layout.index(1) for prefix in aggregates})
    values = [layout.service_value(s.index, s.accept_limit) for s in config.services]
    _replace(maps["services"], dict(zip(keys, values, strict=True)))
    for i in range(layout.MAX_SERVICES):
        maps["ports"].set(layout.index(i), keys[i] if i < len(keys) else bytes(24))
    value = layout.Config(
        locator=config.locator,
        incarnation=incarnation(maps),
        fabric_mtu=config.fabric_mtu,
        mss_limit=config.mss_limit,
        dscp=config.dscp,
        load_aware=load_aware,
        draining=config.draining,
    )
    maps["config"].set(layout.index(0), value.pack())


# ---- programs -------------------------------------------------------------------------------------------------------


def compile_program(name: str, bpf_dir: Path, maps: Mapping[str, BpfMap], offsets: Mapping[str, int]) -> int:
    """Compile `og_agent_<name>.c` with bcc and load it. Returns its descriptor. Raises LoadError."""
    return compile_file(bpf_dir / f"og_agent_{name}.c", bpf_dir, maps, offsets, for_tc=name == "tc")


def compile_file(
    source: Path, bpf_dir: Path, maps: Mapping[str, BpfMap], offsets: Mapping[str, int], *, for_tc: bool
) -> int:
    """Compile the program `source`, whose function has the file's name. Returns its descriptor. Raises LoadError."""
    from bcc import BPF  # noqa: PLC0415 - half a second, and only loading needs it

    flags = [f"-I{bpf_dir}", f"-I{bpf_dir.parent / 'native/lib'}", "-Wno-unused-function"]
    flags += [f"-DOG_FD_{layout.MAPS[key].name}={bpf_map.fd}" for key, bpf_map in maps.items()]
    flags += [f"-D{macro}={offset}" for macro, offset in offsets.items()]
    try:
        module = BPF(text=source.read_bytes(), cflags=flags)
        kind = BPF.SCHED_CLS if for_tc else BPF.XDP
        return os.dup(module.load_func(source.stem.encode(), kind).fd)
    except OSError as error:
        raise LoadError(f"{source}: {error.strerror}") from error
    except Exception as error:  # bcc raises nothing more specific; its compiler wrote to stderr
        raise LoadError(f"{source}: {error}") from error


def kernel_offsets(btf: Path) -> dict[str, int]:
    """Return the offsets of og_mine.h's fields in the running kernel. Raises BtfError."""
    types = Btf.of_kernel(btf)
    return {macro: types.offset(structure, member) for macro, structure, member in OFFSETS}


@dataclass(frozen=True)
class Seen:
    """What the check program read about a socket."""

    state: int
    backlog: int
    maximum: int
    rcv_nxt: int


def _look(fd: int, local: tuple[str, int], remote: tuple[str, int]) -> Seen | None:
    flow = struct.pack(
        "!16s16sHHB3x", socket.inet_pton(socket.AF_INET6, remote[0]), socket.inet_pton(socket.AF_INET6, local[0]),
        remote[1], local[1], layout.PROTOCOLS["tcp"],
    )  # fmt: skip
    answer = bpf.run_program(fd, bytes(14) + flow)
    found, *values = struct.unpack_from("=IIIII", answer.data, 14)
    return Seen(*values) if found == 1 else None


_SENT = 1000


def self_test(fd: int) -> str:
    """Compare what the check program `fd` reads with what is known about sockets made here.

    Returns what is wrong, or an empty text.
    """
    with contextlib.ExitStack() as stack:

        def tcp() -> socket.socket:
            return stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))

        listener = tcp()
        listener.bind(("::1", 0))
        listener.listen(9)
        here = listener.getsockname()[:2]
        clients = [tcp() for _ in range(4)]
        for client in clients:
            client.settimeout(2)
            client.connect(here)
        seen = _look(fd, here, ("::", 0))
        if seen is None or (seen.backlog, seen.maximum) != (4, 9):
            return f"a listener with 4 of 9 connections waiting reads as {seen}"
        server = stack.enter_context(listener.accept()[0])
        peer = server.getpeername()[:2]
        before = _look(fd, here, peer)
        client = next(one for one in clients if one.getsockname()[1] == peer[1])
        client.sendall(bytes(_SENT))
        server.recv(_SENT, socket.MSG_WAITALL)
        after = _look(fd, here, peer)
        if before is None or after is None or (after.rcv_nxt - before.rcv_nxt) % 2**32 != _SENT:
            return f"a connection that got {_SENT} bytes reads as {before}, then {after}"
    return ""


def tested_offsets(bpf_dir: Path, maps: Mapping[str, BpfMap], btf: Path) -> tuple[dict[str, int], str]:
    """Return the offsets to compile with and, if they cannot be trusted, none and the reason."""
    try:
        offsets = kernel_offsets(btf)
        fd = compile_program("check", bpf_dir, maps, offsets)
    except (BtfError, LoadError) as error:
        return {}, str(error)
    try:
        problem = self_test(fd)
    except OSError as error:
        problem = f"self-test: {error}"
    finally:
        os.close(fd)
    return ({}, problem) if problem else (offsets, "")
