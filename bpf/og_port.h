/* SPDX-License-Identifier: Apache-2.0
 *
 * What the port steering program and `og-port` share: keys of the pinned maps.
 */
#ifndef OG_PORT_H
#define OG_PORT_H

#include <linux/types.h>

#define OG_PORT_MAX_QUEUES 64
#define OG_PORT_MAX_DESTINATIONS 4096 /* the locator and the VIPs */

/* An own locator (prefix_length 64, the rest of the address zero) or a VIP (128). No padding: it is hashed whole. */
struct og_port_destination {
    __u8 address[16];
    __u32 prefix_length;
};

enum og_port_counter {
    OG_PORT_PASSED,  /* not ours: to the kernel */
    OG_PORT_STEERED, /* to the data plane */
    OG_PORT_UNBOUND, /* ours, but no data plane on this queue: to the kernel */
    OG_PORT_COUNTERS
};

#endif
