/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the library: what tables are made of, and where building and looking up meet: the cell of a key.
 *
 *   og_tables_check.c   is the description sound?
 *   og_tables_build.c   description to tables
 *   og_tables.c         look-ups per packet
 */
#ifndef OG_TABLES_FORM_H
#define OG_TABLES_FORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "og_encap.h"
#include "og_history.h"
#include "og_pins.h"
#include "og_ring.h"
#include "og_tables.h"

#define OG_SERVICE_CELLS 256u /* a power of two, four times OG_MAX_SERVICES */
#define OG_VIP_CELLS 256u
#define OG_HASH_FACTOR UINT64_C(0x9e3779b97f4a7c15) /* 2^64 / golden ratio: spreads configured values, no attacker's */

struct og_service_cell {
    uint64_t vip[2];
    uint32_t port_protocol; /* 0 = free */
    uint32_t index;
};

struct og_locator_cell {
    uint64_t locator; /* 0 = free */
    struct og_locator_role role;
};

struct og_prefix {
    uint64_t value[2];
    uint64_t mask[2];
};

struct og_tables {
    uint64_t serial;
    struct og_tables_spec spec; /* its lists point to copies of ours */
    struct og_pin_rules rules;
    struct og_service_cell services[OG_SERVICE_CELLS];
    struct og_service_cell vips[OG_VIP_CELLS];
    struct og_locator_cell *locators;
    uint32_t locator_mask;
    struct og_prefix sr_domain[16];
    bool vip_outside_sr_domain;            /* else one look-up fewer per packet */
    uint16_t router_place[OG_MAX_MEMBERS]; /* id -> place in the spec, or OG_NO_MEMBER */
    uint16_t agent_place[OG_MAX_MEMBERS];
    struct og_template *to_router, *to_agent; /* by place */
    struct og_ring *rings; /* all of them; the arrays below point into it. Services with the same agents share one. */
    size_t n_rings;
    const struct og_ring *router_ring[OG_MAX_SITES];
    const struct og_ring *agent_ring[OG_MAX_SERVICES][OG_MAX_SITES];
    og_history_list *histories[OG_MAX_SERVICES]; /* all of them */
    size_t n_histories;
    const og_history_list *history[OG_MAX_SERVICES]; /* by slot; points to one of them, or NULL */
    uint8_t spill[OG_MAX_SERVICES][OG_MAX_SITES];    /* the first n_spill are sites */
    uint8_t n_spill[OG_MAX_SERVICES];
};

static inline uint32_t og_port_protocol(uint16_t port, uint8_t protocol)
{
    return (uint32_t)port << 8 | protocol;
}

static inline uint32_t og_cell_of(uint64_t a, uint64_t b, uint64_t c)
{
    return (uint32_t)(((a * 3 + b * 5 + c * 7) * OG_HASH_FACTOR) >> 32);
}

static inline struct og_locator_cell *og_locator_cell(const struct og_tables *tables, uint64_t locator)
{
    uint32_t i = og_cell_of(locator, 0, 0) & tables->locator_mask;

    while (tables->locators[i].locator != 0 && tables->locators[i].locator != locator) {
        i = (i + 1) & tables->locator_mask;
    }
    return &tables->locators[i];
}

#endif
