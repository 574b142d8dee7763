# SPDX-License-Identifier: Apache-2.0
"""From og_services and roles to Consul's service definitions."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from filter_plugins.og_consul import og_consul_gateway, og_consul_has_secret, og_consul_services, og_consul_split

WEB: dict[str, Any] = {"name": "web", "vip": "2001:db8:1::80", "protocol": "tcp", "port": 80}
HERE = ("2001:db8:f001:31::2", "5f00:1:31::/64")


def test_a_tcp_service_is_asked_at_its_own_address() -> None:
    (definition,) = og_consul_services([{**WEB, "capacity": 500}], *HERE, weight=50)
    assert definition["meta"] == {"service": "web", "locator": HERE[1], "weight": "50", "capacity": "500"}
    assert definition["address"] == HERE[0]
    (check,) = definition["checks"]
    assert check["http"] == "http://[2001:db8:1::80]:80/health"
    assert check["interval"] == "1s"


def test_capacity_under_its_unit_keeps_it() -> None:
    meta = og_consul_services([{**WEB, "capacity": {"new_per_s": 7}}], *HERE)[0]["meta"]
    assert (meta["capacity"], meta["capacity_unit"]) == ("7", "new_per_s")
    assert "capacity" not in og_consul_services([WEB], *HERE)[0]["meta"]


def test_a_udp_service_has_a_check_only_where_it_says_how() -> None:
    udp = {**WEB, "name": "dns", "protocol": "udp"}
    assert og_consul_services([udp], *HERE)[0]["checks"] == []
    checks = og_consul_services([{**udp, "health_url": "http://[::1]:81/up"}], *HERE)[0]["checks"]
    assert checks[0]["http"] == "http://[::1]:81/up"


def test_gateway_nodes() -> None:
    (definition,) = og_consul_gateway("router", *HERE)
    assert (definition["name"], definition["meta"]) == ("og-router", {"locator": HERE[1], "weight": "100"})
    assert definition["checks"][0]["http"] == "http://127.0.0.1:9441/health"


@pytest.mark.parametrize(
    ("service", "weight", "message"),
    [
        ({"name": "web", "vip": "::1"}, 1, "og_services: 'web' has no protocol, port"),
        ({}, 1, "has no name, vip, protocol, port"),
        (WEB, -1, "weight: a whole number from 0 to 65535 is wanted, not -1"),
        (WEB, "9", "weight: .* not '9'"),
        (WEB, True, "weight: .* not True"),
        ({**WEB, "capacity": -1}, 1, "capacity: .* not -1"),
        ({**WEB, "capacity": {"a": 1, "b": 2}}, 1, "capacity: "),
    ],
)
def test_wrong_values_are_named(service: dict[str, Any], weight: Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        og_consul_services([service], *HERE, weight=weight)


def test_a_role_without_a_health_daemon() -> None:
    with pytest.raises(AnsibleFilterError, match="og_role: `hasher` or `router` is wanted, not 'agent'"):
        og_consul_gateway("agent", *HERE)


SECRET: dict[str, Any] = {
    "encrypt": "HIDE",
    "acl": {"tokens": {"agent": "HIDE", "managed_service_provider": [{"secret_id": "HIDE"}]}},
    "connect": {"ca_config": {"private_key": "HIDE", "token": "HIDE"}},
    "retry_join": ["provider=aws secret_access_key=HIDE"],
    "services": [{"name": "web", "token": "HIDE"}],
}
OPEN: dict[str, Any] = {
    "encrypt_verify_incoming": True,
    "auto_encrypt": {"tls": True},
    "acl": {"enabled": True, "enable_token_persistence": True, "tokens": None},
    "connect": {"enabled": True, "ca_config": {}},
    "retry_join_wan": ["2001:db8::1"],
}


def test_secrets_are_told_from_the_rest() -> None:
    both = OPEN | SECRET | {"acl": OPEN["acl"] | SECRET["acl"], "connect": OPEN["connect"] | SECRET["connect"]}
    parts = og_consul_split(both)
    assert parts["secret"] == SECRET
    assert "HIDE" not in str(parts["open"])
    assert parts["open"] == OPEN | {"acl": {"enabled": True, "enable_token_persistence": True}}
    assert og_consul_split(OPEN) == {"open": OPEN, "secret": {}}


@pytest.mark.parametrize("name", SECRET)
def test_a_secret_is_noticed_wherever_it_is(name: str) -> None:
    assert og_consul_has_secret([{name: SECRET[name]}])
    assert not og_consul_has_secret([OPEN])
