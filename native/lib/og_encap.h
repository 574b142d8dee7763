/* SPDX-License-Identifier: Apache-2.0
 *
 * H.Encaps and H.Encaps.Red (RFC 8986 sections 5.1, 5.2), decapsulation (ECN: RFC 6040) and re-encapsulation.
 *
 * A header is built once per segment list (og_template_build). A packet costs one copy of it, then the length, the
 * traffic class, the label, the hop limit, and what is the flow's: arguments and cookies, written through the pointers
 * below. One segment and no cookie: no SRH (Red). Everything else: the full segment list, nothing left out.
 */
#ifndef OG_ENCAP_H
#define OG_ENCAP_H

#include <stdbool.h>
#include <stdint.h>

#include "og_buf.h"
#include "og_parse.h"
#include "og_wire.h"

/* What a packet's path is. Segments in the order they are travelled: visited ones first, [visited] is the active one. */
struct og_path {
    struct og_sid segments[OG_MAX_SEGMENTS];
    struct og_cookie cookies[OG_MAX_COOKIES]; /* oldest first */
    uint8_t n_segments;
    uint8_t visited;
    uint8_t n_cookies;
};

/* The fields of the outer IPv6 header that differ from packet to packet. */
struct og_outer_fields {
    uint8_t traffic_class; /* see og_traffic_class() */
    uint8_t hop_limit;
    uint32_t flow_label; /* 20 bits */
};

struct og_template {
    _Alignas(64) uint8_t header[OG_MAX_OVERHEAD];
    uint16_t len; /* bytes of `header` in use */
};

/* Bytes a path takes in front of a packet: 40, or 40 + 8 + 16 per segment and cookie. */
uint32_t og_path_overhead(const struct og_path *path);

/* False, and nothing written, if the path is not one: no segment, too many segments or cookies, none left to visit. */
bool og_template_build(struct og_template *template, const struct og_path *path, const struct og_sid *source,
                       uint16_t tag);

/* Put the header in front of the IPv6 packet in `buf`. Returns the outer header for the caller's last touches, or NULL
 * with buf unchanged if there is no headroom or the length does not fit. */
struct og_ipv6 *og_template_push(struct og_buf *buf, const struct og_template *template,
                                 const struct og_outer_fields *fields);

/* Both at once, for a path that is not worth a template: written straight into the buffer. */
struct og_ipv6 *og_encap_push(struct og_buf *buf, const struct og_path *path, const struct og_sid *source,
                              uint16_t tag, const struct og_outer_fields *fields);

/* In a header just pushed with an SRH of n segments: the i-th segment travelled, the i-th cookie. The caller knows that
 * they are there; segment `visited` is also the destination, and both must be written. */
static inline struct og_sid *og_pushed_segment(struct og_ipv6 *outer, unsigned n_segments, unsigned i)
{
    return (struct og_sid *)((uint8_t *)outer + 48) + (n_segments - 1 - i);
}

static inline struct og_cookie *og_pushed_cookie(struct og_ipv6 *outer, unsigned n_segments, unsigned i)
{
    return (struct og_cookie *)((uint8_t *)outer + 48 + 16 * (uintptr_t)n_segments) + i;
}

/* Outer traffic class on entry: the gateway's constant DSCP (already shifted) and the packet's own ECN (RFC 6040 §4.1,
 * normal mode). */
static inline uint8_t og_traffic_class(uint8_t dscp_bits, const struct og_ipv6 *inner)
{
    return (uint8_t)((dscp_bits & 0xfc) | (inner->vtc_flow[1] >> 4 & 0x03));
}

/* Traffic class of any IPv6 header. */
static inline uint8_t og_ipv6_traffic_class(const struct og_ipv6 *ip)
{
    return (uint8_t)(ip->vtc_flow[0] << 4 | ip->vtc_flow[1] >> 4);
}

/* Fields for re-encapsulation: class and label as received, hop limit one lower. False: the hop limit is used up
 * (OG_V_DROP_HOP_LIMIT). */
bool og_outer_fields_from(const struct og_outer *outer, struct og_outer_fields *fields);

/* Take the envelope off: buf then starts at the inner IPv6 packet and ends where that ends. With `ecn`, for a packet
 * that leaves the gateway, the ECN field is combined by RFC 6040 section 4.2. Without, for a packet that gets a new
 * envelope with the received traffic class, the inner packet is not touched. OG_V_NONE, or DROP_INNER (payload is not
 * IPv6), DROP_TRUNCATED (inner length does not fit), DROP_ECN. */
enum og_verdict og_decap(struct og_buf *buf, const struct og_outer *outer, bool ecn);

#endif
