/* SPDX-License-Identifier: Apache-2.0 */
#include "og_choice.h"

static const char *const texts[OG_REASON_COUNT] = {
#define OG_X(symbol, text) [OG_REASON_##symbol] = text,
    OG_REASONS(OG_X)
#undef OG_X
};

const char *og_reason_text(enum og_reason reason)
{
    return texts[reason];
}

struct question {
    const struct og_tables *tables;
    const struct og_health *health;
    unsigned service;
    uint64_t flow_hash;
};

static bool take_router(struct og_choice *choice, uint16_t router, uint16_t site, enum og_reason reason)
{
    if (router == OG_NO_MEMBER) {
        return false;
    }
    choice->router = router;
    choice->site = site;
    choice->reason = reason;
    return true;
}

/* The site whose part of the buckets this flow's is in. True: it goes there. */
static bool by_share(const struct question *ask, const struct og_shares *shares, struct og_choice *choice)
{
    uint32_t end = 0;
    uint16_t site;

    for (unsigned i = 0; (site = og_tables_spill(ask->tables, ask->service, i)) != OG_NO_MEMBER; i++) {
        end += __atomic_load_n(&shares->share[ask->service][site], __ATOMIC_RELAXED);
        if (choice->bucket < end) {
            choice->reason = OG_REASON_NOT_ELIGIBLE;
            return take_router(choice,
                               og_tables_router_serving(ask->tables, ask->health, site, ask->service, ask->flow_hash),
                               site, OG_REASON_SPILLED);
        }
    }
    if (end > 0) {
        choice->reason = OG_REASON_STAYS;
    }
    return false;
}

/* The first site that can serve; with `hope`, one that has a router at least. */
static bool refuge(const struct question *ask, bool hope, struct og_choice *choice)
{
    uint16_t site;

    for (unsigned i = 0; (site = og_tables_spill(ask->tables, ask->service, i)) != OG_NO_MEMBER; i++) {
        const uint16_t router =
            hope ? og_tables_router_at(ask->tables, ask->health, site, ask->flow_hash)
                 : og_tables_router_serving(ask->tables, ask->health, site, ask->service, ask->flow_hash);

        if (take_router(choice, router, site, hope ? OG_REASON_LAST_RESORT : OG_REASON_NO_SERVER)) {
            return true;
        }
    }
    return false;
}

void og_choose(const struct og_tables *tables, const struct og_health *health, const struct og_shares *shares,
               unsigned service, bool local_only, uint64_t flow_hash, struct og_choice *choice)
{
    const struct question ask = {tables, health, service, flow_hash};
    const uint16_t own = og_tables_spec(tables)->own_site;

    *choice = (struct og_choice){
        .reason = OG_REASON_HERE,
        .bucket = (uint16_t)(og_hash_for(flow_hash, OG_USE_SPILL) >> (64 - OG_SHARE_BITS)),
        .site = own,
        .router = OG_NO_MEMBER,
    };
    choice->n_picks = (uint16_t)og_tables_agents(tables, health, service, own, flow_hash, choice->picks);
    if (!local_only && shares != NULL && by_share(&ask, shares, choice)) {
        return;
    }
    if (choice->n_picks > 0 || (!local_only && refuge(&ask, false, choice))) {
        return;
    }
    choice->n_picks = (uint16_t)og_tables_agents_suspected(tables, health, service, own, flow_hash, choice->picks);
    choice->reason = choice->n_picks > 0 ? OG_REASON_SUSPECT : OG_REASON_NOBODY;
    if (choice->n_picks == 0 && !local_only) {
        refuge(&ask, true, choice);
    }
}
