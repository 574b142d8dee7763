/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * The client's packet inside the envelope: which flow it is of, and where its transport header is. Hostile input: every
 * read is checked against the end of the packet.
 */
#ifndef OG_INNER_H
#define OG_INNER_H

#include "og_dialect.h"
#include "og_maps.h"
#include "og_wire.h"

#define OG_EXT_HEADERS 4
#define OG_EXT_BYTES 64

#define OG_TCP_SYN 0x02
#define OG_TCP_RST 0x04
#define OG_TCP_ACK 0x10

/* RFC 9293 section 3.1 */
struct og_tcp {
    __u8 source[2];
    __u8 destination[2];
    __u8 seq[4];
    __u8 ack[4];
    __u8 offset; /* upper four bits: header length in 4-byte units */
    __u8 flags;
    __u8 window[2];
    __u8 checksum[2];
    __u8 urgent[2];
};

static __always_inline int og_is_syn(const struct og_tcp *tcp)
{
    return (tcp->flags & (OG_TCP_SYN | OG_TCP_ACK | OG_TCP_RST)) == OG_TCP_SYN;
}

enum og_kind { OG_KIND_BAD, OG_KIND_TCP, OG_KIND_UDP, OG_KIND_ICMP };

struct og_inner {
    struct og_flow_key flow; /* client to VIP; for an ICMPv6 error that of the packet embedded in it */
    struct og_ipv6 *ip;
    void *transport;
    enum og_kind kind;
};

/* From next header `*next` at `at` over at most four extension headers to the transport header, which is returned; NULL
 * if there is none this gateway steers. A fragment passes if its offset is zero and, unless `embedded` in an ICMPv6
 * error, it is the whole packet (RFC 6946). */
static __always_inline void *og_skip_extensions(void *at, void *end, __u8 *next, int embedded)
{
    __u32 bytes = 0;

    for (int i = 0; i <= OG_EXT_HEADERS; i++) {
        __u8 *header = at;
        __u32 size = 8;

        if (*next == OG_NH_TCP || *next == OG_NH_UDP || *next == OG_NH_ICMPV6) {
            return at;
        }
        if (header + 8 > (__u8 *)end) {
            return 0;
        }
        if (*next == OG_NH_FRAGMENT) {
            if (og_get16(header + 2) & (embedded ? 0xfff8 : 0xfff9)) {
                return 0;
            }
        } else if (*next == OG_NH_HOPOPTS || *next == OG_NH_DSTOPTS) {
            size += header[1] * 8;
        } else {
            return 0;
        }
        bytes += size;
        if (bytes > OG_EXT_BYTES) {
            return 0;
        }
        *next = header[0];
        at = header + size;
    }
    return 0;
}

/* The flow of the packet a VIP sent that is embedded in an ICMPv6 error at `at`: turned round. Only its first bytes need be
 * there (RFC 4443 section 3). */
static __always_inline enum og_kind og_embedded_flow(void *at, void *end, const __u8 *vip, struct og_flow_key *flow)
{
    struct og_ipv6 *ip = at;

    if ((void *)(ip + 1) > end || ip->vtc_flow[0] >> 4 != 6) {
        return OG_KIND_BAD;
    }

    __u8 next = ip->next_header;
    __u8 *ports = og_skip_extensions(ip + 1, end, &next, 1);
    if (!ports || (void *)(ports + 4) > end || (next != OG_NH_TCP && next != OG_NH_UDP)) {
        return OG_KIND_BAD;
    }
    if (og_raw64(ip->src) != og_raw64(vip) || og_raw64(ip->src + 8) != og_raw64(vip + 8)) {
        return OG_KIND_BAD; /* about a packet that was not sent from the address it is told to */
    }
    og_copy16(flow->client, ip->dst);
    og_copy16(flow->vip, ip->src);
    *(og_word16 *)flow->client_port = og_raw16(ports + 2);
    *(og_word16 *)flow->vip_port = og_raw16(ports);
    *(og_word32 *)&flow->protocol = next;
    return OG_KIND_ICMP;
}

/* Fill `inner` from the packet at `at`, of which `room` bytes are in the envelope. False: not a packet of the kinds this
 * gateway steers, or shorter than it says. */
static __always_inline int og_parse_inner(void *at, void *end, __u32 room, struct og_inner *inner,
                                          volatile struct og_scratch *scratch)
{
    struct og_ipv6 *ip = at;

    inner->kind = OG_KIND_BAD;
    inner->ip = ip;
    if ((void *)(ip + 1) > end || ip->vtc_flow[0] >> 4 != 6 || sizeof(*ip) + og_get16(ip->payload_len) > room) {
        return 0;
    }

    __u32 length = og_get16(ip->payload_len);
    __u8 next = ip->next_header;
    __u8 *transport = og_skip_extensions(ip + 1, end, &next, 0);
    if (!transport) {
        return 0;
    }

    scratch->transport = transport - (__u8 *)(ip + 1);
    __u32 headers = scratch->transport & 0x7f; /* see og_forget */
    transport = (__u8 *)(ip + 1) + headers;
    if (transport + 8 > (__u8 *)end) {
        return 0;
    }
    if (next == OG_NH_ICMPV6) {
        __u8 type = transport[0];

        if (type < 1 || type > 4 || headers + 8 > length) {
            return 0;
        }
        inner->kind = og_embedded_flow(transport + 8, end, ip->dst, &inner->flow);
        inner->transport = transport;
        return inner->kind != OG_KIND_BAD;
    }
    og_copy16(inner->flow.client, ip->src);
    og_copy16(inner->flow.vip, ip->dst);
    *(og_word32 *)inner->flow.client_port = og_raw32(transport); /* both ports */
    *(og_word32 *)&inner->flow.protocol = next;
    inner->transport = transport;
    if (next == OG_NH_UDP) {
        if (headers + 8 > length || og_get16(transport + 4) < 8 || headers + og_get16(transport + 4) > length) {
            return 0;
        }
        inner->kind = OG_KIND_UDP;
        return 1;
    }

    struct og_tcp *tcp = inner->transport;
    if ((void *)(tcp + 1) > end || tcp->offset >> 4 < 5 || headers + (tcp->offset >> 4) * 4 > length) {
        return 0;
    }
    inner->kind = OG_KIND_TCP;
    return 1;
}

static __always_inline struct og_service_value *og_service_of(const struct og_flow_key *flow)
{
    struct og_service_key key OG_ALIGNED = {};

    og_copy16(key.vip, flow->vip);
    *(og_word16 *)key.port = og_raw16(flow->vip_port);
    key.protocol = flow->protocol;
    return og_map_find(services_map, &key);
}

#endif
