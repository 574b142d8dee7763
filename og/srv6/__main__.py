# SPDX-License-Identifier: Apache-2.0
"""`og-srv6 apply FILE`: bring the kernel's SRv6 routes to what the file says, as the module srv6_route does. For boot.

The file: `{"protocol": 83, "purge": true, "routes": [...]}`, routes with the options of srv6_route.
`og-srv6 check FILE` only says what differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from .kernel import KernelError, UnverifiedError, bring, missing_devices, observe
from .plan import plan, say
from .route import PROTOCOL, Route, RouteError, check, check_protocol, parse

EXIT_NOT_SO, EXIT_FILE = 1, 2


def read(text: str) -> tuple[list[Route], int, bool]:
    """Return routes, protocol and whether to purge. Raises RouteError naming the place of what is wrong."""
    try:
        document: Any = json.loads(text)
    except ValueError as error:
        raise RouteError(f"not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("routes"), list):
        raise RouteError("routes: missing, or not a list")
    unknown = sorted(set(document) - {"protocol", "purge", "routes"})
    if unknown:
        raise RouteError(f"{unknown[0]}: unknown")
    purge = document.get("purge", False)
    if not isinstance(purge, bool):
        raise RouteError(f"purge: {purge!r} is neither true nor false")
    protocol = check_protocol(document.get("protocol", PROTOCOL), purge=purge)
    routes = []
    for at, item in enumerate(document["routes"]):
        if not isinstance(item, dict):
            raise RouteError(f"routes[{at}]: not an object")
        routes.append(parse(item, f"routes[{at}]"))
    check(routes)
    return routes, protocol, purge


def run(wanted: list[Route], protocol: int, *, purge: bool, change: bool) -> int:
    """Apply or compare; return the exit status. Raises RouteError, KernelError or UnverifiedError."""
    with IPRoute() as netlink:
        observed = observe(netlink)
        actions = plan(wanted, observed, protocol, purge=purge)
        lacking = missing_devices(netlink, wanted)
        if lacking:
            raise RouteError(f"no such device: {', '.join(lacking)}; nothing was changed")
        if change and actions:
            bring(netlink, actions, observed, wanted, protocol)
    for action in actions:
        print(say(action))
    return EXIT_NOT_SO if actions and not change else 0


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 = as the file says, 1 = differs, or the kernel refuses; 2 = the file is wrong."""
    parser = argparse.ArgumentParser(prog="og-srv6", description="SRv6 routes of the kernel, from a file.")
    parser.add_argument("what", choices=["apply", "check"])
    parser.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    try:
        wanted, protocol, purge = read(options.file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RouteError) as error:
        print(f"og-srv6: {options.file}: {error}", file=sys.stderr)
        return EXIT_FILE
    try:
        return run(wanted, protocol, purge=purge, change=options.what == "apply")
    except (RouteError, KernelError, UnverifiedError, OSError) as error:
        print(f"og-srv6: {error}", file=sys.stderr)
        return EXIT_NOT_SO


if __name__ == "__main__":
    sys.exit(main())
