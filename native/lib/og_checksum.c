/* SPDX-License-Identifier: Apache-2.0 */
#include "og_checksum.h"

#include <string.h>

/* The sum is the same in any byte order (RFC 1071 section 2 B), so words are added as they lie in memory. 32-bit words in
 * a 64-bit sum: no carry is lost below 16 GiB. */
static uint64_t add_bytes(uint64_t sum, const uint8_t *data, uint32_t len)
{
    for (; len >= 4; data += 4, len -= 4) {
        uint32_t word;
        memcpy(&word, data, sizeof(word));
        sum += word;
    }
    if (len > 0) {
        uint32_t word = 0;
        memcpy(&word, data, len);
        sum += word;
    }
    return sum;
}

static uint16_t fold(uint64_t sum)
{
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)sum;
}

uint16_t og_checksum(const struct og_ipv6 *ip, uint8_t protocol, const uint8_t *payload, uint32_t len)
{
    const uint8_t tail[8] = {
        (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len, 0, 0, 0, protocol,
    };
    uint64_t sum = add_bytes(0, ip->src, 16);

    sum = add_bytes(sum, ip->dst, 16);
    sum = add_bytes(sum, tail, sizeof(tail));
    sum = add_bytes(sum, payload, len);
    return (uint16_t)~fold(sum);
}

uint16_t og_checksum_update(uint16_t checksum, uint16_t before, uint16_t after)
{
    return (uint16_t)~fold((uint64_t)(uint16_t)~checksum + (uint16_t)~before + after);
}
