#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the releases on a node and which one is current."""

from __future__ import annotations

DOCUMENTATION = r"""
module: og_release
short_description: Install and activate a release of the Occam Gateway
version_added: "1.0.0"
description:
  - Unpacks a release built by M(og_release_build) below O(root)C(/releases), checks every file against its manifest,
    and switches the link O(root)C(/current) to it in one step.
  - With an id that is there already it only switches, which is how a node is rolled back.
  - Running programs are not touched.
author:
  - The Occam Gateway authors
attributes:
  check_mode:
    support: full
    description: Says what would be done.
  diff_mode:
    support: full
    description: Shows the releases and the current one.
  platform:
    support: full
    platforms: linux
    description: Any host with Python.
options:
  id:
    description: The release that shall be current.
    type: str
    required: true
  archive:
    description: Its archive on the host. Not needed when the release is installed.
    type: path
  root:
    description: Where releases live.
    type: path
    default: /opt/og
  keep:
    description: How many releases stay, the current one included; the most recently installed ones do.
    type: int
    default: 3
  bin_dir:
    description: Where the link to C(ogctl) is made.
    type: path
    default: /usr/local/bin
  fact_dir:
    description: Where the local fact C(og.fact) is written, which tells the current release.
    type: path
    default: /etc/ansible/facts.d
"""

EXAMPLES = r"""
- name: Install the release
  og_release:
    id: 0123456789abcdef
    archive: /var/cache/og-0123456789abcdef.tar.gz

- name: Go back
  og_release:
    id: fedcba9876543210
"""

RETURN = r"""
id:
  description: The current release.
  type: str
  returned: success
previous:
  description: The one that was current before; empty when there was none.
  type: str
  returned: success
releases:
  description: All that are installed.
  type: list
  elements: str
  returned: success
"""

import hashlib
import json
import os
import re
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

FACT = """#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
printf '{{"release": "%s"}}\\n' "$(basename "$(readlink {root}/current)")"
"""


@dataclass(frozen=True)
class Around:
    """What is outside the root: the local fact, and the operator's command."""

    fact: Path
    command: Path

    def is_right(self, root: Path) -> bool:
        """Tell whether both are as they should be."""
        fact_is = (
            self.fact.is_file() and self.fact.read_text() == FACT.format(root=root) and os.access(self.fact, os.X_OK)
        )
        return fact_is and self.command.is_symlink() and self.command.readlink() == root / "current/bin/ogctl"

    def make(self, root: Path) -> None:
        """Make both, each in one step."""
        for path in (self.fact, self.command):
            path.parent.mkdir(parents=True, exist_ok=True)
        replace(self.fact, FACT.format(root=root), 0o755)
        link(self.command, root / "current/bin/ogctl")


@dataclass(frozen=True)
class Plan:
    """What there is, and what to do about it."""

    previous: str
    installed: tuple[str, ...]  # most recently installed first
    unpack: bool
    switch: bool
    remove: tuple[str, ...]
    around: bool

    @property
    def changed(self) -> bool:
        """Whether there is anything to do."""
        return self.unpack or self.switch or self.around or bool(self.remove)


class ReleaseError(Exception):
    """A release that cannot be installed. The text says which and why."""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "id": {"type": "str", "required": True},
            "archive": {"type": "path"},
            "root": {"type": "path", "default": "/opt/og"},
            "keep": {"type": "int", "default": 3},
            "bin_dir": {"type": "path", "default": "/usr/local/bin"},
            "fact_dir": {"type": "path", "default": "/etc/ansible/facts.d"},
        },
        supports_check_mode=True,
    )
    root, wanted = Path(module.params["root"]), module.params["id"]
    if not re.fullmatch("[0-9a-f]{16}", wanted):
        fail(module, f"id: not 16 hex digits: {wanted!r}")
    around = Around(Path(module.params["fact_dir"]) / "og.fact", Path(module.params["bin_dir"]) / "ogctl")
    plan = make_plan(root, wanted, around, max(1, module.params["keep"]))
    after = [name for name in dict.fromkeys((wanted, *plan.installed)) if name not in plan.remove]
    result = {
        "changed": plan.changed,
        "id": wanted,
        "previous": plan.previous,
        "releases": sorted(after),
        "diff": {
            "before": describe(plan.previous, plan.installed),
            "after": describe(wanted, after),
        },
    }
    if not module.check_mode:
        try:
            apply(plan, root, wanted, module.params["archive"], around)
        except (ReleaseError, OSError) as error:
            fail(module, f"release {wanted}: {error}")
    module.exit_json(**result)


def fail(module: AnsibleModule, message: str) -> NoReturn:
    """End the module with an error."""
    module.fail_json(msg=message)
    raise SystemExit(1)


def describe(current: str, installed: list[str] | tuple[str, ...]) -> str:
    """Return the state as text for --diff."""
    return json.dumps({"current": current, "releases": sorted(installed)}, indent=1) + "\n"


def make_plan(root: Path, wanted: str, around: Around, keep: int) -> Plan:
    """Compare what is there with what shall be."""
    releases = root / "releases"
    found = [path for path in releases.glob("*") if (path / "manifest.json").is_file()]
    installed = [path.name for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]
    current = root / "current"
    previous = current.readlink().name if current.is_symlink() else ""
    # The wanted one stays, and the one before it: it is the way back, and may still run.
    order = dict.fromkeys((wanted, *([previous] if previous in installed else []), *installed))
    return Plan(
        previous=previous,
        installed=tuple(installed),
        unpack=wanted not in installed,
        switch=previous != wanted,
        remove=tuple(list(order)[max(keep, 2 if previous else 1) :]),
        around=not around.is_right(root),
    )


def apply(plan: Plan, root: Path, wanted: str, archive: str | None, around: Around) -> None:
    """Carry the plan out, the switch last but for tidying up."""
    releases = root / "releases"
    if plan.unpack:
        if archive is None:
            raise ReleaseError(f"not installed, and no archive given; installed: {', '.join(plan.installed) or 'none'}")
        unpack(Path(archive), releases, wanted)
    if plan.around:
        around.make(root)
    if plan.switch:
        link(root / "current", Path("releases") / wanted)
    for name in plan.remove:
        shutil.rmtree(releases / name)


def unpack(archive: Path, releases: Path, wanted: str) -> None:
    """Unpack beside, check, rename: a release directory is whole or not there."""
    releases.mkdir(parents=True, exist_ok=True)
    temporary = releases / f".{wanted}.new"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(temporary, filter="data")
        manifest = json.loads((temporary / "manifest.json").read_text())
    except (tarfile.TarError, zlib.error, EOFError, ValueError, FileNotFoundError) as error:
        raise ReleaseError(f"{archive}: not a whole release: {error}") from error
    if manifest["id"] != wanted:
        raise ReleaseError(f"{archive} holds release {manifest['id']}")
    for name, checksum in manifest["files"].items():
        path = temporary / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
            raise ReleaseError(f"{archive}: {name} is not what the manifest says")
    shutil.rmtree(releases / wanted, ignore_errors=True)
    temporary.chmod(0o755)
    os.utime(temporary)
    temporary.rename(releases / wanted)


def link(path: Path, target: Path) -> None:
    """Point a symbolic link elsewhere in one step."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.rename(path)


def replace(path: Path, text: str, mode: int) -> None:
    """Replace a file in one step."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.chmod(mode)
    temporary.rename(path)


if __name__ == "__main__":
    main()
