/* SPDX-License-Identifier: Apache-2.0
 *
 * Cookies: a router's proof to itself that it sent this flow along this path. Keys are random per process, live for an
 * epoch of OG_COOKIE_EPOCH_S seconds and are valid for one more; they never leave the process. All threads of a router
 * share one set of keys, or have copies initialised alike: the key of an epoch is derived from the secret.
 */
#ifndef OG_COOKIE_H
#define OG_COOKIE_H

#include <stdint.h>

#include "og_flow.h"
#include "og_wire.h"

struct og_cookie_secret {
    uint64_t key[2];   /* from a random source, new at every start */
    uint64_t start_ns; /* of the first epoch, on the clock later passed as now_ns */
    uint16_t epoch0;   /* random first epoch and key id: a restarted router does not mistake its predecessor's */
    uint8_t key_id0;   /* cookies for its own */
};

struct og_cookie_key {
    uint64_t key[2];
    uint16_t epoch;
    uint8_t id;
};

struct og_cookie_keys {
    struct og_cookie_secret secret;
    uint64_t turn;               /* epochs since start */
    struct og_cookie_key key[2]; /* [turn & 1] is the current one, the other the previous */
};

enum og_cookie_result {
    OG_COOKIE_VALID,
    OG_COOKIE_UNKNOWN, /* another version, process, or an epoch that is over: forward without a pin */
    OG_COOKIE_WRONG,   /* a tag that this process did not make: drop */
};

void og_cookie_init(struct og_cookie_keys *keys, const struct og_cookie_secret *secret);

/* Change keys if the epoch is over. Once per burst. */
void og_cookie_tick(struct og_cookie_keys *keys, uint64_t now_ns);

/* `locator`: the router's own. `flags`: OG_COOKIE_STAGE_*. */
void og_cookie_make(const struct og_cookie_keys *keys, const union og_flow *flow, const uint8_t locator[8],
                    uint16_t flags, struct og_cookie *cookie);

enum og_cookie_result og_cookie_check(const struct og_cookie_keys *keys, const union og_flow *flow,
                                      const uint8_t locator[8], const struct og_cookie *cookie);

static inline uint16_t og_cookie_flags(const struct og_cookie *cookie)
{
    return (uint16_t)(cookie->flags[0] << 8 | cookie->flags[1]);
}

#endif
