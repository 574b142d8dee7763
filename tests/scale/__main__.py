# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.scale 50 200`: what a `--check` run of a playbook costs the controller, and how it grows.

Measured: reading the inventory, its checks, templating the arguments of every task for every host, and what Ansible
itself does per task and host. Not measured: ssh, modules on hosts, downloads. The hosts are not there (connection
og_null), and every file is as if it did not exist yet.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from tests.scale.inventory import ROOT, write

PLAYBOOKS = ("playbooks/preflight.yml", "playbooks/deploy.yml")


def measure(inventory: Path, playbook: str, log: Path) -> dict[str, float]:
    """Run it once; wall-clock and processor seconds. Raises RuntimeError with the end of the output if it fails."""
    environment = os.environ | {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_CONNECTION_PLUGINS": str(ROOT / "tests/scale/connection"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks",
    }
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [program, "-i", str(inventory), str(ROOT / playbook), "--check", "--skip-tags", "build"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with log.open("w") as output:
        done = subprocess.run(command, env=environment, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{log.read_text()[-3000:]}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(time.monotonic() - start, 1), "processor_s": round(processor, 1)}


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hosts", type=int, nargs="*", default=[50, 200])
    parser.add_argument("--playbook", action="append", help="default: preflight and deploy")
    parser.add_argument("--output", type=Path, default=ROOT / "build/scale")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    results = []
    for playbook in options.playbook or PLAYBOOKS:
        for count in options.hosts:
            inventory = write(options.output, count)
            log = options.output / f"{Path(playbook).stem}-{count}.log"
            result = {"playbook": playbook, "hosts": count, **measure(inventory, playbook, log)}
            results.append(result)
            print(json.dumps(result | {"processor_s_per_host": round(result["processor_s"] / count, 2)}), flush=True)  # type: ignore[operator]
    (options.output / "scale.json").write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
