#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: take a member of a site out of service without breaking a connection, and bring it back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: og_drain
short_description: Drain or restore a member of an Occam Gateway site
version_added: "1.0.0"
description:
  - A drained member gets no new flows and keeps those it has. Runs on the member itself, for V(site) on a router of it.
  - Servers and routers are marked by the key C(og/<site>/drain/<name>) in Consul, which the control daemons follow.
    A hasher withdraws its service addresses, by C(og-health --drain).
  - A router may be drained by C(og-health --drain), too, as a rolling round does it. V(active) ends both.
  - Then waits until the member is idle, or until the time is up.
author:
  - The Occam Gateway authors
requirements:
  - a Consul agent on the host, but for V(hasher)
attributes:
  check_mode:
    support: full
    description: Reads the state and what is still going on. Neither changes nor waits.
  diff_mode:
    support: full
    description: Shows who is drained, before and after.
  platform:
    support: full
    platforms: linux
    description: Runs on nodes of the gateway.
options:
  name:
    description:
      - Name of the member, as Consul knows the node; for V(site) the name of the site.
      - Another host's name is refused where a Consul agent on this one tells its own.
    type: str
    required: true
  kind:
    description:
      - V(agent) is an application host. It is idle when no connection to its services is open.
      - V(router) and V(hasher) are idle when no packet of a client comes any more. Pins that are left are of no use.
      - V(site) is all servers of a site, O(members), idle when the router's probes find no connection on any of them.
    type: str
    choices: [agent, router, hasher, site]
    required: true
  site:
    description: Its site, which is the name of Consul's datacenter.
    type: str
    required: true
  members:
    description: Names of the servers of the site. Required for V(site).
    type: list
    elements: str
  state:
    description: Whether the member is out of service.
    type: str
    choices: [drained, active]
    default: drained
  reason:
    description: Kept as the value of the key, for people.
    type: str
    default: og_drain
  timeout_s:
    description:
      - How long to wait until the member is idle, in seconds. 0 does not wait.
      - For V(site), 0 needs no router that knows all O(members), and any node of the site with a Consul agent will do.
    type: int
    default: 300
  settle_s:
    description: For how long it must be idle without a break, in seconds.
    type: int
    default: 5
  fail_on_timeout:
    description: Whether it is an error when time is up. The member stays drained in either case.
    type: bool
    default: true
  consul_url:
    description: HTTP API of the Consul agent.
    type: str
    default: http://127.0.0.1:8500
  consul_token:
    description: Token for it, where access is controlled.
    type: str
  health_program:
    description: The health daemon's program, for a hasher and to restore a router.
    type: path
    default: /opt/og/current/bin/og-health
  health_url:
    description: Where the health daemon answers.
    type: str
    default: http://127.0.0.1:9441/health
  agent_status:
    description: The agent's status file.
    type: path
    default: /run/og/agent.status.json
  telemetry_socket:
    description: Telemetry of the data plane. Default is the socket of og-router or og-hasher.
    type: path
"""

EXAMPLES = r"""
- name: Drain a server and wait until its last connection has ended
  og_drain:
    name: "{{ inventory_hostname }}"
    kind: agent
    site: "{{ og_site }}"
    timeout_s: 1800

- name: Bring it back
  og_drain:
    name: "{{ inventory_hostname }}"
    kind: agent
    site: "{{ og_site }}"
    state: active

- name: Send new flows to the other site, and wait a minute at most
  og_drain:
    name: west
    kind: site
    site: west
    members: "{{ groups['agents'] | intersect(groups['site_west']) }}"
    timeout_s: 60
    fail_on_timeout: false
"""

RETURN = r"""
actions:
  description: What was written, or in check mode would be.
  returned: success, and when the wait fails
  type: list
  elements: str
  sample: ["drain agent_w1"]
idle:
  description: Whether nothing is going on any more.
  returned: &looked when it is to be drained, unless nobody can tell - of V(site) with O(timeout_s=0) that is no error
  type: bool
left:
  description: What is still going on.
  returned: *looked
  type: int
  sample: 0
unit:
  description: What is counted.
  returned: *looked
  type: str
  sample: connections
progress:
  description: What was going on, at the start, every ten seconds and at the end.
  returned: when it waited, also when that failed
  type: list
  elements: dict
  contains:
    after_s: {description: Seconds since the start, type: float}
    left: {description: What was going on, type: int}
    unit: {description: What is counted, type: str}
  sample:
    - {after_s: 0.0, left: 14, unit: connections}
    - {after_s: 10.0, left: 3, unit: connections}
    - {after_s: 17.1, left: 0, unit: connections}
"""

import http.client
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.og_consul_kv import MAX_OPERATIONS, Kv, KvError
from ansible.module_utils.og_drain import (
    AGENT,
    HASHER,
    KINDS,
    ROUTER,
    SITE,
    DrainError,
    Load,
    Step,
    Watch,
    agent_load,
    apply,
    check_name,
    check_seconds,
    member_load,
    names_of,
    packet_load,
    plan,
    told,
    wait,
)
from ansible.module_utils.og_telemetry import Telemetry, TelemetryError, default_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HEALTH_TIMEOUT_S = 5.0
CONFIRM_S = 15.0
LOOKS = 2  # before one says that the member cannot be watched
SAMPLE_S = 1.0  # a gateway node's packets are counted over this time


class Marks:
    """Drain marks of servers and routers: keys in Consul."""

    place = "Consul"

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._kv = Kv(parameters["consul_url"], parameters["site"], parameters["consul_token"])
        self._prefix = f"og/{parameters['site']}/drain/"
        self._reason = parameters["reason"]

    def read(self) -> set[str]:
        """Return who is drained."""
        return {key.removeprefix(self._prefix) for key in self._kv.keys(self._prefix)} - {""}

    def write(self, steps: Sequence[Step]) -> None:
        """Set or remove marks, as many at once as Consul takes: a site is not left half drained."""
        for at in range(0, len(steps), MAX_OPERATIONS):
            batch = steps[at : at + MAX_OPERATIONS]
            try:
                self._kv.write([(self._prefix + step.name, self._reason if step.drain else None) for step in batch])
            except KvError as error:
                unsure, rest = ([], steps[at:]) if error.refused else (batch, steps[at + MAX_OPERATIONS :])
                raise DrainError(f"{error}. {told(steps[:at], unsure, rest)}") from error

    def check(self, steps: Sequence[Step]) -> None:
        """Consul says itself what it refuses, when it is asked."""


class HealthDaemon:
    """The drain of a gateway node by its health daemon, which withdraws the service addresses."""

    place = "og-health"

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self._url = module.params["health_url"]
        self._name = module.params["name"]

    def read(self) -> set[str]:
        """Return the node's name when it is drained."""
        try:
            parts = urlsplit(self._url)
            host, port = parts.hostname or "", parts.port or 80
        except ValueError as error:
            raise DrainError(f"health_url: {self._url}: {error}") from error
        connection = http.client.HTTPConnection(host, port, timeout=HEALTH_TIMEOUT_S)
        try:
            connection.request("GET", parts.path or "/")
            drained = json.loads(connection.getresponse().read())["drained"]
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            raise DrainError(f"og-health at {self._url}: {error!r}. Is og-health.service running?") from error
        finally:
            connection.close()
        return {self._name} if drained else set()

    def write(self, steps: Sequence[Step]) -> None:
        """Tell the daemon, and wait until it says so itself."""
        (step,) = steps
        name, drain = step.name, step.drain
        program = self._module.params["health_program"]
        code, out, err = self._module.run_command([program, "--drain" if drain else "--undrain"])
        if code:
            raise DrainError(f"{program}: {(err or out).strip()}")
        deadline = time.monotonic() + CONFIRM_S
        while (name in self.read()) is not drain:
            if time.monotonic() > deadline:
                raise DrainError(f"og-health does not follow: drained is still {not drain} after {CONFIRM_S:.0f} s")
            time.sleep(0.2)

    def check(self, steps: Sequence[Step]) -> None:
        """Refuse what cannot be done."""
        program = self._module.params["health_program"]
        if steps and not os.access(program, os.X_OK):
            raise DrainError(f"health_program: {program} does not exist or is no program; nothing was changed")


class Both:
    """All that may drain a router, for bringing it back: its mark in Consul and its health daemon."""

    def __init__(self, *marks: Marks | HealthDaemon) -> None:
        self._marks = marks

    def read(self) -> set[str]:
        """Return who is drained by any of them."""
        return set().union(*(mark.read() for mark in self._marks))

    def write(self, steps: Sequence[Step]) -> None:
        """Tell those that differ."""
        told_before = ""
        for mark in self._marks:
            try:
                if differing := _differing(mark, steps):
                    mark.write(differing)
                    told_before = f"; done before, by {mark.place}: {', '.join(map(str, differing))}"
            except (DrainError, KvError) as error:
                raise DrainError(f"{error}{told_before}") from error

    def check(self, steps: Sequence[Step]) -> None:
        """Refuse what cannot be done."""
        for mark in self._marks:
            mark.check(_differing(mark, steps))


def _differing(mark: Marks | HealthDaemon, steps: Sequence[Step]) -> list[Step]:
    there = mark.read()
    return [step for step in steps if (step.name in there) is not step.drain]


def marks_of(module: AnsibleModule, *, drain: bool) -> Marks | HealthDaemon | Both:
    """Return what is read and written for a member."""
    kind = module.params["kind"]
    if kind == HASHER:
        return HealthDaemon(module)
    marks = Marks(module.params)
    return Both(HealthDaemon(module), marks) if kind == ROUTER and not drain else marks


def looker(parameters: dict[str, Any]) -> Callable[[], Load]:
    """Return a function that says what is still going on. Raises DrainError when called."""
    kind = parameters["kind"]
    if kind == AGENT:
        return lambda: read_agent(Path(parameters["agent_status"]))
    role = ROUTER if kind == SITE else kind
    telemetry = Telemetry(parameters["telemetry_socket"] or default_path(role))
    if kind == SITE:
        return lambda: member_load(read_members(telemetry), parameters["members"])
    last: dict[str, int] = query(telemetry, "/og/counters")

    def packets() -> Load:
        nonlocal last
        time.sleep(SAMPLE_S)
        before, last = last, query(telemetry, "/og/counters")
        return packet_load(kind, before, last)

    return packets


def read_agent(file: Path) -> Load:
    """Return an application host's open connections."""
    try:
        status = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DrainError(f"{file}: {error}. Is og-agent running?") from error
    try:
        return agent_load(status, time.time())
    except DrainError as error:
        raise DrainError(f"{file}: {error}") from error


def query(telemetry: Telemetry, command: str) -> dict[str, Any]:
    """Ask the data plane one thing."""
    try:
        answer: dict[str, Any] = telemetry.query(command)
    except TelemetryError as error:
        raise DrainError(f"data plane: {error}") from error
    return answer


def read_members(telemetry: Telemetry) -> dict[str, Any]:
    """Return all members a router probes; the data plane tells 32 at a time."""
    members: dict[str, Any] = {}
    while page := query(telemetry, f"/og/members,{len(members)}"):
        if set(page) <= set(members):
            break
        members |= page
    return members


def run(module: AnsibleModule) -> dict[str, Any]:
    """Read, plan, and unless in check mode write and wait; return the module's result."""
    parameters = module.params
    drain = parameters["state"] == "drained"
    names = names_of(parameters["kind"], parameters["name"], parameters["members"])
    for name in [*names, parameters["site"]]:
        check_name(name)
    for option in ("timeout_s", "settle_s"):
        check_seconds(option, parameters[option])
    check_host(parameters)
    look, load = first_look(parameters) if drain else (None, None)
    marks = marks_of(module, drain=drain)
    before = marks.read()
    steps = plan(names, before, drain=drain)
    result: dict[str, Any] = {
        "changed": bool(steps),
        "actions": [str(step) for step in steps],
        "diff": {
            "before": {"drained": sorted(before & set(names))},
            "after": {"drained": sorted(apply(steps, before) & set(names))},
        },
    }
    marks.check(steps)
    if not module.check_mode:
        if steps:
            marks.write(steps)
        if steps and marks.read() & set(names) != (set(names) if drain else set()):
            raise DrainError("somebody else has changed what was just written; run it again")
        if look and parameters["timeout_s"]:
            return result | wait_until_idle(module, look, {name: result[name] for name in ("changed", "actions")})
    if load is not None:
        result |= {"idle": not load.left, "left": load.left, "unit": load.unit}
    return result


def check_host(parameters: dict[str, Any]) -> None:
    """Refuse the name of another host: what is watched, and a hasher's drain, are this host's."""
    if parameters["kind"] == SITE:
        return
    here = Kv(parameters["consul_url"], parameters["site"], parameters["consul_token"]).node_name()
    if here is not None and here != parameters["name"]:
        raise DrainError(f"name: {parameters['name']} is not this host, which Consul knows as {here}; run it there")


def first_look(parameters: dict[str, Any]) -> tuple[Callable[[], Load] | None, Load | None]:
    """Return how to watch and the first load: who could not be watched is not drained in the first place.

    Not so the servers of a site when nobody waits here: a router that does not know one of them must not keep the rest.
    """
    for left in reversed(range(LOOKS)):
        try:
            look = looker(parameters)
            return look, look()
        except DrainError:
            if parameters["kind"] == SITE and not parameters["timeout_s"]:
                return None, None
            if not left:
                raise
            time.sleep(SAMPLE_S)  # one lost answer says nothing
    raise AssertionError


def wait_until_idle(module: AnsibleModule, look: Callable[[], Load], done: dict[str, Any]) -> dict[str, Any]:
    """Wait; fail when time is up, unless that is no error. A failure tells what was `done` before, too."""
    name, timeout_s = module.params["name"], module.params["timeout_s"]
    watch = Watch(module.params["settle_s"], timeout_s)
    try:
        idle = wait(watch, look, time.monotonic, time.sleep)
    except DrainError as error:
        msg = f"{name} is drained, but whether it is idle cannot be seen any more: {error}"
        module.fail_json(msg=msg, progress=watch.progress, **done)
    left = watch.last or Load(0, "")
    result = {"idle": idle, "left": left.left, "unit": left.unit, "progress": watch.progress}
    if not idle and module.params["fail_on_timeout"]:
        module.fail_json(
            msg=f"{name} is drained, but not idle after {timeout_s} s: {left}. It gets no new flows; "
            "raise timeout_s, or end the drain with state: active",
            **result,
            **done,
        )
    return result


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        {
            "name": {"type": "str", "required": True},
            "kind": {"type": "str", "choices": list(KINDS), "required": True},
            "site": {"type": "str", "required": True},
            "members": {"type": "list", "elements": "str"},
            "state": {"type": "str", "choices": ["drained", "active"], "default": "drained"},
            "reason": {"type": "str", "default": "og_drain"},
            "timeout_s": {"type": "int", "default": 300},
            "settle_s": {"type": "int", "default": 5},
            "fail_on_timeout": {"type": "bool", "default": True},
            "consul_url": {"type": "str", "default": "http://127.0.0.1:8500"},
            "consul_token": {"type": "str", "no_log": True},
            "health_program": {"type": "path", "default": "/opt/og/current/bin/og-health"},
            "health_url": {"type": "str", "default": "http://127.0.0.1:9441/health"},
            "agent_status": {"type": "path", "default": "/run/og/agent.status.json"},
            "telemetry_socket": {"type": "path"},
        },
        supports_check_mode=True,
        required_if=[("kind", SITE, ("members",))],
    )
    try:
        result = run(module)
    except (DrainError, KvError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
