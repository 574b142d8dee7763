#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: virtual cables between network namespaces."""

from __future__ import annotations

DOCUMENTATION = r"""
module: veth_link
short_description: Wire network namespaces with veth pairs
version_added: "1.0.0"
description:
  - Makes, keeps or removes veth pairs between containers, named network namespaces and the host.
  - All links go into one call, so that a whole lab is wired by one task.
  - A container that was restarted has lost its interfaces; the next run gives them back.
  - A veth that bears a wanted name but leads elsewhere is replaced. Any other device of that name is an error.
  - Addresses are added and never removed.
  - Reads the interfaces again afterwards, and fails if the kernel has something else than was asked for.
  - Where the kernel refuses a step, the ones before it are taken back, but for a veth that was in the way and is gone.
author:
  - The Occam Gateway authors
requirements:
  - pyroute2 >= 0.9 on the host that runs the module
  - the docker command, for endpoints given by O(links[].a.container)
attributes:
  check_mode:
    support: full
    description: Says what would be made. A container or namespace that is not there yet counts as an empty one.
  diff_mode:
    support: full
    description: Shows the state of every named interface.
  platform:
    support: full
    platforms: linux
    description: Needs CAP_SYS_ADMIN and CAP_NET_ADMIN in the namespaces.
options:
  state:
    description: Whether the links exist.
    type: str
    choices: [present, absent]
    default: present
  links:
    description: The links.
    type: list
    elements: dict
    required: true
    suboptions:
      a: &endpoint
        description: One end.
        type: dict
        required: true
        suboptions:
          name:
            description:
              - Interface name of at most 15 bytes, without spaces, C(/), C(:) and C(%), and without C(-) at the start.
            type: str
            required: true
          container:
            description: A running Docker container by name. Without it and without C(netns) the end is on the host.
            type: str
          netns:
            description: A named network namespace, as C(ip netns) makes it.
            type: str
          addresses:
            description: Unicast IPv6 addresses with prefix length and without a zone.
            type: list
            elements: str
            default: []
      b: *endpoint
      mtu:
        description: MTU of both ends, in bytes.
        type: int
        default: 1500
      offloads:
        description:
          - Whether checksum and segmentation may be left to the device.
          - V(false) switches tx, tso, gso and gro off at both ends, so that every frame on the cable is complete.
        type: bool
        default: false
"""

EXAMPLES = r"""
- name: Wire two containers
  veth_link:
    links:
      - a: {container: oglab-rtr-w1, name: to-ogh_w1, addresses: ["2001:db8:f001:11::1/64"]}
        b: {container: oglab-ogh-w1, name: fab0, addresses: ["2001:db8:f001:11::2/64"]}
        mtu: 2000

- name: Remove a cable between two namespaces
  veth_link:
    state: absent
    links:
      - a: {netns: left, name: eth0}
        b: {netns: right, name: eth0}
"""

RETURN = r"""
actions:
  description:
    - The steps taken, or in check mode the steps that would be taken.
    - When the kernel refuses a step, those done before it, taken back since or not.
  returned: success, and when something fails after the first step was begun
  type: list
  elements: str
  sample: ["create oglab-rtr-w1:to-ogh_w1 -- oglab-ogh-w1:fab0"]
left:
  description: Interfaces that are not as they were before the run, as the kernel has them.
  returned: when the kernel refuses a step, unless they cannot be read
  type: list
  elements: str
  sample: ["netns:left:eth0: was {'peer': 'unknown', 'mtu': 1500, 'up': True, 'addresses': []}, is absent"]
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.og_veth import (
    HOST,
    NETNS,
    Action,
    Endpoint,
    Link,
    LinkError,
    World,
    apply,
    check,
    describe,
    differences,
    parse_addresses,
    parse_space,
    plan,
    plan_absent,
    say,
)

try:
    from ansible.module_utils.og_netns import KernelError, StepError, carry_out, observe

    PYROUTE2_ERROR = None
except ImportError as error:
    PYROUTE2_ERROR = str(error)

NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)
CLONE_NEWNET = 0x40000000

Planner = Callable[[Sequence[Link], World], list[Action]]
Observer = Callable[[], dict[str, object]]

ENDPOINT = {
    "type": "dict",
    "required": True,
    "mutually_exclusive": [("container", "netns")],
    "options": {
        "name": {"type": "str", "required": True},
        "container": {"type": "str"},
        "netns": {"type": "str"},
        "addresses": {"type": "list", "elements": "str", "default": []},
    },
}
ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "links": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "a": ENDPOINT,
            "b": ENDPOINT,
            "mtu": {"type": "int", "default": 1500},
            "offloads": {"type": "bool", "default": False},
        },
    },
}


def to_endpoint(end: dict[str, Any], place: str) -> Endpoint:
    """Return an endpoint as given to the module at `place`. Raises LinkError."""
    space = parse_space(end["container"], end["netns"], place)
    return Endpoint(space, end["name"], parse_addresses(end["addresses"], place))


def to_links(parameters: list[dict[str, Any]]) -> list[Link]:
    """Return the links as given to the module. Raises LinkError."""
    links = []
    for at, item in enumerate(parameters):
        a, b = (to_endpoint(item[letter], f"links[{at}].{letter}") for letter in "ab")
        links.append(Link(a, b, item["mtu"], item["offloads"]))
    check(links)
    return links


def container_paths(module: AnsibleModule, names: list[str]) -> dict[str, Path]:
    """Return the namespace of every named container that runs."""
    if not names:
        return {}
    code, out, err = module.run_command(["docker", "inspect", "--type", "container", *names])
    # It prints what it has found, if only []. It ends with 1 also for those that are not there, and names each of them.
    trouble = [line for line in err.splitlines() if line.strip() and "no such container" not in line.lower()]
    if not out.strip() or (code and trouble):
        module.fail_json(msg=f"docker inspect cannot be asked about the containers: {' '.join(trouble) or 'no answer'}")
    try:
        pids = {item["Name"].lstrip("/"): item["State"]["Pid"] for item in json.loads(out)}
    except (ValueError, KeyError, TypeError) as error:
        module.fail_json(msg=f"docker inspect does not answer with a list of containers: {error!r}")
    return {name: Path(f"/proc/{pid}/ns/net") for name, pid in pids.items() if pid}


def open_space(name: str, path: Path) -> int | None:
    """Return a descriptor of a namespace, None where there is none. A process may end at any time, and its with it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError as error:
        raise LinkError(f"{name}: {path}: {error.strerror}") from error
    with contextlib.suppress(OSError):  # ENOTTY: a file of another sort
        if fcntl.ioctl(descriptor, NS_GET_NSTYPE) == CLONE_NEWNET:
            return descriptor
    raise LinkError(f"{name}: {path} is not a network namespace")


def open_spaces(module: AnsibleModule, names: set[str]) -> dict[str, int]:
    """Open every namespace there is; one that should be there and is not ends the module."""
    named = {name: Path("/run/netns") / name.removeprefix(NETNS) for name in names if name.startswith(NETNS)}
    paths = {HOST: Path("/proc/self/ns/net")} | named
    paths |= container_paths(module, sorted(names - set(named) - {HOST}))
    opened = {name: open_space(name, path) for name, path in paths.items() if name in names}
    spaces = {name: descriptor for name, descriptor in opened.items() if descriptor is not None}
    missing = sorted(names - set(spaces))
    if missing and module.params["state"] == "present" and not module.check_mode:
        module.fail_json(
            msg=f"no such namespace or running container: {', '.join(missing)}. "
            "Start the containers first; nothing was changed."
        )
    return spaces


def verify(links: Sequence[Link], found: World, planner: Planner) -> None:
    """Raise LinkError when there is something to do after everything was done: the plan is the law."""
    rest = planner(links, found)
    if rest:
        raise LinkError(f"the kernel still lacks: {'; '.join(map(say, rest))}")


def tell_failure(module: AnsibleModule, error: StepError, before: dict[str, object], read: Observer) -> None:
    """End the module: which step failed, which were done, and how the world differs from that before the run."""
    actions = [say(action) for action in error.done]
    try:
        left = differences(before, read())
    except KernelError as blind:
        module.fail_json(msg=f"{error}; what is left cannot be read: {blind}", changed=True, actions=actions)
    if left:
        state = f"not taken back: {'; '.join(left)}"
    else:
        state = "the steps before it were taken back" if actions else "nothing was changed"
    module.fail_json(msg=f"{error}; {state}", changed=bool(left), actions=actions, left=left)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Observe, plan, and unless in check mode carry out; return the module's result."""
    links = to_links(module.params["links"])
    planner = plan if module.params["state"] == "present" else plan_absent
    wanted: dict[str, set[str]] = {}
    partners: dict[str, set[str]] = {}
    for link in links:
        for end, other in ((link.a, link.b), (link.b, link.a)):
            wanted.setdefault(end.space, set()).add(end.name)
            partners.setdefault(end.space, set()).add(other.space)
    spaces = open_spaces(module, set(wanted))
    there = {name: others & set(spaces) - {name} for name, others in partners.items()}
    world = observe(spaces, wanted, there)
    actions = planner(links, world)
    before = describe(links, world)
    said = [say(action) for action in actions]
    if actions and not module.check_mode:
        try:
            carry_out(actions, world, spaces)
        except StepError as error:
            tell_failure(module, error, before, lambda: describe(links, observe(spaces, wanted, there)))
        try:
            verify(links, observe(spaces, wanted, there), planner)
        except (LinkError, KernelError) as error:
            module.fail_json(msg=f"every step was done, but {error}", changed=True, actions=said)
    after = describe(links, apply(actions, world))
    return {"changed": bool(actions), "actions": said, "diff": {"before": before, "after": after}}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    if PYROUTE2_ERROR is not None:
        module.fail_json(msg=f"veth_link needs pyroute2 0.9 or later on this host: {PYROUTE2_ERROR}")
    try:
        result = run(module)
    except LinkError as error:
        module.fail_json(msg=str(error))
    except KernelError as error:
        module.fail_json(msg=f"{error}; nothing was changed")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
