/* SPDX-License-Identifier: Apache-2.0
 *
 * Network byte order, unaligned. Compilers make one instruction of each.
 */
#ifndef OG_BYTES_H
#define OG_BYTES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t og_load16(const uint8_t *p)
{
    return (uint16_t)((uint16_t)p[0] << 8 | p[1]);
}

static inline uint32_t og_load32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t og_load64(const uint8_t *p)
{
    return (uint64_t)og_load32(p) << 32 | og_load32(p + 4);
}

static inline void og_store16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static inline void og_store32(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)(value >> 24);
    p[1] = (uint8_t)(value >> 16);
    p[2] = (uint8_t)(value >> 8);
    p[3] = (uint8_t)value;
}

static inline void og_store64(uint8_t *p, uint64_t value)
{
    og_store32(p, (uint32_t)(value >> 32));
    og_store32(p + 4, (uint32_t)value);
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
