/* SPDX-License-Identifier: Apache-2.0
 *
 * The hasher's whole packet path: client packets to VIPs, and packets to its own SIDs. No state per flow. One struct per
 * thread.
 */
#ifndef OG_HASHER_H
#define OG_HASHER_H

#include "og_buf.h"
#include "og_local.h"
#include "og_rate.h"
#include "og_tables.h"

#define OG_HASHER_BURST 32

/* ICMPv6 per second, per source /64 and in total: errors let through to routers; echo replies and errors sent. */
#define OG_ICMP_PER_S 10
#define OG_ICMP_TOTAL_PER_S 10000

struct og_hasher {
    const struct og_health *health; /* written by the prober; must outlive the hasher */
    struct og_local local;
    struct og_rate errors_in; /* ICMPv6 errors from clients */
    struct og_rate answers;   /* echo replies, Packet Too Big, Time Exceeded */
};

/* `key`: random, places sources in the rate tables. About 200 KiB: not for the stack. */
void og_hasher_init(struct og_hasher *hasher, const struct og_health *health, const uint64_t key[2],
                    const struct og_probe_self *self);

/* Every buffer gets its verdict; those of class TX hold the packet to send. Any n. `tables` may be NULL: everything is
 * DROP_NO_TABLE then. `now_ns`: a monotonic clock, > 0. */
void og_hasher_burst(struct og_hasher *hasher, const struct og_tables *tables, struct og_buf *const bufs[], size_t n,
                     uint64_t now_ns);

/* The largest client packet that is steered, bytes, and the MTU that Packet Too Big tells: what the largest envelope
 * leaves. At least 1280: og_tables_build() refuses a fabric MTU below 1536. */
static inline uint32_t og_client_mtu(uint32_t fabric_mtu)
{
    return fabric_mtu - OG_MAX_OVERHEAD;
}

#endif
