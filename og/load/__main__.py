# SPDX-License-Identifier: Apache-2.0
"""`og-load`: drive real HTTP connections at a service and report what became of each, as one JSON object."""

from __future__ import annotations

import argparse
import ipaddress
import json
import resource
import signal
import sys
import time
from pathlib import Path

from og.load import report
from og.load.engine import Engine, Options, Second


def _address(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def arguments() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="og-load", description=__doc__)
    parser.add_argument("--host", required=True, type=_address, help="IPv6 address of the service")
    parser.add_argument("--port", type=int, default=80)
    parser.add_argument("--path", default="/")
    parser.add_argument("--held", type=int, default=0, metavar="N", help="connections kept open until the end")
    parser.add_argument("--held-rate", type=float, default=500, metavar="N/S", help="how fast these are opened")
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="S", help="between two requests of a held connection"
    )
    parser.add_argument("--rate", type=float, default=0, metavar="N/S", help="new short connections per second")
    parser.add_argument("--total", type=int, default=0, metavar="N", help="stop after N short connections")
    parser.add_argument(
        "--requests-per-connection", type=int, default=1, metavar="N", help="requests of a short connection"
    )
    parser.add_argument(
        "--stream-interval", type=float, default=0, metavar="S", help="between requests of a short connection"
    )
    parser.add_argument("--duration", type=float, default=0, metavar="S", help="end after this time")
    parser.add_argument("--timeout", type=float, default=10, metavar="S", help="for a connection and for an answer")
    parser.add_argument("--source", type=_address, help="local address")
    parser.add_argument("--connections", action="store_true", help="list every connection in the report")
    parser.add_argument("--output", type=Path, help="write the report here instead of standard output")
    parser.add_argument("--progress", action="store_true", help="a line per second on standard error")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the load; exit status 0 if no connection failed, 1 if one did, 2 for a wrong command line."""
    parser = arguments()
    args = parser.parse_args(argv)
    if not args.duration and (args.held or (args.rate and not args.total)):
        parser.error("--held, and --rate without --total, need --duration")
    if not args.held and not args.rate:
        parser.error("nothing to do: give --held or --rate")
    names = Options.__dataclass_fields__
    options = Options(**{name: value for name, value in vars(args).items() if name in names})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def show(second: int, entry: Second) -> None:
        line = f"{second} open={entry.open} opened={entry.opened} requests={entry.requests} failed={entry.failed}"
        print(line, file=sys.stderr, flush=True)

    engine = Engine(options, show if args.progress else None)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: engine.stop())
    begin = time.monotonic()
    engine.run()
    result = report.summary(engine.records, engine.seconds, time.monotonic() - begin, engine.stalls)
    if args.connections:
        result["records"] = report.rows(engine.records)
    text = json.dumps(result)
    if args.output:
        args.output.write_text(text + "\n")
    else:
        print(text)
    return 1 if result["failed"] or result["moved"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
