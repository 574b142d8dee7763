/* SPDX-License-Identifier: Apache-2.0 */
#include "og_flow.h"

#include "og_siphash.h"

_Static_assert(sizeof(union og_flow) == 40, "the flow key is five words without padding");

uint64_t og_flow_hash(const struct og_seed *seed, const union og_flow *flow)
{
    return og_siphash_words(seed->k, flow->q, 5, 1, 3);
}

/* ---- several at once -----------------------------------------------------------------------------------------------
 * The rounds of og_siphash.h on vectors of 64-bit lanes, one flow per lane. The compiler splits the vectors into what the
 * instruction set has; the loader picks the widest variant that the machine runs. */

#define LANES 4
typedef uint64_t lanes __attribute__((vector_size(LANES * 8)));

#define ROTATE(x, bits) (((x) << (bits)) | ((x) >> (64 - (bits))))
#define ROUND                                                                                                          \
    do {                                                                                                               \
        v0 += v1;                                                                                                      \
        v2 += v3;                                                                                                      \
        v1 = ROTATE(v1, 13) ^ v0;                                                                                      \
        v3 = ROTATE(v3, 16) ^ v2;                                                                                      \
        v0 = ROTATE(v0, 32);                                                                                           \
        v2 += v1;                                                                                                      \
        v0 += v3;                                                                                                      \
        v1 = ROTATE(v1, 17) ^ v2;                                                                                      \
        v3 = ROTATE(v3, 21) ^ v0;                                                                                      \
        v2 = ROTATE(v2, 32);                                                                                           \
    } while (0)

__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"))) void
og_flow_hash_batch(const struct og_seed *seed, const struct og_flow_batch *batch, uint64_t hashes[OG_FLOW_BATCH],
                   unsigned n)
{
    const uint64_t k0 = seed->k[0], k1 = seed->k[1];

    for (unsigned i = 0; i < n; i += LANES) {
        lanes v0 = (lanes){0} + (k0 ^ UINT64_C(0x736f6d6570736575));
        lanes v1 = (lanes){0} + (k1 ^ UINT64_C(0x646f72616e646f6d));
        lanes v2 = (lanes){0} + (k0 ^ UINT64_C(0x6c7967656e657261));
        lanes v3 = (lanes){0} + (k1 ^ UINT64_C(0x7465646279746573));
        lanes m;

        for (unsigned word = 0; word < 5; word++) {
            __builtin_memcpy(&m, &batch->q[word][i], sizeof(m));
            v3 ^= m;
            ROUND;
            v0 ^= m;
        }
        m = (lanes){0} + (UINT64_C(40) << 56);
        v3 ^= m;
        ROUND;
        v0 ^= m;
        v2 ^= 0xff;
        ROUND;
        ROUND;
        ROUND;
        m = v0 ^ v1 ^ v2 ^ v3;
        __builtin_memcpy(&hashes[i], &m, sizeof(m));
    }
}

/* The external definition of the inline one, for callers that were not inlined and for tests. */
extern inline uint64_t og_hash_for(uint64_t flow_hash, enum og_hash_use use);
