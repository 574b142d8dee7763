/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration a data plane works from: built once from a description, never changed, swapped whole (the caller
 * does that under RCU). Health found by probes is not here but in struct og_health, a mask the prober writes in place.
 */
#ifndef OG_TABLES_H
#define OG_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "og_flow.h"
#include "og_wire.h"

#define OG_TABLE_SLOTS 65537 /* default; a prime, Maglev NSDI'16 section 3.4 */
#define OG_MAX_SERVICES 64
#define OG_MAX_MEMBERS 1024 /* routers, or agents, of all sites together; index 0xffff = none */
#define OG_MAX_SITES 16
#define OG_NO_MEMBER 0xffffu
#define OG_HISTORY_AGENTS 8u /* earlier agents of a slot, the hunt's second stage: they fit into one segment list */
#define OG_HISTORY_MEMBERSHIPS 32u /* earlier memberships of a service */

/* A service's place in the list is its index: the bit in masks, and what pins refer to. protocol 0 = index unused. */
struct og_service {
    uint8_t vip[16];
    uint16_t port; /* network byte order */
    uint8_t protocol;
    bool udp_pins;
    uint32_t idle_s, closing_s, half_open_s; /* timeouts in seconds: 8000, 60, 8 by default */
    char name[64];
};

/* A router (for hashers and for other sites' routers) or an agent (for routers). */
struct og_member {
    uint8_t locator[8];
    uint16_t site;       /* index into og_tables_spec.sites */
    uint16_t id;         /* stable index: pins and health refer to it across table versions */
    uint16_t weight;     /* 0 = drained: no new flows, pins stay valid */
    uint16_t generation; /* bumped when the member died and came back: older pins to it are void */
    uint64_t services;   /* agents: bit i = a member of service i */
    bool dead;           /* somebody else holds it for dead too: the second witness for one that is suspect */
    char name[64];
};

/* An earlier membership of a service at the own site. Ids that are not among the agents are skipped. */
struct og_past {
    uint16_t service;
    uint16_t n_agents;
    const struct og_past_agent {
        uint16_t id, weight;
    } *agents;
};

/* A site to which new flows of a service may go. */
struct og_spill {
    uint16_t service;
    uint16_t site;
};

struct og_tables_spec {
    uint64_t generation; /* version of the transaction, grows */
    uint8_t digest[32];  /* identity of the canonical membership; its last 2 bytes are the SRH tag */
    struct og_seed flow_seed;
    uint8_t locator[8]; /* own */
    uint16_t own_site;
    char site_names[OG_MAX_SITES][64]; /* by index; empty where there is none, or where nobody needs to know */
    uint8_t traffic_class_dscp;        /* outer DSCP << 2 */
    uint32_t fabric_mtu;               /* of the egress link, bytes */
    uint32_t slots;
    const struct og_service *services;
    size_t n_services;
    const struct og_member *routers;
    size_t n_routers;
    const struct og_member *agents;
    size_t n_agents;
    const uint8_t (*gateways)[8]; /* locators whose SID packets are accepted (hashers and routers) */
    size_t n_gateways;
    struct {
        uint8_t prefix[16];
        uint8_t length;
    } sr_domain[16]; /* client sources inside these are dropped: SID block, fabric and VIP prefixes */
    size_t n_sr_domain;
    const struct og_past *history; /* newest first, without the membership in use. Read while building, not kept. */
    size_t n_history;
    const struct og_spill *spill; /* in the order of the policy; not kept */
    size_t n_spill;
    /* A service without an entry in `spill` goes nowhere; else: to every other site, in their order. */
    bool spill_listed;
};

struct og_pin_rules;
struct og_template;
struct og_tables; /* opaque outside lib/: services, members, Maglev tables of routers by site, of agents by service and
                     site */

/* NULL on error, with a message that names what and where in `error` (at most `error_len` bytes). Copies the spec. */
struct og_tables *og_tables_build(const struct og_tables_spec *spec, char *error, size_t error_len);
void og_tables_free(struct og_tables *tables);
const struct og_tables_spec *og_tables_spec(const struct og_tables *tables);

/* Written by the prober, read per packet. Indexed by member id. A member that is not usable gets no new flows; its pins
 * are used until it is dead. Zero-initialised = everything usable: without a prober the tables alone decide. */
struct og_health {
    uint8_t router_suspect[OG_MAX_MEMBERS];
    uint8_t agent_suspect[OG_MAX_MEMBERS];
    uint8_t agent_dead[OG_MAX_MEMBERS]; /* suspect, and a second witness says so */
    uint8_t router_dead[OG_MAX_MEMBERS];
    uint64_t agent_no_listener[OG_MAX_MEMBERS]; /* bit i: answered "no listener" for service i */
    uint64_t router_no_service[OG_MAX_MEMBERS]; /* of another site; bit i: does not say it can serve service i there */
    uint16_t agent_epoch[OG_MAX_MEMBERS]; /* grows when an agent answers as a new incarnation: pins to it are void */
    uint32_t version;                     /* grows after each change of agent_dead and agent_epoch */
};

/* ---- Per packet. None of these allocates, locks or fails other than as said; `health` may be NULL. `flow_hash` is
 * og_flow_hash() itself: the independent uses are derived inside. Members are named by their id, not by their place in
 * the spec. ---- */

/* Index into spec.services, or -1. `port` in network byte order. */
int og_tables_service(const struct og_tables *tables, const uint8_t vip[16], uint16_t port, uint8_t protocol);

/* Is this address the VIP of any service? */
bool og_tables_is_vip(const struct og_tables *tables, const uint8_t address[16]);

/* Is this address inside spec.sr_domain? */
bool og_tables_in_sr_domain(const struct og_tables *tables, const uint8_t address[16]);

/* Is this a source that no client has: inside spec.sr_domain, or a VIP? */
bool og_tables_source_refused(const struct og_tables *tables, const uint8_t source[16]);

/* What a locator belongs to. `gateway`: packets from it are accepted as SID packets (spec.gateways and all routers). */
struct og_locator_role {
    bool gateway;
    uint16_t router; /* id, or OG_NO_MEMBER */
    uint16_t agent;  /* id, or OG_NO_MEMBER */
    uint16_t site;   /* of the router or agent, else OG_NO_MEMBER */
};
struct og_locator_role og_tables_locator(const struct og_tables *tables, const uint8_t locator[8]);

/* The router for a flow, for hashers: a usable one of the own site; else of another site, in the order of spec sites;
 * else, when all are suspect, the own site's table as if none were (a prober that suspects everybody is more likely
 * wrong than right). OG_NO_MEMBER only when there is no router with a weight at all. */
uint16_t og_tables_router(const struct og_tables *tables, const struct og_health *health, uint64_t flow_hash);

/* og_tables_router() in two steps, for bursts: the first asks for the memory that the second reads. */
uint32_t og_tables_router_slot(const struct og_tables *tables, uint64_t flow_hash);
uint16_t og_tables_router_in_slot(const struct og_tables *tables, const struct og_health *health, uint32_t slot,
                                  uint64_t flow_hash);

/* The same for one site, usable routers only: which of them its own hashers would choose. */
uint16_t og_tables_router_at(const struct og_tables *tables, const struct og_health *health, uint16_t site,
                             uint64_t flow_hash);

/* The router of another site for a new flow of a service: as og_tables_router_at, among those that say they can serve it,
 * and only if the tables have an agent of the service there. */
uint16_t og_tables_router_serving(const struct og_tables *tables, const struct og_health *health, uint16_t site,
                                  unsigned service, uint64_t flow_hash);

/* The router for what belongs at a site: as og_tables_router_at; if all are suspect, one that is not dead. */
uint16_t og_tables_router_living(const struct og_tables *tables, const struct og_health *health, uint16_t site,
                                 uint64_t flow_hash);

/* The i-th site to which new flows of a service may go; OG_NO_MEMBER behind the last one. */
uint16_t og_tables_spill(const struct og_tables *tables, unsigned service, unsigned i);

/* Who may be picked: weight above 0 and ... */
enum og_pick {
    OG_PICK_USABLE,    /* not suspect, no denial of a listener */
    OG_PICK_LISTENING, /* not dead, no denial of a listener: for when all are suspect, and a prober that suspects everybody
                          is more likely wrong than right */
    OG_PICK_ANSWERING, /* not suspect, with or without a listener */
    OG_PICK_LIVING,    /* not dead */
};

/* Up to `wanted` agents of a service at a site: that of the flow's slot, then of further slots by the permutation pi,
 * then one by one, until so many different ones are found. Returns how many. `picks` has room for `wanted`. */
unsigned og_tables_pick(const struct og_tables *tables, const struct og_health *health, enum og_pick pick,
                        unsigned service, uint16_t site, uint64_t flow_hash, unsigned wanted, uint16_t *picks);

/* First and second pick: og_tables_pick(OG_PICK_USABLE, 2). */
unsigned og_tables_agents(const struct og_tables *tables, const struct og_health *health, unsigned service,
                          uint16_t site, uint64_t flow_hash, uint16_t picks[2]);

/* The same with OG_PICK_LISTENING. */
unsigned og_tables_agents_suspected(const struct og_tables *tables, const struct og_health *health, unsigned service,
                                    uint16_t site, uint64_t flow_hash, uint16_t picks[2]);

/* Agents that were first or second pick of the flow's slot in earlier memberships of this site, newest first, without the
 * dead and without today's two. Returns how many, at most OG_HISTORY_AGENTS. */
unsigned og_tables_history(const struct og_tables *tables, const struct og_health *health, unsigned service,
                           uint64_t flow_hash, uint16_t *agents);

/* A member by id; NULL when there is none. Valid as long as the tables. */
const struct og_member *og_tables_router_by_id(const struct og_tables *tables, uint16_t id);
const struct og_member *og_tables_agent_by_id(const struct og_tables *tables, uint16_t id);

/* Ready-made envelopes of one segment (H.Encaps.Red, no SRH) from <own locator>.Errors: to a router's Steer, to an
 * agent's Accept with K. Arguments are zero but for K: the flow's go in after og_template_push. NULL for an unknown id. */
const struct og_template *og_tables_to_router(const struct og_tables *tables, uint16_t router);
const struct og_template *og_tables_to_agent(const struct og_tables *tables, uint16_t agent);

/* The flow's slot in the tables of agents. */
uint32_t og_tables_slot(const struct og_tables *tables, uint64_t flow_hash);

/* Different for any two tables built by this process. */
uint64_t og_tables_serial(const struct og_tables *tables);

/* Which pins are void by the tables alone: timeouts by service, generations by target (og_pins.h). */
const struct og_pin_rules *og_tables_pin_rules(const struct og_tables *tables);

#endif
