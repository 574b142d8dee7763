/* SPDX-License-Identifier: Apache-2.0
 *
 * H.Encaps and H.Encaps.Red (RFC 8986 sections 5.1, 5.2), decapsulation (ECN: RFC 6040) and re-encapsulation. The packet
 * itself is never moved: a header is written in front of it, or its start is moved over the one it has.
 *
 * Two ways to encapsulate. A path that many packets share: a template, built once with the tables; a packet costs one copy
 * of it, then length, class, label, hop limit, and what is the flow's. A path of this packet alone: og_encap_push().
 * One segment and no cookie: no SRH (Red). Everything else: the full segment list, nothing left out of it.
 */
#ifndef OG_ENCAP_H
#define OG_ENCAP_H

#include <stdbool.h>
#include <stdint.h>

#include "og_buf.h"
#include "og_bytes.h"
#include "og_parse.h"
#include "og_wire.h"

/* The fields of the outer IPv6 header that differ from packet to packet. */
struct og_outer_fields {
    uint8_t traffic_class; /* og_traffic_class() on entry, as received after that */
    uint8_t hop_limit;
    uint32_t flow_label; /* 20 bits */
};

/* Where a packet is to go, and what goes with it. Segments in the order they are travelled: the visited ones first,
 * segments[visited] is the active one, the destination. */
struct og_path {
    struct og_sid segments[OG_MAX_SEGMENTS];
    struct og_cookie cookies[OG_MAX_COOKIES]; /* oldest first */
    uint8_t n_segments;
    uint8_t visited;
    uint8_t n_cookies;
};

/* Bytes a path takes in front of a packet: 40, or 40 + 8 + 16 per segment and cookie. */
uint32_t og_path_overhead(const struct og_path *path);

/* Put the headers for `path` in front of the IPv6 packet in `buf`; `tag` goes to the SRH. Returns the outer header, or
 * NULL with buf unchanged: no headroom, a length that does not fit, or not a path (no segment, none left to visit, too
 * many segments or cookies). */
struct og_ipv6 *og_encap_push(struct og_buf *buf, const struct og_path *path, const struct og_sid *source, uint16_t tag,
                              const struct og_outer_fields *fields);

static inline void og_outer_write(struct og_ipv6 *ip, uint32_t payload_len, const struct og_outer_fields *fields)
{
    og_store32(ip->vtc_flow,
               UINT32_C(6) << 28 | (uint32_t)fields->traffic_class << 20 | (fields->flow_label & 0xfffff));
    og_store16(ip->payload_len, (uint16_t)payload_len);
    ip->hop_limit = fields->hop_limit;
}

/* The headers for a path, ready to be copied. The length comes first: for a path of one segment everything is in one
 * cache line. */
struct og_template {
    _Alignas(64) uint16_t len; /* bytes of `header` in use */
    uint8_t header[OG_MAX_OVERHEAD];
};

/* False, and nothing written, if it is not a path. */
bool og_template_build(struct og_template *template, const struct og_path *path, const struct og_sid *source,
                       uint16_t tag);

/* Put a copy in front of the IPv6 packet in `buf`. Returns the outer header for what is the flow's (arguments, cookies),
 * or NULL with buf unchanged: no headroom, or a length that does not fit. */
static inline struct og_ipv6 *og_template_push(struct og_buf *buf, const struct og_template *template,
                                               const struct og_outer_fields *fields)
{
    uint32_t len = template->len;
    uint32_t payload_len = buf->len + len - (uint32_t)sizeof(struct og_ipv6);

    if (payload_len > UINT16_MAX || len > buf->headroom) {
        return NULL;
    }
    buf->data -= len;
    buf->headroom -= len;
    buf->len += len;

    struct og_ipv6 *ip = (struct og_ipv6 *)buf->data;
    if (len == sizeof(*ip)) {
        memcpy(ip, template->header, sizeof(*ip)); /* of a known size: three moves, no call */
    } else {
        memcpy(ip, template->header, len);
    }
    og_outer_write(ip, payload_len, fields);
    return ip;
}

/* Outer traffic class on entry: the gateway's constant DSCP (already shifted) and the packet's own ECN (RFC 6040 section
 * 4.1, normal mode). */
static inline uint8_t og_traffic_class(uint8_t dscp_bits, const struct og_ipv6 *inner)
{
    return (uint8_t)((dscp_bits & 0xfc) | (inner->vtc_flow[1] >> 4 & 0x03));
}

/* Fields for re-encapsulation: class and label as received, hop limit one lower. False: the hop limit is used up
 * (OG_V_DROP_HOP_LIMIT). */
bool og_outer_fields_from(const struct og_outer *outer, struct og_outer_fields *fields);

/* Take the envelope off: buf then starts at the inner IPv6 packet and ends where that ends. With `ecn`, for a packet
 * that leaves the gateway, the ECN field is combined by RFC 6040 section 4.2. Without, for a packet that gets a new
 * envelope with the received traffic class, the inner packet is not touched. OG_V_NONE, or with buf unchanged DROP_INNER
 * (payload is not IPv6), DROP_TRUNCATED (inner length does not fit), DROP_ECN. `outer` still points to the old envelope,
 * which og_encap_push overwrites: read what is needed of it first. */
enum og_verdict og_decap(struct og_buf *buf, const struct og_outer *outer, bool ecn);

#endif
