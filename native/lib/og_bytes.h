/* SPDX-License-Identifier: Apache-2.0
 *
 * Network byte order, unaligned: compilers make one or two instructions of each.
 */
#ifndef OG_BYTES_H
#define OG_BYTES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "swapping makes network byte order");

static inline uint16_t og_load16(const uint8_t *p)
{
    uint16_t value;

    memcpy(&value, p, sizeof(value));
    return __builtin_bswap16(value);
}

static inline uint32_t og_load32(const uint8_t *p)
{
    uint32_t value;

    memcpy(&value, p, sizeof(value));
    return __builtin_bswap32(value);
}

static inline uint64_t og_load64(const uint8_t *p)
{
    uint64_t value;

    memcpy(&value, p, sizeof(value));
    return __builtin_bswap64(value);
}

static inline void og_store16(uint8_t *p, uint16_t value)
{
    value = __builtin_bswap16(value);
    memcpy(p, &value, sizeof(value));
}

static inline void og_store32(uint8_t *p, uint32_t value)
{
    value = __builtin_bswap32(value);
    memcpy(p, &value, sizeof(value));
}

static inline void og_store64(uint8_t *p, uint64_t value)
{
    value = __builtin_bswap64(value);
    memcpy(p, &value, sizeof(value));
}

/* Eight bytes as they lie in memory: for comparing and masking addresses and locators, never for arithmetic. */
static inline uint64_t og_word(const uint8_t *p)
{
    uint64_t word;

    memcpy(&word, p, sizeof(word));
    return word;
}

static inline bool og_same_address(const uint8_t a[16], const uint8_t b[16])
{
    return ((og_word(a) ^ og_word(b)) | (og_word(a + 8) ^ og_word(b + 8))) == 0;
}

static inline bool og_same_locator(const uint8_t a[8], const uint8_t b[8])
{
    return og_word(a) == og_word(b);
}

#endif
