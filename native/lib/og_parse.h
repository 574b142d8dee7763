/* SPDX-License-Identifier: Apache-2.0
 *
 * The one parser of the data plane. It reads hostile input: every read is bounds-checked (og_read), nothing is written
 * to the packet, and whatever is wrong has its own verdict. OG_V_NONE means: well-formed, go on.
 */
#ifndef OG_PARSE_H
#define OG_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "og_flow.h"
#include "og_verdict.h"
#include "og_wire.h"

/* ---- the client's packet, and the server's reply ------------------------------------------------------------------ */

#define OG_MAX_EXT_HEADERS 4
#define OG_MAX_EXT_BYTES 64
#define OG_MIN_MTU 1280 /* RFC 8200 section 5 */

#define OG_TCP_FIN 0x01
#define OG_TCP_SYN 0x02
#define OG_TCP_RST 0x04
#define OG_TCP_PSH 0x08
#define OG_TCP_ACK 0x10
#define OG_TCP_URG 0x20

#define OG_ICMP_UNREACHABLE 1
#define OG_ICMP_PORT_UNREACHABLE 4 /* a code of it */
#define OG_ICMP_TOO_BIG 2
#define OG_ICMP_TIME_EXCEEDED 3
#define OG_ICMP_PARAMETER 4
#define OG_ICMP_ECHO_REQUEST 128
#define OG_ICMP_ECHO_REPLY 129

enum og_packet_kind {
    OG_KIND_TCP,
    OG_KIND_UDP,
    OG_KIND_ICMP_ERROR, /* `flow` is that of the embedded packet */
    OG_KIND_ECHO,       /* echo request: `flow` has addresses and protocol, no ports */
};

struct og_packet {
    union og_flow flow; /* client to VIP, whichever way the packet goes */
    enum og_packet_kind kind;
    uint8_t tcp_flags; /* OG_TCP_*, the low six bits */
    uint8_t icmp_type, icmp_code;
    uint32_t seq, ack;  /* TCP, host byte order */
    uint32_t icmp_mtu;  /* Packet Too Big, bytes */
    uint32_t len;       /* of the whole packet by its own length field; the buffer may be longer (link padding) */
    uint32_t transport; /* offset of the TCP, UDP or ICMPv6 header */
};

/* `data` is a packet from a client to a VIP (of whatever service: addresses are not judged here). Verdicts:
 * DROP_TRUNCATED, DROP_NOT_IPV6, DROP_FRAGMENT, DROP_EXT_HEADERS, DROP_ROUTING_HEADER, DROP_PROTOCOL, DROP_TCP_FLAGS,
 * DROP_ICMP_TYPE, DROP_ICMP_EMBEDDED, DROP_ICMP_MTU. */
enum og_verdict og_parse_client(const uint8_t *data, uint32_t len, struct og_packet *packet);

/* `data` is a server's reply from a VIP to a client: TCP or UDP; `flow` is turned round. Verdicts as above, without
 * the rules on flags (SYN|ACK is what a server says) and with DROP_PROTOCOL for ICMPv6. */
enum og_verdict og_parse_server(const uint8_t *data, uint32_t len, struct og_packet *packet);

/* ---- a packet to a SID -------------------------------------------------------------------------------------------- */

struct og_outer {
    const struct og_ipv6 *ip;
    const struct og_sid *destination; /* the active SID: ip->dst */
    const struct og_sid *source;      /* ip->src read as a SID; whether it is one is the caller's question */
    const struct og_srh *srh;         /* NULL without one */
    const struct og_sid *segments;    /* in the header's order: [0] is the last one travelled */
    uint8_t n_segments;               /* 0 without SRH */
    uint8_t segments_left;            /* 0 without SRH */
    uint8_t n_cookies;
    const struct og_cookie *cookies[OG_MAX_COOKIES]; /* [0] is the oldest */
    uint8_t next_header;                             /* of the payload: OG_NH_IPV6, OG_NH_UDP, OG_NH_ICMPV6, … */
    uint32_t payload;                                /* its offset */
    uint32_t len;                                    /* of the whole packet by its own length field */
};

/* Outer IPv6 header, at most one SRH, its TLVs. Pointers point into `data`. Verdicts: DROP_TRUNCATED, DROP_NOT_IPV6,
 * DROP_SRH, DROP_SRH_TYPE, DROP_TLV, DROP_SEGMENTS (more than OG_MAX_SEGMENTS, or the active one is not in its place).
 * Without SRH and with an extension header other than it: OG_V_NONE, and next_header says which. */
enum og_verdict og_parse_outer(const uint8_t *data, uint32_t len, struct og_outer *outer);

/* i-th segment that was visited before the active one, 0 = newest; NULL if there are not so many. */
static inline const struct og_sid *og_outer_visited(const struct og_outer *outer, unsigned i)
{
    unsigned index = outer->segments_left + 1u + i;

    return index < outer->n_segments ? &outer->segments[index] : NULL;
}

/* i-th segment after the active one, 0 = the next; NULL if there are not so many. */
static inline const struct og_sid *og_outer_ahead(const struct og_outer *outer, unsigned i)
{
    return i < outer->segments_left ? &outer->segments[outer->segments_left - 1u - i] : NULL;
}

#endif
