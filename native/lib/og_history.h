/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the library: which agents were first or second pick of a Maglev slot in earlier memberships. A flow that began
 * under one of them may live there still; the hunt's second stage asks them.
 */
#ifndef OG_HISTORY_H
#define OG_HISTORY_H

#include <stddef.h>
#include <stdint.h>

#include "og_ring.h"
#include "og_tables.h"

/* Newest first; OG_NO_MEMBER behind the last one. */
typedef uint16_t og_history_list[OG_HISTORY_AGENTS];

/* The lists of all slots of a service at the own site, from spec->history and the ring in use; those who are first or
 * second pick of a slot now are left out of its list. `agents`: id -> agent, NULL for ids that are not in the tables: they
 * are skipped. *lists is NULL where there is no history. False when memory is short. */
bool og_history_build(og_history_list **lists, const struct og_tables_spec *spec, size_t service,
                      const struct og_ring *now, const struct og_member *const agents[OG_MAX_MEMBERS]);

/* Do two services have the same history? */
bool og_history_same(const struct og_tables_spec *spec, size_t service, size_t other);

#endif
