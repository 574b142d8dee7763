# SPDX-License-Identifier: Apache-2.0
"""Messages to systemd (sd_notify(3)): ready, status line, watchdog."""

from __future__ import annotations

import os
import socket


def notify(message: str) -> None:
    """Send a message such as `READY=1` when systemd asked for it; else do nothing."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(message.encode(), address)
    except OSError:
        return  # systemd went away or is busy: the next message tells it
