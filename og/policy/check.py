# SPDX-License-Identifier: Apache-2.0
"""Policy text to a `Policy`: JSON Schema first, then what a schema cannot say."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import jsonschema

from .document import Document, Path, PolicyError, Problem, parse
from .loops import find_loops
from .schema import DEFAULT_LIMIT, DEFAULT_UNIT, DEFAULT_WEIGHT, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True)
class Timeouts:
    """Seconds; None = the default of the service's protocol."""

    idle_s: int | None = None
    closing_s: int = 60
    half_open_s: int = 8


@dataclass(frozen=True)
class Spill:
    """When and where new flows leave the site; see the schema for each. Parts are of 1."""

    sites: tuple[str, ...] | None = None  # None = all others
    target: float | None = None
    limit: float | None = None
    share: float = 0.0
    ramp_per_s: float = 0.05

    @property
    def fill(self) -> float:
        """Utilisation up to which another site is filled from here."""
        return next((part for part in (self.limit, self.target) if part is not None), DEFAULT_LIMIT)


@dataclass(frozen=True)
class ServicePolicy:
    """What the policy says about one service."""

    members: str
    weight: int = DEFAULT_WEIGHT
    weights: Mapping[str, int] = field(default_factory=dict)
    capacity_unit: str = DEFAULT_UNIT
    capacity: int | None = None
    capacities: Mapping[str, int] = field(default_factory=dict)
    accept_limit: int = 0
    timeouts: Timeouts = Timeouts()
    spill: Spill = Spill()


@dataclass(frozen=True)
class Thresholds:
    """When Consul's word is doubted; see the schema for each."""

    panic: float = 0.0
    router_panic: float = 0.5
    vanish_s: int = 60
    forget_s: int = 8000


@dataclass(frozen=True)
class Policy:
    """A checked policy. `digest` is the SHA-256 of its meaning: comments and layout do not change it."""

    name: str
    services: Mapping[str, ServicePolicy]
    router_weights: Mapping[str, int]
    drain: frozenset[str]
    thresholds: Thresholds
    digest: str
    defaults: ServicePolicy

    def service(self, name: str) -> ServicePolicy:
        """Return the entry of a service, or the defaults: its members are the Consul service of the same name."""
        return self.services.get(name) or replace(self.defaults, members=name)


@dataclass(frozen=True)
class Inventory:
    """What the inventory says that a policy must fit; None = not known here. `site` is the policy's own."""

    services: Collection[str] | None = None
    site: str | None = None
    sites: Collection[str] | None = None
    others: Mapping[str, Policy] = field(default_factory=dict)  # policies of other sites


def load_policy(text: str, source: str, inventory: Inventory | None = None) -> Policy:
    """Return the policy in `text`; raise PolicyError with every problem found. `source` is the file's name."""
    inventory = inventory or Inventory()
    document = parse(text, source)
    problems = _schema_problems(document)
    if not problems:
        problems = _semantic_problems(document, inventory)
    if not problems and inventory.site is not None:
        policies = {**inventory.others, inventory.site: _build(document.data)}
        loops = find_loops(inventory.site, policies, inventory.services)
        problems = list(dict.fromkeys(_loop_problem(document, *loop) for loop in loops))
    if problems:
        raise PolicyError(source, sorted(problems, key=lambda problem: (problem.line, problem.column, problem.path)))
    return _build(document.data)


def _schema_problems(document: Document) -> list[Problem]:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return [
        problem
        for error in validator.iter_errors(document.data)
        for problem in _problems_of(document, tuple(error.absolute_path), error)
    ]


def _problems_of(document: Document, path: Path, error: jsonschema.ValidationError) -> list[Problem]:
    """Say jsonschema's error in our words, and name the field itself, not the object around it."""
    instance: Any = error.instance
    value: Any = error.validator_value
    schema: Any = error.schema
    allowed = ", ".join(sorted(schema.get("properties", {})))
    match error.validator:
        case "additionalProperties":
            unknown = [key for key in instance if key not in schema.get("properties", {})]
            found = [((*path, key), f"unknown field; known: {allowed}") for key in unknown]
        case "required":
            found = [((*path, key), "is missing") for key in value if key not in instance]
        case "const":
            found = [(path, f"{instance!r} is not supported, only {value!r}")]
        case "pattern":
            # The instance is a value, or (under propertyNames) a key of the object at `path`.
            at = path if _at(document.data, path) == instance else (*path, str(instance))
            found = [(at, f"{instance!r} is not a name (letters, digits, `_`, `.`, `-`; at most 63)")]
        case "minProperties" | "maxProperties":
            found = [(path, f"needs exactly one of {allowed}")]
        case _:
            found = [(path, error.message)]
    return [document.problem(at, message) for at, message in found]


def _at(data: Any, path: Path) -> object:  # noqa: ANN401 - any YAML
    for part in path:
        data = data[part]
    return data


def _semantic_problems(document: Document, inventory: Inventory) -> list[Problem]:
    data: dict[str, Any] = document.data
    problems: list[Problem] = []
    if "defaults" in data:
        problems += _setting_problems(document, ("defaults",), data["defaults"], inventory)
    for name, entry in data.get("services", {}).items():
        path: Path = ("services", name)
        if inventory.services is not None and name not in inventory.services:
            known = ", ".join(sorted(inventory.services)) or "none"
            problems.append(document.problem(path, f"no such service; the inventory defines: {known}"))
        problems += _setting_problems(document, path, entry, inventory)
    for index, name in enumerate(data.get("drain", [])):
        if name in (inventory.sites or ()) and inventory.site not in (None, name):
            problems.append(document.problem(("drain", index), f"{name} is another site: drain it by its own policy"))
    thresholds = data.get("thresholds", {})
    defaults = Thresholds()
    vanish, forget = thresholds.get("vanish_s", defaults.vanish_s), thresholds.get("forget_s", defaults.forget_s)
    if vanish > forget:
        at = "vanish_s" if "vanish_s" in thresholds else "forget_s"
        message = f"a member would be forgotten (forget_s {forget}) before it vanishes (vanish_s {vanish})"
        problems.append(document.problem(("thresholds", at), message))
    return problems


def _setting_problems(document: Document, path: Path, entry: dict[str, Any], inventory: Inventory) -> list[Problem]:
    """Problems of a service's entry, or of the defaults."""
    problems = []
    timeouts, spill = entry.get("timeouts", {}), entry.get("spill", {})
    closing, idle = timeouts.get("closing_s"), timeouts.get("idle_s")
    if closing is not None and idle is not None and closing > idle:
        problems.append(
            document.problem((*path, "timeouts", "closing_s"), f"{closing} is longer than idle_s, which is {idle}")
        )
    for index, name in enumerate(spill.get("sites", [])):
        at = (*path, "spill", "sites", index)
        if name == inventory.site:
            problems.append(document.problem(at, f"{name} is this site itself: its flows would never leave"))
        elif inventory.sites is not None and name not in inventory.sites:
            known = ", ".join(sorted(set(inventory.sites) - {inventory.site}))
            problems.append(document.problem(at, f"no such site {name!r}; others are: {known or 'none'}"))
    if spill.get("sites") == [] and (spill.get("share") or spill.get("target")):
        at = (*path, "spill", "share" if spill.get("share") else "target")
        problems.append(document.problem(at, "nowhere to go: `sites` is empty"))
    return problems


def _loop_problem(document: Document, service: str, fields: Collection[str], message: str) -> Problem:
    """A problem of the first of these spill fields that the document has, in the service's entry or the defaults."""
    own: Path = ("services", service, "spill")
    paths: list[Path] = [(*at, name) for name in fields for at in (own, ("defaults", "spill"))]
    found = next((path for path in (*paths, ("drain",), own, ("defaults",)) if path in document.marks), own)
    return document.problem(found, message)


def _build(data: dict[str, Any]) -> Policy:
    defaults = data.get("defaults", {})
    services = {name: _build_service(name, entry, defaults) for name, entry in data.get("services", {}).items()}
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return Policy(
        name=data.get("name", ""),
        services=services,
        router_weights=data.get("gateways", {}).get("weights", {}),
        drain=frozenset(data.get("drain", [])),
        thresholds=Thresholds(**data.get("thresholds", {})),
        digest=hashlib.sha256(canonical.encode()).hexdigest(),
        defaults=_build_service("", {}, defaults),
    )


def _build_service(name: str, entry: dict[str, Any], defaults: dict[str, Any]) -> ServicePolicy:
    merged = {**defaults, **entry}
    for group in ("timeouts", "spill"):
        merged[group] = {**defaults.get(group, {}), **entry.get(group, {})}
    unit, capacity = next(iter(merged.get("capacity", {}).items()), (DEFAULT_UNIT, None))
    spill = merged["spill"]
    return ServicePolicy(
        members=entry.get("members", name),
        weight=merged.get("weight", DEFAULT_WEIGHT),
        weights=entry.get("weights", {}),
        capacity_unit=unit,
        capacity=capacity,
        capacities=entry.get("capacities", {}),
        accept_limit=merged.get("accept_limit", 0),
        timeouts=Timeouts(**merged["timeouts"]),
        spill=Spill(**{**spill, "sites": tuple(spill["sites"])} if "sites" in spill else spill),
    )
