# SPDX-License-Identifier: Apache-2.0
"""Real FRRouting and real GoBGP, configured by the roles, with the health daemon between a heartbeat and BGP.

Times are reported, never asserted: the machine may be busy.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.network.site import GATEWAYS, HASHERS, ROUTER, ROUTERS, VIP, Site, address, gateway, locator, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Reporter = Callable[[str, object], None]

GOBGP = ("/usr/local/bin/gobgp", "--target", "unix:///run/gobgp/api.sock")
OTHER_LOCATOR = "5f00:1:99::"  # of no node


@pytest.fixture(autouse=True)
def whole(site: Site) -> Iterator[None]:
    """Every test starts from, and leaves, a site in which everyone is announced."""
    wait_for("both hashers announce the VIP", lambda: site.next_hops(VIP) == {address(name) for name in HASHERS})
    wait_for(
        "every gateway node announces its locator",
        lambda: all(site.next_hops(locator(name)) == {address(name)} for name in GATEWAYS),
    )
    yield
    wait_for("the VIP is back at both hashers", lambda: site.next_hops(VIP) == {address(name) for name in HASHERS})


def established(site: Site) -> set[str]:
    peers = site.vtysh("show bgp ipv6 unicast summary").get("peers", {})
    return {peer for peer, state in peers.items() if state["state"] == "Established"}


def connections(site: Site) -> dict[str, int]:
    """How often each gateway node's session was established."""
    peers = site.vtysh("show bgp ipv6 unicast summary")["peers"]
    return {address(name): peers[address(name)]["connectionsEstablished"] for name in GATEWAYS}


def main_pid(site: Site) -> str:
    """Process id of the health daemon; 0 while there is none."""
    show = ("systemctl", "show", "--property=MainPID", "--value", "og-health.service")
    return site.execute("ogh_w1", *show).stdout.strip()


def counters(site: Site) -> dict[str, int]:
    shown = json.loads(site.execute(ROUTER, "nft", "--json", "list", "counters", "table", "ip6", "og_edge").stdout)
    found = [entry["counter"] for entry in shown["nftables"] if "counter" in entry]
    return {counter["name"]: counter["packets"] for counter in found}


def route(site: Site, *selector: str) -> dict[str, Any]:
    shown = site.execute(ROUTER, "ip", "-6", "-json", "route", "get", *selector, check=False)
    found: list[dict[str, Any]] = json.loads(shown.stdout or "[]")
    return found[0] if found else {"error": shown.stderr.strip()}


def test_first_run_in_check_mode_on_bare_hosts_was_green(site: Site) -> None:
    assert "failed=0" in site.first_check
    assert "changed=0" not in site.first_check


def test_second_run_changes_nothing(site: Site) -> None:
    recap = [line for line in site.play("--diff").stdout.splitlines() if "unreachable=" in line]
    assert len(recap) == 1 + len(GATEWAYS)
    assert all("changed=0" in line and "failed=0" in line for line in recap), recap


def test_the_running_configuration_is_the_written_one(site: Site) -> None:
    """What frr-reload takes for a difference it applies at every reload, sessions be reset or not."""
    shown = site.execute(ROUTER, "/usr/lib/frr/frr-reload.py", "--test", "--stdout", "/etc/frr/frr.conf").stdout
    assert "Lines To" not in shown, shown


def test_sessions_and_bfd_are_up(site: Site) -> None:
    assert established(site) == {address(name) for name in GATEWAYS}

    def bfd() -> dict[str, str]:
        return {peer["peer"]: peer["status"] for peer in site.vtysh("show bfd peers")}

    wait_for("BFD is up", lambda: bfd() == {address(name): "up" for name in GATEWAYS})


def test_only_what_is_announced_is_in_bgp(site: Site) -> None:
    assert site.bgp_prefixes() == {f"{VIP}/128", *(locator(name) for name in GATEWAYS)}
    assert site.next_hops(locator("agent_w1")) == {address("agent_w1")}


def test_flows_spread_over_both_hashers_by_their_ports(site: Site) -> None:
    flow = (VIP, "from", address("cli_w1"), "iif", "to-cli_w1", "ipproto", "tcp", "dport", "80")
    hops = Counter(route(site, *flow, "sport", str(port))["gateway"] for port in range(20_000, 20_040))
    assert set(hops) == {address(name) for name in HASHERS}
    assert min(hops.values()) >= 5, hops


FOREIGN = [
    ("ogh_w1", "2001:db8:9::/48", "a prefix of nobody"),
    ("ogh_w1", "2001:db8:1::/64", "a part of the VIP block"),
    ("ogh_w1", "2001:db8:1::/48", "the VIP block"),
    ("ogh_w1", "2001:db8:2::80/128", "an address outside the VIP block"),
    ("ogh_w1", "5f00:1:12::/64", "another hasher's locator"),
    ("ogh_w1", "5f00:1:11::/65", "half of its own locator"),
    ("ogh_w1", "::/0", "everything"),
    ("ogr_w1", "2001:db8:1::81/128", "a VIP, from a router"),
]


def test_foreign_prefixes_are_refused(site: Site) -> None:
    before = site.bgp_prefixes()
    allowed = "2001:db8:1::82/128"
    try:
        for name, prefix, _ in FOREIGN:
            site.execute(name, *GOBGP, "global", "rib", "add", prefix, "-a", "ipv6")
        # The allowed one is announced last, by the node that announced most others: when it is there, they were seen.
        site.execute("ogh_w1", *GOBGP, "global", "rib", "add", allowed, "-a", "ipv6")
        wait_for("the allowed prefix arrives", lambda: allowed in site.bgp_prefixes())
        sent = [peer["pfxSnt"] for peer in site.vtysh("show bgp ipv6 unicast summary")["peers"].values()]
        accepted = site.bgp_prefixes() - before - {allowed}
        assert accepted == set(), [why for _, prefix, why in FOREIGN if prefix in accepted]
        assert sent == [0] * len(GATEWAYS), "the network router announces nothing to gateway nodes"
        assert site.next_hops("5f00:1:12::/64") == {address("ogh_w2")}
        filtered = site.vtysh(f"show bgp ipv6 unicast neighbors {address('ogr_w1')} prefix-counts")
        assert filtered["pfxCounter"] == 1
    finally:
        for name, prefix, _ in (*FOREIGN, ("ogh_w1", allowed, "")):
            site.execute(name, *GOBGP, "global", "rib", "del", prefix, "-a", "ipv6")


def test_a_gateway_node_announces_only_itself_as_next_hop(site: Site) -> None:
    elsewhere = address("agent_w1")
    prefix = "2001:db8:1::83/128"
    site.execute("ogh_w1", *GOBGP, "global", "rib", "add", prefix, "nexthop", elsewhere, "-a", "ipv6")
    try:
        assert wait_for("the prefix arrives", lambda: site.next_hops(prefix)) == {address("ogh_w1")}
    finally:
        site.execute("ogh_w1", *GOBGP, "global", "rib", "del", prefix, "-a", "ipv6")


def test_what_nobody_announces_ends_at_the_network_router(site: Site) -> None:
    shown = json.loads(site.execute(ROUTER, "ip", "-6", "-json", "route", "show", "table", "main").stdout)
    kinds = {entry["dst"]: entry.get("type", "unicast") for entry in shown}
    assert kinds["5f00:1::/32"] == "unreachable"
    assert kinds["2001:db8:1::/48"] == "blackhole"
    answer = site.execute("ogh_w1", "ping", "-6", "-c", "1", "-W", "5", f"{OTHER_LOCATOR}1", check=False).stdout
    assert f"From {gateway('ogh_w1')}" in answer
    assert "nreachable" in answer or "No route" in answer


def test_a_client_reaches_neither_sids_nor_gateways_nor_agents(site: Site) -> None:
    before = counters(site)
    for target in (f"{OTHER_LOCATOR}1", "5f00:1:11::1", address("ogh_w1"), address("agent_w1")):
        assert site.execute("cli_w1", "ping", "-6", "-c", "1", "-W", "1", target, check=False).returncode != 0
    after = counters(site)
    assert after["into_domain"] - before["into_domain"] == 4
    # The way back is open: what is dropped is what comes from the client's port.
    assert site.execute("cli_w1", "ping", "-6", "-c", "1", "-W", "5", gateway("cli_w1")).returncode == 0


@pytest.mark.parametrize(
    ("source", "counter"),
    [("5f00:1:21::1", "from_domain"), ("2001:db8:f001:11::2", "from_domain"), (VIP, "from_service")],
)
def test_a_client_cannot_claim_to_be_inside(site: Site, source: str, counter: str) -> None:
    before = counters(site)[counter]
    site.execute("cli_w1", "ip", "address", "add", f"{source}/128", "dev", "lo", "nodad")
    try:
        site.execute("cli_w1", "ping", "-6", "-c", "1", "-W", "1", "-I", source, gateway("cli_w1"), check=False)
    finally:
        site.execute("cli_w1", "ip", "address", "delete", f"{source}/128", "dev", "lo")
    assert counters(site)[counter] == before + 1


def test_an_agent_is_not_filtered(site: Site) -> None:
    """The filter is of ports, not of the router: the fabric is the SR domain."""
    before = counters(site)
    site.execute("agent_w1", "ping", "-6", "-c", "1", "-W", "5", address("ogh_w1"))
    assert counters(site) == before


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_a_data_plane_that_dies_or_hangs_is_withdrawn(
    site: Site, signal: str, record_property: Reporter, capsys: pytest.CaptureFixture[str]
) -> None:
    pid = site.heartbeat_pid("ogh_w1")
    with site.route_monitor() as monitor:
        fault = site.signal("ogh_w1", signal)
        try:
            wait_for("the VIP is only at the other", lambda: site.next_hops(VIP) == {address("ogh_w2")})
            wait_for("the locator is gone", lambda: not site.next_hops(locator("ogh_w1")))
            assert address("ogh_w1") in established(site), "the session has nothing to do with it"
            health = site.health("ogh_w1")
            assert (health["healthy"], health["announced"]) == (False, [])
            withdrawn = wait_for("the monitor saw it", lambda: monitor.time_of(VIP, "2001:db8:f001:12::2"))
        finally:
            site.execute("ogh_w1", "kill", "-KILL", pid, check=False)
            site.start_heartbeat("ogh_w1")
    milliseconds = round((withdrawn - fault) * 1000)
    record_property(f"withdrawn_ms_after_{signal}", milliseconds)
    with capsys.disabled():
        print(f"\n  SIG{signal}: VIP gone from the router's kernel after {milliseconds} ms")


def test_a_router_that_dies_is_unreachable_at_once(site: Site) -> None:
    site.signal("ogr_w1", "KILL")
    try:
        wait_for("the locator is gone", lambda: not site.next_hops(locator("ogr_w1")))
        assert "error" in route(site, "5f00:1:21::1") or route(site, "5f00:1:21::1").get("type") == "unreachable"
    finally:
        site.start_heartbeat("ogr_w1")


def test_a_hasher_without_targets_keeps_its_locator(site: Site) -> None:
    site.signal("ogh_w1", "KILL")
    site.start_heartbeat("ogh_w1", flags=1)
    try:
        wait_for("the locator is there", lambda: site.health("ogh_w1").get("announced") == [locator("ogh_w1")])
        wait_for("the VIP is only at the other", lambda: site.next_hops(VIP) == {address("ogh_w2")})
        health = site.health("ogh_w1")
        assert (health["healthy"], health["serving"]) == (True, False)
    finally:
        site.signal("ogh_w1", "KILL")
        site.start_heartbeat("ogh_w1")


def test_a_restarted_gobgpd_announces_again(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    before = connections(site)[address("ogh_w1")]
    with site.route_monitor() as monitor:
        fault = time.time()
        site.execute("ogh_w1", "systemctl", "kill", "--signal=KILL", "gobgpd.service")
        lost = wait_for("the session was lost", lambda: monitor.time_of(VIP, address("ogh_w2")))
    wait_for("and everything is back", lambda: site.next_hops(VIP) == {address(name) for name in HASHERS})
    assert connections(site)[address("ogh_w1")] == before + 1
    with capsys.disabled():
        print(f"\n  gobgpd killed: route gone after {lost - fault:.2f} s, back after {time.time() - fault:.2f} s")


def bfd_is_up_since(site: Site, name: str, moment: float) -> bool:
    """The network router's BFD session to a node came up after that moment (monotonic seconds), and is up."""
    peers = {peer["peer"]: peer for peer in site.vtysh("show bfd peers")}
    peer = peers[address(name)]
    return bool(peer["status"] == "up" and peer["uptime"] < time.monotonic() - moment)


def test_a_stopped_and_started_gobgpd_makes_one_session(site: Site) -> None:
    """The neighbour's BFD session of the old process must not outlive it: its end would take the new session along."""
    before = connections(site)[address("ogh_w1")]
    asked = time.monotonic()
    site.execute("ogh_w1", "systemctl", "restart", "gobgpd.service")
    wait_for("BFD is up again", lambda: bfd_is_up_since(site, "ogh_w1", asked))
    wait_for("the VIP is back", lambda: site.next_hops(VIP) == {address(name) for name in HASHERS})
    assert connections(site)[address("ogh_w1")] == before + 1


def test_stopping_gobgpd_withdraws_before_the_session_goes_down(site: Site) -> None:
    unit = site.execute("ogh_w1", "systemctl", "show", "--property=ExecStop", "gobgpd.service").stdout
    assert "global rib del all -a ipv6" in unit
    site.execute("ogh_w1", "systemctl", "stop", "gobgpd.service")
    try:
        assert site.next_hops(VIP) == {address("ogh_w2")}
        assert site.health("ogh_w1")["gobgp"] != ""
        notes = site.execute("ogh_w1", "systemctl", "show", "--property=Result", "gobgpd.service").stdout
        assert "Result=success" in notes
    finally:
        site.execute("ogh_w1", "systemctl", "start", "gobgpd.service")


def moved_by_restarts_of_health(site: Site) -> list[str]:
    """What happened to the VIP's route while the health daemon was restarted and killed."""

    def restarted() -> bool:
        return main_pid(site) not in {"0", before} and len(site.health("ogh_w1").get("announced", [])) == 2

    with site.route_monitor() as monitor:
        before = main_pid(site)
        site.execute("ogh_w1", "systemctl", "restart", "og-health.service")
        wait_for("it knows what is announced", restarted)
        before = main_pid(site)
        site.execute("ogh_w1", "systemctl", "kill", "--signal=KILL", "og-health.service")
        wait_for("it is back", restarted)
        return monitor.lines_about(VIP)


def test_a_restarted_health_daemon_moves_no_traffic(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A heartbeat that was itself late moves traffic, and rightly: then once more."""
    late_before = [site.late_heartbeats(name) for name in HASHERS]
    moved = moved_by_restarts_of_health(site)
    late = [site.late_heartbeats(name) for name in HASHERS]
    if moved and late != late_before:
        with capsys.disabled():
            print(f"\n  the heartbeats of {', '.join(HASHERS)} were late, by ms: {late}; once more")
        wait_for("both hashers announce the VIP", lambda: site.next_hops(VIP) == {address(name) for name in HASHERS})
        moved = moved_by_restarts_of_health(site)
    assert moved == []


def test_drain_takes_the_vip_and_leaves_the_locator(site: Site) -> None:
    health = ("/opt/og/current/bin/og-health",)
    site.execute("ogh_w1", *health, "--drain")
    try:
        wait_for("the VIP is only at the other", lambda: site.next_hops(VIP) == {address("ogh_w2")})
        assert site.next_hops(locator("ogh_w1")) == {address("ogh_w1")}
        report = site.health("ogh_w1")
        assert (report["healthy"], report["reason"]) == (False, "drained")
    finally:
        site.execute("ogh_w1", *health, "--undrain")


def test_withdraw_by_hand_is_undone_by_the_daemon_of_a_living_data_plane(site: Site) -> None:
    with site.route_monitor() as monitor:
        site.execute("ogh_w1", "/opt/og/current/bin/og-health", "--withdraw")
        wait_for("it was withdrawn", lambda: monitor.time_of(VIP, address("ogh_w2")))
        wait_for("and came back", lambda: site.next_hops(VIP) == {address(name) for name in HASHERS})


def test_the_health_daemon_costs_next_to_nothing(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    pid = site.execute("ogh_w1", "systemctl", "show", "--property=MainPID", "--value", "og-health.service").stdout
    status = f"/proc/{pid.strip()}/"

    def used() -> float:
        stat = site.execute("ogh_w1", "cat", status + "stat").stdout.rsplit(")", 1)[1].split()
        return (int(stat[11]) + int(stat[12])) / 100

    memory = site.execute("ogh_w1", "grep", "VmRSS", status + "status").stdout.split()[1]
    before, start = used(), time.monotonic()
    time.sleep(5)
    share = (used() - before) / (time.monotonic() - start)
    with capsys.disabled():
        print(f"\n  og-health: {share * 100:.1f} % of a core, {int(memory) // 1024} MB")
    assert share < 0.2


def nothing_turns_round(site: Site, uplink: str) -> None:
    """A VIP whose route leads back to the uplink it came from: no loop, no Redirect, nothing that its sender hears."""
    vip, sender, port = "2001:db8:1::99", "2001:db8:c0ff::1", f"to-{uplink}"
    shown = site.execute(uplink, "ip", "-6", "-json", "address", "show", "dev", "fab0", "scope", "link").stdout
    neighbour = next(entry["local"] for link in json.loads(shown) for entry in link["addr_info"] if entry)
    routes = [(f"{vip}/128", "via", neighbour, "dev", port), (f"{sender}/128", "dev", port)]
    before = counters(site)
    site.execute(uplink, "ip", "-6", "address", "add", f"{sender}/128", "dev", "fab0", "nodad")
    for row in routes:
        site.execute(ROUTER, "ip", "-6", "route", "add", *row)
    ping = ("ping", "-6", "-c", "3", "-i", "0.2", "-W", "1", "-t", "9", "-I", sender, vip)
    try:
        heard = site.execute(uplink, *ping, check=False).stdout
        cached = site.execute(uplink, "ip", "-6", "route", "show", "cache", vip).stdout
    finally:
        for row in routes:
            site.execute(ROUTER, "ip", "-6", "route", "del", *row)
        site.execute(uplink, "ip", "-6", "address", "del", f"{sender}/128", "dev", "fab0")
    assert "3 packets transmitted, 0 received" in heard
    assert "errors" not in heard, heard
    assert cached == ""
    now = counters(site)
    assert now["turned_back"] - before["turned_back"] == 3
    assert now["redirects"] > before["redirects"]


def test_a_new_uplink_is_a_reload_and_exchanges_only_what_its_rules_permit(site: Site) -> None:
    """What a second site needs: another neighbour, without losing a session to the gateway nodes.

    The first run is cut off before it has reloaded anything; the second makes that good.
    """
    uplink = {"name": "core", "address": address("agent_w1"), "asn": 64600, "port": "to-agent_w1", "trusted": False}
    since = ("systemctl", "show", "--property=ActiveEnterTimestampMonotonic", "frr.service")
    sessions, started = connections(site), site.execute(ROUTER, *since).stdout
    try:
        wanted_uplinks = ("--limit", ROUTER, "--extra-vars", json.dumps({"quagga_uplinks": [uplink]}))
        site.play(*wanted_uplinks, "--tags", "quagga_configure")
        assert "to-core" not in site.execute(ROUTER, "vtysh", "-c", "show running-config").stdout
        foretold = site.play(*wanted_uplinks, "--check", "--tags", "quagga_service").stdout
        assert f"changed: [{ROUTER}]" in foretold[foretold.index("Reload FRRouting") :]
        site.play(*wanted_uplinks)
        running = site.execute(ROUTER, "vtysh", "-c", "show running-config").stdout
        assert f"neighbor {uplink['address']} prefix-list to-core out" in running
        assert "ipv6 prefix-list from-core seq 5 deny 5f00:1::/32 le 128" in running
        assert '"to-agent_w1"' in site.execute(ROUTER, "nft", "list", "set", "ip6", "og_edge", "outside").stdout
        wanted = {"5f00:1::/32", "2001:db8:c001:41::/64", "2001:db8:f001:11::/64"}
        wait_for("the site's prefixes are originated", lambda: wanted <= site.bgp_prefixes())
        originated = site.bgp_prefixes()
        assert "5f00:1:31::/64" not in originated, "agents' locators stay inside"
        assert "2001:db8:1::/48" not in originated, "the discard route of the VIPs stays inside"
        nothing_turns_round(site, "agent_w1")
    finally:
        site.play("--limit", ROUTER)
    assert "core" not in site.execute(ROUTER, "vtysh", "-c", "show running-config").stdout
    assert connections(site) == sessions
    assert site.execute(ROUTER, *since).stdout == started


def test_what_bgpd_refuses_is_an_error_and_stays_one(site: Site) -> None:
    """Its own address as a neighbour: vtysh takes the line, bgpd does not, and FRR's own reload ends well."""
    bad = {"name": "self", "address": gateway("agent_w1"), "asn": 64600, "port": "to-agent_w1", "trusted": False}
    wrong = ("--limit", ROUTER, "--tags", "quagga", "--extra-vars", json.dumps({"quagga_uplinks": [bad]}))
    sessions = connections(site)
    try:
        for _ in range(2):
            said = site.play(*wrong, fails=True).stdout
            assert "FRRouting refuses a part of /etc/frr/frr.conf and runs with the rest" in " ".join(said.split())
            assert connections(site) == sessions
    finally:
        site.play("--limit", ROUTER, "--tags", "quagga")
    assert "changed=0" in site.play("--limit", ROUTER, "--tags", "quagga").stdout
    assert connections(site) == sessions


def test_a_setting_of_the_daemons_restarts_frr_and_waits_for_its_sessions(site: Site) -> None:
    """With `--tags quagga` and a limit, as an operator would; then the old setting again, and nothing is due."""
    nicer = ("--limit", ROUTER, "--extra-vars", '{"quagga_nice": -11}')
    since = ("systemctl", "show", "--property=ActiveEnterTimestampMonotonic", "frr.service")
    started = site.execute(ROUTER, *since).stdout
    try:
        foretold = site.play(*nicer, "--check").stdout
        assert f"changed: [{ROUTER}]" in foretold[foretold.index("Restart FRRouting where nobody depends") :]
        assert site.execute(ROUTER, *since).stdout == started
        shown = site.play(*nicer, "--tags", "quagga").stdout
        assert established(site) == {address(name) for name in GATEWAYS}
        assert f"changed: [{ROUTER}]" in shown[shown.index("Restart FRRouting and wait until its sessions are back") :]
        assert site.execute(ROUTER, *since).stdout != started
    finally:
        site.play("--limit", ROUTER)
    recap = [line for line in site.play("--limit", ROUTER).stdout.splitlines() if "unreachable=" in line]
    assert all("changed=0" in line for line in recap), recap


@pytest.mark.parametrize("name", [*HASHERS, *ROUTERS])
def test_the_api_is_a_socket_of_the_group(site: Site, name: str) -> None:
    assert site.execute(name, "stat", "--format=%a %G", "/run/gobgp/api.sock").stdout.split() == ["660", "og"]
    listening = site.execute(name, "ss", "-Hltn").stdout
    assert ":50051" not in listening
    assert f"[{address(name)}]:179" in listening
