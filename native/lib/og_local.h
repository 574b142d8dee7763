/* SPDX-License-Identifier: Apache-2.0
 *
 * What hashers and routers do alike: answer for their own Errors and Probe SIDs.
 */
#ifndef OG_LOCAL_H
#define OG_LOCAL_H

#include "og_buf.h"
#include "og_parse.h"
#include "og_probe.h"
#include "og_rate.h"
#include "og_tables.h"

#define OG_PROBES_PER_S 1000 /* per source /64, that is per locator */
#define OG_PROBES_TOTAL_PER_S 50000

struct og_local {
    struct og_probe_self self;   /* written by the program, also while packets flow */
    struct og_probe_load beside; /* the load that routers of the own site are told instead */
    struct og_rate probe_rate;
};

void og_local_init(struct og_local *local, const uint64_t key[2], const struct og_probe_self *self);

/* A packet whose destination has our locator and the function Errors or Probe; `outer` was parsed from it. Returns its
 * verdict: PROBE_ANSWERED (buf holds the reply), PROBE_REPLY, FABRIC_ERROR (for the program's prober, buf as received),
 * DROP_OUTER_SOURCE, DROP_PROBE, DROP_PROBE_RATE, those of og_fabric_error_parse; DROP_SID_FUNCTION for any other
 * function. */
enum og_verdict og_local_packet(struct og_local *local, const struct og_tables *tables, struct og_buf *buf,
                                const struct og_outer *outer, uint64_t now_ns);

#endif
