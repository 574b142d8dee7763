/* SPDX-License-Identifier: Apache-2.0
 *
 * A burst goes through in stages, each a loop over all packets: judge (parse, and all that ends here), hash (several
 * flows at once), fetch (the lines their pins are in), act (look up, rewrite, send). So the loads from memory of up to
 * OG_ROUTER_BURST packets overlap: one by one they cost ten times as much.
 */
#include "og_router.h"

#include <string.h>

#include "og_bytes.h"
#include "og_router_work.h"
#include "og_sid.h"

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define PREFETCH_AHEAD 4

_Static_assert(OG_ROUTER_BURST <= OG_FLOW_BATCH, "the flows of a burst are hashed at once");

/* House-keeping looks at every pin about once in SWEEP_PINS_S seconds, but never at more than a few lines per call. */
#define SWEEP_PINS_S 64u
#define SWEEP_HALFOPEN_S 4u
#define SWEEP_MOST 256u

bool og_router_init(struct og_router *router, const struct og_router_config *config, uint64_t now_ns)
{
    memset(router, 0, sizeof(*router));
    router->config = *config;
    if (config->threads == 0 || config->thread >= config->threads ||
        !og_pins_init(&router->pins, config->pins_memory, config->pins) ||
        !og_halfopen_init(&router->halfopen, config->halfopen_memory, config->halfopen)) {
        return false;
    }
    og_budget_init(&router->budget, config->key, now_ns);
    og_local_init(&router->local, config->key, &config->self);
    og_cookie_init(&router->cookies, &config->cookies);
    router->swept_ns = now_ns;
    return true;
}

/* What the tables say of targets, and what the prober has found since. */
static const struct og_pin_rules *rules_now(struct og_router *router, const struct og_tables *tables)
{
    const struct og_health *health = router->config.health;
    const uint32_t version = health != NULL ? __atomic_load_n(&health->version, __ATOMIC_ACQUIRE) : 0;

    if (router->rules_serial == og_tables_serial(tables) && router->rules_version == version) {
        return &router->rules;
    }
    router->rules = *og_tables_pin_rules(tables);
    for (unsigned id = 0; health != NULL && id < OG_MAX_MEMBERS; id++) {
        uint32_t *generation = &router->rules.generation[id];

        if (*generation != OG_PIN_NO_TARGET) {
            *generation = (uint16_t)(*generation + __atomic_load_n(&health->agent_epoch[id], __ATOMIC_RELAXED));
            *generation |= __atomic_load_n(&health->agent_dead[id], __ATOMIC_RELAXED) ? OG_PIN_RESTS : 0;
        }
    }
    router->rules_serial = og_tables_serial(tables);
    router->rules_version = version;
    return &router->rules;
}

static struct og_moment moment(struct og_router *router, const struct og_tables *tables, uint64_t now_ns)
{
    return (struct og_moment){
        .router = router,
        .tables = tables,
        .spec = og_tables_spec(tables),
        .rules = rules_now(router, tables),
        .health = router->config.health,
        .now_ns = now_ns,
        .now_s = (uint32_t)(now_ns / NS_PER_S),
        .now_ms = (uint32_t)(now_ns / NS_PER_MS),
    };
}

/* ---- look-ups shared by the parts -------------------------------------------------------------------------------- */

struct og_halfopen_entry *og_work_halfopen(const struct og_moment *at, const struct og_work *work)
{
    struct og_halfopen *table = &at->router->halfopen;
    struct og_halfopen_entry *entry = og_halfopen_find(table, at->rules, &work->key, work->pin_hash, at->now_ms);

    if (entry != NULL && work->local_only && og_work_is_away(at, entry->target)) {
        og_halfopen_erase(table, entry);
        return NULL;
    }
    return entry;
}

bool og_work_is_away(const struct og_moment *at, uint16_t target)
{
    const struct og_member *agent;

    if (og_target_is_site(target)) {
        return true;
    }
    agent = og_tables_agent_by_id(at->tables, target);
    return agent != NULL && agent->site != at->spec->own_site;
}

bool og_work_suspects(const struct og_moment *at, const struct og_work *work, uint16_t target)
{
    if (og_target_is_site(target)) {
        return og_tables_router_at(at->tables, at->health, (uint16_t)(target - OG_TARGET_SITE), work->hash) ==
               OG_NO_MEMBER;
    }
    return at->health != NULL && __atomic_load_n(&at->health->agent_suspect[target], __ATOMIC_RELAXED);
}

/* ---- stage 1: judge ---------------------------------------------------------------------------------------------- */

/* Most packets of a burst come from few nodes and are for one service: what the tables said last is compared before they
 * are asked again. Words 2 and 3 of a flow are the VIP, the upper part of word 4 its port and protocol. */
struct recall {
    uint64_t locator;
    struct og_locator_role source;
    uint64_t vip[2], port_protocol;
    uint16_t service;
};

/* The Steers travelled before ours, oldest first, each with its cookie. At Miss ours is among them, and those behind it
 * are of no interest. DROP_LOOP: at Steer more than two with ours, or ours for the second time. */
static enum og_verdict read_steers(const struct og_moment *at, struct og_work *work)
{
    const struct og_outer *outer = &work->outer;
    unsigned n = 0;

    for (unsigned i = outer->n_segments; i-- > outer->segments_left + 1u && work->own_cookie == NULL;) {
        const struct og_sid *sid = &outer->segments[i];

        if (og_sid_function(sid) != OG_FN_STEER) {
            continue;
        }
        if (n == OG_MAX_STEERS) {
            return OG_V_DROP_LOOP;
        }
        if (n == outer->n_cookies) {
            return OG_V_DROP_NO_COOKIE;
        }
        if (og_same_locator(sid->locator, at->spec->locator)) {
            work->own_cookie = outer->cookies[n];
        } else {
            work->local_only |= og_tables_locator(at->tables, sid->locator).site != at->spec->own_site;
            work->steers[n] = sid;
            work->steer_cookies[n] = outer->cookies[n];
            work->n_steers++;
        }
        n++;
    }
    return work->function == OG_FN_STEER && (work->own_cookie != NULL || n == OG_MAX_STEERS) ? OG_V_DROP_LOOP
                                                                                             : OG_V_NONE;
}

/* At Steer: from a gateway node, and what may lie ahead is the Miss of a router that hunts with our help. */
static enum og_verdict judge_steer(const struct og_moment *at, struct og_work *work)
{
    const struct og_sid *ahead = og_outer_ahead(&work->outer, 0);

    if (!work->source.gateway) {
        return OG_V_DROP_OUTER_SOURCE;
    }
    if (ahead != NULL && (og_sid_function(ahead) != OG_FN_MISS || work->outer.segments_left > 1 ||
                          og_tables_locator(at->tables, ahead->locator).router == OG_NO_MEMBER)) {
        return OG_V_DROP_SEGMENTS;
    }
    /* A pinned packet from the other site's router comes without SRH: its source tells. */
    work->local_only = work->source.router != OG_NO_MEMBER && work->source.site != at->spec->own_site;
    return work->outer.srh == NULL ? OG_V_NONE : read_steers(at, work);
}

/* At Miss: from an agent that did not know the flow, or in the name of the gateway node that asked it. */
static enum og_verdict judge_miss(const struct og_moment *at, struct og_work *work)
{
    if (!work->source.gateway && work->source.agent == OG_NO_MEMBER) {
        return OG_V_DROP_OUTER_SOURCE;
    }
    if (work->outer.segments_left > 0) {
        return OG_V_DROP_SEGMENTS;
    }
    return read_steers(at, work);
}

/* At Pin: from an agent, or from the router before us on the way back. */
static enum og_verdict judge_pin(struct og_work *work)
{
    const uint8_t cookie = work->outer.segments_left;

    if (!work->source.gateway && work->source.agent == OG_NO_MEMBER) {
        return OG_V_DROP_PIN_SOURCE;
    }
    work->own_cookie = cookie < work->outer.n_cookies ? work->outer.cookies[cookie] : NULL;
    return OG_V_NONE;
}

static enum og_verdict judge_outer(const struct og_moment *at, struct recall *recall, struct og_work *work)
{
    const uint64_t locator = og_word(work->outer.source->locator);

    if (locator != recall->locator) {
        recall->locator = locator;
        recall->source = og_tables_locator(at->tables, work->outer.source->locator);
    }
    work->source = recall->source;
    switch (work->function) {
    case OG_FN_STEER:
        return judge_steer(at, work);
    case OG_FN_PIN:
        return judge_pin(work);
    default:
        return judge_miss(at, work);
    }
}

static bool find_service(const struct og_moment *at, struct recall *recall, struct og_work *work)
{
    const union og_flow *flow = &work->packet.flow;
    const uint64_t port_protocol = flow->q[4] >> 16;

    if (((flow->q[2] ^ recall->vip[0]) | (flow->q[3] ^ recall->vip[1]) | (port_protocol ^ recall->port_protocol)) !=
        0) {
        const int service = og_tables_service(at->tables, flow->vip, flow->vip_port, flow->protocol);

        if (service < 0) {
            return false;
        }
        recall->vip[0] = flow->q[2];
        recall->vip[1] = flow->q[3];
        recall->port_protocol = port_protocol;
        recall->service = (uint16_t)service;
    }
    work->service = recall->service;
    return true;
}

/* The packet inside: the client's, or at Pin the server's. */
static enum og_verdict judge_inner(const struct og_moment *at, struct recall *recall, struct og_work *work)
{
    const uint8_t *inner = work->buf->data + work->outer.payload;
    const uint32_t len = work->outer.len - work->outer.payload;
    enum og_verdict verdict;

    if (work->outer.next_header != OG_NH_IPV6) {
        return OG_V_DROP_INNER;
    }
    verdict = work->function == OG_FN_PIN ? og_parse_server(inner, len, &work->packet)
                                          : og_parse_client(inner, len, &work->packet);
    if (verdict != OG_V_NONE) {
        return verdict;
    }
    return find_service(at, recall, work) ? OG_V_NONE : OG_V_DROP_INNER;
}

/* OG_V_NONE: `work` is ready for the next stage. */
static enum og_verdict judge(const struct og_moment *at, struct recall *recall, struct og_buf *buf,
                             struct og_work *work)
{
    enum og_verdict verdict = og_parse_outer(buf->data, buf->len, &work->outer);

    if (verdict != OG_V_NONE) {
        return verdict;
    }
    if (!og_same_locator(work->outer.destination->locator, at->spec->locator)) {
        return OG_V_DROP_NO_SERVICE;
    }
    work->buf = buf;
    work->function = og_sid_function(work->outer.destination);
    if (work->function != OG_FN_STEER && work->function != OG_FN_PIN && work->function != OG_FN_MISS) {
        og_buf_trim(buf, work->outer.len);
        return og_local_packet(&at->router->local, at->tables, buf, &work->outer, at->now_ns);
    }
    work->n_steers = 0;
    work->own_cookie = NULL;
    work->local_only = false;
    work->had_pin = false;
    verdict = judge_outer(at, recall, work);
    if (verdict == OG_V_NONE) {
        verdict = judge_inner(at, recall, work);
    }
    return verdict;
}

/* ---- stage 2: fetch ---------------------------------------------------------------------------------------------- */

/* What follows from the flow's hash; OG_V_HANDOFF if it is another thread's. */
static enum og_verdict fetch(struct og_router *router, struct og_work *work, uint64_t hash)
{
    const union og_flow *flow = &work->packet.flow;

    work->hash = hash;
    work->argument = og_flow_argument(hash);
    work->buf->owner = (uint16_t)((uint32_t)(work->argument >> 32) % router->config.threads);
    if (work->buf->owner != router->config.thread) {
        return OG_V_HANDOFF;
    }
    work->pin_hash = og_hash_for(hash, OG_USE_PIN);
    memcpy(work->key.client, flow->client, sizeof(work->key.client));
    work->key.client_port = flow->client_port;
    work->key.service = work->service;
    og_pins_prefetch(&router->pins, work->pin_hash);
    if (work->packet.tcp_flags & OG_TCP_SYN) {
        og_halfopen_prefetch(&router->halfopen, work->pin_hash);
    }
    return OG_V_NONE;
}

/* ---- stage 3: act ------------------------------------------------------------------------------------------------ */

static enum og_verdict act(const struct og_moment *at, struct og_work *work)
{
    switch (work->function) {
    case OG_FN_STEER:
        return og_steer(at, work);
    case OG_FN_PIN:
        return og_return(at, work);
    default:
        return og_miss(at, work);
    }
}

/* ---- the burst --------------------------------------------------------------------------------------------------- */

static void prefetch_packet(const struct og_buf *buf)
{
    __builtin_prefetch(buf->data, 1);
    __builtin_prefetch(buf->data + 64, 1);
}

static void burst(const struct og_moment *at, struct og_buf *const bufs[], size_t n)
{
    struct og_work works[OG_ROUTER_BURST];
    struct recall recall = {.source = og_tables_locator(at->tables, (const uint8_t[8]){0})};
    struct og_flow_batch flows;
    uint64_t hashes[OG_FLOW_BATCH];
    unsigned n_works = 0;

    for (size_t i = 0; i < n && i < PREFETCH_AHEAD; i++) {
        prefetch_packet(bufs[i]);
    }
    for (size_t i = 0; i < n; i++) {
        if (i + PREFETCH_AHEAD < n) {
            prefetch_packet(bufs[i + PREFETCH_AHEAD]);
        }
        bufs[i]->verdict = judge(at, &recall, bufs[i], &works[n_works]);
        if (bufs[i]->verdict == OG_V_NONE) {
            og_flow_batch_set(&flows, n_works, &works[n_works].packet.flow);
            n_works++;
        }
    }
    og_flow_hash_batch(&at->spec->flow_seed, &flows, hashes, n_works);
    for (unsigned i = 0; i < n_works; i++) {
        works[i].buf->verdict = fetch(at->router, &works[i], hashes[i]);
    }
    for (unsigned i = 0; i < n_works; i++) {
        if (works[i].buf->verdict == OG_V_NONE) {
            works[i].buf->verdict = act(at, &works[i]);
        }
    }
}

void og_router_burst(struct og_router *router, const struct og_tables *tables, struct og_buf *const bufs[], size_t n,
                     uint64_t now_ns)
{
    if (tables == NULL) {
        for (size_t i = 0; i < n; i++) {
            bufs[i]->verdict = OG_V_DROP_NO_TABLE;
        }
    } else {
        const struct og_moment at = moment(router, tables, now_ns);

        og_cookie_tick(&router->cookies, now_ns);
        for (size_t done = 0; done < n; done += OG_ROUTER_BURST) {
            burst(&at, bufs + done, n - done < OG_ROUTER_BURST ? n - done : OG_ROUTER_BURST);
        }
    }
    for (size_t i = 0; i < n; i++) {
        router->verdicts[bufs[i]->verdict]++;
    }
}

/* ---- house-keeping ----------------------------------------------------------------------------------------------- */

/* How many of `all` are due after `elapsed_ns` when each is to be visited once in `round_s` seconds. */
static uint64_t due(uint64_t all, uint64_t elapsed_ns, uint32_t round_s)
{
    const uint64_t n = all * (elapsed_ns / NS_PER_MS) / (round_s * UINT64_C(1000)) + 1;

    return n < SWEEP_MOST ? n : SWEEP_MOST;
}

void og_router_tick(struct og_router *router, const struct og_tables *tables, uint64_t now_ns)
{
    const uint64_t elapsed = now_ns - router->swept_ns;
    struct og_moment at;

    og_cookie_tick(&router->cookies, now_ns);
    if (tables == NULL || elapsed < NS_PER_MS) {
        return;
    }
    at = moment(router, tables, now_ns);
    og_pins_sweep(&router->pins, at.rules, due(router->pins.lines, elapsed, SWEEP_PINS_S), at.now_s);
    og_halfopen_sweep(&router->halfopen, at.rules, (uint32_t)due(router->halfopen.sets, elapsed, SWEEP_HALFOPEN_S),
                      at.now_ms);
    router->swept_ns = now_ns;
}
