/* SPDX-License-Identifier: Apache-2.0
 *
 * Pins: flow -> target, for established flows. One table per thread, never shared, no locks.
 *
 * 32-byte slots, two in a 64-byte line; the whole key is in the slot, so a hit on the home line touches one line of
 * memory. A key lives in one of OG_PINS_WINDOW adjacent lines from its home line on. Each line counts the pins that had
 * to pass it (`passed`), so a search ends at the first line nobody passed: a miss costs one line too, deleting leaves
 * no tombstones, and nothing is ever moved (a pointer from og_pins_find stays good until that pin is erased).
 *
 * A target dies in O(1): its generation in struct og_pin_rules changes, and all older pins to it count as absent. One that
 * may come back rests: its pins are not found, and are there again when it does.
 */
#ifndef OG_PINS_H
#define OG_PINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OG_PINS_SLOTS 2u   /* per line */
#define OG_PINS_WINDOW 16u /* lines a key may live in */
#define OG_PINS_LINE 64u   /* bytes */

/* Targets: an agent's id, or OG_TARGET_SITE + index of a site. */
#define OG_TARGET_SITE 1024u
#define OG_TARGETS (OG_TARGET_SITE + 16u)
#define OG_TARGET_NONE 0xffffu

/* States of a slot. CLOSING: the client sent FIN or RST. CONTESTED: a half-open entry of the same flow exists; the
 * reader has to look there first. */
#define OG_PIN_USED 0x1u
#define OG_PIN_CLOSING 0x2u
#define OG_PIN_CONTESTED 0x4u

union og_pin_key {
    struct {
        uint8_t client[16];
        uint16_t client_port; /* network byte order */
        uint16_t service;     /* index; stands for VIP, port and protocol */
    };
    struct {
        uint64_t q[2];
        uint32_t d;
    };
};

/* 32 bytes. `seen` is in seconds and wraps (20 bits: compare by difference, at most 6 days). */
struct og_pin {
    uint64_t client[2];
    uint32_t port_service; /* og_pin_key.d */
    uint16_t target;
    uint16_t generation;
    uint32_t seen : 20;
    uint32_t state : 3;
    uint32_t displacement : 4; /* lines from the home line */
    uint32_t passed : 5;       /* first slot of a line only: pins stored behind this line that had to pass it */
    uint32_t isn;              /* of the server: a repeated SYN-ACK is told from a new one */
};
_Static_assert(sizeof(struct og_pin) == 32, "two slots per 64-byte line");

#define OG_PIN_SEEN_MASK 0xfffffu
#define OG_PIN_IDLE_MAX_S (1u << 18) /* 3 days; keeps `seen` comparable when a sweep takes as long again */

/* What makes a pin void; built with the tables (og_tables_pin_rules). */
struct og_pin_rules {
    uint32_t idle_s[64]; /* by service index; 0 = no such service, its pins are void */
    uint32_t closing_s[64];
    uint32_t half_open_ms[64];
    uint32_t generation[OG_TARGETS]; /* current (16 bits) by target, with OG_PIN_RESTS; or OG_PIN_NO_TARGET */
};
#define OG_PIN_NO_TARGET 0xffffffffu
#define OG_PIN_RESTS 0x10000u /* a bit beside the generation */

/* Do pins of this generation to this target count, if the target does not rest? */
static inline bool og_pin_generation_ok(const struct og_pin_rules *rules, uint16_t target, uint16_t generation)
{
    const uint32_t now = rules->generation[target];

    return now == generation || (now & ~OG_PIN_RESTS) == generation;
}

static inline bool og_pin_target_rests(const struct og_pin_rules *rules, uint16_t target)
{
    return rules->generation[target] != OG_PIN_NO_TARGET && (rules->generation[target] & OG_PIN_RESTS);
}

struct og_pins_stats {
    uint64_t lookups, hits;
    uint64_t hit_lines; /* lines read by hits: hit_lines / hits is the mean */
    uint64_t inserts, updates;
    uint64_t evictions; /* live pins thrown out of a full window */
    uint64_t expired;   /* idle too long */
    uint64_t voided;    /* their target died, or the service went */
};

struct og_pins {
    struct og_pin *slots;
    uint64_t lines;    /* home lines, below 2^32; OG_PINS_WINDOW - 1 more follow */
    uint64_t capacity; /* advertised; slots = 2 per pin of it */
    uint64_t count, closing;
    uint64_t to_sites; /* of `count`: those to other sites that are not closing */
    uint64_t cursor;   /* next slot to sweep */
    struct og_pins_stats stats;
};

/* Bytes needed for `capacity` pins: 64 per pin (load factor 1/2) and one window. Alignment: OG_PINS_LINE. */
size_t og_pins_bytes(uint64_t capacity);

/* `memory` of og_pins_bytes(capacity) bytes, e.g. on 2 MiB pages; cleared here. False if it is not aligned. */
bool og_pins_init(struct og_pins *pins, void *memory, uint64_t capacity);

/* Bring the home line of a hash (OG_USE_PIN) near; call for a whole burst before the first og_pins_find. */
static inline void og_pins_prefetch(const struct og_pins *pins, uint64_t hash)
{
    const uint64_t line = ((hash >> 32) * pins->lines) >> 32;
    __builtin_prefetch(pins->slots + line * OG_PINS_SLOTS, 1);
}

/* The pin of a key, or NULL. A void or expired pin is erased on sight, one whose target rests is left alone. */
struct og_pin *og_pins_find(struct og_pins *pins, const struct og_pin_rules *rules, const union og_pin_key *key,
                            uint64_t hash, uint32_t now_s);

/* Does this key have a pin to a target that rests? */
bool og_pins_rests(const struct og_pins *pins, const struct og_pin_rules *rules, const union og_pin_key *key,
                   uint64_t hash);

/* Insert or replace. In a full window a void pin goes first, then the oldest closing one, then the oldest. NULL only
 * when the target has no generation (it is not in the tables). */
struct og_pin *og_pins_put(struct og_pins *pins, const struct og_pin_rules *rules, const union og_pin_key *key,
                           uint64_t hash, uint16_t target, uint32_t isn, uint32_t now_s);

void og_pins_erase(struct og_pins *pins, struct og_pin *pin);

/* The client sent FIN or RST. */
void og_pins_close(struct og_pins *pins, struct og_pin *pin);

/* Erase void and expired pins on the next `lines` lines; call with a few lines per poll loop. */
void og_pins_sweep(struct og_pins *pins, const struct og_pin_rules *rules, uint64_t lines, uint32_t now_s);

/* A packet of the flow was seen. Writes only when the second changed, so that a busy pin's line stays clean. */
static inline void og_pin_touch(struct og_pin *pin, uint32_t now_s)
{
    if (pin->seen != (now_s & OG_PIN_SEEN_MASK)) {
        pin->seen = now_s & OG_PIN_SEEN_MASK;
    }
}

/* Seconds since the last packet. */
static inline uint32_t og_pin_idle(const struct og_pin *pin, uint32_t now_s)
{
    return (now_s - pin->seen) & OG_PIN_SEEN_MASK;
}

/* For looking on from another thread: a copy of the key's pin. False if there is none that counts. As with og_pins_list,
 * the owner may write meanwhile. */
bool og_pins_peek(const struct og_pins *pins, const struct og_pin_rules *rules, const union og_pin_key *key,
                  uint64_t hash, uint32_t now_s, struct og_pin *out);

/* For listing: copies of used slots from `*cursor` (a slot number, 0 at first) on, at most `max`. The owner may write
 * meanwhile; a listing is a snapshot of nothing, but each copy names a flow that was there. Returns how many; *cursor
 * becomes UINT64_MAX at the end. */
size_t og_pins_list(const struct og_pins *pins, uint64_t *cursor, struct og_pin *out, size_t max);

#endif
