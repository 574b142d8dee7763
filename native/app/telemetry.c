/* SPDX-License-Identifier: Apache-2.0 */
#include "telemetry.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_telemetry.h>

#include "app.h"
#include "port.h"
#include "why.h"

#define LIST_MAX 64    /* pins in one answer: DPDK cuts an answer at 16 KiB */
#define MEMBERS_MAX 32 /* members in one answer, for the same reason */
/* A place in the pins of all threads: the thread in the upper bits, the slot below. */
#define THREAD_SHIFT 48

/* DPDK's callbacks with an argument of the caller's are not in its stable ABI. */
static struct og_app *app;

static int info(const char *command, const char *parameters, struct rte_tel_data *data)
{
    uint8_t ethernet[OG_ETHERNET_LEN];
    const struct og_tables *tables;
    char digest[65] = "", incarnation[17], mac[18] = "";

    (void)command;
    (void)parameters;
    snprintf(incarnation, sizeof(incarnation), "%016llx", (unsigned long long)app->incarnation);
    rte_tel_data_start_dict(data);
    pthread_mutex_lock(&app->tables_lock);
    tables = atomic_load(&app->tables);
    for (size_t i = 0; tables && i < 32; i++) {
        snprintf(digest + 2 * i, 3, "%02x", og_tables_spec(tables)->digest[i]);
    }
    rte_tel_data_add_dict_uint(data, "generation", tables ? og_tables_spec(tables)->generation : 0);
    pthread_mutex_unlock(&app->tables_lock);
    rte_tel_data_add_dict_string(data, "role", app->role->name);
    rte_tel_data_add_dict_string(data, "version", OG_RELEASE);
    rte_tel_data_add_dict_int(data, "wire_version", OG_WIRE_VERSION);
    rte_tel_data_add_dict_string(data, "digest", digest);
    rte_tel_data_add_dict_string(data, "incarnation", incarnation);
    rte_tel_data_add_dict_uint(data, "threads", app->options.threads);
    rte_tel_data_add_dict_uint(data, "uptime_s", (og_now_ns() - app->start_ns) / 1000000000u);
    rte_tel_data_add_dict_int(data, "serving", app->serving);
    if (og_next_hop_write(&app->next_hop, ethernet)) {
        snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", ethernet[0], ethernet[1], ethernet[2], ethernet[3],
                 ethernet[4], ethernet[5]);
    }
    rte_tel_data_add_dict_string(data, "next_hop", mac);
    return 0;
}

static int counters(const char *command, const char *parameters, struct rte_tel_data *data)
{
    uint64_t rx = 0, tx = 0;

    (void)command;
    (void)parameters;
    rte_tel_data_start_dict(data);
    for (enum og_verdict verdict = 0; verdict < OG_V_COUNT; verdict++) {
        uint64_t total = 0;

        for (unsigned i = 0; i < app->options.threads; i++) {
            total += app->threads[i].verdicts[verdict];
        }
        rte_tel_data_add_dict_uint(data, og_verdict_name(verdict), total);
    }
    for (unsigned i = 0; i < app->options.threads; i++) {
        rx += app->threads[i].rx;
        tx += app->threads[i].tx;
    }
    rte_tel_data_add_dict_uint(data, "rx", rx);
    rte_tel_data_add_dict_uint(data, "tx", tx);
    rte_tel_data_add_dict_uint(data, "rx_missed", og_port_missed());
    return 0;
}

static int verdicts(const char *command, const char *parameters, struct rte_tel_data *data)
{
    (void)command;
    (void)parameters;
    rte_tel_data_start_dict(data);
    for (enum og_verdict verdict = 0; verdict < OG_V_COUNT; verdict++) {
        rte_tel_data_add_dict_string(data, og_verdict_name(verdict), og_verdict_text(verdict));
    }
    return 0;
}

static int pins(const char *command, const char *parameters, struct rte_tel_data *data)
{
    struct og_pins_view sum = {0};
    struct og_pins_stats stats = {0};
    uint64_t count = 0, capacity = 0, closing = 0, to_sites = 0;

    (void)command;
    (void)parameters;
    for (unsigned i = 0; app->role->pins && i < app->options.threads; i++) {
        struct og_pins_view view;

        app->role->pins(app->threads[i].plane, &view);
        count += view.pins->count;
        capacity += view.pins->capacity;
        closing += view.pins->closing;
        to_sites += view.pins->to_sites;
        stats.inserts += view.pins->stats.inserts;
        stats.evictions += view.pins->stats.evictions;
        stats.expired += view.pins->stats.expired;
        stats.voided += view.pins->stats.voided;
        stats.lookups += view.pins->stats.lookups;
        stats.hits += view.pins->stats.hits;
        stats.hit_lines += view.pins->stats.hit_lines;
        sum.half_open += view.half_open;
        sum.half_open_capacity += view.half_open_capacity;
        sum.promotions += view.promotions;
    }
    rte_tel_data_start_dict(data);
    rte_tel_data_add_dict_uint(data, "count", count);
    rte_tel_data_add_dict_uint(data, "capacity", capacity);
    rte_tel_data_add_dict_uint(data, "closing", closing);
    rte_tel_data_add_dict_uint(data, "to_sites", to_sites);
    rte_tel_data_add_dict_uint(data, "half_open", sum.half_open);
    rte_tel_data_add_dict_uint(data, "half_open_capacity", sum.half_open_capacity);
    rte_tel_data_add_dict_uint(data, "inserts", stats.inserts);
    rte_tel_data_add_dict_uint(data, "evictions", stats.evictions);
    rte_tel_data_add_dict_uint(data, "expired", stats.expired);
    rte_tel_data_add_dict_uint(data, "voided", stats.voided);
    rte_tel_data_add_dict_uint(data, "promotions", sum.promotions);
    rte_tel_data_add_dict_uint(data, "lookups", stats.lookups);
    rte_tel_data_add_dict_uint(data, "hits", stats.hits);
    rte_tel_data_add_dict_uint(data, "hit_lines", stats.hit_lines);
    return 0;
}

/* A decimal number, 0 without one; false if it is something else. */
static bool read_offset(const char *parameters, uint64_t *offset)
{
    char *end = NULL;

    *offset = 0;
    if (!parameters || !*parameters) {
        return true;
    }
    *offset = strtoull(parameters, &end, 10);
    return isdigit((unsigned char)parameters[0]) && *end == '\0';
}

const char *og_telemetry_target(const struct og_tables_spec *spec, uint16_t target, char *text, size_t size)
{
    for (size_t i = 0; spec && i < spec->n_agents; i++) {
        if (spec->agents[i].id == target) {
            return spec->agents[i].name;
        }
    }
    if (target < OG_TARGET_SITE) {
        snprintf(text, size, "agent %u", target);
    } else if (spec && target < OG_TARGETS && spec->site_names[target - OG_TARGET_SITE][0]) {
        snprintf(text, size, "site %s", spec->site_names[target - OG_TARGET_SITE]);
    } else {
        snprintf(text, size, "site %u", target - OG_TARGET_SITE);
    }
    return text;
}

static struct rte_tel_data *describe_pin(const struct og_pin *pin, const struct og_tables_spec *spec, uint64_t next)
{
    const union og_pin_key key = {.q = {pin->client[0], pin->client[1]}, .d = pin->port_service};
    struct rte_tel_data *data = rte_tel_data_alloc();
    const bool known = spec && key.service < spec->n_services;
    char client[INET6_ADDRSTRLEN], service[32], target[80];

    if (!data) {
        return NULL;
    }
    inet_ntop(AF_INET6, key.client, client, sizeof(client));
    snprintf(service, sizeof(service), "service %u", key.service);
    rte_tel_data_start_dict(data);
    rte_tel_data_add_dict_string(data, "client", client);
    rte_tel_data_add_dict_uint(data, "client_port", ntohs(key.client_port));
    rte_tel_data_add_dict_string(data, "service", known ? spec->services[key.service].name : service);
    rte_tel_data_add_dict_string(data, "target", og_telemetry_target(spec, pin->target, target, sizeof(target)));
    rte_tel_data_add_dict_string(data, "state", pin->state & OG_PIN_CLOSING ? "closing" : "established");
    rte_tel_data_add_dict_uint(data, "idle_s", og_pin_idle(pin, (uint32_t)(og_now_ns() / 1000000000u)));
    rte_tel_data_add_dict_uint(data, "next", next);
    return data;
}

/* Pins from a place on; each carries the place to go on from. */
static int pins_list(const char *command, const char *parameters, struct rte_tel_data *data)
{
    const struct og_tables *tables;
    unsigned listed = 0;
    uint64_t place;

    (void)command;
    if (!read_offset(parameters, &place)) {
        return -1;
    }
    rte_tel_data_start_array(data, RTE_TEL_CONTAINER);
    pthread_mutex_lock(&app->tables_lock);
    tables = atomic_load(&app->tables);
    for (uint64_t thread = place >> THREAD_SHIFT; app->role->pins && thread < app->options.threads; thread++) {
        uint64_t cursor = place & ((UINT64_C(1) << THREAD_SHIFT) - 1);
        struct og_pins_view view;

        app->role->pins(app->threads[thread].plane, &view);
        while (cursor != UINT64_MAX && listed < LIST_MAX) {
            struct rte_tel_data *item;
            struct og_pin pin;

            if (og_pins_list(view.pins, &cursor, &pin, 1) == 0) {
                break;
            }
            place = cursor == UINT64_MAX ? (thread + 1) << THREAD_SHIFT : thread << THREAD_SHIFT | cursor;
            item = describe_pin(&pin, tables ? og_tables_spec(tables) : NULL, place);
            if (!item || rte_tel_data_add_array_container(data, item, 0) < 0) {
                rte_tel_data_free(item);
            }
            listed++;
        }
        if (listed == LIST_MAX) {
            break;
        }
        place = (thread + 1) << THREAD_SHIFT;
    }
    pthread_mutex_unlock(&app->tables_lock);
    return 0;
}

static struct rte_tel_data *describe_member(const struct og_target *target, enum og_member_kind kind, unsigned id,
                                            const struct og_tables_spec *spec)
{
    struct rte_tel_data *data = rte_tel_data_alloc();
    const struct og_probe_self *last = &target->last;
    char incarnation[17];

    if (!data) {
        return NULL;
    }
    snprintf(incarnation, sizeof(incarnation), "%016llx", (unsigned long long)last->incarnation);
    rte_tel_data_start_dict(data);
    rte_tel_data_add_dict_string(data, "name", target->name);
    rte_tel_data_add_dict_string(data, "kind", kind == OG_MEMBER_AGENT ? "agent" : "router");
    rte_tel_data_add_dict_uint(data, "id", id);
    rte_tel_data_add_dict_string(data, "site",
                                 spec && target->site < OG_MAX_SITES ? spec->site_names[target->site] : "");
    rte_tel_data_add_dict_int(data, "replied", target->replied);
    rte_tel_data_add_dict_int(data, "suspect", target->suspect);
    rte_tel_data_add_dict_int(data, "dead", target->dead);
    rte_tel_data_add_dict_int(data, "unreachable", target->unreachable);
    rte_tel_data_add_dict_uint(data, "rtt_us", target->rtt_ns / 1000u);
    rte_tel_data_add_dict_uint(data, "misses", target->misses);
    rte_tel_data_add_dict_string(data, "incarnation", incarnation);
    rte_tel_data_add_dict_uint(data, "incarnations", target->incarnations);
    rte_tel_data_add_dict_int(data, "serving", (last->flags & OG_PROBE_F_SERVING) != 0);
    rte_tel_data_add_dict_int(data, "draining", (last->flags & OG_PROBE_F_DRAINING) != 0);
    rte_tel_data_add_dict_uint(data, "generation", last->generation);
    rte_tel_data_add_dict_uint(data, "listeners", last->listeners);
    rte_tel_data_add_dict_uint(data, "connections", last->load.connections);
    rte_tel_data_add_dict_uint(data, "accepts_per_s", last->load.accepts_per_s);
    rte_tel_data_add_dict_uint(data, "bytes_per_s", last->load.bytes_per_s);
    rte_tel_data_add_dict_uint(data, "mtu", target->mtu);
    return data;
}

/* DPDK takes letters, digits, _ and / in a key; the true name is in the member's "name". */
static void key_of(const char *name, char *key, size_t size)
{
    snprintf(key, size, "%s", name);
    for (char *c = key; *c; c++) {
        if (!isalnum((unsigned char)*c)) {
            *c = '_';
        }
    }
}

static int members(const char *command, const char *parameters, struct rte_tel_data *data)
{
    const struct og_prober *prober = &app->prober;
    const struct og_tables *tables;
    uint64_t skip;
    unsigned listed = 0;

    (void)command;
    if (!read_offset(parameters, &skip)) {
        return -1;
    }
    rte_tel_data_start_dict(data);
    pthread_mutex_lock(&app->tables_lock);
    tables = atomic_load(&app->tables);
    for (enum og_member_kind kind = 0; kind < OG_MEMBER_KINDS; kind++) {
        for (unsigned i = 0; i < prober->n_ids[kind] && listed < MEMBERS_MAX; i++) {
            const unsigned id = prober->ids[kind][i];
            struct rte_tel_data *item;
            char key[64];

            if (skip) {
                skip--;
                continue;
            }
            key_of(prober->targets[kind][id].name, key, sizeof(key));
            item = describe_member(&prober->targets[kind][id], kind, id, tables ? og_tables_spec(tables) : NULL);
            if (!item || rte_tel_data_add_dict_container(data, key, item, 0) < 0) {
                rte_tel_data_free(item);
            }
            listed++;
        }
    }
    pthread_mutex_unlock(&app->tables_lock);
    return 0;
}

/* What leaves, in 1/1024, by "<service>/<site>". */
static int shares(const char *command, const char *parameters, struct rte_tel_data *data)
{
    const struct og_tables *tables;

    (void)command;
    (void)parameters;
    rte_tel_data_start_dict(data);
    pthread_mutex_lock(&app->tables_lock);
    tables = atomic_load(&app->tables);
    for (unsigned service = 0; tables && service < og_tables_spec(tables)->n_services; service++) {
        uint16_t site;

        for (unsigned i = 0; (site = og_tables_spill(tables, service, i)) != OG_NO_MEMBER; i++) {
            const struct og_tables_spec *spec = og_tables_spec(tables);
            char key[160], *slash;

            if (spec->services[service].protocol == 0 || !spec->site_names[site][0]) {
                continue;
            }
            key_of(spec->services[service].name, key, 64);
            slash = key + strlen(key);
            *slash = '/';
            key_of(spec->site_names[site], slash + 1, 64);
            rte_tel_data_add_dict_uint(data, key, app->shares.share[service][site]);
        }
    }
    pthread_mutex_unlock(&app->tables_lock);
    return 0;
}

static int why(const char *command, const char *parameters, struct rte_tel_data *data)
{
    (void)command;
    return og_why(app, parameters, data);
}

static int load(const char *command, const char *parameters, struct rte_tel_data *data)
{
    uint64_t loops = 0, busy_loops = 0, packets = 0, busy_ns = 0;

    (void)command;
    (void)parameters;
    for (unsigned i = 0; i < app->options.threads; i++) {
        loops += app->threads[i].loops;
        busy_loops += app->threads[i].busy_loops;
        packets += app->threads[i].rx;
        busy_ns += app->threads[i].busy_ns;
    }
    rte_tel_data_start_dict(data);
    rte_tel_data_add_dict_uint(data, "loops", loops);
    rte_tel_data_add_dict_uint(data, "busy_loops", busy_loops);
    rte_tel_data_add_dict_uint(data, "packets", packets);
    rte_tel_data_add_dict_uint(data, "busy_ns", busy_ns);
    rte_tel_data_add_dict_uint(data, "probe_rounds", app->prober.rounds);
    rte_tel_data_add_dict_uint(data, "probe_rounds_discarded", app->prober.discarded);
    rte_tel_data_add_dict_uint(data, "probe_replies", app->prober.replies);
    rte_tel_data_add_dict_uint(data, "probe_strays", app->prober.strays);
    return 0;
}

/* DPDK makes its directory and socket for the owner alone. */
static void open_to_group(void)
{
    const char *directory = rte_eal_get_runtime_dir();
    char path[512];
    char *slash;

    snprintf(path, sizeof(path), "%s/dpdk_telemetry.v2", directory);
    og_give_group(path, 0660);
    for (int level = 0; level < 2; level++) { /* .../dpdk/og-<role>, .../dpdk */
        slash = strrchr(path, '/');
        if (!slash || slash == path) {
            return;
        }
        *slash = '\0';
        og_give_group(path, 0750);
    }
}

bool og_telemetry_start(struct og_app *the_app, struct og_error *error)
{
    static const struct {
        const char *command;
        telemetry_cb answer;
        const char *help;
    } commands[] = {
        {"/og/info", info, "Role, versions, generation of the tables. No parameters."},
        {"/og/counters", counters, "Packets by verdict, received, sent, missed. No parameters."},
        {"/og/verdicts", verdicts, "What each verdict means. No parameters."},
        {"/og/pins", pins, "Totals of pins and half-open entries. No parameters."},
        {"/og/pins_list", pins_list, "64 pins. Parameter: the place to start from (0, then the last one's \"next\")."},
        {"/og/members", members, "What probes found, 32 members. Parameter: how many to skip."},
        {"/og/shares", shares, "Shares of new flows that go to other sites, in 1/1024. No parameters."},
        {"/og/why", why, "A flow: pin, picks, site, reason. Parameters: <client address>;<client port>;<service>."},
        {"/og/load", load, "Turns of the poll loops, busy time in ns. No parameters."},
    };

    app = the_app;
    if (!app->options.telemetry) {
        return true;
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        int rc = rte_telemetry_register_cmd(commands[i].command, commands[i].answer, commands[i].help);

        if (rc) {
            return og_fail(error, "telemetry: %s: %s", commands[i].command, strerror(-rc));
        }
    }
    open_to_group();
    return true;
}
