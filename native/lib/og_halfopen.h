/* SPDX-License-Identifier: Apache-2.0
 *
 * Half-open flows: a server answered (SYN-ACK, or the first datagram), the client has not confirmed yet. Bounded and
 * never allocating: sets of four entries by hash, the oldest of a full set is overwritten. So a flood of spoofed SYNs
 * costs one entry each for a few seconds and never a pin.
 */
#ifndef OG_HALFOPEN_H
#define OG_HALFOPEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "og_pins.h"

#define OG_HALFOPEN_WAYS 4u
#define OG_HALFOPEN_ENTRIES 65536u /* per thread, by default */

/* The client's first ACK is ISN + 1, unless the server sent data with or right after its SYN-ACK (TCP Fast Open,
 * RFC 7413): at most an initial window of 10 segments (RFC 6928). */
#define OG_HALFOPEN_ACK_WINDOW 16384u

struct og_halfopen_entry {
    uint64_t client[2];
    uint32_t port_service; /* og_pin_key.d */
    uint32_t made_ms;      /* wraps; compared by difference */
    uint32_t server_isn;
    uint32_t client_isn;
    uint16_t target; /* OG_TARGET_NONE = free */
    uint16_t generation;
    uint16_t promoted; /* became a pin; kept until it is old, to know a second server's SYN-ACK */
    uint16_t repeated; /* the client has sent its SYN again since: it may not have the SYN-ACK */
};

struct og_halfopen {
    struct og_halfopen_entry *entries;
    uint32_t sets; /* a power of two */
    uint32_t capacity;
    uint32_t cursor; /* next set to sweep */
    uint32_t count;  /* occupied, including those promoted */
    uint64_t made, overwritten, expired, promotions;
};

/* `capacity`: a power of two, at least OG_HALFOPEN_WAYS. */
size_t og_halfopen_bytes(uint32_t capacity);
bool og_halfopen_init(struct og_halfopen *table, void *memory, uint32_t capacity);

/* Bring the set of a hash (OG_USE_PIN) near: 160 bytes. */
static inline void og_halfopen_prefetch(const struct og_halfopen *table, uint64_t hash)
{
    const char *set = (const char *)(table->entries + (hash >> 32 & (table->sets - 1)) * OG_HALFOPEN_WAYS);

    __builtin_prefetch(set);
    __builtin_prefetch(set + 64);
    __builtin_prefetch(set + 128);
}

/* The entry of a key, or NULL when there is none, it is older than the service's half_open_ms, or its target died or
 * rests. */
struct og_halfopen_entry *og_halfopen_find(struct og_halfopen *table, const struct og_pin_rules *rules,
                                           const union og_pin_key *key, uint64_t hash, uint32_t now_ms);

/* Make or replace the entry of a key. NULL only when the target has no generation (it is not in the tables). */
struct og_halfopen_entry *og_halfopen_put(struct og_halfopen *table, const struct og_pin_rules *rules,
                                          const union og_pin_key *key, uint64_t hash, uint16_t target,
                                          uint32_t server_isn, uint32_t client_isn, uint32_t now_ms);

/* For looking on from another thread, which may read what is being written: a copy of the key's entry. */
bool og_halfopen_peek(const struct og_halfopen *table, const struct og_pin_rules *rules, const union og_pin_key *key,
                      uint64_t hash, uint32_t now_ms, struct og_halfopen_entry *out);

void og_halfopen_erase(struct og_halfopen *table, struct og_halfopen_entry *entry);

/* Does the client's acknowledgement number confirm this SYN-ACK? */
static inline bool og_halfopen_confirms(const struct og_halfopen_entry *entry, uint32_t ack)
{
    return ack - entry->server_isn - 1 < OG_HALFOPEN_ACK_WINDOW;
}

/* Free void and old entries in the next `sets` sets; keeps `count` honest. */
void og_halfopen_sweep(struct og_halfopen *table, const struct og_pin_rules *rules, uint32_t sets, uint32_t now_ms);

#endif
