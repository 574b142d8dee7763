/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the router: one packet on its way through the stages, and the functions that the router's files share.
 *
 *   og_router.c   stages of a burst, house-keeping
 *   og_steer.c    a client's packet at Steer
 *   og_return.c   a server's reply at Pin
 *   og_hunt.c     unknown flows: stages of the hunt, Miss
 *   og_send.c     where a packet goes: paths and envelopes
 */
#ifndef OG_ROUTER_WORK_H
#define OG_ROUTER_WORK_H

#include "og_choice.h"
#include "og_encap.h"
#include "og_router.h"

/* Of a hunt; 1 to 3 stand in cookies, 0 there is a SYN's. */
enum og_stage {
    OG_STAGE_TABLE = 1,   /* first and second pick of the table */
    OG_STAGE_HISTORY = 2, /* those who were before, and the next ones of the table */
    OG_STAGE_SITE = 3,    /* other sites, one after the other */
};

struct og_work {
    struct og_buf *buf;
    struct og_outer outer;
    struct og_packet packet;       /* of the packet inside */
    struct og_locator_role source; /* of the outer source */
    uint16_t function;             /* of the SID it arrived at */
    uint16_t service;
    /* Steers on the path other than ours, oldest first; with the cookie of each. */
    const struct og_sid *steers[OG_MAX_STEERS];
    const struct og_cookie *steer_cookies[OG_MAX_STEERS];
    const struct og_cookie *own_cookie; /* Pin and Miss; NULL without one */
    uint8_t n_steers;
    bool had_pin;      /* to a target that died: it was void */
    bool local_only;   /* came from another site's router: only targets of this site, and pins to sites do not count */
    uint64_t hash;     /* og_flow_hash */
    uint64_t pin_hash; /* the same for OG_USE_PIN */
    uint64_t argument; /* og_flow_argument: owner and hash, for SIDs */
    union og_pin_key key;
};

/* What is the same for a whole burst. */
struct og_moment {
    struct og_router *router;
    const struct og_tables *tables;
    const struct og_tables_spec *spec;
    const struct og_pin_rules *rules;
    const struct og_health *health; /* may be NULL */
    uint64_t now_ns;
    uint32_t now_s, now_ms; /* wrap */
};

static inline bool og_target_is_site(uint16_t target)
{
    return target >= OG_TARGET_SITE && target != OG_TARGET_NONE;
}

/* Is this target another site, or an agent of one? */
bool og_work_is_away(const struct og_moment *at, uint16_t target);

/* The flow's live pin. One to another site is erased when the packet may only go to this one. */
static inline struct og_pin *og_work_pin(const struct og_moment *at, struct og_work *work)
{
    struct og_pins *pins = &at->router->pins;
    const uint64_t voided = pins->stats.voided;
    struct og_pin *pin = og_pins_find(pins, at->rules, &work->key, work->pin_hash, at->now_s);

    work->had_pin |= pins->stats.voided != voided;
    if (pin != NULL && work->local_only && og_work_is_away(at, pin->target)) {
        og_pins_erase(pins, pin);
        return NULL;
    }
    return pin;
}

/* The same for its half-open entry. */
struct og_halfopen_entry *og_work_halfopen(const struct og_moment *at, const struct og_work *work);

/* Is this target not to be trusted with anything new: an agent that is suspect, a site without a usable router? */
bool og_work_suspects(const struct og_moment *at, const struct og_work *work, uint16_t target);

/* ---- og_steer.c, og_return.c, og_hunt.c: work->function decides; each returns the packet's verdict --------------- */

enum og_verdict og_steer(const struct og_moment *at, struct og_work *work);
enum og_verdict og_return(const struct og_moment *at, struct og_work *work);
enum og_verdict og_miss(const struct og_moment *at, struct og_work *work);

/* Begin hunting for an unknown flow: stage 1. */
enum og_verdict og_hunt(const struct og_moment *at, struct og_work *work);

/* The Miss of another site's router is ahead, for which this packet is hunted here: ask the servers of this site, and let
 * the reply come back both ways. */
enum og_verdict og_hunt_for(const struct og_moment *at, struct og_work *work);

/* A flow that belongs at a site where no router lives: ask its agents. */
enum og_verdict og_hunt_site(const struct og_moment *at, struct og_work *work, uint16_t site);

static inline bool og_work_is_hunted_for(const struct og_work *work)
{
    return work->function == OG_FN_STEER && work->outer.segments_left > 0;
}

/* ---- og_send.c --------------------------------------------------------------------------------------------------- */

/* Take the received envelope off, put the new one on. Verdict `sent`, or why it could not be. */
enum og_verdict og_send_path(const struct og_moment *at, struct og_work *work, const struct og_path *path,
                             enum og_verdict sent);

/* One segment, no SRH: to an agent, with OG_ACCEPT_* flags. */
enum og_verdict og_send_agent(const struct og_moment *at, struct og_work *work, uint16_t agent, uint16_t flags,
                              enum og_verdict sent);

/* One segment, no SRH: to the Steer of another site's router. */
enum og_verdict og_send_router(const struct og_moment *at, struct og_work *work, uint16_t router, enum og_verdict sent);

/* To the target of a pin or half-open entry, the shortest way. */
enum og_verdict og_send_target(const struct og_moment *at, struct og_work *work, uint16_t target, enum og_verdict sent);

/* Begin a path that comes back here: the Steers travelled before with their cookies, ours with a new one. */
void og_path_begin(const struct og_moment *at, const struct og_work *work, uint16_t cookie_flags, struct og_path *path);

/* Append a segment. */
void og_path_agent(const struct og_moment *at, const struct og_work *work, struct og_path *path, uint16_t agent,
                   uint16_t flags);
void og_path_sid(struct og_path *path, const uint8_t locator[8], uint16_t function, uint64_t argument);

/* The router of a site that the site's own hashers would choose for this flow; OG_NO_MEMBER if none lives. */
uint16_t og_work_router_at(const struct og_moment *at, const struct og_work *work, uint16_t site);

#endif
