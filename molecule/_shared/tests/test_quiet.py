# SPDX-License-Identifier: Apache-2.0
"""What has just been deployed does not differ: `--check --diff` has nothing to show and nothing to change."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from scripts.molecule_run import DIFFERENCE

RECAP = re.compile(r"^(\w+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.MULTILINE)


def test_check_with_diff_is_quiet_after_converge(request):
    inventory = request.config.getoption("ansible_inventory")
    playbook = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "converge.yml"
    command = ["ansible-playbook", "--inventory", inventory, "--check", "--diff", str(playbook)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    hosts = RECAP.findall(done.stdout)
    assert hosts, done.stdout
    assert all(numbers[1:] == ["0", "0", "0"] for _, *numbers in hosts), done.stdout
    assert not DIFFERENCE.search(done.stdout), done.stdout
