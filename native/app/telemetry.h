/* SPDX-License-Identifier: Apache-2.0
 *
 * What the data plane tells of itself: commands under /og/ on DPDK's telemetry socket (docs/interfaces.md).
 */
#ifndef OG_TELEMETRY_H
#define OG_TELEMETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct og_app;
struct og_error;
struct og_tables_spec;

/* A pin's target by name: an agent's, or "site <name>"; `text` is room for names that must be made up. */
const char *og_telemetry_target(const struct og_tables_spec *spec, uint16_t target, char *text, size_t size);

/* Registers the commands and opens the socket to group og. */
bool og_telemetry_start(struct og_app *app, struct og_error *error);

#endif
