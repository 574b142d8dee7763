# SPDX-License-Identifier: Apache-2.0
"""The address plan: every address of a site is computed here, from numbers in the inventory.

A block is divided from the left: the site number takes 16 bits of a SID block (RFC 9602), or what is left up to
bit 48 of a link block; the node number takes the next 16 bits; what remains up to bit 64 is zero. Every prefix of a
node is a /64.
    og_sid_block 5f00::/16               site 1, node 0x21  ->  5f00:1:21::/64         (locator, RFC 8986 section 3.1)
    og_fabric_block 2001:db8:f000::/36   site 1, node 0x21  ->  2001:db8:f001:21::/64  (link)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError
from netaddr import AddrFormatError, IPNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

NODE_BITS = 16
SID_SITE_BITS = 16
LINK_SITE_END = 48
PREFIX_BITS = 64
ADDRESS_BITS = 128
FUNCTION_BITS = 16
ARGUMENT_BITS = 48


def _network(name: str, value: object) -> IPNetwork:
    """Return `value` as an IPv6 network without host bits."""
    if not isinstance(value, str):
        raise AnsibleFilterError(f"{name}: not an IPv6 prefix: {value!r}")
    try:
        network = IPNetwork(value, version=6)
    except (AddrFormatError, ValueError) as error:
        raise AnsibleFilterError(f"{name}: not an IPv6 prefix: {value!r}") from error
    if network.ip != network.network:
        raise AnsibleFilterError(f"{name}: bits are set behind the prefix length: {value!r}")
    return network


def _number(name: str, value: object, bits: int, lowest: int = 1) -> int:
    """Return `value` if it is an integer of `lowest` to 2^bits - 1."""
    highest = (1 << bits) - 1
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise AnsibleFilterError(f"{name}: not a number of {lowest:#x} to {highest:#x}: {value!r}")
    return value


def _text(value: int, bits: int) -> str:
    return str(IPNetwork((value, bits), version=6).cidr)


def _site(block: IPNetwork, site_number: object, site_end: int) -> int:
    site_bits = site_end - int(block.prefixlen)
    if site_bits < 1:
        raise AnsibleFilterError(f"block: no room for a site number before bit {site_end}: {str(block)!r}")
    return int(block.first) | _number("site number", site_number, site_bits) << (ADDRESS_BITS - site_end)


def _node_prefix(block: IPNetwork, site_number: object, node: object, site_end: int) -> str:
    site = _site(block, site_number, site_end)
    if site_end + NODE_BITS > PREFIX_BITS:
        raise AnsibleFilterError(f"block: no room for a node number before bit {PREFIX_BITS}: {str(block)!r}")
    shift = ADDRESS_BITS - site_end - NODE_BITS
    return _text(site | _number("node number", node, NODE_BITS) << shift, PREFIX_BITS)


def og_locator(block: object, site_number: object, node: object) -> str:
    """Return a node's SRv6 locator, a /64 of the SID block."""
    network = _network("SID block", block)
    return _node_prefix(network, site_number, node, int(network.prefixlen) + SID_SITE_BITS)


def og_site_prefix(block: object, site_number: object) -> str:
    """Return the aggregate that holds every locator of a site: the SID block and 16 bits."""
    network = _network("SID block", block)
    end = int(network.prefixlen) + SID_SITE_BITS
    return _text(_site(network, site_number, end), end)


def og_sid(locator: object, function: object, argument: object = 0) -> str:
    """Return the SID locator | function (16 bits) | argument (48 bits), RFC 8986 section 3.1."""
    network = _network("locator", locator)
    if network.prefixlen != PREFIX_BITS:
        raise AnsibleFilterError(f"locator: not a /{PREFIX_BITS}: {locator!r}")
    value = int(network.first)
    value |= _number("function", function, FUNCTION_BITS, 0) << ARGUMENT_BITS
    value |= _number("argument", argument, ARGUMENT_BITS, 0)
    return str(IPNetwork((value, ADDRESS_BITS), version=6).ip)


def og_link(block: object, site_number: object, node: object) -> str:
    """Return the /64 between a node and its network router, from the fabric's or the clients' block."""
    return _node_prefix(_network("link block", block), site_number, node, LINK_SITE_END)


def _host(link: object, number: int) -> str:
    network = _network("link", link)
    if network.prefixlen != PREFIX_BITS:
        raise AnsibleFilterError(f"link: not a /{PREFIX_BITS}: {link!r}")
    return str(network[number])


def og_link_router(link: object) -> str:
    """Return the network router's address on a link: ::1."""
    return _host(link, 1)


def og_link_node(link: object) -> str:
    """Return the node's address on a link: ::2."""
    return _host(link, 2)


def og_gateways(
    groups: Mapping[str, Iterable[str]], hosts: Mapping[str, Mapping[str, Any]], sites: Mapping[str, Any], block: object
) -> list[dict[str, str]]:
    """Return name, role, site and locator (an address) of every host in the groups `hashers` and `routers`.

    Takes two numbers of each host and computes: templating each host's variables from each host would cost the square
    of their number. `hosts` is hostvars, `sites` og_sites, `block` og_sid_block.
    """
    found = []
    for role in ("hasher", "router"):
        for name in groups.get(f"{role}s", ()):
            site, node = hosts[name].get("og_site"), hosts[name].get("og_node")
            if not isinstance(site, str) or site not in sites or node is None:
                raise AnsibleFilterError(f"{name}: og_site ({site!r}) must be one of og_sites, og_node ({node!r}) set")
            locator = og_locator(block, sites[site]["number"], node).partition("/")[0]
            found.append({"name": name, "role": role, "site": site, "locator": locator})
    return sorted(found, key=lambda gateway: (gateway["site"], gateway["name"]))


def og_names(
    groups: Mapping[str, Iterable[str]],
    hosts: Mapping[str, Mapping[str, Any]],
    networks: Mapping[str, Any],
    fabric: object,
    client: object,
) -> dict[str, str]:
    """Return the address of every host that has a place in the fabric (og_node), by inventory name: its og_address.

    Computes from two numbers of each host, as og_gateways does and for the same reason. `networks` are og_sites and
    og_transit in one; `fabric` and `client` the blocks of links.
    """
    clients, routers = set(groups.get("clients", ())), set(groups.get("network_routers", ()))
    names = {}
    for name in sorted(groups["all"]):
        site, node = hosts[name].get("og_site"), hosts[name].get("og_node")
        if node is not None:
            if not isinstance(site, str) or site not in networks:
                raise AnsibleFilterError(f"{name}: og_site: unknown site {site!r}")
            link = og_link(client if name in clients else fabric, networks[site]["number"], node)
            names[name] = og_link_router(link) if name in routers else og_link_node(link)
    return names


def og_trunk_ends(
    trunks: Iterable[Mapping[str, Any]],
    hosts: Mapping[str, Mapping[str, Any]],
    networks: Mapping[str, Any],
    block: object,
    mtu: int,
) -> list[dict[str, Any]]:
    """Return the cables between network routers, {a: {host, name, address, asn}, b: {...}, mtu}, of og_trunks.

    A trunk is {a, b, number}: two network routers, and the number of their link in the network of `a`. `hosts` is
    hostvars, `networks` og_sites and og_transit in one, `block` og_fabric_block. A port is named after the other end.
    """
    cables = []
    for position, trunk in enumerate(trunks):
        label = f"og_trunks[{position}]"
        for key in ("a", "b"):
            name = trunk.get(key)
            if not isinstance(name, str) or name not in hosts or hosts[name].get("og_site") not in networks:
                raise AnsibleFilterError(f"{label}.{key}: not a host with a known og_site: {name!r}")
        a, b = (networks[hosts[trunk[key]]["og_site"]] for key in ("a", "b"))
        link = og_link(block, a["number"], trunk.get("number"))
        cables.append(
            {
                "a": {"host": trunk["a"], "name": f"to-{trunk['b']}", "address": og_link_router(link), "asn": a["asn"]},
                "b": {"host": trunk["b"], "name": f"to-{trunk['a']}", "address": og_link_node(link), "asn": b["asn"]},
                "mtu": mtu,
            }
        )
    return cables


def og_uplinks(cables: Iterable[Mapping[str, Any]], host: str) -> list[dict[str, Any]]:
    """Return the neighbours of a network router over `cables` (og_trunk_ends), as quagga_uplinks."""
    found = []
    for cable in cables:
        for own, other in (("a", "b"), ("b", "a")):
            if cable[own]["host"] == host:
                neighbour = cable[other]
                found.append(
                    {
                        "name": neighbour["host"],
                        "address": neighbour["address"],
                        "asn": neighbour["asn"],
                        "port": cable[own]["name"],
                    }
                )
    return found


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "og_gateways": og_gateways,
            "og_link": og_link,
            "og_link_node": og_link_node,
            "og_link_router": og_link_router,
            "og_locator": og_locator,
            "og_sid": og_sid,
            "og_names": og_names,
            "og_site_prefix": og_site_prefix,
            "og_trunk_ends": og_trunk_ends,
            "og_uplinks": og_uplinks,
        }
