/* SPDX-License-Identifier: Apache-2.0 */
#include "og_tables.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "og_bytes.h"
#include "og_encap.h"
#include "og_history.h"
#include "og_pins.h"
#include "og_ring.h"
#include "og_sid.h"
#include "og_tables_check.h"

#define SERVICE_CELLS 256u /* a power of two, four times OG_MAX_SERVICES */
#define VIP_CELLS 256u
#define HASH_FACTOR UINT64_C(0x9e3779b97f4a7c15) /* 2^64 / golden ratio: spreads configured values, no attacker's */

struct service_cell {
    uint64_t vip[2];
    uint32_t port_protocol; /* 0 = free */
    uint32_t index;
};

struct locator_cell {
    uint64_t locator; /* 0 = free */
    struct og_locator_role role;
};

struct prefix {
    uint64_t value[2];
    uint64_t mask[2];
};

struct og_tables {
    uint64_t serial;
    struct og_tables_spec spec; /* its lists point to copies of ours */
    struct og_pin_rules rules;
    struct service_cell services[SERVICE_CELLS];
    struct service_cell vips[VIP_CELLS];
    struct locator_cell *locators;
    uint32_t locator_mask;
    struct prefix sr_domain[16];
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

static const struct og_health all_usable; /* health NULL */
static const struct og_ring no_ring;
static uint64_t last_serial;

/* ---- building ---------------------------------------------------------------------------------------------------- */

static void *copy_list(const void *list, size_t n, size_t size)
{
    void *copy = calloc(n + 1, size);

    if (copy != NULL && n > 0) {
        memcpy(copy, list, n * size);
    }
    return copy;
}

static bool copy_spec(struct og_tables *tables, const struct og_tables_spec *spec)
{
    struct og_tables_spec *own = &tables->spec;

    *own = *spec;
    own->history = NULL;
    own->n_history = 0;
    own->spill = NULL;
    own->n_spill = 0;
    own->services = copy_list(spec->services, spec->n_services, sizeof(*spec->services));
    own->routers = copy_list(spec->routers, spec->n_routers, sizeof(*spec->routers));
    own->agents = copy_list(spec->agents, spec->n_agents, sizeof(*spec->agents));
    own->gateways = copy_list(spec->gateways, spec->n_gateways, sizeof(*spec->gateways));
    return own->services != NULL && own->routers != NULL && own->agents != NULL && own->gateways != NULL;
}

static uint32_t port_protocol(uint16_t port, uint8_t protocol)
{
    return (uint32_t)port << 8 | protocol;
}

static uint32_t cell_of(uint64_t a, uint64_t b, uint64_t c)
{
    return (uint32_t)(((a * 3 + b * 5 + c * 7) * HASH_FACTOR) >> 32);
}

static void put_service(struct service_cell *cells, uint32_t n, const struct og_service *service, uint32_t match,
                        uint32_t index)
{
    const uint64_t vip[2] = {og_word(service->vip), og_word(service->vip + 8)};
    uint32_t i = cell_of(vip[0], vip[1], match) & (n - 1);

    while (cells[i].port_protocol != 0) {
        i = (i + 1) & (n - 1);
    }
    cells[i] = (struct service_cell){.vip = {vip[0], vip[1]}, .port_protocol = match, .index = index};
}

static void build_services(struct og_tables *tables)
{
    for (uint32_t i = 0; i < tables->spec.n_services; i++) {
        const struct og_service *service = &tables->spec.services[i];

        if (service->protocol == 0) {
            continue;
        }
        put_service(tables->services, SERVICE_CELLS, service, port_protocol(service->port, service->protocol), i);
        if (!og_tables_is_vip(tables, service->vip)) {
            put_service(tables->vips, VIP_CELLS, service, 1, i);
        }
        tables->rules.idle_s[i] = service->idle_s;
        tables->rules.closing_s[i] = service->closing_s;
        tables->rules.half_open_ms[i] = service->half_open_s * 1000;
    }
}

static uint64_t prefix_mask(unsigned bits)
{
    uint8_t bytes[8] = {0};

    for (unsigned i = 0; i < 64 && i < bits; i++) {
        bytes[i / 8] = (uint8_t)(bytes[i / 8] | 0x80 >> i % 8);
    }
    return og_word(bytes);
}

static void build_sr_domain(struct og_tables *tables)
{
    for (size_t i = 0; i < tables->spec.n_sr_domain; i++) {
        const uint8_t *prefix = tables->spec.sr_domain[i].prefix;
        const unsigned length = tables->spec.sr_domain[i].length;

        const uint64_t high = prefix_mask(length), low = prefix_mask(length > 64 ? length - 64 : 0);

        tables->sr_domain[i] = (struct prefix){
            .value = {og_word(prefix) & high, og_word(prefix + 8) & low},
            .mask = {high, low},
        };
    }
    for (size_t i = 0; i < tables->spec.n_services; i++) {
        const struct og_service *service = &tables->spec.services[i];

        if (service->protocol != 0 && !og_tables_in_sr_domain(tables, service->vip)) {
            tables->vip_outside_sr_domain = true;
        }
    }
}

static struct locator_cell *locator_cell(const struct og_tables *tables, uint64_t locator)
{
    uint32_t i = cell_of(locator, 0, 0) & tables->locator_mask;

    while (tables->locators[i].locator != 0 && tables->locators[i].locator != locator) {
        i = (i + 1) & tables->locator_mask;
    }
    return &tables->locators[i];
}

static struct og_locator_role *add_locator(struct og_tables *tables, const uint8_t locator[8])
{
    struct locator_cell *cell = locator_cell(tables, og_word(locator));

    if (cell->locator == 0) {
        cell->locator = og_word(locator);
        cell->role = (struct og_locator_role){false, OG_NO_MEMBER, OG_NO_MEMBER, OG_NO_MEMBER};
    }
    return &cell->role;
}

static bool build_locators(struct og_tables *tables)
{
    const struct og_tables_spec *spec = &tables->spec;
    size_t cells = 64;

    while (cells < 4 * (spec->n_routers + spec->n_agents + spec->n_gateways)) {
        cells *= 2;
    }
    tables->locators = calloc(cells, sizeof(*tables->locators));
    if (tables->locators == NULL) {
        return false;
    }
    tables->locator_mask = (uint32_t)cells - 1;
    for (size_t i = 0; i < spec->n_gateways; i++) {
        add_locator(tables, spec->gateways[i])->gateway = true;
    }
    for (size_t i = 0; i < spec->n_routers; i++) {
        struct og_locator_role *role = add_locator(tables, spec->routers[i].locator);

        role->gateway = true;
        role->router = spec->routers[i].id;
        role->site = spec->routers[i].site;
    }
    for (size_t i = 0; i < spec->n_agents; i++) {
        struct og_locator_role *role = add_locator(tables, spec->agents[i].locator);

        role->agent = spec->agents[i].id;
        role->site = spec->agents[i].site;
    }
    return true;
}

/* Envelopes of one segment for every member of a list; NULL when memory is short. */
static struct og_template *build_templates(const struct og_tables *tables, const struct og_member *members, size_t n,
                                           uint16_t function, uint16_t flags)
{
    const size_t bytes = (n + 1) * sizeof(struct og_template);
    struct og_template *templates = aligned_alloc(_Alignof(struct og_template), bytes);
    struct og_sid source;

    og_sid_set(&source, tables->spec.locator, OG_FN_ERRORS, 0);
    for (size_t i = 0; templates != NULL && i < n; i++) {
        struct og_path path = {.n_segments = 1};

        og_sid_set(&path.segments[0], members[i].locator, function, (uint64_t)flags << 32);
        og_template_build(&templates[i], &path, &source, 0);
    }
    return templates;
}

static bool build_members(struct og_tables *tables)
{
    const struct og_tables_spec *spec = &tables->spec;

    memset(tables->router_place, 0xff, sizeof(tables->router_place));
    memset(tables->agent_place, 0xff, sizeof(tables->agent_place));
    for (unsigned target = 0; target < OG_TARGETS; target++) {
        tables->rules.generation[target] = OG_PIN_NO_TARGET;
    }
    for (size_t i = 0; i < spec->n_routers; i++) {
        tables->router_place[spec->routers[i].id] = (uint16_t)i;
        tables->rules.generation[OG_TARGET_SITE + spec->routers[i].site] = 0;
    }
    for (size_t i = 0; i < spec->n_agents; i++) {
        tables->agent_place[spec->agents[i].id] = (uint16_t)i;
        tables->rules.generation[spec->agents[i].id] = spec->agents[i].generation;
    }
    tables->to_router = build_templates(tables, spec->routers, spec->n_routers, OG_FN_STEER, 0);
    tables->to_agent = build_templates(tables, spec->agents, spec->n_agents, OG_FN_ACCEPT, OG_ACCEPT_K);
    return tables->to_router != NULL && tables->to_agent != NULL;
}

/* The ring of those members that are at a site and (agents) serve a service. */
static const struct og_ring *ring_of(struct og_tables *tables, const struct og_member *members, size_t n_members,
                                     unsigned site, uint64_t service_bit)
{
    struct og_maglev_member chosen[OG_MAX_MEMBERS];
    uint16_t n = 0;

    for (size_t i = 0; i < n_members; i++) {
        const struct og_member *member = &members[i];

        if (member->site == site && member->weight > 0 && (service_bit == 0 || (member->services & service_bit) != 0)) {
            chosen[n++] = (struct og_maglev_member){member->name, member->weight, member->id};
        }
    }
    if (n == 0) {
        return &no_ring;
    }
    struct og_ring *ring = &tables->rings[tables->n_rings++];

    return og_ring_build(ring, tables->spec.slots, chosen, n) ? ring : NULL;
}

/* A service before this one with the same agents at this site: their ring is ours too. */
static const struct og_ring *shared_ring(const struct og_tables *tables, unsigned service, unsigned site)
{
    const struct og_tables_spec *spec = &tables->spec;

    for (unsigned other = 0; other < service; other++) {
        bool same = tables->agent_ring[other][site] != NULL;

        for (size_t i = 0; same && i < spec->n_agents; i++) {
            const uint64_t services = spec->agents[i].services;

            same = spec->agents[i].site != site || (services >> other & 1) == (services >> service & 1);
        }
        if (same) {
            return tables->agent_ring[other][site];
        }
    }
    return NULL;
}

static bool build_rings(struct og_tables *tables)
{
    const struct og_tables_spec *spec = &tables->spec;

    tables->rings = calloc(OG_MAX_SITES * (spec->n_services + 1), sizeof(*tables->rings));
    if (tables->rings == NULL) {
        return false;
    }
    for (unsigned site = 0; site < OG_MAX_SITES; site++) {
        tables->router_ring[site] = ring_of(tables, spec->routers, spec->n_routers, site, 0);
        if (tables->router_ring[site] == NULL) {
            return false;
        }
        for (unsigned service = 0; service < spec->n_services; service++) {
            const struct og_ring *ring = shared_ring(tables, service, site);

            if (ring == NULL) {
                ring = ring_of(tables, spec->agents, spec->n_agents, site, UINT64_C(1) << service);
            }
            if (ring == NULL) {
                return false;
            }
            tables->agent_ring[service][site] = ring;
        }
    }
    return true;
}

/* Services with the same agents and the same past share their history. */
static bool build_history(struct og_tables *tables, const struct og_tables_spec *spec)
{
    const struct og_member *agents[OG_MAX_MEMBERS];

    for (uint16_t id = 0; id < OG_MAX_MEMBERS; id++) {
        agents[id] = og_tables_agent_by_id(tables, id);
    }
    for (size_t service = 0; service < spec->n_services; service++) {
        const struct og_ring *ring = tables->agent_ring[service][spec->own_site];
        size_t other = 0;

        while (other < service &&
               !(tables->agent_ring[other][spec->own_site] == ring && og_history_same(spec, service, other))) {
            other++;
        }
        if (other < service) {
            tables->history[service] = tables->history[other];
            continue;
        }
        if (!og_history_build(&tables->histories[tables->n_histories], spec, service, ring, agents)) {
            return false;
        }
        tables->history[service] = tables->histories[tables->n_histories++];
    }
    return true;
}

static void build_spill(struct og_tables *tables, const struct og_tables_spec *spec)
{
    for (size_t i = 0; i < spec->n_spill; i++) {
        const uint16_t service = spec->spill[i].service;

        tables->spill[service][tables->n_spill[service]++] = (uint8_t)spec->spill[i].site;
    }
    for (unsigned service = 0; !spec->spill_listed && service < spec->n_services; service++) {
        tables->n_spill[service] = 0;
        for (unsigned site = 0; site < OG_MAX_SITES; site++) {
            if (site != spec->own_site) {
                tables->spill[service][tables->n_spill[service]++] = (uint8_t)site;
            }
        }
    }
}

struct og_tables *og_tables_build(const struct og_tables_spec *spec, char *error, size_t error_len)
{
    struct og_tables *tables;

    if (!og_tables_check(spec, error, error_len)) {
        return NULL;
    }
    tables = calloc(1, sizeof(*tables));
    if (tables == NULL || !copy_spec(tables, spec) || !build_locators(tables) || !build_members(tables) ||
        !build_rings(tables) || !build_history(tables, spec)) {
        if (error_len > 0) {
            snprintf(error, error_len, "out of memory");
        }
        og_tables_free(tables);
        return NULL;
    }
    build_services(tables);
    build_sr_domain(tables);
    build_spill(tables, spec);
    tables->serial = __atomic_add_fetch(&last_serial, 1, __ATOMIC_RELAXED);
    return tables;
}

void og_tables_free(struct og_tables *tables)
{
    if (tables == NULL) {
        return;
    }
    for (size_t i = 0; i < tables->n_rings; i++) {
        og_ring_free(&tables->rings[i]);
    }
    for (size_t i = 0; i < tables->n_histories; i++) {
        free(tables->histories[i]);
    }
    free(tables->rings);
    free(tables->to_router);
    free(tables->to_agent);
    free(tables->locators);
    free((void *)(uintptr_t)tables->spec.services);
    free((void *)(uintptr_t)tables->spec.routers);
    free((void *)(uintptr_t)tables->spec.agents);
    free((void *)(uintptr_t)tables->spec.gateways);
    free(tables);
}

const struct og_tables_spec *og_tables_spec(const struct og_tables *tables)
{
    return &tables->spec;
}

/* ---- per packet -------------------------------------------------------------------------------------------------- */

static const struct service_cell *find_service(const struct service_cell *cells, uint32_t n, const uint8_t vip[16],
                                               uint32_t match)
{
    const uint64_t words[2] = {og_word(vip), og_word(vip + 8)};
    uint32_t i = cell_of(words[0], words[1], match) & (n - 1);

    for (; cells[i].port_protocol != 0; i = (i + 1) & (n - 1)) {
        if (cells[i].port_protocol == match && cells[i].vip[0] == words[0] && cells[i].vip[1] == words[1]) {
            return &cells[i];
        }
    }
    return NULL;
}

int og_tables_service(const struct og_tables *tables, const uint8_t vip[16], uint16_t port, uint8_t protocol)
{
    const uint32_t match = port_protocol(port, protocol);
    const struct service_cell *cell = match == 0 ? NULL : find_service(tables->services, SERVICE_CELLS, vip, match);

    return cell == NULL ? -1 : (int)cell->index;
}

bool og_tables_is_vip(const struct og_tables *tables, const uint8_t address[16])
{
    return find_service(tables->vips, VIP_CELLS, address, 1) != NULL;
}

bool og_tables_in_sr_domain(const struct og_tables *tables, const uint8_t address[16])
{
    const uint64_t high = og_word(address), low = og_word(address + 8);

    for (size_t i = 0; i < tables->spec.n_sr_domain; i++) {
        const struct prefix *prefix = &tables->sr_domain[i];

        if ((high & prefix->mask[0]) == prefix->value[0] && (low & prefix->mask[1]) == prefix->value[1]) {
            return true;
        }
    }
    return false;
}

bool og_tables_source_refused(const struct og_tables *tables, const uint8_t source[16])
{
    return og_tables_in_sr_domain(tables, source) ||
           (tables->vip_outside_sr_domain && og_tables_is_vip(tables, source));
}

struct og_locator_role og_tables_locator(const struct og_tables *tables, const uint8_t locator[8])
{
    static const struct og_locator_role unknown = {false, OG_NO_MEMBER, OG_NO_MEMBER, OG_NO_MEMBER};
    const struct locator_cell *cell;

    if (og_word(locator) == 0) {
        return unknown;
    }
    cell = locator_cell(tables, og_word(locator));
    return cell->locator == 0 ? unknown : cell->role;
}

/* The flow's router at a site among those the mask lets through. */
static uint16_t pick_router(const struct og_tables *tables, const struct og_mask *mask, uint16_t site,
                            uint64_t flow_hash)
{
    const uint32_t slots = tables->spec.slots;
    uint16_t router;

    if (site >= OG_MAX_SITES ||
        og_ring_pick(tables->router_ring[site], slots, mask,
                     og_maglev_slot(og_hash_for(flow_hash, OG_USE_ROUTER), slots), 1, &router) == 0) {
        return OG_NO_MEMBER;
    }
    return router;
}

uint16_t og_tables_router_at(const struct og_tables *tables, const struct og_health *health, uint16_t site,
                             uint64_t flow_hash)
{
    const struct og_health *use = health != NULL ? health : &all_usable;
    const struct og_mask mask = {use->router_suspect, use->router_no_service, 0};

    return pick_router(tables, &mask, site, flow_hash);
}

uint16_t og_tables_router_serving(const struct og_tables *tables, const struct og_health *health, uint16_t site,
                                  unsigned service, uint64_t flow_hash)
{
    const struct og_health *use = health != NULL ? health : &all_usable;
    const struct og_mask mask = {use->router_suspect, use->router_no_service, UINT64_C(1) << (service & 63)};

    if (site >= OG_MAX_SITES || service >= tables->spec.n_services || tables->agent_ring[service][site]->n == 0) {
        return OG_NO_MEMBER;
    }
    return pick_router(tables, &mask, site, flow_hash);
}

uint16_t og_tables_router_living(const struct og_tables *tables, const struct og_health *health, uint16_t site,
                                 uint64_t flow_hash)
{
    const struct og_health *use = health != NULL ? health : &all_usable;
    const struct og_mask mask = {use->router_dead, use->router_no_service, 0};
    const uint16_t router = og_tables_router_at(tables, health, site, flow_hash);

    return router != OG_NO_MEMBER ? router : pick_router(tables, &mask, site, flow_hash);
}

uint16_t og_tables_spill(const struct og_tables *tables, unsigned service, unsigned i)
{
    return service < tables->spec.n_services && i < tables->n_spill[service] ? tables->spill[service][i] : OG_NO_MEMBER;
}

/* The first site with a router to offer: the own one, then the others in order. */
static uint16_t router_anywhere(const struct og_tables *tables, const struct og_health *health, uint64_t flow_hash)
{
    const uint16_t own = tables->spec.own_site;
    uint16_t router = og_tables_router_at(tables, health, own, flow_hash);

    for (uint16_t site = 0; router == OG_NO_MEMBER && site < OG_MAX_SITES; site++) {
        if (site != own) {
            router = og_tables_router_at(tables, health, site, flow_hash);
        }
    }
    return router;
}

uint32_t og_tables_router_slot(const struct og_tables *tables, uint64_t flow_hash)
{
    const struct og_ring *own = tables->router_ring[tables->spec.own_site];
    const uint32_t slot = og_maglev_slot(og_hash_for(flow_hash, OG_USE_ROUTER), tables->spec.slots);

    if (own->n > 0) {
        __builtin_prefetch(&own->slots[slot]);
    }
    return slot;
}

uint16_t og_tables_router_in_slot(const struct og_tables *tables, const struct og_health *health, uint32_t slot,
                                  uint64_t flow_hash)
{
    const struct og_ring *own = tables->router_ring[tables->spec.own_site];

    if (own->n > 0) { /* nearly every packet: its slot names a router that is usable */
        const uint16_t first = own->slots[slot];

        if (health == NULL || !__atomic_load_n(&health->router_suspect[first], __ATOMIC_RELAXED)) {
            return first;
        }
    }
    const uint16_t router = router_anywhere(tables, health, flow_hash);

    return router != OG_NO_MEMBER || health == NULL ? router : router_anywhere(tables, NULL, flow_hash);
}

uint16_t og_tables_router(const struct og_tables *tables, const struct og_health *health, uint64_t flow_hash)
{
    return og_tables_router_in_slot(tables, health, og_tables_router_slot(tables, flow_hash), flow_hash);
}

uint32_t og_tables_slot(const struct og_tables *tables, uint64_t flow_hash)
{
    return og_maglev_slot(og_hash_for(flow_hash, OG_USE_AGENT), tables->spec.slots);
}

unsigned og_tables_pick(const struct og_tables *tables, const struct og_health *health, enum og_pick pick,
                        unsigned service, uint16_t site, uint64_t flow_hash, unsigned wanted, uint16_t *picks)
{
    const struct og_health *use = health != NULL ? health : &all_usable;
    const bool trusting = pick == OG_PICK_LISTENING || pick == OG_PICK_LIVING;
    const bool listening = pick == OG_PICK_USABLE || pick == OG_PICK_LISTENING;
    const struct og_mask mask = {trusting ? use->agent_dead : use->agent_suspect, use->agent_no_listener,
                                 listening ? UINT64_C(1) << (service & 63) : 0};

    if (service >= tables->spec.n_services || site >= OG_MAX_SITES) {
        return 0;
    }
    return og_ring_pick(tables->agent_ring[service][site], tables->spec.slots, &mask, og_tables_slot(tables, flow_hash),
                        wanted, picks);
}

unsigned og_tables_agents(const struct og_tables *tables, const struct og_health *health, unsigned service,
                          uint16_t site, uint64_t flow_hash, uint16_t picks[2])
{
    return og_tables_pick(tables, health, OG_PICK_USABLE, service, site, flow_hash, 2, picks);
}

unsigned og_tables_agents_suspected(const struct og_tables *tables, const struct og_health *health, unsigned service,
                                    uint16_t site, uint64_t flow_hash, uint16_t picks[2])
{
    return og_tables_pick(tables, health, OG_PICK_LISTENING, service, site, flow_hash, 2, picks);
}

unsigned og_tables_history(const struct og_tables *tables, const struct og_health *health, unsigned service,
                           uint64_t flow_hash, uint16_t *agents)
{
    const struct og_health *use = health != NULL ? health : &all_usable;
    const uint16_t *list;
    unsigned n = 0;

    if (service >= tables->spec.n_services || tables->history[service] == NULL) {
        return 0;
    }
    list = tables->history[service][og_tables_slot(tables, flow_hash)];
    for (unsigned i = 0; i < OG_HISTORY_AGENTS && list[i] != OG_NO_MEMBER; i++) {
        if (!__atomic_load_n(&use->agent_dead[list[i]], __ATOMIC_RELAXED)) {
            agents[n++] = list[i];
        }
    }
    return n;
}

const struct og_member *og_tables_router_by_id(const struct og_tables *tables, uint16_t id)
{
    const uint16_t place = id < OG_MAX_MEMBERS ? tables->router_place[id] : OG_NO_MEMBER;

    return place == OG_NO_MEMBER ? NULL : &tables->spec.routers[place];
}

const struct og_member *og_tables_agent_by_id(const struct og_tables *tables, uint16_t id)
{
    const uint16_t place = id < OG_MAX_MEMBERS ? tables->agent_place[id] : OG_NO_MEMBER;

    return place == OG_NO_MEMBER ? NULL : &tables->spec.agents[place];
}

const struct og_template *og_tables_to_router(const struct og_tables *tables, uint16_t router)
{
    const uint16_t place = router < OG_MAX_MEMBERS ? tables->router_place[router] : OG_NO_MEMBER;

    return place == OG_NO_MEMBER ? NULL : &tables->to_router[place];
}

const struct og_template *og_tables_to_agent(const struct og_tables *tables, uint16_t agent)
{
    const uint16_t place = agent < OG_MAX_MEMBERS ? tables->agent_place[agent] : OG_NO_MEMBER;

    return place == OG_NO_MEMBER ? NULL : &tables->to_agent[place];
}

uint64_t og_tables_serial(const struct og_tables *tables)
{
    return tables->serial;
}

const struct og_pin_rules *og_tables_pin_rules(const struct og_tables *tables)
{
    return &tables->rules;
}
