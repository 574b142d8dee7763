# SPDX-License-Identifier: Apache-2.0
"""Reading the JSON files that Ansible writes for the daemons, `/etc/og/*.json`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class ConfigError(Exception):
    """The configuration cannot be used. The text names the file, the key and the value; it may have several lines."""


def read_json(path: Path) -> object:
    """Decode a file, of whatever shape. Raises ConfigError."""
    try:
        document: object = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error
    return document
