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
  - The link O(root)C(/previous) names the release that was current before.
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
  activate:
    description: Whether to make it current. Without it the release is only put in place, ready to be switched to.
    type: bool
    default: true
  previous:
    description:
      - The release that O(root)C(/previous) shall name after a switch. By default the one that was current.
      - For whoever undoes a switch - the way back is then what it was before. The O(id) itself - there is none.
    type: str
    default: ""
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
  description: The release that was asked for.
  type: str
  returned: success
previous:
  description: The one that was current before this run; empty when there was none.
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
            self.fact.is_file()
            and self.fact.read_bytes() == FACT.format(root=root).encode()
            and os.access(self.fact, os.X_OK)
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

    previous: str  # the release that is current now
    back: str  # what the link `previous` shall name; empty = leave it
    installed: tuple[str, ...]  # most recently installed first
    unpack: bool
    switch: bool
    remove: tuple[str, ...]
    around: bool

    @property
    def changed(self) -> bool:
        """Whether there is anything to do."""
        return self.unpack or self.switch or self.around or bool(self.remove)


@dataclass(frozen=True)
class Choice:
    """What is asked for."""

    wanted: str
    activate: bool = True
    back: str = ""


class ReleaseError(Exception):
    """A release that cannot be installed. The text says which and why."""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "id": {"type": "str", "required": True},
            "archive": {"type": "path"},
            "activate": {"type": "bool", "default": True},
            "previous": {"type": "str", "default": ""},
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
    choice = Choice(wanted, activate=module.params["activate"], back=module.params["previous"])
    try:
        plan = make_plan(root, choice, around, max(1, module.params["keep"]))
        look_at_archive(module, plan)
    except (ReleaseError, OSError) as error:
        fail(module, f"release {wanted}: {error}; nothing was changed")
    after = [name for name in dict.fromkeys((wanted, *plan.installed)) if name not in plan.remove]
    result = {
        "changed": plan.changed,
        "id": wanted,
        "previous": plan.previous,
        "releases": sorted(after),
        "diff": {
            "before": describe(plan.previous, plan.installed),
            "after": describe(wanted if choice.activate else plan.previous, after),
        },
    }
    if not module.check_mode:
        try:
            apply(plan, root, wanted, module.params["archive"], around)
        except (ReleaseError, OSError) as error:
            fail(module, f"release {wanted}: {error}")
    module.exit_json(**result)


def look_at_archive(module: AnsibleModule, plan: Plan) -> None:
    """Say before anything is done if there is nothing to install it from."""
    archive = module.params["archive"]
    if not plan.unpack:
        return
    if archive is None:
        raise ReleaseError(f"not installed, and no archive given; installed: {', '.join(plan.installed) or 'none'}")
    if not Path(archive).is_file():
        if not module.check_mode:
            raise ReleaseError(f"archive: {archive} is not there")
        module.warn(f"archive: {archive} is not there yet; what it holds is checked in the real run")


def fail(module: AnsibleModule, message: str) -> NoReturn:
    """End the module with an error."""
    module.fail_json(msg=message)
    raise SystemExit(1)


def describe(current: str, installed: list[str] | tuple[str, ...]) -> str:
    """Return the state as text for --diff."""
    return json.dumps({"current": current, "releases": sorted(installed)}, indent=1) + "\n"


def make_plan(root: Path, choice: Choice, around: Around, keep: int) -> Plan:
    """Compare what is there with what shall be."""
    releases = root / "releases"
    found = [path for path in releases.glob("*") if (path / "manifest.json").is_file()]
    installed = [path.name for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]
    current, before = target(root / "current"), target(root / "previous")
    switch = choice.activate and current != choice.wanted
    back = (choice.back or current) if switch else ""
    # The wanted one stays, the current one, which may still run, and the way back.
    needed = [name for name in (choice.wanted, current, back or before) if name in (choice.wanted, *installed)]
    order = list(dict.fromkeys((*needed, *installed)))
    return Plan(
        previous=current,
        back=back,
        installed=tuple(installed),
        unpack=choice.wanted not in installed,
        switch=switch,
        remove=tuple(order[max(keep, len(set(needed))) :]),
        around=not around.is_right(root),
    )


def target(path: Path) -> str:
    """Return the release a link names; empty where there is no link."""
    return path.readlink().name if path.is_symlink() else ""


def apply(plan: Plan, root: Path, wanted: str, archive: str | None, around: Around) -> None:
    """Carry the plan out, the switch last but for tidying up."""
    releases = root / "releases"
    if plan.unpack and archive is not None:
        unpack(Path(archive), releases, wanted)
    if plan.around:
        around.make(root)
    if plan.switch:
        link(root / "current", Path("releases") / wanted)
        if plan.back == wanted:
            (root / "previous").unlink(missing_ok=True)
        elif plan.back:
            link(root / "previous", Path("releases") / plan.back)
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
        check(temporary, wanted)
        shutil.rmtree(releases / wanted, ignore_errors=True)
        temporary.chmod(0o755)
        os.utime(temporary)
        temporary.rename(releases / wanted)
    except (tarfile.TarError, zlib.error, EOFError, ReleaseError) as error:
        raise ReleaseError(f"{archive}: not a whole release: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check(directory: Path, wanted: str) -> None:
    """Compare what was unpacked with its manifest. Raises ReleaseError."""
    identity, files = read_manifest(directory / "manifest.json")
    if identity != wanted:
        raise ReleaseError(f"it holds release {identity}")
    for name, checksum in files.items():
        path = directory / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
            raise ReleaseError(f"{name} is not what the manifest says")


def read_manifest(file: Path) -> tuple[str, dict[str, str]]:
    """Return id and checksums by path. Raises ReleaseError naming what is wrong."""
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReleaseError("manifest.json: missing") from None
    except ValueError as error:
        raise ReleaseError(f"manifest.json: not JSON: {error}") from error
    if not isinstance(manifest, dict):
        raise ReleaseError("manifest.json: not an object")
    identity, files = manifest.get("id"), manifest.get("files")
    if not isinstance(identity, str):
        raise ReleaseError("manifest.json: id: missing, or not a string")
    if not isinstance(files, dict) or not files or not all(isinstance(checksum, str) for checksum in files.values()):
        raise ReleaseError("manifest.json: files: missing, or not checksums by path")
    return identity, files


def link(path: Path, target: Path) -> None:
    """Point a symbolic link elsewhere in one step."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.rename(path)


def replace(path: Path, text: str, mode: int) -> None:
    """Replace a file in one step."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_text(text)
        temporary.chmod(mode)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
