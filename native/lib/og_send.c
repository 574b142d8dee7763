/* SPDX-License-Identifier: Apache-2.0 */
#include "og_router_work.h"

#include <string.h>

#include "og_bytes.h"
#include "og_cookie.h"
#include "og_sid.h"

/* The received envelope's fields for the new one, and the envelope off. */
static enum og_verdict open_envelope(const struct og_moment *at, struct og_work *work, uint32_t overhead,
                                     struct og_outer_fields *fields)
{
    if (!og_outer_fields_from(&work->outer, fields)) {
        return OG_V_DROP_HOP_LIMIT;
    }
    if (work->packet.len + overhead > at->spec->fabric_mtu) {
        return OG_V_DROP_TOO_BIG;
    }
    return og_decap(work->buf, &work->outer, false);
}

static void own_errors(const struct og_moment *at, const struct og_work *work, struct og_sid *source)
{
    og_sid_set(source, at->spec->locator, OG_FN_ERRORS, work->argument);
}

enum og_verdict og_send_path(const struct og_moment *at, struct og_work *work, const struct og_path *path,
                             enum og_verdict sent)
{
    struct og_outer_fields fields;
    struct og_sid source;
    enum og_verdict verdict = open_envelope(at, work, og_path_overhead(path), &fields);

    if (verdict != OG_V_NONE) {
        return verdict;
    }
    own_errors(at, work, &source);
    return og_encap_push(work->buf, path, &source, og_load16(at->spec->digest + 30), &fields) != NULL
               ? sent
               : OG_V_DROP_NO_ROOM;
}

static void set_arguments(const struct og_work *work, struct og_ipv6 *outer, uint64_t destination_argument)
{
    og_sid_set_argument((struct og_sid *)outer->src, work->argument);
    og_sid_set_argument((struct og_sid *)outer->dst, destination_argument);
}

/* From one envelope without SRH to another: class, label and lengths stay, so only the addresses and the hop limit are
 * written. This is the way of nearly every packet. */
static enum og_verdict readdress(const struct og_moment *at, struct og_work *work, const struct og_template *template,
                                 uint64_t destination_argument, enum og_verdict sent)
{
    const struct og_ipv6 *header = (const struct og_ipv6 *)template->header;
    struct og_ipv6 *outer = (struct og_ipv6 *)work->buf->data;

    if (outer->hop_limit <= 1) {
        return OG_V_DROP_HOP_LIMIT;
    }
    if (work->outer.len > at->spec->fabric_mtu) {
        return OG_V_DROP_TOO_BIG;
    }
    og_buf_trim(work->buf, work->outer.len);
    outer->hop_limit--;
    memcpy(outer->src, header->src, sizeof(outer->src) + sizeof(outer->dst));
    set_arguments(work, outer, destination_argument);
    return sent;
}

/* One segment: a copy of a ready-made header, then the flow's arguments. */
static enum og_verdict send_template(const struct og_moment *at, struct og_work *work,
                                     const struct og_template *template, uint64_t destination_argument,
                                     enum og_verdict sent)
{
    struct og_outer_fields fields;
    struct og_ipv6 *outer;
    enum og_verdict verdict;

    if (template == NULL) {
        return OG_V_DROP_NO_TARGET;
    }
    if (work->outer.payload == sizeof(struct og_ipv6) && work->outer.len == sizeof(struct og_ipv6) + work->packet.len) {
        return readdress(at, work, template, destination_argument, sent);
    }
    verdict = open_envelope(at, work, sizeof(struct og_ipv6), &fields);
    if (verdict != OG_V_NONE) {
        return verdict;
    }
    outer = og_template_push(work->buf, template, &fields);
    if (outer == NULL) {
        return OG_V_DROP_NO_ROOM;
    }
    set_arguments(work, outer, destination_argument);
    return sent;
}

static uint64_t accept_argument(const struct og_work *work, uint16_t flags)
{
    return (uint64_t)flags << 32 | work->argument >> 32 << 16;
}

enum og_verdict og_send_agent(const struct og_moment *at, struct og_work *work, uint16_t agent, uint16_t flags,
                              enum og_verdict sent)
{
    return send_template(at, work, og_tables_to_agent(at->tables, agent), accept_argument(work, flags), sent);
}

enum og_verdict og_send_router(const struct og_moment *at, struct og_work *work, uint16_t router, enum og_verdict sent)
{
    return send_template(at, work, og_tables_to_router(at->tables, router), work->argument, sent);
}

enum og_verdict og_send_target(const struct og_moment *at, struct og_work *work, uint16_t target, enum og_verdict sent)
{
    uint16_t router;

    if (!og_target_is_site(target)) {
        /* "Known" is a question to TCP sockets; a datagram is delivered whatever the host knows. */
        const uint16_t flags = work->packet.flow.protocol == OG_NH_UDP ? OG_ACCEPT_F : OG_ACCEPT_K;

        return og_send_agent(at, work, target, flags, sent);
    }
    router = og_work_router_at(at, work, (uint16_t)(target - OG_TARGET_SITE));
    if (router == OG_NO_MEMBER && work->packet.flow.protocol == OG_NH_TCP) {
        return og_hunt_site(at, work, (uint16_t)(target - OG_TARGET_SITE));
    }
    return og_send_router(at, work, router, sent);
}

void og_path_sid(struct og_path *path, const uint8_t locator[8], uint16_t function, uint64_t argument)
{
    og_sid_set(&path->segments[path->n_segments++], locator, function, argument);
}

void og_path_agent(const struct og_moment *at, const struct og_work *work, struct og_path *path, uint16_t agent,
                   uint16_t flags)
{
    const struct og_member *member = og_tables_agent_by_id(at->tables, agent);

    og_path_sid(path, member->locator, OG_FN_ACCEPT, accept_argument(work, flags));
}

void og_path_begin(const struct og_moment *at, const struct og_work *work, uint16_t cookie_flags, struct og_path *path)
{
    path->n_segments = 0;
    path->n_cookies = 0;
    for (unsigned i = 0; i < work->n_steers; i++) {
        path->segments[path->n_segments++] = *work->steers[i];
        path->cookies[path->n_cookies++] = *work->steer_cookies[i];
    }
    og_path_sid(path, at->spec->locator, OG_FN_STEER, work->argument);
    og_cookie_make(&at->router->cookies, &work->packet.flow, at->spec->locator, cookie_flags,
                   &path->cookies[path->n_cookies++]);
    path->visited = path->n_segments;
}

uint16_t og_work_router_at(const struct og_moment *at, const struct og_work *work, uint16_t site)
{
    return og_tables_router_living(at->tables, at->health, site, work->hash);
}
