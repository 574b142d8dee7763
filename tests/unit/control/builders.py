# SPDX-License-Identifier: Apache-2.0
"""Small sites for the tests of the control daemon."""

from __future__ import annotations

import json

from og.control.config import parse_config
from og.control.state import State
from og.control.tables import build_tables
from og.control.view import Health, Instance, View
from og.control.votes import count_votes
from og.policy.check import Inventory, load_policy

T0 = 1_800_000_000.0
HEALTH = {"up": Health.UP, "down": Health.DOWN, "lost": Health.LOST, "maintenance": Health.MAINTENANCE}
REASON = {"up": "", "down": "service:web", "lost": "serfHealth", "maintenance": "_node_maintenance"}


SITES = {"w": "west", "e": "east"}


def locator_of(node):
    """`agent_w12` -> `5f00:1:312::`."""
    kind, place = node.split("_")
    base = {"agent": "3", "ogr": "2", "ogh": "1"}[kind]
    return f"5f00:{1 + list(SITES).index(place[0])}:{base}{place[1:]}::"


def config_data(role="router", node=None, **changes):
    gateways = [("ogh_w1", "hasher"), ("ogh_w2", "hasher"), *((f"ogr_w{i}", "router") for i in range(1, 5))]
    gateways += [("ogh_e1", "hasher"), ("ogr_e1", "router"), ("ogr_e2", "router")]
    data = {
        "format": 1,
        "role": role,
        "node": node or ("ogr_w1" if role == "router" else "ogh_w1"),
        "site": "west",
        "sites": ["west", "east"],
        "locator": "5f00:1:21::",
        "flow_seed": "00" * 16,
        "sr_domain": ["5f00::/16", "2001:db8:f000::/36", "2001:db8:1::/48"],
        "services": [{"index": 0, "name": "web", "vip": "2001:db8:1::80", "protocol": "tcp", "port": 80}],
        "gateways": [
            {"name": name, "role": kind, "site": SITES[name[-2]], "locator": locator_of(name)}
            for name, kind in gateways
        ],
    }
    return {**data, **changes}


def config(role="router", **changes):
    return parse_config(json.dumps(config_data(role, **changes)), "control.json")


def policy(text="", services=("web",)):
    return load_policy(f"version: 1\n{text}", "policy.yml", Inventory(services))


def instance(node, health="up", locator=None, weight=None, capacity=None):
    return Instance(
        node, HEALTH[health], REASON[health], locator_of(node) if locator is None else locator, weight, capacity
    )


def view(web=None, routers=None, hashers=None, drains=None, site="west"):
    """Each of the lists: names of healthy nodes or instances; None = Consul could not be asked."""

    def instances(entries):
        return tuple(entry if isinstance(entry, Instance) else instance(entry) for entry in entries)

    services = {"web": web, "og-router": routers, "og-hasher": hashers}
    return View(
        {(site, name): instances(entries) for name, entries in services.items() if entries is not None},
        {} if drains is None else {site: frozenset(drains)},
    )


def both(west, east):
    """One look at two sites."""
    return View({**west.services, **east.services}, {**west.drains, **east.drains})


class Site:
    """A control daemon's pure half over time: what it makes of one look after the other."""

    def __init__(self, role="router", text="", **changes):
        self.config = config(role, **changes)
        self.policy = policy(text, self.config.service_names)
        self.state = State()
        self.now = T0
        self.notes: tuple[str, ...] = ()

    def look(self, seen, after=1.0):
        self.now += after
        outcome = count_votes(self.config, self.policy, seen, self.state, self.now)
        self.state = outcome.state
        self.tables = build_tables(self.config, self.policy, self.state, self.now)
        self.notes = (*outcome.notes, *self.tables.notes)
        return self.tables.body

    def weights(self, kind="agents"):
        return {member["name"]: member["weight"] for member in self.tables.body[kind]}

    def ids(self, kind="agents"):
        return {member["name"]: member["id"] for member in self.tables.body[kind]}
