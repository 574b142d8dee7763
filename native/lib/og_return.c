/* SPDX-License-Identifier: Apache-2.0
 *
 * A server's reply at Pin: what it teaches, and on towards the client.
 */
#include "og_router_work.h"

#include "og_cookie.h"
#include "og_sid.h"

/* Who answered: the site of the router that was visited before, else the agent the packet came from. */
static uint16_t target_of(const struct og_moment *at, const struct og_work *work)
{
    const struct og_sid *visited = og_outer_visited(&work->outer, 0);
    struct og_locator_role role;

    if (visited == NULL) {
        return work->source.agent; /* OG_NO_MEMBER = OG_TARGET_NONE */
    }
    role = og_tables_locator(at->tables, visited->locator);
    if (og_sid_function(visited) != OG_FN_PIN || role.router == OG_NO_MEMBER || role.site == at->spec->own_site) {
        return OG_TARGET_NONE;
    }
    return (uint16_t)(OG_TARGET_SITE + role.site);
}

/* The first server that answers a SYN has it: the client most likely has its SYN-ACK, and what it says next would be reset
 * by a second server (RFC 9293 section 3.10.7.4, SYN-RECEIVED). Another answer to the same SYN (same client ISN) counts only
 * when the client has asked again since, and the first server is suspect. */
static bool is_second(const struct og_moment *at, const struct og_work *work, const struct og_halfopen_entry *entry,
                      uint16_t target)
{
    return entry != NULL && entry->target != target && entry->client_isn == work->packet.ack - 1 &&
           !(entry->repeated && og_work_suspects(at, work, entry->target));
}

static enum og_verdict note_synack(const struct og_moment *at, struct og_work *work, uint16_t target)
{
    struct og_halfopen_entry *entry = og_work_halfopen(at, work);
    struct og_pin *pin = og_work_pin(at, work);
    const uint32_t isn = work->packet.seq;

    if (is_second(at, work, entry, target)) {
        return OG_V_DROP_SYNACK_SECOND;
    }
    if (pin != NULL && pin->target == target && pin->isn == isn) {
        return OG_V_RETURNED; /* the client's ACK was lost behind us */
    }
    og_halfopen_put(&at->router->halfopen, at->rules, &work->key, work->pin_hash, target, isn, work->packet.ack - 1,
                    at->now_ms);
    if (pin != NULL) {
        pin->state |= OG_PIN_CONTESTED;
    }
    return OG_V_RETURNED_HALF_OPEN;
}

static enum og_verdict note_datagram(const struct og_moment *at, struct og_work *work, uint16_t target)
{
    const struct og_pin *pin = og_work_pin(at, work);

    if (!at->spec->services[work->service].udp_pins || (pin != NULL && pin->target == target)) {
        return OG_V_RETURNED;
    }
    og_halfopen_put(&at->router->halfopen, at->rules, &work->key, work->pin_hash, target, 0, 0, at->now_ms);
    return OG_V_RETURNED_HALF_OPEN;
}

/* What the reply teaches; the verdict if it is sent on as it should, or a drop. */
static enum og_verdict note(const struct og_moment *at, struct og_work *work, uint16_t target, uint16_t stage)
{
    const uint8_t flags = work->packet.tcp_flags;

    if (work->packet.kind == OG_KIND_UDP) {
        return note_datagram(at, work, target);
    }
    if (flags & OG_TCP_RST) {
        return OG_V_RETURNED;
    }
    if ((flags & (OG_TCP_SYN | OG_TCP_ACK)) == (OG_TCP_SYN | OG_TCP_ACK)) {
        return note_synack(at, work, target);
    }
    if (stage == 0) {
        return OG_V_RETURNED; /* e.g. a challenge ACK for a SYN within a live connection (RFC 5961) */
    }
    if (stage >= OG_STAGE_HISTORY) {
        og_budget_found(&at->router->budget, work->packet.flow.client, stage == OG_STAGE_SITE);
    }
    og_pins_put(&at->router->pins, at->rules, &work->key, work->pin_hash, target, 0, at->now_s);
    return OG_V_RETURNED_PIN;
}

/* RFC 8986 section 4.1 (End), but for the source: the next segment, which is the Pin of the router that steered the
 * packet to us. There is one, so there is an SRH, right behind the IPv6 header. */
static enum og_verdict pass_on(const struct og_moment *at, struct og_work *work, const struct og_sid *next)
{
    struct og_ipv6 *ip = (struct og_ipv6 *)work->buf->data;
    struct og_srh *srh = (struct og_srh *)(ip + 1);

    if (og_sid_function(next) != OG_FN_PIN || og_tables_locator(at->tables, next->locator).router == OG_NO_MEMBER) {
        return OG_V_DROP_SEGMENTS;
    }
    if (ip->hop_limit <= 1) {
        return OG_V_DROP_HOP_LIMIT;
    }
    og_buf_trim(work->buf, work->outer.len);
    ip->hop_limit--;
    srh->segments_left--;
    *(struct og_sid *)ip->dst = *next;
    og_sid_set((struct og_sid *)ip->src, at->spec->locator, OG_FN_ERRORS, work->argument);
    return OG_V_RETURNED_ONWARD;
}

/* The envelope off, towards the client. */
static enum og_verdict release(struct og_work *work, enum og_verdict sent)
{
    const struct og_ipv6 *inner = (const struct og_ipv6 *)(work->buf->data + work->outer.payload);
    enum og_verdict verdict;

    if (inner->hop_limit <= 1) {
        return OG_V_DROP_HOP_LIMIT;
    }
    verdict = og_decap(work->buf, &work->outer, true);
    if (verdict != OG_V_NONE) {
        return verdict;
    }
    ((struct og_ipv6 *)work->buf->data)->hop_limit--;
    return sent;
}

enum og_verdict og_return(const struct og_moment *at, struct og_work *work)
{
    const struct og_sid *next = og_outer_ahead(&work->outer, 0);
    const uint16_t target = target_of(at, work);
    enum og_verdict verdict = OG_V_RETURNED_NO_PIN;

    if (work->own_cookie == NULL) {
        return OG_V_DROP_NO_COOKIE;
    }
    if (target == OG_TARGET_NONE) {
        return OG_V_DROP_PIN_SOURCE;
    }
    switch (og_cookie_check(&at->router->cookies, &work->packet.flow, at->spec->locator, work->own_cookie)) {
    case OG_COOKIE_WRONG:
        return OG_V_DROP_COOKIE;
    case OG_COOKIE_VALID:
        verdict = note(at, work, target, og_cookie_flags(work->own_cookie) & OG_COOKIE_STAGE_MASK);
        break;
    case OG_COOKIE_UNKNOWN:
        break;
    }
    if (!og_verdict_is_tx(verdict)) {
        return verdict;
    }
    return next != NULL ? pass_on(at, work, next) : release(work, verdict);
}
