/* SPDX-License-Identifier: Apache-2.0 */
#include "og_history.h"

#include <stdlib.h>
#include <string.h>

#define PICKS 2u

/* A slot's list while it is made: first and second pick of today, then the earlier ones. */
typedef uint16_t draft[PICKS + OG_HISTORY_AGENTS];

static const uint8_t nobody_out[OG_MAX_MEMBERS];
static const uint64_t no_denials[OG_MAX_MEMBERS];
static const struct og_mask everybody = {nobody_out, no_denials, 0};

/* Append the picks that are not there yet. */
static void append(draft *drafts, uint32_t slots, const struct og_ring *ring)
{
    for (uint32_t slot = 0; slot < slots; slot++) {
        uint16_t picks[PICKS];
        const unsigned n = og_ring_pick(ring, slots, &everybody, slot, PICKS, picks);
        unsigned end = PICKS;

        while (end < PICKS + OG_HISTORY_AGENTS && drafts[slot][end] != OG_NO_MEMBER) {
            end++;
        }
        for (unsigned i = 0; i < n && end < PICKS + OG_HISTORY_AGENTS; i++) {
            if (!og_is_in(drafts[slot], end, picks[i])) {
                drafts[slot][end++] = picks[i];
            }
        }
    }
}

static bool same(const struct og_past *a, const struct og_past *b)
{
    return a->n_agents == b->n_agents && memcmp(a->agents, b->agents, a->n_agents * sizeof(*a->agents)) == 0;
}

/* Was this membership there before, nearer to today? Then it adds nothing. */
static bool is_repeated(const struct og_tables_spec *spec, size_t entry)
{
    for (size_t i = 0; i < entry; i++) {
        if (spec->history[i].service == spec->history[entry].service &&
            same(&spec->history[i], &spec->history[entry])) {
            return true;
        }
    }
    return false;
}

static bool append_past(draft *drafts, const struct og_tables_spec *spec, const struct og_past *past,
                        const struct og_member *const agents[OG_MAX_MEMBERS])
{
    struct og_maglev_member members[OG_MAX_MEMBERS];
    struct og_ring ring;
    uint16_t n = 0;
    bool ok;

    for (uint16_t i = 0; i < past->n_agents; i++) {
        const struct og_member *agent = agents[past->agents[i].id];

        if (agent != NULL && agent->site == spec->own_site && past->agents[i].weight > 0) {
            members[n++] = (struct og_maglev_member){agent->name, past->agents[i].weight, agent->id};
        }
    }
    ok = og_ring_build(&ring, spec->slots, members, n);
    if (ok) {
        append(drafts, spec->slots, &ring);
    }
    og_ring_free(&ring);
    return ok;
}

static draft *make_drafts(uint32_t slots, const struct og_ring *now)
{
    draft *drafts = malloc(slots * sizeof(*drafts));

    if (drafts == NULL) {
        return NULL;
    }
    memset(drafts, 0xff, slots * sizeof(*drafts)); /* OG_NO_MEMBER */
    for (uint32_t slot = 0; slot < slots; slot++) {
        og_ring_pick(now, slots, &everybody, slot, PICKS, drafts[slot]);
    }
    return drafts;
}

bool og_history_build(og_history_list **lists, const struct og_tables_spec *spec, size_t service,
                      const struct og_ring *now, const struct og_member *const agents[OG_MAX_MEMBERS])
{
    draft *drafts = NULL;
    bool ok = true;

    *lists = NULL;
    for (size_t i = 0; ok && i < spec->n_history; i++) {
        if (spec->history[i].service != service || is_repeated(spec, i)) {
            continue;
        }
        drafts = drafts != NULL ? drafts : make_drafts(spec->slots, now);
        ok = drafts != NULL && append_past(drafts, spec, &spec->history[i], agents);
    }
    if (ok && drafts != NULL) {
        *lists = malloc(spec->slots * sizeof(**lists));
        ok = *lists != NULL;
    }
    for (uint32_t slot = 0; ok && drafts != NULL && slot < spec->slots; slot++) {
        memcpy((*lists)[slot], &drafts[slot][PICKS], sizeof(**lists));
    }
    free(drafts);
    return ok;
}

/* The i-th entry of a service, or NULL. */
static const struct og_past *entry_of(const struct og_tables_spec *spec, size_t service, size_t number)
{
    for (size_t i = 0; i < spec->n_history; i++) {
        if (spec->history[i].service == service && number-- == 0) {
            return &spec->history[i];
        }
    }
    return NULL;
}

bool og_history_same(const struct og_tables_spec *spec, size_t service, size_t other)
{
    for (size_t i = 0;; i++) {
        const struct og_past *a = entry_of(spec, service, i), *b = entry_of(spec, other, i);

        if (a == NULL || b == NULL) {
            return a == b;
        }
        if (!same(a, b)) {
            return false;
        }
    }
}
