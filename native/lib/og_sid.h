/* SPDX-License-Identifier: Apache-2.0
 *
 * SIDs: compose and read. The layout is in og_wire.h.
 */
#ifndef OG_SID_H
#define OG_SID_H

#include <stdint.h>
#include <string.h>

#include "og_bytes.h"
#include "og_flow.h"
#include "og_wire.h"

static inline uint16_t og_sid_function(const struct og_sid *sid)
{
    return og_load16(sid->function);
}

/* The 48 bits of a flow's argument as a number: owner thread (16 bits) and flow hash (32 bits). The owner field holds 16 bits of the hash; a router with n threads
 * takes `owner % n`, so that the sender need not know n. */
static inline uint64_t og_flow_argument(uint64_t flow_hash)
{
    return (og_hash_for(flow_hash, OG_USE_OWNER) & 0xffff) << 32 | (flow_hash & 0xffffffff);
}

/* `argument`: 48 bits. */
static inline void og_sid_set_argument(struct og_sid *sid, uint64_t argument)
{
    og_store16(sid->argument, (uint16_t)(argument >> 32));
    og_store32(sid->argument + 2, (uint32_t)argument);
}

static inline void og_sid_set(struct og_sid *sid, const uint8_t locator[8], uint16_t function, uint64_t argument)
{
    memcpy(sid->locator, locator, sizeof(sid->locator));
    og_store16(sid->function, function);
    og_sid_set_argument(sid, argument);
}

#endif
