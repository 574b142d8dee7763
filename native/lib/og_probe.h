/* SPDX-License-Identifier: Apache-2.0
 *
 * Probes: build, answer in place, read. The format is in og_wire.h; who probes whom, when, and what follows from the
 * answers is the prober's business (in the programs).
 */
#ifndef OG_PROBE_H
#define OG_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "og_buf.h"
#include "og_parse.h"

#define OG_PROBE_PACKET_LEN (40 + 8 + 56)

struct og_probe_load {
    uint32_t connections, accepts_per_s;
    uint64_t bytes_per_s;
};

/* What a node says of itself in its replies. Kept up to date by the program, read by the packet path. */
struct og_probe_self {
    uint8_t role;  /* OG_ROLE_* */
    uint8_t flags; /* OG_PROBE_F_* */
    uint32_t generation;
    uint64_t incarnation;
    uint64_t listeners;
    struct og_probe_load load;
};

/* A probe as read; host byte order. */
struct og_probe_info {
    uint8_t type; /* OG_PROBE_REQUEST, OG_PROBE_REPLY */
    uint64_t nonce;
    uint64_t sent_ns;
    struct og_probe_self sender;
};

/* Write a request of OG_PROBE_PACKET_LEN bytes to `out`. `nonce`: 48 bits. `traffic_class`: the outer DSCP << 2. */
void og_probe_request(uint8_t *out, const uint8_t own_locator[8], const uint8_t target_locator[8], uint8_t role,
                      uint8_t traffic_class, uint64_t nonce, uint64_t sent_ns);

/* `outer` was parsed from `data`, its destination is our Probe SID. OG_V_NONE, or DROP_PROBE: SRH, not UDP, port, length,
 * checksum, version, type, or a nonce that is not the SID's argument. */
enum og_verdict og_probe_parse(const uint8_t *data, const struct og_outer *outer, struct og_probe_info *info);

/* Turn a request that og_probe_parse accepted into its reply. */
void og_probe_answer(struct og_buf *buf, const struct og_outer *outer, const uint8_t own_locator[8],
                     const struct og_probe_self *self);

#endif
