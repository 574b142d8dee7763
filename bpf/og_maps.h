/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * The maps, shared by both programs and the daemon (og/agent/layout.py mirrors them; a test compares the sizes). They
 * are pinned and outlive the daemon: programs go on with them when it is stopped, killed or replaced.
 * Multi-byte fields that come from packets are in network byte order, all others in host byte order.
 */
#ifndef OG_MAPS_H
#define OG_MAPS_H

#include "og_counters.h"
#include "og_dialect.h"
#include "og_wire.h"

#define OG_MAX_SERVICES 64
#define OG_MAX_GATEWAYS 4096
#define OG_NOTES 65536 /* flows on their way through the handshake; the oldest are forgotten first */
#define OG_PROBERS 1024
#define OG_PROBES_PER_S 1000

#define OG_CONFIG_LOAD_AWARE 0x1 /* backlog offsets were found and tested: decline when full */
#define OG_CONFIG_DRAINING 0x2   /* say so in probe replies */

struct og_config {
    __u8 locator[8];
    __u8 incarnation[8]; /* drawn once per life of the pinned map, i.e. of the kernel's sockets */
    __u32 fabric_mtu;    /* bytes, of the link towards the routers */
    __u16 mss_limit;     /* highest MSS in a SYN-ACK */
    __u8 dscp_bits;      /* outer traffic class without ECN: DSCP << 2 */
    __u8 flags;          /* OG_CONFIG_* */
};

struct og_service_key {
    __u8 vip[16];
    __u8 port[2];
    __u8 protocol;
    __u8 zero[5];
};

struct og_service_value {
    __u32 index;        /* 0..63, the bit in masks */
    __u32 accept_limit; /* backlog at which a new connection is declined; 0 = the listener's own maximum */
};

/* A flow, client to VIP. The first 36 bytes are struct bpf_sock_tuple's ipv6 member. */
struct og_flow_key {
    __u8 client[16];
    __u8 vip[16];
    __u8 client_port[2];
    __u8 vip_port[2];
    __u8 protocol;
    __u8 zero[3];
};

/* The way back of a flow, as the envelope of its reply: ready but for length and ECN. */
struct og_note {
    struct og_ipv6 ip;
    struct og_srh srh;
    __u8 blocks[4][16]; /* Pin segments in the SRH's order, then their cookies: 1 + 1 or 2 + 2 */
    __u8 len;           /* OG_NOTE_LEN_1 or OG_NOTE_LEN_2 */
    __u8 once;          /* hunted flow: for one reply of any kind; else for SYN-ACKs only */
    __u8 zero[6];
} OG_ALIGNED;

#define OG_NOTE_LEN_1 (40 + 8 + 2 * 16)
#define OG_NOTE_LEN_2 (40 + 8 + 4 * 16)

/* Where an envelope is put together, and what was found in a received one: too large for the stack, and numbers kept here
 * do not multiply the paths the verifier walks. Each CPU has one; the hooks run with bottom halves off. */
struct og_scratch {
    struct og_note note;
    struct og_sid pins[4];       /* visited Steers as Pins, newest first; two are used, four spare a branch */
    struct og_cookie cookies[2]; /* oldest first */
    __u32 n_pins;
    __u32 n_cookies;
    __u32 flags; /* OG_ACCEPT_*, of all merged segments */
    __u32 used;  /* merged segments, the active one included */
    __u32 srh_len, segments_left, last_entry;
    __u32 transport; /* offset of the transport header behind the inner IPv6 header */
};

struct og_gateway_key {
    __u32 prefix_len;
    __u8 address[16];
};

struct og_rate {
    __u64 window_ns; /* start of the current second */
    __u64 count;
};

/* Written by the daemon once a second, given out in probe replies. */
struct og_load {
    __u32 connections;
    __u32 accepts_per_s;
    __u64 bytes_per_s;
};

/* Totals per service, per CPU. */
struct og_service_stats {
    __u64 accepts; /* handshakes completed */
    __u64 packets; /* sent from the VIP */
    __u64 bytes;
};

/* M(name, type, key, value, entries, flags) */
#define OG_AGENT_MAPS(M)                                                                                               \
    M(config_map, BPF_MAP_TYPE_ARRAY, __u32, struct og_config, 1, 0)                                                   \
    M(counters_map, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, OG_COUNTERS_MAX, 0)                                       \
    M(locators_map, BPF_MAP_TYPE_HASH, __u64, __u32, OG_MAX_GATEWAYS, BPF_F_NO_PREALLOC)                               \
    M(gateways_map, BPF_MAP_TYPE_LPM_TRIE, struct og_gateway_key, __u32, OG_MAX_GATEWAYS, BPF_F_NO_PREALLOC)           \
    M(services_map, BPF_MAP_TYPE_HASH, struct og_service_key, struct og_service_value, OG_MAX_SERVICES, 0)             \
    M(ports_map, BPF_MAP_TYPE_ARRAY, __u32, struct og_service_key, OG_MAX_SERVICES, 0)                                 \
    M(notes_map, BPF_MAP_TYPE_LRU_HASH, struct og_flow_key, struct og_note, OG_NOTES, 0)                               \
    M(scratch_map, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct og_scratch, 1, 0)                                          \
    M(probers_map, BPF_MAP_TYPE_LRU_HASH, __u64, struct og_rate, OG_PROBERS, 0)                                        \
    M(load_map, BPF_MAP_TYPE_ARRAY, __u32, struct og_load, 1, 0)                                                       \
    M(stats_map, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct og_service_stats, OG_MAX_SERVICES, 0)

#ifdef OG_LIBBPF
#define OG_MAP_DECLARE(name, map_type, map_key, map_value, entries, flags)                                             \
    struct {                                                                                                           \
        __uint(type, map_type);                                                                                        \
        __uint(max_entries, entries);                                                                                  \
        __uint(map_flags, flags);                                                                                      \
        __type(key, map_key);                                                                                          \
        __type(value, map_value);                                                                                      \
    } name SEC(".maps");
OG_AGENT_MAPS(OG_MAP_DECLARE)
#endif

static __always_inline void og_count(enum og_counter counter)
{
    __u32 key = counter;
    __u64 *value = og_map_find(counters_map, &key);

    if (value) {
        *value += 1; /* per CPU, and neither hook nests: no atomic needed */
    }
}

static __always_inline struct og_scratch *og_scratch_get(void)
{
    __u32 zero = 0;

    return og_map_find(scratch_map, &zero);
}

static __always_inline struct og_config *og_config_get(void)
{
    __u32 zero = 0;

    return og_map_find(config_map, &zero);
}

#endif
