# SPDX-License-Identifier: Apache-2.0
"""Releases: packed the same from the same tree, installed whole or not at all, switched and pruned."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args

from library import og_release, og_release_build

ROOT = Path(__file__).resolve().parents[3]
PACK = ROOT / "roles/og_release/files/pack_sources.py"
MEMBERS = {
    "native/lib/og_wire.h": b"/* */",
    "bpf/og_agent.c": b"int x;",
    "og/policy/schema.json": b"{}",
    "og/a.py": b"",
}


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    for name, content in MEMBERS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def pack(root, archive):
    return subprocess.run([sys.executable, PACK, root, archive], capture_output=True, text=True, check=False)


def test_sources_are_packed_by_content(tree, tmp_path):
    archive = tmp_path / "out" / "sources.tar"
    assert pack(tree, archive).stdout == "changed\n"
    first = archive.read_bytes()
    os.utime(tree / "og/a.py", (1, 1))
    (tree / "og/__pycache__").mkdir()
    (tree / "og/__pycache__/a.cpython-313.pyc").write_bytes(b"x")
    (tree / "native/tests").mkdir()
    (tree / "native/tests/test_x.py").write_bytes(b"x")
    assert pack(tree, archive).stdout == "unchanged\n"
    assert archive.read_bytes() == first
    (tree / "og/a.py").write_text("x = 1\n")
    assert pack(tree, archive).stdout == "changed\n"
    assert og_release_build.read_sources(archive)["og/a.py"] == b"x = 1\n"


def test_not_a_project(tmp_path):
    done = pack(tmp_path, tmp_path / "sources.tar")
    assert done.returncode == 1
    assert "no folder native, bpf, og" in done.stderr


def test_the_id_is_of_sources_toolchain_and_flags():
    ids = {
        og_release_build.release_id(MEMBERS, {"gcc": "14"}, ["-O2"]),
        og_release_build.release_id({**MEMBERS, "og/a.py": b"1"}, {"gcc": "14"}, ["-O2"]),
        og_release_build.release_id(MEMBERS, {"gcc": "15"}, ["-O2"]),
        og_release_build.release_id(MEMBERS, {"gcc": "14"}, ["-O3"]),
        og_release_build.release_id(MEMBERS, {"gcc": "14"}, ["-O2"], "hotfix-1"),
    }
    assert len(ids) == 5
    assert og_release_build.release_id(dict(MEMBERS), {"gcc": "14"}, ["-O2"]) in ids


def test_unchanged_files_keep_their_time(tmp_path):
    og_release_build.synchronise(tmp_path, MEMBERS)
    os.utime(tmp_path / "bpf/og_agent.c", (1, 1))
    (tmp_path / "bpf/old.c").write_text("x")
    og_release_build.synchronise(tmp_path, {**MEMBERS, "og/a.py": b"2"})
    assert (tmp_path / "bpf/og_agent.c").stat().st_mtime == 1
    assert not (tmp_path / "bpf/old.c").exists()
    assert (tmp_path / "og/a.py").read_bytes() == b"2"


@pytest.fixture
def node(tmp_path, capsys):
    """Makes releases and runs the module on a node that is a directory."""

    class Node:
        root = tmp_path / "opt"

        def build(self, number, broken=False):
            identity = f"{number:016x}"
            work = tmp_path / f"work{number}"
            for path in [*og_release_build.PROGRAMS.values(), "port/og_port.bpf.o"]:
                (work / "out" / path).parent.mkdir(parents=True, exist_ok=True)
                (work / "out" / path).write_bytes(f"program {number}".encode())
            files = og_release_build.collect(work, MEMBERS, {"id": identity})
            if broken:
                files["bin/og-router"] = (0o755, b"something else")
            archive = tmp_path / f"og-{identity}.tar.gz"
            og_release_build.pack(archive, files, 9)
            return identity, archive

        def run(self, identity, check=False, **options):
            arguments = {"id": identity, "root": str(self.root), "fact_dir": str(tmp_path / "facts.d"), **options}
            arguments.setdefault("bin_dir", str(tmp_path / "bin"))
            with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
                og_release.main()
            return json.loads(capsys.readouterr().out)

        def current(self):
            return (self.root / "current").readlink().name

    return Node()


def test_install_and_again(node, tmp_path):
    identity, archive = node.build(1)
    assert node.run(identity, check=True, archive=str(archive))["changed"]
    assert not node.root.exists()
    first = node.run(identity, archive=str(archive))
    assert (first["changed"], first["previous"], node.current()) == (True, "", identity)
    assert os.access(node.root / "current/bin/og-router", os.X_OK)
    assert (node.root / "current/lib/og/a.py").exists()
    fact = subprocess.run([tmp_path / "facts.d/og.fact"], capture_output=True, text=True, check=True)
    assert json.loads(fact.stdout) == {"release": identity}
    assert (tmp_path / "bin/ogctl").readlink() == node.root / "current/bin/ogctl"
    assert not node.run(identity)["changed"]
    (tmp_path / "bin/ogctl").unlink()
    assert node.run(identity)["changed"]
    assert (tmp_path / "bin/ogctl").exists()


def test_the_same_release_is_the_same_bytes(node):
    _, archive = node.build(1)
    before = archive.read_bytes()
    archive.unlink()
    assert node.build(1)[1].read_bytes() == before


def test_roll_back_and_prune(node):
    for number in (1, 2, 3, 4):
        identity, archive = node.build(number)
        assert node.run(identity, archive=str(archive), keep=2)["changed"]
    assert sorted(path.name for path in (node.root / "releases").iterdir()) == [f"{n:016x}" for n in (3, 4)]
    back = node.run(f"{3:016x}", keep=2)
    assert (back["changed"], back["previous"], node.current()) == (True, f"{4:016x}", f"{3:016x}")


def test_a_release_is_put_in_place_and_switched_to_later(node):
    old, new = node.build(1), node.build(2)
    node.run(old[0], archive=str(old[1]))
    staged = node.run(new[0], archive=str(new[1]), activate=False)
    assert (staged["changed"], staged["releases"], node.current()) == (True, [old[0], new[0]], old[0])
    assert not node.run(new[0], activate=False)["changed"]
    assert not (node.root / "previous").exists()
    assert node.run(new[0])["changed"]
    assert (node.current(), (node.root / "previous").readlink().name) == (new[0], old[0])


def test_an_undone_switch_leaves_the_way_back_as_it_was(node):
    ids = []
    for number in (1, 2, 3):
        identity, archive = node.build(number)
        node.run(identity, archive=str(archive))
        ids.append(identity)
    node.run(ids[1], previous=ids[0])
    assert (node.current(), (node.root / "previous").readlink().name) == (ids[1], ids[0])
    node.run(ids[2])
    node.run(ids[1], previous=ids[1])
    assert not (node.root / "previous").is_symlink()


def test_the_way_back_is_never_pruned(node):
    for number in (1, 2):
        identity, archive = node.build(number)
        node.run(identity, archive=str(archive))
    identity, archive = node.build(3)
    staged = node.run(identity, archive=str(archive), activate=False, keep=1)
    assert staged["releases"] == [f"{n:016x}" for n in (1, 2, 3)]


def test_a_damaged_archive_changes_nothing(node):
    identity, archive = node.build(1)
    node.run(identity, archive=str(archive))
    bad, bad_archive = node.build(2, broken=True)
    result = node.run(bad, archive=str(bad_archive))
    assert result["failed"]
    assert "bin/og-router is not what the manifest says" in result["msg"]
    wrong = node.run(bad, archive=str(archive))
    assert f"holds release {identity}" in wrong["msg"]
    shutil.copy(archive, bad_archive)
    bad_archive.write_bytes(archive.read_bytes()[:-100])
    assert node.run(bad, archive=str(bad_archive))["failed"]
    assert (node.current(), [p.name for p in (node.root / "releases").glob("[0-9]*")]) == (identity, [identity])


@pytest.mark.parametrize("identity", ["", "x", "../../etc", "0" * 15])
def test_not_an_id(node, identity):
    assert "not 16 hex digits" in node.run(identity)["msg"]


def test_not_installed_and_no_archive(node):
    assert "not installed, and no archive given; installed: none" in node.run("0" * 16)["msg"]


def test_an_archive_cannot_write_elsewhere(node, tmp_path):
    archive = tmp_path / "evil.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("../../evil")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    assert node.run("0" * 16, archive=str(archive))["failed"]
    assert not list(tmp_path.rglob("evil"))


def test_every_launcher_starts_a_module_that_exists():
    for module in og_release_build.PYTHON_PROGRAMS.values():
        assert importlib.util.find_spec(f"{module}.__main__"), module
