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
    char name[64];
};

struct og_tables_spec {
    uint64_t generation; /* version of the transaction, grows */
    uint8_t digest[32];  /* identity of the canonical membership; its last 2 bytes are the SRH tag */
    struct og_seed flow_seed;
    uint8_t locator[8]; /* own */
    uint16_t own_site;
    uint8_t traffic_class_dscp; /* outer DSCP << 2 */
    uint32_t fabric_mtu;        /* of the egress link, bytes */
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
    uint64_t agent_no_listener[OG_MAX_MEMBERS]; /* bit i: answered "no listener" for service i */
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

/* First and second pick among the agents of a service at a site: the flow's slot, then further slots by the permutation
 * pi, until two different usable agents are found. Returns how many (0, 1, 2). Usable: weight above 0, not suspect,
 * no denial of a listener; with health NULL: weight above 0. */
unsigned og_tables_agents(const struct og_tables *tables, const struct og_health *health, unsigned service,
                          uint16_t site, uint64_t flow_hash, uint16_t picks[2]);

/* The same as if nobody were suspect: for when all are, and a prober that suspects everybody is more likely wrong than
 * right. A denial of the listener is an answer, and counts. */
unsigned og_tables_agents_suspected(const struct og_tables *tables, const struct og_health *health, unsigned service,
                                    uint16_t site, uint64_t flow_hash, uint16_t picks[2]);

/* A member by id; NULL when there is none. Valid as long as the tables. */
const struct og_member *og_tables_router_by_id(const struct og_tables *tables, uint16_t id);
const struct og_member *og_tables_agent_by_id(const struct og_tables *tables, uint16_t id);

/* Ready-made envelopes of one segment (H.Encaps.Red, no SRH) from <own locator>.Errors: to a router's Steer, to an
 * agent's Accept with K. Arguments are zero but for K: the flow's go in after og_template_push. NULL for an unknown id. */
const struct og_template *og_tables_to_router(const struct og_tables *tables, uint16_t router);
const struct og_template *og_tables_to_agent(const struct og_tables *tables, uint16_t agent);

/* Which pins are void: timeouts by service, generations by target (og_pins.h). */
const struct og_pin_rules *og_tables_pin_rules(const struct og_tables *tables);

#endif
