/* SPDX-License-Identifier: Apache-2.0
 *
 * The Internet checksum (RFC 1071) with the IPv6 pseudo-header (RFC 8200 section 8.1).
 */
#ifndef OG_CHECKSUM_H
#define OG_CHECKSUM_H

#include <stdbool.h>
#include <stdint.h>

#include "og_wire.h"

/* Checksum of the upper-layer message `payload` of `ip`, in network byte order, ready to be stored in the message. The
 * message's own checksum field must be zero; or left as received: then a correct message gives zero. */
uint16_t og_checksum(const struct og_ipv6 *ip, uint8_t protocol, const uint8_t *payload, uint32_t len);

/* RFC 1624: the checksum after one 16-bit field changed from `before` to `after`. All in network byte order. A wrong
 * checksum stays wrong. */
uint16_t og_checksum_update(uint16_t checksum, uint16_t before, uint16_t after);

#endif
