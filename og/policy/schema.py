# SPDX-License-Identifier: Apache-2.0
"""JSON Schema (draft 2020-12) of the policy file, version 1.

Published as `schema.json` by `python3 -m og.policy --schema`. It is Python because Ansible ships only Python to hosts.
A later version adds fields (other sites, spill shares) as optional ones: a file that is valid today stays valid.
"""

from __future__ import annotations

from typing import Any

VERSION = 1
DEFAULT_WEIGHT = 100
MAX_WEIGHT = 1000

NAME = r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,62})$"

_WEIGHT: dict[str, Any] = {
    "type": "integer",
    "minimum": 0,
    "maximum": MAX_WEIGHT,
    "description": "Share of new flows relative to the others; 0 = none, while old flows stay.",
}
_WEIGHTS: dict[str, Any] = {
    "type": "object",
    "propertyNames": {"pattern": NAME},
    "additionalProperties": _WEIGHT,
    "description": "Weight by node name; wins over the weight the node registered in Consul.",
}
_SECONDS: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": 262144}

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "urn:occam-gateway:policy:1",
    "title": "Occam Gateway policy, version 1",
    "description": "One file per site: /etc/og/policy.yml. Everything but `version` has a default.",
    "type": "object",
    "required": ["version"],
    "additionalProperties": False,
    "properties": {
        "version": {"const": VERSION, "description": "Version of this format."},
        "name": {"type": "string", "minLength": 1, "maxLength": 64, "description": "Shown by ogctl status."},
        "services": {
            "type": "object",
            "description": "By service name, as in the inventory. A service without an entry has the defaults.",
            "propertyNames": {"pattern": NAME},
            "additionalProperties": {"$ref": "#/$defs/service"},
        },
        "gateways": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"weights": _WEIGHTS},
            "description": "Routers, for the hashers' tables.",
        },
        "drain": {
            "type": "array",
            "uniqueItems": True,
            "items": {"type": "string", "pattern": NAME},
            "description": "Nodes that get no new flows. Their old flows stay.",
        },
        "thresholds": {"$ref": "#/$defs/thresholds"},
    },
    "$defs": {
        "service": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "members": {
                    "type": "string",
                    "pattern": NAME,
                    "description": "Consul service whose instances are the members. Default: the service's name.",
                },
                "weight": {**_WEIGHT, "description": "Of members that name none themselves. Default 100."},
                "weights": _WEIGHTS,
                "capacity": {"$ref": "#/$defs/capacity"},
                "accept_limit": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": 65535,
                    "description": "Backlog at which an agent declines a new connection; 0 = the listener's maximum.",
                },
                "timeouts": {"$ref": "#/$defs/timeouts"},
            },
        },
        "capacity": {
            "type": "object",
            "description": "What one member can carry. A member's own `capacity` in Consul wins; the unit is the same.",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
            "properties": {
                "connections": {"type": "integer", "minimum": 1, "description": "Concurrent connections."},
                "new_per_s": {"type": "integer", "minimum": 1, "description": "New connections per second."},
                "mbit_s": {"type": "integer", "minimum": 1, "description": "Megabits per second."},
            },
        },
        "timeouts": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "idle_s": {**_SECONDS, "description": "Of a pin without packets. Default 8000 (UDP: 30)."},
                "closing_s": {**_SECONDS, "description": "Of a pin after FIN or RST. Default 60."},
                "half_open_s": {**_SECONDS, "maximum": 60, "description": "From SYN-ACK to the ACK. Default 8."},
            },
        },
        "thresholds": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "panic": {
                    "type": "number",
                    "minimum": 0,
                    "maximum": 1,
                    "description": "Servers: when a smaller part than this is healthy, Consul's health is ignored and "
                    "all are used. 0 (default) = never.",
                },
                "router_panic": {
                    "type": "number",
                    "minimum": 0,
                    "maximum": 1,
                    "description": "The same for routers. Default 0.5: the hashers' own probes still decide.",
                },
                "vanish_s": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": 3600,
                    "description": "How long a member that is gone from Consul keeps its weight. Default 60.",
                },
                "forget_s": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 604800,
                    "description": "After this time it leaves the tables and its pins are void. Default 8000.",
                },
            },
        },
    },
}
