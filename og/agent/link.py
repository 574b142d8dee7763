# SPDX-License-Identifier: Apache-2.0
"""Attaching to a link: the XDP program (rtnetlink), the tc filter (pyroute2), the port's checksum offload (ethtool)."""

from __future__ import annotations

import array
import errno
import fcntl
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyroute2.netlink.exceptions import NetlinkError

from og.agent import netlink

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEWLINK, _GETLINK = 16, 18
_IFLA_LINKINFO, _IFLA_XDP, _IFLA_INFO_KIND = 18, 43, 1
_XDP_FD, _XDP_ATTACHED, _XDP_FLAGS, _XDP_PROG_ID = 1, 2, 3, 4
_IFINFO = struct.Struct("=BxHiII")

FLAGS = {"generic": 0x2, "native": 0x4}
MODES = {1: "native", 2: "generic", 3: "offload", 4: "several"}

# tc: our filter's place on the egress hook of clsact. ETH_P_ALL, as the program looks for itself.
CLSACT_EGRESS = 0xFFFFFFF3
FILTER_HANDLE, FILTER_PRIORITY, FILTER_PROTOCOL = 1, 1, 0x0003
FILTER_NAME = "og_agent_tc"

_SIOCETHTOOL, _GET_TX_CHECKSUM, _SET_TX_CHECKSUM = 0x8946, 0x16, 0x17


@dataclass(frozen=True)
class Xdp:
    """The XDP program on a link: how it is attached and the program's id."""

    mode: str
    program: int


def _link(index: int) -> dict[int, bytes]:
    payload = _IFINFO.pack(socket.AF_UNSPEC, 0, index, 0, 0)
    for answer in netlink.request(netlink.NETLINK_ROUTE, _GETLINK, 0, payload):
        return netlink.attributes(answer[_IFINFO.size :])
    raise OSError(errno.ENODEV, f"no link with index {index}")


def kind(index: int) -> str:
    """Return the link's kind (`veth`, `vlan`, …), empty for a physical port."""
    info = netlink.attributes(_link(index).get(_IFLA_LINKINFO, b""))
    return info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0").decode()


def xdp_attached(index: int) -> Xdp | None:
    """Return what XDP program is on the link."""
    found = netlink.attributes(_link(index).get(_IFLA_XDP, b""))
    mode = found.get(_XDP_ATTACHED, b"\0")[0]
    if mode == 0:
        return None
    (program,) = struct.unpack("=I", found.get(_XDP_PROG_ID, bytes(4)))
    return Xdp(MODES.get(mode, str(mode)), program)


def _xdp_set(index: int, fd: int, mode: str) -> None:
    flags = netlink.attribute(_XDP_FLAGS, struct.pack("=I", FLAGS[mode]))
    nested = netlink.attribute(_XDP_FD, struct.pack("=i", fd)) + flags
    payload = _IFINFO.pack(socket.AF_UNSPEC, 0, index, 0, 0) + netlink.attribute(_IFLA_XDP | 0x8000, nested)
    list(netlink.request(netlink.NETLINK_ROUTE, _NEWLINK, netlink.ACK, payload))


def xdp_attach(index: int, fd: int, mode: str) -> None:
    """Put a program on the link. One of the same mode is replaced in one step, one of the other mode removed first."""
    present = xdp_attached(index)
    if present and present.mode != mode and present.mode in FLAGS:
        _xdp_set(index, -1, present.mode)
    _xdp_set(index, fd, mode)


def xdp_detach(index: int) -> bool:
    """Remove the link's XDP program; False if there was none."""
    present = xdp_attached(index)
    if present is None or present.mode not in FLAGS:
        return False
    _xdp_set(index, -1, present.mode)
    return True


def _filters(route: Any, index: int) -> Iterator[Any]:  # noqa: ANN401 - pyroute2 has no types
    for found in route.get_filters(index, parent=CLSACT_EGRESS):
        options = found.get_attr("TCA_OPTIONS")
        if options is not None and options.get_attr("TCA_BPF_NAME") == FILTER_NAME:
            yield found


def tc_attached(route: Any, index: int) -> bool:  # noqa: ANN401
    """Say whether our filter is on the link's egress hook."""
    return any(True for _ in _filters(route, index))


def tc_attach(route: Any, index: int, fd: int) -> None:  # noqa: ANN401
    """Put the filter on the egress hook; one of ours is replaced with no packet in between."""
    try:
        route.tc("add", "clsact", index)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
    route.tc(
        "replace-filter", "bpf", index, FILTER_HANDLE, fd=fd, name=FILTER_NAME, parent=CLSACT_EGRESS,
        direct_action=True, prio=FILTER_PRIORITY, protocol=FILTER_PROTOCOL,
    )  # fmt: skip


def tc_detach(route: Any, index: int) -> bool:  # noqa: ANN401
    """Remove our filter, and the clsact queue if nothing else hangs on it. False if it was not there."""
    if not tc_attached(route, index):
        return False
    route.tc(
        "del-filter", "bpf", index, FILTER_HANDLE, prio=FILTER_PRIORITY, protocol=FILTER_PROTOCOL, parent=CLSACT_EGRESS
    )
    others = [*route.get_filters(index, parent=CLSACT_EGRESS), *route.get_filters(index, parent=CLSACT_EGRESS - 1)]
    if not others:
        route.tc("del", "clsact", index)
    return True


def tx_checksum(name: str, *, wanted: bool | None = None) -> bool:
    """Return whether the port computes transport checksums (ethtool -k tx-checksumming); set it first if `wanted`."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        for command, value in ((_SET_TX_CHECKSUM, int(bool(wanted))), (_GET_TX_CHECKSUM, 0)):
            if command == _SET_TX_CHECKSUM and wanted is None:
                continue
            ethtool = array.array("I", [command, value])
            fcntl.ioctl(sock, _SIOCETHTOOL, struct.pack("=16sQ16x", name.encode(), ethtool.buffer_info()[0]))
    return bool(ethtool[1])
