# SPDX-License-Identifier: Apache-2.0
"""The same question to every node of an inventory: `docker exec` for containers, ssh for machines."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GROUPS = ("hashers", "routers", "agents")
DATA_PLANES = {
    "pins": ("routers",),
    "counters": ("hashers", "routers"),
    "load": ("hashers", "routers"),
    "why": ("hashers", "routers"),
}
PROGRAM = "/opt/og/current/bin/ogctl"
# Before PROGRAM, for the shell that ssh starts: the state of the programs is root's and the group og's alone.
AS_ROOT = 's=; [ "$(id -u)" = 0 ] || s="sudo -n"; exec $s'
NODE_LABEL = "org.occam-gateway.node"  # of a lab's containers: the host's name in the inventory
TIMEOUT_S = 30.0
AT_ONCE = 16


class InventoryError(Exception):
    """The inventory cannot be used. The text says which and why."""


@dataclass(frozen=True)
class Host:
    """One node and the command line prefix that runs a program on it."""

    name: str
    group: str
    prefix: tuple[str, ...]


def read_hosts(inventory: str) -> list[Host]:
    """List the gateway nodes and agents of an inventory. Raises InventoryError."""
    program = _find("ansible-inventory")
    done = subprocess.run([program, "-i", inventory, "--list"], capture_output=True, text=True, check=False)
    try:
        data = json.loads(done.stdout)
    except ValueError:
        raise InventoryError(f"{inventory}: {done.stderr.strip() or 'ansible-inventory printed no JSON'}") from None
    names = {name: group for group in GROUPS for name in _members(data, group)}
    if not names:
        raise InventoryError(f"{inventory}: no host in the groups {', '.join(GROUPS)}")
    variables = data.get("_meta", {}).get("hostvars", {})
    containers = _containers() if any("docker" in _connection(variables.get(name, {})) for name in names) else {}
    return [
        Host(name, group, _prefix(name, variables.get(name, {}), containers, inventory))
        for name, group in names.items()
    ]


def ask(host: Host, arguments: list[str]) -> dict[str, Any]:
    """Run `ogctl` there and return what it printed; a node that cannot be asked is an answer with problems."""
    command = [*host.prefix, PROGRAM, *arguments, "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return unreachable(host.name, f"no answer in {TIMEOUT_S:.0f} s")
    except ValueError:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
        return unreachable(host.name, f"ogctl does not answer: {said}")
    return answer if isinstance(answer, dict) else {"list": answer}


def ask_all(hosts: list[Host], arguments: list[str]) -> dict[str, dict[str, Any]]:
    """Ask all hosts at the same time; answers by name, in the hosts' order."""
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        answers = pool.map(lambda host: ask(host, arguments), hosts)
        return {host.name: answer for host, answer in zip(hosts, answers, strict=True)}


def picked(answers: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Leave, of all answers to `why`, the hashers' and those of the routers they pick, and who could not be asked."""
    chosen = {answer.get("router") for answer in answers.values() if answer.get("role") == "hasher"}
    return {
        name: answer
        for name, answer in answers.items()
        if answer.get("role") != "router" or name in chosen or "problems" in answer
    }


def unreachable(name: str, why: str) -> dict[str, Any]:
    """Make the status of a node that cannot be asked."""
    return {"node": name, "role": "", "ok": False, "problems": [why]}


def _find(program: str) -> str:
    beside = Path(sys.executable).with_name(program)
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        raise InventoryError(f"{program} is not installed: activate the project's virtual environment")
    return found


def _members(data: dict[str, Any], group: str) -> list[str]:
    entry = data.get(group, {})
    return [*entry.get("hosts", []), *(name for child in entry.get("children", []) for name in _members(data, child))]


def _connection(variables: dict[str, Any]) -> str:
    return str(variables.get("ansible_connection", "ssh"))


def _containers() -> dict[str, str]:
    """Return the names of a lab's containers by the names of their hosts."""
    columns = f'{{{{.Label "{NODE_LABEL}"}}}} {{{{.Names}}}}'
    command = ["docker", "ps", "--filter", f"label={NODE_LABEL}", "--format", columns]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return {}
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def _prefix(name: str, variables: dict[str, Any], containers: dict[str, str], inventory: str) -> tuple[str, ...]:
    address = str(variables.get("ansible_host", name))
    if "docker" in _connection(variables):
        # ansible-inventory prints templates as they stand; the container itself knows whose it is.
        return ("docker", "exec", containers.get(name, name if "{{" in address else address))
    if "{{" in address:
        raise InventoryError(f"{inventory}: {name}: ansible_host is a template: {address}")
    user = variables.get("ansible_user")
    target = f"{user}@{address}" if user else address
    port = ("-p", str(variables["ansible_port"])) if "ansible_port" in variables else ()
    return ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", *port, target, AS_ROOT)
