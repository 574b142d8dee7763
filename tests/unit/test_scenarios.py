# SPDX-License-Identifier: Apache-2.0
"""The Molecule scenarios are whole, and their runner says what went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scripts import molecule_run

ROOT = Path(__file__).resolve().parents[2]
ROLES = {"og_hasher", "og_router", "og_agent", "gobgp", "quagga", "consul", "monitoring"}
CONVERGE = "INFO     [\x1b[2mdefault\x1b[0m > converge] Executing\n"
IDEMPOTENCE = "INFO     [default > idempotence] Executing\n"
VERIFY = "INFO     [default > verify] Executing\n"
DIFFERENCE = ["--- before\n", "+++ after: /etc/og/router.json\n", "@@ -1,3 +1,3 @@\n"]


def test_every_role_has_a_scenario_and_the_site_is_last():
    names = molecule_run.scenarios()
    assert set(names) == ROLES | {"default"}
    assert names[-1] == "default"


@pytest.mark.parametrize("name", sorted(ROLES | {"default"}))
def test_scenario_has_tests_and_containers_of_its_own(name):
    folder = ROOT / "molecule" / name
    config = yaml.safe_load((folder / "molecule.yml").read_text())
    file = ROOT / "inventories/molecule/hosts.yml" if name == "default" else folder / "hosts.yml"
    hosts = yaml.safe_load(file.read_text())["all"]["children"]["site_west"]["hosts"]
    for platform in config["platforms"]:
        host = platform["name"]
        assert hosts[host]["ansible_host"] == f"og-mol-{name}-{host.replace('_', '-')}"
    assert list((folder / "tests").glob("test_*.py"))
    assert (folder / "converge.yml").exists()


def test_hosts_under_test_are_bare():
    """Every host that a role's converge.yml names is of the image without a package of ours."""
    for name in ROLES:
        folder = ROOT / "molecule" / name
        images = {p["name"]: p["image"] for p in yaml.safe_load((folder / "molecule.yml").read_text())["platforms"]}
        inventory = yaml.safe_load((folder / "hosts.yml").read_text())["all"]["children"]
        for play in yaml.safe_load((folder / "converge.yml").read_text()):
            for group in play["hosts"].split(":"):
                under_test = set(inventory[group]["hosts"]) & set(images)
                assert under_test, (name, group)
                assert {images[host] for host in under_test} == {"og-base:latest"}, name


def test_summary_names_the_step_that_failed():
    results = [molecule_run.Result("gobgp", 61.4, 0, "destroy"), molecule_run.Result("quagga", 9.0, 2, "check")]
    assert molecule_run.table(results).splitlines()[1:] == [
        "gobgp             61 s  ok",
        "quagga             9 s  FAILED at check",
        "together          70 s",
    ]


def test_the_release_is_built_for_those_that_install_it():
    needing = {name for name in molecule_run.scenarios() if molecule_run.needs_release(name)}
    assert needing == {"og_hasher", "og_router", "og_agent", "monitoring", "default"}


def read(*text: str) -> molecule_run.Progress:
    progress = molecule_run.Progress()
    for line in text:
        progress.read(line)
    return progress


def test_a_step_begins_with_its_line_only():
    progress = molecule_run.Progress()
    assert [progress.read(line) for line in (CONVERGE, "TASK [Executing]\n", VERIFY)] == [True, False, True]
    assert progress.step == "verify"


@pytest.mark.parametrize("line", DIFFERENCE)
def test_a_difference_counts_in_the_second_run(line):
    assert read(CONVERGE, IDEMPOTENCE, line, VERIFY).differs


def test_a_difference_does_not_count_before_and_after():
    assert not read(CONVERGE, *DIFFERENCE, IDEMPOTENCE, "ok: [ogr_w1]\n", VERIFY, *DIFFERENCE).differs


def test_the_step_that_failed_is_named_not_the_cleaning_after_it():
    failed = "ERROR    [default > converge] \x1b[31mExecuted: Failed\x1b[0m\n"
    progress = read(CONVERGE, failed, "INFO     [default > destroy] Executing\n")
    assert (progress.failed, progress.step) == ("converge", "destroy")


def test_a_step_without_its_playbook_has_failed():
    missing = "WARNING  [default > %s] \x1b[33mExecuted: Missing playbook\x1b[0m (Remove from …)\n"
    assert read(IDEMPOTENCE, missing % "side_effect").failed == "side_effect"
    assert read(IDEMPOTENCE, missing % "cleanup").failed == ""


def test_the_drill_of_the_site_is_one_of_the_playbooks():
    folder = ROOT / "molecule/default"
    config = yaml.safe_load((folder / "molecule.yml").read_text())
    assert "side_effect" in config["scenario"]["test_sequence"]
    assert (folder / config["ansible"]["playbooks"]["side_effect"]).resolve().parent == ROOT / "playbooks"
