/* SPDX-License-Identifier: Apache-2.0
 *
 * Who of the next stage is alive: a hasher probes all routers; a router its site's agents and other sites' routers. A
 * router also asks the routers beside it what they have sent to other sites; whether they are alive changes nothing.
 * Run by the first poll thread, through the data path, every 100 ms. Knows no ports: the caller sends what it writes and
 * hands it the replies.
 *
 * 3 intervals without a reply make a member suspect, 2 replies in a row take that back. A member's answer "no listener"
 * or "draining" counts at once. An interval in which our own loop stalled says nothing about anybody and is discarded.
 *
 * Dead takes more: after those 3 intervals a second witness, since the last reply. The fabric says that the member cannot
 * be reached, or the table document says that others hold it for dead. One reply takes that back, and if it comes from the
 * same incarnation, what the member knew is still there.
 */
#ifndef OG_PROBER_H
#define OG_PROBER_H

#include <stdbool.h>
#include <stdint.h>

#include "og_probe.h"
#include "og_tables.h"

#define OG_PROBE_INTERVAL_NS UINT64_C(100000000)
#define OG_PROBE_STALL_NS UINT64_C(50000000)
#define OG_PROBE_MISSES 3
#define OG_PROBE_RECOVERY 2
#define OG_PROBE_WINDOW 16 /* a reply may be this many probes late */

enum og_member_kind { OG_MEMBER_ROUTER, OG_MEMBER_AGENT, OG_MEMBER_KINDS };

/* Also read by telemetry, without a lock: a value may be a moment old. */
struct og_target {
    bool active;
    bool beside;         /* a router of the own site, asked by a router */
    uint16_t site;       /* index */
    bool serving_for_us; /* counts for our own serving flag: of our site, and not drained by weight */
    char name[64];
    uint8_t locator[8];
    uint64_t services;
    uint32_t nonce_base; /* random: a reply cannot be guessed */
    uint16_t sequence;
    bool sent, answered; /* in this interval */
    bool replied;        /* ever */
    bool suspect, dead;
    bool unreachable;      /* said the fabric, since the last reply */
    bool given_up;         /* says the table document */
    uint32_t misses, good; /* in a row */
    uint64_t rtt_ns;
    uint32_t mtu;              /* told by a Packet Too Big from the fabric, bytes; 0 = none */
    uint32_t incarnations;     /* how many different ones were seen: a new one is a restart */
    struct og_probe_self last; /* reply */
};

struct og_prober {
    struct og_target targets[OG_MEMBER_KINDS][OG_MAX_MEMBERS]; /* by member id */
    uint16_t ids[OG_MEMBER_KINDS][OG_MAX_MEMBERS];
    unsigned n_ids[OG_MEMBER_KINDS];
    struct og_health *health;
    uint8_t role;     /* own, OG_ROLE_* */
    bool passive;     /* ask nobody: everybody is taken to be alive and serving */
    uint64_t version; /* of the tables the targets are from */
    uint64_t last_turn_ns, next_round_ns;
    bool discard; /* this interval */
    bool changed; /* something that og_prober_serving looks at may have; for the caller to reset */
    uint64_t rounds, discarded, replies, strays;
};

void og_prober_init(struct og_prober *prober, uint8_t role, bool passive, struct og_health *health);

/* Call every poll turn. `version` changes whenever `tables` does. True when a round of probes is due: the caller then
 * sends one to each target (og_prober_request). */
bool og_prober_turn(struct og_prober *prober, const struct og_tables *tables, uint64_t version, uint64_t now_ns);

/* Write the due probe of the i-th id of a kind, OG_PROBE_PACKET_LEN bytes. */
void og_prober_request(struct og_prober *prober, const struct og_tables *tables, enum og_member_kind kind, unsigned i,
                       uint8_t *out, uint64_t now_ns);

/* A packet the library gave the verdict PROBE_REPLY, from its outer header on. */
void og_prober_reply(struct og_prober *prober, const uint8_t *data, uint32_t len, uint64_t now_ns);

/* A packet the library gave the verdict FABRIC_ERROR: unreachable makes the member suspect, Packet Too Big is noted. */
void og_prober_fabric_error(struct og_prober *prober, const struct og_tables *tables, const uint8_t *data,
                            uint32_t len);

/* What a router says of its site: services that a usable agent serves, and the load of all that answer. */
void og_prober_totals(const struct og_prober *prober, uint64_t *listeners, struct og_probe_load *load);

/* Is there anybody of the next stage to send new connections to? */
bool og_prober_serving(const struct og_prober *prober);

#endif
