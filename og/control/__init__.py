# SPDX-License-Identifier: Apache-2.0
"""The control daemon: policy file and Consul to tables, handed to the data plane of the same node.

`config` (what the inventory says), `consul` (watches), `view` (Consul's answers as data), `votes` and `tables` (pure
functions from policy, view and earlier state to the table document), `state` (what a restart must remember), `status`
(what the control socket tells), `drainmark` (a hasher's drain), `daemon`.
"""
