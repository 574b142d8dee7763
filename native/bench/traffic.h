/* SPDX-License-Identifier: Apache-2.0
 *
 * The benchmark's traffic: packets written afresh into a few buffers before each burst, as a NIC does.
 */
#ifndef OG_TRAFFIC_H
#define OG_TRAFFIC_H

#include <stdint.h>

#include "og_buf.h"
#include "og_flow.h"

#define OG_BENCH_BURST 32
#define OG_BENCH_BUFFERS 256 /* 128 KiB: a mempool's working set, in L2 */
#define OG_BENCH_BUFFER 512
#define OG_BENCH_HEADROOM 256

#define OG_BENCH_ACK 0x10
#define OG_BENCH_SYN 0x02

/* What kind of packets: a client's, bare (to a hasher) or in a hasher's envelope (to a router). */
struct og_bench_traffic {
    bool steered;
    uint8_t flags; /* TCP */
    uint64_t flows;
    uint64_t next; /* flow of the next packet */
    unsigned buffer;
    _Alignas(64) uint8_t memory[OG_BENCH_BUFFERS][OG_BENCH_BUFFER];
    struct og_buf bufs[OG_BENCH_BURST];
    struct og_buf *refs[OG_BENCH_BURST];
};

/* The locators and addresses the traffic is made of; the tables must fit. */
extern const uint8_t og_bench_vip[16];
extern const uint8_t og_bench_hasher[8];
extern const uint8_t og_bench_router[8];

void og_bench_traffic_init(struct og_bench_traffic *traffic, bool steered, uint8_t flags, uint64_t flows);

/* Write the next burst. */
void og_bench_traffic_fill(struct og_bench_traffic *traffic);

/* The key of flow `number`, for making its pin. */
void og_bench_flow(uint64_t number, union og_flow *flow);

#endif
