# SPDX-License-Identifier: Apache-2.0
"""The list of gateway nodes from an inventory's numbers."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from filter_plugins.og_address import og_gateways

SITES = {"west": {"number": 1}, "east": {"number": 2}}
HOSTS = {
    "ogr_w1": {"og_site": "west", "og_node": 0x21},
    "ogh_w1": {"og_site": "west", "og_node": 0x11},
    "ogr_e1": {"og_site": "east", "og_node": 0x21},
}
GROUPS = {"hashers": ["ogh_w1"], "routers": ["ogr_w1", "ogr_e1"], "agents": []}


def test_all_sites_in_a_fixed_order():
    assert og_gateways(GROUPS, HOSTS, SITES, "5f00::/16") == [
        {"name": "ogr_e1", "role": "router", "site": "east", "locator": "5f00:2:21::"},
        {"name": "ogh_w1", "role": "hasher", "site": "west", "locator": "5f00:1:11::"},
        {"name": "ogr_w1", "role": "router", "site": "west", "locator": "5f00:1:21::"},
    ]
    assert og_gateways({}, {}, SITES, "5f00::/16") == []


@pytest.mark.parametrize("host", [{}, {"og_site": "west"}, {"og_site": "north", "og_node": 1}])
def test_a_host_without_its_numbers_is_named(host):
    with pytest.raises(AnsibleFilterError, match="ogr_w1: og_site"):
        og_gateways({"routers": ["ogr_w1"]}, {"ogr_w1": host}, SITES, "5f00::/16")
