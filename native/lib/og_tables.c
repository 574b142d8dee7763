/* SPDX-License-Identifier: Apache-2.0 */
#include "og_tables_form.h"

#include "og_bytes.h"

static const struct og_health all_usable; /* health NULL */

const struct og_tables_spec *og_tables_spec(const struct og_tables *tables)
{
    return &tables->spec;
}

static const struct og_service_cell *find_service(const struct og_service_cell *cells, uint32_t n,
                                                  const uint8_t vip[16], uint32_t match)
{
    const uint64_t words[2] = {og_word(vip), og_word(vip + 8)};
    uint32_t i = og_cell_of(words[0], words[1], match) & (n - 1);

    for (; cells[i].port_protocol != 0; i = (i + 1) & (n - 1)) {
        if (cells[i].port_protocol == match && cells[i].vip[0] == words[0] && cells[i].vip[1] == words[1]) {
            return &cells[i];
        }
    }
    return NULL;
}

int og_tables_service(const struct og_tables *tables, const uint8_t vip[16], uint16_t port, uint8_t protocol)
{
    const uint32_t match = og_port_protocol(port, protocol);
    const struct og_service_cell *cell =
        match == 0 ? NULL : find_service(tables->services, OG_SERVICE_CELLS, vip, match);

    return cell == NULL ? -1 : (int)cell->index;
}

bool og_tables_is_vip(const struct og_tables *tables, const uint8_t address[16])
{
    return find_service(tables->vips, OG_VIP_CELLS, address, 1) != NULL;
}

bool og_tables_in_sr_domain(const struct og_tables *tables, const uint8_t address[16])
{
    const uint64_t high = og_word(address), low = og_word(address + 8);

    for (size_t i = 0; i < tables->spec.n_sr_domain; i++) {
        const struct og_prefix *prefix = &tables->sr_domain[i];

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
    const struct og_locator_cell *cell;

    if (og_word(locator) == 0) {
        return unknown;
    }
    cell = og_locator_cell(tables, og_word(locator));
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
