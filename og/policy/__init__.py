# SPDX-License-Identifier: Apache-2.0
"""The policy file: what an operator decides about services, weights, timeouts and drains of one site.

Nothing in this package imports another part of `og`: the Ansible module `og_policy` ships it to hosts as module_utils.
"""
