/* SPDX-License-Identifier: Apache-2.0
 *
 * An unknown flow: no pin, not a SYN. This router does not know where it lives; the servers do. The hunt asks them in
 * stages, the next one only when a Miss comes back, so that nothing is kept here meanwhile: which stage a packet is in
 * stands in the cookie it carries.
 */
#include "og_router_work.h"

#include "og_cookie.h"
#include "og_sid.h"

enum stage {
    STAGE_TABLE = 1, /* first and second pick of the table */
    STAGE_FINAL = 4, /* nobody knows it: delivered, and the server's kernel resets it */
};

#define MAX_ASKED 4

static bool is_in(const uint16_t *list, unsigned n, uint16_t id)
{
    for (unsigned i = 0; i < n; i++) {
        if (list[i] == id) {
            return true;
        }
    }
    return false;
}

static bool is_well(const struct og_moment *at, const struct og_work *work, uint16_t agent)
{
    const struct og_health *health = at->health;

    if (health == NULL) {
        return true;
    }
    return !__atomic_load_n(&health->agent_suspect[agent], __ATOMIC_RELAXED) &&
           !(__atomic_load_n(&health->agent_no_listener[agent], __ATOMIC_RELAXED) >> work->service & 1);
}

/* Whom to ask in stage 1: the picks for new flows, then those that would have been picked if none were suspect or
 * without listener: the flow may have started when they were well, and may live on there. They come last, so that one
 * that is really dead does not hide a living one; if it swallows the packet, the client sends it again, and there is no
 * reset before the dead one is out of the tables. When all is well, both lists are one. */
static unsigned asked(const struct og_moment *at, const struct og_work *work, uint16_t *agents)
{
    const uint16_t site = at->spec->own_site;
    uint16_t all[2];
    const unsigned n_all = og_tables_agents(at->tables, NULL, work->service, site, work->hash, all);
    unsigned n = 0, n_well = 0;

    while (n_well < n_all && is_well(at, work, all[n_well])) {
        n_well++;
    }
    if (n_well < n_all) {
        n = og_tables_agents(at->tables, at->health, work->service, site, work->hash, agents);
    }
    for (unsigned i = 0; i < n_all; i++) {
        if (!is_in(agents, n, all[i])) {
            agents[n++] = all[i];
        }
    }
    return n;
}

/* [.., own Steer, agents K, Miss]. A router that hunts for another one, whose Miss is ahead, leaves the rest to it. */
static enum og_verdict ask(const struct og_moment *at, struct og_work *work, enum stage stage, const uint16_t *agents,
                           unsigned n, enum og_verdict sent)
{
    const struct og_sid *ahead = work->function == OG_FN_STEER ? og_outer_ahead(&work->outer, 0) : NULL;
    struct og_path path;

    og_path_begin(at, work, stage, &path);
    for (unsigned i = 0; i < n; i++) {
        og_path_agent(at, work, &path, agents[i], OG_ACCEPT_K);
    }
    if (ahead != NULL) {
        path.segments[path.n_segments++] = *ahead;
    } else {
        og_path_sid(&path, at->spec->locator, OG_FN_MISS, work->argument);
    }
    return og_send_path(at, work, &path, sent);
}

/* Nobody asked knows the flow. The one who takes it now resets it: the client must not wait for a timeout. */
static enum og_verdict give_up(const struct og_moment *at, struct og_work *work)
{
    const uint16_t site = at->spec->own_site;
    uint16_t picks[2];

    if (og_tables_agents(at->tables, at->health, work->service, site, work->hash, picks) == 0 &&
        og_tables_agents(at->tables, NULL, work->service, site, work->hash, picks) == 0) {
        return OG_V_DROP_NO_TARGET;
    }
    og_budget_fail(&at->router->budget, work->hash, at->now_ns);
    return og_send_agent(at, work, picks[0], OG_ACCEPT_F, OG_V_HUNT_4);
}

static bool ends_after_first(const struct og_packet *packet)
{
    return packet->kind == OG_KIND_ICMP_ERROR || (packet->tcp_flags & (OG_TCP_RST | OG_TCP_FIN)) != 0;
}

/* The stage after `done`. What lies between the first and the last asks more servers, and is inserted here. */
static enum og_verdict next_stage(const struct og_moment *at, struct og_work *work, unsigned done)
{
    struct og_budget *budget = &at->router->budget;

    if (ends_after_first(&work->packet)) {
        return OG_V_DROP_HUNT_END;
    }
    if (done == STAGE_TABLE) {
        if (og_budget_failed(budget, work->hash, at->now_ns)) {
            return OG_V_DROP_HUNT_NEGATIVE;
        }
        if (!og_budget_take(budget, work->packet.flow.client, false, at->now_ns)) {
            return OG_V_DROP_HUNT_BUDGET;
        }
    }
    return give_up(at, work);
}

enum og_verdict og_hunt(const struct og_moment *at, struct og_work *work)
{
    uint16_t agents[MAX_ASKED];
    const unsigned n = asked(at, work, agents);

    return n > 0 ? ask(at, work, STAGE_TABLE, agents, n, OG_V_HUNT_1) : next_stage(at, work, STAGE_TABLE);
}

/* A packet for a pinned target that does not know the flow (the socket is gone): the agent sends it back without any
 * SRH. It may speak for its own pins only. The pin goes, and the hunt begins. */
static enum og_verdict miss_of_pin(const struct og_moment *at, struct og_work *work)
{
    struct og_pin *pin = og_work_pin(at, work);

    if (pin == NULL || work->source.agent == OG_NO_MEMBER || pin->target != work->source.agent) {
        return OG_V_DROP_NO_COOKIE;
    }
    og_pins_erase(&at->router->pins, pin);
    return og_hunt(at, work);
}

enum og_verdict og_miss(const struct og_moment *at, struct og_work *work)
{
    struct og_pin *pin;

    if (work->packet.kind == OG_KIND_UDP || work->packet.kind == OG_KIND_ECHO ||
        (work->packet.kind == OG_KIND_TCP && (work->packet.tcp_flags & OG_TCP_SYN))) {
        return OG_V_DROP_SEGMENTS; /* these are never asked about */
    }
    if (work->outer.srh == NULL) {
        return miss_of_pin(at, work);
    }
    if (work->own_cookie == NULL) {
        return OG_V_DROP_NO_COOKIE;
    }
    switch (og_cookie_check(&at->router->cookies, &work->packet.flow, at->spec->locator, work->own_cookie)) {
    case OG_COOKIE_WRONG:
        return OG_V_DROP_COOKIE;
    case OG_COOKIE_UNKNOWN:
        return og_hunt(at, work); /* asked by our predecessor, or long ago; the hop limit ends this */
    case OG_COOKIE_VALID:
        break;
    }
    pin = og_work_pin(at, work);
    if (pin != NULL && !ends_after_first(&work->packet)) {
        /* another packet of the flow found its server while this one was on its way */
        return og_send_target(at, work, pin->target, OG_V_PINNED);
    }
    return next_stage(at, work, og_cookie_flags(work->own_cookie) & OG_COOKIE_STAGE_MASK);
}
