/* SPDX-License-Identifier: Apache-2.0 */
#include "og_rate.h"

#include <string.h>

#include "og_bytes.h"
#include "og_siphash.h"

#define SECOND_NS UINT64_C(1000000000)

void og_rate_init(struct og_rate *rate, const uint64_t key[2], uint32_t per_s, uint32_t total_per_s)
{
    memset(rate, 0, sizeof(*rate));
    rate->key[0] = key[0];
    rate->key[1] = key[1];
    rate->interval_ns = SECOND_NS / per_s;
    rate->burst_ns = rate->interval_ns * (per_s - 1);
    rate->total_interval_ns = SECOND_NS / total_per_s;
    rate->total_burst_ns = rate->total_interval_ns * (total_per_s - 1);
}

/* The bucket of `source`, or the one of its set that was full longest ago, made its own. */
static struct og_rate_slot *bucket_of(struct og_rate *rate, uint64_t source)
{
    uint64_t hash = og_siphash_words(rate->key, &source, 1, 1, 3);
    struct og_rate_slot *set = rate->slots[hash % OG_RATE_SETS];
    struct og_rate_slot *oldest = &set[0];

    for (unsigned i = 0; i < OG_RATE_WAYS; i++) {
        if (set[i].source == source) {
            return &set[i];
        }
        if (set[i].full_ns < oldest->full_ns) {
            oldest = &set[i];
        }
    }
    *oldest = (struct og_rate_slot){.source = source};
    return oldest;
}

static bool has_token(uint64_t full_ns, uint64_t burst_ns, uint64_t now_ns)
{
    return full_ns <= now_ns + burst_ns;
}

static uint64_t take_token(uint64_t full_ns, uint64_t interval_ns, uint64_t now_ns)
{
    return (full_ns > now_ns ? full_ns : now_ns) + interval_ns;
}

bool og_rate_take_total(struct og_rate *rate, uint64_t now_ns)
{
    if (!has_token(rate->total_full_ns, rate->total_burst_ns, now_ns)) {
        return false;
    }
    rate->total_full_ns = take_token(rate->total_full_ns, rate->total_interval_ns, now_ns);
    return true;
}

void og_rate_give_back(struct og_rate *rate, const uint8_t source[16])
{
    struct og_rate_slot *slot = bucket_of(rate, og_word(source));

    slot->full_ns -= slot->full_ns > rate->interval_ns ? rate->interval_ns : slot->full_ns;
}

bool og_rate_take(struct og_rate *rate, const uint8_t source[16], uint64_t now_ns)
{
    struct og_rate_slot *slot = bucket_of(rate, og_word(source));

    if (!has_token(slot->full_ns, rate->burst_ns, now_ns) || !og_rate_take_total(rate, now_ns)) {
        return false;
    }
    slot->full_ns = take_token(slot->full_ns, rate->interval_ns, now_ns);
    return true;
}
