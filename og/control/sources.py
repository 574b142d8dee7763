# SPDX-License-Identifier: Apache-2.0
"""What the daemon asks Consul for, given the inventory and the policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from og.control.consul import Query, key_query, keys_query, parse_key, service_query
from og.control.history import decode_logs
from og.control.shares import parse_record
from og.control.view import HASHER_SERVICE, ROUTER_SERVICE, parse_drains, parse_instances

if TYPE_CHECKING:
    from og.control.config import Config
    from og.policy.check import Policy


@dataclass(frozen=True)
class Source:
    """One thing to follow of one site: a Consul service, the drains, or a key that the site's writer keeps."""

    kind: str  # "service", "drains", "spill" or "history"
    site: str
    name: str

    def __str__(self) -> str:
        return f"{self.site}/{self.name}"

    def query(self, config: Config) -> Query:
        """Return the query; a site is a datacenter, and the own one is Consul's default."""
        datacenter = None if self.site == config.site else self.site
        if self.kind == "service":
            return service_query(self.name, datacenter)
        if self.kind == "drains":
            return keys_query(drain_prefix(self.site), datacenter)
        return key_query(site_key(self.site, self.name), datacenter)

    def parse(self, answer: object) -> object:
        """Make data of an answer. Raises ValueError."""
        if self.kind == "service":
            return parse_instances(answer)
        if self.kind == "drains":
            return parse_drains(answer, drain_prefix(self.site))
        value = parse_key(answer)
        if value is None:
            return None
        return parse_record(value) if self.kind == "spill" else decode_logs(value.get("services"))


def site_key(site: str, name: str) -> str:
    """Keys that one writer per site keeps: `spill`, `history`; and `spill-lock`, by which it is the one."""
    return f"og/{site}/{name}"


def drain_prefix(site: str) -> str:
    """Keys below this one name nodes that get no new flows."""
    return f"og/{site}/drain/"


def sources(config: Config, policy: Policy) -> frozenset[Source]:
    """Everything to follow: members and drains of all sites, each asked of the site's own datacenter."""
    names = {ROUTER_SERVICE}
    writers = frozenset[Source]()
    if config.role == "router":
        writers = frozenset({Source("history", config.site, "history")})
        writers |= {Source("spill", site, "spill") for site in config.sites if len(config.sites) > 1}
        names |= {policy.service(service).members for service in config.service_names}
    found = {Source("service", site, name) for site in config.sites for name in names}
    found |= {Source("drains", site, "drain") for site in config.sites}
    if config.role == "hasher":
        found.add(Source("service", config.site, HASHER_SERVICE))  # to see whether Consul lost this node itself
    return frozenset(found) | writers
