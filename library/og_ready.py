#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: whether a node does its work, and what it runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: og_ready
short_description: Wait until a node of the Occam Gateway does its work
version_added: "1.0.0"
description:
  - Asks everything that knows something about this node - its units, the data plane, the control daemon, the health
    daemon and what it announces, GoBGP's sessions, Consul's checks, the agent's status - and waits until all is well.
  - Tells which release is current and which one each program was started from.
  - Changes nothing, and runs in check mode too. Needs nothing of the release that is installed.
author:
  - The Occam Gateway authors
attributes:
  check_mode:
    support: full
    description: There is nothing it would change.
  diff_mode:
    support: none
    description: There is nothing it would change.
  platform:
    support: full
    platforms: linux
    description: Any node of a deployment.
options:
  role:
    description: What this node is.
    type: str
    required: true
    choices: [hasher, router, agent, monitor, client, network]
  node:
    description: Its name in Consul.
    type: str
    required: true
  state:
    description:
      - V(ready) - all is well. V(drained) - taken out, and no packets of clients come in any more. V(aside) - it works,
        but may be drained - what is announced and what Consul says do not matter.
      - V(any) - do not wait, only tell.
    type: str
    choices: [ready, drained, aside, any]
    default: ready
  timeout_s:
    description: How long to wait.
    type: float
    default: 0
  release:
    description: The release that all programs must have been started from. Empty - any.
    type: str
    default: ""
  others:
    description: So many other nodes of the same kind must pass Consul's check at this site and not be drained.
    type: int
    default: 0
  leaving:
    description: Names of nodes that do not count as others, as they leave at the same time.
    type: list
    elements: str
    default: []
  consul_url:
    description: Consul's HTTP API on this node.
    type: str
    default: http://127.0.0.1:8500
  root:
    description: Where releases live.
    type: path
    default: /opt/og
"""

EXAMPLES = r"""
- name: Wait until the router works
  og_ready:
    role: router
    node: ogr_w1
    timeout_s: 60
    others: 1
"""

RETURN = r"""
ready:
  description: Whether the state that was asked for is there; for V(any) whether all is well.
  type: bool
  returned: always
problems:
  description: What is missing, one sentence each.
  type: list
  elements: str
  returned: always
release:
  description:
    - C(current), C(previous) (empty when there is none), C(installed), C(running) by unit, and C(stale) - the units
      whose program, options or unit file are no longer those they were started with.
  type: dict
  returned: always
drained:
  description:
    - Who has drained this node, empty when it is not. V(Consul) for a key there, V(og-health) for its option
      C(--drain), else what the daemon or round that did it has written into C(/run/og/health.drain).
  type: str
  returned: always
tables:
  description: Generation of the data plane's tables; 0 on other nodes.
  type: int
  returned: always
digest:
  description: Their identity.
  type: str
  returned: always
bgp:
  description: BGP sessions that are established, and all.
  type: dict
  returned: always
consul:
  description: C(passing), C(critical), or empty on a node without checks.
  type: str
  returned: always
others:
  description: Other nodes of the same kind at this site that pass Consul's check and are not drained.
  type: list
  elements: str
  returned: always
"""

import hashlib
import http.client
import json
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.og_consul_kv import Kv, KvError
from ansible.module_utils.og_jsonsock import SocketError, request
from ansible.module_utils.og_running import current, installed, previous, units
from ansible.module_utils.og_telemetry import Telemetry, TelemetryError, default_path

STARTED = "/run/og/{}.started"
DRAIN_FILE = Path("/run/og/health.drain")
BY_KEY = "Consul"
HEALTH_URL = "http://127.0.0.1:9441/health"
GOBGP = ["gobgp", "--target", "unix:///run/gobgp/api.sock", "--json", "neighbor"]
ESTABLISHED = 6
FRR = ["vtysh", "-c", "show bgp ipv6 unicast summary json"]
POLL_S = 0.5
AGENT_STALE_S = 5.0
# What a drained node still counts: nobody's packets, only the fabric's own talk.
NOT_TRAFFIC = ("rx", "tx", "rx_missed", "probe_answered", "probe_reply", "probe_stray", "fabric_error", "handoff")
QUIET_PER_S = 5.0


@dataclass
class Facts:
    """What was found, and what is wrong with it: `wrong` by who said so, in the order of asking."""

    units: dict[str, Any] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    tables: int = 0
    digest: str = ""
    bgp: dict[str, int] = field(default_factory=lambda: {"established": 0, "all": 0})
    consul: str = ""
    drained: str = ""
    others: list[str] = field(default_factory=list)
    traffic: float = 0.0

    def say(self, who: str, problem: str) -> None:
        """Note a problem."""
        self.wrong.setdefault(who, []).append(problem)

    def problems(self, *, without: tuple[str, ...] = ()) -> list[str]:
        """Return what is wrong, without what some have to say."""
        return [f"{who}: {text}" for who, texts in self.wrong.items() if who not in without for text in texts]


def fetch(url: str) -> Any:  # noqa: ANN401 - JSON
    """Return decoded JSON, also from an answer 503. Raises OSError, ValueError."""
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:  # noqa: S310 - an address of this host
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return json.loads(error.read())
    except http.client.HTTPException as error:
        raise OSError(f"{error!r}") from error


def look_at_units(facts: Facts, role: str, release: str, root: Path) -> None:
    """Every installed unit is active and was started from the release."""
    for unit in units(role, root=root):
        facts.units[unit.name] = unit.release
        started = Path(STARTED.format(unit.name))
        if started.is_file() and not matches(started):
            facts.stale.append(unit.name)
        if not unit.active:
            facts.say("units", f"{unit.name} does not run")
        elif release and unit.pid and unit.release != release:
            facts.say("units", f"{unit.name} runs release {unit.release or 'unknown'}, not {release}")


def matches(checksums: Path) -> bool:
    """Tell whether the files a unit noted at its start are still the same (sha256sum's format)."""
    for line in checksums.read_text().splitlines():
        checksum, _, name = line.partition("  ")
        path = Path(name)
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
            return False
    return True


def look_at_data_plane(facts: Facts, role: str) -> None:
    """Running, on tables, with somebody to send to; the control daemon agrees."""
    try:
        answer = request(f"/run/og/{role}.sock", {"op": "status"})
    except SocketError as error:
        facts.say("data plane", str(error))
        return
    facts.tables, facts.digest = int(answer.get("generation", 0)), str(answer.get("digest", ""))
    if not facts.tables:
        facts.say("data plane", "no tables")
    elif not answer.get("serving"):
        facts.say("data plane", "cannot serve: nobody to send to")
    try:
        control = request("/run/og/control.sock", {"op": "status"})
    except SocketError as error:
        facts.say("control daemon", str(error))
        return
    if not control.get("applied"):
        facts.say("control daemon", str(control.get("detail")))
    if control.get("policy", {}).get("error"):
        facts.say("control daemon", f"policy: {control['policy']['error']}")


def look_at_drain(facts: Facts) -> None:
    """Who had the health daemon drain this node, by what the file says."""
    try:
        facts.drained = DRAIN_FILE.read_text().strip() or "og-health"
    except OSError:
        facts.drained = ""


def look_at_announcements(facts: Facts, node: str) -> None:
    """The health daemon is content and announces all it may; GoBGP has its sessions."""
    try:
        health = fetch(HEALTH_URL)
        wanted = json.loads(Path("/etc/og/health.json").read_text())
    except (OSError, ValueError) as error:
        facts.say("health daemon", str(error))
        return
    if health.get("drained"):
        facts.say("health daemon", f"drained; playbooks/restore.yml -e og_drain_target={node} ends that")
    elif not health.get("healthy"):
        facts.say("health daemon", str(health.get("reason")))
    prefixes = {wanted["locator"], *(f"{vip}/128" for vip in wanted.get("vips", []))}
    missing = prefixes - set(health.get("announced", []))
    if missing:
        facts.say("announcement", f"not announced: {', '.join(sorted(missing))}")
    if health.get("gobgp"):
        facts.say("announcement", str(health["gobgp"]))
    try:
        done = subprocess.run(GOBGP, capture_output=True, text=True, timeout=10, check=False)
        states = [peer.get("state", {}).get("session_state") for peer in json.loads(done.stdout)]
    except (OSError, ValueError, AttributeError, subprocess.TimeoutExpired) as error:
        facts.say("bgp", f"gobgp does not tell: {error}")
        return
    facts.bgp = {"established": states.count(ESTABLISHED), "all": len(states)}
    if facts.bgp["established"] < len(states) or not states:
        facts.say("bgp", f"{facts.bgp['established']} of {len(states)} sessions established")


def look_at_routing(facts: Facts) -> None:
    """FRRouting on a network router of ours: its sessions."""
    try:
        done = subprocess.run(FRR, capture_output=True, text=True, timeout=10, check=False)
        states = [peer["state"] for peer in json.loads(done.stdout).get("peers", {}).values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, subprocess.TimeoutExpired) as error:
        facts.say("bgp", f"FRRouting does not tell: {error}")
        return
    facts.bgp = {"established": states.count("Established"), "all": len(states)}
    if facts.bgp["established"] < len(states) or not states:
        facts.say("bgp", f"{facts.bgp['established']} of {len(states)} sessions established")


def look_at_agent(facts: Facts) -> None:
    """Programs attached, every service with a listener, the daemon alive."""
    try:
        status = json.loads(Path("/run/og/agent.status.json").read_text())
        age = time.time() - float(status["time"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        facts.say("agent", f"no status: {error}")
        return
    if age > AGENT_STALE_S:
        facts.say("agent", f"its status is {age:.0f} s old")
    if not status.get("attached"):
        facts.say("agent", "programs not attached")
    for name, service in status.get("services", {}).items():
        if not service.get("listener"):
            facts.say("agent", f"{name} has no listener")


def look_at_consul(facts: Facts, role: str, node: str, url: str) -> None:
    """Consul's checks of this node pass; who else of its kind does; who is drained by a key."""
    try:
        checks = fetch(f"{url}/v1/health/node/{node}")
        own = [check["Status"] for check in checks]
        if role in ("hasher", "router"):
            entries = fetch(f"{url}/v1/health/service/og-{role}?passing")
            site = str(fetch(f"{url}/v1/agent/self")["Config"]["Datacenter"])
            drained = {key.rpartition("/")[2] for key in Kv(url, site).keys(f"og/{site}/drain/")}
            facts.drained = BY_KEY if node in drained else facts.drained
            facts.others = sorted({entry["Node"]["Node"] for entry in entries} - drained - {node})
    except (OSError, ValueError, KeyError, TypeError, KvError) as error:
        facts.say("consul", f"{url}: {error}")
        return
    facts.consul = "" if not own else "passing" if set(own) == {"passing"} else "critical"
    if facts.consul != "passing":
        failing = [check["Name"] for check in checks if check["Status"] != "passing"]
        facts.say("consul", f"not passing: {', '.join(failing)}" if own else f"knows no node {node}")


def traffic(role: str, interval_s: float) -> float:
    """Return packets per second that are not the fabric's own talk. Raises TelemetryError."""
    with Telemetry(default_path(role)) as connection:
        before, start = connection.query("/og/counters"), time.monotonic()
        time.sleep(interval_s)
        after, elapsed = connection.query("/og/counters"), time.monotonic() - start
    names = [name for name in after if name not in NOT_TRAFFIC]
    return sum(int(after[name]) - int(before.get(name, 0)) for name in names) / elapsed


def look(parameters: dict[str, Any]) -> Facts:
    """Ask everybody once."""
    facts, role = Facts(), parameters["role"]
    look_at_units(facts, role, parameters["release"], Path(parameters["root"]))
    if role in ("hasher", "router"):
        look_at_data_plane(facts, role)
        look_at_drain(facts)
        look_at_announcements(facts, parameters["node"])
    if role == "network":
        look_at_routing(facts)
    if role == "agent":
        look_at_agent(facts)
    if role in ("hasher", "router", "agent", "monitor"):
        look_at_consul(facts, role, parameters["node"], parameters["consul_url"])
    return facts


def missing(facts: Facts, parameters: dict[str, Any]) -> list[str]:
    """Return what keeps the node from the state that is asked for."""
    state, role = parameters["state"], parameters["role"]
    if state == "drained":
        found = facts.problems(without=("health daemon", "announcement", "consul", "data plane"))
        if facts.consul == "passing" and facts.drained != BY_KEY:  # a key drains without failing a check
            found.append("consul: still passing")
        try:
            facts.traffic = traffic(role, POLL_S)
        except TelemetryError as error:
            found.append(f"data plane: {error}")
        if facts.traffic > QUIET_PER_S:
            found.append(f"data plane: {facts.traffic:.0f} packets of clients per second still come in")
        return found
    if state == "aside":
        return facts.problems(without=("health daemon", "announcement", "consul"))
    found = facts.problems()
    others = set(facts.others) - set(parameters["leaving"])
    if len(others) < parameters["others"]:
        who = ", ".join(sorted(others)) or "none"
        found.append(
            f"{parameters['others']} other {role}s of the site must pass Consul's check and not be drained: {who}"
        )
    return found


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "role": {
                "type": "str",
                "required": True,
                "choices": ["hasher", "router", "agent", "monitor", "client", "network"],
            },
            "node": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["ready", "drained", "aside", "any"], "default": "ready"},
            "timeout_s": {"type": "float", "default": 0},
            "release": {"type": "str", "default": ""},
            "others": {"type": "int", "default": 0},
            "leaving": {"type": "list", "elements": "str", "default": []},
            "consul_url": {"type": "str", "default": "http://127.0.0.1:8500"},
            "root": {"type": "path", "default": "/opt/og"},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    end = time.monotonic() + parameters["timeout_s"]
    while True:
        facts = look(parameters)
        problems = missing(facts, parameters)
        if not problems or parameters["state"] == "any" or time.monotonic() >= end:
            break
        time.sleep(POLL_S)
    root = Path(parameters["root"])
    result = {
        "changed": False,
        "ready": not problems,
        "problems": problems,
        "release": {
            "current": current(root),
            "previous": previous(root),
            "installed": installed(root),
            "running": facts.units,
            "stale": facts.stale,
        },
        "drained": facts.drained,
        "tables": facts.tables,
        "digest": facts.digest,
        "bgp": facts.bgp,
        "consul": facts.consul,
        "others": facts.others,
    }
    if problems and parameters["state"] != "any":
        within = f" within {parameters['timeout_s']:.0f} s" if parameters["timeout_s"] else ""
        module.fail_json(
            msg=f"{parameters['node']} is not {parameters['state']}{within}: {'; '.join(problems)}", **result
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
