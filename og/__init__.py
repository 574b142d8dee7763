# SPDX-License-Identifier: Apache-2.0
"""The Python of the Occam Gateway: what runs on hosts, and what judges them."""
