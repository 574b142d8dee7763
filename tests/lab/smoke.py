# SPDX-License-Identifier: Apache-2.0
"""`make smoke`: ten thousand requests of each site's client, judged by the clients and by captures of that very run.

Prints one JSON line per site; exit status 0 if everything held.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.lab.decode import frames
from tests.lab.nodes import Lab, LabError, capture, load

BALANCE = 0.15  # share of a server's connections by weight that its count may be off


def balance_error(per_backend: dict[str, int], weights: dict[str, int]) -> float:
    """Largest relative distance of a server's count from its share by weight; 1.0 for one that served nothing."""
    total, weight = sum(per_backend.values()), sum(weights.values())
    if not total or not weight:
        return 1.0
    return max(abs(per_backend.get(name, 0) * weight / (total * share) - 1) for name, share in weights.items() if share)


def path_of(captures: dict[str, Path], vip: str, ports: set[int]) -> dict[str, Any]:
    """What the captures say of the connections with these client ports: how SYNs came and how replies left.

    `detours` are servers' replies with data that left in an envelope, `strays` those seen at a router.
    """
    syn_ports: set[int] = set()
    plain_syns = direct = detours = strays = 0
    for name, path in captures.items():
        for seen in frames(path):
            if seen.dst == vip and seen.sport in ports and seen.syn and name.startswith("to-agent"):
                if seen.srh and seen.encapsulated:
                    syn_ports.add(seen.sport)
                else:
                    plain_syns += 1
            elif seen.src == vip and seen.dport in ports and seen.payload > 0:
                if not name.startswith("to-agent"):
                    strays += 1
                elif seen.encapsulated:
                    detours += 1
                else:
                    direct += 1
    return {"syns": len(syn_ports), "plain_syns": plain_syns, "direct": direct, "detours": detours, "strays": strays}


def _hunted(lab: Lab, site: str) -> int:
    """Packets of unknown flows that the site's routers have looked for so far."""
    return sum(router.counters().get("hunt_1", 0) for router in lab.group(f"ogr_{site}"))


def smoke(lab: Lab, site: str, connections: int, requests: int, directory: Path) -> dict[str, Any]:
    """Run the load with captures around it and put both together."""
    router = lab.node(f"rtr_{site}1")
    client = lab.node(f"cli_{site}1")
    # Only what the two questions need: packets with an SRH or another IPv6 inside towards and from the nodes, and the
    # servers' plain replies. Pinned data inside (next header 41) is left out: it is neither a SYN nor a reply.
    servers = f"ip6 proto 43 or (src host {lab.vip} and tcp src port {lab.service['port']}) or (dst host {lab.vip})"
    wanted = {f"to-{node.name}": servers for node in lab.group(f"agent_{site}")}
    wanted |= {f"to-{node.name}": "ip6 proto 43" for node in lab.group(f"ogr_{site}")}
    captures = {interface: directory / f"{interface}.pcap" for interface in wanted}
    hunted = -_hunted(lab, site)
    with ExitStack() as stack:
        for interface, expression in wanted.items():
            stack.enter_context(capture(router, interface, expression, captures[interface]))
        each = max(1, requests // connections)
        running = stack.enter_context(
            load(
                client,
                lab.vip,
                "--rate",
                "250",
                "--total",
                str(connections),
                "--requests-per-connection",
                str(each),
                "--connections",
                port=int(lab.service["port"]),
            )
        )
        report = running.finish()
    opened = {row["port"] for row in report["records"] if row["opened"]}
    seen = path_of(captures, lab.vip, opened)
    hunted += _hunted(lab, site)
    weights = lab.weights(site)
    return {
        "site": lab.site_names[site],
        "requests": report["requests"],
        "failed": report["failed"],
        "failures": report["failures"],
        "connections": report["connections"],
        "per_backend": report["per_backend"],
        "served_at_home": set(report["per_backend"]) <= set(weights),
        "balance_error": round(balance_error(report["connections_per_backend"], weights), 4),
        "syn_via_srv6": seen["syns"] == len(opened) > 0 and seen["plain_syns"] == 0,
        # One reply per hunted flow takes the way back, to give its new router the pin: on a busy machine a router is
        # late for its probes at times, and flows go to another. No hunt, no detour.
        "replies_direct": seen["direct"] + seen["detours"] >= report["requests"] > 0
        and seen["detours"] <= hunted
        and (seen["strays"] == 0 or seen["detours"] > 0),
        "rps": report["rps"],
        "capture": seen,
        "hunted": hunted,
    }


def verdict(result: dict[str, Any]) -> list[str]:
    """What did not hold, in words; empty if all did."""
    reasons = []
    if result["failed"]:
        reasons.append(f"{result['failed']} connections failed: {result['failures']}")
    if not result["served_at_home"]:
        reasons.append(f"servers of another site answered: {result['per_backend']}")
    if result["balance_error"] > BALANCE:
        reasons.append(f"servers are {result['balance_error']:.0%} off their weights: {result['per_backend']}")
    if not result["syn_via_srv6"]:
        reasons.append(f"not every SYN reached its server in SRv6: {result['capture']}")
    if not result["replies_direct"]:
        reasons.append(f"not every reply left directly: {result['capture']}")
    return reasons


def main() -> int:
    """Command line of `make smoke`."""
    parser = argparse.ArgumentParser(prog="smoke", description=__doc__)
    parser.add_argument("--site", help="letter of the site whose client asks; all if absent")
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--requests", type=int, default=10000)
    parser.add_argument("--keep", type=Path, help="keep the captures in this folder")
    args = parser.parse_args()
    reasons = []
    try:
        lab = Lab()
        for site in [args.site] if args.site else lab.sites:
            with tempfile.TemporaryDirectory(prefix="og-smoke-") as scratch:
                result = smoke(lab, site, args.connections, args.requests, args.keep or Path(scratch))
            print(json.dumps(result), flush=True)
            reasons += [f"{result['site']}: {reason}" for reason in verdict(result)]
    except LabError as error:
        print(f"smoke: {error}", file=sys.stderr)
        return 2
    for reason in reasons:
        print(f"smoke: {reason}", file=sys.stderr)
    return 1 if reasons else 0


if __name__ == "__main__":
    raise SystemExit(main())
