# SPDX-License-Identifier: Apache-2.0
"""agent.json: what is accepted, and that every mistake is named with its place."""

from __future__ import annotations

import json
from copy import deepcopy
from ipaddress import IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any

import pytest

from og.agent import config
from og.agent.__main__ import EXIT_CONFIG, main
from og.configfile import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

GOOD: dict[str, Any] = {
    "interface": "fab0",
    "xdp_mode": "generic",
    "locator": "5f00:1:31::",
    "address": "2001:db8:f001:31::2",
    "fabric_mtu": 2000,
    "dscp": 10,
    "gateways": ["5f00:1:11::/64", "5f00:1:21::/64"],
    "services": [
        {"index": 0, "name": "web", "vip": "2001:db8:1::80", "protocol": "tcp", "port": 80, "accept_limit": 5},
        {"index": 1, "name": "names", "vip": "2001:db8:1::80", "protocol": "udp", "port": 53},
    ],
    "bpf_dir": "/opt/og/current/bpf",
    "pin_dir": "/sys/fs/bpf/og/agent",
    "report_s": 1,
}


def test_good_file() -> None:
    found = config.check(GOOD)
    assert found.locator == IPv6Address("5f00:1:31::")
    assert found.gateways[1] == IPv6Network("5f00:1:21::/64")
    assert [service.accept_limit for service in found.services] == [5, 0]
    assert (found.mss_limit, found.report_s, found.prepare_host, found.draining) == (1684, 1.0, True, False)


def test_mss_never_falls_below_1220() -> None:
    assert config.check(GOOD | {"fabric_mtu": 1536}).mss_limit == 1220


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "interface": (
        {"interface": "a-name-too-long-"},
        'interface: not the name of a network interface: "a-name-too-long-"',
    ),
    "mode": ({"xdp_mode": "fast"}, 'xdp_mode: not one of native, generic: "fast"'),
    "locator": ({"locator": "5f00::zz"}, 'locator: not an IPv6 address: "5f00::zz"'),
    "locator with host bits": ({"locator": "5f00:1:31::1"}, "locator: not a locator: bits are set behind the first 64"),
    "mtu": ({"fabric_mtu": 1500}, "fabric_mtu: not a whole number from 1536 to 65535: 1500"),
    "mtu as text": ({"fabric_mtu": "2000"}, 'fabric_mtu: not a whole number from 1536 to 65535: "2000"'),
    "dscp": ({"dscp": 64}, "dscp: not a whole number from 0 to 63: 64"),
    "gateway": ({"gateways": ["5f00:1:11::/64", "5f00::1/64"]}, 'gateways[1]: not an IPv6 prefix: "5f00::1/64"'),
    "gateways": ({"gateways": "5f00::/64"}, 'gateways: not a list: "5f00::/64"'),
    "path": ({"bpf_dir": "bpf"}, 'bpf_dir: not an absolute path: "bpf"'),
    "unknown key": ({"interfaces": "fab0"}, "interfaces: unknown"),
    "boolean": ({"draining": "no"}, 'draining: not true or false: "no"'),
    "time": ({"report_s": 0}, "report_s: not a number of seconds from 0.1 to 60: 0"),
    "service": ({"services": [7]}, "services[0]: not an object: 7"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_named_with_its_place(name: str) -> None:
    change, message = MISTAKES[name]
    with pytest.raises(ConfigError) as caught:
        config.check(GOOD | change, "agent.json")
    assert f"agent.json: {message}" in str(caught.value).splitlines() or str(caught.value).startswith(
        f"agent.json: {message}"
    )


@pytest.mark.parametrize("key", ["interface", "locator", "fabric_mtu", "gateways", "services", "bpf_dir"])
def test_missing_key_is_named(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}: missing"):
        config.check({name: value for name, value in GOOD.items() if name != key})


SERVICE_MISTAKES = {
    "index": (64, "services[1].index: not a whole number from 0 to 63: 64"),
    "vip": ("192.0.2.1", 'services[1].vip: not an IPv6 address: "192.0.2.1"'),
    "protocol": ("sctp", 'services[1].protocol: not one of tcp, udp: "sctp"'),
    "port": (0, "services[1].port: not a whole number from 1 to 65535: 0"),
    "name": ("", 'services[1].name: not a non-empty string: ""'),
    "weight": (1, "services[1].weight: unknown"),
}


@pytest.mark.parametrize("key", SERVICE_MISTAKES)
def test_mistake_in_a_service(key: str) -> None:
    value, message = SERVICE_MISTAKES[key]
    document = deepcopy(GOOD)
    document["services"][1][key] = value
    with pytest.raises(ConfigError) as caught:
        config.check(document, "f")
    assert str(caught.value) == f"f: {message}"


def test_two_services_may_not_share_index_or_address() -> None:
    document = deepcopy(GOOD)
    document["services"][1] = document["services"][0] | {"name": "again"}
    with pytest.raises(ConfigError) as caught:
        config.check(document, "f")
    assert str(caught.value).splitlines() == [
        "f: services[1].index: 0 is also that of web",
        "f: services[1]: same address, protocol and port as web",
    ]


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        config.check(GOOD | {"dscp": -1, "locator": "x", "typo": 1})
    assert len(str(caught.value).splitlines()) == 3


def test_check_config_tells_by_its_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "agent.json"
    path.write_text(json.dumps(GOOD))
    assert main(["--check-config", "--config", str(path)]) == 0
    path.write_text("{")
    assert main(["--check-config", "--config", str(path)]) == EXIT_CONFIG
    assert f"{path}: not JSON" in capsys.readouterr().err
    assert main(["--check-config", "--config", str(tmp_path / "none")]) == EXIT_CONFIG
    assert "none: No such file" in capsys.readouterr().err
