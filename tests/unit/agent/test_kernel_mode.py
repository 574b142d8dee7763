# SPDX-License-Identifier: Apache-2.0
"""Mode kernel without a kernel: what is a sound probe, and what its answer says."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from og.agent import config as configuration
from og.agent.kernel import daemon
from og.agent.kernel.daemon import PROBE_FORMAT, Load, answer, sid

ROOT = Path(__file__).resolve().parents[3]
LOCATOR, NONCE = IPv6Address("5f00:1:31::"), 0x1234_5678_9ABC
SOURCE, TARGET = IPv6Address("5f00:1:21::"), sid(LOCATOR, daemon.PROBE, NONCE)
DOCUMENT = {
    "interface": "fab0",
    "locator": str(LOCATOR),
    "fabric_mtu": 2000,
    "gateways": ["5f00:1:11::/64", "5f00:1:21::/64"],
    "services": [{"index": 3, "name": "web", "vip": "2001:db8:1::80", "protocol": "tcp", "port": 80}],
    "bpf_dir": "/opt/og/current/bpf",
}
CONFIG = configuration.check(DOCUMENT)
REQUEST = (1, 1, 2, 0, 0, NONCE.to_bytes(8), bytes(8), 77, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("ours", "name"),
    [
        (daemon.ACCEPT, "OG_FN_ACCEPT"),
        (daemon.PROBE, "OG_FN_PROBE"),
        (daemon.PROBE_PORT, "OG_PROBE_PORT"),
        (daemon.PROBE_VERSION, "OG_PROBE_VERSION"),
        (daemon.REQUEST, "OG_PROBE_REQUEST"),
        (daemon.REPLY, "OG_PROBE_REPLY"),
        (daemon.ROLE_AGENT, "OG_ROLE_AGENT"),
        (daemon.SERVING, "OG_PROBE_F_SERVING"),
        (daemon.DRAINING, "OG_PROBE_F_DRAINING"),
    ],
)
def test_numbers_are_those_of_the_wire_header(ours: int, name: str) -> None:
    match = re.search(rf"#define {name} (0x[0-9a-f]+|\d+)", (ROOT / "native/lib/og_wire.h").read_text())
    assert match is not None
    assert int(match[1], 0) == ours


def test_the_header_has_as_many_bytes() -> None:
    assert PROBE_FORMAT.size == 56


def test_sids() -> None:
    assert str(sid(LOCATOR, daemon.ACCEPT)) == "5f00:1:31:0:10::"
    assert str(TARGET) == "5f00:1:31:0:20:1234:5678:9abc"


def test_an_answer_echoes_and_tells() -> None:
    reply = answer(PROBE_FORMAT.pack(*REQUEST), SOURCE, TARGET, CONFIG, Load(0b1000, 12))
    assert reply is not None
    *head, nonce, me, sent_ns, listeners, connections, accepts, octets = PROBE_FORMAT.unpack(reply)
    assert head == [1, 2, 3, daemon.SERVING, 0]
    assert (int.from_bytes(nonce), sent_ns, listeners, connections, accepts, octets) == (NONCE, 77, 8, 12, 0, 0)
    assert me == daemon.incarnation(LOCATOR) != bytes(8)


def test_a_draining_host_says_so() -> None:
    draining = configuration.check(DOCUMENT | {"draining": True})
    reply = answer(PROBE_FORMAT.pack(*REQUEST), SOURCE, TARGET, draining, Load())
    assert reply is not None
    assert reply[3] == daemon.SERVING | daemon.DRAINING


@pytest.mark.parametrize(
    ("request_", "source", "target"),
    [
        ((2, *REQUEST[1:]), SOURCE, TARGET),
        ((1, 2, *REQUEST[2:]), SOURCE, TARGET),
        (REQUEST, IPv6Address("2001:db8::1"), TARGET),
        (REQUEST, SOURCE, sid(LOCATOR, daemon.PROBE, NONCE + 1)),
        (REQUEST, SOURCE, sid(LOCATOR, daemon.ACCEPT, NONCE)),
        (REQUEST, SOURCE, sid(IPv6Address("5f00:1:32::"), daemon.PROBE, NONCE)),
        ((*REQUEST[:5], (1 << 48 | NONCE).to_bytes(8), *REQUEST[6:]), SOURCE, TARGET),
    ],
)
def test_no_sound_request_is_answered(request_: tuple[int, ...], source: IPv6Address, target: IPv6Address) -> None:
    assert answer(PROBE_FORMAT.pack(*request_), source, target, CONFIG, Load()) is None


@given(st.binary(max_size=80), st.integers(0, (1 << 128) - 1), st.integers(0, (1 << 128) - 1))
def test_no_bytes_raise(data: bytes, source: int, target: int) -> None:
    reply = answer(data, IPv6Address(source), IPv6Address(target), CONFIG, Load())
    assert reply is None or len(reply) == 56
