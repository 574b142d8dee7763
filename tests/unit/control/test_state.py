# SPDX-License-Identifier: Apache-2.0
"""The state file, and what happens when it is lost or broken."""

from __future__ import annotations

import json

import pytest

from og.control.state import State, StateError, encode, load_state, next_generation, read_state, write_state
from og.control.tables import complete, digest_of
from og.control.view import View
from og.dataplane import Status
from tests.unit.control.builders import Site, config, instance, view


def site_with_members():
    site = Site(text="thresholds: {vanish_s: 0, forget_s: 9}")
    site.look(view(["agent_w1", "agent_w2", "agent_w3"], ["ogr_w1"], drains=["agent_w2"]))
    site.look(view(["agent_w1", instance("agent_w2", "down")]))
    return site


def test_write_and_read(tmp_path):
    path = tmp_path / "state.json"
    assert read_state(path) is None
    state = site_with_members().state
    write_state(path, state)
    read = read_state(path)
    assert read is not None
    assert encode(read) == encode(state)
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 2}', '{"format": 1, "generation": "x"}', "\xff"])
def test_a_broken_file_is_named(tmp_path, text):
    path = tmp_path / "state.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(StateError, match=r"state\.json: "):
        read_state(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    write_state(path, State(generation=1))

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("og.control.state.os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_state(path, State(generation=2))
    read = read_state(path)
    assert read is not None
    assert read.generation == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_ids_survive_the_loss_of_the_state_file(tmp_path):
    site = Site()
    site.look(view(["agent_w1", "agent_w2"], ["ogr_w1", "ogr_w2"]))
    state_dir = tmp_path / "control"
    state_dir.mkdir()
    (tmp_path / "router.tables.json").write_text(json.dumps(complete(site.tables, 41)))
    (state_dir / "state.json").write_text("broken")
    state = load_state(config(state_dir=str(state_dir)))
    assert state.generation == 41
    before = site.tables.body
    site.state = state
    assert site.look(View()) == before  # without Consul
    assert site.look(view(["agent_w1", "agent_w2"], ["ogr_w1", "ogr_w2"])) == before


@pytest.mark.parametrize("tables", [None, "", "[]", "{}"])
def test_without_anything_it_begins_anew(tmp_path, tables):
    if tables is not None:
        (tmp_path / "router.tables.json").write_text(tables)
    assert load_state(config(state_dir=str(tmp_path / "control"))) == State()


def running(generation, digest):
    return Status("router", generation, digest, "", serving=True, suspect=())


@pytest.mark.parametrize(
    ("ours", "theirs", "wanted"),
    [
        ((0, ""), (0, ""), 1),  # both new
        ((7, "a"), (7, "a"), 8),  # a change
        ((7, "b"), (7, "b"), 7),  # nothing to do
        ((7, "b"), (0, ""), 7),  # the data plane lost its tables
        ((7, "b"), (6, "a"), 7),  # it missed the last load
        ((7, "b"), (7, "a"), 8),  # the same number, other tables: a number names one document
        ((0, ""), (9, "b"), 9),  # our state is lost, its tables are right
        ((3, "a"), (9, "a"), 10),  # our state is older than its tables
    ],
)
def test_next_generation(ours, theirs, wanted):
    state = State(generation=ours[0], digest=ours[1])
    assert next_generation(state, running(*theirs), "b") == wanted


def test_digest_is_of_all_but_generation_and_itself():
    tables = site_with_members().tables
    document = complete(tables, 5)
    assert digest_of(document) == document["digest"] == digest_of(complete(tables, 6))
    assert digest_of(dict(reversed(document.items()))) == document["digest"]
    assert digest_of({**document, "slots": 13}) != document["digest"]
