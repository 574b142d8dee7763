#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: what policy a gateway node has, and which one is in force."""

from __future__ import annotations

DOCUMENTATION = r"""
module: og_policy_info
short_description: Read the policy of an Occam Gateway node
version_added: "1.0.0"
description:
  - Reads and checks the policy file, and asks the control daemon which policy is in force. Changes nothing.
author:
  - The Occam Gateway authors
requirements:
  - python3-yaml and python3-jsonschema on the host
attributes:
  check_mode:
    support: full
    description: It never changes anything.
  diff_mode:
    support: none
    description: It never changes anything.
  facts:
    support: none
    description: It sets no facts.
  platform:
    support: full
    platforms: posix
    description: Any host with Python.
options:
  path:
    description: The file.
    type: path
    default: /etc/og/policy.yml
  control_socket:
    description: Socket of the control daemon.
    type: path
    default: /run/og/control.sock
seealso:
  - module: og_policy
"""

EXAMPLES = r"""
- name: Read the policy
  og_policy_info:
  register: policy

- name: Refuse a node that runs another policy than its file says
  ansible.builtin.assert:
    that: policy.in_force
    fail_msg: "{{ policy.problems or policy.daemon }}"
"""

RETURN = r"""
exists:
  description: The file is there.
  type: bool
  returned: success
policy:
  description: What the file says, without defaults. Empty when it is bad.
  type: dict
  returned: success
digest:
  description: SHA-256 of the file's meaning; empty when it is bad.
  type: str
  returned: success
problems:
  description: What is wrong with the file, each with its line and field.
  type: list
  elements: str
  returned: success
daemon:
  description: The control daemon. Without one, only RV(daemon.running) and RV(daemon.error).
  type: dict
  returned: success
  contains:
    running: {description: It answers, type: bool}
    error: {description: Why it does not answer or why it refuses the file, type: str}
    digest: {description: The policy in force, type: str}
    applied: {description: The data plane runs the tables that follow from it, type: bool}
    generation: {description: Generation of the tables, type: int}
    shares: {description: Parts of new flows that leave the site, type: list, elements: dict}
in_force:
  description: The daemon runs with what the file says, and the data plane follows.
  type: bool
  returned: success
"""

import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.og_jsonsock import SocketError, request

try:
    import yaml
    from ansible.module_utils.og_policy.check import load_policy
    from ansible.module_utils.og_policy.document import PolicyError
except ImportError:
    MISSING: str | None = traceback.format_exc()
else:
    MISSING = None


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/etc/og/policy.yml"},
            "control_socket": {"type": "path", "default": "/run/og/control.sock"},
        },
        supports_check_mode=True,
    )
    if MISSING is not None:
        module.fail_json(msg=missing_required_lib("PyYAML and jsonschema"), exception=MISSING)
    facts = read_file(module.params["path"])
    daemon = ask_daemon(module.params["control_socket"])
    same = bool(facts["digest"]) and daemon.get("digest") == facts["digest"]
    module.exit_json(changed=False, daemon=daemon, in_force=same and daemon.get("applied") is True, **facts)


def read_file(path: str) -> dict[str, Any]:
    """Read and check the file."""
    facts: dict[str, Any] = {"exists": Path(path).exists(), "policy": {}, "digest": "", "problems": []}
    try:
        text = Path(path).read_text(encoding="utf-8")
        facts["digest"] = load_policy(text, path).digest
        facts["policy"] = yaml.safe_load(text)
    except PolicyError as error:
        facts["problems"] = str(error).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        facts["problems"] = [f"{path}: {getattr(error, 'strerror', None) or error}"]
    return facts


def ask_daemon(socket: str) -> dict[str, Any]:
    """Ask the control daemon for its status."""
    try:
        status = request(socket, {"op": "status"})
    except SocketError as error:
        return {"running": False, "error": str(error)}
    policy = status.get("policy", {})
    facts = {key: status.get(key) for key in ("applied", "generation")} | {"shares": status.get("shares", [])}
    return {"running": True, "error": policy.get("error", ""), "digest": policy.get("digest", ""), **facts}


if __name__ == "__main__":
    main()
