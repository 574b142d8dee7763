/* SPDX-License-Identifier: Apache-2.0 */
#include "og_flow.h"

#include "og_siphash.h"

_Static_assert(sizeof(union og_flow) == 40, "the flow key is five words without padding");

uint64_t og_flow_hash(const struct og_seed *seed, const union og_flow *flow)
{
    return og_siphash_words(seed->k, flow->q, 5, 1, 3);
}

/* The external definition of the inline one, for callers that were not inlined and for tests. */
extern inline uint64_t og_hash_for(uint64_t flow_hash, enum og_hash_use use);
