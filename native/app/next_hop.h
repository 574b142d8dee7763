/* SPDX-License-Identifier: Apache-2.0
 *
 * Where frames go: the link address of the default IPv6 router, and our own. Followed in the kernel's tables by a thread
 * of our own, so that a dead control daemon cannot stop traffic: a control thread of DPDK, off the poll threads'
 * processors.
 */
#ifndef OG_NEXT_HOP_H
#define OG_NEXT_HOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <rte_thread.h>

struct og_error;

#define OG_ETHERNET_LEN 14

/* A MAC address as the upper 48 bits of a number in network byte order, so that it is read and written at once; 0 =
 * not known. The two may be of different moments: that costs a frame, not a crash. */
struct og_next_hop {
    _Atomic uint64_t router_mac;
    _Atomic uint64_t own_mac;
    char interface[16];
    int ifindex;
    rte_thread_t thread;
    bool running;
    atomic_bool stop;
};

/* Follow the default route of `interface`. The thread runs until og_next_hop_stop. */
bool og_next_hop_follow(struct og_next_hop *hop, const char *interface, struct og_error *error);
void og_next_hop_fix(struct og_next_hop *hop, const uint8_t router_mac[6], const uint8_t own_mac[6]);
void og_next_hop_stop(struct og_next_hop *hop);

/* Write the Ethernet header of an IPv6 frame. False while the next hop is not known. */
static inline bool og_next_hop_write(struct og_next_hop *hop, uint8_t header[OG_ETHERNET_LEN])
{
    const uint64_t router = atomic_load_explicit(&hop->router_mac, memory_order_relaxed);
    const uint64_t own = atomic_load_explicit(&hop->own_mac, memory_order_relaxed);

    if (router == 0) {
        return false;
    }
    __builtin_memcpy(header, &router, 6);
    __builtin_memcpy(header + 6, &own, 6);
    header[12] = 0x86; /* ETH_P_IPV6 */
    header[13] = 0xdd;
    return true;
}

#endif
