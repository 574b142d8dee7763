# SPDX-License-Identifier: Apache-2.0
"""What the daemon says of itself: the answer to `status` on the control socket. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from og.control.shares import describe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from og.control.config import Config
    from og.control.shares import Record
    from og.control.state import State
    from og.control.tables import Tables
    from og.control.writer import News
    from og.dataplane import Status
    from og.jsonsock import Message
    from og.policy.check import Policy


@dataclass(frozen=True)
class Facts:
    """All that is to be told. `news` is None on a node that has no writer: a hasher."""

    config: Config
    pid: int
    policy: Policy
    policy_error: str
    state: State
    tables: Tables | None  # None = never made
    running: Status | None  # None = the data plane cannot be asked
    trouble: str  # why the data plane does not run the tables; empty = it does
    consul: Mapping[str, str]  # what is followed, and why it cannot be asked; empty = it answers
    notes: tuple[str, ...]
    news: News | None
    record: Record | None  # the published shares


def compose(facts: Facts) -> Message:
    """Return the answer to `status`."""
    policy, tables, running = facts.policy, facts.tables, facts.running
    return {
        "ok": True,
        "role": facts.config.role,
        "node": facts.config.node,
        "site": facts.config.site,
        "pid": facts.pid,
        "policy": {"name": policy.name, "digest": policy.digest, "error": facts.policy_error},
        "generation": facts.state.generation,
        "digest": tables.digest if tables else "",
        "applied": not facts.trouble,
        "detail": facts.trouble,
        "data_plane": {**asdict(running), "shares": describe(running.shares)} if running else None,
        "consul": dict(facts.consul),
        "members": [asdict(verdict) for verdict in tables.verdicts] if tables else [],
        "capacity": {
            name: {"usable": usable, "total": total, "unit": policy.service(name).capacity_unit}
            for name, (usable, total) in (tables.capacity if tables else {}).items()
        },
        "notes": list(facts.notes),
        **(_compose_spill(facts.state, facts.news, facts.record) if facts.news else {}),
    }


def _compose_spill(state: State, news: News, record: Record | None) -> Message:
    """Return what is to be said of shares and history."""
    return {
        "shares": describe(state.shares or ()),
        "spill": {
            "writer": record.writer if record else "",
            "is_writer": news.writer,
            "reasons": dict(news.reasons or (record.reasons if record else {})),
            "trouble": news.trouble,
            "effective_at": record.effective_at if record else None,
        },
        "history": {name: len(log.past) for name, log in state.logs.items()},
    }
