# SPDX-License-Identifier: Apache-2.0
"""Load as clients see it: real TCP connections to a VIP, and what became of each of them."""
