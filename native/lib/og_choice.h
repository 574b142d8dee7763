/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a new flow goes: to servers of this site or to another one. The packet path and `ogctl why` ask the same function,
 * so what is explained is what is done.
 */
#ifndef OG_CHOICE_H
#define OG_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

#include "og_tables.h"

#define OG_SHARE_BITS 10
#define OG_SHARE_ALL (1u << OG_SHARE_BITS) /* this share takes every flow */

/* Which part of a service's new flows goes to another site, in 1/1024: by service index and site index. Written in place
 * while packets flow. */
struct og_shares {
    uint16_t share[OG_MAX_SERVICES][OG_MAX_SITES];
};

/* X(symbol, text). */
#define OG_REASONS(X)                                                                                                  \
    X(HERE, "no flows of this service leave")                                                                          \
    X(STAYS, "its bucket is not among those that leave")                                                               \
    X(SPILLED, "its bucket is within the share of another site")                                                       \
    X(NOT_ELIGIBLE, "its bucket is within the share of a site where no router says it can serve: stays")               \
    X(NO_SERVER, "no usable server here, another site can serve")                                                      \
    X(SUSPECT, "no usable server anywhere: those here that are merely suspect")                                        \
    X(LAST_RESORT, "no usable server anywhere: a site that does not say it can serve")                                 \
    X(NOBODY, "no server anywhere")

enum og_reason {
#define OG_X(symbol, text) OG_REASON_##symbol,
    OG_REASONS(OG_X)
#undef OG_X
        OG_REASON_COUNT
};

const char *og_reason_text(enum og_reason reason);

struct og_choice {
    enum og_reason reason;
    uint16_t bucket;   /* 0..1023 */
    uint16_t site;     /* index: own, or that of `router` */
    uint16_t router;   /* another site's, id; OG_NO_MEMBER = stays here */
    uint16_t n_picks;  /* of this site, also when another one is chosen */
    uint16_t picks[2]; /* ids */
};

/* `shares` NULL: nothing leaves by share. `local_only`: nothing leaves at all. `health` may be NULL. */
void og_choose(const struct og_tables *tables, const struct og_health *health, const struct og_shares *shares,
               unsigned service, bool local_only, uint64_t flow_hash, struct og_choice *choice);

#endif
