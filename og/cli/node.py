# SPDX-License-Identifier: Apache-2.0
"""One node asked through its local sockets and files. What is not there is said, not guessed."""

from __future__ import annotations

import http.client
import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from og import running
from og.jsonsock import SocketError, request
from og.telemetry import Telemetry, TelemetryError, default_path

HEALTH_PORT = 9441
HEALTH_TIMEOUT_S = 1.0
AGENT_STALE_S = 5.0
PINS_PER_PAGE = 64

Facts = dict[str, Any]


class NoDataPlaneError(Exception):
    """There is no data plane on this host to ask. The text says why."""


@dataclass(frozen=True)
class Paths:
    """Where things are on a node; tests put them elsewhere."""

    config: Path = Path("/etc/og")
    runtime: Path = Path("/run/og")
    releases: Path = running.ROOT

    def role(self) -> str | None:
        """Return `hasher` or `router` by the data plane's options file; None on a host without one."""
        return next((role for role in ("router", "hasher") if (self.config / f"{role}.json").exists()), None)


def telemetry(paths: Paths) -> Telemetry:
    """Open the data plane's telemetry. Raises NoDataPlaneError on a host that has none."""
    role = paths.role()
    if role is None:
        raise NoDataPlaneError(f"no data plane on this host: neither hasher.json nor router.json in {paths.config}")
    return Telemetry(default_path(role))


def query(paths: Paths, command: str) -> Any:  # noqa: ANN401 - JSON
    """Ask the data plane one thing. Raises NoDataPlaneError, TelemetryError."""
    with telemetry(paths) as connection:
        return connection.query(command)


def list_pins(paths: Paths, limit: int) -> list[Facts]:
    """Return up to `limit` pins; each page says where the next one begins."""
    pins: list[Facts] = []
    offset = 0
    with telemetry(paths) as connection:
        while len(pins) < limit:
            page = connection.query(f"/og/pins_list,{offset}")
            pins += page
            if len(page) < PINS_PER_PAGE:
                break
            offset = page[-1]["next"]
    return [{key: value for key, value in pin.items() if key != "next"} for pin in pins[:limit]]


def why(paths: Paths, client: str, port: int, service: str) -> Facts:
    """Ask where a flow is and where a new one would go. Raises NoDataPlaneError, TelemetryError."""
    facts = dict(query(paths, f"/og/why,{client};{port};{service}"))
    facts["node"] = socket.gethostname()
    facts["role"] = paths.role()
    if "error" in facts:
        facts["problems"] = [facts.pop("error")]
    return facts


def status(paths: Paths, interval_s: float) -> Facts:
    """Return everything about this node; rates are over `interval_s` seconds."""
    role = paths.role()
    facts: Facts = {"node": socket.gethostname(), "role": role or "", "problems": []}
    if role is not None:
        facts |= _data_plane(paths, role, interval_s, facts["problems"])
        facts["control"] = _control(paths, facts["problems"])
        facts["node"] = facts["control"].get("node", facts["node"])
        facts["health"] = _health(facts["problems"])
    agent = _agent(paths, facts["problems"])
    if agent is not None:
        facts["agent"] = agent
        facts["role"] = facts["role"] or "agent"
    if not facts["role"]:
        facts["problems"].append(f"neither a gateway node nor an application host: nothing in {paths.config}")
    facts["release"] = _release(paths, facts["role"])
    facts["ok"] = not facts["problems"]
    return facts


def _release(paths: Paths, role: str) -> Facts:
    """Return which release is current, which was before, and which one each program was started from."""
    units = running.units(role, root=paths.releases)
    return {
        "current": running.current(paths.releases),
        "previous": running.previous(paths.releases),
        "running": {unit.name: unit.release for unit in units},
    }


def _data_plane(paths: Paths, role: str, interval_s: float, problems: list[str]) -> Facts:
    facts: Facts = {"running": False, "serving": False, "suspect": [], "generation": 0, "digest": ""}
    try:
        answer = request(str(paths.runtime / f"{role}.sock"), {"op": "status"})
    except SocketError as error:
        problems.append(f"data plane: {error}")
        return facts
    facts |= {
        key: answer[key] for key in ("generation", "digest", "incarnation", "serving", "suspect") if key in answer
    }
    facts["running"] = True
    if not facts["generation"]:
        problems.append("data plane: no tables")
    elif not facts["serving"]:
        problems.append("data plane: cannot serve: nobody to send to")
    problems += [f"data plane: {name} does not answer probes" for name in facts["suspect"]]
    try:
        with Telemetry(default_path(role)) as connection:
            facts["info"] = connection.query("/og/info")
            facts["rates"] = _rates(connection, interval_s)
            facts["members"] = connection.query("/og/members")
            facts["load"] = connection.query("/og/load")
            if role == "router":
                facts["pins"] = connection.query("/og/pins")
    except TelemetryError as error:
        problems.append(f"telemetry: {error}")
    return facts


def _rates(connection: Telemetry, interval_s: float) -> Facts:
    """Return packets per second received, sent and dropped."""
    before, start = connection.query("/og/counters"), time.monotonic()
    time.sleep(interval_s)
    after, elapsed = connection.query("/og/counters"), time.monotonic() - start

    def per_second(names: list[str]) -> float:
        packets = sum(int(after[name]) - int(before.get(name, 0)) for name in names)
        return round(packets / elapsed, 1)

    drops = [name for name in after if name.startswith("drop_")]
    return {"rx_per_s": per_second(["rx"]), "tx_per_s": per_second(["tx"]), "drops_per_s": per_second(drops)}


def _control(paths: Paths, problems: list[str]) -> Facts:
    try:
        control = request(str(paths.runtime / "control.sock"), {"op": "status"})
    except SocketError as error:
        problems.append(f"control daemon: {error}")
        return {}
    if not control.get("applied"):
        problems.append(f"control daemon: {control.get('detail')}")
    if control["policy"]["error"]:
        problems.append(f"policy file not in force: {control['policy']['error']}")
    problems += [f"consul: {source}: {error}" for source, error in control["consul"].items() if error]
    return control


def _health(problems: list[str]) -> Facts:
    connection = http.client.HTTPConnection("127.0.0.1", HEALTH_PORT, timeout=HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        health = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        problems.append(f"health daemon: 127.0.0.1:{HEALTH_PORT}: {error}")
        return {}
    finally:
        connection.close()
    if not health.get("healthy"):
        problems.append(f"health daemon: {health.get('reason')}")
    return dict(health)


def _agent(paths: Paths, problems: list[str]) -> Facts | None:
    if not (paths.config / "agent.json").exists():
        return None
    file = paths.runtime / "agent.status.json"
    try:
        facts = dict(json.loads(file.read_text()))
        age = time.time() - float(facts["time"])
    except OSError as error:
        problems.append(f"agent: {file}: {error.strerror}")
        return {}
    except (ValueError, KeyError, TypeError) as error:
        problems.append(f"agent: {file}: not a status: {error!r}")
        return {}
    if age > AGENT_STALE_S:
        problems.append(f"agent: {file} is {age:.0f} s old")
    if not facts.get("attached"):
        problems.append("agent: programs not attached")
    silent = [name for name, service in facts.get("services", {}).items() if not service.get("listener")]
    problems += [f"agent: {name}: no listener" for name in silent]
    return facts


def check(paths: Paths, *, tables: bool) -> str:
    """Say what keeps this node's data plane from working; empty = nothing does. Cheap enough to ask in a loop."""
    role = paths.role()
    if role is None:
        return f"no data plane on this host: neither hasher.json nor router.json in {paths.config}"
    try:
        running = request(str(paths.runtime / f"{role}.sock"), {"op": "status"})
        if not tables:
            return ""
        control = request(str(paths.runtime / "control.sock"), {"op": "status"})
    except SocketError as error:
        return str(error)
    if not control.get("applied"):
        return f"control daemon: {control.get('detail')}"
    return "" if running.get("generation") else "no tables loaded"
