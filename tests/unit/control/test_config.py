# SPDX-License-Identifier: Apache-2.0
"""control.json: what is accepted, and that every refusal names file and field."""

from __future__ import annotations

import json

import pytest

from og.configfile import ConfigError
from og.control.config import load_config, parse_config
from tests.unit.control.builders import config, config_data


def test_defaults_and_canonical_addresses():
    loaded = config(locator="5f00:0001:0021:0::0")
    assert loaded.locator == "5f00:1:21::"
    assert (loaded.slots, loaded.consul_url) == (65537, "http://127.0.0.1:8500")
    assert (loaded.table_socket, loaded.control_socket) == ("/run/og/router.sock", "/run/og/control.sock")


WEB = {"index": 0, "name": "web", "vip": "2001:db8:1::80", "protocol": "tcp", "port": 80}
GATEWAY = {"name": "ogr_w1", "role": "router", "site": "west", "locator": "5f00:1:21::"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"role": "switch"}, "control.json: role: 'switch' is not one of"),
        ({"colour": 1}, "control.json: Additional properties are not allowed ('colour'"),
        ({"site": "north"}, "control.json: site: 'north' is not one of sites"),
        ({"locator": "5f00:1:21::1"}, "control.json: locator: not a locator"),
        ({"flow_seed": "00"}, "control.json: flow_seed: '00' does not match"),
        ({"sr_domain": ["5f00::/129"]}, "control.json: sr_domain[0]:"),
        ({"services": [{**WEB, "vip": "10.0.0.1"}]}, "control.json: services[0].vip:"),
        ({"services": [{**WEB, "port": 0}]}, "control.json: services[0].port: 0 is less"),
        ({"services": [WEB, {**WEB, "index": 1, "port": 81}]}, "control.json: services[1]: name 'web' is there twice"),
        ({"services": [WEB, {**WEB, "name": "b"}]}, "control.json: services[1]: index 0 is there twice"),
        ({"gateways": [GATEWAY, {**GATEWAY, "name": "b"}]}, "control.json: gateways[1]: locator '5f00:1:21::'"),
        ({"gateways": [{**GATEWAY, "site": "north"}]}, "control.json: gateways[0].site: 'north'"),
        ({"consul_url": "unix:///run/consul"}, "control.json: consul_url: not an http URL"),
    ],
)
def test_refused(changes, expected):
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps(config_data(**changes)), "control.json")
    assert str(caught.value).startswith(expected), str(caught.value)


def test_not_json_and_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"control\.json: not JSON"):
        parse_config("{", "control.json")
    with pytest.raises(ConfigError, match=r"none\.json: No such file"):
        load_config(str(tmp_path / "none.json"))
