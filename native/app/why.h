/* SPDX-License-Identifier: Apache-2.0
 *
 * Telemetry /og/why: what this node knows of a flow, and where a new one would go.
 */
#ifndef OG_WHY_H
#define OG_WHY_H

struct og_app;
struct rte_tel_data;

/* `parameters`: "<client address>;<client port>;<service name or index>". What is wrong with them is said in "error". */
int og_why(struct og_app *app, const char *parameters, struct rte_tel_data *data);

#endif
