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

struct og_tables; /* opaque outside lib/: services, members, one Maglev table for routers and one per service */

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

#endif
