# SPDX-License-Identifier: Apache-2.0
"""Checksums against scapy's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from native.tests.lab_site import CLIENT, VIP
from native.tests.packets import TCP, UDP, ICMPv6EchoRequest, IPv6, Raw

if TYPE_CHECKING:
    from native.tests.oglib import OgLibrary

MESSAGES = st.sampled_from([TCP(), UDP(), ICMPv6EchoRequest()])


@given(MESSAGES, st.binary(max_size=1500))
def test_a_message_as_scapy_wrote_it_sums_to_zero(og: OgLibrary, message: object, payload: bytes) -> None:
    packet = bytes(IPv6(src=CLIENT, dst=VIP) / message / Raw(payload))
    ip = og.ffi.new("uint8_t[]", packet)
    assert og.lib.og_checksum(og.ffi.cast("struct og_ipv6 *", ip), packet[6], ip + 40, len(packet) - 40) == 0


@given(st.binary(max_size=200), st.integers(0, 65535), st.integers(0, 65535))
def test_update_equals_summing_again(og: OgLibrary, payload: bytes, before: int, after: int) -> None:
    def checksum(type_code: int) -> int:
        body = type_code.to_bytes(2, "little") + bytes(6) + payload
        packet = bytes(IPv6(src=CLIENT, dst=VIP, nh=58) / Raw(body))
        ip = og.ffi.new("uint8_t[]", packet)
        return int(og.lib.og_checksum(og.ffi.cast("struct og_ipv6 *", ip), 58, ip + 40, len(packet) - 40))

    updated = og.lib.og_checksum_update(checksum(before), before, after)
    assert updated % 0xFFFF == checksum(after) % 0xFFFF  # 0 and ffff are both zero in one's complement
