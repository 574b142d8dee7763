# SPDX-License-Identifier: Apache-2.0
"""How the time of a run grows with the number of hosts, without hosts."""
