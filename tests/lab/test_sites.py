# SPDX-License-Identifier: Apache-2.0
"""Two sites: what the routing between them exchanges, the federated Consul, and one site taking over for the other."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.events import (
    all_announced,
    all_routers_serve,
    fabric_address,
    under_load,
    vip_ports,
)
from tests.lab.nodes import Lab, Node, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

SITES = {"w": ("west", 64601, 64701), "e": ("east", 64602, 64702)}
CORE_ASN = 64600
OTHER = {"w": "e", "e": "w"}
NEARLY_ALL = 0.95


@pytest.fixture(autouse=True)
def two_sites(lab: Lab) -> None:
    """Everything here needs the lab `failover`."""
    if sorted(lab.sites) != sorted(SITES):
        pytest.skip("the lab that is up has one site: `make lab TOPOLOGY=failover` has two")


def vtysh(node: Node, command: str) -> Any:
    return node.json(f"vtysh -c '{command} json'")


def paths(node: Node, prefix: str) -> list[dict[str, Any]]:
    """BGP paths to a prefix: AS numbers, and whether it is used."""
    shown = vtysh(node, f"show bgp ipv6 unicast {prefix}")
    return [
        {
            "as": [int(number) for number in path["aspath"]["string"].split() if number.isdigit()],
            "used": bool(path.get("bestpath", {}).get("overall") or path.get("multipath")),
        }
        for path in shown.get("paths", [])
    ]


# -- Routing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["w", "e"])
def test_the_nearest_site_is_the_one_with_the_shortest_path(lab: Lab, site: str) -> None:
    """Both sites announce the VIP; a network router uses its own hashers, all of them."""
    all_announced(lab, site)
    _, _, own = SITES[site]
    _, far_asn, far_gateways = SITES[OTHER[site]]
    found = paths(lab.node(f"rtr_{site}1"), f"{lab.vip}/128")
    assert sorted(path["as"] for path in found if path["used"]) == [[own]] * len(lab.group(f"ogh_{site}"))
    # The core hands on its best path: one site hears of the other's at once, the other when its own is gone.
    assert [path["as"] for path in found if not path["used"]] in ([], [[CORE_ASN, far_asn, far_gateways]])


def test_the_core_knows_both_sites(lab: Lab) -> None:
    found = wait_for(
        "both sites' paths to the VIP at the core",
        lambda: (known := paths(lab.node("rtr_c1"), f"{lab.vip}/128")) and len(known) == 2 and known,
    )
    assert sorted(path["as"] for path in found) == [[64601, 64701], [64602, 64702]]


@pytest.mark.parametrize("site", ["w", "e"])
def test_a_site_shows_the_other_its_aggregate_only(lab: Lab, site: str) -> None:
    """Of the other site's SIDs one /32 is known; a locator that comes and goes moves nothing here."""
    far = {"w": "5f00:2:", "e": "5f00:1:"}[site]
    known = vtysh(lab.node(f"rtr_{site}1"), "show bgp ipv6 unicast")["routes"]
    assert [prefix for prefix in known if prefix.startswith(far)] == [f"{far}:/32"]
    links = [prefix for prefix in known if prefix.startswith("2001:db8:") and not prefix.endswith(("/64", "/128"))]
    assert links == [], "neither blocks nor discard routes leave a site"


def bfd_ports(node: Node) -> set[str]:
    """Ports with a BFD session that is up. The daemon does not name it for every session; the route does."""
    peers = [peer["peer"] for peer in vtysh(node, "show bfd peers") if peer["status"] == "up"]
    return {node.json(f"ip -6 -j route get {peer}")[0]["dev"] for peer in peers}


@pytest.mark.parametrize("router", ["rtr_w1", "rtr_e1", "rtr_c1"])
def test_trunks_have_bfd(lab: Lab, router: str) -> None:
    trunks = {link["ifname"] for link in lab.node(router).json("ip -j link") if link["ifname"].startswith("to-rtr")}
    assert trunks
    peers = wait_for("a BFD session on every trunk", lambda: (up := bfd_ports(lab.node(router))) >= trunks and up)
    assert trunks <= peers


@pytest.mark.parametrize("site", ["w", "e"])
def test_nodes_reach_the_other_sites_nodes_and_sids(lab: Lab, site: str) -> None:
    """By address (Consul federates over it) and by locator; a locator nobody has is unreachable there, not lost."""
    hasher = lab.group(f"ogh_{site}")[0]
    far = OTHER[site]
    peer = fabric_address(lab.group(f"ogr_{far}")[0])
    assert "0% packet loss" in hasher.run(f"ping -6 -c 2 -W 5 {peer}")
    number = {"w": 1, "e": 2}[far]
    answer = hasher.run(f"ping -6 -c 1 -W 5 5f00:{number}:ffff::", check=False)
    assert "nreachable" in answer, answer
    # Where the answer comes from: the other site's network router, on its trunk.
    trunk = lab.node(f"rtr_{far}1").run("ip -6 -o addr show dev to-rtr_c1 scope global | awk '{print $4}'")
    assert f"From {trunk.split('/')[0]}" in answer


# -- What each node knows of the other site --------------------------------------------------------------------------


def test_every_node_knows_the_gateways_of_both_sites(lab: Lab) -> None:
    """A hasher may have to send to any router, and an agent to take from any gateway."""
    routers = {node.name for node in lab.group("ogr")}
    for hasher in lab.group("ogh"):
        tables = hasher.json("cat /var/lib/og/hasher.tables.json")
        assert {member["name"] for member in tables["routers"]} == routers
        assert sorted(tables["sites"]) == ["east", "west"]
    gateways = sorted(f"{locator}/64" for locator in tables["gateways"])
    assert len(gateways) == len(lab.group("ogr")) + len(lab.group("ogh"))
    for agent in lab.group("agent"):
        assert sorted(agent.json("cat /etc/og/agent.json")["gateways"]) == gateways


@pytest.mark.parametrize("site", ["w", "e"])
def test_each_site_keeps_its_own_statistics(lab: Lab, site: str) -> None:
    """Each node's points are where its configuration says: at the monitor of its site. Not the clients': they are
    outside the SR domain, and the edge filter drops what they send to a monitor.
    """
    monitor = lab.node(f"mon_{site}1")
    url = monitor.json("cat /etc/og/stats.json")["url"]
    query = "SELECT last(cpu) FROM og_host WHERE time > now() - 1m GROUP BY host"
    nodes = [name for name in lab.names if not name.startswith(("build", "cli"))]
    wanted = {name for name in nodes if lab.node(name).json("cat /etc/og/stats.json")["url"] == url}
    assert {name for name in nodes if name.split("_")[1][0] == site} <= wanted

    def seen() -> set[str]:
        asked = f"curl -sfgG '{url}/query' --data-urlencode db=og --data-urlencode 'q={query}'"
        return {row["tags"]["host"] for row in monitor.json(asked)["results"][0].get("series", [])}

    wait_for(f"statistics of {', '.join(sorted(wanted))}", lambda: seen() == wanted, timeout=60)


# -- Consul ---------------------------------------------------------------------------------


def consul(node: Node, path: str, *, check: bool = True) -> Any:
    """What the agent on a node answers; None where it does not."""
    shown = node.run(f"curl -sf --max-time 20 'http://127.0.0.1:8500/v1/{path}'", check=check)
    return json.loads(shown) if shown else None


def members(node: Node, service: str, datacenter: str) -> set[str]:
    """Nodes of a service in a datacenter, asked from a node."""
    rows = consul(node, f"health/service/{service}?dc={datacenter}", check=False) or []
    return {row["Node"]["Node"] for row in rows}


@pytest.mark.parametrize("site", ["w", "e"])
def test_consul_answers_for_both_sites(lab: Lab, site: str) -> None:
    """Each gateway node asks its own site's servers for the other datacenter."""
    for node in lab.group(f"ogr_{site}"):
        assert sorted(consul(node, "catalog/datacenters")) == ["east", "west"]
        for letter, (datacenter, _, _) in SITES.items():
            for service, prefix in (("og-router", "ogr"), ("og-hasher", "ogh"), (lab.service["name"], "agent")):
                wanted = {node.name for node in lab.group(f"{prefix}_{letter}")}
                assert members(node, service, datacenter) == wanted


@pytest.fixture
def east_without_consul(lab: Lab) -> Iterator[None]:
    """East's Consul server is gone while the test runs."""
    server = lab.node("mon_e1")
    server.run("systemctl stop consul.service")
    try:
        yield
    finally:
        server.run("systemctl start consul.service")
        for site in SITES:
            node = lab.group(f"ogr_{site}")[0]
            wait_for("the datacenters to be one again", lambda node=node: bool(members(node, "og-router", "east")), 120)


@pytest.mark.usefixtures("east_without_consul")
def test_a_lost_datacenter_disturbs_nothing(lab: Lab) -> None:
    """West's Consul goes on as before, and so do the connections of both clients."""
    west = lab.group("ogr_w")[0]
    with under_load(lab, "w") as here, under_load(lab, "e") as there:
        here.go_on(3)
        assert consul(west, "status/leader")
        assert members(west, "og-router", "west") == {node.name for node in lab.group("ogr_w")}
        assert members(west, "og-router", "east") == set(), "nobody is there to answer"
        there.go_on(3)
    for running in (here, there):
        assert running.report["failed"] == 0, running.report["failures"]
        assert running.report["moved"] == 0


# -- One site takes over ---------------------------------------------------------------------------------


@pytest.fixture
def hashers_of_west(lab: Lab) -> Iterator[list[Node]]:
    """The hashers, which the test may stop; they are back afterwards."""
    all_announced(lab)
    all_routers_serve(lab)
    hashers = lab.group("ogh_w")
    try:
        yield hashers
    finally:
        for node in hashers:
            node.run("systemctl start og-hasher.service")
        all_announced(lab)


def turned_back(lab: Lab) -> int:
    """Packets for the VIP that came from the other site while it had not yet learned of the withdrawal."""
    shown = lab.node("rtr_w1").json("nft --json list counter ip6 og_edge turned_back")
    return int(shown["nftables"][-1]["counter"]["packets"])


def test_a_site_without_hashers_is_served_through_the_other(lab: Lab, hashers_of_west: list[Node]) -> None:
    """West announces nothing: its client's packets go to east's hashers; what is open lives, what is new is east's."""
    with under_load(lab) as running:
        for node in hashers_of_west:
            node.run("systemctl stop og-hasher.service")
        wait_for("west's network router to follow the other site", lambda: vip_ports(lab) == {"to-rtr_c1"}, timeout=10)
        gone = time.time()
        running.go_on(6)
    held = [row for row in running.report["records"] if row["population"] == "held"]
    late = [row for row in running.report["records"] if row["population"] != "held" and row["begun"] > gone]
    print({"held": len(held), "new after the withdrawal": len(late), "turned back": turned_back(lab)})
    assert held
    assert late
    assert [row for row in held + late if row["outcome"] != "ok"] == []
    # East's routers may still have a pin to west of a connection that had the same port.
    assert sum(row["backend"].startswith("agent_e") for row in late) >= NEARLY_ALL * len(late)
    assert running.report["moved"] == 0
