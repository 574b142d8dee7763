/* SPDX-License-Identifier: Apache-2.0
 *
 * The ICMPv6 messages (RFC 4443) a gateway sends to clients, built in place around the packet that caused them, and the
 * reading of those that the fabric sends to a gateway. Rates are the caller's business (og_rate.h).
 */
#ifndef OG_ICMP_H
#define OG_ICMP_H

#include <stdbool.h>
#include <stdint.h>

#include "og_buf.h"
#include "og_parse.h"

#define OG_ICMP_HOP_LIMIT 64

/* `buf` starts at a client's packet to a VIP (at least its IPv6 header) and ends with it. It becomes an error from the
 * VIP to the client with as much of the packet as fits in 1280 bytes. False and unchanged without headroom (48 bytes). */
bool og_icmp_too_big(struct og_buf *buf, uint32_t mtu);
bool og_icmp_time_exceeded(struct og_buf *buf);

/* `buf` holds an echo request with `packet` parsed from it; it becomes the reply. */
void og_icmp_echo_reply(struct og_buf *buf, const struct og_packet *packet);

/* An ICMPv6 error about a packet that this node sent into the fabric. */
struct og_fabric_error {
    uint8_t type, code;
    uint32_t mtu;              /* Packet Too Big, bytes */
    struct og_sid destination; /* where the packet was going: the segment that failed */
    uint32_t client_packet;    /* offset of the client's packet in the error, with at least its IPv6 header; or 0 */
};

/* `data` is the whole packet to our Errors SID, `outer` parsed from it, `locator` our own. OG_V_FABRIC_ERROR, or
 * DROP_PROTOCOL, DROP_TRUNCATED, DROP_ICMP_TYPE, DROP_ICMP_MTU, DROP_ICMP_EMBEDDED (wrong checksum, or not about a packet
 * of ours). To tell a client of a Packet Too Big: og_buf_pull(client_packet), then og_icmp_too_big(). */
enum og_verdict og_fabric_error_parse(const uint8_t *data, const struct og_outer *outer, const uint8_t locator[8],
                                      struct og_fabric_error *error);

#endif
