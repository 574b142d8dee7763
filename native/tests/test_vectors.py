# SPDX-License-Identifier: Apache-2.0
"""Public captures and every truncation of them: parsed, or dropped under a name. Under sanitizers: test_fuzz.py."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

import pytest

from native.tests import vectors
from native.tests.lab_site import HASHER, sid
from native.tests.test_hasher import shared

if TYPE_CHECKING:
    from native.tests.oglib import OgLibrary

CAPTURES: list[Any] = list(vectors.captures()) or [pytest.param("none", marks=pytest.mark.skip(reason=vectors.SKIP))]

# What the parser of SID packets says of the first packet of each capture. `hmac`: its TLV has a length of 16 and
# leaves six bytes that are no TLV (tcpdump, too, calls it invalid). `oobr`: cut off.
OUTER = {
    "srperf_plain-ipv6-64": "none", "srperf_srv6-end-64": "none", "srperf_srv6-end_dt6-64": "none",
    "srperf_srv6-end_dx2-64": "none", "srperf_srv6-end_dx6-64": "none", "srperf_srv6-end_t-64": "none",
    "srperf_srv6-end_x-64": "none", "srperf_srv6-t_encaps_l2-64": "none", "srperf_srv6-t_encaps_v6-64": "none",
    "srperf_srv6-t_insert_v6-64": "none", "tcpdump_ipv6-routing-header": "drop_srh_type",
    "tcpdump_ipv6-rthdr-oobr": "drop_truncated", "tcpdump_ipv6-srh-ext-header": "none",
    "tcpdump_ipv6-srh-insert-cksum": "none", "tcpdump_ipv6-srh-ipproto-ether": "none",
    "tcpdump_ipv6-srh-tlv-hmac": "drop_tlv", "tcpdump_ipv6-srh-tlv-pad1-padn-5": "none",
    "tcpdump_ipv6-srh-tlv-pad1-padn-5-trunc": "drop_truncated",
}  # fmt: skip


def parse_outer(og: OgLibrary, data: bytes) -> tuple[str, Any]:
    raw = og.ffi.new("uint8_t[]", data or b"\0")
    outer = og.ffi.new("struct og_outer *")
    return og.verdict(og.lib.og_parse_outer(raw, len(data), outer)), outer


@pytest.mark.parametrize("name", CAPTURES)
def test_the_first_packet(og: OgLibrary, name: str) -> None:
    assert parse_outer(og, next(vectors.packets_of(name)))[0] == OUTER[name.removesuffix(".pcap")]


@pytest.mark.parametrize("name", CAPTURES)
def test_every_truncation_is_parsed_or_named(og: OgLibrary, name: str) -> None:
    for data in vectors.packets_of(name):
        for length in range(len(data)):
            verdict, outer = parse_outer(og, data[:length])
            assert verdict.startswith("drop_") or outer.len <= length


@pytest.mark.parametrize("name", CAPTURES)
def test_through_the_hasher_as_they_are_and_sent_to_its_sids(og: OgLibrary, name: str) -> None:
    hasher = shared(og)
    to_us = IPv6Address(sid(HASHER, 0x20)).packed
    for data in vectors.packets_of(name):
        for variant in (data, data[:24] + to_us + data[40:]):
            for buf in hasher.burst([variant[:length] for length in range(len(variant) + 1)]):
                assert buf.verdict.startswith("drop_"), buf.verdict
