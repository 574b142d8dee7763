# SPDX-License-Identifier: Apache-2.0
"""The agent's programs, loaded as in production (bcc), in a network and mount namespace of their own.

Needs root and bcc: `make bpf-test` runs this in the og-build container. Where either is missing, everything here is
skipped with the reason.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from og.agent import bpf, btf, headers, layout, loader, report
from og.agent import config as configuration

from .sockets import Sockets, usable, wait_for
from .wire import (
    AGENT,
    BPF_DIR,
    CLIENT,
    FAR_CLIENT,
    FAR_PORT,
    HASHER,
    MAC_HERE,
    MAC_THERE,
    OTHER_VIP,
    PORT,
    ROUTER,
    UDP_PORT,
    VIP,
    XDP_PASS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

BPFFS = Path("/sys/fs/bpf")

SERVICES = [
    {"index": 0, "name": "web", "vip": VIP, "protocol": "tcp", "port": PORT},
    {"index": 5, "name": "limited", "vip": VIP, "protocol": "tcp", "port": 81, "accept_limit": 1},
    {"index": 9, "name": "names", "vip": VIP, "protocol": "udp", "port": UDP_PORT},
    {"index": 63, "name": "empty", "vip": OTHER_VIP, "protocol": "tcp", "port": PORT},
]


def config_document(**changes: object) -> dict[str, object]:
    """A valid /etc/og/agent.json."""
    return {
        "interface": "fab0", "xdp_mode": "generic", "locator": AGENT, "fabric_mtu": 2000, "services": SERVICES,
        "gateways": [f"{HASHER}/64", f"{ROUTER}/64", "5f00:2::/32"], "bpf_dir": str(BPF_DIR),
    } | changes  # fmt: skip


def _missing() -> str:
    if os.geteuid() != 0:
        return "needs root"
    if importlib.util.find_spec("bcc") is None:
        return "needs python3-bpfcc"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = _missing()
    if reason:
        for item in items:
            if "bpf" in Path(str(item.path)).parts:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def space() -> None:
    """Namespaces of our own: addresses, sockets, settings and pins of the tests stay in them."""
    os.unshare(os.CLONE_NEWNET | os.CLONE_NEWNS)  # type: ignore[attr-defined] # Python 3.12
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
    subprocess.run(["mount", "-t", "bpf", "bpf", str(BPFFS)], check=True)
    for command in (
        "link set lo up",
        f"addr add {VIP}/128 dev lo nodad",
        f"addr add {OTHER_VIP}/128 dev lo nodad",
        f"addr add {CLIENT}/128 dev lo nodad",
        f"link add far0 address {MAC_HERE} type veth peer name {FAR_PORT}",
        "link set far0 up",
        f"link set {FAR_PORT} up",
        f"route add {FAR_CLIENT}/128 dev far0",
        f"neigh add {FAR_CLIENT} lladdr {MAC_THERE} dev far0",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    for address in (VIP, OTHER_VIP, CLIENT):
        wait_for(lambda address=address: usable(address))


class Agent:
    """Both programs and their maps. Every packet run through a program must be counted once under one name."""

    def __init__(
        self, config: configuration.AgentConfig, maps: dict[str, bpf.BpfMap], programs: dict[str, int]
    ) -> None:
        self.config = config
        self.maps = maps
        self.programs = programs
        self.names = layout.counters(BPF_DIR / "og_counters.h")
        self.events = {counter.name for counter in self.names if counter.kind == "EVENT"}

    def counters(self) -> dict[str, int]:
        return report.counters(self.maps, BPF_DIR / "og_counters.h")

    def _run(self, program: str, frame: bytes, context: bytes) -> tuple[bpf.TestRun, dict[str, int]]:
        before = self.counters()
        result = bpf.run_program(self.programs[program], frame, context=context)
        after = self.counters()
        return result, {name: after[name] - before[name] for name in after if after[name] != before[name]}

    def ingress(self, frame: object) -> tuple[int, bytes, str, set[str]]:
        """Run the XDP program: its verdict, the packet after it, the name it was counted under, and events."""
        result, counted = self._run("xdp", bytes(frame), b"")  # type: ignore[call-overload]
        names = [name for name in counted if name not in self.events]
        assert len(names) == 1, counted
        assert counted[names[0]] == 1
        kind = next(counter.kind for counter in self.names if counter.name == names[0])
        assert result.retval == {"PASS": XDP_PASS, "TX": 3, "DROP": 1}[kind]
        return result.retval, result.data, names[0], set(counted) & self.events

    def egress(self, frame: object, *, gso_size: int = 0) -> tuple[int, bytes, str, set[str]]:
        """Run the tc program: action, packet, name (empty for a packet that is not of a service), events."""
        context = bytearray(192)  # struct __sk_buff
        context[164:168] = (int(bool(gso_size)) * 2).to_bytes(4, "little")  # gso_segs
        context[176:180] = gso_size.to_bytes(4, "little")
        result, counted = self._run("tc", bytes(frame), bytes(context))  # type: ignore[call-overload]
        names = [name for name in counted if name not in self.events]
        assert len(names) <= 1, counted
        return result.retval, result.data, names[0] if names else "", set(counted) & self.events

    def configure(self, *, load_aware: bool = True, **changes: object) -> None:
        document = config_document(**changes)
        loader.fill_maps(self.maps, configuration.check(document), load_aware=load_aware)

    def forget(self) -> None:
        """Empty notes and rates."""
        for name in ("notes", "probers"):
            for key in list(self.maps[name].keys()):
                self.maps[name].delete(key)


@pytest.fixture(scope="session")
def loaded(space: None) -> Agent:  # noqa: ARG001 - what it makes belongs into the namespaces
    config = configuration.check(config_document())
    headers.find()
    maps = {name: bpf.BpfMap.create(spec) for name, spec in layout.MAPS.items()}
    offsets, problem = loader.tested_offsets(BPF_DIR, maps, btf.VMLINUX)
    assert problem == ""
    programs = {name: loader.compile_program(name, BPF_DIR, maps, offsets) for name in layout.PROGRAMS}
    return Agent(config, maps, programs)


@pytest.fixture
def agent(loaded: Agent) -> Agent:
    """The programs with their usual configuration and empty notes."""
    loaded.configure()
    loaded.forget()
    return loaded


@pytest.fixture
def sockets(space: None) -> Iterator[Sockets]:  # noqa: ARG001 - as above
    """Real sockets at the VIP; gone after the test."""
    with Sockets() as made:
        yield made
