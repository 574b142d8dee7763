/* SPDX-License-Identifier: Apache-2.0
 *
 * Weighted Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4): a table of slots in which every member holds a
 * share close to its weight, and in which few slots change hands when a member comes or goes.
 *
 * The table is a function of the set of (name, weight) alone: members are put into canonical order (by name) first, so
 * every node that knows the same members computes the same table, whatever order it learned them in.
 */
#ifndef OG_MAGLEV_H
#define OG_MAGLEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OG_MAGLEV_EMPTY 0xffffu /* every slot of a table without members */
#define OG_MAGLEV_MAX_SLOTS 655373u

struct og_maglev_member {
    const char *name; /* unique in the table: where its permutation comes from */
    uint32_t weight;  /* relative; 0 = absent */
    uint16_t value;   /* what the slots hold; not OG_MAGLEV_EMPTY */
};

/* Fill `table[slots]`. `slots` must be prime and above 2 (og_maglev_slots_ok). False only when memory is short; the
 * table is unchanged then. */
bool og_maglev_build(uint16_t *table, uint32_t slots, const struct og_maglev_member *members, size_t n_members);

/* A prime number of slots in 3 .. OG_MAGLEV_MAX_SLOTS. */
bool og_maglev_slots_ok(uint32_t slots);

/* The slot of 64 well-mixed bits: multiply and shift, no division. */
static inline uint32_t og_maglev_slot(uint64_t hash, uint32_t slots)
{
    return (uint32_t)(((hash >> 32) * slots) >> 32);
}

/* The fixed permutation pi of the slots, by which second and later choices are found. Affine, so a bijection for every
 * prime number of slots; pi^i(slot) for i = 0, 1, 2 ... visits slots far from each other. */
static inline uint32_t og_maglev_next(uint32_t slot, uint32_t slots)
{
    return (uint32_t)(((uint64_t)slot * 40503u + 12289u) % slots);
}

#endif
