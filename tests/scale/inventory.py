# SPDX-License-Identifier: Apache-2.0
"""Make an inventory of so many hosts, as large as asked for and otherwise like the example: two sites, real roles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "inventories/example"
SITES = ("west", "east")
MONITORS = 3
SECRETS = {
    "vault_og_flow_seed": "0" * 32,
    "vault_consul_gossip_key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "vault_grafana_admin_password": "nobody",
}


def hosts(count: int) -> dict[str, Any]:
    """Return `count` hosts: per site a tenth hashers, a fifth routers, three monitors, the rest agents."""
    if count < 2 * (MONITORS + 3):
        raise ValueError(f"two sites of all roles need {2 * (MONITORS + 3)} hosts, not {count}")
    groups: dict[str, dict[str, Any]] = {
        name: {"hosts": {}} for name in ("hashers", "routers", "agents", "monitors", "network_routers", "clients")
    }
    sites: dict[str, Any] = {}
    for index, site in enumerate(SITES):
        here = count // 2 + (count % 2 if index == 0 else 0)
        numbers = {"hashers": max(1, here // 10), "routers": max(1, here // 5), "monitors": MONITORS}
        numbers["agents"] = here - sum(numbers.values())
        members: dict[str, Any] = {}
        for prefix, group in (("ogh", "hashers"), ("ogr", "routers"), ("agent", "agents"), ("mon", "monitors")):
            for number in range(1, numbers[group] + 1):
                name = f"{prefix}_{site[0]}{number}"
                members[name] = {"og_node": len(members) + 1}
                if group in ("hashers", "routers"):
                    members[name] |= {
                        "og_dataplane_pci_address": "0000:3b:00.0",
                        "og_dataplane_next_hop_mac": "02:00:00:00:00:01",
                    }
                groups[group]["hosts"][name] = {}
        sites[f"site_{site}"] = {"vars": {"og_site": site}, "hosts": members}
    gateways: dict[str, Any] = {"gateways": {"children": {"hashers": {}, "routers": {}}}}
    variables = {"ansible_connection": "og_null", "ansible_python_interpreter": "/usr/bin/python3", **SECRETS}
    return {"all": {"vars": variables, "children": sites | groups | gateways}}


def write(folder: Path, count: int) -> Path:
    """Write the inventory of `count` hosts below `folder`, with the example's variables."""
    made = folder / f"hosts-{count}"
    made.mkdir(parents=True, exist_ok=True)
    (made / "hosts.yml").write_text(yaml.safe_dump(hosts(count), sort_keys=False))
    link = made / "group_vars"
    if not link.is_symlink():
        link.symlink_to(EXAMPLE / "group_vars")
    return made
