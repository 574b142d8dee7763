# SPDX-License-Identifier: Apache-2.0
"""Releases: packed the same from the same tree, installed whole or not at all, switched and pruned."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from library import og_release, og_release_build
from tests.unit.conftest import program, run_module

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

        def build(self, number, broken=False, padding=b""):
            identity = f"{number:016x}"
            work = tmp_path / f"work{number}"
            for path in [*og_release_build.PROGRAMS.values(), "port/og_port.bpf.o"]:
                (work / "out" / path).parent.mkdir(parents=True, exist_ok=True)
                (work / "out" / path).write_bytes(f"program {number}".encode() + padding)
            files = og_release_build.collect(work, MEMBERS, {"id": identity})
            if broken:
                files["bin/og-router"] = (0o755, b"something else")
            archive = tmp_path / f"og-{identity}.tar.gz"
            og_release_build.pack(archive, files, 9)
            return identity, archive

        def run(self, identity, check=False, **options):
            arguments = {"id": identity, "root": str(self.root), "fact_dir": str(tmp_path / "facts.d"), **options}
            arguments.setdefault("bin_dir", str(tmp_path / "bin"))
            return run_module(og_release.main, {**arguments, "_ansible_check_mode": check}, capsys)

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
    assert everything(node.root) == [f"{n:016x}" for n in (2, 3, 4)]  # 2: whoever undoes the switch to 4 needs it
    assert node.run(identity, keep=2)["actions"] == [f"remove {2:016x}"]
    assert not node.run(identity, keep=2)["changed"]
    assert everything(node.root) == [f"{n:016x}" for n in (3, 4)]
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


def test_a_switch_that_is_undone_finds_its_way_back_whatever_is_kept(node):
    for number in (1, 2, 3):
        identity, archive = node.build(number)
        node.run(identity, archive=str(archive), keep=1)
    node.run(f"{2:016x}", previous=f"{1:016x}", keep=1)
    assert (node.current(), (node.root / "previous").readlink().name) == (f"{2:016x}", f"{1:016x}")
    assert (node.root / "previous/manifest.json").is_file()


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"previous": "nonsense"}, "previous: not 16 hex digits: 'nonsense'; nothing was changed"),
        ({"previous": "0" * 16}, f"previous: {'0' * 16} is not installed; installed: {1:016x}; nothing was changed"),
        ({"keep": 0}, "keep: 0 is less than 1; nothing was changed"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_done(node, options, message, check):
    old, new = node.build(1), node.build(2)
    node.run(old[0], archive=str(old[1]))
    answer = node.run(new[0], check, archive=str(new[1]), **options)
    assert (answer["failed"], answer["changed"]) == (True, False)
    assert answer["msg"].endswith(message)
    assert (node.current(), everything(node.root)) == (old[0], [old[0]])


def test_what_was_done_before_a_failure_is_told(node, tmp_path):
    old, new = node.build(1), node.build(2)
    node.run(old[0], archive=str(old[1]))
    (node.root / "previous").mkdir()
    (tmp_path / "bin/ogctl").unlink()
    answer = node.run(new[0], archive=str(new[1]))
    done = [f"unpack {new[0]}", f"link {tmp_path}/bin/ogctl", f"switch to {new[0]}"]
    assert (answer["failed"], answer["changed"], answer["actions"]) == (True, True, done)
    assert f"{node.root}/previous" in answer["msg"]
    assert answer["msg"].endswith(f"; done before: {', '.join(done)}")
    assert node.current() == new[0]
    assert sorted(path.name for path in node.root.iterdir()) == ["current", "previous", "releases"]


@pytest.mark.parametrize("half", [True, False])
def test_an_old_release_that_cannot_be_removed_is_a_warning(node, monkeypatch, half):
    """Half removed it is no release any more; else it is one as before."""
    for number in (1, 2, 3):
        identity, archive = node.build(number)
        node.run(identity, archive=str(archive))
    identity, archive = node.build(4)
    remove, unlink = shutil.rmtree, Path.unlink
    stuck = node.root / "releases" / f"{1:016x}"

    def no_rmtree(path, **options):
        if path == stuck:
            raise OSError(30, "Read-only file system", str(path))
        remove(path, **options)

    def no_unlink(path, **options):
        if path.parent == stuck:
            raise OSError(30, "Read-only file system", str(path))
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", no_rmtree)
        if not half:
            patch.setattr(Path, "unlink", no_unlink)
        answer = node.run(identity, archive=str(archive), keep=1)
    assert "failed" not in answer
    assert f"release {1:016x} cannot be removed: [Errno 30] Read-only file system" in str(answer["warnings"])
    assert (answer["changed"], node.current()) == (True, identity)
    assert answer["releases"] == [f"{n:016x}" for n in ((2, 3, 4) if half else (1, 2, 3, 4))]
    assert (f"remove {1:016x}" in answer["actions"]) is half
    assert (stuck / "manifest.json").exists() is not half


def test_check_mode_foretells_the_steps(node):
    for number in (1, 2, 3, 4):
        identity, archive = node.build(number)
        foretold = node.run(identity, check=True, archive=str(archive), keep=2)
        done = node.run(identity, archive=str(archive), keep=2)
        assert {**foretold, "invocation": None} == {**done, "invocation": None}


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
    assert everything(node.root) == [f"{identity}"]


def everything(root):
    """Names below releases/, hidden ones too."""
    return sorted(path.name for path in (root / "releases").iterdir())


def archive_of(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return str(path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"bin/x": b""}, "manifest.json: missing"),
        ({"manifest.json": b"{"}, "manifest.json: not JSON: "),
        ({"manifest.json": b"\xff"}, "manifest.json: not JSON: "),
        ({"manifest.json": b"[]"}, "manifest.json: not an object"),
        ({"manifest.json": b'{"files": {}}'}, "manifest.json: id: missing, or not a string"),
        ({"manifest.json": b'{"id": 7, "files": {}}'}, "manifest.json: id: missing, or not a string"),
        ({"manifest.json": b'{"id": "x"}'}, "manifest.json: files: missing, or not checksums by path"),
        ({"manifest.json": b'{"id": "x", "files": {}}'}, "manifest.json: files: missing, or not checksums by path"),
        ({"manifest.json": b'{"id": "x", "files": {"a": 7}}'}, "manifest.json: files: missing, or not checksums"),
        ({"../x": b""}, "not a whole release: "),
    ],
)
def test_a_release_without_a_manifest_of_the_known_form_is_refused(node, tmp_path, files, message):
    identity, good = node.build(1)
    node.run(identity, archive=str(good))
    wanted = f"{2:016x}"
    answer = node.run(wanted, archive=archive_of(tmp_path / "bad.tar.gz", files))
    assert answer["failed"]
    assert f"release {wanted}: {tmp_path}/bad.tar.gz: not a whole release: " in answer["msg"]
    assert message in answer["msg"]
    assert (node.current(), everything(node.root)) == (identity, [identity])


def test_nothing_to_install_it_from_is_said_before_anything_is_done(node, tmp_path):
    identity = f"{1:016x}"
    for check in (True, False):
        assert (
            "not installed, and no archive given; installed: none; nothing was changed"
            in node.run(identity, check)["msg"]
        )
    missing = str(tmp_path / "none.tar.gz")
    assert f"archive: {missing} is not there; nothing was changed" in node.run(identity, archive=missing)["msg"]
    warned = node.run(identity, check=True, archive=missing)
    assert f"archive: {missing} is not there yet; what it holds is checked in the real run" in str(warned["warnings"])
    assert not node.root.exists()


def test_what_is_in_the_way_of_the_fact_is_named(node, tmp_path):
    identity, archive = node.build(1)
    (tmp_path / "facts.d").write_text("")
    answer = node.run(identity, archive=str(archive))
    assert answer["failed"]
    assert "File exists" in answer["msg"]
    assert f"{tmp_path}/facts.d" in answer["msg"]
    (tmp_path / "facts.d").unlink()
    (tmp_path / "facts.d").mkdir()
    (tmp_path / "facts.d/og.fact").write_bytes(b"\xff")
    assert node.run(identity)["changed"]
    assert subprocess.run([tmp_path / "facts.d/og.fact"], capture_output=True, check=True).stdout


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
def test_a_full_disk_leaves_nothing_half_done(node, tmp_path):
    """The module as a program, in a mount namespace of its own with room for one release and not for two."""
    first, archive = node.build(1)
    second, larger = node.build(2, padding=os.urandom(1 << 20))
    left = tmp_path / "left"
    options = {"root": str(node.root), "fact_dir": str(tmp_path / "facts.d"), "bin_dir": str(tmp_path / "bin")}
    node.root.mkdir()
    commands = [
        shlex.join(program("og_release", {"id": identity, "archive": str(path), **options}))
        for identity, path in ((first, archive), (second, larger))
    ]
    script = (
        f"mount -t tmpfs -o size=512k none {node.root} && {commands[0]} >/dev/null && {commands[1]}; "
        f"code=$?; cp -a {node.root} {left}; exit $code"
    )
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    assert done.returncode == 1
    assert "No space left on device" in answer["msg"]
    assert everything(left) == [first]
    assert (left / "current").readlink().name == first


def test_sources_that_are_not_whole_are_no_release(tmp_path, capsys):
    good = {name: content for name, content in MEMBERS.items() if name != "native/lib/og_wire.h"}
    cut = tmp_path / "cut.tar"
    whole = Path(archive_of(tmp_path / "whole.tar", MEMBERS)).read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    for path, message in (
        (archive_of(tmp_path / "less.tar", good), "less.tar lacks native/lib/og_wire.h"),
        (str(cut), "cut.tar: not a whole archive: "),
    ):
        with pytest.raises(og_release_build.SourcesError, match=message):
            og_release_build.read_sources(Path(path))
    for option in ("jobs", "keep"):
        answer = run_module(og_release_build.main, {"sources": str(cut), option: 0}, capsys)
        assert (answer["failed"], answer["msg"]) == (True, f"build failed: {option}: 0 is less than 1")


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
