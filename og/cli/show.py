# SPDX-License-Identifier: Apache-2.0
"""Answers as text tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Facts = dict[str, Any]


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Align columns: numbers to the right, all else to the left."""
    body = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(header), *body]) for i in range(len(header))]
    right = [bool(body) and all(_is_number(line[i]) for line in body) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join(line(cells) for cells in [list(header), *body]) + "\n"


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(".", "", 1).isdigit()


def status(nodes: dict[str, Facts]) -> str:
    """One line per node, then what is wrong, then the members' weights as the control daemons see them."""
    header = ("node", "role", "ok", "tables", "digest", "members", "pins", "half-open", "rx/s", "tx/s", "drops/s")
    text = table(header, [_status_row(name, facts) for name, facts in nodes.items()])
    text += _versions(nodes) + _releases(nodes)
    problems = [(name, problem) for name, facts in nodes.items() for problem in facts.get("problems", [])]
    if problems:
        text += "\n" + table(("node", "problem"), problems)
    members = _members(nodes)
    if members:
        text += "\n" + table(("member", "kind", "weight", "why"), members)
    shares = _shares(nodes)
    if shares:
        text += "\n" + table(("site", "service", "to", "share", "why", "writer", "history"), shares)
    return text


def _shares(nodes: dict[str, Facts]) -> list[tuple[object, ...]]:
    """What leaves each site, and how many earlier memberships are known; where routers disagree, each has a line."""
    seen: dict[tuple[object, ...], None] = {}
    for facts in nodes.values():
        control = facts.get("control", {})
        if "spill" not in control:
            continue
        spill = control["spill"]
        for service, entries in control.get("history", {}).items():
            shares = {share["site"]: share["share"] for share in control["shares"] if share["service"] == service}
            for site, share in (shares or {"": 0}).items():
                why = spill["reasons"].get(service)
                writer = spill["writer"] or (control["node"] if spill["is_writer"] else "")
                seen[(control.get("site"), service, site, f"{share / 10.24:.1f} %", why, writer, entries)] = None
    return sorted(seen, key=str)


WHY = (
    "service",
    "generation",
    "slot",
    "pin",
    "target",
    "picks",
    "history",
    "bucket",
    "share",
    "site",
    "router",
    "reason",
)
WHY_NAMES = {"generation": "tables", "picks": "candidates", "bucket": "bucket of 1024", "share": "leave of 1024"}


def why(nodes: dict[str, Facts]) -> str:
    """One column per node: what it knows of the flow, and where a new one would go."""
    answered = {name: facts for name, facts in nodes.items() if "problems" not in facts}
    rows = [
        (WHY_NAMES.get(key, key), *(_why_cell(facts.get(key)) for facts in answered.values()))
        for key in WHY
        if any(key in facts for facts in answered.values())
    ]
    return table(("", *(f"{name} ({facts['role']})" for name, facts in answered.items())), rows) + _failures(nodes)


def _why_cell(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _status_row(name: str, facts: Facts) -> tuple[object, ...]:
    rates, pins = facts.get("rates", {}), facts.get("pins", {})
    members = facts.get("control", {}).get("members", [])
    if "agent" in facts:
        services = facts["agent"].get("services", {}).values()
        pins = {"count": None, "half_open": None}
        members = [{"weight": 1} for service in services if service.get("listener")]
    usable = sum(1 for member in members if member["weight"])
    return (
        name,
        facts.get("role"),
        facts.get("ok"),
        facts.get("generation") or None,
        str(facts.get("digest", ""))[:8],
        f"{usable}/{len(members)}" if "control" in facts else None,
        pins.get("count"),
        pins.get("half_open"),
        *(rates.get(f"{name}_per_s") for name in ("rx", "tx", "drops")),
    )


def _versions(nodes: dict[str, Facts]) -> str:
    """Say when nodes of one role run different tables."""
    text = ""
    for role in ("hasher", "router"):
        digests = {facts["digest"] for facts in nodes.values() if facts.get("role") == role and facts.get("digest")}
        if len(digests) > 1:
            text += f"\n{role}s run {len(digests)} different tables\n"
    return text


def _releases(nodes: dict[str, Facts]) -> str:
    """Say when nodes have different releases, or programs of a node were started from another one."""
    lines = []
    current = {str(facts["release"]["current"]) for facts in nodes.values() if "release" in facts} - {""}
    if len(current) > 1:
        lines.append(f"nodes have {len(current)} different releases: {', '.join(sorted(current))}")
    for name, facts in nodes.items():
        release = facts.get("release", {"running": {}})
        lines += [
            f"{name}: {unit} runs release {other}, current is {release['current']}"
            for unit, other in release["running"].items()
            if other not in ("", release["current"])
        ]
    return "".join(f"\n{line}\n" for line in lines)


def _members(nodes: dict[str, Facts]) -> list[tuple[object, ...]]:
    """Members of all nodes; where nodes disagree, each opinion is a line."""
    seen: dict[tuple[object, ...], None] = {}
    for facts in nodes.values():
        for member in facts.get("control", {}).get("members", []):
            seen[(member["name"], member["kind"], member["weight"], member["reason"])] = None
    return sorted(seen, key=str)


def counters(nodes: dict[str, Facts]) -> str:
    """One line per counter that is not zero everywhere, one column per node."""
    answered = {name: facts for name, facts in nodes.items() if "problems" not in facts}
    names = dict.fromkeys(name for facts in answered.values() for name in facts)
    rows = [(name, *(facts.get(name, 0) for facts in answered.values())) for name in names]
    text = table(("counter", *answered), [row for row in rows if any(row[1:])])
    return text + _failures(nodes)


def pins(nodes: dict[str, Facts]) -> str:
    """One line per node."""
    columns = ("count", "capacity", "closing", "half_open", "inserts", "promotions", "expired", "evictions")
    rows = [(name, *(facts.get(c) for c in columns)) for name, facts in nodes.items() if "problems" not in facts]
    return table(("node", *columns), rows) + _failures(nodes)


def pin_list(nodes: dict[str, Facts]) -> str:
    """One line per pin."""
    columns = ("client", "client_port", "service", "target", "state", "idle_s")
    rows = [(name, *(pin.get(c) for c in columns)) for name, facts in nodes.items() for pin in facts.get("list", [])]
    return table(("node", *columns), rows) + _failures(nodes)


def _failures(nodes: dict[str, Facts]) -> str:
    lines = [f"{name}: {problem}\n" for name, facts in nodes.items() for problem in facts.get("problems", [])]
    return "".join(["\n", *lines]) if lines else ""
