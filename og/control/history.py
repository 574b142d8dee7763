# SPDX-License-Identifier: Apache-2.0
"""The membership log of the own site: which servers a service had before. Pure.

A flow that began under an earlier membership may live on a server that today's table no longer names for it; the hunt
asks those the log names (docs/interfaces.md, "history"). One node of a site, the holder of the lock, writes the log to
Consul, whose order of writes is the order of the log; the others take it over as soon as it knows the membership they
have themselves, so that all have the same. Until then what a node saw itself comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_ENTRIES = 32  # per service

Agents = tuple[tuple[str, int], ...]  # (name, weight), by name, weights above 0


@dataclass(frozen=True)
class Past:
    """A membership that is over. `at` = when it ended, seconds since the epoch."""

    at: float
    agents: Agents


@dataclass(frozen=True)
class Log:
    """One service: today's membership (None = not known yet) and the earlier ones, newest first, each once."""

    current: Agents | None = None
    past: tuple[Past, ...] = ()


Logs = Mapping[str, Log]  # by service


def membership(body: Mapping[str, Any], service: str) -> Agents:
    """Return the servers of the own site that get flows of a service, from a table document."""
    return tuple(
        sorted(
            (agent["name"], agent["weight"])
            for agent in body["agents"]
            if agent["site"] == body["own_site"] and agent["weight"] > 0 and service in agent["services"]
        )
    )


def advance(log: Log, current: Agents, now: float, max_age_s: float) -> Log:
    """Note today's membership. One that is over goes to the front of the past; what is older than `max_age_s` goes."""
    past = log.past
    if log.current and log.current != current:
        past = (Past(now, log.current), *(entry for entry in past if entry.agents != log.current))
    past = tuple(entry for entry in past if now - entry.at < max_age_s)
    return Log(current, past[:MAX_ENTRIES])


def adopt(log: Log, written: Log, writer: bool) -> Log:
    """Take over the log in Consul: whole when it knows the same membership as current, else behind the own entries.

    The `writer` itself never drops what it saw: Consul has yet to hear of it.
    """
    if log.current is None:
        return written
    if log.current == written.current and not writer:
        return Log(log.current, written.past)
    known = {entry.agents for entry in written.past}
    own = (entry for entry in log.past if entry.agents not in known)
    return Log(log.current, (*own, *written.past)[:MAX_ENTRIES])


def document_entries(logs: Logs, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return `history` of a table document.

    Memberships stay whole, those known dead included: without them a slot's picks would not be what they were. Who is
    dead is said of the agent itself.
    """
    ids = {agent["name"]: agent["id"] for agent in body["agents"] if agent["site"] == body["own_site"]}
    entries = []
    for service in body["services"]:
        log = logs.get(service["name"], Log())
        for past in log.past:
            agents = [[ids[name], weight] for name, weight in past.agents if name in ids]
            if agents and past.agents != log.current:
                entries.append({"service": service["name"], "agents": agents})
    return entries


def encode_logs(logs: Logs) -> dict[str, Any]:
    """Return plain data, for the state file and for Consul."""
    return {
        service: {
            "current": None if log.current is None else [list(agent) for agent in log.current],
            "past": [{"at": entry.at, "agents": [list(agent) for agent in entry.agents]} for entry in log.past],
        }
        for service, log in sorted(logs.items())
    }


def decode_logs(data: object) -> dict[str, Log]:
    """Inverse of encode_logs. Raises ValueError."""
    try:
        if not isinstance(data, dict):
            raise TypeError(f"{data!r}")
        return {
            str(service): Log(
                None if log["current"] is None else _agents(log["current"]),
                tuple(Past(float(entry["at"]), _agents(entry["agents"])) for entry in log["past"][:MAX_ENTRIES]),
            )
            for service, log in data.items()
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not a membership log: {error!r}") from None


def _agents(data: list[Any]) -> Agents:
    return tuple((str(name), int(weight)) for name, weight in data)
