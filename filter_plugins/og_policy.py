# SPDX-License-Identifier: Apache-2.0
"""Filters that make a site's policy of a profile (policies/) and the inventory's overrides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError

PROFILES = Path(__file__).resolve().parents[1] / "policies"


def _profile(name: str) -> dict[str, Any]:
    path = Path(name) if "/" in name else PROFILES / f"{name}.yml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        shipped = ", ".join(sorted(file.stem for file in PROFILES.glob("*.yml")))
        raise AnsibleFilterError(
            f"og_policy_profile: there is no profile {name!r}; there are {shipped}, or give a path"
        ) from None
    except (OSError, yaml.YAMLError) as error:
        raise AnsibleFilterError(f"og_policy_profile: {path}: {error}") from None
    if not isinstance(data, dict):
        raise AnsibleFilterError(f"og_policy_profile: {path}: not a policy: {data!r}")
    return data


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Put `above` over `below`, mapping by mapping; anything else replaces what is there."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        # `capacity` has one key, the unit: another unit replaces the whole.
        deep = key != "capacity" and isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(old, value) if deep and isinstance(old, Mapping) else value
    return merged


def og_effective_policy(overrides: object, profile: str = "failover-only") -> dict[str, Any]:
    """Return the policy of a site: the profile (a name in policies/, or a path) with og_policy over it.

    It is not checked here: the module og_policy does that.
    """
    if not isinstance(overrides, Mapping):
        raise AnsibleFilterError(f"og_policy: not a mapping: {overrides!r}")
    return _merge(_profile(str(profile)), overrides)


def og_accept_limits(services: Iterable[Mapping[str, Any]], policy: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the inventory's services with the `accept_limit` of the policy, where it has one."""
    found = []
    for service in services:
        entries = (policy.get("services", {}).get(service.get("name"), {}), policy.get("defaults", {}), service)
        limit = next((entry["accept_limit"] for entry in entries if "accept_limit" in entry), None)
        found.append({**service} if limit is None else {**service, "accept_limit": limit})
    return found


def og_site_policies(
    hosts: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Iterable[str]], sites: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Return the policy of every site, as the first of its gateway nodes has it. `hosts` is hostvars."""
    policies = {}
    for site in sites:
        members = set(groups.get(f"site_{site}", ())) & {*groups.get("hashers", ()), *groups.get("routers", ())}
        if not members:
            continue
        variables = hosts[min(members)]
        policy = variables.get("og_dataplane_policy")
        if policy is None:
            profile = variables.get("og_policy_profile", "failover-only")
            policy = og_effective_policy(variables.get("og_policy", {}), profile)
        policies[site] = dict(policy)
    return policies


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "og_accept_limits": og_accept_limits,
            "og_effective_policy": og_effective_policy,
            "og_site_policies": og_site_policies,
        }
