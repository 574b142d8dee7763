/* SPDX-License-Identifier: Apache-2.0 */
#include "og_budget.h"

#include <string.h>

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

void og_budget_init(struct og_budget *budget, const uint64_t key[2], uint64_t now_ns)
{
    memset(budget, 0, sizeof(*budget));
    budget->start_ns = now_ns;
    og_rate_init(&budget->local, key, OG_BUDGET_SOURCE_RATE, OG_BUDGET_START_RATE);
    og_rate_init(&budget->remote, key, OG_BUDGET_SOURCE_RATE, OG_BUDGET_START_RATE / OG_BUDGET_REMOTE_SHARE);
}

/* The start is over: the same buckets, a lower total rate. */
static void slow_down(struct og_rate *rate, uint32_t total_per_s)
{
    rate->total_interval_ns = NS_PER_S / total_per_s;
}

bool og_budget_take(struct og_budget *budget, const uint8_t client[16], bool remote, uint64_t now_ns)
{
    if (now_ns - budget->start_ns > OG_BUDGET_START_S * NS_PER_S) {
        slow_down(&budget->local, OG_BUDGET_RATE);
        slow_down(&budget->remote, OG_BUDGET_RATE / OG_BUDGET_REMOTE_SHARE);
    }
    struct og_rate *rate = remote ? &budget->remote : &budget->local;

    return client == NULL ? og_rate_take_total(rate, now_ns) : og_rate_take(rate, client, now_ns);
}

void og_budget_found(struct og_budget *budget, const uint8_t client[16], bool remote)
{
    og_rate_give_back(&budget->local, client);
    if (remote) {
        og_rate_give_back(&budget->remote, client);
    }
}

static unsigned negative_slot(uint64_t flow_hash)
{
    return flow_hash & (OG_BUDGET_NEGATIVE - 1);
}

void og_budget_fail(struct og_budget *budget, uint64_t flow_hash, uint64_t now_ns)
{
    const unsigned slot = negative_slot(flow_hash);

    budget->negative[slot].flow_hash = flow_hash;
    budget->negative[slot].until_ns = now_ns + OG_BUDGET_NEGATIVE_MS * NS_PER_MS;
}

bool og_budget_failed(const struct og_budget *budget, uint64_t flow_hash, uint64_t now_ns)
{
    const unsigned slot = negative_slot(flow_hash);

    return budget->negative[slot].flow_hash == flow_hash && now_ns < budget->negative[slot].until_ns;
}
