/* SPDX-License-Identifier: Apache-2.0
 *
 * What hunting may cost. Only flows no server knew at once get here (a Miss after stage 1), so the budgets bound what a
 * flood of random ACKs can make a router and its servers do; flows with a pin never meet them. Per thread, no locks,
 * bounded memory, no allocation. Over budget means drop and count, never a reset: the client's retransmit comes later.
 */
#ifndef OG_BUDGET_H
#define OG_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "og_rate.h"

#define OG_BUDGET_RATE 20000u        /* hunts per second and thread */
#define OG_BUDGET_START_RATE 200000u /* the same in the first seconds: after a restart every flow is unknown */
#define OG_BUDGET_START_S 30u
#define OG_BUDGET_REMOTE_SHARE 10u /* the other site gets a tenth */
#define OG_BUDGET_SOURCE_RATE 50u  /* per second and source /64 */
#define OG_BUDGET_NEGATIVE 4096u   /* flows whose hunt failed; a power of two */
#define OG_BUDGET_NEGATIVE_MS 2000u

struct og_budget {
    uint64_t start_ns;
    struct og_rate local, remote;
    struct {
        uint64_t flow_hash; /* all 64 keyed bits: a false hit costs one flow one packet, and cannot be aimed */
        uint64_t until_ns;  /* 0 = free */
    } negative[OG_BUDGET_NEGATIVE];
};

/* `key`: random; places sources in the rate tables. */
void og_budget_init(struct og_budget *budget, const uint64_t key[2], uint64_t now_ns);

/* May a hunt for this client go on at the own or at another site? Takes a token of the source's /64 and one of the
 * thread if so. `client` NULL: a flow that had a pin here. Nobody can forge one, so only the thread's budget counts: all
 * clients of a server that died learn it at once, also those behind one prefix. */
bool og_budget_take(struct og_budget *budget, const uint8_t client[16], bool remote, uint64_t now_ns);

/* The hunt found its server, `remote`: at another site, after it had asked this one in vain. The source's tokens, of both
 * sites then, were not wasted. So one that has many living flows is held up by its round trips, not by the rate, and one
 * whose hunts end in nothing is. */
void og_budget_found(struct og_budget *budget, const uint8_t client[16], bool remote);

/* The hunt for this flow ended without a server; og_budget_failed says so for OG_BUDGET_NEGATIVE_MS. Newest wins. */
void og_budget_fail(struct og_budget *budget, uint64_t flow_hash, uint64_t now_ns);
bool og_budget_failed(const struct og_budget *budget, uint64_t flow_hash, uint64_t now_ns);

#endif
