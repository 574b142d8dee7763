# SPDX-License-Identifier: Apache-2.0
"""Type information, headers, rules and layout: what the loader works with, without loading anything."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from og.agent import headers, host, layout
from og.agent.btf import Btf, BtfError

ROOT = Path(__file__).resolve().parents[3]


def blob(types: bytes, strings: bytes) -> bytes:
    return struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings


def test_member_is_found_in_anonymous_structures_and_bitfield_encoding() -> None:
    strings = b"\0outer\0inner\0plain\0int\0"
    name = {text: strings.index(text.encode() + b"\0") for text in ("outer", "inner", "plain", "int")}
    types = struct.pack("=IIII", name["int"], 1 << 24, 4, 0x20)  # 1: int
    types += struct.pack("=III", 0, 4 << 24 | 1, 8) + struct.pack("=III", name["inner"], 1, 32)  # 2: anonymous struct
    types += struct.pack("=III", name["outer"], 1 << 31 | 4 << 24 | 2, 16)  # 3: struct outer
    types += struct.pack("=III", name["plain"], 1, 7 << 24 | 0) + struct.pack("=III", 0, 2, 64)
    found = Btf(blob(types, strings))
    assert found.offset("outer", "plain") == 0
    assert found.offset("outer", "inner") == 8 + 4
    with pytest.raises(BtfError, match="no member none in struct outer"):
        found.offset("outer", "none")
    with pytest.raises(BtfError, match="no member inner in struct none"):
        found.offset("none", "inner")


@pytest.mark.parametrize("data", [b"", b"\x9f\xeb\x01", bytes(24), struct.pack(">H", 0xEB9F) + bytes(22)])
def test_what_is_not_type_information_is_refused(data: bytes) -> None:
    with pytest.raises(BtfError):
        Btf(data)


def test_kernel_without_type_information(tmp_path: Path) -> None:
    with pytest.raises(BtfError, match="No such file"):
        Btf.of_kernel(tmp_path / "vmlinux")


def tree(base: Path, name: str) -> Path:
    (base / name / "include/config").mkdir(parents=True)
    return base / name


def test_headers_of_the_running_kernel_come_first(tmp_path: Path) -> None:
    (tmp_path / "modules/6.1/build/include").mkdir(parents=True)
    found = headers.find("6.1", tmp_path / "modules", tmp_path / "src", tmp_path / "none")
    assert "6.1/build" in found.origin


def test_kheaders_come_second(tmp_path: Path) -> None:
    archive = tmp_path / "kheaders.tar.xz"
    archive.write_bytes(b"")
    tree(tmp_path / "src", "linux-headers-6.12.1-amd64")
    assert headers.find("6.1", tmp_path / "modules", tmp_path / "src", archive).origin == str(archive)


def test_newest_packaged_tree_is_linked(tmp_path: Path) -> None:
    for name in ("linux-headers-6.9.10-amd64", "linux-headers-6.12.9+deb13-amd64", "linux-headers-6.12.9+deb13-common"):
        tree(tmp_path / "src", name)
    headers.find("6.18.0", tmp_path / "modules", tmp_path / "src", tmp_path / "none")
    place = tmp_path / "modules/6.18.0"
    assert (place / "build").resolve().name == "linux-headers-6.12.9+deb13-amd64"
    assert (place / "source").resolve().name == "linux-headers-6.12.9+deb13-common"
    assert "build" in headers.find("6.18.0", tmp_path / "modules", tmp_path / "src", tmp_path / "none").origin


def test_link_that_leads_nowhere_is_replaced(tmp_path: Path) -> None:
    place = tmp_path / "modules/6.18.0"
    place.mkdir(parents=True)
    (place / "build").symlink_to(tmp_path / "gone")
    tree(tmp_path / "src", "linux-headers-6.12.9-amd64")
    headers.find("6.18.0", tmp_path / "modules", tmp_path / "src", tmp_path / "none")
    assert (place / "build/include").is_dir()


def test_no_headers_at_all_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(
        headers.HeadersError, match=r"install linux-headers-6\.18\.0 or, on Debian 13, linux-headers-amd64"
    ):
        headers.find("6.18.0", tmp_path / "modules", tmp_path / "src", tmp_path / "none")


def test_counters_are_named_once_and_fit_their_map() -> None:
    found = layout.counters(ROOT / "bpf/og_counters.h")
    names = [counter.name for counter in found]
    assert len(names) == len(set(names)) == (ROOT / "bpf/og_counters.h").read_text().count("    X(")
    assert len(names) <= layout.MAPS["counters"].entries
    assert {counter.kind for counter in found} == {"PASS", "TX", "DROP", "EVENT"}


def test_config_survives_the_map() -> None:
    made = layout.Config(IPv6Address("5f00:1:31::"), bytes(range(8)), 2000, 1684, 46, load_aware=True, draining=False)
    assert layout.Config.unpack(made.pack()) == made
    assert len(made.pack()) == layout.MAPS["config"].value_size


def test_per_cpu_values_are_added_up() -> None:
    rows = [struct.pack("=QQQ", 1, 2, 3), struct.pack("=QQQ", 10, 20, 30)]
    assert layout.ServiceStats.total(rows) == layout.ServiceStats(11, 22, 33)
    assert layout.ServiceStats.total([]) == layout.ServiceStats()


def test_notrack_rules_name_every_vip_once() -> None:
    vips = [IPv6Address("2001:db8:1::81"), IPv6Address("2001:db8:1::80"), IPv6Address("2001:db8:1::80")]
    rules = host.notrack_rules(vips, IPv6Address("5f00:1:31::"))
    assert "elements = { 2001:db8:1::80, 2001:db8:1::81, 5f00:1:31::/64 }" in rules
