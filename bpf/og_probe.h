/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * Probes, answered where they arrive: the answer says whether this data path works, so nothing else may be in its way.
 * The listeners are looked up for each answer; the load is what the daemon wrote last.
 */
#ifndef OG_PROBE_H
#define OG_PROBE_H

#include "og_mine.h"
#include "og_outer.h"

#define OG_SECOND_NS 1000000000ull

/* RFC 768 */
struct og_udp {
    __u8 source[2];
    __u8 destination[2];
    __u8 length[2];
    __u8 checksum[2];
};

struct og_probe_packet {
    struct og_ipv6 ip;
    struct og_udp udp;
    struct og_probe probe;
};

#define OG_PROBE_UDP_LEN (sizeof(struct og_udp) + sizeof(struct og_probe))

/* The sum over pseudo header and datagram; 0 for a correct one that holds its checksum (RFC 8200 section 8.1). The addresses
 * stand right before the datagram, so one pass does both. */
static __always_inline __u16 og_probe_sum(struct og_probe_packet *packet)
{
    __s64 sum = bpf_csum_diff(0, 0, (void *)packet->ip.src, 32 + OG_PROBE_UDP_LEN,
                              __builtin_bswap32(OG_NH_UDP) + __builtin_bswap32(OG_PROBE_UDP_LEN));

    sum = (sum & 0xffff) + (sum >> 16 & 0xffff);
    sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

/* At most OG_PROBES_PER_S in each second of a prober. Two CPUs may count the same probe slot twice: it is a brake. */
static __always_inline int og_probe_allowed(__u64 prober)
{
    __u64 now = bpf_ktime_get_ns();
    struct og_rate *rate = og_map_find(probers_map, &prober);

    if (!rate) {
        struct og_rate first OG_ALIGNED = {.window_ns = now, .count = 1};

        og_map_set(probers_map, &prober, &first);
        return 1;
    }
    if ((__s64)(now - rate->window_ns) >= (__s64)OG_SECOND_NS) { /* another CPU may be ahead */
        rate->window_ns = now;
        rate->count = 0;
    }
    rate->count += 1;
    return rate->count <= OG_PROBES_PER_S;
}

/* Is a socket waiting for new flows of `service`? */
static __always_inline int og_listens(void *ctx, const struct og_service_key *service)
{
    struct og_flow_key any OG_ALIGNED = {};
    struct bpf_sock_tuple *tuple = (struct bpf_sock_tuple *)&any;
    struct bpf_sock *sk;

    og_copy16(any.vip, service->vip);
    *(og_word16 *)any.vip_port = og_raw16(service->port);
    if (service->protocol == OG_NH_UDP) {
        sk = bpf_sk_lookup_udp(ctx, tuple, sizeof(tuple->ipv6), BPF_F_CURRENT_NETNS, 0);
        if (!sk) {
            return 0;
        }
        bpf_sk_release(sk);
        return 1;
    }
    sk = og_socket(ctx, &any);
    if (!sk) {
        return 0;
    }

    int listens = sk->state == BPF_TCP_LISTEN;
    bpf_sk_release(sk);
    return listens;
}

/* Bit i: service index i has a listener. The list has no gaps. */
static __always_inline __u64 og_listeners(void *ctx)
{
    __u64 mask = 0;

    for (__u32 i = 0; i < OG_MAX_SERVICES; i++) {
        __u32 slot = i;
        struct og_service_key *service = og_map_find(ports_map, &slot);

        if (!service || !service->protocol) {
            break;
        }

        struct og_service_value *value = og_map_find(services_map, service);
        if (value && og_listens(ctx, service)) {
            mask |= 1ull << (value->index & 63);
        }
    }
    return mask;
}

static __always_inline int og_probe_is_sound(struct og_probe_packet *packet)
{
    struct og_probe *probe = &packet->probe;
    const struct og_sid *sid = (struct og_sid *)packet->ip.dst;

    return packet->ip.next_header == OG_NH_UDP && og_get16(packet->ip.payload_len) == OG_PROBE_UDP_LEN &&
           og_get16(packet->udp.length) == OG_PROBE_UDP_LEN && og_get16(packet->udp.source) == OG_PROBE_PORT &&
           og_get16(packet->udp.destination) == OG_PROBE_PORT && probe->version == OG_PROBE_VERSION &&
           probe->type == OG_PROBE_REQUEST && og_raw16(probe->nonce) == 0 &&
           og_raw16(probe->nonce + 2) == og_raw16(sid->argument) &&
           og_raw32(probe->nonce + 4) == og_raw32(sid->argument + 2) && og_raw16(packet->udp.checksum) != 0 &&
           og_probe_sum(packet) == 0;
}

/* Turn the request into its reply, in place. */
static __always_inline enum og_counter og_probe_answer(void *ctx, void *at, void *end, const struct og_config *config)
{
    struct og_probe_packet *packet = at;
    __u32 zero = 0;

    if ((void *)(packet + 1) > end) {
        return OG_C_DROP_TRUNCATED;
    }
    if (!og_probe_is_sound(packet)) {
        return OG_C_DROP_PROBE;
    }
    if (!og_probe_allowed(og_raw64(packet->ip.src))) {
        return OG_C_DROP_PROBE_RATE;
    }

    struct og_probe *probe = &packet->probe;
    struct og_load *load = og_map_find(load_map, &zero);
    __u64 listeners = og_listeners(ctx);

    probe->type = OG_PROBE_REPLY;
    probe->role = OG_ROLE_AGENT;
    probe->flags = OG_PROBE_F_SERVING | (config->flags & OG_CONFIG_DRAINING ? OG_PROBE_F_DRAINING : 0);
    og_put32(probe->generation, 0);
    *(og_word64 *)probe->incarnation = og_raw64(config->incarnation);
    *(og_word64 *)probe->listeners = __builtin_bswap64(listeners);
    if (load) {
        og_put32(probe->connections, load->connections);
        og_put32(probe->accepts_per_s, load->accepts_per_s);
        *(og_word64 *)probe->bytes_per_s = __builtin_bswap64(load->bytes_per_s);
    }

    /* to prober.Probe|nonce: its locator, and the second half of the SID the request was sent to */
    *(og_word64 *)packet->ip.dst = og_raw64(packet->ip.src);
    *(og_word64 *)packet->ip.src = og_raw64(config->locator);
    *(og_word64 *)(packet->ip.src + 8) = 0; /* Errors */
    packet->ip.hop_limit = OG_OUTER_HOP_LIMIT;

    *(og_word16 *)packet->udp.checksum = 0;
    __u16 sum = og_probe_sum(packet);
    *(og_word16 *)packet->udp.checksum = sum ? sum : 0xffff;
    return OG_C_PROBE_ANSWERED;
}

#endif
