/* SPDX-License-Identifier: Apache-2.0 */
#include "og_halfopen.h"

#include <string.h>

static struct og_halfopen_entry *set_of(const struct og_halfopen *table, uint64_t hash)
{
    return table->entries + (hash >> 32 & (table->sets - 1)) * OG_HALFOPEN_WAYS;
}

static bool is_used(const struct og_halfopen_entry *entry)
{
    return entry->target != OG_TARGET_NONE;
}

static bool is_key(const struct og_halfopen_entry *entry, const union og_pin_key *key)
{
    return is_used(entry) && entry->client[0] == key->q[0] && entry->client[1] == key->q[1] &&
           entry->port_service == key->d;
}

static bool is_over(const struct og_pin_rules *rules, const struct og_halfopen_entry *entry, uint32_t now_ms)
{
    const union og_pin_key key = {.d = entry->port_service};

    return now_ms - entry->made_ms > rules->half_open_ms[key.service & 63] ||
           !og_pin_generation_ok(rules, entry->target, entry->generation);
}

static bool reap(struct og_halfopen *table, const struct og_pin_rules *rules, struct og_halfopen_entry *entry,
                 uint32_t now_ms)
{
    if (!is_over(rules, entry, now_ms)) {
        return false;
    }
    table->expired++;
    og_halfopen_erase(table, entry);
    return true;
}

size_t og_halfopen_bytes(uint32_t capacity)
{
    return capacity * sizeof(struct og_halfopen_entry);
}

bool og_halfopen_init(struct og_halfopen *table, void *memory, uint32_t capacity)
{
    if (memory == NULL || (uintptr_t)memory % _Alignof(struct og_halfopen_entry) != 0 || capacity < OG_HALFOPEN_WAYS ||
        (capacity & (capacity - 1)) != 0) {
        return false;
    }
    *table = (struct og_halfopen){.entries = memory, .sets = capacity / OG_HALFOPEN_WAYS, .capacity = capacity};
    memset(memory, 0, og_halfopen_bytes(capacity));
    for (uint32_t i = 0; i < capacity; i++) {
        table->entries[i].target = OG_TARGET_NONE;
    }
    return true;
}

struct og_halfopen_entry *og_halfopen_find(struct og_halfopen *table, const struct og_pin_rules *rules,
                                           const union og_pin_key *key, uint64_t hash, uint32_t now_ms)
{
    struct og_halfopen_entry *set = set_of(table, hash);

    for (unsigned i = 0; i < OG_HALFOPEN_WAYS; i++) {
        if (is_key(&set[i], key)) {
            return reap(table, rules, &set[i], now_ms) || og_pin_target_rests(rules, set[i].target) ? NULL : &set[i];
        }
    }
    return NULL;
}

bool og_halfopen_peek(const struct og_halfopen *table, const struct og_pin_rules *rules, const union og_pin_key *key,
                      uint64_t hash, uint32_t now_ms, struct og_halfopen_entry *out)
{
    const struct og_halfopen_entry *set = set_of(table, hash);

    for (unsigned i = 0; i < OG_HALFOPEN_WAYS; i++) {
        *out = set[i];
        if (is_key(out, key)) {
            return !is_over(rules, out, now_ms);
        }
    }
    return false;
}

/* The entry of the key, else a free one, else the oldest. */
static struct og_halfopen_entry *place_for(struct og_halfopen *table, const union og_pin_key *key, uint64_t hash,
                                           uint32_t now_ms)
{
    struct og_halfopen_entry *set = set_of(table, hash);
    struct og_halfopen_entry *best = &set[0];

    for (unsigned i = 0; i < OG_HALFOPEN_WAYS; i++) {
        if (is_key(&set[i], key)) {
            return &set[i];
        }
    }
    for (unsigned i = 0; i < OG_HALFOPEN_WAYS; i++) {
        if (!is_used(&set[i])) {
            return &set[i];
        }
        if (now_ms - set[i].made_ms > now_ms - best->made_ms) {
            best = &set[i];
        }
    }
    table->overwritten++;
    return best;
}

struct og_halfopen_entry *og_halfopen_put(struct og_halfopen *table, const struct og_pin_rules *rules,
                                          const union og_pin_key *key, uint64_t hash, uint16_t target,
                                          uint32_t server_isn, uint32_t client_isn, uint32_t now_ms)
{
    struct og_halfopen_entry *entry;

    if (target >= OG_TARGETS || rules->generation[target] == OG_PIN_NO_TARGET) {
        return NULL;
    }
    entry = place_for(table, key, hash, now_ms);
    table->count += !is_used(entry);
    table->made++;
    *entry = (struct og_halfopen_entry){
        .client = {key->q[0], key->q[1]},
        .port_service = key->d,
        .made_ms = now_ms,
        .server_isn = server_isn,
        .client_isn = client_isn,
        .target = target,
        .generation = (uint16_t)rules->generation[target],
    };
    return entry;
}

void og_halfopen_erase(struct og_halfopen *table, struct og_halfopen_entry *entry)
{
    entry->target = OG_TARGET_NONE;
    table->count--;
}

void og_halfopen_sweep(struct og_halfopen *table, const struct og_pin_rules *rules, uint32_t sets, uint32_t now_ms)
{
    for (uint32_t i = 0; i < sets; i++) {
        struct og_halfopen_entry *set = table->entries + (size_t)table->cursor * OG_HALFOPEN_WAYS;

        for (unsigned way = 0; way < OG_HALFOPEN_WAYS; way++) {
            if (is_used(&set[way])) {
                reap(table, rules, &set[way], now_ms);
            }
        }
        table->cursor = (table->cursor + 1) & (table->sets - 1);
    }
}
