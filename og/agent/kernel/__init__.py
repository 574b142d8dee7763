# SPDX-License-Identifier: Apache-2.0
"""The agent of an application host without eBPF, which the kernel's seg6local serves."""
