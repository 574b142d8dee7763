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
from og.control.notify import notify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from og.agent.config import AgentConfig

log = logging.getLogger("og-agent")

FIXED = ("interface", "xdp_mode", "bpf_dir", "pin_dir")  # what SIGHUP cannot change
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


def attach(config: AgentConfig, btf_path: Path = btf.VMLINUX) -> dict[str, bpf.BpfMap]:
    """Load and attach both programs, or replace those that are attached. Raises AgentError, LoadError, HeadersError."""
    index = _index(config)
    loader.ensure_bpffs(config.pin_dir)
    log.info("kernel headers: %s", headers.find().origin)
    maps = loader.open_maps(config.pin_dir)
    offsets, problem = loader.tested_offsets(config.bpf_dir, maps, btf_path)
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
            host.prepare(route, config)
    for problem in host.problems(config):
        log.warning("%s", problem)
    return maps


def detach(config: AgentConfig) -> list[str]:
    """Remove the programs and the pins. Returns what was removed. Connections that came through the gateway stall."""
    removed = []
    with suppress(AgentError):
        index = _index(config)
        with IPRoute() as route:
            if config.prepare_host:
                host.undo(route, config)
            if link.xdp_detach(index):
                removed.append("xdp")
            if link.tc_detach(route, index):
                removed.append("tc")
    for name in (*layout.PROGRAMS, *layout.MAPS):
        path = config.pin_dir / name
        if path.exists():
            path.unlink()
            removed.append(str(path))
    with suppress(OSError):
        config.pin_dir.rmdir()
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
def _signals(*numbers: int) -> Iterator[int]:
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


def _reload(path: Path, running: AgentConfig, maps: Mapping[str, bpf.BpfMap]) -> AgentConfig:
    """Take over a changed file; keep what runs if it is wrong."""
    try:
        fresh = configuration.load(path)
    except configuration.ConfigError as error:
        log.error("not reloaded, the running configuration stays: %s", error)
        return running
    changed = [name for name in FIXED if getattr(fresh, name) != getattr(running, name)]
    if changed:
        log.error("not reloaded: a change of %s needs a restart", ", ".join(changed))
        return running
    present = layout.Config.unpack(maps["config"].get(layout.index(0)) or bytes(24))
    loader.fill_maps(maps, fresh, load_aware=present.load_aware)
    if fresh.prepare_host:
        with IPRoute() as route:
            host.prepare(route, fresh, running)
    log.info("reloaded %s", path)
    return fresh


def _write_status(path: Path, state: Mapping[str, Any]) -> None:
    """Replace the status file in one step."""
    text = json.dumps({"pid": os.getpid(), "time": time.time(), **state})
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh.write_text(text)
    fresh.replace(path)


def run(path: Path, config: AgentConfig) -> None:
    """Attach, then report until told to stop. Leaves everything attached."""
    with _signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as arrived:
        maps = attach(config)
        reporter = Reporter(maps)
        counters_file = config.bpf_dir / "og_counters.h"
        notify("READY=1\nSTATUS=attached")
        while True:
            try:
                figures = {"services": reporter.turn(config), "counters": read_counters(maps, counters_file)}
                _write_status(config.status_file, {**attachment(config), **figures})
            except OSError as error:
                log.warning("report: %s", error)
            if select.select([arrived], [], [], config.report_s)[0]:
                numbers = os.read(arrived, 64)
                if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                    break
                if signal.SIGHUP in numbers:
                    config = _reload(path, config, maps)
    config.status_file.unlink(missing_ok=True)
    log.info("stopped; the programs stay attached")
