/* SPDX-License-Identifier: Apache-2.0
 *
 * Token buckets per source /64 in a table of fixed size, and one for all of them together. A bucket is one time stamp
 * (the generic cell rate algorithm, ITU-T I.371): the moment at which it would be full again.
 */
#ifndef OG_RATE_H
#define OG_RATE_H

#include <stdbool.h>
#include <stdint.h>

#define OG_RATE_SETS 1024 /* 64 bytes each */
#define OG_RATE_WAYS 4

struct og_rate_slot {
    uint64_t source;  /* upper 8 bytes of the address as they lie in memory */
    uint64_t full_ns; /* 0 = never used */
};

struct og_rate {
    struct og_rate_slot slots[OG_RATE_SETS][OG_RATE_WAYS];
    uint64_t key[2]; /* places a source in a set: an attacker must not choose which buckets he pushes out */
    uint64_t interval_ns, burst_ns;             /* per source */
    uint64_t total_interval_ns, total_burst_ns; /* all sources: bounds what spoofed ones can get */
    uint64_t total_full_ns;
};

/* `per_s` and `total_per_s` messages a second; a burst of one second's worth is let through at once. Both > 0. */
void og_rate_init(struct og_rate *rate, const uint64_t key[2], uint32_t per_s, uint32_t total_per_s);

/* May this source have one more now? Takes a token if so. A source pushed out of its set starts with a full bucket; the
 * total bounds what that can be used for. */
bool og_rate_take(struct og_rate *rate, const uint8_t source[16], uint64_t now_ns);

/* The same for one who need not count as a source: the total alone. */
bool og_rate_take_total(struct og_rate *rate, uint64_t now_ns);

/* A token of the source's that it did not use after all. */
void og_rate_give_back(struct og_rate *rate, const uint8_t source[16]);

#endif
