# SPDX-License-Identifier: Apache-2.0
"""`ogctl`: see what the gateway does."""

from __future__ import annotations

import argparse
import ipaddress
import json
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from og.cli import fleet, show
from og.cli.node import NoDataPlaneError, Paths, check, list_pins, query, status, why
from og.telemetry import TelemetryError

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_PROBLEMS, EXIT_USAGE = 1, 2
POLL_S = 0.25


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="ogctl", description="See what the Occam Gateway does.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="machine-readable")
    common.add_argument("--local", action="store_true", help="this host only, whatever --inventory says")
    parser.add_argument("--inventory", "-i", metavar="PATH", help="ask every gateway node and agent of this inventory")
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[common])

    add("status", "nodes, health, table versions, pins, rates; exit status 1 when something is wrong").add_argument(
        "--interval", type=float, default=0.5, metavar="S", help="rates are over this time (default: %(default)s)"
    )
    pins = add("pins", "how many flows the routers remember")
    pins.add_argument("--list", action="store_true", help="the pins themselves")
    pins.add_argument(
        "--limit", type=int, default=1000, metavar="N", help="at most so many per node (default: %(default)s)"
    )
    add("counters", "packets by verdict, since the data plane started")
    add("load", "turns of the poll loops, and how many had work")
    reason = add("why", "where a client's flow goes, and why; with --inventory: the hashers and the router they pick")
    reason.add_argument("client", type=_address, help="the client's IPv6 address")
    reason.add_argument("port", type=_port, help="its port")
    reason.add_argument("--service", default="0", metavar="NAME", help="name or index (default: %(default)s)")
    waiting = add("check", "wait until this node's data plane works; exit status 1 when it does not")
    waiting.add_argument("--timeout", type=float, default=0.0, metavar="S", help="how long to wait")
    group = waiting.add_mutually_exclusive_group()
    group.add_argument("--tables", action="store_true", default=True, help="running and on its tables (default)")
    group.add_argument("--process", action="store_false", dest="tables", help="running, with or without tables")
    return parser


def _address(text: str) -> str:
    return str(ipaddress.IPv6Address(text))


def _port(text: str) -> int:
    if not 0 < int(text) < 1 << 16:
        raise ValueError
    return int(text)


_port.__name__ = "port"  # argparse: "invalid port value"
_address.__name__ = "IPv6 address"


def main(arguments: list[str] | None = None, paths: Paths | None = None) -> int:
    """Exit status 0 = fine, 1 = something is wrong (said), 2 = wrong use."""
    options = make_parser().parse_args(arguments)
    paths = paths or Paths()
    if options.command == "check":
        return wait(paths, options.timeout, tables=options.tables)
    everywhere = options.inventory is not None and not options.local
    try:
        nodes = ask_fleet(options) if everywhere else {socket.gethostname(): ask_here(options, paths)}
    except (NoDataPlaneError, TelemetryError, fleet.InventoryError) as error:
        sys.stderr.write(f"ogctl: {error}\n")
        return EXIT_PROBLEMS
    if options.command == "status":
        nodes = {(facts["node"] if not everywhere else name): facts for name, facts in nodes.items()}
    if options.json:
        answers: dict[str, Any] = {name: facts.get("list", facts) for name, facts in nodes.items()}
        sys.stdout.write(json.dumps(answers if everywhere else next(iter(answers.values())), indent=1) + "\n")
    else:
        sys.stdout.write(text_of(options)(nodes))
    return EXIT_PROBLEMS if any(facts.get("problems") for facts in nodes.values()) else 0


def ask_here(options: argparse.Namespace, paths: Paths) -> dict[str, Any]:
    """Answer from this host. Raises NoDataPlaneError, TelemetryError."""
    if options.command == "status":
        return status(paths, options.interval)
    if options.command == "pins" and options.list:
        return {"list": list_pins(paths, options.limit)}
    if options.command == "why":
        return why(paths, options.client, options.port, options.service)
    return dict(query(paths, f"/og/{options.command}"))


def ask_fleet(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Have the nodes answer. Raises InventoryError."""
    arguments = [options.command]
    if options.command == "status":
        arguments += ["--interval", str(options.interval)]
    elif options.command == "pins" and options.list:
        arguments += ["--list", "--limit", str(options.limit)]
    elif options.command == "why":
        arguments += [options.client, str(options.port), "--service", options.service]
    hosts = fleet.read_hosts(options.inventory)
    if options.command != "status":
        hosts = [host for host in hosts if host.group in fleet.DATA_PLANES[options.command]]
    answers = fleet.ask_all(hosts, arguments)
    return fleet.picked(answers) if options.command == "why" else answers


def text_of(options: argparse.Namespace) -> Callable[[dict[str, dict[str, Any]]], str]:
    """Choose the table for a command."""
    if options.command == "pins" and options.list:
        return show.pin_list
    texts = {
        "status": show.status,
        "pins": show.pins,
        "counters": show.counters,
        "load": show.counters,
        "why": show.why,
    }
    return texts[options.command]


def wait(paths: Paths, timeout_s: float, *, tables: bool) -> int:
    """Ask again and again until the data plane works or the time is over."""
    end = time.monotonic() + timeout_s
    while (trouble := check(paths, tables=tables)) and time.monotonic() < end:
        time.sleep(POLL_S)
    sys.stdout.write("" if trouble else "works\n")
    sys.stderr.write(f"ogctl: {trouble}\n" if trouble else "")
    return EXIT_PROBLEMS if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
