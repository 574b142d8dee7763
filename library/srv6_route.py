#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: SRv6 routes of the Linux kernel."""

from __future__ import annotations

DOCUMENTATION = r"""
module: srv6_route
short_description: Manage SRv6 routes of the Linux kernel
version_added: "1.0.0"
description:
  - Adds, changes and removes routes that encapsulate into SRv6 (C(encap seg6)), routes for SIDs of this host
    (C(encap seg6local)), and the local and discard routes that belong to a locator.
  - A route is known by prefix, table and metric. What the module makes bears a route protocol; it changes and removes
    only routes of this protocol. One of another protocol at the same place is an error.
  - All routes go into one call. Where the kernel refuses one, the steps before it are taken back.
  - Reads the routes again afterwards, and fails if the kernel has something else than was asked for.
  - Routes do not outlive a reboot or their device. C(og-srv6) of this project applies the same list at boot.
author:
  - The Occam Gateway authors
requirements:
  - pyroute2 >= 0.7 on the host
  - a kernel with CONFIG_IPV6_SEG6_LWTUNNEL, for an HMAC also CONFIG_IPV6_SEG6_HMAC
attributes:
  check_mode:
    support: full
    description: Reads and plans as in a real run, and changes nothing.
  diff_mode:
    support: full
    description: Shows the routes of the protocol, and what stands at the wanted places, before and after.
  platform:
    support: full
    platforms: linux
    description: Needs CAP_NET_ADMIN; with O(netns) also CAP_SYS_ADMIN.
options:
  state:
    description: Whether the routes exist. For V(absent) only prefix, table and metric count.
    type: str
    choices: [present, absent]
    default: present
  routes:
    description: The routes. May be empty with O(purge).
    type: list
    elements: dict
    suboptions:
      prefix:
        description:
          - Destination, or the SIDs. IPv6 or IPv4, with O(routes[].seg6local) and with V(inline) IPv6 alone.
        type: str
        required: true
      table:
        description: Routing table by number.
        type: int
        default: 254
      metric:
        description: Metric; of two routes for one prefix the lower one is used.
        type: int
        default: 1024
      type:
        description:
          - V(unicast) needs either O(routes[].encap) or O(routes[].seg6local).
          - V(local) delivers to this host. The others end packets here, silently or with an ICMP error.
        type: str
        choices: [unicast, local, blackhole, unreachable, prohibit]
        default: unicast
      device: &device
        description:
          - Device of a unicast route. With O(routes[].seg6local) any but lo will do, packets do not leave through it.
        type: str
      gateway: &gateway
        description: Next hop. Without one the first segment must be on the link, or the device point-to-point.
        type: str
      encap: &encap
        description: Put packets for the prefix on a path.
        type: dict
        suboptions:
          mode:
            description:
              - V(encap) is H.Encaps of RFC 8986, V(encap.red) leaves the first segment out of the list (H.Encaps.Red).
              - V(inline) inserts the header into the packet, which RFC 8200 allows only at its source.
            type: str
            choices: [inline, encap, encap.red]
            default: encap
          segments:
            description: SIDs in the order of travel, at most 16.
            type: list
            elements: str
            required: true
          hmac_key_id:
            description: Key of the HMAC TLV (RFC 8754 section 2.1.2), set with C(ip sr hmac set). 0 is none.
            type: int
            default: 0
      seg6local: &seg6local
        description: What this host does with packets for these SIDs.
        type: dict
        suboptions:
          action:
            description:
              - Behaviour by its name in RFC 8986. End.X and End.DX6 need O(routes[].seg6local.nh6), End.DX4
                O(routes[].seg6local.nh4), End.T O(routes[].seg6local.table), End.DT6 a table or a VRF's table, End.DT4
                and End.DT46 O(routes[].seg6local.vrf_table), End.B6.Encaps O(routes[].seg6local.segments).
              - End.DT4 and End.DT46 need a VRF device (CONFIG_NET_VRF) and C(net.vrf.strict_mode=1).
            type: str
            required: true
            choices: [End, End.X, End.T, End.DX6, End.DX4, End.DT6, End.DT4, End.B6.Encaps, End.DT46]
          nh6:
            description: IPv6 next hop. With End.DX6 V(::) is the inner packet's own destination, if not on this host.
            type: str
          nh4:
            description: IPv4 next hop.
            type: str
          table:
            description: Table in which the destination is looked up. With End.DT6 that may be on this host.
            type: int
          vrf_table:
            description: Table of a VRF.
            type: int
          segments:
            description: SIDs of End.B6.Encaps in the order of travel, at most 16.
            type: list
            elements: str
          hmac_key_id:
            description: Key of the HMAC TLV of End.B6.Encaps. 0 is none.
            type: int
            default: 0
          flavors:
            description: Flavors of End and End.X, as far as the kernel has them.
            type: list
            elements: str
            choices: [psp, next-csid]
            default: []
          counters:
            description: Count packets, bytes and errors; M(srv6_route_info) shows them.
            type: bool
            default: false
  prefix:
    description: A single route, instead of O(routes), with the options below, which O(routes) excludes.
    type: str
  table:
    description: Routing table by number, V(254) unless told otherwise.
    type: int
  metric:
    description: Metric, V(1024) unless told otherwise; of two routes for one prefix the lower one is used.
    type: int
  type:
    description: As O(routes[].type); V(unicast) unless told otherwise.
    type: str
    choices: [unicast, local, blackhole, unreachable, prohibit]
  device: *device
  gateway: *gateway
  encap: *encap
  seg6local: *seg6local
  protocol:
    description:
      - Route protocol of our routes. 0 to 4 belong to the kernel and to people and are refused.
      - With O(purge), those are refused, too, that C(linux/rtnetlink.h) gives to other programs - 8 to 18, 42, 84, 99,
        186 to 189 and 192.
    type: int
    default: 83
  purge:
    description:
      - Remove every other route of O(protocol), in all tables. With V(absent) none is left.
    type: bool
    default: false
  netns:
    description: A named network namespace, as C(ip netns) makes it.
    type: str
seealso:
  - module: srv6_route_info
  - name: RFC 8986
    description: SRv6 Network Programming.
    link: https://www.rfc-editor.org/rfc/rfc8986
"""

EXAMPLES = r"""
- name: Steer a prefix through two nodes
  srv6_route:
    prefix: 2001:db8:7::/48
    device: fab0
    gateway: 2001:db8:f001:31::1
    encap:
      mode: encap.red
      segments: ["5f00:1:21::", "5f00:2:21::"]

- name: The SIDs of this host, and nothing else of ours
  srv6_route:
    purge: true
    routes:
      - {prefix: "5f00:1:31::/64", type: blackhole}
      - prefix: 5f00:1:31:10::/80
        device: fab0
        seg6local: {action: End.DT6, table: 255, counters: true}

- name: Remove all of it
  srv6_route:
    state: absent
    routes: []
    purge: true
"""

RETURN = r"""
actions:
  description: The steps taken, or in check mode the steps that would be taken.
  returned: success, and when every step was done and the result is not what was planned
  type: list
  elements: str
  sample: ["add 5f00:1:31:10::/80 table 254 metric 1024"]
routes:
  description:
    - The routes of O(protocol) afterwards, in the words of the options.
    - With O(purge) these are the wanted ones. Without, there may be others, which the module would not make.
  returned: success
  type: list
  elements: dict
  contains:
    prefix: {description: Destination or SIDs, type: str}
    table: {description: Routing table, type: int}
    metric: {description: Metric, type: int}
    type: {description: Kind of route, type: str}
    device: {description: Device, type: str, returned: "for unicast routes, but for some of several next hops"}
    gateway: {description: Next hop, type: str, returned: where there is one}
    encap: {description: "As O(encap)", type: dict, returned: for C(encap seg6)}
    seg6local: {description: "As O(seg6local)", type: dict, returned: for C(encap seg6local)}
    protocol: {description: Route protocol, type: int}
    other:
      description:
        - Kind and content of a tunnel in a form that the module never makes; C(lwtunnel 0) for several next hops.
      type: str
      returned: for such a route
    hops: {description: Number of next hops, type: int, returned: for multipath routes}
    selector:
      description: What chooses its packets besides the destination, C(from PREFIX) or C(tos NUMBER).
      type: str
      returned: where there is such a thing
    beyond:
      description: Names of what else it has and the options have no word for, such as C(metrics) or C(expires).
      type: list
      elements: str
      returned: where there is such a thing
  sample:
    - prefix: 5f00:1:31:10::/80
      table: 254
      metric: 1024
      type: unicast
      device: fab0
      seg6local: {action: End.DT6, table: 255}
      protocol: 83
errno:
  description: The kernel's error number.
  returned: when the kernel refuses a step, or its routes cannot be read before the first
  type: int
not_taken_back:
  description: Steps that were done and could not be undone.
  returned: as RV(errno)
  type: list
  elements: str
"""

import traceback
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.og_srv6.plan import apply, plan, plan_absent, say, show
from ansible.module_utils.og_srv6.route import (
    ACTIONS,
    DEFAULT_METRIC,
    FLAVORS,
    MAIN_TABLE,
    MODES,
    PROTOCOL,
    TYPES,
    UNICAST,
    Route,
    RouteError,
    check_protocol,
    parse,
    parse_key,
)

try:
    from ansible.module_utils.og_setns import inside_named
    from ansible.module_utils.og_srv6.kernel import KernelError, UnverifiedError, bring, missing_devices, observe
except ImportError:
    MISSING: str | None = traceback.format_exc()
else:
    MISSING = None

ENCAP = {
    "mode": {"type": "str", "choices": list(MODES), "default": "encap"},
    "segments": {"type": "list", "elements": "str", "required": True},
    "hmac_key_id": {"type": "int", "default": 0, "no_log": False},
}
SEG6LOCAL = {
    "action": {"type": "str", "required": True, "choices": list(ACTIONS)},
    "nh6": {"type": "str"},
    "nh4": {"type": "str"},
    "table": {"type": "int"},
    "vrf_table": {"type": "int"},
    "segments": {"type": "list", "elements": "str"},
    "hmac_key_id": {"type": "int", "default": 0, "no_log": False},
    "flavors": {"type": "list", "elements": "str", "choices": list(FLAVORS), "default": []},
    "counters": {"type": "bool", "default": False},
}
ROUTE = {
    "table": {"type": "int", "default": MAIN_TABLE},
    "metric": {"type": "int", "default": DEFAULT_METRIC},
    "type": {"type": "str", "choices": list(TYPES), "default": UNICAST},
    "device": {"type": "str"},
    "gateway": {"type": "str"},
    "encap": {"type": "dict", "options": ENCAP},
    "seg6local": {"type": "dict", "options": SEG6LOCAL},
}
ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "routes": {"type": "list", "elements": "dict", "options": {"prefix": {"type": "str", "required": True}} | ROUTE},
    "prefix": {"type": "str"},
    "protocol": {"type": "int", "default": PROTOCOL},
    "purge": {"type": "bool", "default": False},
    "netns": {"type": "str"},
} | {name: {key: value for key, value in option.items() if key != "default"} for name, option in ROUTE.items()}


def to_routes(parameters: dict[str, Any]) -> list[Route]:
    """Return the routes as given to the module. Raises RouteError."""
    read = parse if parameters["state"] == "present" else parse_key
    if parameters["routes"] is None:
        return [read({name: parameters[name] for name in ("prefix", *ROUTE)})]
    return [read(options, f"routes[{at}]") for at, options in enumerate(parameters["routes"])]


def check(parameters: dict[str, Any]) -> None:
    """Refuse what is wrong apart from the routes. Raises RouteError."""
    check_protocol(parameters["protocol"], purge=parameters["purge"])
    netns = parameters["netns"]
    if netns is not None and (not netns or "/" in netns or netns.startswith(".")):
        raise RouteError(f"netns: {netns!r} is not the name of a network namespace")


def run(module: AnsibleModule) -> dict[str, Any]:
    """Observe, plan, and unless in check mode carry out; return the module's result."""
    parameters, protocol = module.params, module.params["protocol"]
    check(parameters)
    wanted = to_routes(parameters)
    present = parameters["state"] == "present"
    with inside_named(parameters["netns"]) as netlink:
        try:
            observed = observe(netlink)
        except KernelError as error:
            raise KernelError(f"{error}; nothing was changed", error.number) from error
        actions = (plan if present else plan_absent)(wanted, observed, protocol, purge=parameters["purge"])
        lacking = missing_devices(netlink, wanted) if present else []
        if lacking:
            raise RouteError(f"no such device: {', '.join(lacking)}; nothing was changed")
        after = apply(actions, observed, protocol)
        if actions and not module.check_mode:
            try:
                bring(netlink, actions, observed, wanted, protocol)
            except UnverifiedError as error:
                module.fail_json(msg=str(error), changed=True, actions=[say(action) for action in actions])
    return {
        "changed": bool(actions),
        "actions": [say(action) for action in actions],
        "routes": show([], after, protocol),
        "diff": {
            "before": {"routes": show(wanted, observed, protocol)},
            "after": {"routes": show(wanted, after, protocol)},
        },
    }


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        ARGUMENTS,
        supports_check_mode=True,
        required_one_of=[("routes", "prefix")],
        mutually_exclusive=[("routes", name) for name in ("prefix", *ROUTE)],  # so these have no default
    )
    if MISSING is not None:
        module.fail_json(msg=missing_required_lib("pyroute2 (0.7 or later)"), exception=MISSING)
    try:
        result = run(module)
    except RouteError as error:
        module.fail_json(msg=str(error))
    except KernelError as error:
        module.fail_json(msg=str(error), errno=error.number, not_taken_back=error.left)
    except OSError as error:
        module.fail_json(msg=f"network namespace {module.params['netns'] or 'of this host'}: {error.strerror}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
