# SPDX-License-Identifier: Apache-2.0
"""The drills in their short form (DRILL_SHORT=1), each judged by its own report; `make drill` runs the whole form."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.nodes import Lab, Node, ansible_environment, ansible_playbook, playbook

if TYPE_CHECKING:
    from collections.abc import Callable

ONE_SITE = (
    *("backend_crash", "router_loss", "router_loss_drained", "router_loss_halved"),
    *("drain", "consul_loss", "hasher_loss", "rolling"),
)
TWO_SITES = ("recovery", "spill", "routers_loss", "site_loss")
LIMIT_S = 420
RESTORED_MS = 500  # the median of three runs: one of them may meet a busy machine


def play(lab: Lab, drill: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a drill's playbook against the lab that is up, with its reports in `folder`."""
    reports = ["-e", f"og_drill_reports={folder}"]
    try:
        return playbook(lab, f"drill_{drill}", *reports, *arguments, timeout=LIMIT_S, DRILL_SHORT="1")
    except BaseException:
        end_what_is_left(lab)
        raise


def end_what_is_left(lab: Lab) -> None:
    """Of a drill whose playbook was killed: what its hosts would undo after ten minutes is undone now, its load and its
    watchers end, and the gateway nodes run again.
    """
    undo = (
        "for timer in $(systemctl list-units --plain --no-legend 'og-drill-undo-*.timer' | awk '{print $1}'); do "
        'systemctl start --wait "${timer%.timer}.service"; systemctl stop "$timer"; done; '
        "systemctl stop 'og-drill-*'"
    )
    serve = "systemctl start consul gobgpd og-health og-%s og-control; /opt/og/current/bin/og-health --undrain"
    for node in lab.group(""):
        kind = {"ogh": "hasher", "ogr": "router"}.get(node.name[:3])
        for command in (undo, *([serve % kind] if kind else [])):
            try:
                node.run(command, check=False, timeout=120)
            except subprocess.TimeoutExpired as error:
                print(f"{node.name}: {error}")


def need_two_sites(lab: Lab) -> None:
    if len(lab.sites) < 2:
        pytest.skip("the lab that is up has one site: `make lab TOPOLOGY=failover` has two")


def judged(lab: Lab, drill: str, folder: Path) -> dict[str, Any]:
    """Run a drill: it passes by its own report, and the report is one of a drill that took place."""
    begin = time.time()
    done = play(lab, drill, folder)
    report_file = folder / drill / "report.json"
    assert report_file.exists(), done.stdout[-4000:] + done.stderr[-2000:]
    report: dict[str, Any] = json.loads(report_file.read_text())
    print({key: value for key, value in report.items() if key not in ("share", "share_in_force", "outcomes")})
    assert report["reasons"] == [], f"outcomes: {report['outcomes']}, stalls of the load: {report['stalls']}"
    assert done.returncode == 0, done.stdout[-4000:]
    assert report["t_fault"] > begin
    assert report["requests"] > report["established_before"]
    assert report["detection_ms"] is not None
    assert (report["expected_broken"] > 0) == (drill in ("failover", "backend_crash"))
    assert "<svg" in (folder / drill / "timeline.svg").read_text()
    return report


@pytest.mark.parametrize("drill", ONE_SITE)
def test_drill(lab: Lab, drill: str, tmp_path: Path) -> None:
    assert judged(lab, drill, tmp_path)["established_before"] >= 400


@pytest.mark.parametrize("drill", TWO_SITES)
def test_drill_of_two_sites(lab: Lab, drill: str, tmp_path: Path) -> None:
    """The connections of `spill` live for seconds: fewer are open at once."""
    need_two_sites(lab)
    assert judged(lab, drill, tmp_path)["established_before"] >= (60 if drill == "spill" else 400)


def test_the_other_site_serves_within_half_a_second(lab: Lab, tmp_path: Path) -> None:
    """The median of three failovers, from the fault to full service."""
    need_two_sites(lab)
    restored = [judged(lab, "failover", tmp_path / str(run))["restore_ms"] for run in range(3)]
    print({"restore_ms": restored})
    assert statistics.median(restored) <= RESTORED_MS


def test_a_drill_in_check_mode_touches_nothing(lab: Lab, tmp_path: Path) -> None:
    need_two_sites(lab)
    done = play(lab, "failover", tmp_path, "--check")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "ip link set dev fab0 down" in done.stdout, "it says what it would do"
    assert "changed=0" in done.stdout
    assert list(tmp_path.iterdir()) == []
    for node in lab.group("cli"):
        assert node.run("systemctl list-units --plain --no-legend 'og-drill*'") == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-e", "og_drill_site=nowhere"], 'og_drill_site ("nowhere") must be one of them'),
        (["-e", '{"og_drill_undo": [{"host": "ogr_w9", "command": "true"}]}'], "unknown: ogr_w9"),
    ],
)
def test_a_drill_that_cannot_be_is_refused(lab: Lab, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = play(lab, "hasher_loss", tmp_path, *arguments)
    assert done.returncode != 0
    assert message in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_round_whose_load_does_not_begin_touches_no_node(lab: Lab, tmp_path: Path) -> None:
    """No connection opens, because the address has no such service; nothing of the drill is left running anywhere."""
    gateways = [*lab.group("ogh"), *lab.group("ogr")]
    units = "systemctl show -P InvocationID og-hasher og-router og-control"
    before = [node.run(units) for node in gateways]
    done = play(lab, "rolling", tmp_path, "-e", "og_drill_port=9", "-e", "og_drill_open_s=2")
    assert done.returncode != 0
    assert "The load did not begin: " in done.stdout
    assert "Begin | Wait until all held connections are open" in done.stdout
    assert [node.run(units) for node in gateways] == before
    for node in [*gateways, *lab.group("cli"), *lab.group("rtr")]:
        assert node.run("systemctl list-units --plain --no-legend 'og-drill*'") == "", node


def descendants(pid: int) -> list[int]:
    """Processes that it has started, and theirs: Ansible's workers have sessions of their own, and would outlive it."""
    children = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it is over
            children += [int(child) for child in thread.read_text().split()]
    return children + [pid for child in children for pid in descendants(child)]


def wait(until: Callable[[], bool], what: str, timeout: float) -> None:
    end = time.monotonic() + timeout
    while not until():
        assert time.monotonic() < end, f"{timeout:.0f} s and not yet: {what}"
        time.sleep(0.5)


@pytest.mark.parametrize(
    ("drill", "changed"),
    [
        ("spill", "test -e /etc/og/policy.yml.og-drill && ! cmp -s /etc/og/policy.yml.og-drill /etc/og/policy.yml"),
        ("rolling", "! systemctl is-active --quiet og-hasher og-router"),
    ],
    ids=["spill", "rolling"],
)
def test_what_a_controller_that_dies_leaves_the_nodes_undo(lab: Lab, tmp_path: Path, drill: str, changed: str) -> None:
    """Killed while the drill's policy is in force at the first node, and while a node is stopped."""
    if drill == "spill":
        need_two_sites(lab)
    gateways = {node: role for role in ("hasher", "router") for node in lab.group(f"og{role[0]}")}
    policies = {node: node.run("sha256sum /etc/og/policy.yml") for node in gateways}

    def answers(node: Node, command: str) -> bool:
        return node.run(f"{{ {command}; }} >/dev/null 2>&1 && echo yes", check=False).strip() == "yes"

    def whole() -> bool:
        gate = "env PYTHONPATH=/opt/og/current/lib python3 -m og.drill.gate --role"
        return all(answers(node, f"{gate} {role}") for node, role in gateways.items())

    options = ["-e", f"og_drill_reports={tmp_path}", "-e", "og_drill_deadman_s=40"]
    controller = subprocess.Popen(
        [*ansible_playbook(lab, f"drill_{drill}"), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=ansible_environment(DRILL_SHORT="1"),
    )
    try:
        wait(lambda: any(answers(node, changed) for node in gateways), "a node that is changed", 120)
    finally:
        controller.send_signal(signal.SIGSTOP)  # it starts no more
        for pid in (controller.pid, *descendants(controller.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        controller.wait()
        for node in [*gateways, *lab.group("cli"), *lab.group("rtr")]:
            node.run("systemctl stop og-drill-load og-drill-watch", check=False)
    wait(lambda: not any(answers(node, changed) for node in gateways), "all nodes as before", 60)
    wait(whole, "every node in full service", 60)
    timers = "systemctl list-units --plain --no-legend 'og-drill*'"
    wait(lambda: not any(node.run(timers) for node in gateways), "no timer left", 60)
    assert {node: node.run("sha256sum /etc/og/policy.yml") for node in gateways} == policies
