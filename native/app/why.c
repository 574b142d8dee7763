/* SPDX-License-Identifier: Apache-2.0 */
#include "why.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_telemetry.h>

#include "app.h"
#include "og_choice.h"
#include "og_sid.h"
#include "telemetry.h"

#define MAX_PARAMETERS 192

struct question {
    union og_flow flow;
    unsigned service;
    uint64_t hash;
};

/* A decimal number up to `max`; -1 if it is something else. */
static long read_number(const char *text, long max)
{
    char *end;
    long number = strtol(text, &end, 10);

    return isdigit((unsigned char)text[0]) && *end == '\0' && number <= max ? number : -1;
}

static bool read_service(const struct og_tables_spec *spec, const char *text, unsigned *service)
{
    const long index = read_number(text, OG_MAX_SERVICES - 1);

    for (unsigned i = 0; i < spec->n_services; i++) {
        if (spec->services[i].protocol != 0 && (strcmp(spec->services[i].name, text) == 0 || index == (long)i)) {
            *service = i;
            return true;
        }
    }
    return false;
}

/* NULL, or what is wrong with the parameters. */
static const char *read_question(const struct og_tables_spec *spec, const char *parameters, struct question *ask)
{
    char text[MAX_PARAMETERS];
    char *port = NULL, *service = NULL;
    long number;

    memset(ask, 0, sizeof(*ask));
    if (parameters && snprintf(text, sizeof(text), "%s", parameters) < (int)sizeof(text)) {
        port = strchr(text, ';');
    }
    if (port) {
        service = strchr(port + 1, ';');
    }
    if (!service) {
        return "not <client address>;<client port>;<service>";
    }
    *port++ = '\0';
    *service++ = '\0';
    number = read_number(port, UINT16_MAX);
    if (inet_pton(AF_INET6, text, ask->flow.client) != 1) {
        return "client: not an IPv6 address";
    }
    if (number < 0) {
        return "port: not a number in 0..65535";
    }
    if (!read_service(spec, service, &ask->service)) {
        return "service: there is none of this name or index";
    }
    memcpy(ask->flow.vip, spec->services[ask->service].vip, sizeof(ask->flow.vip));
    ask->flow.client_port = htons((uint16_t)number);
    ask->flow.vip_port = spec->services[ask->service].port;
    ask->flow.protocol = spec->services[ask->service].protocol;
    ask->hash = og_flow_hash(&spec->flow_seed, &ask->flow);
    return NULL;
}

static const char *site_name(const struct og_tables_spec *spec, uint16_t site)
{
    return site < OG_MAX_SITES ? spec->site_names[site] : "";
}

static const char *router_name(const struct og_tables *tables, uint16_t id)
{
    const struct og_member *router = og_tables_router_by_id(tables, id);

    return router ? router->name : "";
}

static void add_agents(struct rte_tel_data *data, const char *key, const struct og_tables *tables, const uint16_t *ids,
                       unsigned n)
{
    struct rte_tel_data *list = rte_tel_data_alloc();

    if (!list) {
        return;
    }
    rte_tel_data_start_array(list, RTE_TEL_STRING_VAL);
    for (unsigned i = 0; i < n; i++) {
        const struct og_member *agent = og_tables_agent_by_id(tables, ids[i]);

        rte_tel_data_add_array_string(list, agent ? agent->name : "?");
    }
    if (rte_tel_data_add_dict_container(data, key, list, 0) < 0) {
        rte_tel_data_free(list);
    }
}

static void add_hash(struct rte_tel_data *data, const struct og_app *app, const struct og_tables_spec *spec,
                     const struct question *ask)
{
    char hash[17], digest[65] = "";

    snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)ask->hash);
    for (size_t i = 0; i < sizeof(spec->digest); i++) {
        snprintf(digest + 2 * i, 3, "%02x", spec->digest[i]);
    }
    rte_tel_data_add_dict_string(data, "service", spec->services[ask->service].name);
    rte_tel_data_add_dict_string(data, "hash", hash);
    rte_tel_data_add_dict_uint(data, "thread", (uint32_t)(og_flow_argument(ask->hash) >> 32) % app->options.threads);
    rte_tel_data_add_dict_uint(data, "generation", spec->generation);
    rte_tel_data_add_dict_string(data, "digest", digest);
}

/* What the thread that owns the flow remembers. */
static void add_pin(struct rte_tel_data *data, const struct og_app *app, const struct og_tables *tables,
                    const struct question *ask)
{
    const unsigned thread = (unsigned)((uint32_t)(og_flow_argument(ask->hash) >> 32) % app->options.threads);
    union og_pin_key key = {.client_port = ask->flow.client_port, .service = (uint16_t)ask->service};
    struct og_flow_view view;
    char text[80] = "";

    memcpy(key.client, ask->flow.client, sizeof(key.client));
    app->role->flow(app->threads[thread].plane, &key, ask->hash, og_now_ns(), &view);
    rte_tel_data_add_dict_string(data, "pin", view.pinned ? "pinned" : view.half_open ? "half_open" : "none");
    rte_tel_data_add_dict_int(data, "target_dead", view.target < OG_MAX_MEMBERS && app->health.agent_dead[view.target]);
    rte_tel_data_add_dict_string(data, "target",
                                 view.target == OG_TARGET_NONE
                                     ? ""
                                     : og_telemetry_target(og_tables_spec(tables), view.target, text, sizeof(text)));
}

static unsigned share_of(const struct og_app *app, const struct og_tables *tables, const struct question *ask)
{
    unsigned sum = 0;
    uint16_t site;

    for (unsigned i = 0; (site = og_tables_spill(tables, ask->service, i)) != OG_NO_MEMBER; i++) {
        sum += app->shares.share[ask->service][site];
    }
    return sum;
}

static void explain_router(struct rte_tel_data *data, const struct og_app *app, const struct og_tables *tables,
                           const struct question *ask)
{
    const struct og_tables_spec *spec = og_tables_spec(tables);
    uint16_t earlier[OG_HISTORY_AGENTS];
    const unsigned n = og_tables_history(tables, &app->health, ask->service, ask->hash, earlier);
    struct og_choice choice;

    og_choose(tables, &app->health, &app->shares, ask->service, false, ask->hash, &choice);
    add_pin(data, app, tables, ask);
    rte_tel_data_add_dict_uint(data, "slot", og_tables_slot(tables, ask->hash));
    rte_tel_data_add_dict_uint(data, "bucket", choice.bucket);
    rte_tel_data_add_dict_uint(data, "share", share_of(app, tables, ask));
    add_agents(data, "picks", tables, choice.picks, choice.n_picks);
    add_agents(data, "history", tables, earlier, n);
    rte_tel_data_add_dict_string(data, "site", site_name(spec, choice.site));
    rte_tel_data_add_dict_string(data, "router", router_name(tables, choice.router));
    rte_tel_data_add_dict_string(data, "reason", og_reason_text(choice.reason));
}

/* A hasher decides on the router alone. */
static void explain_hasher(struct rte_tel_data *data, const struct og_app *app, const struct og_tables *tables,
                           const struct question *ask)
{
    const uint16_t id = og_tables_router(tables, &app->health, ask->hash);
    const struct og_member *router = og_tables_router_by_id(tables, id);

    rte_tel_data_add_dict_uint(data, "slot", og_tables_router_slot(tables, ask->hash));
    rte_tel_data_add_dict_string(data, "site", router ? site_name(og_tables_spec(tables), router->site) : "");
    rte_tel_data_add_dict_string(data, "router", router_name(tables, id));
    rte_tel_data_add_dict_string(data, "reason",
                                 !router                          ? "no router"
                                 : app->health.router_suspect[id] ? "all routers are suspect: as if none were"
                                 : router->site != og_tables_spec(tables)->own_site ? "no usable router here"
                                                                                    : "its slot's usable router");
}

int og_why(struct og_app *app, const char *parameters, struct rte_tel_data *data)
{
    const struct og_tables *tables;
    struct question ask;

    rte_tel_data_start_dict(data);
    pthread_mutex_lock(&app->tables_lock);
    tables = atomic_load(&app->tables);
    if (!tables) {
        rte_tel_data_add_dict_string(data, "error", "no tables are loaded yet");
    } else {
        const char *wrong = read_question(og_tables_spec(tables), parameters, &ask);

        if (wrong) {
            rte_tel_data_add_dict_string(data, "error", wrong);
        } else {
            add_hash(data, app, og_tables_spec(tables), &ask);
            (app->role->router ? explain_router : explain_hasher)(data, app, tables, &ask);
        }
    }
    pthread_mutex_unlock(&app->tables_lock);
    return 0;
}
