# SPDX-License-Identifier: Apache-2.0
"""What the writer publishes and the others read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from og.control.shares import Record, encode_record, fractions, known, parse_record, quantised

RECORD = Record(3, "ogr_w1", frozenset({("web", "east", 512), ("web", "south", 512)}), 10.5, {"web": "because"})


def test_coding():
    assert parse_record(encode_record(RECORD)) == RECORD
    assert RECORD.total("web") == 1024
    assert RECORD.total("db") == 0


@pytest.mark.parametrize(
    "change",
    [
        {"shares": [{"service": "web", "site": "east", "share": 1025}]},
        {"shares": [{"service": "web", "site": "east", "share": -1}]},
        {"shares": [{"service": "web", "site": site, "share": 600} for site in ("east", "south")]},
        {"shares": [{"service": "web"}]},
        {"generation": None},
        {"effective_at": []},
        {"reasons": 7},
    ],
)
def test_what_is_no_record(change):
    with pytest.raises(ValueError, match="not "):
        parse_record({**encode_record(RECORD), **change})
    with pytest.raises(ValueError, match="not a record"):
        parse_record([])


def test_due():
    assert (RECORD.due(10.0), RECORD.due(10.5), RECORD.due(11.0), RECORD.due(2.0)) == (0.5, 0, 0, 0)


@given(st.dictionaries(st.sampled_from(["east", "south", "north"]), st.floats(0, 1)))
def test_parts_of_1024(shares):
    total = sum(shares.values())
    shares = {site: share / max(1, total) for site, share in shares.items()}
    parts = quantised("web", shares)
    assert sum(part for _, _, part in parts) <= 1024
    assert all(abs(fractions("web", parts).get(site, 0) - share) < 0.002 for site, share in shares.items())


def test_everything_is_everything():
    assert quantised("web", {"east": 1.0, "south": 0.0}) == {("web", "east", 1024)}
    assert known(RECORD.shares, ["web"], {"east"}) == {("web", "east", 512)}
    assert known(RECORD.shares, ["db"], {"east"}) == frozenset()
