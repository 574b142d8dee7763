#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the policy file of a gateway node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: og_policy
short_description: Check and install the policy of an Occam Gateway node
version_added: "1.0.0"
description:
  - Checks a policy against the published JSON Schema and what a schema cannot say, and replaces the file in one step.
  - A bad policy changes nothing; the error names line and field of everything that is wrong.
  - When the control daemon runs, waits until it has the policy in force. If it refuses, the old file comes back with
    all its attributes.
  - With O(require_daemon=true) it comes back too where the control daemon does not run.
author:
  - The Occam Gateway authors
requirements:
  - python3-yaml and python3-jsonschema on the host
attributes:
  check_mode:
    support: full
    description:
      Checks and compares. On a host that lacks the requirements still, it compares only and warns; that is an error
      with O(validate_only).
  diff_mode:
    support: full
    description: Shows the text before and after.
  platform:
    support: full
    platforms: posix
    description: Any host with Python.
options:
  content:
    description: The policy, YAML text.
    type: str
    required: true
  path:
    description: The file.
    type: path
    default: /etc/og/policy.yml
  source:
    description: Where the text comes from, for messages. Default is O(path).
    type: str
  services:
    description: Names of the services the inventory defines. Without it any name is accepted.
    type: list
    elements: str
  site:
    description: The site whose policy it is. Without it, nothing is said about other sites.
    type: str
  sites:
    description: Names of all sites of the inventory. Without it any name is accepted.
    type: list
    elements: str
  other_policies:
    description:
      - Policies of other sites, by site. Refused is a policy that with these sends flows in a circle.
      - Needs O(site). One of these that is itself bad is left out, with a warning.
    type: dict
    default: {}
  control_socket:
    description: Socket of the control daemon. Where nobody listens the daemon is not running, which is no error.
    type: path
    default: /run/og/control.sock
  require_daemon:
    description:
      - Fail unless the control daemon runs and has the policy in force, and the data plane runs what follows from it.
    type: bool
    default: false
  timeout:
    description: How long to wait for the data plane with O(require_daemon=true), in seconds.
    type: int
    default: 30
  validate_only:
    description: Check the text and touch nothing, not even in a real run.
    type: bool
    default: false
extends_documentation_fragment:
  - ansible.builtin.files
"""

EXAMPLES = r"""
- name: Install the policy
  og_policy:
    content: "{{ lookup('ansible.builtin.file', 'policy.yml') }}"
    source: policy.yml
    services: "{{ og_services | map(attribute='name') }}"
    owner: root
    group: og
    mode: "0640"

- name: Put a policy in force on a site that runs
  og_policy:
    content: "{{ og_policy | og_effective_policy('spill-at-90') | to_nice_yaml }}"
    services: "{{ og_services | map(attribute='name') }}"
    site: "{{ og_site }}"
    sites: "{{ og_sites.keys() }}"
    require_daemon: true

- name: Check a policy before any host is touched
  og_policy:
    content: "{{ og_policy | to_nice_yaml }}"
    source: og_policy
    services: "{{ og_services | map(attribute='name') }}"
    site: west
    sites: [west, east]
    other_policies:
      east: {version: 1, defaults: {spill: {target: 0.9}}}
    validate_only: true
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
digest:
  description: SHA-256 of the policy's meaning, as C(ogctl status) shows it. Null where it could not be checked.
  type: str
  returned: success
problems:
  description: Everything that is wrong.
  type: list
  elements: dict
  returned: when the policy is refused
  contains:
    field: {description: The field, type: str, sample: services.web.weight}
    line: {description: Its line, type: int}
    column: {description: Its column, type: int}
    message: {description: What is wrong, type: str}
confirmed:
  description: The control daemon runs and has this policy in force.
  type: bool
  returned: success
applied:
  description: The data plane runs the tables that follow from it.
  type: bool
  returned: when confirmed
generation:
  description: Generation of these tables.
  type: int
  returned: when confirmed
"""

import contextlib
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.og_jsonsock import SocketError, request

try:
    import yaml
    from ansible.module_utils.og_policy.check import Inventory, load_policy
    from ansible.module_utils.og_policy.document import PolicyError, format_path
except ImportError:
    MISSING: str | None = traceback.format_exc()
else:
    MISSING = None

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIRM_S = 30.0
POLL_S = 0.2


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "content": {"type": "str", "required": True},
            "path": {"type": "path", "default": "/etc/og/policy.yml"},
            "source": {"type": "str"},
            "services": {"type": "list", "elements": "str"},
            "site": {"type": "str"},
            "sites": {"type": "list", "elements": "str"},
            "other_policies": {"type": "dict", "default": {}},
            "control_socket": {"type": "path", "default": "/run/og/control.sock"},
            "require_daemon": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 30},
            "validate_only": {"type": "bool", "default": False},
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    digest = check(module)
    if module.params["validate_only"]:
        module.exit_json(changed=False, digest=digest, confirmed=False)
    path, content = Path(module.params["path"]), module.params["content"].encode()
    before = read(module, path)
    fresh = before != content
    changed = (before is not None and would_differ(module, path)) or fresh
    result: dict[str, Any] = {"changed": changed, "digest": digest, "confirmed": False}
    if module._diff:  # noqa: SLF001 - the documented way to know
        old = (before or b"").decode(errors="replace")
        result["diff"] = {"before_header": str(path), "after_header": str(path), "before": old}
        result["diff"]["after"] = module.params["content"]
    if module.check_mode:
        module.exit_json(**result)
    with standby(module, path, keep=changed) as kept:
        if changed:  # for an owner or a mode, too, a file of its own: the old one comes back with all it had
            module.atomic_move(stage(module, path, content), str(path))
            set_attributes(module, path)
        result |= confirm(module, str(digest), kept, fresh=fresh, changed=changed)
    module.exit_json(**result)


def fail(module: AnsibleModule, msg: str, **facts: object) -> NoReturn:
    """End the module with an error."""
    module.fail_json(msg=msg, **facts)
    raise SystemExit(1)


def check(module: AnsibleModule) -> str | None:
    """Return the digest of the policy, or end the module."""
    if MISSING is not None:
        if module.params["validate_only"] or not module.check_mode:
            fail(module, msg=missing_required_lib("PyYAML and jsonschema"), exception=MISSING)
        module.warn("policy not checked: PyYAML and jsonschema are not on this host yet")
        return None
    try:
        source = module.params["source"] or module.params["path"]
        digest: str = load_policy(module.params["content"], source, inventory_of(module)).digest
    except PolicyError as error:
        problems = [
            {"field": format_path(p.path), "line": p.line, "column": p.column, "message": p.message}
            for p in error.problems
        ]
        fail(module, msg=f"policy refused, nothing changed:\n{error}", problems=problems)
    return digest


def inventory_of(module: AnsibleModule) -> Any:  # noqa: ANN401 - an Inventory, which a host may lack
    """Return what the policy must fit."""
    others = {}
    for site, data in module.params["other_policies"].items():
        if site == module.params["site"]:
            continue
        try:
            text = data if isinstance(data, str) else yaml.safe_dump(data)
            others[site] = load_policy(text, f"policy of {site}")
        except PolicyError as error:
            module.warn(f"not compared with a policy that is bad itself: {error}")
    return Inventory(module.params["services"], module.params["site"], module.params["sites"], others)


def read(module: AnsibleModule, path: Path) -> bytes | None:
    """Return what is there; None when there is nothing."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        fail(module, msg=f"{path}: {error.strerror}; nothing was changed")


def set_attributes(module: AnsibleModule, path: Path) -> bool:
    """Give the file its owner and mode, in check mode only see whether that can be; tell whether they change."""
    attributes = module.load_file_common_arguments(module.params, path=str(path))
    return bool(module.set_fs_attributes_if_different(attributes, changed=False))


def would_differ(module: AnsibleModule, path: Path) -> bool:
    """Tell, and touch nothing, whether the file's owner or mode would change."""
    before, module.check_mode = module.check_mode, True
    try:
        return set_attributes(module, path)
    finally:
        module.check_mode = before


def stage(module: AnsibleModule, path: Path, content: bytes) -> str:
    """Write the file beside, with its attributes: what cannot be had, as an owner, fails here. Return its name."""
    if not path.parent.is_dir():
        fail(module, msg=f"{path}: the directory does not exist; nothing was changed")
    try:
        with tempfile.TemporaryFile(dir=path.parent) as room:
            room.write(content)  # the move needs it there; its own words are many
        with tempfile.NamedTemporaryFile(dir=module.tmpdir, delete=False) as file:
            file.write(content)
    except OSError as error:
        fail(module, msg=f"{path}: {error.strerror}; nothing was changed")
    set_attributes(module, Path(file.name))
    return file.name


@contextlib.contextmanager
def standby(module: AnsibleModule, path: Path, *, keep: bool) -> Iterator[Path]:
    """Keep the old file with all its attributes under another name, if there is one, while the new one is tried."""
    kept = path.with_name(f".{path.name}.old")
    try:
        kept.unlink(missing_ok=True)  # of a run that was killed
        if keep:
            kept.hardlink_to(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        fail(module, msg=f"{path}: {error.strerror}; nothing was changed")
    try:
        yield kept
    finally:
        kept.unlink(missing_ok=True)


def put_back(path: Path, kept: Path) -> str:
    """Put the old file back, or where there was none remove the new one; say what is there now."""
    try:
        kept.replace(path)
    except FileNotFoundError:
        path.unlink(missing_ok=True)
        return "there was none before and there is none again"
    except OSError as error:
        return f"the old one could NOT be put back ({error.strerror}) and {path} is what was refused"
    return "the old one stays"


def digest_of(status: dict[str, Any]) -> object:
    """Return the digest of the policy in force from the control daemon's status."""
    policy = status.get("policy")
    return policy.get("digest") if isinstance(policy, dict) else None


def confirm(module: AnsibleModule, digest: str, kept: Path, *, fresh: bool, changed: bool) -> dict[str, Any]:
    """Have the daemon take the policy over and wait until it has; put the old file back when it does not.

    `fresh`: what the file says is new; `changed`: that, or its owner or mode.
    """
    socket, path = module.params["control_socket"], Path(module.params["path"])
    try:
        answer = {} if fresh else request(socket, {"op": "status"})
        if not fresh and digest_of(answer) == digest:
            answer = answer | {"ok": True, "policy": digest}
        else:
            answer = request(socket, {"op": "reload"}, CONFIRM_S)
    except SocketError as error:
        if not error.nobody_listens:
            state = "the policy is written" if fresh else "the file already held this policy"
            unknown = f"{state}; whether the control daemon has it in force is not known: {error}"
            fail(module, msg=unknown, changed=changed)
        if module.params["require_daemon"]:
            state = put_back(path, kept) if changed else "the file is as it was"
            fail(module, msg=f"the control daemon is not there to take the policy over, {state}: {error}")
        return {"confirmed": False}
    if answer.get("ok") is not True or answer.get("policy") != digest:
        states = [] if fresh else ["though it is what the file already held"]
        states += [put_back(path, kept)] if changed else []
        fail(module, msg=f"the control daemon refuses the policy, {', '.join(states)}: {answer.get('error', answer)}")
    if module.params["require_daemon"]:
        answer = wait_applied(module, answer, changed=changed)
    return {"confirmed": True, "applied": answer.get("applied"), "generation": answer.get("generation")}


def wait_applied(module: AnsibleModule, answer: dict[str, Any], *, changed: bool) -> dict[str, Any]:
    """Wait until the data plane runs the tables that follow from the policy; end the module when it does not."""
    end = time.monotonic() + module.params["timeout"]
    while not answer.get("applied"):
        if time.monotonic() >= end:
            late = f"the policy is in force, but the data plane does not follow: {answer.get('detail')}"
            fail(module, msg=late, changed=changed)
        time.sleep(POLL_S)
        try:
            answer = request(module.params["control_socket"], {"op": "status"})
        except SocketError as error:
            answer = {"detail": str(error)}
    return answer


if __name__ == "__main__":
    main()
