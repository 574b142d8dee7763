/* SPDX-License-Identifier: Apache-2.0
 *
 * The table document (docs/interfaces.md, "Table socket"): JSON from the control daemon -> struct og_tables.
 */
#ifndef OG_DOCUMENT_H
#define OG_DOCUMENT_H

#include "json.h"
#include "og_tables.h"

/* What a node itself adds to a document. */
struct og_document_self {
    uint8_t locator[8];
    uint32_t fabric_mtu;
    uint8_t dscp;
    bool router;
};

/* Checks the whole document, then builds tables from it. NULL on error, with the place and the reason in `error`; a
 * document is accepted as a whole or not at all. */
struct og_tables *og_document_build(json_t *document, const struct og_document_self *self, struct og_json_error *error);

#endif
