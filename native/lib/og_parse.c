/* SPDX-License-Identifier: Apache-2.0 */
#include "og_parse.h"

#include <string.h>

#include "og_buf.h"
#include "og_bytes.h"

#define IPV6_LEN 40u
#define TCP_LEN 20u
#define UDP_LEN 8u
#define ICMP_LEN 8u

/* ---- headers of any IPv6 packet ----------------------------------------------------------------------------------- */

/* The fixed header. `*end` is where the packet ends by its own account; everything after is link padding. */
static inline enum og_verdict parse_ipv6(const uint8_t *data, uint32_t len, uint32_t *end)
{
    const uint8_t *ip = og_read(data, len, 0, IPV6_LEN);

    if (ip == NULL) {
        return OG_V_DROP_TRUNCATED;
    }
    if (ip[0] >> 4 != 6) {
        return OG_V_DROP_NOT_IPV6;
    }
    *end = IPV6_LEN + og_load16(ip + 4);
    return *end <= len ? OG_V_NONE : OG_V_DROP_TRUNCATED;
}

/* RFC 8200 section 4.5: offset 13 bits, reserved 2, M 1. Only the first fragment has the ports, and what can be steered is
 * only a packet that is its own first and last one (RFC 6946). */
static bool fragment_is_whole(const uint8_t *header)
{
    return (og_load16(header + 2) & 0xfff9) == 0;
}

static bool fragment_is_first(const uint8_t *header)
{
    return (og_load16(header + 2) & 0xfff8) == 0;
}

/* Walk from `*next` at `*offset` to the transport header. `embedded`: in the packet inside an ICMPv6 error, which is
 * allowed to be a first fragment. */
static enum og_verdict walk_extensions(const uint8_t *data, uint32_t end, uint32_t *offset, uint8_t *next,
                                       bool embedded)
{
    uint32_t start = *offset;

    for (unsigned headers = 0;; headers++) {
        uint32_t size = 8;

        switch (*next) {
        case OG_NH_TCP:
        case OG_NH_UDP:
        case OG_NH_ICMPV6:
            return OG_V_NONE;
        case OG_NH_ROUTING:
            return OG_V_DROP_ROUTING_HEADER;
        case OG_NH_HOPOPTS:
        case OG_NH_DSTOPTS:
        case OG_NH_FRAGMENT:
            break;
        default:
            return OG_V_DROP_PROTOCOL;
        }

        const uint8_t *header = og_read(data, end, *offset, 8);
        if (header == NULL) {
            return OG_V_DROP_TRUNCATED;
        }
        if (*next == OG_NH_FRAGMENT) {
            if (!(embedded ? fragment_is_first(header) : fragment_is_whole(header))) {
                return OG_V_DROP_FRAGMENT;
            }
        } else {
            size += header[1] * 8u;
        }
        if (headers == OG_MAX_EXT_HEADERS || *offset - start + size > OG_MAX_EXT_BYTES) {
            return OG_V_DROP_EXT_HEADERS;
        }
        if (og_read(data, end, *offset, size) == NULL) {
            return OG_V_DROP_TRUNCATED;
        }
        *next = header[0];
        *offset += size;
    }
}

/* ---- the flow key ------------------------------------------------------------------------------------------------- */

/* Written by whole words: the hash reads words at once, and a load that spans several smaller stores waits for them. */
static inline uint64_t last_word(uint32_t ports, uint8_t protocol)
{
    return (uint64_t)protocol << 32 | ports;
}

static inline uint32_t load_ports(const uint8_t *transport)
{
    uint32_t ports;

    memcpy(&ports, transport, sizeof(ports));
    return ports;
}

/* `ip` goes from the client to the VIP, `ports` lie as in its transport header. */
static inline void flow_forward(union og_flow *flow, const uint8_t *ip, uint32_t ports, uint8_t protocol)
{
    memcpy(flow->q, ip + 8, 32);
    flow->q[4] = last_word(ports, protocol);
}

/* `ip` goes from the VIP to the client. */
static inline void flow_reversed(union og_flow *flow, const uint8_t *ip, uint32_t ports, uint8_t protocol)
{
    memcpy(flow->client, ip + 24, 16);
    memcpy(flow->vip, ip + 8, 16);
    flow->q[4] = last_word(ports << 16 | ports >> 16, protocol);
}

/* ---- transport headers -------------------------------------------------------------------------------------------- */

static inline enum og_verdict parse_tcp(const uint8_t *data, uint32_t end, uint32_t offset, struct og_packet *packet)
{
    const uint8_t *tcp = og_read(data, end, offset, TCP_LEN);

    if (tcp == NULL) {
        return OG_V_DROP_TRUNCATED;
    }
    uint32_t size = (tcp[12] >> 4) * 4u;
    if (size < TCP_LEN || og_read(data, end, offset, size) == NULL) {
        return OG_V_DROP_TRUNCATED;
    }
    packet->kind = OG_KIND_TCP;
    packet->tcp_flags = tcp[13] & 0x3f;
    packet->seq = og_load32(tcp + 4);
    packet->ack = og_load32(tcp + 8);
    return OG_V_NONE;
}

static inline enum og_verdict parse_udp(const uint8_t *data, uint32_t end, uint32_t offset, struct og_packet *packet)
{
    const uint8_t *udp = og_read(data, end, offset, UDP_LEN);

    if (udp == NULL) {
        return OG_V_DROP_TRUNCATED;
    }
    uint32_t size = og_load16(udp + 4);
    if (size < UDP_LEN || og_read(data, end, offset, size) == NULL) {
        return OG_V_DROP_TRUNCATED;
    }
    packet->kind = OG_KIND_UDP;
    return OG_V_NONE;
}

/* No client may say these: SYN|ACK is a server's word, SYN with FIN or RST is nobody's, and packets with no flags or with
 * FIN, PSH and URG at once are scanners'. */
static inline bool client_flags_ok(uint8_t flags)
{
    if (flags & OG_TCP_SYN) {
        return (flags & (OG_TCP_ACK | OG_TCP_FIN | OG_TCP_RST)) == 0;
    }
    const uint8_t xmas = OG_TCP_FIN | OG_TCP_PSH | OG_TCP_URG;
    return flags != 0 && (flags & xmas) != xmas;
}

/* The packet inside an ICMPv6 error: what the VIP sent to the client, cut off anywhere (RFC 4443 section 2.4 c). */
static bool parse_embedded(const uint8_t *data, uint32_t end, uint32_t offset, struct og_packet *packet)
{
    const uint8_t *ip = og_read(data, end, offset, IPV6_LEN);

    if (ip == NULL || ip[0] >> 4 != 6 || !og_same_address(ip + 8, data + 24)) {
        return false; /* not sent by the address that gets the error */
    }
    uint8_t next = ip[6];
    offset += IPV6_LEN;
    if (walk_extensions(data, end, &offset, &next, true) != OG_V_NONE || next == OG_NH_ICMPV6) {
        return false;
    }
    const uint8_t *transport = og_read(data, end, offset, 8);
    if (transport == NULL) {
        return false;
    }
    flow_reversed(&packet->flow, ip, load_ports(transport), next);
    if (next == OG_NH_TCP) {
        packet->seq = og_load32(transport + 4);
    }
    return true;
}

static enum og_verdict parse_icmp(const uint8_t *data, uint32_t end, uint32_t offset, struct og_packet *packet)
{
    const uint8_t *icmp = og_read(data, end, offset, ICMP_LEN);

    if (icmp == NULL) {
        return OG_V_DROP_TRUNCATED;
    }
    packet->icmp_type = icmp[0];
    packet->icmp_code = icmp[1];
    switch (icmp[0]) {
    case OG_ICMP_ECHO_REQUEST:
        packet->kind = OG_KIND_ECHO;
        flow_forward(&packet->flow, data, 0, OG_NH_ICMPV6);
        return OG_V_NONE;
    case OG_ICMP_TOO_BIG:
        packet->icmp_mtu = og_load32(icmp + 4);
        if (packet->icmp_mtu < OG_MIN_MTU) {
            return OG_V_DROP_ICMP_MTU;
        }
        break;
    case OG_ICMP_UNREACHABLE:
    case OG_ICMP_TIME_EXCEEDED:
    case OG_ICMP_PARAMETER:
        break;
    default:
        return OG_V_DROP_ICMP_TYPE;
    }
    packet->kind = OG_KIND_ICMP_ERROR;
    return parse_embedded(data, end, offset + ICMP_LEN, packet) ? OG_V_NONE : OG_V_DROP_ICMP_EMBEDDED;
}

/* From the fixed header to the transport header. */
static inline enum og_verdict parse_to_transport(const uint8_t *data, uint32_t len, struct og_packet *packet,
                                                 uint8_t *next)
{
    packet->tcp_flags = 0;
    packet->icmp_type = 0;
    packet->icmp_code = 0;
    packet->seq = 0;
    packet->ack = 0;
    packet->icmp_mtu = 0;
    packet->len = 0;
    packet->transport = IPV6_LEN;

    enum og_verdict verdict = parse_ipv6(data, len, &packet->len);
    if (verdict != OG_V_NONE) {
        return verdict;
    }
    *next = data[6];
    if (*next == OG_NH_TCP || *next == OG_NH_UDP) { /* nearly every packet */
        return OG_V_NONE;
    }
    return walk_extensions(data, packet->len, &packet->transport, next, false);
}

enum og_verdict og_parse_client(const uint8_t *data, uint32_t len, struct og_packet *packet)
{
    uint8_t next;
    enum og_verdict verdict = parse_to_transport(data, len, packet, &next);

    if (verdict != OG_V_NONE) {
        return verdict;
    }
    if (next == OG_NH_ICMPV6) {
        return parse_icmp(data, packet->len, packet->transport, packet);
    }
    verdict = next == OG_NH_TCP ? parse_tcp(data, packet->len, packet->transport, packet)
                                : parse_udp(data, packet->len, packet->transport, packet);
    if (verdict != OG_V_NONE) {
        return verdict;
    }
    if (next == OG_NH_TCP && !client_flags_ok(packet->tcp_flags)) {
        return OG_V_DROP_TCP_FLAGS;
    }
    flow_forward(&packet->flow, data, load_ports(data + packet->transport), next);
    return OG_V_NONE;
}

enum og_verdict og_parse_server(const uint8_t *data, uint32_t len, struct og_packet *packet)
{
    uint8_t next;
    enum og_verdict verdict = parse_to_transport(data, len, packet, &next);

    if (verdict != OG_V_NONE) {
        return verdict;
    }
    if (next == OG_NH_ICMPV6) {
        return OG_V_DROP_PROTOCOL;
    }
    verdict = next == OG_NH_TCP ? parse_tcp(data, packet->len, packet->transport, packet)
                                : parse_udp(data, packet->len, packet->transport, packet);
    if (verdict != OG_V_NONE) {
        return verdict;
    }
    flow_reversed(&packet->flow, data, load_ports(data + packet->transport), next);
    return OG_V_NONE;
}

/* ---- a packet to a SID -------------------------------------------------------------------------------------------- */

/* TLVs from `offset` to `end` (RFC 8754 section 2.1): Pad1 is a lone byte, all others have type, length, value. Unknown
 * ones are skipped. */
static enum og_verdict parse_tlvs(const uint8_t *data, uint32_t end, uint32_t offset, struct og_outer *outer)
{
    while (offset < end) {
        if (data[offset] == OG_TLV_PAD1) {
            offset++;
            continue;
        }
        const uint8_t *tlv = og_read(data, end, offset, 2);
        if (tlv == NULL || og_read(data, end, offset, 2u + tlv[1]) == NULL) {
            return OG_V_DROP_TLV;
        }
        if (tlv[0] == OG_TLV_COOKIE) {
            if (tlv[1] != OG_COOKIE_LEN || outer->n_cookies == OG_MAX_COOKIES) {
                return OG_V_DROP_TLV;
            }
            outer->cookies[outer->n_cookies++] = (const struct og_cookie *)tlv;
        }
        offset += 2u + tlv[1];
    }
    return OG_V_NONE;
}

static enum og_verdict parse_srh(const uint8_t *data, struct og_outer *outer)
{
    const uint8_t *header = og_read(data, outer->len, IPV6_LEN, sizeof(struct og_srh));

    if (header == NULL) {
        return OG_V_DROP_TRUNCATED;
    }
    const struct og_srh *srh = (const struct og_srh *)header;
    if (srh->routing_type != OG_SRH_TYPE) {
        return OG_V_DROP_SRH_TYPE;
    }
    uint32_t size = 8u + srh->hdr_ext_len * 8u;
    if (og_read(data, outer->len, IPV6_LEN, size) == NULL) {
        return OG_V_DROP_TRUNCATED;
    }
    uint32_t n_segments = srh->last_entry + 1u;
    uint32_t list_end = (uint32_t)sizeof(*srh) + n_segments * 16u;
    if (list_end > size || srh->segments_left > n_segments) { /* RFC 8754 section 4.3.1.1 */
        return OG_V_DROP_SRH;
    }
    outer->srh = srh;
    outer->segments = (const struct og_sid *)(header + sizeof(*srh));
    outer->segments_left = srh->segments_left;
    outer->next_header = srh->next_header;
    outer->payload = IPV6_LEN + size;

    /* A list reduced by its first segment is legal, but no node of ours makes one: visited segments are the way back. */
    if (n_segments > OG_MAX_SEGMENTS || outer->segments_left == n_segments ||
        memcmp(&outer->segments[outer->segments_left], outer->destination, sizeof(struct og_sid)) != 0) {
        return OG_V_DROP_SEGMENTS;
    }
    outer->n_segments = (uint8_t)n_segments;
    return parse_tlvs(data, IPV6_LEN + size, IPV6_LEN + list_end, outer);
}

enum og_verdict og_parse_outer(const uint8_t *data, uint32_t len, struct og_outer *outer)
{
    *outer = (struct og_outer){0};

    enum og_verdict verdict = parse_ipv6(data, len, &outer->len);
    if (verdict != OG_V_NONE) {
        return verdict;
    }
    outer->ip = (const struct og_ipv6 *)data;
    outer->source = (const struct og_sid *)outer->ip->src;
    outer->destination = (const struct og_sid *)outer->ip->dst;
    outer->next_header = outer->ip->next_header;
    outer->payload = IPV6_LEN;
    return outer->next_header == OG_NH_ROUTING ? parse_srh(data, outer) : OG_V_NONE;
}
