/* SPDX-License-Identifier: Apache-2.0
 *
 * Spill shares: set in place over the table socket, kept over restarts, applied to whatever tables run.
 */
#ifndef OG_SHARES_H
#define OG_SHARES_H

#include <stdbool.h>

#include <jansson.h>

struct og_app;
struct og_error;

/* {"shares": [{"service", "site", "share"}, ...]}: what is not named is 0. False, and nothing changed, with the place of
 * what is wrong in `error`. Called by the table thread, as all below but for og_shares_load. */
bool og_shares_set(struct og_app *app, json_t *request, struct og_error *error);

/* Those that are kept; at start, before tables are loaded. A file that is wrong is logged and left alone. */
void og_shares_load(struct og_app *app);

/* New tables run: services and sites may have other indices. Names they do not have wait for tables that do. */
void og_shares_apply(struct og_app *app);

/* As set; a new reference. */
json_t *og_shares_json(const struct og_app *app);

#endif
