# SPDX-License-Identifier: Apache-2.0
"""The stats poster of every node: once per second what the node knows about itself, to InfluxDB.

`host`, `dataplane` and `agent` read, `point` writes line protocol, `buffer` holds what InfluxDB has not taken yet,
`influx` posts, `config` checks `/etc/og/stats.json`. Standard library only, and little of it: it runs beside a data
plane.
"""
