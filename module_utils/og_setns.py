# SPDX-License-Identifier: Apache-2.0
"""Network namespaces of this machine: open one by name, enter it with a netlink socket, and come back."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pyroute2 import IPRoute

if TYPE_CHECKING:
    from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
NETNS_DIRECTORY = Path("/run/netns")  # where `ip netns` keeps them

MEANINGS = {
    errno.EPERM: "not permitted to enter the namespace; CAP_SYS_ADMIN is needed",
    errno.EINVAL: "not a network namespace",
}

_libc = ctypes.CDLL(None, use_errno=True)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {MEANINGS.get(number, os.strerror(number))}")


@contextlib.contextmanager
def inside(descriptor: int) -> Iterator[IPRoute]:
    """Enter a namespace with a netlink socket of it, and come back."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(descriptor)
        try:
            with IPRoute() as netlink:
                yield netlink
        finally:
            _setns(own)
    finally:
        os.close(own)


@contextlib.contextmanager
def inside_named(name: str | None) -> Iterator[IPRoute]:
    """Enter the namespace `ip netns` knows by `name`; None: stay in this one. Raises OSError."""
    if name is None:
        with IPRoute() as netlink:
            yield netlink
        return
    descriptor = os.open(NETNS_DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with inside(descriptor) as netlink:
            yield netlink
    finally:
        os.close(descriptor)
