# SPDX-License-Identifier: Apache-2.0
"""The health daemon: announces a gateway node while its data plane works, and withdraws it when it does not.

`heartbeat` reads the data plane's sign of life, `machine` decides (pure), `gobgp` speaks to the BGP daemon,
`daemon` joins them. The control daemon is not involved: a node is withdrawn although everything else is broken.
"""
