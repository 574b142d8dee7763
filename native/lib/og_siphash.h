/* SPDX-License-Identifier: Apache-2.0
 *
 * SipHash (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012) over whole 64-bit words. SipHash-1-3 hashes
 * flows, SipHash-2-4 signs cookies. Words are read in host order, which equals the reference's little-endian bytes on
 * every machine this builds for.
 */
#ifndef OG_SIPHASH_H
#define OG_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "SipHash words are little-endian");

struct og_sipstate {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t og_rotl64(uint64_t x, unsigned bits)
{
    return (x << bits) | (x >> (64 - bits));
}

static inline void og_sipround(struct og_sipstate *s)
{
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = og_rotl64(s->v1, 13) ^ s->v0;
    s->v3 = og_rotl64(s->v3, 16) ^ s->v2;
    s->v0 = og_rotl64(s->v0, 32);
    s->v2 += s->v1;
    s->v0 += s->v3;
    s->v1 = og_rotl64(s->v1, 17) ^ s->v2;
    s->v3 = og_rotl64(s->v3, 21) ^ s->v0;
    s->v2 = og_rotl64(s->v2, 32);
}

/* SipHash-c-d of n words (8 n bytes). With constant c, d and n the compiler unrolls all of it. */
static inline __attribute__((always_inline)) uint64_t og_siphash_words(const uint64_t key[2], const uint64_t *words,
                                                                       size_t n, unsigned c, unsigned d)
{
    struct og_sipstate s = {
        key[0] ^ UINT64_C(0x736f6d6570736575),
        key[1] ^ UINT64_C(0x646f72616e646f6d),
        key[0] ^ UINT64_C(0x6c7967656e657261),
        key[1] ^ UINT64_C(0x7465646279746573),
    };

    for (size_t i = 0; i <= n; i++) {
        uint64_t m = i < n ? words[i] : (uint64_t)(n * 8) << 56; /* the last word holds the length */
        s.v3 ^= m;
        for (unsigned r = 0; r < c; r++) {
            og_sipround(&s);
        }
        s.v0 ^= m;
    }
    s.v2 ^= 0xff;
    for (unsigned r = 0; r < d; r++) {
        og_sipround(&s);
    }
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

/* The same, out of line, for any n. */
uint64_t og_siphash13(const uint64_t key[2], const uint64_t *words, size_t n);
uint64_t og_siphash24(const uint64_t key[2], const uint64_t *words, size_t n);

#endif
