/* SPDX-License-Identifier: Apache-2.0 */
#include "og_pins.h"

#include <string.h>

static struct og_pin *line_of(const struct og_pins *pins, uint64_t line)
{
    return pins->slots + line * OG_PINS_SLOTS;
}

static uint64_t home_of(const struct og_pins *pins, uint64_t hash)
{
    return ((hash >> 32) * pins->lines) >> 32;
}

static uint64_t slots_of(const struct og_pins *pins)
{
    return (pins->lines + OG_PINS_WINDOW - 1) * OG_PINS_SLOTS;
}

static bool is_used(const struct og_pin *pin)
{
    return pin->state & OG_PIN_USED;
}

static bool is_key(const struct og_pin *pin, const union og_pin_key *key)
{
    return is_used(pin) && pin->client[0] == key->q[0] && pin->client[1] == key->q[1] && pin->port_service == key->d;
}

static unsigned service_of(const struct og_pin *pin)
{
    const union og_pin_key key = {.d = pin->port_service};

    return key.service & 63;
}

static bool is_void(const struct og_pin_rules *rules, const struct og_pin *pin)
{
    return !og_pin_generation_ok(rules, pin->target, (uint16_t)pin->generation) || rules->idle_s[service_of(pin)] == 0;
}

static bool is_expired(const struct og_pin_rules *rules, const struct og_pin *pin, uint32_t now_s)
{
    const uint32_t *limit = pin->state & OG_PIN_CLOSING ? rules->closing_s : rules->idle_s;

    return og_pin_idle(pin, now_s) > limit[service_of(pin)];
}

/* Erase if it no longer counts. */
static inline bool reap(struct og_pins *pins, const struct og_pin_rules *rules, struct og_pin *pin, uint32_t now_s)
{
    if (is_void(rules, pin)) {
        pins->stats.voided++;
    } else if (is_expired(rules, pin, now_s)) {
        pins->stats.expired++;
    } else {
        return false;
    }
    og_pins_erase(pins, pin);
    return true;
}

size_t og_pins_bytes(uint64_t capacity)
{
    return (size_t)(capacity + OG_PINS_WINDOW - 1) * OG_PINS_LINE;
}

bool og_pins_init(struct og_pins *pins, void *memory, uint64_t capacity)
{
    if (memory == NULL || (uintptr_t)memory % OG_PINS_LINE != 0 || capacity == 0 || capacity >> 32 != 0) {
        return false;
    }
    memset(memory, 0, og_pins_bytes(capacity));
    *pins = (struct og_pins){.slots = memory, .lines = capacity, .capacity = capacity};
    return true;
}

/* The slot of a key, whether it counts or not; with the number of lines read. */
static inline struct og_pin *locate(const struct og_pins *pins, const union og_pin_key *key, uint64_t hash,
                                    unsigned *lines)
{
    struct og_pin *line = line_of(pins, home_of(pins, hash));

    for (unsigned i = 0; i < OG_PINS_WINDOW; i++, line += OG_PINS_SLOTS) {
        for (unsigned s = 0; s < OG_PINS_SLOTS; s++) {
            if (is_key(&line[s], key)) {
                *lines = i + 1;
                return &line[s];
            }
        }
        if (line->passed == 0) {
            break;
        }
    }
    return NULL;
}

struct og_pin *og_pins_find(struct og_pins *pins, const struct og_pin_rules *rules, const union og_pin_key *key,
                            uint64_t hash, uint32_t now_s)
{
    unsigned lines;
    struct og_pin *pin = locate(pins, key, hash, &lines);

    pins->stats.lookups++;
    if (pin == NULL || reap(pins, rules, pin, now_s) || og_pin_target_rests(rules, pin->target)) {
        return NULL;
    }
    pins->stats.hits++;
    pins->stats.hit_lines += lines;
    return pin;
}

bool og_pins_rests(const struct og_pins *pins, const struct og_pin_rules *rules, const union og_pin_key *key,
                   uint64_t hash)
{
    unsigned lines;
    const struct og_pin *pin = locate(pins, key, hash, &lines);

    return pin != NULL && og_pin_target_rests(rules, pin->target) && !is_void(rules, pin);
}

/* Add `by` to the `passed` of the lines between a slot and its home. At most 30 pins can pass a line (two on each of
 * the 15 lines behind it that are still in reach), so 5 bits are enough. */
static void count_passed(struct og_pins *pins, const struct og_pin *pin, int by)
{
    const uint64_t line = (uint64_t)(pin - pins->slots) / OG_PINS_SLOTS;

    for (unsigned d = 1; d <= pin->displacement; d++) {
        struct og_pin *first = line_of(pins, line - d);
        first->passed = (uint32_t)((int)first->passed + by) & 0x1f;
    }
}

/* A closing pin stays for the last packets; its connection is no load any more. */
static bool is_open_to_site(const struct og_pin *pin)
{
    return pin->target >= OG_TARGET_SITE && (pin->state & OG_PIN_CLOSING) == 0;
}

void og_pins_erase(struct og_pins *pins, struct og_pin *pin)
{
    const struct og_pin empty = {.passed = pin->passed}; /* belongs to the line, not to the pin */

    count_passed(pins, pin, -1);
    pins->count--;
    pins->closing -= (pin->state & OG_PIN_CLOSING) != 0;
    pins->to_sites -= is_open_to_site(pin);
    *pin = empty;
}

/* The slot a new pin goes to, free when this returns: the first free one, else the first void or expired one, else the
 * oldest closing one, else the oldest. */
static struct og_pin *make_room(struct og_pins *pins, const struct og_pin_rules *rules, uint64_t home, uint32_t now_s)
{
    struct og_pin *window = line_of(pins, home);
    struct og_pin *oldest = NULL, *oldest_closing = NULL;

    for (unsigned i = 0; i < OG_PINS_WINDOW * OG_PINS_SLOTS; i++) {
        if (!is_used(&window[i])) {
            return &window[i];
        }
    }
    for (unsigned i = 0; i < OG_PINS_WINDOW * OG_PINS_SLOTS; i++) {
        struct og_pin *pin = &window[i];
        struct og_pin **rank = pin->state & OG_PIN_CLOSING ? &oldest_closing : &oldest;

        if (reap(pins, rules, pin, now_s)) {
            return pin;
        }
        if (*rank == NULL || og_pin_idle(pin, now_s) > og_pin_idle(*rank, now_s)) {
            *rank = pin;
        }
    }
    pins->stats.evictions++;
    oldest = oldest_closing != NULL ? oldest_closing : oldest;
    og_pins_erase(pins, oldest);
    return oldest;
}

struct og_pin *og_pins_put(struct og_pins *pins, const struct og_pin_rules *rules, const union og_pin_key *key,
                           uint64_t hash, uint16_t target, uint32_t isn, uint32_t now_s)
{
    const uint64_t home = home_of(pins, hash);
    struct og_pin *pin;
    unsigned lines;

    if (target >= OG_TARGETS || rules->generation[target] == OG_PIN_NO_TARGET) {
        return NULL;
    }
    pin = locate(pins, key, hash, &lines);
    if (pin != NULL && !reap(pins, rules, pin, now_s)) {
        pins->stats.updates++;
        pins->closing -= (pin->state & OG_PIN_CLOSING) != 0;
        pins->to_sites -= is_open_to_site(pin);
    } else {
        pin = make_room(pins, rules, home, now_s);
        pin->client[0] = key->q[0];
        pin->client[1] = key->q[1];
        pin->port_service = key->d;
        pin->displacement = ((uint64_t)(pin - pins->slots) / OG_PINS_SLOTS - home) & 0xf;
        count_passed(pins, pin, 1);
        pins->stats.inserts++;
        pins->count++;
    }
    pins->to_sites += target >= OG_TARGET_SITE;
    pin->target = target;
    pin->generation = (uint16_t)rules->generation[target];
    pin->isn = isn;
    pin->seen = now_s & OG_PIN_SEEN_MASK;
    pin->state = OG_PIN_USED;
    return pin;
}

void og_pins_close(struct og_pins *pins, struct og_pin *pin)
{
    pins->closing += (pin->state & OG_PIN_CLOSING) == 0;
    pins->to_sites -= is_open_to_site(pin);
    pin->state |= OG_PIN_CLOSING;
}

void og_pins_sweep(struct og_pins *pins, const struct og_pin_rules *rules, uint64_t lines, uint32_t now_s)
{
    const uint64_t slots = slots_of(pins);

    for (uint64_t i = 0; i < lines * OG_PINS_SLOTS; i++) {
        struct og_pin *pin = pins->slots + pins->cursor;

        if (is_used(pin)) {
            reap(pins, rules, pin, now_s);
        }
        pins->cursor = pins->cursor + 1 == slots ? 0 : pins->cursor + 1;
    }
}

bool og_pins_peek(const struct og_pins *pins, const struct og_pin_rules *rules, const union og_pin_key *key,
                  uint64_t hash, uint32_t now_s, struct og_pin *out)
{
    const struct og_pin *line = line_of(pins, home_of(pins, hash));

    for (unsigned i = 0; i < OG_PINS_WINDOW * OG_PINS_SLOTS; i++) {
        *out = line[i];
        if (is_key(out, key)) {
            return !is_void(rules, out) && !is_expired(rules, out, now_s);
        }
    }
    return false;
}

size_t og_pins_list(const struct og_pins *pins, uint64_t *cursor, struct og_pin *out, size_t max)
{
    const uint64_t slots = slots_of(pins);
    size_t n = 0;

    while (*cursor < slots && n < max) {
        out[n] = pins->slots[(*cursor)++];
        n += is_used(&out[n]);
    }
    if (*cursor >= slots) {
        *cursor = UINT64_MAX;
    }
    return n;
}
