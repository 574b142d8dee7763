#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: read SRv6 routes of the Linux kernel."""

from __future__ import annotations

DOCUMENTATION = r"""
module: srv6_route_info
short_description: Read SRv6 routes of the Linux kernel
version_added: "1.0.0"
description:
  - Returns the routes that encapsulate into SRv6 or act on SIDs, in the words of M(srv6_route), with their counters.
  - With O(protocol) all routes of that protocol, of whatever kind.
author:
  - The Occam Gateway authors
requirements:
  - pyroute2 >= 0.7 on the host
attributes:
  check_mode:
    support: full
    description: Changes nothing in either mode.
  diff_mode:
    support: none
    description: Changes nothing.
  platform:
    support: full
    platforms: linux
    description: Any user may read routes; with O(netns) CAP_SYS_ADMIN is needed.
options:
  protocol:
    description: Only routes of this protocol.
    type: int
  table:
    description: Only routes of this table.
    type: int
  netns:
    description: A named network namespace, as C(ip netns) makes it.
    type: str
seealso:
  - module: srv6_route
"""

EXAMPLES = r"""
- name: Read what srv6_route has made
  srv6_route_info:
    protocol: 83
  register: srv6

- name: Refuse a host whose SIDs drop packets
  ansible.builtin.assert:
    that: srv6.routes | map(attribute='counted', default={}) | map(attribute='errors', default=0) | sum == 0
"""

RETURN = r"""
routes:
  description: The routes.
  returned: success
  type: list
  elements: dict
  contains:
    prefix: {description: Destination or SIDs, type: str, sample: "5f00:1:31:10::/80"}
    table: {description: Routing table, type: int, sample: 254}
    metric: {description: Metric, type: int, sample: 1024}
    type: {description: Kind of route, type: str, sample: unicast}
    device:
      description: Device.
      type: str
      returned: for unicast routes, but for some of several next hops
      sample: fab0
    gateway: {description: Next hop, type: str, returned: where there is one}
    encap: {description: "As O(srv6_route#module:encap)", type: dict, returned: for C(encap seg6)}
    seg6local: {description: "As O(srv6_route#module:seg6local)", type: dict, returned: for C(encap seg6local)}
    other:
      description:
        - Kind and content of a tunnel in a form that M(srv6_route) never makes; C(lwtunnel 0) for several next hops.
      type: str
      returned: for such a route
    protocol: {description: Route protocol, type: int, sample: 83}
    hops: {description: Number of next hops, type: int, returned: for multipath routes}
    selector:
      description: What chooses its packets besides the destination, C(from PREFIX) or C(tos NUMBER).
      type: str
      returned: where there is such a thing
    beyond:
      description: Names of what else it has and the options of M(srv6_route) have no word for, such as C(expires).
      type: list
      elements: str
      returned: where there is such a thing
    counted:
      description: Packets, bytes and errors so far.
      type: dict
      returned: with seg6local.counters
      sample: {packets: 12, bytes: 1440, errors: 0}
errno:
  description: The kernel's error number.
  returned: when the kernel's routes cannot be read
  type: int
"""

import traceback
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.og_srv6.plan import Observed, word
from ansible.module_utils.og_srv6.route import Encap, Local, Opaque

try:
    from ansible.module_utils.og_setns import inside_named
    from ansible.module_utils.og_srv6 import codec
    from ansible.module_utils.og_srv6.kernel import KernelError, observe_counters
except ImportError:
    MISSING: str | None = traceback.format_exc()
else:
    MISSING = None


def is_srv6(found: Observed) -> bool:
    """Tell whether the route has to do with SRv6."""
    body = found.route.body
    return isinstance(body, Encap | Local) or (isinstance(body, Opaque) and body.kind in (codec.SEG6, codec.SEG6_LOCAL))


def select(found: Observed, protocol: int | None, table: int | None) -> bool:
    """Tell whether the route was asked for."""
    ours = is_srv6(found) if protocol is None else found.protocol == protocol
    return ours and table in (None, found.route.table)


def run(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the routes in words."""
    with inside_named(parameters["netns"]) as netlink:
        routes = observe_counters(netlink)
    return [
        word(found) | ({"counted": counted} if counted else {})
        for found, counted in sorted(routes, key=lambda item: item[0].route.key)
        if select(found, parameters["protocol"], parameters["table"])
    ]


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        {"protocol": {"type": "int"}, "table": {"type": "int"}, "netns": {"type": "str"}}, supports_check_mode=True
    )
    if MISSING is not None:
        module.fail_json(msg=missing_required_lib("pyroute2 (0.7 or later)"), exception=MISSING)
    try:
        routes = run(module.params)
    except KernelError as error:
        module.fail_json(msg=str(error), errno=error.number)
    except OSError as error:
        module.fail_json(msg=f"network namespace {module.params['netns'] or 'of this host'}: {error.strerror}")
    module.exit_json(changed=False, routes=routes)


if __name__ == "__main__":
    main()
