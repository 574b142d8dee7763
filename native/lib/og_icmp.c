/* SPDX-License-Identifier: Apache-2.0 */
#include "og_icmp.h"

#include <string.h>

#include "og_bytes.h"
#include "og_checksum.h"
#include "og_sid.h"

#define IPV6_LEN ((uint32_t)sizeof(struct og_ipv6))
#define ICMP_LEN 8u

/* ---- to clients --------------------------------------------------------------------------------------------------- */

static void write_ipv6(struct og_ipv6 *ip, const uint8_t source[16], const uint8_t destination[16],
                       uint32_t payload_len)
{
    og_store32(ip->vtc_flow, UINT32_C(6) << 28);
    og_store16(ip->payload_len, (uint16_t)payload_len);
    ip->next_header = OG_NH_ICMPV6;
    ip->hop_limit = OG_ICMP_HOP_LIMIT;
    memcpy(ip->src, source, 16);
    memcpy(ip->dst, destination, 16);
}

/* RFC 4443 section 2.4 c: as much of the packet as possible without exceeding the minimum MTU. */
static bool wrap_in_error(struct og_buf *buf, uint8_t type, uint8_t code, uint32_t value)
{
    const struct og_ipv6 *cause = (const struct og_ipv6 *)buf->data;

    if (og_buf_push(buf, IPV6_LEN + ICMP_LEN) == NULL) {
        return false;
    }
    og_buf_trim(buf, OG_MIN_MTU);

    struct og_ipv6 *ip = (struct og_ipv6 *)buf->data;
    uint8_t *icmp = buf->data + IPV6_LEN;
    uint32_t payload_len = buf->len - IPV6_LEN;
    write_ipv6(ip, cause->dst, cause->src, payload_len);
    icmp[0] = type;
    icmp[1] = code;
    memset(icmp + 2, 0, 2);
    og_store32(icmp + 4, value);

    uint16_t checksum = og_checksum(ip, OG_NH_ICMPV6, icmp, payload_len);
    memcpy(icmp + 2, &checksum, sizeof(checksum));
    return true;
}

bool og_icmp_too_big(struct og_buf *buf, uint32_t mtu)
{
    return wrap_in_error(buf, OG_ICMP_TOO_BIG, 0, mtu);
}

bool og_icmp_time_exceeded(struct og_buf *buf)
{
    return wrap_in_error(buf, OG_ICMP_TIME_EXCEEDED, 0, 0);
}

/* Extension headers of the request are not answered with: the reply's IPv6 header goes right before the ICMPv6 message,
 * over the last 40 bytes of what was in front of it. */
void og_icmp_echo_reply(struct og_buf *buf, const struct og_packet *packet)
{
    uint8_t client[16], vip[16];

    memcpy(client, packet->flow.client, 16);
    memcpy(vip, packet->flow.vip, 16);
    og_buf_trim(buf, packet->len);
    og_buf_pull(buf, packet->transport - IPV6_LEN);
    write_ipv6((struct og_ipv6 *)buf->data, vip, client, buf->len - IPV6_LEN);

    /* Addresses changed places and the length is the same: only the type changes the sum. */
    uint8_t *icmp = buf->data + IPV6_LEN;
    uint16_t checksum, before, after;
    memcpy(&before, icmp, sizeof(before));
    icmp[0] = OG_ICMP_ECHO_REPLY;
    memcpy(&after, icmp, sizeof(after));
    memcpy(&checksum, icmp + 2, sizeof(checksum));
    checksum = og_checksum_update(checksum, before, after);
    memcpy(icmp + 2, &checksum, sizeof(checksum));
}

/* ---- from the fabric ---------------------------------------------------------------------------------------------- */

/* Offset of the client's packet in the envelope at `offset`; 0 if the error was cut off before its addresses. */
static uint32_t find_client_packet(const uint8_t *data, uint32_t end, uint32_t offset)
{
    uint8_t next = data[offset + 6];

    offset += IPV6_LEN;
    if (next == OG_NH_ROUTING) {
        const uint8_t *srh = og_read(data, end, offset, sizeof(struct og_srh));
        if (srh == NULL) {
            return 0;
        }
        next = srh[0];
        offset += 8u + srh[1] * 8u;
    }
    const uint8_t *ip = og_read(data, end, offset, IPV6_LEN);
    return next == OG_NH_IPV6 && ip != NULL && ip[0] >> 4 == 6 ? offset : 0;
}

enum og_verdict og_fabric_error_parse(const uint8_t *data, const struct og_outer *outer, const uint8_t locator[8],
                                      struct og_fabric_error *error)
{
    if (outer->next_header != OG_NH_ICMPV6 || outer->srh != NULL) {
        return OG_V_DROP_PROTOCOL;
    }
    const uint8_t *icmp = og_read(data, outer->len, outer->payload, ICMP_LEN);
    if (icmp == NULL) {
        return OG_V_DROP_TRUNCATED;
    }
    if (icmp[0] < OG_ICMP_UNREACHABLE || icmp[0] > OG_ICMP_PARAMETER) {
        return OG_V_DROP_ICMP_TYPE;
    }
    const uint8_t *sent = og_read(data, outer->len, outer->payload + ICMP_LEN, IPV6_LEN);
    if (sent == NULL || sent[0] >> 4 != 6 ||
        og_checksum(outer->ip, OG_NH_ICMPV6, icmp, outer->len - outer->payload) != 0) {
        return OG_V_DROP_ICMP_EMBEDDED;
    }
    const struct og_sid *source = (const struct og_sid *)(sent + 8);
    if (!og_same_locator(source->locator, locator) || og_sid_function(source) != OG_FN_ERRORS) {
        return OG_V_DROP_ICMP_EMBEDDED;
    }

    *error = (struct og_fabric_error){.type = icmp[0], .code = icmp[1]};
    memcpy(&error->destination, sent + 24, sizeof(error->destination));
    if (error->type == OG_ICMP_TOO_BIG) {
        error->mtu = og_load32(icmp + 4);
        if (error->mtu < OG_MIN_MTU) {
            return OG_V_DROP_ICMP_MTU;
        }
    }
    error->client_packet = find_client_packet(data, outer->len, outer->payload + ICMP_LEN);
    return OG_V_FABRIC_ERROR;
}
