/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * The agent's egress (tc clsact): replies of services. Most go straight to the client, untouched. A SYN-ACK whose flow
 * has a note, and one reply of a flow that was hunted, go along the way back in an envelope, so that the routers learn
 * which server has the flow. Nothing is ever dropped for want of a note.
 */
#include "og_inner.h"

OG_LICENSE;

#define OG_MSS_KIND 2 /* RFC 9293 section 3.2 */
#define OG_MSS_LEN 4
#define OG_MAX_OPTIONS 10
#define OG_FLAGS_SYNACK (OG_TCP_SYN | OG_TCP_ACK)

struct og_reply {
    struct og_flow_key flow; /* copies: packet pointers die with every change of the packet */
    __u32 options_len;       /* TCP options, bytes */
    __u8 tcp_flags;          /* 0 for a datagram */
    __u8 class_low;          /* second byte of the IPv6 header: ECN is 0x30 */
};

static __always_inline int og_pass(enum og_counter counter)
{
    og_count(counter);
    return TC_ACT_OK;
}

/* False: not a reply of a kind that is looked at. The kernel sends without extension headers. */
static __always_inline int og_read_reply(struct __sk_buff *skb, struct og_reply *reply)
{
    void *end = (void *)(long)skb->data_end;
    struct ethhdr *ethernet = (void *)(long)skb->data;
    struct og_ipv6 *ip = (void *)(ethernet + 1);
    __u8 *transport = (void *)(ip + 1);

    if ((void *)(transport + 8) > end || (ip->next_header != OG_NH_TCP && ip->next_header != OG_NH_UDP)) {
        return 0;
    }
    reply->class_low = ip->vtc_flow[1];
    og_copy16(reply->flow.client, ip->dst);
    og_copy16(reply->flow.vip, ip->src);
    *(og_word16 *)reply->flow.client_port = og_raw16(transport + 2);
    *(og_word16 *)reply->flow.vip_port = og_raw16(transport);
    *(og_word32 *)&reply->flow.protocol = ip->next_header;
    if (ip->next_header == OG_NH_TCP) {
        struct og_tcp *tcp = (void *)transport;

        if ((void *)(tcp + 1) > end) {
            return 0;
        }
        reply->tcp_flags = tcp->flags;
        reply->options_len = (tcp->offset >> 4) * 4 - sizeof(*tcp);
    }
    return 1;
}

/* Lower the MSS option of a SYN-ACK to `limit`. The checksum follows; of a partial one, where the sum over the segment is
 * still to be made, the helper changes nothing, which is right. */
static __always_inline void og_clamp_mss(struct __sk_buff *skb, const struct og_reply *reply, __u16 limit)
{
    __u32 tcp = sizeof(struct ethhdr) + sizeof(struct og_ipv6);
    __u32 at = tcp + sizeof(struct og_tcp);
    __u32 end = at + reply->options_len;
    __u8 option[OG_MSS_LEN] OG_ALIGNED;

    for (int i = 0; i < OG_MAX_OPTIONS; i++) {
        if (at + 2 > end || bpf_skb_load_bytes(skb, at, option, 2) || option[0] == 0) {
            return;
        }
        if (option[0] == 1) {
            at += 1;
            continue;
        }
        if (option[0] == OG_MSS_KIND && option[1] == OG_MSS_LEN) {
            __u16 wanted = __builtin_bswap16(limit);

            if (at + OG_MSS_LEN > end || bpf_skb_load_bytes(skb, at, option, OG_MSS_LEN) ||
                og_get16(option + 2) <= limit) {
                return;
            }
            /* The sum counts 16-bit words from the segment's start: a value at an odd offset lies across two. */
            __u16 from = og_raw16(option + 2), to = wanted;
            if ((at + 2 - tcp) & 1) {
                from = __builtin_bswap16(from);
                to = __builtin_bswap16(to);
            }
            bpf_l4_csum_replace(skb, tcp + __builtin_offsetof(struct og_tcp, checksum), from, to, 2);
            bpf_skb_store_bytes(skb, at + 2, &wanted, 2, 0);
            og_count(OG_C_MSS_CLAMPED);
            return;
        }
        if (option[1] < 2) {
            return;
        }
        at += option[1];
    }
}

/* May this reply carry the news of a hunted flow? One packet, that fits, and that does not end the flow. */
static __always_inline int og_may_tell(const struct __sk_buff *skb, const struct og_reply *reply,
                                       const struct og_note *note, const struct og_config *config)
{
    return note->once && skb->gso_size == 0 && !(reply->tcp_flags & OG_TCP_RST) &&
           skb->len - sizeof(struct ethhdr) + note->len <= config->fabric_mtu;
}

static __always_inline int og_write(struct __sk_buff *skb, struct og_note *envelope, __u32 len)
{
    if (bpf_skb_adjust_room(skb, len, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | BPF_F_ADJ_ROOM_FIXED_GSO)) {
        return og_pass(OG_C_EGRESS_FAILED);
    }
    if (bpf_skb_store_bytes(skb, sizeof(struct ethhdr), envelope, len, 0)) {
        og_count(OG_C_EGRESS_LOST);
        return TC_ACT_SHOT;
    }
    return TC_ACT_REDIRECT;
}

/* The envelope around the reply, then by the route of its first segment. */
static __always_inline int og_return(struct __sk_buff *skb, const struct og_reply *reply, struct og_note *envelope,
                                     enum og_counter counter)
{
    __u32 inner = skb->len - sizeof(struct ethhdr);

    envelope->ip.vtc_flow[1] |= reply->class_low & 0x30; /* ECN, RFC 6040 section 4.1 */
    og_put16(envelope->ip.payload_len, inner + envelope->len - sizeof(struct og_ipv6));

    int action = envelope->len == OG_NOTE_LEN_1 ? og_write(skb, envelope, OG_NOTE_LEN_1)
                                                : og_write(skb, envelope, OG_NOTE_LEN_2);
    if (action != TC_ACT_REDIRECT) {
        return action;
    }
    og_count(counter);
    return og_redirect_neigh(skb->ifindex);
}

OG_PROGRAM("tc")
int og_agent_tc(struct __sk_buff *skb)
{
    struct og_reply reply OG_ALIGNED = {};
    struct og_config *config = og_config_get();

    if (!config || skb->protocol != __builtin_bswap16(ETH_P_IPV6)) {
        return TC_ACT_OK;
    }
    if ((void *)(long)skb->data + sizeof(struct ethhdr) + sizeof(struct og_ipv6) + sizeof(struct og_tcp) >
        (void *)(long)skb->data_end) {
        bpf_skb_pull_data(skb, sizeof(struct ethhdr) + sizeof(struct og_ipv6) + sizeof(struct og_tcp));
    }
    if (!og_read_reply(skb, &reply)) {
        return TC_ACT_OK;
    }

    struct og_service_value *service = og_service_of(&reply.flow);
    if (!service) {
        return TC_ACT_OK;
    }
    __u32 index = service->index;
    struct og_service_stats *stats = og_map_find(stats_map, &index);
    if (stats) {
        stats->packets += 1;
        stats->bytes += skb->len;
    }

    int synack = (reply.tcp_flags & (OG_FLAGS_SYNACK | OG_TCP_RST)) == OG_FLAGS_SYNACK;
    if (synack) {
        og_clamp_mss(skb, &reply, config->mss_limit);
    }

    struct og_note *note = og_map_find(notes_map, &reply.flow);
    if (!note || !(synack || og_may_tell(skb, &reply, note, config))) {
        return og_pass(synack ? OG_C_EGRESS_SYNACK_DIRECT : OG_C_EGRESS_DIRECT);
    }

    struct og_scratch *scratch = og_scratch_get();
    if (!scratch) {
        return og_pass(OG_C_EGRESS_FAILED);
    }
    scratch->note = *note;
    if (scratch->note.once && og_map_delete(notes_map, &reply.flow)) { /* another CPU was faster */
        return og_pass(synack ? OG_C_EGRESS_SYNACK_DIRECT : OG_C_EGRESS_DIRECT);
    }
    return og_return(skb, &reply, &scratch->note, synack ? OG_C_EGRESS_SYNACK : OG_C_EGRESS_HUNTED);
}
