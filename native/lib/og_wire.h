/* SPDX-License-Identifier: Apache-2.0
 *
 * The wire contract of the Occam Gateway, version 1.
 *
 * One header for the data plane (native/), the agent's programs (bpf/) and the tests, so that no two parts can disagree
 * about a bit on the wire. Only fixed-size types and constants: it is compiled by gcc, clang, clang -target bpf and bcc.
 * Every multi-byte field is in network byte order on the wire.
 *
 * SID = locator (64 bits) | function (16 bits) | argument (48 bits)                                   RFC 8986 section 3.1
 *
 *   function        argument
 *   Errors, Steer,
 *   Pin, Miss       owner thread (16) | flow hash (32)
 *   Accept          flags (16) | owner thread (16) | zero (16)
 *   Probe           nonce (48)
 *
 * The owner field holds 16 bits of the flow hash; a router with n threads takes it modulo n, so nobody else need know n.
 */
#ifndef OG_WIRE_H
#define OG_WIRE_H

#include <linux/types.h>

#define OG_WIRE_VERSION 1

/* ---- SIDs ------------------------------------------------------------------------------------------------------- */

#define OG_FN_ERRORS 0x0000 /* outer source of what a node sends; errors from the fabric arrive here */
#define OG_FN_STEER 0x0001  /* router: a client's packet for a VIP */
#define OG_FN_PIN 0x0002    /* router: a server's reply on its way back */
#define OG_FN_MISS 0x0003   /* router: the offered targets do not know this flow */
#define OG_FN_ACCEPT 0x0010 /* agent: see OG_ACCEPT_* */
#define OG_FN_PROBE 0x0020  /* every data plane: answered with struct og_probe */

#define OG_ACCEPT_K 0x0001    /* take it only if it is mine (known) */
#define OG_ACCEPT_N 0x0002    /* a new connection may be taken if there is room */
#define OG_ACCEPT_F 0x0004    /* final: deliver to the kernel whatever it is */
#define OG_ACCEPT_LAST 0x0008 /* with N: last candidate, take it regardless of room */

struct og_sid {
    __u8 locator[8];
    __u8 function[2];
    __u8 argument[6];
};

/* ---- IPv6 and the Segment Routing Header, RFC 8200 section 3 and RFC 8754 section 2 ------------------------------- */

#define OG_NH_HOPOPTS 0
#define OG_NH_TCP 6
#define OG_NH_UDP 17
#define OG_NH_IPV6 41
#define OG_NH_ROUTING 43
#define OG_NH_FRAGMENT 44
#define OG_NH_ESP 50
#define OG_NH_AH 51
#define OG_NH_ICMPV6 58
#define OG_NH_NONE 59
#define OG_NH_DSTOPTS 60

#define OG_SRH_TYPE 4
#define OG_OUTER_HOP_LIMIT 64 /* set by the hasher only; every re-encapsulation copies the received one minus 1 */

struct og_ipv6 {
    __u8 vtc_flow[4]; /* version 4, traffic class 8, flow label 20 */
    __u8 payload_len[2];
    __u8 next_header;
    __u8 hop_limit;
    __u8 src[16];
    __u8 dst[16];
};

struct og_srh {
    __u8 next_header;
    __u8 hdr_ext_len; /* in 8-byte units, without the first 8 bytes */
    __u8 routing_type;
    __u8 segments_left;
    __u8 last_entry; /* index of the last element of the segment list */
    __u8 flags;      /* one byte; never written as part of a wider word */
    __u8 tag[2];     /* low 16 bits of the table digest, for tracing only */
    /* struct og_sid segments[last_entry + 1], in reverse order; then TLVs */
};

#define OG_MAX_STEERS 2    /* a third is dropped as `loop` */
#define OG_MAX_SEGMENTS 11 /* 2 visited Steers + 8 candidates + Miss */
#define OG_MAX_COOKIES 2
#define OG_MAX_OVERHEAD (40 + 8 + 16 * OG_MAX_SEGMENTS + 16 * OG_MAX_COOKIES) /* 256 bytes */
#define OG_MSS_OVERHEAD 316 /* agent: MSS <= fabric MTU - 316 (256 of encapsulation, 40 of IPv6, 20 of TCP) */
#define OG_MSS_MIN 1220

/* ---- Cookie TLV --------------------------------------------------------------------------------------------------
 * Right after the last segment; one per visited Steer, oldest first. So the cookie of the i-th Steer on the path
 * (0 = oldest) is the i-th cookie TLV, and for a packet that arrives at a Pin, i = Segments Left.
 *
 * tag = SipHash-2-4(key[key_id], struct og_cookie_input). The key is random per process and never leaves the router.
 */
#define OG_TLV_PAD1 0
#define OG_TLV_PADN 4
#define OG_TLV_COOKIE 124
#define OG_COOKIE_LEN 14
#define OG_COOKIE_VERSION 1

#define OG_COOKIE_STAGE_MASK 0x0003 /* flags: 0 = a SYN's candidates, 1..3 = stage of the hunt */
#define OG_COOKIE_KNOWN 0x0004      /* the flow had a pin here when the hunt began */
#define OG_COOKIE_STAYS 0x0008      /* the packet came from another site: it is hunted here alone */
#define OG_COOKIE_SITE_SHIFT 4      /* stage 3: index of the site that was asked, 4 bits; the router's own numbering */
#define OG_COOKIE_EPOCH_S 64        /* a key lives this long; the current and the previous are valid */

struct og_cookie {
    __u8 type;   /* OG_TLV_COOKIE */
    __u8 length; /* OG_COOKIE_LEN: what follows this byte */
    __u8 version;
    __u8 key_id;
    __u8 epoch[2];
    __u8 flags[2];
    __u8 tag[8];
};

struct og_cookie_input {
    __u8 client[16];
    __u8 vip[16];
    __u8 client_port[2];
    __u8 vip_port[2];
    __u8 protocol;
    __u8 zero[3];
    __u8 locator[8];
    __u8 epoch[2];
    __u8 flags[2];
    __u8 zero2[4];
}; /* 56 bytes: seven words for SipHash */

/* ---- Probe ------------------------------------------------------------------------------------------------------
 * IPv6 | UDP (both ports OG_PROBE_PORT, checksum set) | struct og_probe.
 * Request: source prober.Errors, destination target.Probe|nonce. Reply: source target.Errors, destination
 * prober.Probe|nonce. No SRH. A node answers requests only from prefixes it knows as gateway nodes.
 */
#define OG_PROBE_PORT 20295 /* 0x4f47, "OG" */
#define OG_PROBE_VERSION 1
#define OG_PROBE_REQUEST 1
#define OG_PROBE_REPLY 2

#define OG_ROLE_HASHER 1
#define OG_ROLE_ROUTER 2
#define OG_ROLE_AGENT 3

#define OG_PROBE_F_SERVING 0x01  /* can serve: tables loaded and at least one usable next stage (agents: attached) */
#define OG_PROBE_F_DRAINING 0x02 /* no new flows, please */

struct og_probe {
    __u8 version;
    __u8 type;
    __u8 role;           /* of the sender of this message, OG_ROLE_* */
    __u8 flags;          /* replies: OG_PROBE_F_* */
    __u8 generation[4];  /* replies: low 32 bits of the table generation in use (agents: 0) */
    __u8 nonce[8];       /* low 48 bits used, equal to the SID's argument */
    __u8 incarnation[8]; /* replies: boot nonce; same after silence = state kept, new = state lost */
    __u8 sent_ns[8];     /* prober's clock, echoed: the round trip needs no state */
    /* agents: bit i = service index i has a listener; routers: a usable agent of their site serves it */
    __u8 listeners[8];
    /* agents: open connections of all services, accepted connections and bytes per second. Routers, to a router of their
     * own site: live pins to other sites, new flows that other sites took per second, 0; to all others: the sums over the
     * agents of their site that answer. */
    __u8 connections[4];
    __u8 accepts_per_s[4];
    __u8 bytes_per_s[8];
}; /* 56 bytes */

#endif
