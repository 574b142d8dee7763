# SPDX-License-Identifier: Apache-2.0
"""Command line of the health daemon."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from og.configfile import ConfigError
from og.health import gobgp
from og.health.config import Config, load
from og.health.daemon import Daemon
from og.health.grpc import CallFailedError, Channel, ConnectionLostError

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2


def withdraw_all(config: Config) -> int:
    """Withdraw everything this node may announce; a GoBGP that does not run announces nothing, which is as good."""
    try:
        channel = Channel(config.gobgp_api, config.api_timeout_ms)
    except ConnectionLostError as error:
        print(f"og-health: nothing to withdraw: GoBGP is not there: {error}", file=sys.stderr)
        return EXIT_OK
    with channel:
        try:
            for prefix in (*config.vips, config.locator):
                gobgp.withdraw(channel, prefix)
        except (ConnectionLostError, CallFailedError) as error:
            print(f"og-health: cannot withdraw {prefix}: {error}", file=sys.stderr)
            return EXIT_FAILED
    return EXIT_OK


def set_drained(config: Config, drained: bool) -> int:
    """Ask the running daemon, by a file it looks for, to drain or to stop draining.

    A drained daemon withdraws the VIPs and reports itself unhealthy. The file is in /run: a reboot ends the drain.
    """
    try:
        if drained:
            config.drain_file.touch(mode=0o644)
        else:
            config.drain_file.unlink(missing_ok=True)
    except OSError as error:
        print(f"og-health: {config.drain_file}: {error.strerror}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def make_parser() -> argparse.ArgumentParser:
    """Describe the options."""
    parser = argparse.ArgumentParser(
        prog="og-health",
        description="Announce this gateway node by BGP while its data plane makes progress; withdraw it when not.",
    )
    parser.add_argument(
        "--config", type=Path, default=Path("/etc/og/health.json"), help="options (default: %(default)s)"
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check-config", action="store_true", help="validate the options and exit")
    action.add_argument("--withdraw", action="store_true", help="withdraw everything once and exit")
    action.add_argument(
        "--drain", action="store_true", help="have the daemon withdraw the VIPs, keep the locator, exit"
    )
    action.add_argument("--undrain", action="store_true", help="end a drain and exit")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = make_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="og-health: %(message)s", stream=sys.stderr)
    try:
        config = load(options.config)
    except ConfigError as error:
        print(f"og-health: {error}", file=sys.stderr)
        return EXIT_USAGE
    if options.check_config:
        return EXIT_OK
    if options.withdraw:
        return withdraw_all(config)
    if options.drain or options.undrain:
        return set_drained(config, options.drain)
    try:
        Daemon(config).run()
    except OSError as error:
        print(f"og-health: {config.listen[0]}:{config.listen[1]}: {error.strerror or error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
