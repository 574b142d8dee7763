/* SPDX-License-Identifier: Apache-2.0 */
#include "og_tables_form.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "og_bytes.h"
#include "og_sid.h"
#include "og_tables_check.h"

static const struct og_ring no_ring;
static uint64_t last_serial;

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

static void put_service(struct og_service_cell *cells, uint32_t n, const struct og_service *service, uint32_t match,
                        uint32_t index)
{
    const uint64_t vip[2] = {og_word(service->vip), og_word(service->vip + 8)};
    uint32_t i = og_cell_of(vip[0], vip[1], match) & (n - 1);

    while (cells[i].port_protocol != 0) {
        i = (i + 1) & (n - 1);
    }
    cells[i] = (struct og_service_cell){.vip = {vip[0], vip[1]}, .port_protocol = match, .index = index};
}

static void build_services(struct og_tables *tables)
{
    for (uint32_t i = 0; i < tables->spec.n_services; i++) {
        const struct og_service *service = &tables->spec.services[i];

        if (service->protocol == 0) {
            continue;
        }
        put_service(tables->services, OG_SERVICE_CELLS, service, og_port_protocol(service->port, service->protocol), i);
        if (!og_tables_is_vip(tables, service->vip)) {
            put_service(tables->vips, OG_VIP_CELLS, service, 1, i);
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

        tables->sr_domain[i] = (struct og_prefix){
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

static struct og_locator_role *add_locator(struct og_tables *tables, const uint8_t locator[8])
{
    struct og_locator_cell *cell = og_locator_cell(tables, og_word(locator));

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
