# SPDX-License-Identifier: Apache-2.0
"""What the control daemon must not forget over a restart: members, their ids, the last word on each."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from og.control.history import Logs, decode_logs, encode_logs
from og.control.view import ROUTER_SERVICE, Health
from og.policy.schema import DEFAULT_UNIT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from og.control.config import Config
    from og.dataplane import Share, Status

LOG = logging.getLogger("og-control")

FORMAT = 1


class StateError(Exception):
    """A state file that cannot be read. The text names the file and why."""


@dataclass(frozen=True)
class Standing:
    """A member's place in one service: the last word that counted, and since when Consul no longer lists it."""

    health: Health
    reason: str = ""
    weight: int | None = None
    capacity: int | None = None
    capacity_unit: str = DEFAULT_UNIT
    gone_at: float | None = None  # seconds since the epoch; None = listed


@dataclass(frozen=True)
class Member:
    """A router, or an agent. `id` and `generation` are those of the table document."""

    name: str
    site: str
    locator: str
    id: int
    generation: int
    standings: Mapping[str, Standing]  # by service name; routers have one, ROUTER_SERVICE


@dataclass(frozen=True)
class Group:
    """All members of one kind, by name, and the generations of ids that were used and are free again."""

    members: Mapping[str, Member] = field(default_factory=dict)
    retired: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """`generation` and `digest` are those of the last document made; 0 and empty before the first."""

    generation: int = 0
    digest: str = ""
    routers: Group = Group()
    agents: Group = Group()
    drains: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by site
    shares: frozenset[Share] | None = None  # in force; None = never heard of any
    logs: Logs = field(default_factory=dict)


def encode(state: State) -> str:
    """JSON text of a state file; the same state gives the same text."""

    def group(value: Group) -> dict[str, Any]:
        members = [asdict(value.members[name]) for name in sorted(value.members)]
        return {"members": members, "retired": {str(key): value.retired[key] for key in sorted(value.retired)}}

    data = {
        "format": FORMAT,
        "generation": state.generation,
        "digest": state.digest,
        "routers": group(state.routers),
        "agents": group(state.agents),
        "drains": {site: sorted(names) for site, names in sorted(state.drains.items())},
        "shares": None if state.shares is None else [list(share) for share in sorted(state.shares)],
        "logs": encode_logs(state.logs),
    }
    return json.dumps(data, indent=1, sort_keys=True) + "\n"


def decode(text: str) -> State:
    """Inverse of encode. Raises ValueError."""
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']!r} is not {FORMAT}")
        return State(
            generation=int(data["generation"]),
            digest=str(data["digest"]),
            routers=_decode_group(data["routers"]),
            agents=_decode_group(data["agents"]),
            drains={str(site): frozenset(names) for site, names in data["drains"].items()},
            shares=_decode_shares(data.get("shares")),
            logs=decode_logs(data.get("logs", {})),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a state file: {error!r}") from None


def _decode_shares(data: list[Any] | None) -> frozenset[Share] | None:
    if data is None:
        return None
    return frozenset((str(service), str(site), int(share)) for service, site, share in data)


def _decode_group(data: dict[str, Any]) -> Group:
    members = {}
    for entry in data["members"]:
        standings = {
            name: Standing(**{**standing, "health": Health(standing["health"])})
            for name, standing in entry["standings"].items()
        }
        member = Member(**{**entry, "standings": standings})
        members[member.name] = member
    return Group(members, {int(key): int(value) for key, value in data["retired"].items()})


def from_document(document: Mapping[str, Any], router_service: str) -> State:
    """Rebuild a state from the last table document: for a node whose state file is lost but not its tables.

    Ids stay stable. Everybody in it counts as up with the weight written there, until Consul says otherwise.
    """

    def group(entries: list[dict[str, Any]]) -> Group:
        members = {}
        for entry in entries:
            services = entry.get("services", [router_service])
            members[entry["name"]] = Member(
                name=entry["name"],
                site=entry["site"],
                locator=entry["locator"],
                id=entry["id"],
                generation=entry["generation"],
                standings={name: Standing(Health.UP, weight=entry["weight"]) for name in services},
            )
        return Group(members)

    return State(
        generation=document["generation"],
        digest=document["digest"],
        routers=group(document["routers"]),
        agents=group(document["agents"]),
    )


def read_state(path: Path) -> State | None:
    """Read a state file; None when there is none. Raises StateError."""
    try:
        return decode(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StateError(f"{path}: {error}") from None


def write_state(path: Path, state: State) -> None:
    """Replace a state file: temporary file, fsync, rename. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(encode(state))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def with_generation(state: State, generation: int, digest: str) -> State:
    """Return the state after a document with this generation and digest was made."""
    return replace(state, generation=generation, digest=digest)


def next_generation(state: State, running: Status, digest: str) -> int:
    """Return the generation for tables with this digest: the same tables keep theirs, others get a higher one."""
    if digest == running.digest and running.generation > 0:
        return running.generation
    if digest == state.digest and state.generation > running.generation:
        return state.generation
    return max(state.generation, running.generation) + 1


def load_state(config: Config) -> State:
    """Read the state file; without one take the ids from the data plane's last tables; else begin anew."""
    path = Path(config.state_dir) / "state.json"
    try:
        state = read_state(path)
    except StateError as error:
        LOG.error("%s", error)
        state = None
    if state is not None:
        return state
    tables = Path(config.state_dir).parent / f"{config.role}.tables.json"
    try:
        state = from_document(json.loads(tables.read_text(encoding="utf-8")), ROUTER_SERVICE)
    except FileNotFoundError:
        return State()
    except (OSError, ValueError, KeyError, TypeError) as error:
        LOG.error("%s: %s: ids begin anew", tables, error)
        return State()
    LOG.warning("%s is missing: ids taken from %s", path, tables)
    return replace(state, digest="")
