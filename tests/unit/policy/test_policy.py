# SPDX-License-Identifier: Apache-2.0
"""Policy files: what is accepted, what is refused, and that every refusal names line and field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from og.policy.__main__ import main
from og.policy.check import Inventory, Spill, Thresholds, load_policy
from og.policy.document import PolicyError
from og.policy.schema import SCHEMA

FULL = """\
version: 1
name: even
services:
  web:
    members: web-public
    weight: 50
    weights: {agent_w1: 200, agent_w2: 0}
    capacity: {connections: 1000}
    capacities: {agent_w2: 2000}
    accept_limit: 64
    spill: {target: 0.9, limit: 0.8, sites: [east], share: 0.1, ramp_per_s: 0.1}
    timeouts: {idle_s: 600, closing_s: 30, half_open_s: 5}
gateways:
  weights: {ogr_w1: 10}
drain: [agent_w3]
thresholds: {panic: 0.3, router_panic: 0.25, vanish_s: 5, forget_s: 60}
"""


WEST = Inventory(["web"], "west", ["west", "east"])


def problems(text, inventory=None):
    with pytest.raises(PolicyError) as caught:
        load_policy(text, "policy.yml", inventory)
    return str(caught.value).splitlines()


def test_full_policy():
    policy = load_policy(FULL, "policy.yml", WEST)
    web = policy.service("web")
    assert (web.members, web.weight, web.weights["agent_w1"], web.capacity_unit, web.capacity) == (
        "web-public",
        50,
        200,
        "connections",
        1000,
    )
    assert (web.timeouts.idle_s, web.timeouts.closing_s, web.timeouts.half_open_s, web.accept_limit) == (600, 30, 5, 64)
    assert (web.spill, web.spill.fill) == (Spill(("east",), 0.9, 0.8, 0.1, 0.1), 0.8)
    assert policy.router_weights == {"ogr_w1": 10}
    assert policy.drain == {"agent_w3"}
    assert policy.thresholds == Thresholds(0.3, 0.25, 5, 60)


def test_the_least_policy_gives_every_service_the_defaults():
    policy = load_policy("version: 1\n", "policy.yml", WEST)
    assert policy.service("web").members == "web"
    assert policy.service("web").weight == 100
    assert policy.thresholds == Thresholds()


def test_digest_is_of_the_meaning():
    same = "# a comment\n" + yaml.safe_dump(yaml.safe_load(FULL), sort_keys=True)
    assert load_policy(same, "a", None).digest == load_policy(FULL, "b", None).digest
    other = FULL.replace("weight: 50", "weight: 51")
    assert load_policy(other, "a", None).digest != load_policy(FULL, "a", None).digest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "policy.yml:1:1: the file is empty"),
        ("version: [1\n", "policy.yml:2:1: not YAML"),
        ("a: b: c\n", "policy.yml:1:5: not YAML"),
        ("version: 1\x00\n", "policy.yml: not YAML"),
        ("[" * 5000, "policy.yml: nested too deeply"),
        ("- 1\n", "policy.yml:1:1: [1] is not of type 'object'"),
        ("name: x\n", "policy.yml:1:1: version: is missing"),
        ("version: 2\n", "policy.yml:1:1: version: 2 is not supported, only 1"),
        ("version: 1\nversion: 1\n", "policy.yml:2:1: version: the key is there twice"),
        ("version: 1\n2: x\n", "policy.yml:2:1: a key must be text, not '2'"),
        ("version: 1\nspil: {}\n", "policy.yml:2:1: spil: unknown field; known: defaults, drain, gateways"),
        ("version: 1\nname: 2020-99-01\n", "policy.yml:2:7: name: '2020-99-01'"),
        ("version: 1\nservices:\n  web:\n    weight: -1\n", "policy.yml:4:5: services.web.weight: -1 is less than"),
        ("version: 1\nservices:\n  web: {weights: {a: 1001}}\n", "policy.yml:3:19: services.web.weights.a: 1001 is"),
        ("version: 1\nservices: {web: {weights: {a b: 1}}}\n", "services.web.weights.a b: 'a b' is not a name"),
        ("version: 1\nservices: {web: {capacity: {}}}\n", "services.web.capacity: needs exactly one of connections"),
        (
            "version: 1\nservices: {web: {capacity: {mbit_s: 1, connections: 1}}}\n",
            "services.web.capacity: needs exactly one of connections",
        ),
        ("version: 1\nservices: {web: {capacity: {connections: -4}}}\n", "services.web.capacity.connections: -4 is"),
        ("version: 1\nservices: {web: {timeouts: {idle_s: 5, closing_s: 6}}}\n", "closing_s: 6 is longer than idle_s"),
        ("version: 1\nservices: {db: {}}\n", "services.db: no such service; the inventory defines: web"),
        ("version: 1\ndrain: [x, 'a b']\n", "policy.yml:2:12: drain[1]: 'a b' is not a name"),
        ("version: 1\nthresholds: {panic: 1.5}\n", "thresholds.panic: 1.5 is greater than the maximum of 1"),
        ("version: 1\nthresholds: {panic: .nan}\n", "policy.yml:2:21: thresholds.panic: '.nan': not a finite number"),
        ("version: 1\nthresholds: {vanish_s: 99, forget_s: 9}\n", "thresholds.vanish_s: a member would be forgotten"),
        (
            "version: 1\nservices:\n  web: {spill: {target: 1.01}}\n",
            "policy.yml:3:17: services.web.spill.target: 1.01 is",
        ),
        ("version: 1\nservices:\n  web: {spill: {target: 0}}\n", "services.web.spill.target: 0 is less than"),
        ("version: 1\ndefaults: {spill: {share: 1.5}}\n", "policy.yml:2:20: defaults.spill.share: 1.5 is greater"),
        ("version: 1\ndefaults: {spill: {ramp_per_s: 0.5}}\n", "defaults.spill.ramp_per_s: 0.5 is greater than"),
        ("version: 1\ndefaults: {members: web}\n", "defaults.members: unknown field; known: accept_limit, capacity"),
        ("version: 1\ndefaults: {timeouts: {idle_s: 5, closing_s: 6}}\n", "closing_s: 6 is longer than idle_s"),
        (
            "version: 1\nservices:\n  web:\n    spill:\n      sites: [east, south]\n",
            "policy.yml:5:21: services.web.spill.sites[1]: no such site 'south'; others are: east",
        ),
        ("version: 1\ndefaults: {spill: {sites: [west]}}\n", "defaults.spill.sites[0]: west is this site itself"),
        ("version: 1\ndefaults: {spill: {sites: [], target: 0.5}}\n", "defaults.spill.target: nowhere to go"),
        ("version: 1\nservices: {web: {capacities: {a: -1}}}\n", "services.web.capacities.a: -1 is less than"),
        ("version: 1\ndrain: [east]\n", "policy.yml:2:9: drain[0]: east is another site"),
        ("a: &a [*a]\n", "a[0]: an alias that contains itself"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
            "more than 20000 values",
        ),
    ],
)
def test_refused(text, expected):
    assert any(expected in line for line in problems(text, WEST)), problems(text, WEST)


def test_every_problem_is_told_in_the_order_of_lines():
    text = "version: 1\nthresholds: {panic: 2}\nservices:\n  web: {weight: 5000}\n  db: {wait: 1}\n"
    assert [line.split(": ")[1] for line in problems(text)] == [
        "thresholds.panic",
        "services.web.weight",
        "services.db.wait",
    ]


def test_defaults_are_those_of_every_service_field_by_field():
    text = (
        "version: 1\ndefaults: {weight: 7, accept_limit: 9, capacity: {new_per_s: 5}, spill: {target: 0.5}}\n"
        "services: {web: {weight: 8, spill: {share: 0.25}}}\n"
    )
    policy = load_policy(text, "policy.yml")
    web, other = policy.service("web"), policy.service("other")
    assert (web.members, web.weight, web.accept_limit, web.capacity_unit, web.capacity) == ("web", 8, 9, "new_per_s", 5)
    assert web.spill == Spill(target=0.5, share=0.25)
    assert (other.members, other.weight, other.spill) == ("other", 7, Spill(target=0.5))


SPILL = "version: 1\nservices:\n  web:\n    spill: {%s}\n"
DEFAULTS = "version: 1\ndefaults:\n  spill: {%s}\n"


@pytest.mark.parametrize(
    ("text", "others", "expected"),
    [
        (SPILL % "target: 0.9", {"east": SPILL % "target: 0.9"}, None),
        (SPILL % "target: 0.9, limit: 0.95", {"east": SPILL % "target: 0.9"}, None),  # east does not send it back
        (
            SPILL % "target: 0.9, limit: 0.95",
            {"east": SPILL % "target: 0.9, limit: 0.95"},
            "policy.yml:4:26: services.web.spill.limit: spill loop west -> east -> west",
        ),
        (SPILL % "share: 0.5", {"east": SPILL % "share: 0.5"}, "services.web.spill.share: spill loop west -> east"),
        (
            DEFAULTS % "share: 0.5",
            {"east": DEFAULTS % "share: 0.5"},
            "policy.yml:3:11: defaults.spill.share: spill loop",
        ),
        (SPILL % "share: 0.5", {"east": SPILL % "target: 0.9"}, None),
        (SPILL % "share: 0.5", {"east": SPILL % "target: 0.5"}, "spill loop west -> east -> west"),
        (SPILL % "share: 0.5, limit: 0.5", {"east": SPILL % "target: 0.5, limit: 0.4"}, None),
        (SPILL % "share: 1", {"east": SPILL % "target: 0.9"}, None),  # drained; nobody sends to a drained site
        (SPILL % "share: 1", {"east": SPILL % "share: 1"}, "and so do all it gives them to (east): nobody is left"),
        ("version: 1\ndrain: [west]\n", {"east": SPILL % "share: 1"}, "policy.yml:2:1: drain: west gives all"),
        ("version: 1\ndrain: [west]\n", {"east": SPILL % "share: 1", "south": "version: 1\n"}, None),
        (
            SPILL % "target: 0.9, limit: 1, sites: [east]",
            {
                "east": SPILL % "target: 0.9, limit: 1, sites: [south]",
                "south": SPILL % "target: 0.9, limit: 1, sites: [west]",
            },
            "spill loop west -> east -> south -> west",
        ),
        (
            SPILL % "target: 0.9, limit: 1, sites: [east]",
            {"east": SPILL % "target: 0.9, limit: 1, sites: [south]", "south": SPILL % "target: 0.9, sites: [west]"},
            None,
        ),
    ],
)
def test_loops_between_sites(text, others, expected):
    known = {site: load_policy(other, site) for site, other in others.items()}
    error = refusal(text, Inventory(["web"], "west", ["west", *others], known))
    assert (error is None) if expected is None else (error is not None and expected in str(error)), error


def test_published_schema_is_the_one_in_use():
    assert json.loads(Path("og/policy/schema.json").read_text()) == SCHEMA


def refusal(text, inventory=WEST):
    """The error of a text, or None when it is a policy."""
    try:
        load_policy(text, "policy.yml", inventory)
    except PolicyError as error:
        return error
    return None


@given(st.text(max_size=200))
def test_any_text_is_a_policy_or_a_clear_refusal(text):
    error = refusal(text)
    assert error is None or all(line.startswith("policy.yml") for line in str(error).splitlines())


_VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 2000), st.floats(), st.text(max_size=5)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["web", "weight", "a"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(SCHEMA["properties"])), _VALUE, max_size=6))
def test_any_structure_is_a_policy_or_a_refusal_with_a_line(data):
    error = refusal(yaml.safe_dump({"version": 1, **data}, allow_unicode=True))
    assert error is None or all(problem.line > 0 for problem in error.problems)


def test_command_line(tmp_path, capsys):
    good, bad = tmp_path / "good.yml", tmp_path / "bad.yml"
    good.write_text(FULL)
    bad.write_text("version: 1\nx: 1\n")
    assert main([str(good)]) == 0
    assert main([str(bad)]) == 1
    assert f"{bad}:2:1: x: unknown field" in capsys.readouterr().err
    assert main([str(tmp_path / "none.yml")]) == 2
