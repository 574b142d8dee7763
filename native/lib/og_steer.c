/* SPDX-License-Identifier: Apache-2.0
 *
 * A client's packet at Steer.
 */
#include "og_router_work.h"

#include "og_sid.h"

/* ---- a SYN ------------------------------------------------------------------------------------------------------- */

/* A pin that is left of an earlier connection may be to a site that takes no new ones any more: it would drop the SYN, and
 * every repetition, for as long as the pin lasts. */
static bool takes_new(const struct og_moment *at, const struct og_work *work, uint16_t target)
{
    return !og_target_is_site(target) ||
           og_tables_router_serving(at->tables, at->health, (uint16_t)(target - OG_TARGET_SITE), work->service,
                                    work->hash) != OG_NO_MEMBER;
}

/* Whom to ask first: the server that answered a moment ago, else the pinned one. Not one that is suspect: if it is
 * dead, the new connection would wait for it in vain. */
static uint16_t known_target(const struct og_moment *at, struct og_work *work)
{
    const struct og_halfopen_entry *entry = og_work_halfopen(at, work);
    const struct og_pin *pin = og_work_pin(at, work);
    uint16_t target = OG_TARGET_NONE;

    if (entry != NULL && (!entry->promoted || pin == NULL)) {
        target = entry->target;
    } else if (pin != NULL && takes_new(at, work, pin->target)) {
        target = pin->target;
    }
    return target == OG_TARGET_NONE || og_work_suspects(at, work, target) ? OG_TARGET_NONE : target;
}

/* [.., own Steer, R'.Steer]: that router picks among its own. */
static enum og_verdict offer_site(const struct og_moment *at, struct og_work *work, uint16_t router_id,
                                  enum og_verdict sent)
{
    const struct og_member *router = og_tables_router_by_id(at->tables, router_id);
    struct og_path path;

    if (router == NULL) {
        return OG_V_DROP_NO_TARGET;
    }
    og_path_begin(at, work, 0, &path);
    og_path_sid(&path, router->locator, OG_FN_STEER, work->argument);
    return og_send_path(at, work, &path, sent);
}

/* Where a new flow goes. One whose server is known does not leave by share. */
static void choose(const struct og_moment *at, const struct og_work *work, bool known, struct og_choice *choice)
{
    og_choose(at->tables, at->health, known ? NULL : at->router->config.shares, work->service, work->local_only,
              work->hash, choice);
}

static enum og_verdict verdict_of(const struct og_choice *choice)
{
    return choice->reason == OG_REASON_SPILLED ? OG_V_SPILLED : OG_V_OFFERED_SITE;
}

/* [.., own Steer, target K, c1 N, c2 N+LAST]. An N asks "known?" first, too: the target need not stand twice. */
static enum og_verdict offer_agents(const struct og_moment *at, struct og_work *work, uint16_t target,
                                    const uint16_t *picks, unsigned n)
{
    struct og_path path;

    og_path_begin(at, work, 0, &path);
    if (target != OG_TARGET_NONE && (n == 0 || target != picks[0])) {
        og_path_agent(at, work, &path, target, OG_ACCEPT_K);
    }
    for (unsigned i = 0; i < n; i++) {
        og_path_agent(at, work, &path, picks[i], i + 1 < n ? OG_ACCEPT_N : OG_ACCEPT_N | OG_ACCEPT_LAST);
    }
    return og_send_path(at, work, &path, target != OG_TARGET_NONE ? OG_V_OFFERED_PINNED : OG_V_OFFERED);
}

static enum og_verdict steer_syn(const struct og_moment *at, struct og_work *work)
{
    const uint16_t target = known_target(at, work);
    struct og_halfopen_entry *entry = og_work_halfopen(at, work);
    struct og_choice choice;

    if (entry != NULL && entry->client_isn == work->packet.seq) {
        entry->repeated = 1;
    }
    if (og_target_is_site(target)) {
        return offer_site(at, work, og_work_router_at(at, work, (uint16_t)(target - OG_TARGET_SITE)),
                          OG_V_OFFERED_PINNED);
    }
    choose(at, work, target != OG_TARGET_NONE, &choice);
    if (choice.router != OG_NO_MEMBER) {
        return offer_site(at, work, choice.router, verdict_of(&choice));
    }
    if (choice.n_picks == 0 && target == OG_TARGET_NONE) {
        return OG_V_DROP_NO_TARGET;
    }
    return offer_agents(at, work, target, choice.picks, choice.n_picks);
}

/* ---- not a SYN --------------------------------------------------------------------------------------------------- */

/* The half-open entry becomes the pin. It stays for a while, so that a second server's late SYN-ACK is known as one. */
static void promote(const struct og_moment *at, const struct og_work *work, struct og_halfopen_entry *entry)
{
    struct og_pin *pin = og_pins_put(&at->router->pins, at->rules, &work->key, work->pin_hash, entry->target,
                                     entry->server_isn, at->now_s);

    if (pin != NULL && (work->packet.tcp_flags & OG_TCP_FIN)) {
        og_pins_close(&at->router->pins, pin);
    }
    entry->promoted = 1;
    at->router->halfopen.promotions++;
    at->router->promotions_to_sites += og_target_is_site(entry->target);
}

static bool confirms(const struct og_work *work, const struct og_halfopen_entry *entry)
{
    return (work->packet.tcp_flags & (OG_TCP_ACK | OG_TCP_RST)) == OG_TCP_ACK &&
           og_halfopen_confirms(entry, work->packet.ack);
}

static enum og_verdict steer_pinned(const struct og_moment *at, struct og_work *work, struct og_pin *pin)
{
    og_pin_touch(pin, at->now_s);
    if (work->packet.tcp_flags & (OG_TCP_FIN | OG_TCP_RST)) {
        og_pins_close(&at->router->pins, pin);
    }
    return og_send_target(at, work, pin->target, OG_V_PINNED);
}

static enum og_verdict steer_segment(const struct og_moment *at, struct og_work *work)
{
    struct og_pin *pin;
    struct og_halfopen_entry *entry;

    if (og_work_is_hunted_for(work)) {
        return og_hunt_for(at, work);
    }
    pin = og_work_pin(at, work);
    if (pin != NULL && !(pin->state & OG_PIN_CONTESTED)) {
        return steer_pinned(at, work, pin);
    }
    entry = og_work_halfopen(at, work);
    if (entry != NULL) {
        if (confirms(work, entry)) {
            promote(at, work, entry);
            return og_send_target(at, work, entry->target, OG_V_PROMOTED);
        }
        if (pin == NULL) {
            return og_send_target(at, work, entry->target, OG_V_HALF_OPEN_HIT);
        }
    } else if (pin != NULL) {
        pin->state &= (OG_PIN_USED | OG_PIN_CLOSING); /* whoever answered last was never confirmed */
    }
    return pin != NULL ? steer_pinned(at, work, pin) : og_hunt(at, work);
}

/* ---- datagrams and errors ---------------------------------------------------------------------------------------- */

/* [c1 F]. With a way back when the service wants pins. */
static enum og_verdict offer_datagram(const struct og_moment *at, struct og_work *work, bool way_back)
{
    struct og_choice choice;
    struct og_path path;

    choose(at, work, false, &choice);
    if (choice.router != OG_NO_MEMBER) {
        return way_back ? offer_site(at, work, choice.router, verdict_of(&choice))
                        : og_send_router(at, work, choice.router, verdict_of(&choice));
    }
    if (choice.n_picks == 0) {
        return OG_V_DROP_NO_TARGET;
    }
    if (!way_back) {
        return og_send_agent(at, work, choice.picks[0], OG_ACCEPT_F, OG_V_OFFERED_UDP);
    }
    og_path_begin(at, work, 0, &path);
    og_path_agent(at, work, &path, choice.picks[0], OG_ACCEPT_F);
    return og_send_path(at, work, &path, OG_V_OFFERED_UDP);
}

static enum og_verdict steer_datagram(const struct og_moment *at, struct og_work *work)
{
    struct og_halfopen_entry *entry;
    struct og_pin *pin;

    if (!at->spec->services[work->service].udp_pins) {
        return offer_datagram(at, work, false);
    }
    pin = og_work_pin(at, work);
    if (pin != NULL && og_target_is_site(pin->target) &&
        og_work_router_at(at, work, (uint16_t)(pin->target - OG_TARGET_SITE)) == OG_NO_MEMBER) {
        og_pins_erase(&at->router->pins, pin); /* nobody there; datagrams are not hunted for */
        pin = NULL;
    }
    if (pin != NULL) {
        return steer_pinned(at, work, pin);
    }
    entry = og_work_halfopen(at, work);
    if (entry == NULL) {
        return offer_datagram(at, work, true);
    }
    promote(at, work, entry); /* a second packet of the client after a reply: both ends are there */
    return og_send_target(at, work, entry->target, OG_V_PROMOTED);
}

/* Goes where its flow goes, and leaves no trace: anybody can send one. */
static enum og_verdict steer_error(const struct og_moment *at, struct og_work *work)
{
    const struct og_pin *pin = og_work_pin(at, work);
    const struct og_halfopen_entry *entry;

    if (pin != NULL) {
        return og_send_target(at, work, pin->target, OG_V_PINNED);
    }
    entry = og_work_halfopen(at, work);
    if (entry != NULL) {
        return og_send_target(at, work, entry->target, OG_V_HALF_OPEN_HIT);
    }
    return work->packet.flow.protocol == OG_NH_UDP ? offer_datagram(at, work, false) : og_hunt(at, work);
}

enum og_verdict og_steer(const struct og_moment *at, struct og_work *work)
{
    switch (work->packet.kind) {
    case OG_KIND_TCP:
        return work->packet.tcp_flags & OG_TCP_SYN ? steer_syn(at, work) : steer_segment(at, work);
    case OG_KIND_UDP:
        return steer_datagram(at, work);
    case OG_KIND_ICMP_ERROR:
        return steer_error(at, work);
    case OG_KIND_ECHO:
        break; /* hashers answer it */
    }
    return OG_V_DROP_ICMP_TYPE;
}
