# SPDX-License-Identifier: Apache-2.0
"""`ogctl`: what the gateway does, on one node (local sockets) or on all nodes of an inventory."""
