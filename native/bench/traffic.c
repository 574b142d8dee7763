/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic.h"

#include <arpa/inet.h>
#include <string.h>

#include "og_sid.h"

#define INNER_LEN 60 /* IPv6 and TCP */
#define OUTER_LEN 40
#define FIRST_PORT 1024
#define PORTS 64000

/* 2001:db8:1::80, 5f00:1:11::, 5f00:1:21:: */
const uint8_t og_bench_vip[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80};
const uint8_t og_bench_hasher[8] = {0x5f, 0, 0, 1, 0, 0x11};
const uint8_t og_bench_router[8] = {0x5f, 0, 0, 1, 0, 0x21};

/* 2001:db8:c001:41::/64, the flow's number in the last 8 bytes. */
static const uint8_t client_prefix[8] = {0x20, 0x01, 0x0d, 0xb8, 0xc0, 0x01, 0, 0x41};

static void client_of(uint64_t number, uint8_t address[16])
{
    memcpy(address, client_prefix, 8);
    memcpy(address + 8, &number, 8);
}

static uint16_t port_of(uint64_t number)
{
    return htons((uint16_t)(FIRST_PORT + number % PORTS));
}

void og_bench_flow(uint64_t number, union og_flow *flow)
{
    memset(flow, 0, sizeof(*flow));
    client_of(number, flow->client);
    flow->client_port = port_of(number); /* through the union: a pointer to the member would be another type to gcc */
    memcpy(flow->vip, og_bench_vip, 16);
    flow->vip_port = htons(80);
    flow->protocol = OG_NH_TCP;
}

static void write_inner(uint8_t *data, uint8_t flags)
{
    static const uint8_t fixed[8] = {0x60, 0, 0, 0, 0, 20, OG_NH_TCP, 64};

    memset(data, 0, INNER_LEN);
    memcpy(data, fixed, sizeof(fixed));
    memcpy(data + 24, og_bench_vip, 16);
    data[42] = 0; /* destination port 80 */
    data[43] = 80;
    data[52] = 5 << 4; /* TCP header of 5 words */
    data[53] = flags;
}

static void write_outer(uint8_t *data)
{
    static const uint8_t fixed[8] = {0x60, 0, 0, 0, 0, INNER_LEN, OG_NH_IPV6, 63};

    memcpy(data, fixed, sizeof(fixed));
    og_sid_set((struct og_sid *)(data + 8), og_bench_hasher, OG_FN_ERRORS, 0);
    og_sid_set((struct og_sid *)(data + 24), og_bench_router, OG_FN_STEER, 0);
}

void og_bench_traffic_init(struct og_bench_traffic *traffic, bool steered, uint8_t flags, uint64_t flows)
{
    memset(traffic, 0, sizeof(*traffic));
    traffic->steered = steered;
    traffic->flags = flags;
    traffic->flows = flows;
}

void og_bench_traffic_fill(struct og_bench_traffic *traffic)
{
    uint8_t template[OUTER_LEN + INNER_LEN];
    const uint32_t outer = traffic->steered ? OUTER_LEN : 0;
    const uint32_t length = outer + INNER_LEN;

    write_outer(template);
    write_inner(template + outer, traffic->flags);
    for (unsigned i = 0; i < OG_BENCH_BURST; i++) {
        struct og_buf *buf = &traffic->bufs[i];
        uint8_t *data = traffic->memory[traffic->buffer] + OG_BENCH_HEADROOM;
        const uint16_t port = port_of(traffic->next);

        traffic->buffer = (traffic->buffer + 1) % OG_BENCH_BUFFERS;
        memcpy(data, template, length);
        client_of(traffic->next, data + outer + 8);
        memcpy(data + outer + 40, &port, sizeof(port));
        traffic->next = traffic->next + 1 == traffic->flows ? 0 : traffic->next + 1;
        *buf = (struct og_buf){.data = data,
                               .len = length,
                               .headroom = OG_BENCH_HEADROOM,
                               .tailroom = OG_BENCH_BUFFER - OG_BENCH_HEADROOM - length,
                               .verdict = OG_V_NONE};
        traffic->refs[i] = buf;
    }
}
