/* SPDX-License-Identifier: Apache-2.0
 *
 * A table document while it is read: what document.c and document_history.c share.
 */
#ifndef OG_DOCUMENT_DRAFT_H
#define OG_DOCUMENT_DRAFT_H

#include "json.h"
#include "og_tables.h"

#define OG_SITE_NAME sizeof(((struct og_tables_spec *)0)->site_names[0])
#define OG_MAX_PAST ((size_t)OG_MAX_SERVICES * OG_HISTORY_MEMBERSHIPS)
#define OG_MAX_SPILL ((size_t)OG_MAX_SERVICES * OG_MAX_SITES)

/* The arrays a struct og_tables_spec points to while tables are built from it. */
struct og_draft {
    struct og_tables_spec spec;
    struct og_service services[OG_MAX_SERVICES];
    struct og_member routers[OG_MAX_MEMBERS];
    struct og_member agents[OG_MAX_MEMBERS];
    uint8_t gateways[OG_MAX_MEMBERS][8];
    size_t n_sites;
    struct og_past history[OG_MAX_PAST];
    struct og_spill spill[OG_MAX_SPILL];
};

/* Members "site" and "service" of an item, by name. */
bool og_draft_site(const struct og_json_at *item, const struct og_draft *draft, uint16_t *index);
bool og_draft_service(const struct og_json_at *item, const struct og_draft *draft, uint16_t *index);

/* "history" and "spill", both optional; after sites and services. */
bool og_draft_history(const struct og_json_at *root, struct og_draft *draft);
bool og_draft_spill(const struct og_json_at *root, struct og_draft *draft);
void og_draft_free_history(struct og_draft *draft);

#endif
