/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * The note of a flow's way back. The segments a packet has visited whose function is Steer, newest first, become the Pin
 * segments of the reply, with the same arguments; its cookies go along unchanged, whatever their version.
 */
#ifndef OG_NOTE_H
#define OG_NOTE_H

#include "og_outer.h"

/* The envelope of the reply, but for its length and ECN. */
static __always_inline void og_note_compose(struct og_scratch *scratch, __u32 n, const struct og_config *config,
                                            int once, const __u8 *tag)
{
    struct og_note *note = &scratch->note;
    struct og_sid *newest = &scratch->pins[0];

    og_put32(note->ip.vtc_flow, 6u << 28 | (__u32)config->dscp_bits << 20 | (og_get32(newest->argument + 2) & 0xfffff));
    note->ip.next_header = OG_NH_ROUTING;
    note->ip.hop_limit = OG_OUTER_HOP_LIMIT;
    /* own Errors SID with the argument of the Steer that is answered */
    og_copy16(note->ip.src, newest);
    *(og_word64 *)note->ip.src = og_raw64(config->locator);
    og_put16(note->ip.src + 8, OG_FN_ERRORS);
    og_copy16(note->ip.dst, newest);

    note->srh.next_header = OG_NH_IPV6;
    note->srh.hdr_ext_len = n * 4; /* 8-byte units: a segment and a cookie for each Steer */
    note->srh.routing_type = OG_SRH_TYPE;
    note->srh.segments_left = n - 1;
    note->srh.last_entry = n - 1;
    note->srh.flags = 0;
    *(og_word16 *)note->srh.tag = og_raw16(tag);

    if (n == 1) {
        og_copy16(note->blocks[0], newest);
        og_copy16(note->blocks[1], &scratch->cookies[0]);
        note->len = OG_NOTE_LEN_1;
    } else {
        og_copy16(note->blocks[0], &scratch->pins[1]);
        og_copy16(note->blocks[1], newest);
        og_copy16(note->blocks[2], &scratch->cookies[0]);
        og_copy16(note->blocks[3], &scratch->cookies[1]);
        note->len = OG_NOTE_LEN_2;
    }
    note->once = once;
}

/* 1 if a == b, computed without a branch: one path for the verifier instead of two for each turn of a loop. */
static __always_inline __u32 og_equal(__u32 a, __u32 b)
{
    __u32 difference = a ^ b;

    OG_OPAQUE(difference);
    return (__u32)(((__u64)difference - 1) >> 63);
}

/* The cookies, which stand right after the last segment, to the scratch; then walk what other TLVs there are. OG_C_COUNT when
 * all is well, else the counter to drop under. */
static __always_inline enum og_counter og_read_tlvs(const struct og_outer *outer, void *end, struct og_scratch *scratch)
{
    __u32 at = sizeof(struct og_srh) + (outer->last_entry + 1) * sizeof(struct og_sid);
    __u32 n = 0;

    for (int i = 0; i < OG_MAX_COOKIES; i++) {
        __u8 *tlv = (__u8 *)outer->srh + (at & 0x1ff);

        if (at + sizeof(struct og_cookie) > outer->srh_len || (void *)(tlv + sizeof(struct og_cookie)) > end ||
            tlv[0] != OG_TLV_COOKIE) {
            break;
        }
        if (tlv[1] != OG_COOKIE_LEN) {
            return OG_C_DROP_TLV;
        }
        og_copy16(&scratch->cookies[i], tlv);
        at += sizeof(struct og_cookie);
        n += 1;
    }
    scratch->n_cookies = n;

    for (int i = 0; i < OG_MAX_TLVS && at < outer->srh_len; i++) {
        __u8 *tlv = (__u8 *)outer->srh + (at & 0x1ff);

        if ((void *)(tlv + 2) > end || tlv[0] == OG_TLV_COOKIE) {
            return OG_C_DROP_TLV;
        }
        at += 1 + (1 - og_equal(tlv[0], OG_TLV_PAD1)) * (1 + tlv[1]);
        if (at > outer->srh_len) {
            return OG_C_DROP_TLV;
        }
    }
    return at < outer->srh_len ? OG_C_DROP_TLV : OG_C_COUNT;
}

/* The visited Steers to the scratch, as Pins. */
static __always_inline void og_read_visited(const struct og_outer *outer, void *end, struct og_scratch *scratch)
{
    __u32 n = 0;

    for (__u32 i = 1; i <= OG_MAX_SEGMENTS; i++) {
        struct og_sid *sid = og_segment(outer, outer->segments_left + i, end);

        if (!sid) {
            break;
        }
        struct og_sid *pin = &scratch->pins[n & 3];
        og_copy16(pin, sid);
        og_put16(pin->function, OG_FN_PIN);
        n += og_equal(og_get16(sid->function), OG_FN_STEER);
    }
    scratch->n_pins = n;
}

/* Segments of this node that follow each other are one question with the flags of all: "yours? else, room?" costs no
 * trip through the network. */
static __always_inline void og_merge(const struct og_outer *outer, void *end, const struct og_config *config,
                                     struct og_scratch *scratch)
{
    __u32 flags = 0, used = 1;

    for (__u32 i = 1; i <= OG_MERGED_SEGMENTS && i <= outer->segments_left; i++) {
        struct og_sid *sid = og_segment(outer, outer->segments_left - i, end);

        if (!sid || og_raw64(sid->locator) != og_raw64(config->locator) || og_get16(sid->function) != OG_FN_ACCEPT) {
            break;
        }
        flags |= og_get16(sid->argument);
        used += 1;
    }
    scratch->flags = flags;
    scratch->used = used;
}

/* Note the way back of `flow`, if its packet came one. `once`: the flow was hunted. */
static __always_inline void og_note_way_back(const struct og_outer *outer, const struct og_flow_key *flow,
                                             const struct og_config *config, struct og_scratch *scratch, int once)
{
    __u32 n = scratch->n_pins;

    if (n == 0) {
        return;
    }
    if (n != scratch->n_cookies) {
        og_count(OG_C_NOTE_REFUSED); /* the router would drop the reply: it had better go directly */
        return;
    }
    og_note_compose(scratch, n, config, once, outer->srh->tag);
    if (og_map_set(notes_map, flow, &scratch->note) == 0) {
        og_count(OG_C_NOTE_MADE);
    }
}

#endif
