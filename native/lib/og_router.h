/* SPDX-License-Identifier: Apache-2.0
 *
 * The router: everything that may arrive at its SIDs (Steer, Pin, Miss, Probe, Errors), and what becomes of it. One
 * struct og_router per thread, used by that thread alone; only the tables, the health mask and the cookie keys are
 * shared, read-only here. Nothing is allocated after og_router_init.
 * About 400 KiB: not for the stack.
 *
 *   client's packet at Steer              sent to                                        verdict
 *   pinned                                [agent K]                                      pinned
 *   half-open, ACK fits the ISN           [agent K], pin made                            promoted
 *   half-open, SYN                        [target K, candidates N]                       offered_pinned
 *   half-open, else                       [target K]                                     half_open_hit
 *   SYN                                   [own Steer, c1 N, c2 N+LAST]                   offered
 *   SYN with a pin                        [own Steer, target K, c1 N, c2 N+LAST]         offered_pinned
 *   SYN, by share / no usable server      [own Steer, other site's Steer]                spilled, offered_site
 *   not a SYN, unknown                    [own Steer, c1 K, c2 K, own Miss]              hunt_1
 *   .. not known to these (Miss)          [own Steer, up to 8 earlier agents K, Miss]    hunt_2
 *   .. nor to these                       [own Steer, other site's Steer, own Miss]      hunt_3
 *       no router lives there             [own Steer, up to 8 agents of it K, own Miss]  hunt_3
 *   .. to nobody                          [c1 F]                                         hunt_4
 *   not a SYN, another router's Miss ahead [its Steer, own Steer, up to 8 K, its Miss]   hunt_for
 *   datagram without a pin                [c1 F]; with udp_pins [own Steer, c1 F]        offered_udp
 *   ICMPv6 error                          as the flow of the packet embedded in it, without any trace
 *
 *   server's reply at Pin                 what it leaves                                 verdict
 *   SYN-ACK (or first datagram)           half-open entry                                returned_half_open
 *   other, with a hunt's cookie           pin                                            returned_pin
 *   RST, anything else                    nothing                                        returned
 *   cookie of an unknown or old key       nothing                                        returned_no_pin
 */
#ifndef OG_ROUTER_H
#define OG_ROUTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "og_budget.h"
#include "og_buf.h"
#include "og_choice.h"
#include "og_cookie.h"
#include "og_halfopen.h"
#include "og_local.h"
#include "og_pins.h"
#include "og_tables.h"

#define OG_ROUTER_BURST 32u /* packets per stage; larger bursts are worked off in parts */

struct og_router_config {
    uint16_t thread;                 /* this one's number, 0 .. threads - 1 */
    uint16_t threads;                /* owner of a flow = its hash (OG_USE_OWNER) mod threads */
    uint64_t pins;                   /* capacity of this thread */
    void *pins_memory;               /* og_pins_bytes(pins), aligned to OG_PINS_LINE; 2 MiB pages where there are any */
    uint32_t halfopen;               /* a power of two; OG_HALFOPEN_ENTRIES */
    void *halfopen_memory;           /* og_halfopen_bytes(halfopen) */
    const struct og_health *health;  /* may be NULL: everything usable */
    const struct og_shares *shares;  /* may be NULL: nothing leaves by share */
    struct og_cookie_secret cookies; /* random; the same for all threads of a process */
    uint64_t key[2];                 /* random; places sources in rate tables */
    struct og_probe_self self;       /* what probes are answered with; kept up to date in router.local.self */
};

struct og_router {
    struct og_router_config config;
    struct og_pins pins;
    struct og_halfopen halfopen;
    struct og_budget budget;
    struct og_local local;
    struct og_cookie_keys cookies;
    uint64_t swept_ns;             /* last house-keeping */
    struct og_pin_rules rules;     /* of the tables and the health in use */
    uint64_t rules_serial;         /* og_tables_serial of those tables */
    uint32_t rules_version;        /* health->version */
    uint64_t promotions_to_sites;  /* new flows that other sites took */
    uint64_t verdicts[OG_V_COUNT]; /* packets by verdict, of this thread */
};

/* `router`: memory aligned to _Alignof(struct og_router). False if the configuration cannot work (thread not below
 * threads, memory missing or unaligned, sizes). */
bool og_router_init(struct og_router *router, const struct og_router_config *config, uint64_t now_ns);

/* Work on n packets. Each ends with a verdict (counted once in `verdicts`): TX = send the buffer as it is now; DROP =
 * free it; KEEP = HANDOFF: give it to thread buf->owner, which calls this again for it; PROBE_REPLY and FABRIC_ERROR:
 * give it to the prober. `now_ns`: a monotonic clock, the same for all calls on this router. */
void og_router_burst(struct og_router *router, const struct og_tables *tables, struct og_buf *const bufs[], size_t n,
                     uint64_t now_ns);

/* House-keeping: expire a few pins and half-open entries. Call once per poll loop, also when idle. */
void og_router_tick(struct og_router *router, const struct og_tables *tables, uint64_t now_ns);

#endif
