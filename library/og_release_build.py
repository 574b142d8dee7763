#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: compile a release from packed sources."""

from __future__ import annotations

DOCUMENTATION = r"""
module: og_release_build
short_description: Build a content-addressed release of the Occam Gateway
version_added: "1.0.0"
description:
  - Compiles packed sources and packs programs, Python package and BPF sources into one archive.
  - The release's id is a hash of sources, toolchain and flags. What was built before is not built again.
  - The archive is the same to the byte for the same input, so its checksum is an identity too.
author:
  - The Occam Gateway authors
requirements:
  - meson, ninja, gcc, clang and the development packages of DPDK, libbpf, jansson and libmnl on the host
attributes:
  check_mode:
    support: full
    description: Says whether something would be built. Without a toolchain it assumes so.
  diff_mode:
    support: none
    description: There is nothing to show but an id.
  platform:
    support: full
    platforms: linux
    description: Built for the machine it runs on.
options:
  sources:
    description: The archive of the sources, as C(roles/og_release/files/pack_sources.py) makes it.
    type: path
    required: true
  work_dir:
    description: Kept between runs, so that only what changed is compiled. Finished archives stay there too.
    type: path
    default: /var/cache/og-build
  meson_options:
    description: Options of C(meson setup).
    type: list
    elements: str
    default: ["--buildtype=release"]
  label:
    description: A name of your own for this build, such as a ticket. Part of the id, and told by the manifest.
    type: str
    default: ""
  jobs:
    description: Compilers at the same time.
    type: int
    default: 2
  keep:
    description: How many archives stay in O(work_dir), this one included. At least 1.
    type: int
    default: 3
"""

EXAMPLES = r"""
- name: Build the release
  og_release_build:
    sources: /var/cache/og-build/sources.tar
  register: __built
"""

RETURN = r"""
id:
  description: The release's id; empty in check mode on a host without a toolchain.
  type: str
  returned: success
archive:
  description: Path of the archive on the host; empty in check mode on a host without a toolchain.
  type: path
  returned: success
sha256:
  description: Its checksum; empty when it is not built.
  type: str
  returned: success
"""

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

PROGRAMS = {"og-hasher": "hasher/og-hasher", "og-router": "router/og-router", "og-port": "port/og-port"}
PYTHON_PROGRAMS = {
    "og-agent": "og.agent",
    "og-agent-kernel": "og.agent.kernel",
    "og-control": "og.control",
    "og-health": "og.health",
    "og-load": "og.load",
    "og-srv6": "og.srv6",
    "og-stats": "og.stats",
    "ogctl": "og.cli",
}
NEEDED = {"native/lib/og_wire.h", "og/policy/schema.json"}  # of the sources, besides what the compiler asks for
PACKAGES = ("libdpdk", "libbpf", "jansson", "libmnl")

# The link `current` may move while a program runs: it takes its modules from the release it was started from.
LAUNCHER = """#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
release=$(dirname "$(dirname "$(readlink -f "$0")")")
PYTHONPATH="$release/lib" exec python3 -m {module} "$@"
"""


class BuildError(Exception):
    """A step of the build failed. The text is the tool's own."""


class SourcesError(BuildError):
    """The archive of the sources is there and cannot be used."""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "sources": {"type": "path", "required": True},
            "work_dir": {"type": "path", "default": "/var/cache/og-build"},
            "meson_options": {
                "type": "list",
                "elements": "str",
                "default": ["--buildtype=release"],
            },
            "label": {"type": "str", "default": ""},
            "jobs": {"type": "int", "default": 2},
            "keep": {"type": "int", "default": 3},
        },
        supports_check_mode=True,
    )
    try:
        run(module)
    except (BuildError, OSError) as error:
        fail(module, f"build failed: {error}")


def fail(module: AnsibleModule, message: str) -> NoReturn:
    """End the module with an error."""
    module.fail_json(msg=message)
    raise SystemExit(1)


def run(module: AnsibleModule) -> None:
    """Build unless it is built."""
    for name in ("jobs", "keep"):
        if module.params[name] < 1:
            raise BuildError(f"{name}: {module.params[name]} is less than 1")
    work, options = Path(module.params["work_dir"]), module.params["meson_options"]
    try:
        toolchain = describe_toolchain(module)
        members = read_sources(Path(module.params["sources"]))
    except (BuildError, OSError) as error:
        if not module.check_mode or isinstance(error, SourcesError):
            raise
        module.warn(f"would build, but cannot say what yet: {error}")
        module.exit_json(changed=True, id="", archive="", sha256="")
    label = module.params["label"]
    release = release_id(members, toolchain, options, label)
    archive = work / f"og-{release}.tar.gz"
    changed = not archive.exists()
    if changed and not module.check_mode:
        build(module, work, members, options, label)
        manifest = {"id": release, "label": label, "toolchain": toolchain, "meson_options": options}
        pack(archive, collect(work, members, manifest), module.params["keep"])
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest() if archive.exists() else ""
    module.exit_json(changed=changed, id=release, archive=str(archive), sha256=sha256)


def command(module: AnsibleModule, *arguments: str) -> str:
    """Run a tool and return what it printed."""
    if shutil.which(arguments[0]) is None:
        raise BuildError(f"{arguments[0]} is not installed")
    status, output, error = module.run_command(list(arguments))
    if status != 0:
        raise BuildError(f"{' '.join(arguments)}: {(output + error).strip()[-4000:]}")
    return str(output).strip()


def describe_toolchain(module: AnsibleModule) -> dict[str, str]:
    """Name everything that is not in the sources and yet decides what comes out."""
    versions = {tool: command(module, tool, "--version").splitlines()[0] for tool in ("gcc", "clang", "meson")}
    libraries = {name: command(module, "pkg-config", "--modversion", name) for name in PACKAGES}
    return {**versions, **libraries, "machine": os.uname().machine}


def read_sources(archive: Path) -> dict[str, bytes]:
    """Return the content of every file of the archive, by path. Raises SourcesError."""
    try:
        with tarfile.open(archive) as tar:
            files = {member.name: tar.extractfile(member) for member in tar.getmembers() if member.isfile()}
            members = {name: file.read() for name, file in sorted(files.items()) if file is not None}
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise SourcesError(f"sources: {archive}: not a whole archive: {error}") from error
    lacking = sorted(NEEDED - set(members))
    if lacking:
        raise SourcesError(f"sources: {archive} lacks {', '.join(lacking)}")
    return members


def release_id(members: dict[str, bytes], toolchain: dict[str, str], options: list[str], label: str = "") -> str:
    """Return 16 hex digits that change with any file, tool, flag or launcher, and with the label."""
    return digest(members, json.dumps([toolchain, options, LAUNCHER, PYTHON_PROGRAMS, label], sort_keys=True))


def digest(members: dict[str, bytes], more: str) -> str:
    """Hash names and contents, each with its length, and `more`."""
    total = hashlib.sha256(more.encode())
    for name, content in members.items():
        total.update(f"\n{name}\n{len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()[:16]


def build(module: AnsibleModule, work: Path, members: dict[str, bytes], options: list[str], label: str) -> None:
    """Compile in the kept directories. Files that did not change keep their time, so ninja leaves them alone."""
    source, output = work / "src", work / "out"
    native = {name: content for name, content in members.items() if name.startswith(("native/", "bpf/"))}
    synchronise(source, native)
    # The programs tell the hash of what they are made of, not the release's: a change of Python leaves them the same.
    setup = ["meson", "setup", *options, f"-Drelease={digest(native, label)}", str(output), str(source / "native")]
    if (output / "build.ninja").exists():
        setup.insert(2, "--reconfigure")
    try:
        command(module, *setup)
    except BuildError:
        if "--reconfigure" not in setup:
            raise
        shutil.rmtree(output)  # made by another meson, or cut off
        setup.remove("--reconfigure")
        command(module, *setup)
    targets = [*PROGRAMS.values(), "port/og_port.bpf.o"]
    command(module, "ninja", "-C", str(output), "-j", str(module.params["jobs"]), *targets)


def synchronise(root: Path, members: dict[str, bytes]) -> None:
    """Make the files below `root` exactly these."""
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_file() and path.relative_to(root).as_posix() not in members:
            path.unlink()
    for name, content in members.items():
        path = root / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def collect(work: Path, members: dict[str, bytes], manifest: dict[str, object]) -> dict[str, tuple[int, bytes]]:
    """Return mode and content of every file of the release, by path. The manifest is the last one."""
    files = {f"bin/{name}": (0o755, (work / "out" / path).read_bytes()) for name, path in PROGRAMS.items()}
    files |= {
        f"bin/{name}": (0o755, LAUNCHER.format(module=python).encode()) for name, python in PYTHON_PROGRAMS.items()
    }
    files["bpf/og_port.bpf.o"] = (0o644, (work / "out/port/og_port.bpf.o").read_bytes())
    files["bpf/og_wire.h"] = (0o644, members["native/lib/og_wire.h"])
    for name, content in members.items():
        if name.startswith("bpf/"):
            files[name] = (0o644, content)
        elif name.startswith("og/"):
            files[f"lib/{name}"] = (0o644, content)
    files["share/policy.schema.json"] = (0o644, members["og/policy/schema.json"])
    checksums = {name: hashlib.sha256(content).hexdigest() for name, (_, content) in sorted(files.items())}
    text = json.dumps({**manifest, "files": checksums}, indent=1, sort_keys=True) + "\n"
    return {**dict(sorted(files.items())), "manifest.json": (0o644, text.encode())}


def pack(archive: Path, files: dict[str, tuple[int, bytes]], keep: int) -> None:
    """Write the archive, the same bytes for the same files, and forget the oldest ones."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, (mode, content) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
    temporary = archive.with_suffix(".new")
    try:
        temporary.write_bytes(buffer.getvalue())
        temporary.rename(archive)
    finally:
        temporary.unlink(missing_ok=True)
    archives = sorted(archive.parent.glob("og-*.tar.gz"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in archives[keep:]:
        old.unlink()


if __name__ == "__main__":
    main()
