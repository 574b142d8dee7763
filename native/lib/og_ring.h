/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the library: a Maglev table of one set of members, and picks from it.
 */
#ifndef OG_RING_H
#define OG_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "og_maglev.h"

struct og_ring {
    uint16_t *slots; /* ids */
    /* Those with a weight, in canonical order: the fallback when slots keep naming members that are out. */
    uint16_t *ids;
    uint16_t n;
};

/* Who must not be picked, by id. The prober writes these while they are read; each is one machine word, and yesterday's
 * answer is no worse than a packet that came a moment ago. */
struct og_mask {
    const uint8_t *out; /* not 0: out */
    const uint64_t *denials;
    uint64_t denial_bit; /* out as well: who has this bit in `denials`; 0 = nobody */
};

/* Members with a weight above 0, at most 65535; puts them into canonical order (by name). False when memory is short; the
 * ring can be freed in any case. */
bool og_ring_build(struct og_ring *ring, uint32_t n_slots, struct og_maglev_member *members, uint16_t n);
void og_ring_free(struct og_ring *ring);

/* The slot's member, then those of the slots that pi leads to, then one by one: up to `wanted` different ones that are
 * not out. Returns how many. The same slot and mask, the same picks. */
unsigned og_ring_pick(const struct og_ring *ring, uint32_t n_slots, const struct og_mask *mask, uint32_t slot,
                      unsigned wanted, uint16_t *picks);

static inline bool og_is_in(const uint16_t *list, unsigned n, uint16_t id)
{
    for (unsigned i = 0; i < n; i++) {
        if (list[i] == id) {
            return true;
        }
    }
    return false;
}

#endif
