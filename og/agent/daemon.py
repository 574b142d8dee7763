# SPDX-License-Identifier: Apache-2.0
"""The daemon: load, attach, report. What it attaches stays when it stops, is killed, or is replaced."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pyroute2 import IPRoute

from og.agent import bpf, btf, headers, host, layout, link, loader
from og.agent import config as configuration
from og.agent.report import Reporter
from og.agent.report import counters as read_counters
from og.agent.report import services as read_services
from og.configfile import ConfigError
from og.control.notify import notify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from og.agent.config import AgentConfig

log = logging.getLogger("og-agent")

FIXED = ("interface", "xdp_mode", "bpf_dir", "pin_dir", "tx_checksum")  # a change loads the programs anew
VIRTUAL = frozenset({"veth"})  # links whose other end may see frames before anything completed their checksums


class AgentError(RuntimeError):
    """The agent cannot do what it was told; the text says what and why."""


def _index(config: AgentConfig) -> int:
    """Index of the data port. Raises AgentError."""
    try:
        return socket.if_nametoindex(config.interface)
    except OSError:
        raise AgentError(f"interface {config.interface}: not there") from None


def _attach_xdp(index: int, fd: int, mode: str) -> str:
    """Attach in the wanted mode, else generic. Returns the mode it got."""
    try:
        link.xdp_attach(index, fd, mode)
    except OSError as error:
        if mode == "generic":
            raise AgentError(f"attach XDP program: {error}") from error
        log.warning("this port's driver does not take the XDP program (%s): generic mode", error)
        link.xdp_attach(index, fd, "generic")
        return "generic"
    return mode


def _complete_checksums(config: AgentConfig, index: int) -> None:
    """See to it that replies sent to a router carry a complete checksum.

    A real port's hardware, or the kernel for it, completes them. A veth passes on what is to be completed by whoever is
    behind it, and a data plane behind it does not.
    """
    if config.tx_checksum != "auto" or link.kind(index) not in VIRTUAL or not link.tx_checksum(config.interface):
        return
    link.tx_checksum(config.interface, wanted=False)
    log.info("%s is a veth: its checksum offload is now off", config.interface)


def attach(config: AgentConfig, *, old: AgentConfig | None = None) -> dict[str, bpf.BpfMap]:
    """Load and attach both programs, or replace those that are attached. `old`: the configuration that was in force.

    Raises AgentError, LoadError, HeadersError.
    """
    index = _index(config)
    loader.ensure_bpffs(config.pin_dir)
    log.info("kernel headers: %s", headers.find().origin)
    maps = loader.open_maps(config.pin_dir)
    offsets, problem = loader.tested_offsets(config.bpf_dir, maps, btf.VMLINUX)
    if problem:
        log.error("LOAD-AWARE ACCEPT IS OFF, new connections are taken whatever the accept queue's length: %s", problem)
    programs = {name: loader.compile_program(name, config.bpf_dir, maps, offsets) for name in layout.PROGRAMS}
    loader.fill_maps(maps, config, load_aware=not problem)
    _complete_checksums(config, index)
    # The way back first: the ingress makes notes from its first packet on.
    with IPRoute() as route:
        link.tc_attach(route, index, programs["tc"])
    mode = _attach_xdp(index, programs["xdp"], config.xdp_mode)
    for name, fd in programs.items():
        bpf.pin(fd, config.pin_dir / name)
        info = bpf.program_info(fd)
        log.info("%s: program %d, tag %s", name, info.id, info.tag)
        os.close(fd)
    log.info("attached to %s (%s)", config.interface, mode)
    if config.prepare_host:  # the service's address last: it is answered for from now on
        with IPRoute() as route:
            host.prepare(route, config, old)
    for problem in host.problems(config):
        log.warning("%s", problem)
    return maps


def _remove_programs(index: int) -> list[str]:
    removed = ["xdp"] if link.xdp_detach(index) else []
    with IPRoute() as route:
        return removed + (["tc"] if link.tc_detach(route, index) else [])


def _remove_pins(pin_dir: Path) -> list[str]:
    paths = [pin_dir / name for name in (*layout.PROGRAMS, *layout.MAPS) if (pin_dir / name).exists()]
    for path in paths:
        path.unlink()
    with suppress(OSError):
        pin_dir.rmdir()
    return [str(path) for path in paths]


def detach(config: AgentConfig) -> list[str]:
    """Remove the programs and the pins. Returns what was removed. Connections that came through the gateway stall."""
    removed = []
    if config.prepare_host:
        with IPRoute() as route:
            host.undo(route, config)
    with suppress(AgentError):
        removed += _remove_programs(_index(config))
    removed += _remove_pins(config.pin_dir)
    config.status_file.unlink(missing_ok=True)
    return removed


# ---- status ---------------------------------------------------------------------------------------------------------


def _programs(config: AgentConfig) -> dict[str, dict[str, Any]]:
    found = {}
    for name in layout.PROGRAMS:
        with suppress(OSError):
            fd = bpf.get_pinned(config.pin_dir / name)
            info = bpf.program_info(fd)
            os.close(fd)
            found[name] = {"id": info.id, "tag": info.tag}
    return found


def _daemon(status_file: Path) -> dict[str, Any]:
    try:
        written: dict[str, Any] = json.loads(status_file.read_text())
        os.kill(written["pid"], 0)
    except (OSError, ValueError, KeyError):
        return {"running": False}
    return {
        "running": True,
        "pid": written["pid"],
        "services": written["services"],
        "age_s": round(time.time() - written["time"], 1),
    }


def attachment(config: AgentConfig) -> dict[str, Any]:
    """Return what is attached to the data port."""
    programs = _programs(config)
    try:
        index = _index(config)
        xdp = link.xdp_attached(index)
        with IPRoute() as route:
            tc = link.tc_attached(route, index)
    except AgentError as error:
        return {"attached": False, "error": str(error), "interface": config.interface}
    ours = xdp is not None and xdp.program == programs.get("xdp", {}).get("id")
    return {
        "attached": ours and tc,
        "interface": config.interface,
        "mode": xdp.mode if xdp and ours else None,
        "xdp": ours,
        "tc": tc,
        "programs": programs,
    }


def status(config: AgentConfig) -> dict[str, Any]:
    """Return the state as it is in the kernel, whether the daemon runs or not."""
    state = attachment(config)
    if "error" in state:
        return state
    state |= {"daemon": _daemon(config.status_file), "problems": host.problems(config)}
    if all((config.pin_dir / name).exists() for name in layout.MAPS):
        maps = {name: bpf.BpfMap.pinned(config.pin_dir / name) for name in layout.MAPS}
        running = layout.Config.unpack(maps["config"].get(layout.index(0)) or bytes(24))
        state |= {
            "locator": str(running.locator),
            "incarnation": running.incarnation.hex(),
            "load_aware": running.load_aware,
            "draining": running.draining,
            "mss_limit": running.mss_limit,
            "counters": read_counters(maps, config.bpf_dir / "og_counters.h"),
            "services": read_services(maps, config),
        }
    return state


# ---- the daemon -----------------------------------------------------------------------------------------------------


@contextmanager
def signals(*numbers: int) -> Iterator[int]:
    """Yield a descriptor on which the numbers of arriving signals can be read."""
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.set_wakeup_fd(write_end)
    handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield read_end
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(read_end)
        os.close(write_end)


def _leave(old: AgentConfig, new: AgentConfig) -> None:
    """Remove programs and pins from where they are no longer wanted."""
    with suppress(AgentError):
        if old.interface != new.interface:
            _remove_programs(_index(old))
    if old.pin_dir != new.pin_dir:
        _remove_pins(old.pin_dir)


def _apply(old: AgentConfig, new: AgentConfig, maps: dict[str, bpf.BpfMap]) -> dict[str, bpf.BpfMap]:
    """Bring kernel and host from one configuration to another; return the maps in use."""
    changed = [name for name in FIXED if getattr(new, name) != getattr(old, name)]
    if changed:
        log.info("%s changed: the programs are loaded anew", ", ".join(changed))
        maps = attach(new, old=old)
        _leave(old, new)
        return maps
    present = layout.Config.unpack(maps["config"].get(layout.index(0)) or bytes(24))
    loader.fill_maps(maps, new, load_aware=present.load_aware)
    if new.prepare_host:
        with IPRoute() as route:
            host.prepare(route, new, old)
    return maps


def write_status(path: Path, state: Mapping[str, Any]) -> None:
    """Replace the status file in one step."""
    text = json.dumps({"pid": os.getpid(), "time": time.time(), **state})
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh.write_text(text)
    fresh.replace(path)


class _Running:
    """The daemon's state: the configuration in force, the maps, the reporter."""

    def __init__(self, path: Path, config: AgentConfig) -> None:
        self.path, self.config = path, config
        self.maps = attach(config)
        self.reporter = Reporter(self.maps)

    def reload(self) -> None:
        """Take over a changed file; what runs stays if it is wrong or cannot be applied."""
        try:
            fresh = configuration.load(self.path)
            maps = _apply(self.config, fresh, self.maps)
        except (ConfigError, AgentError, loader.LoadError, OSError) as error:
            log.error("not reloaded, the running configuration stays: %s", error)
            return
        self.config = fresh
        if maps is not self.maps:
            self.maps, self.reporter = maps, Reporter(maps)
        log.info("reloaded %s", self.path)

    def report(self) -> None:
        """Write load map and status file."""
        header = self.config.bpf_dir / "og_counters.h"
        try:
            figures = {"services": self.reporter.turn(self.config), "counters": read_counters(self.maps, header)}
            write_status(self.config.status_file, attachment(self.config) | figures)
        except OSError as error:
            log.warning("report: %s", error)


def run(path: Path, config: AgentConfig) -> None:
    """Attach, then report until told to stop. Leaves everything attached."""
    with signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as arrived:
        running = _Running(path, config)
        running.report()  # first: who waited for the start finds a status file
        notify("READY=1\nSTATUS=attached")
        while True:
            if not select.select([arrived], [], [], running.config.report_s)[0]:
                running.report()
                continue
            numbers = os.read(arrived, 64)
            if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                break
            running.reload()
            running.report()
    running.config.status_file.unlink(missing_ok=True)
    log.info("stopped; the programs stay attached")
