# SPDX-License-Identifier: Apache-2.0
"""The agent's daemon: loads and attaches the programs of `bpf/`, keeps their maps, reports load."""
