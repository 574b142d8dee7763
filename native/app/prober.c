/* SPDX-License-Identifier: Apache-2.0 */
#include "prober.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "og_icmp.h"
#include "og_parse.h"

void og_prober_init(struct og_prober *prober, uint8_t role, bool passive, struct og_health *health)
{
    memset(prober, 0, sizeof(*prober));
    prober->role = role;
    prober->passive = passive;
    prober->health = health;
}

/* Pins to agents are void, or rest: the routers look when the version grows. */
static void tell_pins(struct og_prober *prober)
{
    __atomic_store_n(&prober->health->version, prober->health->version + 1, __ATOMIC_RELEASE);
}

static void judge_dead(struct og_prober *prober, enum og_member_kind kind, unsigned id)
{
    struct og_target *target = &prober->targets[kind][id];
    struct og_health *health = prober->health;
    uint8_t *shown = kind == OG_MEMBER_AGENT ? &health->agent_dead[id] : &health->router_dead[id];

    target->dead = target->active && target->suspect && target->misses >= OG_PROBE_MISSES &&
                   (target->unreachable || target->given_up);
    if (*shown != target->dead) {
        __atomic_store_n(shown, target->dead, __ATOMIC_RELAXED);
        tell_pins(prober);
    }
}

/* What the packet path may use this member for. */
static void publish(struct og_prober *prober, enum og_member_kind kind, unsigned id)
{
    const struct og_target *target = &prober->targets[kind][id];
    const struct og_probe_self *last = &target->last;

    prober->changed = true;
    if (target->beside) {
        return;
    }
    judge_dead(prober, kind, id);
    if (kind == OG_MEMBER_ROUTER) {
        /* A router without tables drops everything. One that merely has no usable server still has its pins, and so
         * keeps its flows: it counts for the serving flag only. */
        const bool empty = target->replied && last->generation == 0;
        const bool refuses =
            !target->replied || !(last->flags & OG_PROBE_F_SERVING) || last->flags & OG_PROBE_F_DRAINING;
        uint64_t no_service = 0;

        /* A router sends new flows only where somebody has said that they can be served. */
        if (target->active && !prober->passive && prober->role == OG_ROLE_ROUTER) {
            no_service = refuses ? UINT64_MAX : ~last->listeners;
        }
        __atomic_store_n(&prober->health->router_no_service[id], no_service, __ATOMIC_RELAXED);

        __atomic_store_n(&prober->health->router_suspect[id], target->active && (target->suspect || empty),
                         __ATOMIC_RELAXED);
    } else {
        const bool refuses = !(last->flags & OG_PROBE_F_SERVING) || last->flags & OG_PROBE_F_DRAINING;
        uint64_t no_listener = 0;

        if (target->active && target->replied) {
            no_listener = refuses ? UINT64_MAX : ~last->listeners;
        }
        __atomic_store_n(&prober->health->agent_no_listener[id], no_listener, __ATOMIC_RELAXED);
        __atomic_store_n(&prober->health->agent_suspect[id], target->active && target->suspect, __ATOMIC_RELAXED);
    }
}

static void adopt(struct og_prober *prober, enum og_member_kind kind, const struct og_member *member,
                  bool serving_for_us, bool beside)
{
    struct og_target *target = &prober->targets[kind][member->id];

    if (memcmp(target->locator, member->locator, sizeof(member->locator)) != 0 || target->nonce_base == 0) {
        memset(target, 0, sizeof(*target)); /* somebody else under this id: nothing known of him */
        memcpy(target->locator, member->locator, sizeof(member->locator));
        /* Never blocks after boot; if it fails, late replies of an earlier process are still told apart by zero. */
        if (getrandom(&target->nonce_base, sizeof(target->nonce_base), 0) < 0 || target->nonce_base == 0) {
            target->nonce_base = 1;
        }
    }
    memcpy(target->name, member->name, sizeof(target->name));
    target->services = member->services;
    target->site = member->site;
    target->beside = beside;
    target->given_up = member->dead;
    target->serving_for_us = serving_for_us && member->weight > 0;
    target->active = true;
    prober->ids[kind][prober->n_ids[kind]++] = member->id;
}

/* The members of new tables. Those that stay keep what is known of them. */
static void adopt_tables(struct og_prober *prober, const struct og_tables *tables)
{
    const struct og_tables_spec *spec = og_tables_spec(tables);
    const bool router = prober->role == OG_ROLE_ROUTER;

    uint16_t before[OG_MEMBER_KINDS][OG_MAX_MEMBERS];
    unsigned n_before[OG_MEMBER_KINDS];

    for (unsigned kind = 0; kind < OG_MEMBER_KINDS; kind++) {
        for (unsigned i = 0; i < prober->n_ids[kind]; i++) {
            prober->targets[kind][prober->ids[kind][i]].active = false;
        }
    }
    memcpy(before, prober->ids, sizeof(before));
    memcpy(n_before, prober->n_ids, sizeof(n_before));
    memset(prober->n_ids, 0, sizeof(prober->n_ids));
    for (size_t i = 0; i < spec->n_routers; i++) {
        const struct og_member *member = &spec->routers[i];

        if (memcmp(member->locator, spec->locator, sizeof(spec->locator)) != 0) {
            adopt(prober, OG_MEMBER_ROUTER, member, !router, router && member->site == spec->own_site);
        }
    }
    for (size_t i = 0; i < spec->n_agents; i++) {
        if (router && spec->agents[i].site == spec->own_site) {
            adopt(prober, OG_MEMBER_AGENT, &spec->agents[i], true, false);
        }
    }
    for (unsigned kind = 0; kind < OG_MEMBER_KINDS; kind++) {
        for (unsigned i = 0; i < n_before[kind]; i++) {
            if (!prober->targets[kind][before[kind][i]].active) {
                memset(&prober->targets[kind][before[kind][i]], 0, sizeof(prober->targets[kind][0]));
            }
            publish(prober, kind, before[kind][i]);
        }
        for (unsigned i = 0; i < prober->n_ids[kind]; i++) {
            publish(prober, kind, prober->ids[kind][i]);
        }
    }
}

static void judge(struct og_target *target, bool discard)
{
    if (target->answered) {
        target->misses = 0;
    } else if (target->sent && !discard) {
        target->misses++;
        target->good = 0;
        if (target->misses >= OG_PROBE_MISSES) {
            target->suspect = true;
        }
    }
    target->answered = false;
}

bool og_prober_turn(struct og_prober *prober, const struct og_tables *tables, uint64_t version, uint64_t now_ns)
{
    if (prober->last_turn_ns && now_ns - prober->last_turn_ns > OG_PROBE_STALL_NS) {
        prober->discard = true;
    }
    prober->last_turn_ns = now_ns;
    if (!tables) {
        return false;
    }
    if (version != prober->version) {
        adopt_tables(prober, tables);
        prober->version = version;
        prober->changed = true;
    }
    if (prober->passive || now_ns < prober->next_round_ns) {
        return false;
    }
    prober->next_round_ns += OG_PROBE_INTERVAL_NS;
    if (prober->next_round_ns <= now_ns) {
        prober->next_round_ns = now_ns + OG_PROBE_INTERVAL_NS;
    }
    for (unsigned kind = 0; kind < OG_MEMBER_KINDS; kind++) {
        for (unsigned i = 0; i < prober->n_ids[kind]; i++) {
            judge(&prober->targets[kind][prober->ids[kind][i]], prober->discard);
            publish(prober, kind, prober->ids[kind][i]);
        }
    }
    prober->rounds++;
    prober->discarded += prober->discard;
    prober->discard = false;
    return true;
}

void og_prober_request(struct og_prober *prober, const struct og_tables *tables, enum og_member_kind kind, unsigned i,
                       uint8_t *out, uint64_t now_ns)
{
    const struct og_tables_spec *spec = og_tables_spec(tables);
    struct og_target *target = &prober->targets[kind][prober->ids[kind][i]];

    target->sequence++;
    target->sent = true;
    og_probe_request(out, spec->locator, target->locator, prober->role, spec->traffic_class_dscp,
                     (uint64_t)target->nonce_base << 16 | target->sequence, now_ns);
}

static struct og_target *find(struct og_prober *prober, uint64_t nonce, enum og_member_kind *kind_of, unsigned *id_of)
{
    for (unsigned kind = 0; kind < OG_MEMBER_KINDS; kind++) {
        for (unsigned i = 0; i < prober->n_ids[kind]; i++) {
            struct og_target *target = &prober->targets[kind][prober->ids[kind][i]];

            if (target->nonce_base == nonce >> 16 && (uint16_t)(target->sequence - (uint16_t)nonce) < OG_PROBE_WINDOW) {
                *kind_of = kind;
                *id_of = prober->ids[kind][i];
                return target;
            }
        }
    }
    return NULL;
}

void og_prober_reply(struct og_prober *prober, const uint8_t *data, uint32_t len, uint64_t now_ns)
{
    enum og_member_kind kind;
    struct og_probe_info info;
    struct og_target *target;
    struct og_outer outer;
    unsigned id;

    /* The library has parsed it before it gave its verdict; a reply handed over by another thread is parsed anew. */
    if (og_parse_outer(data, len, &outer) != OG_V_NONE || og_probe_parse(data, &outer, &info) != OG_V_NONE) {
        return;
    }
    target = find(prober, info.nonce, &kind, &id);
    if (!target || info.sent_ns > now_ns) {
        prober->strays++;
        return;
    }
    prober->replies++;
    if (!target->replied || target->last.incarnation != info.sender.incarnation) {
        target->incarnations++;
    }
    if (kind == OG_MEMBER_AGENT && target->replied && target->last.incarnation != info.sender.incarnation) {
        __atomic_store_n(&prober->health->agent_epoch[id], prober->health->agent_epoch[id] + 1, __ATOMIC_RELAXED);
        tell_pins(prober);
    }
    target->last = info.sender;
    target->rtt_ns = now_ns - info.sent_ns;
    target->replied = true;
    target->answered = true;
    target->misses = 0;
    target->unreachable = false;
    target->good++;
    if (target->good >= OG_PROBE_RECOVERY) {
        target->suspect = false;
    }
    publish(prober, kind, id);
}

void og_prober_fabric_error(struct og_prober *prober, const struct og_tables *tables, const uint8_t *data, uint32_t len)
{
    struct og_fabric_error error;
    struct og_outer outer;

    if (!tables || og_parse_outer(data, len, &outer) != OG_V_NONE ||
        og_fabric_error_parse(data, &outer, og_tables_spec(tables)->locator, &error) != OG_V_FABRIC_ERROR) {
        return;
    }
    for (unsigned kind = 0; kind < OG_MEMBER_KINDS; kind++) {
        for (unsigned i = 0; i < prober->n_ids[kind]; i++) {
            struct og_target *target = &prober->targets[kind][prober->ids[kind][i]];

            if (memcmp(target->locator, error.destination.locator, sizeof(target->locator)) != 0) {
                continue;
            }
            if (error.type == OG_ICMP_UNREACHABLE) {
                target->suspect = true;
                target->unreachable = error.code != OG_ICMP_PORT_UNREACHABLE; /* the host itself says that */
                target->good = 0;
            } else if (error.type == OG_ICMP_TOO_BIG) {
                target->mtu = error.mtu;
            }
            publish(prober, kind, prober->ids[kind][i]);
        }
    }
}

/* Can this member take a new connection? */
static bool usable(const struct og_prober *prober, enum og_member_kind kind, unsigned id)
{
    const struct og_target *target = &prober->targets[kind][id];

    if (prober->passive) {
        return target->serving_for_us;
    }
    if (!target->serving_for_us || !target->replied || target->suspect || !(target->last.flags & OG_PROBE_F_SERVING)) {
        return false;
    }
    return kind == OG_MEMBER_ROUTER ||
           (!(target->last.flags & OG_PROBE_F_DRAINING) && (target->last.listeners & target->services) != 0);
}

void og_prober_totals(const struct og_prober *prober, uint64_t *listeners, struct og_probe_load *load)
{
    *listeners = 0;
    *load = (struct og_probe_load){0};
    for (unsigned i = 0; i < prober->n_ids[OG_MEMBER_AGENT]; i++) {
        const unsigned id = prober->ids[OG_MEMBER_AGENT][i];
        const struct og_target *target = &prober->targets[OG_MEMBER_AGENT][id];

        if (usable(prober, OG_MEMBER_AGENT, id)) {
            *listeners |= target->services & (prober->passive ? UINT64_MAX : target->last.listeners);
        }
        if (target->replied && !target->suspect) {
            load->connections += target->last.load.connections;
            load->accepts_per_s += target->last.load.accepts_per_s;
            load->bytes_per_s += target->last.load.bytes_per_s;
        }
    }
}

bool og_prober_serving(const struct og_prober *prober)
{
    const enum og_member_kind kind = prober->role == OG_ROLE_ROUTER ? OG_MEMBER_AGENT : OG_MEMBER_ROUTER;

    for (unsigned i = 0; i < prober->n_ids[kind]; i++) {
        if (usable(prober, kind, prober->ids[kind][i])) {
            return true;
        }
    }
    return false;
}
