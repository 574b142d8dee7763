# SPDX-License-Identifier: Apache-2.0
"""Failure drills: from the clients' records and the moments of a fault to a verdict, a report and a picture."""
