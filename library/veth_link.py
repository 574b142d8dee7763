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
author:
  - The Occam Gateway authors
requirements:
  - pyroute2 >= 0.9 on the host that runs the module
  - the docker command, for endpoints given by O(links[].a.container)
attributes:
  check_mode:
    support: full
    description: Says what would be made. A container that is not there yet counts as an empty namespace.
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
            description: Interface name, at most 15 characters.
            type: str
            required: true
          container:
            description: A running Docker container by name. Without it and without C(netns) the end is on the host.
            type: str
          netns:
            description: A named network namespace, as C(ip netns) makes it.
            type: str
          addresses:
            description: IPv6 addresses with prefix length.
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
  description: The steps taken, or in check mode the steps that would be taken.
  returned: always
  type: list
  elements: str
  sample: ["create oglab-rtr-w1:to-ogh_w1 -- oglab-ogh-w1:fab0"]
"""

import json
import os
from ipaddress import IPv6Interface
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.og_veth import (
    Action,
    Configure,
    Create,
    Delete,
    Endpoint,
    Link,
    LinkError,
    apply,
    check,
    describe,
    plan,
    plan_absent,
)

try:
    from ansible.module_utils.og_netns import execute, observe
    from pyroute2.netlink.exceptions import NetlinkError

    PYROUTE2_ERROR = None
except ImportError as error:
    PYROUTE2_ERROR = str(error)

HOST = "host"
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


def to_endpoint(end: dict[str, Any]) -> Endpoint:
    """Return an endpoint as given to the module; its namespace is a container's name, `netns:NAME` or `host`."""
    space = end["container"] or (f"netns:{end['netns']}" if end["netns"] else HOST)
    try:
        addresses = tuple(str(IPv6Interface(address)) for address in end["addresses"])
    except ValueError as error:
        raise LinkError(f"{space}:{end['name']}: {error}") from error
    return Endpoint(space, end["name"], addresses)


def to_links(parameters: list[dict[str, Any]]) -> list[Link]:
    """Return the links as given to the module."""
    return [Link(to_endpoint(item["a"]), to_endpoint(item["b"]), item["mtu"], item["offloads"]) for item in parameters]


def container_paths(module: AnsibleModule, names: list[str]) -> dict[str, Path]:
    """Return the namespace of every named container that runs."""
    if not names:
        return {}
    _, out, err = module.run_command(["docker", "inspect", "--type", "container", *names])
    if not out.strip():
        module.fail_json(msg=f"docker inspect says nothing about the containers: {err.strip()}")
    pids = {item["Name"].lstrip("/"): item["State"]["Pid"] for item in json.loads(out)}
    return {name: Path(f"/proc/{pid}/ns/net") for name, pid in pids.items() if pid}


def open_spaces(module: AnsibleModule, names: set[str]) -> dict[str, int]:
    """Open every namespace there is; one that should be there and is not ends the module."""
    named = {name: Path("/run/netns") / name.removeprefix("netns:") for name in names if name.startswith("netns:")}
    paths = {HOST: Path("/proc/self/ns/net")} | named
    paths |= container_paths(module, sorted(names - set(named) - {HOST}))
    paths = {name: path for name, path in paths.items() if name in names and path.exists()}
    missing = sorted(names - set(paths))
    if missing and module.params["state"] == "present" and not module.check_mode:
        module.fail_json(
            msg=f"no such namespace or running container: {', '.join(missing)}. "
            "Start the containers first; nothing was changed."
        )
    return {name: os.open(path, os.O_RDONLY | os.O_CLOEXEC) for name, path in paths.items()}


def say(action: Action) -> str:
    """Return one step in words."""
    match action:
        case Delete(space, name):
            return f"delete {space}:{name}"
        case Create(link):
            return f"create {link}"
        case Configure(space, name, mtu, up, offloads_off, addresses):
            words = [f"mtu {mtu}"] if mtu is not None else []
            words += ["up"] if up else []
            words += [f"{offload} off" for offload in offloads_off]
            words += [f"address {address}" for address in addresses]
            return f"set {space}:{name} {', '.join(words)}"
    raise AssertionError(action)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Observe, plan, and unless in check mode carry out; return the module's result."""
    links = to_links(module.params["links"])
    check(links)
    wanted: dict[str, set[str]] = {}
    partners: dict[str, set[str]] = {}
    for link in links:
        for end, other in ((link.a, link.b), (link.b, link.a)):
            wanted.setdefault(end.space, set()).add(end.name)
            partners.setdefault(end.space, set()).add(other.space)
    spaces = open_spaces(module, set(wanted))
    there = {name: others & set(spaces) - {name} for name, others in partners.items()}
    world = observe(spaces, wanted, there)
    actions = plan(links, world) if module.params["state"] == "present" else plan_absent(links, world)
    before = describe(links, world)
    if not module.check_mode:
        for action in actions:
            try:
                execute(action, spaces)
            except (NetlinkError, OSError) as error:
                module.fail_json(msg=f"{say(action)}: {error}", actions=[say(item) for item in actions])
    after = describe(links, apply(actions, world))
    return {
        "changed": bool(actions),
        "actions": [say(action) for action in actions],
        "diff": {"before": before, "after": after},
    }


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    if PYROUTE2_ERROR is not None:
        module.fail_json(msg=f"veth_link needs pyroute2 0.9 or later on this host: {PYROUTE2_ERROR}")
    try:
        module.exit_json(**run(module))
    except LinkError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
