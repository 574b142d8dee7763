# SPDX-License-Identifier: Apache-2.0
"""The module og_policy on real files and sockets."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
import time

import pytest

from library import og_policy, og_policy_info
from og.control.daemon import Daemon, Stop
from og.jsonsock import Server
from og.policy.check import load_policy
from tests.unit.conftest import READ_ONLY, program, run_module
from tests.unit.control.builders import config

GOOD = "version: 1\ndrain: [agent_w1]\n"
BAD = "version: 1\nservices:\n  web:\n    weight: heavy\n"


@pytest.fixture
def run(tmp_path, capsys):
    def call(content, **options):
        check, diff = options.pop("check", False), options.pop("diff", False)
        arguments = {"content": content, "path": str(tmp_path / "policy.yml"), "services": ["web"], **options}
        arguments.setdefault("control_socket", str(tmp_path / "control.sock"))
        arguments |= {"_ansible_check_mode": check, "_ansible_diff": diff}
        return run_module(og_policy.main, arguments, capsys)

    return call


def test_write_then_nothing_to_do(run, tmp_path):
    file = tmp_path / "policy.yml"
    result = run(GOOD, mode="0640", diff=True)
    assert result["changed"]
    assert result["diff"]["after"] == GOOD
    assert (file.read_text(), file.stat().st_mode & 0o777) == (GOOD, 0o640)
    again = run(GOOD, mode="0640")
    assert (again["changed"], again["digest"], again["confirmed"]) == (False, result["digest"], False)


def test_check_mode_touches_nothing(run, tmp_path):
    assert run(GOOD, check=True)["changed"]
    assert not (tmp_path / "policy.yml").exists()


@pytest.mark.parametrize("check", [True, False])
def test_a_bad_policy_changes_nothing_and_is_explained(run, tmp_path, check):
    file = tmp_path / "policy.yml"
    file.write_text(GOOD)
    result = run(BAD, check=check, source="group_vars/policy.yml")
    assert result["failed"]
    assert "group_vars/policy.yml:4:5: services.web.weight: 'heavy' is not of type 'integer'" in result["msg"]
    assert result["problems"] == [
        {"field": "services.web.weight", "line": 4, "column": 5, "message": "'heavy' is not of type 'integer'"}
    ]
    assert file.read_text() == GOOD


LOOP = "version: 1\nservices:\n  web:\n    spill: {target: 0.9, limit: 0.95}\n"


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("text", "line", "field", "message"),
    [
        (
            "version: 1\nservices:\n  web:\n    spill: {sites: [south]}\n",
            4,
            "services.web.spill.sites[0]",
            "no such site",
        ),
        ("version: 1\nservices:\n  web:\n    spill: {sites: [west]}\n", 4, "services.web.spill.sites[0]", "itself"),
        ("version: 1\nservices:\n  web:\n    spill: {share: 1.1}\n", 4, "services.web.spill.share", "maximum of 1"),
        (LOOP, 4, "services.web.spill.limit", "west -> east -> west"),
        ("version: 1\nservices:\n  web:\n    capacity: {new_per_s: -1}\n", 4, "services.web.capacity.new_per_s", "-1"),
        ("version: 1\nservices: {web\n", 3, "", "not YAML"),
    ],
)
def test_refused_with_line_and_field(run, tmp_path, text, line, field, message, check):  # noqa: PLR0917
    file = tmp_path / "policy.yml"
    file.write_text(GOOD)
    result = run(text, check=check, site="west", sites=["west", "east"], other_policies={"east": LOOP})
    assert result["failed"]
    (problem,) = result["problems"]
    assert (problem["line"], problem["field"]) == (line, field)
    assert message in problem["message"]
    assert file.read_text() == GOOD


def test_a_bad_policy_of_another_site_is_no_reason(run):
    result = run(LOOP, site="west", sites=["west", "east"], other_policies={"east": {"version": 2}, "west": {}})
    assert result["changed"]


def test_validate_only(run, tmp_path):
    assert not run(GOOD, validate_only=True)["changed"]
    assert run(BAD, validate_only=True)["failed"]
    assert list(tmp_path.iterdir()) == []


def test_no_directory(run, tmp_path):
    assert "the directory does not exist" in run(GOOD, path=str(tmp_path / "none" / "policy.yml"))["msg"]


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
@pytest.mark.parametrize("there", [True, False])
def test_a_read_only_place_changes_nothing(tmp_path, there):
    """The module as a program, in a mount namespace of its own in which the directory is read-only."""
    place = tmp_path / "etc"
    place.mkdir()
    if there:
        (place / "policy.yml").write_text("version: 1\n")
    arguments = {"content": GOOD, "path": str(place / "policy.yml"), "services": ["web"]}
    arguments["control_socket"] = str(tmp_path / "control.sock")
    command = [*READ_ONLY, str(place), *program("og_policy", arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    assert done.returncode == 1
    assert answer["failed"]
    assert answer["msg"] == f"{place}/policy.yml: Read-only file system; nothing was changed"
    assert [path.read_text() for path in place.iterdir()] == (["version: 1\n"] if there else [])


def test_without_its_requirements(run, tmp_path, monkeypatch):
    monkeypatch.setattr(og_policy, "MISSING", "Traceback")
    assert run(GOOD, check=True)["changed"]
    assert "PyYAML and jsonschema" in run(GOOD)["msg"]
    for check in (True, False):
        assert "PyYAML and jsonschema" in run(BAD, check=check, validate_only=True)["msg"]
    assert not (tmp_path / "policy.yml").exists()


@pytest.fixture
def daemon(tmp_path, monkeypatch):
    monkeypatch.setattr(Daemon, "_watch", lambda _self: None)  # there is no Consul, and a watch has no end
    (tmp_path / "policy.yml").write_text("version: 1\n")
    (tmp_path / "control").mkdir()
    paths = {"policy": "policy.yml", "state_dir": "control", "table_socket": "router.sock"}
    settings = {key: str(tmp_path / name) for key, name in paths.items()}
    settings |= {"control_socket": str(tmp_path / "control.sock"), "consul_url": "http://127.0.0.1:1"}
    running = Daemon(config(**settings))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not (tmp_path / "control.sock").exists():
        time.sleep(0.01)
    yield running
    running.events.put(Stop())
    thread.join(10)


def test_waits_for_the_daemon(run, daemon):
    result = run(GOOD)
    assert (result["changed"], result["confirmed"], result["applied"]) == (True, True, False)
    assert daemon.status["policy"]["digest"] == result["digest"]
    again = run(GOOD)
    assert (again["changed"], again["confirmed"]) == (False, True)


def test_a_daemon_that_is_wanted_but_not_there(run, tmp_path):
    result = run(GOOD, require_daemon=True)
    assert "the control daemon is not there" in result["msg"]
    assert "there was none before and there is none again" in result["msg"]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "policy.yml").write_text(GOOD)
    assert "the file is as it was" in run(GOOD, require_daemon=True)["msg"]
    assert (tmp_path / "policy.yml").read_text() == GOOD


@pytest.mark.usefixtures("daemon")
def test_a_data_plane_that_does_not_follow(run):
    result = run(GOOD, require_daemon=True, timeout=1)
    assert "the policy is in force, but the data plane does not follow: " in result["msg"]
    assert result["changed"] is True


def test_a_data_plane_that_follows_late(run, tmp_path):
    digest = load_policy(GOOD, "x").digest
    steps: list[dict[str, object]] = [
        {"ok": True, "policy": digest, "applied": False},
        {"applied": False},
        {"applied": True},
    ]
    answers = iter(steps)
    server = Server(str(tmp_path / "control.sock"), lambda _: {"generation": 5, **next(answers)})
    server.start()
    result = run(GOOD, require_daemon=True)
    server.close()
    assert (result["confirmed"], result["applied"], result["generation"]) == (True, True, 5)


@pytest.fixture
def info(tmp_path, capsys):
    def call():
        arguments = {"path": str(tmp_path / "policy.yml"), "control_socket": str(tmp_path / "control.sock")}
        return run_module(og_policy_info.main, arguments, capsys)

    return call


def test_info_without_a_daemon(info, tmp_path):
    facts = info()
    assert (facts["exists"], facts["in_force"], facts["daemon"]["running"]) == (False, False, False)
    assert facts["problems"] == [f"{tmp_path}/policy.yml: No such file or directory"]
    (tmp_path / "policy.yml").write_text(BAD)
    assert "services.web.weight" in info()["problems"][0]
    (tmp_path / "policy.yml").write_text(GOOD)
    facts = info()
    assert (facts["policy"], facts["digest"]) == (
        {"version": 1, "drain": ["agent_w1"]},
        load_policy(GOOD, "x").digest,
    )
    assert "control.sock" in facts["daemon"]["error"]


@pytest.mark.usefixtures("daemon")
def test_info_compares_with_the_daemon(info, tmp_path):
    facts = info()
    assert facts["daemon"]["digest"] == facts["digest"]
    assert not facts["in_force"]  # there is no data plane
    (tmp_path / "policy.yml").write_text("version: 1\ndrain: [x]\n")
    assert info()["daemon"]["running"]


def test_info_in_force(info, tmp_path):
    (tmp_path / "policy.yml").write_text(GOOD)
    status = {"policy": {"digest": load_policy(GOOD, "x").digest, "error": ""}, "applied": True, "generation": 3}
    server = Server(str(tmp_path / "control.sock"), lambda _: status)
    server.start()
    facts = info()
    server.close()
    assert facts["in_force"]
    assert facts["daemon"]["generation"] == 3


@contextlib.contextmanager
def answering(tmp_path, answer):
    server = Server(str(tmp_path / "control.sock"), lambda _: answer)
    server.start()
    try:
        yield
    finally:
        server.close()


REFUSAL = {"ok": False, "error": "policy.yml:2:1: drain: unknown"}


def test_what_the_daemon_refuses_is_taken_back(run, tmp_path):
    """A daemon of another release may know another schema. The old file comes back with its own mode."""
    file = tmp_path / "policy.yml"
    file.write_text("version: 1\n")
    file.chmod(0o604)
    with answering(tmp_path, REFUSAL):
        result = run(GOOD, mode="0640")
    assert result["failed"]
    assert "the old one stays: policy.yml:2:1: drain: unknown" in result["msg"]
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("version: 1\n", 0o604)
    assert [path.name for path in tmp_path.iterdir()] == ["policy.yml"]


def test_what_a_killed_run_has_left_is_in_nobody_s_way(run, tmp_path):
    (tmp_path / ".policy.yml.old").write_text("of a run that was killed")
    with answering(tmp_path, REFUSAL):
        assert "there was none before and there is none again" in run(GOOD)["msg"]
    (tmp_path / ".policy.yml.old").write_text("of another")
    (tmp_path / "policy.yml").write_text("version: 1\n")
    with answering(tmp_path, REFUSAL):
        run(GOOD)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["version: 1\n"]


def test_what_the_daemon_refuses_is_removed_where_there_was_none(run, tmp_path):
    with answering(tmp_path, REFUSAL):
        assert "there was none before and there is none again" in run(GOOD)["msg"]
    assert list(tmp_path.iterdir()) == []


def test_what_the_daemon_refuses_and_has_long_been_there_is_not_called_the_old_one(run, tmp_path):
    (tmp_path / "policy.yml").write_text(GOOD)
    with answering(tmp_path, REFUSAL):
        assert "though it is what the file already held: policy.yml:2:1" in run(GOOD)["msg"]
    assert (tmp_path / "policy.yml").read_text() == GOOD


def test_a_refusal_takes_owner_and_mode_back_too(run, tmp_path):
    """The file already holds the policy, and gets another mode: that is tried with it, and taken back with it."""
    file = tmp_path / "policy.yml"
    file.write_text(GOOD)
    file.chmod(0o604)
    with answering(tmp_path, REFUSAL):
        result = run(GOOD, mode="0640")
    assert "though it is what the file already held, the old one stays: policy.yml:2:1" in result["msg"]
    assert file.stat().st_mode & 0o777 == 0o604
    assert not result.get("changed")
    result = run(GOOD, mode="0640", require_daemon=True)
    assert "the control daemon is not there to take the policy over, the old one stays: " in result["msg"]
    assert (file.read_text(), file.stat().st_mode & 0o777) == (GOOD, 0o604)
    assert not result.get("changed")
    assert [path.name for path in tmp_path.iterdir()] == ["policy.yml"]


def test_another_mode_alone_is_a_change(run, tmp_path):
    file = tmp_path / "policy.yml"
    file.write_text(GOOD)
    file.chmod(0o604)
    with answering(tmp_path, {"policy": {"digest": load_policy(GOOD, "x").digest}, "applied": True, "generation": 3}):
        assert run(GOOD, mode="0640", check=True)["changed"] is True
        assert file.stat().st_mode & 0o777 == 0o604
        result = run(GOOD, mode="0640")
        assert (result["changed"], result["confirmed"]) == (True, True)
        assert (file.read_text(), file.stat().st_mode & 0o777) == (GOOD, 0o640)
        assert run(GOOD, mode="0640")["changed"] is False
    assert not [path for path in tmp_path.iterdir() if path.name not in ("policy.yml", "control.sock")]


@pytest.mark.parametrize("answer", [{"policy": None}, {"policy": 7}, {}, {"ok": True}])
def test_an_answer_of_another_form_is_no_consent(run, tmp_path, answer):
    (tmp_path / "policy.yml").write_text("version: 1\n")
    with answering(tmp_path, answer):
        assert "refuses the policy, the old one stays" in run(GOOD)["msg"]
    assert (tmp_path / "policy.yml").read_text() == "version: 1\n"


def test_a_daemon_that_does_not_answer_is_not_one_that_does_not_run(run, tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "control.sock"))
    listener.listen()

    def hang_up():
        listener.accept()[0].close()

    for state in ("the policy is written", "the file already held this policy"):
        thread = threading.Thread(target=hang_up)
        thread.start()
        result = run(GOOD)
        thread.join()
        assert result["msg"].startswith(f"{state}; whether the control daemon has it in force is not known: ")
        assert result["changed"] is (state == "the policy is written")
    listener.close()
    assert (tmp_path / "policy.yml").read_text() == GOOD


def test_a_socket_nobody_listens_at_any_more_is_no_error(run, tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "control.sock"))
    listener.close()
    assert run(GOOD)["confirmed"] is False


@pytest.mark.parametrize("options", [{"owner": "og-nobody"}, {"group": "og-nobody"}, {"mode": "u=q"}])
@pytest.mark.parametrize("before", [None, "version: 1\n"])
def test_attributes_that_cannot_be_had_change_nothing(run, tmp_path, options, before):
    file = tmp_path / "policy.yml"
    if before is not None:
        file.write_text(before)
    assert run(GOOD, **options)["failed"]
    assert [path.read_text() for path in tmp_path.iterdir()] == ([] if before is None else [before])
    if before is not None:
        assert run(GOOD, check=True, **options)["failed"]


def test_line_ends_of_another_system_are_written_once(run, tmp_path):
    text = GOOD.replace("\n", "\r\n")
    assert run(text)["changed"]
    assert (tmp_path / "policy.yml").read_bytes() == text.encode()
    assert not run(text)["changed"]


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_changes_nothing(tmp_path, there):
    place = tmp_path / "etc"
    place.mkdir()
    arguments = {"content": GOOD, "path": str(place / "policy.yml"), "services": ["web"]}
    arguments["control_socket"] = str(tmp_path / "control.sock")
    script = (
        'mount -t tmpfs -o size=8k none "$0" && { test -z "$1" || printf "version: 1\\n" >"$0/policy.yml"; } && '
        'shift && cat /dev/zero >"$0/rest" 2>/dev/null; "$@"; code=$?; '
        'rm "$0/rest"; cp -r "$0/." "$0.after"; exit $code'
    )
    left = tmp_path / "etc.after"
    left.mkdir()
    command = ["unshare", "--mount", "sh", "-c", script, str(place), "1" if there else ""]
    done = subprocess.run([*command, *program("og_policy", arguments)], capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    assert done.returncode == 1
    assert answer["msg"] == f"{place}/policy.yml: No space left on device; nothing was changed"
    assert [path.read_text() for path in left.iterdir()] == (["version: 1\n"] if there else [])


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")
def test_info_without_permission_says_so(tmp_path):
    file = tmp_path / "policy.yml"
    file.write_text(GOOD)
    os.chown(file, 65534, 65534)
    file.chmod(0o600)
    arguments = {"path": str(file), "control_socket": str(tmp_path / "none.sock")}
    caps = "-dac_override,-dac_read_search"
    command = ["setpriv", f"--bounding-set={caps}", f"--inh-caps={caps}", *program("og_policy_info", arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    assert done.returncode == 0
    assert answer["problems"] == [f"{file}: Permission denied"]
    assert (answer["exists"], answer["in_force"]) == (True, False)
