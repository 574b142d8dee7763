# SPDX-License-Identifier: Apache-2.0
"""JSON Schema (draft 2020-12) of the policy file, version 1.

Published as `schema.json` by `python3 -m og.policy --schema`. It is Python because Ansible ships only Python to hosts.
Fields are added as optional ones: a file that is valid today stays valid.
"""

from __future__ import annotations

from typing import Any

VERSION = 1
DEFAULT_WEIGHT = 100
DEFAULT_UNIT = "connections"
DEFAULT_LIMIT = 0.9
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
_PART: dict[str, Any] = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
_CAPACITY: dict[str, Any] = {"type": "integer", "minimum": 1}
_SETTINGS: dict[str, Any] = {
    "weight": {**_WEIGHT, "description": "Of members that name none themselves. Default 100."},
    "capacity": {"$ref": "#/$defs/capacity"},
    "accept_limit": {
        "type": "integer",
        "minimum": 0,
        "maximum": 65535,
        "description": "Backlog at which an agent declines a new connection; 0 = the listener's maximum. Given to the "
        "agents by the role og_agent.",
    },
    "timeouts": {"$ref": "#/$defs/timeouts"},
    "spill": {"$ref": "#/$defs/spill"},
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
        "defaults": {
            "type": "object",
            "additionalProperties": False,
            "properties": _SETTINGS,
            "description": "Of every service, where its own entry does not say otherwise (timeouts and spill: field by "
            "field).",
        },
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
            "description": "Nodes (servers, routers, hashers) that get no new flows, or this site itself: all new "
            "flows go to others. Old flows stay.",
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
                "weights": _WEIGHTS,
                "capacities": {
                    "type": "object",
                    "propertyNames": {"pattern": NAME},
                    "additionalProperties": _CAPACITY,
                    "description": "By node name, in the unit of `capacity`; wins over what the node registered.",
                },
                **_SETTINGS,
            },
        },
        "capacity": {
            "type": "object",
            "description": "What one member can carry. A member's own `capacity` in Consul wins if it is in the same "
            "unit (a plain number there is connections). Default: connections, as registered.",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
            "properties": {
                "connections": {**_CAPACITY, "description": "Concurrent connections."},
                "new_per_s": {**_CAPACITY, "description": "New connections per second."},
                "mbit_s": {**_CAPACITY, "description": "Megabits per second, sent by the servers."},
            },
        },
        "spill": {
            "type": "object",
            "description": "New flows of a service to other sites (docs/policy.md).",
            "additionalProperties": False,
            "properties": {
                "sites": {
                    "type": "array",
                    "uniqueItems": True,
                    "items": {"type": "string", "pattern": NAME},
                    "description": "Which ones, in this order. Default: all others, in the inventory's; []: none.",
                },
                "target": {
                    **_PART,
                    "description": "Part of the healthy members' capacity above which flows leave. Default: none leave "
                    "while a member is usable.",
                },
                "limit": {
                    **_PART,
                    "description": "Another site is filled from here up to this part of its capacity. Default: "
                    "`target`, else 0.9.",
                },
                "share": {
                    "type": "number",
                    "minimum": 0,
                    "maximum": 1,
                    "description": "At least this part of new flows leaves, while others have room. 1: the site is "
                    "drained. Default 0.",
                },
                "ramp_per_s": {
                    "type": "number",
                    "exclusiveMinimum": 0,
                    "maximum": 0.2,
                    "description": "How much of all new flows comes back per second. Default 0.05.",
                },
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
