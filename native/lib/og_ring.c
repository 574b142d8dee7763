/* SPDX-License-Identifier: Apache-2.0 */
#include "og_ring.h"

#include <stdlib.h>
#include <string.h>

#define PICK_TRIES 8 /* steps of the permutation before members are tried one by one */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct og_maglev_member *)a)->name, ((const struct og_maglev_member *)b)->name);
}

bool og_ring_build(struct og_ring *ring, uint32_t n_slots, struct og_maglev_member *members, uint16_t n)
{
    *ring = (struct og_ring){.n = n};
    if (n == 0) {
        return true;
    }
    qsort(members, n, sizeof(*members), by_name);
    ring->slots = calloc(n_slots, sizeof(*ring->slots));
    ring->ids = calloc(n, sizeof(*ring->ids));
    if (ring->slots == NULL || ring->ids == NULL || !og_maglev_build(ring->slots, n_slots, members, n)) {
        return false;
    }
    for (uint16_t i = 0; i < n; i++) {
        ring->ids[i] = members[i].value;
    }
    return true;
}

void og_ring_free(struct og_ring *ring)
{
    free(ring->slots);
    free(ring->ids);
}

static bool is_usable(const struct og_mask *mask, uint16_t id)
{
    return !__atomic_load_n(&mask->out[id], __ATOMIC_RELAXED) &&
           !(__atomic_load_n(&mask->denials[id], __ATOMIC_RELAXED) & mask->denial_bit);
}

unsigned og_ring_pick(const struct og_ring *ring, uint32_t n_slots, const struct og_mask *mask, uint32_t slot,
                      unsigned wanted, uint16_t *picks)
{
    const uint32_t start = slot;
    unsigned n = 0;

    if (ring->n == 0) {
        return 0;
    }
    for (uint32_t i = 0; i < PICK_TRIES; i++) {
        const uint16_t id = ring->slots[slot];

        slot = og_maglev_next(slot, n_slots);
        if (!og_is_in(picks, n, id) && is_usable(mask, id)) {
            picks[n++] = id;
        }
        if (n == wanted) {
            return n;
        }
    }
    for (uint32_t i = 0, first = start % ring->n; i < ring->n && n < wanted; i++) {
        const uint16_t id = ring->ids[(first + i) % ring->n];

        if (!og_is_in(picks, n, id) && is_usable(mask, id)) {
            picks[n++] = id;
        }
    }
    return n;
}
