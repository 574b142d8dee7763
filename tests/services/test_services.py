# SPDX-License-Identifier: Apache-2.0
"""The roles consul, web and monitoring on real hosts: they deploy, a second time without a change, and do their job."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tests.services.nodes import VIP, wait_for

if TYPE_CHECKING:
    from tests.services.conftest import Site

TASKS_DONE = re.compile(r"^(\w+) +: ok=(\d+) +changed=(\d+) .*failed=(\d+)", re.MULTILINE)


def recap(output: str) -> dict[str, tuple[int, int]]:
    """(changed, failed) of each host."""
    return {host: (int(changed), int(failed)) for host, _, changed, failed in TASKS_DONE.findall(output)}


def check_of(site: Site) -> dict[str, Any]:
    """The check of the service `web`, as the server has it."""
    entries = site.monitor.consul("health/service/web")
    return next(check for check in entries[0]["Checks"] if check["CheckID"] == "web-health")


# ---- deploying


def test_check_mode_passes_on_a_bare_host_and_tells_what_would_change(site: Site) -> None:
    assert all(changed > 5 and failed == 0 for changed, failed in recap(site.runs["check"]).values())


def test_second_run_changes_nothing(site: Site) -> None:
    assert recap(site.runs["second"]) == {"agent_w1": (0, 0), "mon_w1": (0, 0)}


def test_the_play_says_where_consul_came_from(site: Site) -> None:
    assert re.search(r"Consul [\d.]+ from the source `(release|go|debian)`", site.runs["first"])


def test_units_start_at_boot(site: Site) -> None:
    assert site.agent.sh("systemctl is-enabled consul nginx og-stats").split() == ["enabled"] * 3
    assert site.monitor.sh("systemctl is-enabled consul influxdb og-stats").split() == ["enabled"] * 3


# ---- Consul


def test_both_hosts_are_members_under_their_fabric_address(site: Site) -> None:
    members = {m["Name"]: (m["Addr"], m["Status"]) for m in site.agent.consul("agent/members")}
    assert members == {"mon_w1": (site.monitor.address, 1), "agent_w1": (site.agent.address, 1)}


def test_the_api_listens_on_loopback_only(site: Site) -> None:
    for node in (site.monitor, site.agent):
        assert node.sh("ss -Hltn 'sport = :8500' | awk '{print $4}'").split() == ["127.0.0.1:8500"]


def test_service_is_registered_with_what_the_control_daemon_reads(site: Site) -> None:
    wait_for("web to pass", lambda: check_of(site)["Status"] == "passing")
    entry = site.monitor.consul("health/service/web?passing")[0]
    assert entry["Node"]["Meta"].items() >= {"og_role": "agent", "og_site": "west"}.items()
    assert entry["Service"]["Meta"] == {
        "service": "web",
        "weight": "100",
        "capacity": "1000",
        "locator": "5f00:1:31::/64",
    }
    assert (entry["Service"]["Address"], entry["Service"]["Port"]) == (site.agent.address, 80)


def refused(check: dict[str, Any]) -> bool:
    """Failed, and for that reason: a look that came too late on a busy machine fails as well."""
    return check["Status"] == "critical" and "connection refused" in check["Output"]


def test_a_service_that_stops_is_critical_and_comes_back(site: Site) -> None:
    wait_for("web to pass", lambda: check_of(site)["Status"] == "passing")
    site.agent.sh("systemctl stop nginx")
    try:
        wait_for("web to fail because nobody listens", lambda: refused(check_of(site)))
    finally:
        site.agent.sh("systemctl start nginx")
    wait_for("web to pass again", lambda: check_of(site)["Status"] == "passing")


def test_an_agent_that_stops_is_failed_not_gone(site: Site) -> None:
    """A restart of Consul must not look like a server that was taken away."""
    site.agent.sh("systemctl stop consul")
    try:
        assert site.monitor.consul("catalog/service/web")[0]["Node"] == "agent_w1"
        status = {m["Name"]: m["Status"] for m in site.monitor.consul("agent/members")}
        assert status["agent_w1"] != 3  # 3 = left
    finally:
        site.agent.sh("systemctl start consul")
    wait_for("the agent to be back", lambda: site.agent.consul("status/leader"))


def test_consul_comes_back_when_it_is_killed(site: Site) -> None:
    site.agent.sh("systemctl kill --signal=KILL consul")
    wait_for("Consul to be back", lambda: site.agent.consul("status/leader"))


def test_a_service_definition_consul_refuses_changes_nothing(site: Site) -> None:
    before = site.agent.sh("cat /etc/consul.d/services.json")
    bad = '{"consul_services": [{"name": "web", "checks": [{"http": "http://[::1]/", "interval": "soon"}]}]}'
    output = site.play(
        "bad", "--limit", "agent_w1", "--tags", "consul_configure,consul_install", "--extra-vars", bad, fails=True
    )
    assert "interval" in output
    assert site.agent.sh("cat /etc/consul.d/services.json") == before
    wait_for("web to pass", lambda: check_of(site)["Status"] == "passing")


def consul_pids(site: Site) -> list[str]:
    return [node.sh("systemctl show --property MainPID --value consul").strip() for node in (site.monitor, site.agent)]


def test_a_changed_setting_restarts_and_waits_also_after_a_run_that_was_cut_off(site: Site) -> None:
    before = consul_pids(site)
    setting = ("--extra-vars", '{"consul_log_level": "INFO"}')
    site.play("cut off", "--tags", "consul_install,consul_configure", *setting)
    assert consul_pids(site) == before
    shown = site.play("setting", "--tags", "consul", *setting)
    server, client = shown.index("restart the servers that are due"), shown.index("restart the clients that are due")
    assert server < client
    assert "changed: [mon_w1]" in shown[server:client]
    assert all(old != new for old, new in zip(before, consul_pids(site), strict=True))
    assert site.agent.consul("status/leader") == site.monitor.consul("status/leader") != ""
    site.play("setting back", "--tags", "consul")
    again = site.play("setting again", "--tags", "consul")
    assert recap(again) == {"agent_w1": (0, 0), "mon_w1": (0, 0)}


def test_another_server_restarts_nobody(site: Site) -> None:
    before = consul_pids(site)
    servers = {"consul_servers": [site.monitor.address, "2001:db8:f001:52::2"]}
    shown = site.play("another server", "--tags", "consul", "--extra-vars", json.dumps(servers))
    assert all(changed == 1 for changed, _ in recap(shown).values())
    assert site.monitor.json("cat /etc/consul.d/start.json")["bootstrap_expect"] == 2
    assert consul_pids(site) == before
    site.play("one server", "--tags", "consul")


def test_an_older_version_is_refused(site: Site) -> None:
    binary = {"version": "1.2.3", "source": "debian", "directory": "/opt/consul/older", "file": "", "cached": False}
    values = json.dumps({"__consul_binary": binary})
    said = site.play("older", "--tags", "consul_install", "--extra-vars", values, fails=True)
    assert "the source debian gives 1.2.3, which may not read the newer one's data. Nothing" in " ".join(said.split())
    assert "older" not in site.monitor.sh("ls /opt/consul; readlink /usr/local/bin/consul")


def test_a_server_that_does_not_come_back_ends_the_play(site: Site) -> None:
    """Its data directory is not its own any more: Consul does not start, and the client is left alone."""
    client = consul_pids(site)[1]
    site.monitor.sh("chown root: /var/lib/consul && chmod 700 /var/lib/consul")
    changed = ("--tags", "consul_configure,consul_service", "--extra-vars")
    directory = site.monitor.sh("dirname $(readlink /usr/local/bin/consul)").strip()
    binary = {"version": "1.8.7", "directory": directory}
    values = {"consul_log_level": "INFO", "consul_restart_wait_s": 5, "__consul_binary": binary}
    try:
        shown = site.play("no way", *changed, json.dumps(values), fails=True)
        assert "after the restart of Consul: no leader is known" in shown
        assert consul_pids(site)[1] == client
    finally:
        site.monitor.sh("chown consul:consul /var/lib/consul && chmod 750 /var/lib/consul && systemctl restart consul")
    wait_for("a leader", lambda: site.monitor.consul("status/leader"))
    site.play("mended", "--tags", "consul")


GOSSIP_KEYS = ("dGhlLWdvc3NpcC1rZXktb2YtdGhlLXRlc3Qtb25lISE=", "YW5vdGhlci1nb3NzaXAta2V5LW9mLXRoZS10ZXN0LSE=")


def test_no_diff_shows_a_secret(site: Site) -> None:
    """A host as an earlier release of the role left it, with the key in the base; then another key."""
    only = ("--limit", "agent_w1", "--tags", "consul_configure,consul_install", "--diff", "--check")
    new = '{"consul_config_extra": {"encrypt": "%s", "log_json": true}}'
    site.agent.sh("mkdir /root/consul.d && cp -a /etc/consul.d/. /root/consul.d")
    try:
        old = site.agent.json("cat /etc/consul.d/consul.json") | {"encrypt": GOSSIP_KEYS[0]}
        site.agent.sh(f"cat >/etc/consul.d/consul.json <<'EOF'\n{json.dumps(old)}\nEOF\nrm /etc/consul.d/secrets.json")
        shown = site.play("upgraded", *only, "--extra-vars", new % GOSSIP_KEYS[0])
        assert recap(shown)["agent_w1"][0] > 0
        assert not [key for key in GOSSIP_KEYS if key in shown]
        site.agent.sh("cp -a /root/consul.d/. /etc/consul.d")
        site.agent.sh(f'echo \'{{"encrypt": "{GOSSIP_KEYS[0]}"}}\' >/etc/consul.d/secrets.json')
        shown = site.play("another key", *only, "--extra-vars", new % GOSSIP_KEYS[1])
        assert '+    "log_json": true' in shown  # the rest keeps its diff
        assert not [key for key in GOSSIP_KEYS if key in shown]
    finally:
        site.agent.sh("cp -a /root/consul.d/. /etc/consul.d && rm -r /root/consul.d")
    assert site.agent.sh("stat -c '%a %U:%G' /etc/consul.d/secrets.json").strip() == "640 root:consul"


# ---- the service


def test_the_service_answers_at_the_vip_with_its_name(site: Site) -> None:
    answer = site.agent.json(f"curl -sf http://[{VIP}]/")
    assert answer.items() >= {"backend": "agent_w1", "site": "west", "service": "web", "request": 1}.items()
    assert "X-Backend: agent_w1" in site.agent.sh(f"curl -sfi http://[{VIP}]/health")


def test_bodies_have_the_size_asked_for(site: Site) -> None:
    sizes = site.agent.sh(f"for n in 10240 1048576; do curl -sf http://[{VIP}]/bytes/$n | wc -c; done").split()
    assert sizes == ["10240", "1048576"]
    assert site.agent.sh(f"curl -s -o /dev/null -w '%{{http_code}}' http://[{VIP}]/bytes/7") == "404"


def test_one_connection_carries_many_requests(site: Site) -> None:
    connections = site.agent.sh(
        f"curl -sf 'http://[{VIP}]/?[1-2000]' | grep -o '\"connection\":[0-9]*' | sort | uniq -c | awk '{{print $1}}'"
    )
    assert connections.split() == ["2000"]


def test_the_service_needs_no_vip_to_start(site: Site) -> None:
    site.agent.sh(f"ip addr del {VIP}/128 dev lo && systemctl restart nginx")
    try:
        assert site.agent.sh("curl -sf http://[::1]/health") == "ok\n"
    finally:
        site.agent.sh(f"ip addr add {VIP}/128 dev lo nodad noprefixroute preferred_lft 0")
    assert site.agent.sh(f"curl -sf http://[{VIP}]/health") == "ok\n"


# ---- statistics


def test_both_hosts_post_every_second(site: Site) -> None:
    def hosts() -> dict[str, int]:
        series = site.influx.query("SELECT count(cpu) FROM og_host WHERE time > now() - 10s GROUP BY host")
        return {s["tags"]["host"]: s["values"][0][1] for s in series}

    wait_for("two hosts with some samples", lambda: min(hosts()[name] for name in ("agent_w1", "mon_w1")) >= 3)


def test_processor_time_of_the_units_is_known(site: Site) -> None:
    series = site.influx.query("SELECT last(cpu_us) FROM og_unit WHERE host = 'agent_w1' GROUP BY unit")
    used = {s["tags"]["unit"]: s["values"][0][1] for s in series}
    assert set(used) == {"consul", "nginx", "og-stats"}
    assert min(used.values()) > 0


def test_nothing_is_lost_while_influxdb_is_away(site: Site) -> None:
    query = "SELECT last(post_failures) FROM og_stats WHERE host = 'agent_w1'"
    failures = site.influx.value(query)
    site.monitor.sh("systemctl stop influxdb")
    begin = site.agent.sh("date +%s").strip()
    site.agent.sh("sleep 4")
    end = site.agent.sh("date +%s").strip()
    site.monitor.sh("systemctl start influxdb")
    wait_for("the failures to be told", lambda: site.influx.value(query) > failures)
    gap = f"SELECT count(cpu) FROM og_host WHERE host = 'agent_w1' AND time > {begin}s AND time < {end}s"  # noqa: S608
    assert wait_for("the samples of the gap", lambda: site.influx.value(gap))
    assert site.influx.value("SELECT last(dropped_batches) FROM og_stats WHERE host = 'agent_w1'") == 0
    assert site.influx.value("SELECT last(refused_batches) FROM og_stats WHERE host = 'agent_w1'") == 0


def test_how_long_is_kept(site: Site) -> None:
    rows = site.influx.query("SHOW RETENTION POLICIES ON og")[0]["values"]
    assert [row[:2] for row in rows if row[0] == "og"] == [["og", "24h0m0s"]]


def test_grafana_runs_or_the_play_says_why_not(site: Site) -> None:
    if site.monitor.sh("test -x /usr/sbin/grafana-server && echo yes", check=False):
        health = f"curl -sf 'http://[{site.monitor.address}]:3000/api/health'"
        assert site.monitor.json(health)["database"] == "ok"
    else:
        assert "Grafana is left out: " in site.runs["first"]


# ---- a changed setting


def test_what_can_reload_does(site: Site) -> None:
    """nginx and Consul take new settings without losing a connection, and the ones before again."""
    pids = "systemctl show --property=MainPID --value nginx consul"
    keepalive = "sed -n 's/.*keepalive_timeout \\(.*\\);/\\1/p' /etc/nginx/nginx.conf"
    before, usual = site.agent.sh(pids), site.agent.sh(keepalive)
    services = '{"consul_services": [{"name": "another", "port": 9}]}'
    site.play("other", "--limit", "agent_w1", "-e", "web_keepalive_timeout_s=61", "-e", services)
    try:
        assert site.agent.sh(keepalive).strip() == "61s"
        wait_for("the service is registered", lambda: "another" in site.agent.consul("agent/services"))
    finally:
        site.play("back", "--limit", "agent_w1")
    assert site.agent.sh(keepalive) == usual
    wait_for("it is gone again", lambda: "another" not in site.agent.consul("agent/services"))
    assert site.agent.sh(pids) == before


def test_nginx_restarts_only_with_consent(site: Site) -> None:
    """A changed unit file needs a restart, which ends connections."""
    pid = "systemctl show --property=MainPID --value nginx"
    before, other = site.agent.sh(pid), ("--limit", "agent_w1", "-e", "web_open_files=4096")
    said = site.play("without consent", *other)
    try:
        assert "nginx runs with the unit file it was started with" in " ".join(said.split())
        assert site.agent.sh(pid) == before
        site.play("with consent", *other, "-e", "web_allow_restart=true")
        assert site.agent.sh(pid) != before
        assert "4096" in site.agent.sh("systemctl show --property=LimitNOFILE --value nginx")
    finally:
        site.play("back", "--limit", "agent_w1", "-e", "web_allow_restart=true")
