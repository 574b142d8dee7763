/* SPDX-License-Identifier: Apache-2.0
 *
 * An unknown flow: no pin, not a SYN. This router does not know where it lives; the servers do. The hunt asks them in
 * stages, the next one only when a Miss comes back, so that nothing is kept here meanwhile: which stage a packet is in
 * stands in the cookie it carries. Nobody knows it: a server's kernel resets it.
 */
#include "og_router_work.h"

#include "og_cookie.h"
#include "og_ring.h"
#include "og_sid.h"

#define MAX_FIRST 4u /* stage 1: two picks for new flows, and two that would be if all were well */
#define MAX_ASKED OG_HISTORY_AGENTS

/* What the cookie says of a hunt. */
struct hunt {
    uint16_t stage;
    uint16_t site; /* stage 3: which one is asked */
    bool known;    /* the flow had a pin here */
    bool stays;    /* other sites are not asked */
};

static uint16_t flags_of(const struct hunt *hunt)
{
    return (uint16_t)(hunt->stage | (hunt->known ? OG_COOKIE_KNOWN : 0) | (hunt->stays ? OG_COOKIE_STAYS : 0) |
                      hunt->site << OG_COOKIE_SITE_SHIFT);
}

static struct hunt hunt_of(uint16_t flags)
{
    return (struct hunt){
        .stage = flags & OG_COOKIE_STAGE_MASK,
        .site = flags >> OG_COOKIE_SITE_SHIFT & (OG_MAX_SITES - 1),
        .known = flags & OG_COOKIE_KNOWN,
        .stays = flags & OG_COOKIE_STAYS,
    };
}

/* ---- whom to ask ------------------------------------------------------------------------------------------------- */

static bool is_well(const struct og_moment *at, const struct og_work *work, uint16_t agent)
{
    const struct og_health *health = at->health;

    if (health == NULL) {
        return true;
    }
    return !__atomic_load_n(&health->agent_suspect[agent], __ATOMIC_RELAXED) &&
           !(__atomic_load_n(&health->agent_no_listener[agent], __ATOMIC_RELAXED) >> work->service & 1);
}

static unsigned pick(const struct og_moment *at, const struct og_work *work, enum og_pick who, unsigned wanted,
                     uint16_t *agents)
{
    return og_tables_pick(at->tables, at->health, who, work->service, at->spec->own_site, work->hash, wanted, agents);
}

/* Stage 1: the picks for new flows, then those that would have been picked if none were suspect or without listener: the
 * flow may have started when they were well, and may live on there. They come last, so that one that is really dead, but
 * not yet known to be, does not hide a living one. When all is well, both lists are one. */
static unsigned first_agents(const struct og_moment *at, const struct og_work *work, uint16_t agents[MAX_FIRST])
{
    uint16_t all[2];
    const unsigned n_all = pick(at, work, OG_PICK_LIVING, 2, all);
    unsigned n = 0, n_well = 0;

    while (n_well < n_all && is_well(at, work, all[n_well])) {
        n_well++;
    }
    if (n_well < n_all) {
        n = pick(at, work, OG_PICK_USABLE, 2, agents);
    }
    for (unsigned i = 0; i < n_all; i++) {
        if (!og_is_in(agents, n, all[i])) {
            agents[n++] = all[i];
        }
    }
    return n;
}

/* Stage 2: who was first or second pick of the slot in earlier memberships, then who the table would pick next (the flow
 * may have begun while others were suspect). Not those of stage 1; suspects last. */
static unsigned earlier_agents(const struct og_moment *at, const struct og_work *work, uint16_t agents[MAX_ASKED])
{
    uint16_t first[MAX_FIRST], candidates[2 * OG_HISTORY_AGENTS];
    const unsigned n_first = first_agents(at, work, first);
    unsigned n_candidates = og_tables_history(at->tables, at->health, work->service, work->hash, candidates);
    unsigned n = 0;

    n_candidates += pick(at, work, OG_PICK_LIVING, OG_HISTORY_AGENTS, candidates + n_candidates);
    for (unsigned well = 2; well-- > 0;) {
        for (unsigned i = 0; i < n_candidates && n < MAX_ASKED; i++) {
            if (is_well(at, work, candidates[i]) == (well == 1) && !og_is_in(first, n_first, candidates[i]) &&
                !og_is_in(agents, n, candidates[i])) {
                agents[n++] = candidates[i];
            }
        }
    }
    return n;
}

/* ---- asking ------------------------------------------------------------------------------------------------------ */

/* [.., own Steer, agents K, Miss]: ours, or that of the router we hunt for, which is ahead. */
static enum og_verdict ask(const struct og_moment *at, struct og_work *work, const struct hunt *hunt,
                           const uint16_t *agents, unsigned n, enum og_verdict sent)
{
    const struct og_sid *ahead = work->function == OG_FN_STEER ? og_outer_ahead(&work->outer, 0) : NULL;
    struct og_path path;

    og_path_begin(at, work, flags_of(hunt), &path);
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

/* [own Steer, R'.Steer, own Miss]: R' asks its own. */
static enum og_verdict ask_router(const struct og_moment *at, struct og_work *work, const struct hunt *hunt,
                                  uint16_t router)
{
    struct og_path path;

    og_path_begin(at, work, flags_of(hunt), &path);
    og_path_sid(&path, og_tables_router_by_id(at->tables, router)->locator, OG_FN_STEER, work->argument);
    og_path_sid(&path, at->spec->locator, OG_FN_MISS, work->argument);
    return og_send_path(at, work, &path, OG_V_HUNT_3);
}

/* Agents of another site. Nobody here probes them, so all that are not known to be dead may be asked. */
static unsigned agents_at(const struct og_moment *at, const struct og_work *work, uint16_t site,
                          uint16_t agents[MAX_ASKED])
{
    return og_tables_pick(at->tables, at->health, OG_PICK_LIVING, work->service, site, work->hash, MAX_ASKED, agents);
}

static bool may_hunt(const struct og_moment *at, const struct og_work *work, const struct hunt *hunt, bool remote)
{
    const uint8_t *client = hunt->known ? NULL : work->packet.flow.client;

    return og_budget_take(&at->router->budget, client, remote, at->now_ns);
}

/* Stage 3, from a site on. OG_V_NONE: there is no further one. */
static enum og_verdict ask_sites(const struct og_moment *at, struct og_work *work, struct hunt *hunt, unsigned from)
{
    for (unsigned site = from; site < OG_MAX_SITES; site++) {
        uint16_t agents[MAX_ASKED];
        uint16_t router;
        unsigned n = 0;

        if (site == at->spec->own_site) {
            continue;
        }
        router = og_work_router_at(at, work, (uint16_t)site);
        if (router == OG_NO_MEMBER) {
            n = agents_at(at, work, (uint16_t)site, agents);
        }
        if (router == OG_NO_MEMBER && n == 0) {
            continue;
        }
        if (!may_hunt(at, work, hunt, true)) {
            return OG_V_DROP_HUNT_BUDGET;
        }
        hunt->stage = OG_STAGE_SITE;
        hunt->site = (uint16_t)site;
        return router != OG_NO_MEMBER ? ask_router(at, work, hunt, router)
                                      : ask(at, work, hunt, agents, n, OG_V_HUNT_3);
    }
    return OG_V_NONE;
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

/* An agent of a site that says it can serve. */
static bool usable_elsewhere(const struct og_moment *at, const struct og_work *work, uint16_t *agent)
{
    for (uint16_t site = 0; site < OG_MAX_SITES; site++) {
        if (site != at->spec->own_site &&
            og_tables_router_serving(at->tables, at->health, site, work->service, work->hash) != OG_NO_MEMBER &&
            og_tables_pick(at->tables, at->health, OG_PICK_LIVING, work->service, site, work->hash, 1, agent) > 0) {
            return true;
        }
    }
    return false;
}

/* Nobody asked knows the flow. The one who takes it now resets it: the client must not wait for a timeout. A host that
 * answers probes does so whether the service listens there or not. */
static enum og_verdict give_up(const struct og_moment *at, struct og_work *work, const struct hunt *hunt)
{
    uint16_t agent;

    if (pick(at, work, OG_PICK_USABLE, 1, &agent) == 0 && pick(at, work, OG_PICK_ANSWERING, 1, &agent) == 0 &&
        (hunt->stays || !usable_elsewhere(at, work, &agent)) && pick(at, work, OG_PICK_LIVING, 1, &agent) == 0) {
        return OG_V_DROP_NO_TARGET;
    }
    og_budget_fail(&at->router->budget, work->hash, at->now_ns);
    return og_send_agent(at, work, agent, OG_ACCEPT_F, OG_V_HUNT_4);
}

static bool ends_after_first(const struct og_packet *packet)
{
    return packet->kind == OG_KIND_ICMP_ERROR || (packet->tcp_flags & (OG_TCP_RST | OG_TCP_FIN)) != 0;
}

/* The client resets what it does not know: a server elsewhere kept an old connection of this flow, and answered the new
 * SYN for it (RFC 9293 section 3.5.1, half-open connections). Until the reset arrives where the SYN went, every SYN of the
 * flow ends so. */
static enum og_verdict reset_elsewhere(const struct og_moment *at, struct og_work *work, struct hunt *hunt)
{
    struct og_choice choice;
    enum og_verdict verdict = OG_V_NONE;

    if (hunt->stage <= OG_STAGE_TABLE && !hunt->stays && work->packet.kind == OG_KIND_TCP &&
        (work->packet.tcp_flags & OG_TCP_RST) != 0) {
        og_choose(at->tables, at->health, at->router->config.shares, work->service, false, work->hash, &choice);
        if (choice.router != OG_NO_MEMBER) {
            verdict = ask_sites(at, work, hunt, choice.site);
        }
    }
    return verdict != OG_V_NONE ? verdict : OG_V_DROP_HUNT_END;
}

/* The stage after hunt->stage, or a later one where there is nobody to ask. */
static enum og_verdict go_on(const struct og_moment *at, struct og_work *work, struct hunt *hunt)
{
    struct og_budget *budget = &at->router->budget;
    enum og_verdict verdict = OG_V_NONE;
    uint16_t agents[MAX_ASKED];
    unsigned n;

    if (ends_after_first(&work->packet)) {
        return reset_elsewhere(at, work, hunt);
    }
    if (hunt->stage <= OG_STAGE_TABLE) {
        if (og_budget_failed(budget, work->hash, at->now_ns)) {
            return OG_V_DROP_HUNT_NEGATIVE;
        }
        if (!may_hunt(at, work, hunt, false)) {
            return OG_V_DROP_HUNT_BUDGET;
        }
        n = earlier_agents(at, work, agents);
        if (n > 0) {
            hunt->stage = OG_STAGE_HISTORY;
            return ask(at, work, hunt, agents, n, OG_V_HUNT_2);
        }
    }
    if (!hunt->stays) {
        verdict = ask_sites(at, work, hunt, hunt->stage == OG_STAGE_SITE ? hunt->site + 1u : 0);
    }
    return verdict != OG_V_NONE ? verdict : give_up(at, work, hunt);
}

/* ---- from outside ------------------------------------------------------------------------------------------------ */

static enum og_verdict begin(const struct og_moment *at, struct og_work *work, bool known)
{
    struct hunt hunt = {.stage = OG_STAGE_TABLE, .known = known, .stays = work->local_only || work->n_steers > 0};
    uint16_t agents[MAX_FIRST];
    const unsigned n = first_agents(at, work, agents);

    return n > 0 ? ask(at, work, &hunt, agents, n, OG_V_HUNT_1) : go_on(at, work, &hunt);
}

enum og_verdict og_hunt(const struct og_moment *at, struct og_work *work)
{
    /* The Miss of another router is ahead also of an ICMPv6 error. */
    if (og_work_is_hunted_for(work)) {
        return og_hunt_for(at, work);
    }
    return begin(at, work, work->had_pin || og_pins_rests(&at->router->pins, at->rules, &work->key, work->pin_hash));
}

/* All in one list: the next Miss is the other router's. It has paid for the hunt from its budget. */
enum og_verdict og_hunt_for(const struct og_moment *at, struct og_work *work)
{
    const struct hunt hunt = {.stage = OG_STAGE_TABLE, .stays = true};
    const struct og_pin *pin = og_work_pin(at, work);
    const struct og_halfopen_entry *entry = pin == NULL ? og_work_halfopen(at, work) : NULL;
    uint16_t agents[1 + MAX_FIRST + MAX_ASKED], more[MAX_ASKED];
    unsigned n = 0, n_more;

    if (pin != NULL || entry != NULL) {
        agents[n++] = pin != NULL ? pin->target : entry->target;
    }
    if (n > 0 && og_work_is_away(at, agents[0])) {
        n = 0;
    }
    n_more = first_agents(at, work, more);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < n_more && n < MAX_ASKED; i++) {
            if (!og_is_in(agents, n, more[i])) {
                agents[n++] = more[i];
            }
        }
        n_more = earlier_agents(at, work, more);
    }
    return ask(at, work, &hunt, agents, n, OG_V_HUNT_FOR);
}

enum og_verdict og_hunt_site(const struct og_moment *at, struct og_work *work, uint16_t site)
{
    const struct hunt hunt = {.stage = OG_STAGE_SITE, .site = site, .known = true};
    uint16_t agents[MAX_ASKED];
    const unsigned n = agents_at(at, work, site, agents);

    return n > 0 ? ask(at, work, &hunt, agents, n, OG_V_HUNT_3) : OG_V_DROP_NO_TARGET;
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
    return begin(at, work, true);
}

/* Another packet of the flow may have found its server while this one was on its way. But a site whose servers were all
 * asked is not where the flow is. */
static struct og_pin *pin_found(const struct og_moment *at, struct og_work *work, const struct hunt *hunt)
{
    struct og_pin *pin = og_work_pin(at, work);

    if (pin != NULL && hunt->stage == OG_STAGE_SITE && pin->target == OG_TARGET_SITE + hunt->site) {
        og_pins_erase(&at->router->pins, pin);
        return NULL;
    }
    return pin;
}

enum og_verdict og_miss(const struct og_moment *at, struct og_work *work)
{
    const struct og_pin *pin;
    struct hunt hunt;

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
    hunt = hunt_of(og_cookie_flags(work->own_cookie));
    work->local_only |= hunt.stays;
    pin = pin_found(at, work, &hunt);
    if (pin != NULL && !ends_after_first(&work->packet)) {
        return og_send_target(at, work, pin->target, OG_V_PINNED);
    }
    return go_on(at, work, &hunt);
}
