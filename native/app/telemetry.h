/* SPDX-License-Identifier: Apache-2.0
 *
 * What the data plane tells of itself: commands under /og/ on DPDK's telemetry socket (docs/interfaces.md).
 */
#ifndef OG_TELEMETRY_H
#define OG_TELEMETRY_H

#include <stdbool.h>

struct og_app;
struct og_error;

/* Registers the commands and opens the socket to group og. */
bool og_telemetry_start(struct og_app *app, struct og_error *error);

#endif
