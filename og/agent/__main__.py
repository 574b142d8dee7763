# SPDX-License-Identifier: Apache-2.0
"""`og-agent`: takes packets of the gateway for this host's services, and lets the servers answer directly.

Loads two programs into the kernel, attaches them to the data port (XDP, tc egress), and reports load. The programs
stay when the daemon stops; `--detach` removes them.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from og.agent import config as configuration
from og.agent.bpf import BpfError
from og.agent.headers import HeadersError
from og.agent.loader import LoadError
from og.configfile import ConfigError

EXIT_CONFIG = 2
_TEXT = argparse.RawDescriptionHelpFormatter


def arguments() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="og-agent", description=__doc__, formatter_class=_TEXT)
    default = Path("/etc/og/agent.json")
    parser.add_argument("--config", type=Path, default=default, metavar="FILE", help="default: %(default)s")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check-config", action="store_true", help="check the file and exit; 2 if it is wrong")
    what.add_argument("--status", action="store_true", help="print the state as JSON; 1 if not attached")
    what.add_argument("--attach", action="store_true", help="load, attach and exit, without reporting")
    what.add_argument("--detach", action="store_true", help="remove the programs and their maps")
    parser.add_argument("--verbose", action="store_true", help="also log what is not news")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = arguments().parse_args(argv)
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.INFO, format="%(levelname)s: %(message)s")
    try:
        config = configuration.load(options.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    if options.check_config:
        return 0

    from og.agent import daemon  # noqa: PLC0415 - checking a file needs no pyroute2

    try:
        if options.status:
            state = daemon.status(config)
            print(json.dumps(state, indent=2))
            return 0 if state["attached"] else 1
        if options.detach:
            print(json.dumps({"removed": daemon.detach(config)}))
        elif options.attach:
            daemon.attach(config)
        else:
            daemon.run(options.config, config)
    except (daemon.AgentError, LoadError, HeadersError, BpfError, OSError) as error:
        print(f"og-agent: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
