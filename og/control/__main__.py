# SPDX-License-Identifier: Apache-2.0
"""`og-control`: policy and Consul to tables, for the data plane of this node."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any

from og.configfile import ConfigError
from og.control.config import Config, load_config
from og.control.consul import Client, ConsulError
from og.control.daemon import Daemon, Reload, Stop, view_of
from og.control.notify import notify
from og.control.policyfile import NoPolicyError
from og.control.sources import sources
from og.control.state import load_state
from og.control.tables import build_tables, complete
from og.control.votes import count_votes, settle_clock
from og.policy.check import Inventory, Policy, load_policy
from og.policy.document import PolicyError

EXIT_FAILED, EXIT_USAGE = 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 = done, 1 = configuration or policy cannot be used, 2 = wrong use."""
    parser = argparse.ArgumentParser(prog="og-control", description=__doc__)
    parser.add_argument("--config", default="/etc/og/control.json", metavar="FILE", help="default: %(default)s")
    parser.add_argument("--check-config", action="store_true", help="check configuration and policy, and exit")
    parser.add_argument(
        "--once", action="store_true", help="compute one table document from what is known now; with --print"
    )
    parser.add_argument("--print", action="store_true", dest="show", help="print the document; load nothing")
    options = parser.parse_args(arguments)
    if options.once != options.show:
        parser.error("--once and --print belong together")
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        config = load_config(options.config)
        if options.check_config or options.once:
            policy = read_policy(config)
            return print_once(config, policy) if options.once else 0
        return serve(config)
    except (ConfigError, PolicyError, NoPolicyError) as error:
        sys.stderr.write(f"og-control: {error}\n")
        return EXIT_FAILED
    except OSError as error:
        sys.stderr.write(f"og-control: {error.filename or options.config}: {error.strerror}\n")
        return EXIT_FAILED


def read_policy(config: Config) -> Policy:
    """Read the policy file itself, without the daemon's last good copy. Raises PolicyError, OSError."""
    inventory = Inventory(config.service_names, config.site, config.sites)
    return load_policy(Path(config.policy).read_text(encoding="utf-8"), config.policy, inventory)


def print_once(config: Config, policy: Policy) -> int:
    """Ask Consul once, print the document. What cannot be asked counts as unknown and is named on stderr."""
    client = Client(config.consul_url)
    values: dict[Any, Any] = {}
    for source in sorted(sources(config, policy), key=str):
        try:
            values[source] = source.parse(client.get(source.query(config)).value)
        except (ConsulError, ValueError) as error:
            logging.warning("consul: %s: %s", source, error)
    client.close()
    now = time.time()
    state = settle_clock(load_state(config), now)
    outcome = count_votes(config, policy, view_of(values), state, now)
    tables = build_tables(config, policy, outcome.state, now)
    for note in (*outcome.notes, *tables.notes):
        logging.warning("%s", note)
    generation = state.generation if state.digest == tables.digest else state.generation + 1
    sys.stdout.write(json.dumps(complete(tables, generation), indent=1, sort_keys=True) + "\n")
    return 0


def serve(config: Config) -> int:
    """Run the daemon until SIGTERM or SIGINT; SIGHUP reads the policy file again."""
    daemon = Daemon(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.events.put(Stop()))
    signal.signal(signal.SIGHUP, lambda *_: daemon.events.put(Reload(None)))
    ready = False

    def tick(status: dict[str, Any]) -> None:
        nonlocal ready
        text = f"STATUS=tables {status['generation']}: {'loaded' if status['applied'] else status['detail']}"
        notify(f"WATCHDOG=1\n{text}" if ready else f"READY=1\n{text}")
        ready = True

    daemon.run(tick)
    notify("STOPPING=1")
    return 0


if __name__ == "__main__":
    sys.exit(main())
