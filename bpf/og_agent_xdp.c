/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * The agent's ingress: packets for this host's locator. Takes the client's packet out of its envelope and gives it to
 * the kernel, if the kernel knows the flow or a listener may take it; else sends it to the next segment. Everything
 * that is not for the locator passes untouched.
 */
#include "og_mine.h"
#include "og_note.h"
#include "og_outer.h"
#include "og_probe.h"

OG_LICENSE;

/* The counters of a class as a mask: a switch would become a table in memory of its own, which not every loader knows. */
enum og_class { OG_CLASS_PASS, OG_CLASS_TX, OG_CLASS_DROP, OG_CLASS_EVENT };

#define OG_X(symbol, name, class, text) | (__u64)(OG_CLASS_##class == OG_CLASS_PASS) << OG_C_##symbol
static const __u64 og_passing = 0 OG_AGENT_COUNTERS(OG_X);
#undef OG_X
#define OG_X(symbol, name, class, text) | (__u64)(OG_CLASS_##class == OG_CLASS_TX) << OG_C_##symbol
static const __u64 og_sending = 0 OG_AGENT_COUNTERS(OG_X);
#undef OG_X
_Static_assert(OG_C_COUNT <= 64, "one bit for each counter");

static __always_inline int og_action_of(enum og_counter counter)
{
    return og_passing >> counter & 1 ? XDP_PASS : og_sending >> counter & 1 ? XDP_TX : XDP_DROP;
}

static __always_inline int og_end(enum og_counter counter)
{
    og_count(counter);
    return og_action_of(counter);
}

/* The prefixes of gateway nodes are their locators; one exact look-up costs a third of a longest-prefix match, which is left
 * for aggregates. */
static __always_inline int og_is_gateway(const struct og_ipv6 *ip)
{
    struct og_gateway_key key;

    if (og_map_find(locators_map, ip->src)) {
        return 1;
    }
    key.prefix_len = 128;
    *(og_word32 *)key.address = og_raw32(ip->src);
    *(og_word32 *)(key.address + 4) = og_raw32(ip->src + 4);
    *(og_word32 *)(key.address + 8) = og_raw32(ip->src + 8);
    *(og_word32 *)(key.address + 12) = og_raw32(ip->src + 12);
    return og_map_find(gateways_map, &key) != 0;
}

/* Back where it came from: the link's other end is the router that forwards by the new destination. */
static __always_inline void og_swap_ethernet(struct ethhdr *ethernet)
{
    __u32 high = og_raw32(ethernet->h_dest);
    __u16 low = og_raw16(ethernet->h_dest + 4);

    *(og_word32 *)ethernet->h_dest = og_raw32(ethernet->h_source);
    *(og_word16 *)(ethernet->h_dest + 4) = og_raw16(ethernet->h_source + 4);
    *(og_word32 *)ethernet->h_source = high;
    *(og_word16 *)(ethernet->h_source + 4) = low;
}

/* RFC 6040 section 4.2, figure 4. False: drop. */
static __always_inline int og_combine_ecn(const struct og_ipv6 *outer, struct og_ipv6 *inner)
{
    __u8 arriving = outer->vtc_flow[1] >> 4 & 3;
    __u8 own = inner->vtc_flow[1] >> 4 & 3;

    if (own == 0) {
        return arriving != 3;
    }
    if (arriving == 3 || (arriving == 1 && own == 2)) {
        inner->vtc_flow[1] = (inner->vtc_flow[1] & 0xcf) | arriving << 4;
    }
    return 1;
}

/* The envelope off, the link header before what was in it. */
static __always_inline int og_deliver(struct xdp_md *ctx, const struct og_outer *outer, struct og_inner *inner,
                                      enum og_counter counter)
{
    struct ethhdr *ethernet = (void *)(long)ctx->data;
    void *end = (void *)(long)ctx->data_end;

    if ((void *)(ethernet + 1) > end) {
        return og_end(OG_C_DROP_TRUNCATED);
    }
    if (!og_combine_ecn(outer->ip, inner->ip)) {
        return og_end(OG_C_DROP_ECN);
    }

    __u64 addresses = og_raw64(ethernet); /* the link header, by words: 8 + 4 + 2 bytes */
    __u32 rest = og_raw32((void *)ethernet + 8);
    if (bpf_xdp_adjust_head(ctx, sizeof(struct og_ipv6) + outer->srh_len)) {
        return og_end(OG_C_DROP_NO_CONFIG);
    }
    ethernet = (void *)(long)ctx->data;
    end = (void *)(long)ctx->data_end;
    if ((void *)(ethernet + 1) > end) {
        return og_end(OG_C_DROP_TRUNCATED);
    }
    *(og_word64 *)ethernet = addresses;
    *(og_word32 *)((void *)ethernet + 8) = rest;
    ethernet->h_proto = __builtin_bswap16(ETH_P_IPV6);
    return og_end(counter);
}

/* Not mine. `used`: segments of this node that are done with. */
static __always_inline int og_send_on(struct ethhdr *ethernet, struct og_outer *outer, void *end,
                                      const struct og_config *config, __u32 used, __u16 flags,
                                      enum og_counter otherwise)
{
    struct og_ipv6 *ip = outer->ip;
    struct og_sid *next = 0;
    enum og_counter counter = OG_C_NEXT_SEGMENT;

    if (outer->srh && outer->segments_left >= used) {
        next = og_segment(outer, outer->segments_left - used, end);
        if (!next) {
            return og_end(OG_C_DROP_SRH);
        }
    } else if (outer->srh || !(flags & OG_ACCEPT_K) || og_get16(ip->src + 8) != OG_FN_ERRORS) {
        return og_end(otherwise);
    }
    if (ip->hop_limit <= 1) {
        return og_end(OG_C_DROP_HOP_LIMIT);
    }
    ip->hop_limit -= 1;
    if (next) {
        outer->srh->segments_left = outer->segments_left - used;
        og_copy16(ip->dst, next);
    } else {
        /* A pinned packet: the only segment, no SRH. Its source says which router sent it and with what argument; the
         * router believes the agent the pin names, so it must see who says so. */
        og_copy16(ip->dst, ip->src);
        og_put16(ip->dst + 8, OG_FN_MISS);
        *(og_word64 *)ip->src = og_raw64(config->locator);
        counter = OG_C_RETURNED_MISS;
    }
    og_swap_ethernet(ethernet);
    return og_end(counter);
}

/* Only what was taken because it is known, or new, teaches the routers where the flow is; never a reset. */
static __always_inline int og_reply_is_wanted(const struct og_inner *inner, enum og_counter taken)
{
    const struct og_tcp *tcp = inner->transport;

    return taken != OG_C_TAKEN_FINAL && taken != OG_C_TAKEN_ICMP &&
           (taken == OG_C_TAKEN_UDP || !(tcp->flags & OG_TCP_RST));
}

/* SRH, its TLVs, and what they say: to the scratch. OG_C_COUNT when all is well, else the counter to drop under. */
static __always_inline enum og_counter og_read_srh(struct og_outer *outer, void *end, const struct og_config *config,
                                                   struct og_scratch *scratch)
{
    enum og_counter bad = og_parse_srh(outer, end);

    if (bad != OG_C_COUNT) {
        return bad;
    }
    og_forget(outer, scratch);
    bad = og_read_tlvs(outer, end, scratch);
    if (bad != OG_C_COUNT) {
        return bad;
    }
    og_forget(outer, scratch);
    og_read_visited(outer, end, scratch);
    if (scratch->n_pins > OG_MAX_STEERS) {
        return OG_C_DROP_LOOP;
    }
    og_forget(outer, scratch);
    og_merge(outer, end, config, scratch);
    og_forget(outer, scratch);
    return OG_C_COUNT;
}

/* Is this packet of a service for the kernel here? The counter to take it under; OG_C_COUNT: no. */
static __always_inline enum og_counter og_decide(struct xdp_md *ctx, struct og_inner *inner, __u16 flags,
                                                 const struct og_service_value *service)
{
    struct og_tcp *tcp = inner->transport;

    if (inner->kind == OG_KIND_UDP) {
        return OG_C_TAKEN_UDP; /* one candidate, no decline */
    }
    if (flags & OG_ACCEPT_F) {
        return OG_C_TAKEN_FINAL;
    }
    if (inner->kind == OG_KIND_ICMP) {
        return og_error_is_mine(ctx, &inner->flow) ? OG_C_TAKEN_ICMP : OG_C_COUNT;
    }
    if (og_is_syn(tcp)) {
        return og_syn_is_mine(ctx, &inner->flow, flags, service->accept_limit);
    }
    return og_segment_is_mine(ctx, inner, tcp, service->index);
}

static __always_inline int og_accept(struct xdp_md *ctx, struct ethhdr *ethernet, struct og_outer *outer, void *end,
                                     const struct og_config *config)
{
    struct og_inner inner OG_ALIGNED = {};
    struct og_scratch *scratch = og_scratch_get();
    __u16 flags = og_get16(((struct og_sid *)outer->ip->dst)->argument);
    __u32 used = 1;

    if (!scratch) {
        return og_end(OG_C_DROP_NO_CONFIG);
    }
    if (outer->ip->next_header == OG_NH_ROUTING) {
        enum og_counter bad = og_read_srh(outer, end, config, scratch);

        if (bad != OG_C_COUNT) {
            return og_end(bad);
        }
        flags |= scratch->flags;
        used = scratch->used;
    } else if (outer->ip->next_header != OG_NH_IPV6) {
        return og_end(OG_C_DROP_PROTOCOL);
    }

    void *at = (void *)(outer->ip + 1) + (outer->srh_len & 0x1ff);
    if (!og_parse_inner(at, end, outer->payload - outer->srh_len, &inner, scratch)) {
        return og_end(OG_C_DROP_INNER);
    }
    struct og_service_value *service = og_service_of(&inner.flow);
    if (!service) {
        return og_send_on(ethernet, outer, end, config, used, 0, OG_C_DROP_INNER);
    }
    enum og_counter taken = og_decide(ctx, &inner, flags, service);
    if (taken == OG_C_COUNT) {
        return og_send_on(ethernet, outer, end, config, used, flags, OG_C_DROP_NOT_MINE);
    }
    if (outer->srh && og_reply_is_wanted(&inner, taken)) {
        og_note_way_back(outer, &inner.flow, config, scratch, taken == OG_C_TAKEN_UDP || !og_is_syn(inner.transport));
    }
    return og_deliver(ctx, outer, &inner, taken);
}

OG_PROGRAM("xdp")
int og_agent_xdp(struct xdp_md *ctx)
{
    struct ethhdr *ethernet = (void *)(long)ctx->data;
    void *end = (void *)(long)ctx->data_end;
    struct og_config *config = og_config_get();
    struct og_outer outer = {.ip = (struct og_ipv6 *)(ethernet + 1)};

    if ((void *)(outer.ip + 1) > end || ethernet->h_proto != __builtin_bswap16(ETH_P_IPV6)) {
        return og_end(OG_C_PASS_OTHER);
    }
    if (!config || og_raw64(outer.ip->dst) != og_raw64(config->locator)) {
        return og_end(OG_C_PASS_OTHER);
    }
    if (outer.ip->vtc_flow[0] >> 4 != 6) {
        return og_end(OG_C_DROP_NOT_IPV6);
    }
    outer.payload = og_get16(outer.ip->payload_len);
    if ((void *)(outer.ip + 1) + outer.payload > end) {
        return og_end(OG_C_DROP_TRUNCATED);
    }
    OG_OPAQUE(outer.payload);

    __u16 function = og_get16(((struct og_sid *)outer.ip->dst)->function);
    if (function == OG_FN_ERRORS) {
        return og_end(OG_C_FABRIC_ERROR); /* from any node of the fabric: only counted */
    }
    if (!og_is_gateway(outer.ip)) {
        return og_end(OG_C_DROP_OUTER_SOURCE);
    }
    if (function == OG_FN_ACCEPT) {
        return og_accept(ctx, ethernet, &outer, end, config);
    }
    if (function == OG_FN_PROBE) {
        enum og_counter counter = og_probe_answer(ctx, outer.ip, end, config);

        if (counter == OG_C_PROBE_ANSWERED) {
            og_swap_ethernet(ethernet);
        }
        return og_end(counter);
    }
    return og_end(OG_C_DROP_SID_FUNCTION);
}
