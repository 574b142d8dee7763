# SPDX-License-Identifier: Apache-2.0
"""`python3 -m og.policy FILE`: check a policy file. `--schema`: print the JSON Schema."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

from .check import Inventory, load_policy
from .document import PolicyError
from .schema import SCHEMA


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 = valid, 1 = not (every problem on stderr), 2 = wrong use or unreadable file."""
    parser = argparse.ArgumentParser(prog="og.policy", description="Check an Occam Gateway policy file.")
    parser.add_argument("file", nargs="?", type=pathlib.Path)
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema and exit")
    parser.add_argument("--service", action="append", dest="services", help="a service of the inventory; repeatable")
    parser.add_argument("--site", help="the site whose policy it is")
    parser.add_argument("--sites", nargs="+", help="all sites of the inventory")
    options = parser.parse_args(arguments)
    if options.schema:
        sys.stdout.write(json.dumps(SCHEMA, indent=2) + "\n")
        return 0
    if options.file is None:
        parser.error("a file is needed")
    try:
        inventory = Inventory(options.services, options.site, options.sites)
        policy = load_policy(options.file.read_text(encoding="utf-8"), str(options.file), inventory)
    except PolicyError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"{options.file}: {error}\n")
        return 2
    sys.stdout.write(f"{options.file}: valid, digest {policy.digest[:16]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
