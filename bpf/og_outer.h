/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * The envelope: outer IPv6 header and segment routing header (RFC 8754 section 2).
 */
#ifndef OG_OUTER_H
#define OG_OUTER_H

#include "og_dialect.h"
#include "og_maps.h"
#include "og_wire.h"

#define OG_MAX_TLVS 8 /* besides cookies */
#define OG_MERGED_SEGMENTS 3
#define OG_MAX_SRH (8 + 16 * OG_MAX_SEGMENTS + 16 * OG_MAX_COOKIES + 16) /* 16: padding, TLVs of later versions */

struct og_outer {
    struct og_ipv6 *ip;
    struct og_srh *srh; /* NULL without one */
    __u32 srh_len;      /* bytes; 0 without one */
    __u32 segments_left, last_entry;
    __u32 payload; /* bytes after the fixed header, by its own length field */
};

/* What the verifier knows about these numbers (which turn a loop was left at) must not multiply the paths it walks from
 * here: numbers that come out of a map are just numbers. */
static __always_inline void og_forget(struct og_outer *outer, volatile struct og_scratch *scratch)
{
    scratch->srh_len = outer->srh_len;
    scratch->segments_left = outer->segments_left;
    scratch->last_entry = outer->last_entry;
    outer->srh_len = scratch->srh_len;
    outer->segments_left = scratch->segments_left;
    outer->last_entry = scratch->last_entry;
}

/* Segment `index` of the list; NULL beyond its end. */
static __always_inline struct og_sid *og_segment(const struct og_outer *outer, __u32 index, void *end)
{
    struct og_sid *sid = (struct og_sid *)(outer->srh + 1) + (index & 0xf);

    return index > outer->last_entry || (void *)(sid + 1) > end ? 0 : sid;
}

static __always_inline int og_same_sid(const void *a, const void *b)
{
    return og_raw64(a) == og_raw64(b) && og_raw64(a + 8) == og_raw64(b + 8);
}

/* Every check on the SRH but its TLVs. OG_C_COUNT when all is well, else the counter to drop under. */
static __always_inline enum og_counter og_parse_srh(struct og_outer *outer, void *end)
{
    struct og_srh *srh = (struct og_srh *)(outer->ip + 1);

    outer->srh = srh;
    if ((void *)(srh + 1) > end || outer->payload < sizeof(*srh)) {
        return OG_C_DROP_TRUNCATED;
    }
    if (srh->routing_type != OG_SRH_TYPE) {
        return OG_C_DROP_SRH_TYPE;
    }

    __u32 len = 8 + srh->hdr_ext_len * 8;
    if (len > outer->payload || (void *)srh + len > end) {
        return OG_C_DROP_TRUNCATED;
    }
    outer->srh_len = len;
    outer->last_entry = srh->last_entry;
    outer->segments_left = srh->segments_left;
    if (sizeof(*srh) + (outer->last_entry + 1) * sizeof(struct og_sid) > len ||
        outer->segments_left > outer->last_entry) {
        return OG_C_DROP_SRH;
    }
    if (outer->last_entry >= OG_MAX_SEGMENTS || len > OG_MAX_SRH) {
        return OG_C_DROP_SEGMENTS;
    }

    struct og_sid *active = og_segment(outer, outer->segments_left, end);
    if (!active || !og_same_sid(active, outer->ip->dst)) {
        return OG_C_DROP_SEGMENTS;
    }
    if (srh->next_header != OG_NH_IPV6) {
        return OG_C_DROP_PROTOCOL;
    }
    return OG_C_COUNT;
}

#endif
