# SPDX-License-Identifier: Apache-2.0
"""Policy text to a `Policy`: JSON Schema first, then what a schema cannot say."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jsonschema

from .document import Document, Path, PolicyError, Problem, parse
from .schema import DEFAULT_WEIGHT, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True)
class Timeouts:
    """Seconds; None = the default of the service's protocol."""

    idle_s: int | None = None
    closing_s: int = 60
    half_open_s: int = 8


@dataclass(frozen=True)
class ServicePolicy:
    """What the policy says about one service."""

    members: str
    weight: int = DEFAULT_WEIGHT
    weights: Mapping[str, int] = field(default_factory=dict)
    capacity_unit: str | None = None
    capacity: int | None = None
    accept_limit: int = 0
    timeouts: Timeouts = Timeouts()


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

    def service(self, name: str) -> ServicePolicy:
        """Return the entry of a service, or the defaults: its members are the Consul service of the same name."""
        return self.services.get(name) or ServicePolicy(members=name)


def load_policy(text: str, source: str, services: Collection[str] | None = None) -> Policy:
    """Return the policy in `text`; raise PolicyError with every problem found.

    `source` is the file's name, for messages; `services` are the names the inventory defines (None: not known here).
    """
    document = parse(text, source)
    problems = _schema_problems(document)
    if not problems:
        problems = _semantic_problems(document, services)
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


def _semantic_problems(document: Document, services: Collection[str] | None) -> list[Problem]:
    data: dict[str, Any] = document.data
    problems: list[Problem] = []
    for name, entry in data.get("services", {}).items():
        path: Path = ("services", name)
        if services is not None and name not in services:
            known = ", ".join(sorted(services)) or "none"
            problems.append(document.problem(path, f"no such service; the inventory defines: {known}"))
        timeouts = entry.get("timeouts", {})
        closing, idle = timeouts.get("closing_s"), timeouts.get("idle_s")
        if closing is not None and idle is not None and closing > idle:
            problems.append(
                document.problem((*path, "timeouts", "closing_s"), f"{closing} is longer than idle_s, which is {idle}")
            )
    thresholds = data.get("thresholds", {})
    defaults = Thresholds()
    vanish, forget = thresholds.get("vanish_s", defaults.vanish_s), thresholds.get("forget_s", defaults.forget_s)
    if vanish > forget:
        at = "vanish_s" if "vanish_s" in thresholds else "forget_s"
        message = f"a member would be forgotten (forget_s {forget}) before it vanishes (vanish_s {vanish})"
        problems.append(document.problem(("thresholds", at), message))
    return problems


def _build(data: dict[str, Any]) -> Policy:
    services = {name: _build_service(name, entry) for name, entry in data.get("services", {}).items()}
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return Policy(
        name=data.get("name", ""),
        services=services,
        router_weights=data.get("gateways", {}).get("weights", {}),
        drain=frozenset(data.get("drain", [])),
        thresholds=Thresholds(**data.get("thresholds", {})),
        digest=hashlib.sha256(canonical.encode()).hexdigest(),
    )


def _build_service(name: str, entry: dict[str, Any]) -> ServicePolicy:
    unit, capacity = next(iter(entry.get("capacity", {}).items()), (None, None))
    return ServicePolicy(
        members=entry.get("members", name),
        weight=entry.get("weight", DEFAULT_WEIGHT),
        weights=entry.get("weights", {}),
        capacity_unit=unit,
        capacity=capacity,
        accept_limit=entry.get("accept_limit", 0),
        timeouts=Timeouts(**entry.get("timeouts", {})),
    )
