# SPDX-License-Identifier: Apache-2.0
"""A connection to nobody: every module "ran" at once and found nothing. What is left is the controller's own work."""

from __future__ import annotations

import json

from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = r"""
name: og_null
short_description: Answers every module at once
description:
  - Runs nothing. Every module is answered as if it had changed nothing, every file as if it were not there.
  - For measuring what a run costs the controller.
author:
  - The Occam Gateway authors
"""

# What host_facts.sh would say on a good machine, so that its checks run to their end.
HOST = """system debian 13
kernel 6.12.0
processors 16
container docker
seg6 yes
btf yes
hugepages 0
memory_kb 64000000
interface_mtu 9000
pci_class 0x020000
pci_iommu yes
vfio yes
free_mb /opt/og 100000"""

# What modules ask for by name: a command's output, a file that is not there.
ANSWER = {
    "changed": False,
    "rc": 0,
    "stdout": HOST,
    "stderr": "",
    "start": "",
    "end": "",
    "delta": "",
    "stat": {"exists": False},
    "status": {},
    "ansible_facts": {"distribution": "Debian", "python": {}},
    "problems": [],
}


class Connection(ConnectionBase):  # type: ignore[misc]
    """Nobody at the other end."""

    transport = "og_null"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Answer at once."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return 0, (json.dumps(ANSWER) + "\n").encode(), b""

    def put_file(self, in_path: str, out_path: str) -> None:
        """Take a file nowhere."""

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Bring nothing."""

    def close(self) -> None:
        """There is nothing to close."""
        self._connected = False
