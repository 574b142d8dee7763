/* SPDX-License-Identifier: Apache-2.0 */
#include "og_maglev.h"

#include <stdlib.h>
#include <string.h>

#include "og_siphash.h"

#define NAME_WORDS 8 /* 64 bytes of a name count */

/* Public constants: the table is no secret and must be the same everywhere; flows are hashed with a secret key. */
static const uint64_t offset_key[2] = {UINT64_C(0x6f676d61676c6576), UINT64_C(0x6f66667365740000)};
static const uint64_t skip_key[2] = {UINT64_C(0x6f676d61676c6576), UINT64_C(0x736b697000000000)};

/* A member's walk through its permutation: offset, offset + skip, offset + 2 skip ... mod slots. */
struct walk {
    uint32_t next;
    uint32_t skip;
    uint64_t weight;
    uint64_t credit; /* a turn costs the largest weight */
    uint16_t value;
};

bool og_maglev_slots_ok(uint32_t slots)
{
    if (slots < 3 || slots > OG_MAGLEV_MAX_SLOTS || slots % 2 == 0) {
        return false;
    }
    for (uint32_t d = 3; d * d <= slots; d += 2) {
        if (slots % d == 0) {
            return false;
        }
    }
    return true;
}

static int by_name(const void *a, const void *b)
{
    const struct og_maglev_member *const *left = a;
    const struct og_maglev_member *const *right = b;

    return strcmp((*left)->name, (*right)->name);
}

static uint64_t name_hash(const uint64_t key[2], const char *name)
{
    uint64_t words[NAME_WORDS] = {0};
    const size_t len = strlen(name);

    memcpy(words, name, len < sizeof(words) ? len : sizeof(words));
    return og_siphash24(key, words, NAME_WORDS);
}

static struct walk walk_of(const struct og_maglev_member *member, uint32_t slots)
{
    return (struct walk){
        .next = (uint32_t)(name_hash(offset_key, member->name) % slots),
        .skip = (uint32_t)(name_hash(skip_key, member->name) % (slots - 1)) + 1,
        .weight = member->weight,
        .value = member->value,
    };
}

/* Take the next free slot of a member's permutation. A prime number of slots makes the walk meet every slot. The bitmap
 * (8 KiB at 65537 slots) stays in the first-level cache where the table itself would not. */
static void take_slot(uint16_t *table, uint64_t *taken, struct walk *walk, uint32_t slots)
{
    uint32_t slot;

    do {
        slot = walk->next;
        walk->next = slot >= slots - walk->skip ? slot - (slots - walk->skip) : slot + walk->skip;
    } while (taken[slot / 64] >> (slot % 64) & 1);
    taken[slot / 64] |= UINT64_C(1) << (slot % 64);
    table[slot] = walk->value;
}

/* Members take turns in canonical order; one with weight w gets w / heaviest of a turn per round (section 3.4's
 * suggestion for weights: alter the frequency of turns). */
static void fill(uint16_t *table, uint64_t *taken, struct walk *walks, size_t n, uint32_t slots)
{
    uint64_t heaviest = 0;
    uint32_t filled = 0;

    for (size_t i = 0; i < n; i++) {
        heaviest = walks[i].weight > heaviest ? walks[i].weight : heaviest;
    }
    for (;;) {
        for (size_t i = 0; i < n; i++) {
            walks[i].credit += walks[i].weight;
            if (walks[i].credit < heaviest) {
                continue;
            }
            walks[i].credit -= heaviest;
            take_slot(table, taken, &walks[i], slots);
            if (++filled == slots) {
                return;
            }
        }
    }
}

bool og_maglev_build(uint16_t *table, uint32_t slots, const struct og_maglev_member *members, size_t n_members)
{
    const struct og_maglev_member **order = calloc(n_members + 1, sizeof(const struct og_maglev_member *));
    struct walk *walks = calloc(n_members + 1, sizeof(*walks));
    uint64_t *taken = calloc(slots / 64 + 1, sizeof(*taken));
    bool ok = order != NULL && walks != NULL && taken != NULL;

    if (ok) {
        size_t n = 0;

        for (size_t i = 0; i < n_members; i++) {
            if (members[i].weight > 0) {
                order[n++] = &members[i];
            }
        }
        qsort(order, n, sizeof(const struct og_maglev_member *), by_name);
        for (size_t i = 0; i < n; i++) {
            walks[i] = walk_of(order[i], slots);
        }
        if (n == 0) {
            memset(table, 0xff, slots * sizeof(*table)); /* OG_MAGLEV_EMPTY */
        } else {
            fill(table, taken, walks, n, slots);
        }
    }
    free(order);
    free(walks);
    free(taken);
    return ok;
}
