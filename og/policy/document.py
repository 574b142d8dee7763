# SPDX-License-Identifier: Apache-2.0
"""YAML text to plain data that still knows the line of every field, so that an error can name it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import yaml

Path = tuple[str | int, ...]
MAX_VALUES = 20_000  # aliases multiply: a file of ten lines can mean billions of values


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a policy: where (field and line, 1-based; 0 = unknown) and what."""

    path: Path
    line: int
    column: int
    message: str

    def text(self, source: str) -> str:
        """One line for people: `policy.yml:12:5: services.web.weight: 2000 is greater than the maximum of 1000`."""
        place = f"{source}:{self.line}:{self.column}" if self.line else source
        field = format_path(self.path)
        return f"{place}: {field}: {self.message}" if field else f"{place}: {self.message}"


@dataclass(frozen=True)
class Document:
    """Parsed YAML: the data, and the position (line, column) of every value by its path."""

    data: Any
    marks: dict[Path, tuple[int, int]]

    def problem(self, path: Path, message: str) -> Problem:
        """Make a problem at the nearest position known: the field itself, else the one that holds it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.marks:
                return Problem(path, *self.marks[path[:length]], message)
        return Problem(path, 0, 0, message)


class PolicyError(Exception):
    """A policy that must not be used, with every problem found."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.source = source
        self.problems = problems
        super().__init__("\n".join(problem.text(source) for problem in problems))


def format_path(path: Path) -> str:
    """`services.web.weights.agent_w1`, `drain[2]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def parse(text: str, source: str) -> Document:
    """Parse `text`; raise PolicyError for what is not YAML, has a key twice, or a key that is not text."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise PolicyError(source, [Problem((), line, column, f"not YAML: {error.problem or error.context}")]) from None
    except RecursionError:
        raise PolicyError(source, [Problem((), 0, 0, "nested too deeply")]) from None
    except yaml.YAMLError as error:  # characters that YAML forbids: no mark, the text has the position
        raise PolicyError(source, [Problem((), 0, 0, f"not YAML: {' '.join(str(error).split())}")]) from None
    if root is None:
        raise PolicyError(source, [Problem((), 1, 1, "the file is empty; the least is `version: 1`")])
    builder = _Builder()
    data = builder.build(root, (), frozenset())
    if builder.problems:
        raise PolicyError(source, builder.problems)
    return Document(data, builder.marks)


class _Builder:
    """Makes plain data of YAML nodes and collects marks and problems on the way."""

    def __init__(self) -> None:
        self.marks: dict[Path, tuple[int, int]] = {}
        self.problems: list[Problem] = []

    def build(self, node: yaml.Node, path: Path, above: frozenset[int]) -> object:
        """Build the value of `node`; `above` holds the ids of the nodes it is part of."""
        here = _position(node)
        self.marks.setdefault(path, here)
        if id(node) in above:
            self.problems.append(Problem(path, *here, "an alias that contains itself"))
            return None
        if len(self.marks) > MAX_VALUES:
            if not self.problems:
                self.problems.append(Problem(path, *here, f"more than {MAX_VALUES} values (aliases count each time)"))
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, above | {id(node)})
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, i), above | {id(node)}) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path, above: frozenset[int]) -> dict[str, object]:
        mapping: dict[str, object] = {}
        for key_node, value_node in node.value:
            key, here = key_node.value, _position(key_node)
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                what = repr(key) if isinstance(key_node, yaml.ScalarNode) else "a list or a mapping"
                self.problems.append(Problem(path, *here, f"a key must be text, not {what}"))
            elif key in mapping:
                self.problems.append(Problem((*path, key), *here, "the key is there twice"))
            else:
                self.marks[(*path, key)] = here
                mapping[key] = self.build(value_node, (*path, key), above)
        return mapping

    def _scalar(self, node: yaml.Node, path: Path) -> object:
        try:
            value: object = yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            self.problems.append(Problem(path, *_position(node), f"{node.value!r}: {str(error).splitlines()[0]}"))
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self.problems.append(Problem(path, *_position(node), f"{node.value!r}: not a finite number"))
        return value


def _position(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
