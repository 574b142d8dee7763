# SPDX-License-Identifier: Apache-2.0
"""The drills' playbooks: who must be there, as whom they act where, and what is armed before anything is changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles/og_drill/tasks"
DRILLS = sorted((ROOT / "playbooks").glob("drill_*.yml"))
SITES: dict[str, Any] = {
    "og_sites": {"west": {}, "east": {}},
    "og_services": [{"name": "web", "vip": "2001:db8:1::80", "port": 80}],
}


def read(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load(path.read_text()))


def plays(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """All plays of a playbook in their order, with the file each is in."""
    for play in read(path):
        if "ansible.builtin.import_playbook" in play:
            yield from plays(path.parent / play["ansible.builtin.import_playbook"])
        else:
            yield path.name, play


def flat(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All tasks, those in blocks too, in their order."""
    for task in tasks:
        if "block" in task:
            for part in ("block", "rescue", "always"):
                yield from flat(task.get(part, []))
        else:
            yield task


def ansible(inventory: Path, playbook: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    return subprocess.run(
        [program, "-i", str(inventory), str(playbook), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"} | environment,
        timeout=60,
        check=False,
    )


def inventory(folder: Path, *clients: str) -> Path:
    """Two sites with a router each, of which nothing is ever reached, and these clients."""
    file = folder / "hosts.json"
    sites = {
        f"site_{site}": [f"ogr_{site[0]}1", *(name for name in clients if name[4] == site[0])]
        for site in SITES["og_sites"]
    }
    groups = sites | {"routers": ["ogr_w1", "ogr_e1"], "clients": list(clients), "hashers": [], "agents": []}
    children: dict[str, Any] = {name: {"hosts": {host: {} for host in hosts}} for name, hosts in groups.items()}
    for site in SITES["og_sites"]:
        children[f"site_{site}"]["vars"] = {"og_site": site}
    children["gateways"] = {"children": {"routers": {}, "hashers": {}}}
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    file.write_text(json.dumps({"all": {"children": children, "vars": SITES | local}}))
    return file


@pytest.mark.parametrize("drill", DRILLS, ids=lambda path: path.stem)
def test_every_drill_looks_for_clients_first(drill: Path) -> None:
    file, first = next(plays(drill))
    assert file == "start_drill.yml"
    assert (first["hosts"], first["any_errors_fatal"]) == ("all", True)


@pytest.mark.parametrize("arguments", [[], ["--check"]], ids=["run", "check"])
def test_a_drill_without_clients_is_refused_before_anything_is_touched(arguments: list[str]) -> None:
    """Of the inventory to copy, which has none; the first thing this drill does else is a build."""
    done = ansible(ROOT / "inventories/example", ROOT / "playbooks/drill_upgrade.yml", *arguments)
    assert done.returncode != 0
    assert "west has none. Put a host of that site into the inventory's group `clients`" in " ".join(
        done.stdout.split()
    )
    assert "Drill | Make another release" not in done.stdout


@pytest.mark.parametrize(
    ("clients", "arguments", "said"),
    [
        (["cli_w1"], [], ""),
        (["cli_w1"], ["-e", "og_drill_site=east"], "east has none"),
        (["cli_e1"], [], "west has none"),
        (["cli_e1"], ["-e", "og_drill_site=east"], ""),
        (["cli_w1", "cli_e1"], ["-e", "og_drill_site=nowhere"], 'og_drill_site ("nowhere") must be one of them'),
        (["cli_w1", "cli_e1"], ["--limit", "ogr_w1"], "--limit (ogr_w1) leaves out cli_e1, cli_w1"),
        (["cli_w1", "cli_e1"], ["--limit", "clients:ogr_w1"], ""),
    ],
)
def test_which_clients_a_drill_needs(tmp_path: Path, clients: list[str], arguments: list[str], said: str) -> None:
    done = ansible(inventory(tmp_path, *clients), ROOT / "playbooks/start_drill.yml", *arguments)
    assert said in " ".join(done.stdout.split())
    assert (done.returncode == 0) == (said == ""), done.stdout + done.stderr


@pytest.mark.parametrize(("clients", "established"), [(["cli_w1"], 1960), (["cli_w1", "cli_e1"], 2156)])
def test_the_load_that_is_wanted_is_of_the_clients_there_are(
    tmp_path: Path, clients: list[str], established: int
) -> None:
    """Those of other sites are not needed, and not counted without being there."""
    role = {"name": "og_drill", "tasks_from": "clients", "public": True}
    write = {"content": "{{ __og_drill_plan.limits | to_json }}", "dest": f"{tmp_path}/limits"}
    tasks = [{"ansible.builtin.include_role": role}, {"ansible.builtin.copy": write, "run_once": True}]
    playbook = tmp_path / "play.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "clients", "gather_facts": False, "tasks": tasks}]))
    done = ansible(inventory(tmp_path, *clients), playbook)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "limits").read_text())["established"] == established


@pytest.mark.parametrize("drill", DRILLS, ids=lambda path: path.stem)
def test_drills_become_root_on_hosts(drill: Path) -> None:
    """Over ssh they come as a user who is not. The look for clients reaches nobody."""
    for file, play in plays(drill):
        if file != "start_drill.yml" and play["hosts"] != "localhost":
            assert play.get("become") is True, (file, play["name"])


def test_on_the_controller_drills_stay_who_runs_them() -> None:
    """Reports belong to that user, who may not be allowed to become root there."""
    tasks = [(file.name, task) for file in sorted(ROLE.glob("*.yml")) for task in flat(read(file))]
    tasks += [(file, task) for drill in DRILLS for file, play in plays(drill) for task in flat(play.get("tasks", []))]
    there = [(file, task) for file, task in tasks if task.get("delegate_to") == "localhost"]
    assert {file for file, _ in there} == {"begin.yml", "judge.yml", "release_drill.yml"}
    for file, task in there:
        assert task.get("become") is False, (file, task["name"])


def test_a_drill_is_armed_before_its_first_change() -> None:
    """A controller that dies afterwards, at any moment, leaves its work to the hosts."""
    run = next(task for task in read(ROLE / "main.yml") if "block" in task)
    included = [task.get("ansible.builtin.include_tasks") for task in run["block"]]
    assert included[0] == "arm.yml"
    assert "when" not in run["block"][0]
    assert [task.get("ansible.builtin.include_tasks") for task in run["always"]] == ["undo.yml"]
    for file in ("arm.yml", "undo.yml"):
        assert read(ROLE / file)[0]["loop"] == "{{ __og_drill_all_undo }}"
    timer = "systemctl stop {{ __og_drill_undo_unit }}-{{ __og_drill_number }}.timer"
    assert timer in read(ROLE / "undo.yml")[0]["ansible.builtin.shell"]


def test_a_node_is_armed_for_its_turn_of_a_rolling_drill() -> None:
    turn = next(task for task in read(ROLE / "roll.yml") if "rescue" in task and "always" in task)
    names = [task["name"] for task in turn["block"]]
    armed = next(n for n, task in enumerate(turn["block"]) if task.get("ansible.builtin.include_tasks") == "arm.yml")
    assert names.index("Roll | Gates before") < armed < names.index("Roll | Drain it")
    start, serve, disarm = turn["always"]
    undo = turn["vars"]["__og_drill_all_undo"]
    assert (start["loop"], serve["ansible.builtin.command"]) == ("{{ __og_drill_starts }}", "{{ __og_drill_serve }}")
    assert "systemctl start " in undo
    assert "__og_drill_starts" in undo
    assert "__og_drill_serve" in undo
    unit = {"name": "{{ __og_drill_undo_unit }}-0.timer", "state": "stopped"}
    assert disarm["ansible.builtin.systemd_service"] == unit


def test_what_is_armed(tmp_path: Path) -> None:
    """One timer for each part, on its host, in place of one that is left; a policy goes back in any case."""
    log = tmp_path / "log"
    for program in ("systemd-run", "systemctl"):
        stub = tmp_path / program
        stub.write_text(f'#!/bin/sh\necho "$OG_HOST" {program} "$@" >>{log}\n[ {program} = systemd-run ]\n')
        stub.chmod(0o755)
    variables = {
        "og_drill_name": "x",
        "og_drill_deadman_s": 7,
        "og_drill_policy_profile": "spill-at-90",
        "og_drill_undo": [{"host": "ogr_e1", "command": "echo 'a b'"}],
    }
    arm = {"name": "og_drill", "tasks_from": "arm"}
    play = {
        "hosts": "clients",
        "gather_facts": False,
        "vars": variables,
        "environment": {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "OG_HOST": "{{ (item | default({})).host | default('') }}",
        },
        "tasks": [{"ansible.builtin.include_role": arm}],
    }
    playbook = tmp_path / "play.yml"
    playbook.write_text(yaml.safe_dump([play]))
    done = ansible(inventory(tmp_path, "cli_w1", "cli_e1"), playbook)
    assert done.returncode == 0, done.stdout + done.stderr
    options = "--on-active=7 --timer-property=AccuracySec=1s"
    restore = (
        "[ ! -e /etc/og/policy.yml.og-drill ] || "
        "{ mv /etc/og/policy.yml.og-drill /etc/og/policy.yml && systemctl reload og-control; }"
    )
    assert log.read_text().splitlines() == [
        "ogr_e1 systemctl stop og-drill-undo-x-0.timer",
        f"ogr_e1 systemd-run --quiet --collect --unit=og-drill-undo-x-0 {options} sh -c echo 'a b'",
        "ogr_w1 systemctl stop og-drill-undo-x-1.timer",
        f"ogr_w1 systemd-run --quiet --collect --unit=og-drill-undo-x-1 {options} sh -c {restore}",
    ]
