# SPDX-License-Identifier: Apache-2.0
"""What the host needs besides the programs: VIPs on lo, no conntrack for the gateway's packets, kernel settings.

All of it is brought to the wanted state on start and on reload, and stays when the daemon stops.
"""

from __future__ import annotations

import errno
import logging
import socket
import subprocess
from contextlib import suppress
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyroute2.netlink.exceptions import NetlinkError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from og.agent.config import AgentConfig

log = logging.getLogger("og-agent")

_LOOPBACK = "lo"
_NODAD, _NOPREFIXROUTE = 0x02, 0x200  # linux/if_addr.h
_FOREVER = 0xFFFFFFFF
_BLACKHOLE = 6  # RTN_BLACKHOLE
ROUTE_PROTOCOL = 79  # rtm_protocol of our routes; "O"
_TABLE = "og_agent"
_DISCARD_PORT = 9


def settings(config: AgentConfig) -> dict[str, str]:
    """Return kernel settings by their path under /proc/sys."""
    return {
        # What the kernel answers carries the client's flow label: ECMP in the network keeps errors with their flow.
        "net/ipv6/flowlabel_reflect": "3",
        # Without the program a packet for a SID must end here, not go round in a loop.
        f"net/ipv6/conf/{config.interface}/forwarding": "0",
    }


def notrack_rules(vips: Iterable[IPv6Address], locator: IPv6Address) -> str:
    """Return nftables input that replaces our table: conntrack would see one direction of each connection only."""
    addresses = ", ".join([*sorted(str(vip) for vip in set(vips)), str(IPv6Network((locator, 64)))])
    return f"""table inet {_TABLE}
delete table inet {_TABLE}
table inet {_TABLE} {{
    set addresses {{ type ipv6_addr; flags interval; elements = {{ {addresses} }} }}
    chain prerouting {{ type filter hook prerouting priority raw; ip6 daddr @addresses notrack; }}
    chain output {{ type filter hook output priority raw; ip6 saddr @addresses notrack; }}
}}
"""


def _nft(rules: str) -> None:
    try:
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True, capture_output=True)
    except FileNotFoundError:
        log.warning("no nft command: connections of the gateway are tracked if this host tracks connections")
    except subprocess.CalledProcessError as error:
        log.error("nft: %s", error.stderr.strip())


def _loopback_addresses(route: Any, index: int) -> set[IPv6Address]:  # noqa: ANN401 - pyroute2 has no types
    """Host addresses on lo, but ::1."""
    found = {
        IPv6Address(address.get_attr("IFA_ADDRESS"))
        for address in route.get_addr(family=socket.AF_INET6, index=index)
        if address["prefixlen"] == 128
    }
    return found - {IPv6Address("::1")}


def _add_vip(route: Any, index: int, vip: IPv6Address) -> None:  # noqa: ANN401
    """Add a VIP so that it is never chosen as a source (preferred lifetime 0) and makes no route but the local one."""
    route.addr(
        "add",
        index=index,
        family=socket.AF_INET6,
        address=str(vip),
        prefixlen=128,
        IFA_FLAGS=_NODAD | _NOPREFIXROUTE,
        cacheinfo={"preferred": 0, "valid": _FOREVER},
    )


def _set_vips(route: Any, wanted: set[IPv6Address], old: set[IPv6Address]) -> None:  # noqa: ANN401
    """Make lo hold `wanted`; of the others only those in `old` go."""
    index = socket.if_nametoindex(_LOOPBACK)
    route.link("set", index=index, state="up")
    present = _loopback_addresses(route, index)
    for vip in wanted - present:
        _add_vip(route, index, vip)
        log.info("%s on lo", vip)
    for vip in (old - wanted) & present:
        route.addr("del", index=index, family=socket.AF_INET6, address=str(vip), prefixlen=128)
        log.info("%s off lo", vip)


def _blackhole(route: Any, locator: IPv6Address, action: str) -> None:  # noqa: ANN401
    try:
        prefix = str(IPv6Network((locator, 64)))
        route.route(action, family=socket.AF_INET6, dst=prefix, type=_BLACKHOLE, proto=ROUTE_PROTOCOL)
    except NetlinkError as error:
        if error.code not in (errno.EEXIST, errno.ESRCH):
            raise


def vips(config: AgentConfig) -> set[IPv6Address]:
    """Return the addresses of the services."""
    return {service.vip for service in config.services}


def prepare(route: Any, config: AgentConfig, old: AgentConfig | None = None) -> None:  # noqa: ANN401
    """Bring the host to the wanted state. `old`: the configuration that was in force, whose VIPs go if not wanted."""
    for name, value in settings(config).items():
        path = Path("/proc/sys") / name
        try:
            if path.read_text().strip() != value:
                path.write_text(value)
        except OSError as error:
            log.warning("setting %s: %s", name, error.strerror)
    if old and old.locator != config.locator:
        _blackhole(route, old.locator, "del")
    _blackhole(route, config.locator, "add")
    _nft(notrack_rules(vips(config), config.locator))
    _set_vips(route, vips(config), vips(old) if old else set())


def undo(route: Any, config: AgentConfig) -> None:  # noqa: ANN401
    """Take VIPs, route and table away again. Kernel settings stay as they are."""
    _set_vips(route, set(), vips(config))
    _blackhole(route, config.locator, "del")
    with suppress(FileNotFoundError, subprocess.CalledProcessError):
        subprocess.run(["nft", "delete", "table", "inet", _TABLE], check=True, capture_output=True)


def _source_towards(destination: IPv6Address) -> IPv6Address | None:
    """Return the source address the kernel chooses for `destination`; None without a route."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((str(destination), _DISCARD_PORT))
        except OSError:
            return None
        return IPv6Address(sock.getsockname()[0])


def problems(config: AgentConfig) -> list[str]:
    """Return what would keep replies from leaving, in plain words; empty if all is well."""
    found = []
    addresses = vips(config)
    for prefix in config.gateways:
        source = _source_towards(prefix.network_address)
        if source is None:
            found.append(f"no route to gateway {prefix}: replies on their way back are dropped")
        elif source in addresses:
            found.append(
                f"the kernel chooses {source}, a VIP, as source towards {prefix}: give the data port an address"
            )
    present = Path("/proc/net/if_inet6").read_text()
    found += [f"{vip} is not an address of this host" for vip in sorted(addresses) if vip.packed.hex() not in present]
    return found
