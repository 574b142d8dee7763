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
  - Old releases are removed last. One that cannot be removed is a warning.
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
      - Any other must be installed.
    type: str
    default: ""
  root:
    description: Where releases live.
    type: path
    default: /opt/og
  keep:
    description:
      - How many releases stay, the current one included; the most recently installed ones do. At least 1.
      - More stay where they are needed - O(id), the one that is current before this run, and what O(root)C(/previous)
        names before and after it, so that a switch can be undone. Even with V(1) there is a way back.
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
  description: All that are installed after this run.
  type: list
  elements: str
  returned: success
actions:
  description: The steps taken, or in check mode the steps that would be taken.
  type: list
  elements: str
  returned: success, and on failure those before it
  sample: ["unpack 0123456789abcdef", "switch to 0123456789abcdef"]
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
from typing import TYPE_CHECKING, NoReturn

from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Step = tuple[str, Callable[[], object]]  # in words, and what does it

FACT = """#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
printf '{{"release": "%s"}}\\n' "$(basename "$(readlink {root}/current)")"
"""


@dataclass(frozen=True)
class Around:
    """What is outside the root: the local fact, and the operator's command."""

    fact: Path
    command: Path

    def steps(self, root: Path) -> list[Step]:
        """Return what makes both as they should be, each in one step."""
        found: list[Step] = []
        if not self._fact_is_right(root):
            found.append((f"write {self.fact}", lambda: replace(self.fact, FACT.format(root=root), 0o755)))
        if not (self.command.is_symlink() and self.command.readlink() == root / "current/bin/ogctl"):
            found.append((f"link {self.command}", lambda: link(self.command, root / "current/bin/ogctl")))
        return found

    def _fact_is_right(self, root: Path) -> bool:
        return (
            self.fact.is_file()
            and self.fact.read_bytes() == FACT.format(root=root).encode()
            and os.access(self.fact, os.X_OK)
        )


@dataclass(frozen=True)
class Plan:
    """What there is, and what to do about it."""

    previous: str  # the release that is current now
    back: str  # what the link `previous` shall name; empty = leave it
    installed: tuple[str, ...]  # most recently installed first
    unpack: bool
    switch: bool
    remove: tuple[str, ...]


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
    for name, value in (("id", wanted), ("previous", module.params["previous"] or wanted)):
        if not re.fullmatch("[0-9a-f]{16}", value):
            fail(module, f"{name}: not 16 hex digits: {value!r}; nothing was changed")
    if module.params["keep"] < 1:
        fail(module, f"keep: {module.params['keep']} is less than 1; nothing was changed")
    around = Around(Path(module.params["fact_dir"]) / "og.fact", Path(module.params["bin_dir"]) / "ogctl")
    choice = Choice(wanted, activate=module.params["activate"], back=module.params["previous"])
    try:
        plan = make_plan(root, choice, module.params["keep"])
        look_at_archive(module, plan)
        steps = make_steps(plan, root, wanted, module.params["archive"], around)
    except (ReleaseError, OSError) as error:
        fail(module, f"release {wanted}: {error}; nothing was changed")
    if module.check_mode:
        actions = [words for words, _ in steps] + [f"remove {name}" for name in plan.remove]
    else:
        actions = carry_out(module, steps)
        actions += remove(module, root / "releases", plan.remove)
    after = [name for name in dict.fromkeys((wanted, *plan.installed)) if f"remove {name}" not in actions]
    module.exit_json(
        changed=bool(actions),
        actions=actions,
        id=wanted,
        previous=plan.previous,
        releases=sorted(after),
        diff={
            "before": describe(plan.previous, plan.installed),
            "after": describe(wanted if choice.activate else plan.previous, after),
        },
    )


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


def fail(module: AnsibleModule, message: str, done: Sequence[str] = ()) -> NoReturn:
    """End the module with an error, after what was done."""
    module.fail_json(msg=message, changed=bool(done), actions=list(done))
    raise SystemExit(1)


def describe(current: str, installed: list[str] | tuple[str, ...]) -> str:
    """Return the state as text for --diff."""
    return json.dumps({"current": current, "releases": sorted(installed)}, indent=1) + "\n"


def installed(root: Path) -> list[str]:
    """Return the releases, the most recently installed first."""
    found = [path for path in (root / "releases").glob("*") if (path / "manifest.json").is_file()]
    return [path.name for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]


def make_plan(root: Path, choice: Choice, keep: int) -> Plan:
    """Compare what is there with what shall be. Raises ReleaseError for a way back that is not there."""
    there = installed(root)
    if choice.back not in ("", choice.wanted, *there):
        raise ReleaseError(f"previous: {choice.back} is not installed; installed: {', '.join(there) or 'none'}")
    current, before = target(root / "current"), target(root / "previous")
    switch = choice.activate and current != choice.wanted
    back = (choice.back or current) if switch else ""
    # These stay: the wanted one, the current one, which may still run, the way back, and where that goes when undone.
    needed = [name for name in (choice.wanted, current, back, before) if name in (choice.wanted, *there)]
    order = list(dict.fromkeys((*needed, *there)))
    return Plan(
        previous=current,
        back=back,
        installed=tuple(there),
        unpack=choice.wanted not in there,
        switch=switch,
        remove=tuple(order[max(keep, len(set(needed))) :]),
    )


def target(path: Path) -> str:
    """Return the release a link names; empty where there is no link."""
    return path.readlink().name if path.is_symlink() else ""


def make_steps(plan: Plan, root: Path, wanted: str, archive: str | None, around: Around) -> list[Step]:
    """Return what the plan asks for but for the removals, the switch last."""
    steps: list[Step] = []
    if plan.unpack and archive is not None:
        steps.append((f"unpack {wanted}", lambda: unpack(Path(archive), root / "releases", wanted)))
    steps += around.steps(root)
    if plan.switch:
        steps.append((f"switch to {wanted}", lambda: link(root / "current", Path("releases") / wanted)))
        previous = root / "previous"
        if plan.back == wanted:
            steps.append((f"remove {previous}", lambda: previous.unlink(missing_ok=True)))
        elif plan.back:
            steps.append((f"link {previous} to {plan.back}", lambda: link(previous, Path("releases") / plan.back)))
    return steps


def carry_out(module: AnsibleModule, steps: Sequence[Step]) -> list[str]:
    """Take the steps and return them in words. Where one fails the module ends, and says which came before."""
    done: list[str] = []
    for words, do in steps:
        try:
            do()
        except (ReleaseError, OSError) as error:
            state = f"done before: {', '.join(done)}" if done else "nothing was changed"
            fail(module, f"release {module.params['id']}: {error}; {state}", done)
        done.append(words)
    return done


def remove(module: AnsibleModule, releases: Path, names: Sequence[str]) -> list[str]:
    """Remove old releases and return that in words. What cannot be removed is in nobody's way: a warning."""
    done = []
    for name in names:
        try:
            (releases / name / "manifest.json").unlink()  # first: what is half gone is no release any more
            done.append(f"remove {name}")
            shutil.rmtree(releases / name)
        except OSError as error:
            module.warn(f"release {name} cannot be removed: {error}")
    return done


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
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(target)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace(path: Path, text: str, mode: int) -> None:
    """Replace a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_text(text)
        temporary.chmod(mode)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
