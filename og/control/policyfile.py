# SPDX-License-Identifier: Apache-2.0
"""The policy file as the daemon follows it: a bad file never replaces a good one, not even over a restart.

A service the inventory does not define is no error here, but for og_policy and --check-config: inventory and policy are
two files, and while a service comes or goes they disagree for a moment.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from og.policy.check import Policy, load_policy
from og.policy.document import PolicyError

LOG = logging.getLogger("og-control")
LAST_GOOD = "policy.last-good.yml"


class NoPolicyError(Exception):
    """Neither the file nor a last good copy can be used. The text has the file's problems."""


class PolicyFile:
    """The policy in force. `error` says why the file is not it; empty = it is."""

    def __init__(self, path: str, state_dir: str) -> None:
        self.path = path
        self.error = ""
        self._copy = Path(state_dir) / LAST_GOOD
        self._stamp: tuple[int, ...] | None = None
        self.policy = self._start()

    def changed(self) -> bool:
        """Tell whether the file is another one than at the last reload."""
        return self._read_stamp() != self._stamp

    def reload(self) -> bool:
        """Read the file again; True = its policy is in force. A bad one changes nothing but `error`."""
        self._stamp = self._read_stamp()
        try:
            text = Path(self.path).read_text(encoding="utf-8")
            policy = load_policy(text, self.path)
        except (PolicyError, OSError, UnicodeDecodeError) as error:
            if str(error) != self.error:
                LOG.error("policy not changed: %s", error)
            self.error = str(error)
            return False
        if self.error or policy.digest != self.policy.digest:
            LOG.info("policy %s in force", policy.digest[:16])
        self.policy, self.error = policy, ""
        self._keep(text)
        return True

    def _start(self) -> Policy:
        self._stamp = self._read_stamp()
        problems = ""
        for path in (Path(self.path), self._copy):
            try:
                text = path.read_text(encoding="utf-8")
                policy = load_policy(text, str(path))
            except (PolicyError, OSError, UnicodeDecodeError) as error:
                problems = problems or str(error)
                continue
            if problems:
                LOG.error("policy: the last good one is used: %s", problems)
            else:
                self._keep(text)
            self.error = problems
            return policy
        raise NoPolicyError(problems)

    def _keep(self, text: str) -> None:
        """Remember a good text. Failure costs only the copy."""
        temporary = self._copy.with_name(f".{LAST_GOOD}.{os.getpid()}")
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.rename(self._copy)
        except OSError as error:
            LOG.warning("no copy of the policy kept: %s", error)

    def _read_stamp(self) -> tuple[int, ...] | None:
        try:
            stat = Path(self.path).stat()
        except OSError:
            return None
        return (stat.st_ino, stat.st_mtime_ns, stat.st_size)
