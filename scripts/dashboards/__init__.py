# SPDX-License-Identifier: Apache-2.0
"""Grafana's dashboards as code: `python -m scripts.dashboards` writes roles/monitoring/files/dashboards/*.json.

`names` reads the verdicts' and counters' names from the C headers, `influxql` makes the queries, `boards` the panels.
"""
