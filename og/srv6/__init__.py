# SPDX-License-Identifier: Apache-2.0
"""SRv6 routes of the kernel: what is there, what is wanted, and the steps from one to the other.

Ansible ships this package to hosts as module_utils (og_srv6); `python3 -m og.srv6` does the same at boot.
"""
