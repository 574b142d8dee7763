# SPDX-License-Identifier: Apache-2.0
"""`og-agent-kernel`: an application host without eBPF, which the kernel's seg6local serves.

Puts the service addresses on lo, answers the routers' probes, reports load. Routes and packet filter are the unit's.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from og.agent import config as configuration
from og.agent.kernel import daemon
from og.configfile import ConfigError

EXIT_CONFIG = 2


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="og-agent-kernel", description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("/etc/og/agent.json"), metavar="FILE")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check-config", action="store_true", help="check the file and exit; 2 if it is wrong")
    what.add_argument("--status", action="store_true", help="print the state as JSON; 1 if the SIDs are not routed")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        config = configuration.load(options.config)
        if options.check_config:
            return 0
        if options.status:
            state = daemon.status(config)
            print(json.dumps(state, indent=2))
            return 0 if state["attached"] else 1
        daemon.run(options.config, config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    except OSError as error:
        print(f"og-agent-kernel: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
