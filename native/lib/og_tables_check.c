/* SPDX-License-Identifier: Apache-2.0 */
#include "og_tables_check.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "og_bytes.h"
#include "og_maglev.h"
#include "og_pins.h"
#include "og_wire.h"

#define MIN_FABRIC_MTU (1280 + OG_MAX_OVERHEAD)
#define MAX_FABRIC_MTU 65535
#define MAX_HALF_OPEN_S 60
#define MAX_GATEWAYS 4096

struct report {
    char *error;
    size_t len;
};

static __attribute__((format(printf, 2, 3))) bool fail(const struct report *report, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    if (report->len > 0) {
        vsnprintf(report->error, report->len, format, arguments);
    }
    va_end(arguments);
    return false;
}

struct text {
    char s[INET6_ADDRSTRLEN];
};

static struct text address_text(const uint8_t address[16])
{
    struct text text;

    if (inet_ntop(AF_INET6, address, text.s, sizeof(text.s)) == NULL) {
        text.s[0] = '\0';
    }
    return text;
}

static struct text locator_text(const uint8_t locator[8])
{
    uint8_t address[16] = {0};

    memcpy(address, locator, 8);
    return address_text(address);
}

static bool is_zero(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

static bool check_name(const struct report *report, const char *list, size_t i, const char name[64])
{
    if (memchr(name, '\0', 64) == NULL) {
        return fail(report, "%s[%zu].name: longer than 63 bytes", list, i);
    }
    if (name[0] == '\0') {
        return fail(report, "%s[%zu].name: empty", list, i);
    }
    return true;
}

/* ---- services ---------------------------------------------------------------------------------------------------- */

static bool check_timeout(const struct report *report, size_t i, const char *field, uint32_t value, uint32_t max)
{
    if (value == 0 || value > max) {
        return fail(report, "services[%zu].%s: %u is not in 1..%u seconds", i, field, value, max);
    }
    return true;
}

static bool check_vip(const struct report *report, size_t i, const uint8_t vip[16])
{
    static const uint8_t loopback[16] = {[15] = 1};
    const bool link_local = vip[0] == 0xfe && (vip[1] & 0xc0) == 0x80;

    if (is_zero(vip, 16) || vip[0] == 0xff || link_local || memcmp(vip, loopback, 16) == 0) {
        return fail(report, "services[%zu].vip: %s is not a global unicast address", i, address_text(vip).s);
    }
    return true;
}

static bool check_service(const struct report *report, const struct og_tables_spec *spec, size_t i)
{
    const struct og_service *service = &spec->services[i];

    if (service->protocol == 0) {
        return true; /* an index not in use */
    }
    if (service->protocol != OG_NH_TCP && service->protocol != OG_NH_UDP) {
        return fail(report, "services[%zu].protocol: %u is neither TCP nor UDP", i, service->protocol);
    }
    if (service->port == 0) {
        return fail(report, "services[%zu].port: 0", i);
    }
    if (service->udp_pins && service->protocol != OG_NH_UDP) {
        return fail(report, "services[%zu].udp_pins: not a UDP service", i);
    }
    for (size_t j = 0; j < i; j++) {
        const struct og_service *other = &spec->services[j];

        if (other->protocol == 0) {
            continue;
        }
        if (other->protocol == service->protocol && other->port == service->port &&
            og_same_address(other->vip, service->vip)) {
            return fail(report, "services[%zu]: same VIP, protocol and port as services[%zu] (%s)", i, j, other->name);
        }
        if (strcmp(other->name, service->name) == 0) {
            return fail(report, "services[%zu].name: \"%s\" is also services[%zu]", i, service->name, j);
        }
    }
    return check_name(report, "services", i, service->name) && check_vip(report, i, service->vip) &&
           check_timeout(report, i, "idle_s", service->idle_s, OG_PIN_IDLE_MAX_S) &&
           check_timeout(report, i, "closing_s", service->closing_s, OG_PIN_IDLE_MAX_S) &&
           check_timeout(report, i, "half_open_s", service->half_open_s, MAX_HALF_OPEN_S);
}

/* ---- routers and agents ------------------------------------------------------------------------------------------ */

/* Every locator with its place in the description; sorted, so that equals are neighbours. */
struct owner {
    uint8_t locator[8];
    const char *list;
    size_t index;
};

static int by_locator(const void *a, const void *b)
{
    const struct owner *left = a;
    const struct owner *right = b;

    return memcmp(left->locator, right->locator, 8);
}

struct named {
    const char *name;
    size_t index;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static bool check_member(const struct report *report, const struct og_tables_spec *spec, const char *list, size_t i,
                         const struct og_member *member)
{
    if (!check_name(report, list, i, member->name)) {
        return false;
    }
    if (member->id >= OG_MAX_MEMBERS) {
        return fail(report, "%s[%zu].id: %u is above %u", list, i, member->id, OG_MAX_MEMBERS - 1);
    }
    if (member->site >= OG_MAX_SITES) {
        return fail(report, "%s[%zu].site: %u is above %u", list, i, member->site, OG_MAX_SITES - 1);
    }
    if (is_zero(member->locator, 8)) {
        return fail(report, "%s[%zu].locator: empty", list, i);
    }
    for (unsigned s = 0; s < OG_MAX_SERVICES; s++) {
        if ((member->services >> s & 1) && (s >= spec->n_services || spec->services[s].protocol == 0)) {
            return fail(report, "%s[%zu].services: there is no service with index %u", list, i, s);
        }
    }
    return true;
}

static bool check_unique_names(const struct report *report, const char *list, const struct og_member *members, size_t n,
                               struct named *scratch)
{
    for (size_t i = 0; i < n; i++) {
        scratch[i] = (struct named){members[i].name, i};
    }
    qsort(scratch, n, sizeof(*scratch), by_name);
    for (size_t i = 1; i < n; i++) {
        if (strcmp(scratch[i - 1].name, scratch[i].name) == 0) {
            return fail(report, "%s[%zu].name: \"%s\" is also %s[%zu]", list, scratch[i].index, scratch[i].name, list,
                        scratch[i - 1].index);
        }
    }
    return true;
}

static bool check_members(const struct report *report, const struct og_tables_spec *spec, const char *list,
                          const struct og_member *members, size_t n)
{
    size_t seen[OG_MAX_MEMBERS]; /* id -> place + 1 */
    struct named scratch[OG_MAX_MEMBERS];

    if (n > OG_MAX_MEMBERS) {
        return fail(report, "%s: %zu of them, at most %u", list, n, OG_MAX_MEMBERS);
    }
    memset(seen, 0, sizeof(seen));
    for (size_t i = 0; i < n; i++) {
        if (!check_member(report, spec, list, i, &members[i])) {
            return false;
        }
        if (seen[members[i].id] != 0) {
            return fail(report, "%s[%zu].id: %u is also %s[%zu]", list, i, members[i].id, list,
                        seen[members[i].id] - 1);
        }
        seen[members[i].id] = i + 1;
    }
    return check_unique_names(report, list, members, n, scratch);
}

/* A locator is one node's. Gateways list routers a second time: that is no conflict. */
static bool check_locators(const struct report *report, const struct og_tables_spec *spec, struct owner *owners)
{
    size_t n = 0;

    for (size_t i = 0; i < spec->n_routers; i++) {
        owners[n] = (struct owner){.list = "routers", .index = i};
        memcpy(owners[n++].locator, spec->routers[i].locator, 8);
    }
    for (size_t i = 0; i < spec->n_agents; i++) {
        owners[n] = (struct owner){.list = "agents", .index = i};
        memcpy(owners[n++].locator, spec->agents[i].locator, 8);
    }
    qsort(owners, n, sizeof(*owners), by_locator);
    for (size_t i = 1; i < n; i++) {
        if (og_same_locator(owners[i - 1].locator, owners[i].locator)) {
            return fail(report, "%s[%zu].locator: %s is also that of %s[%zu]", owners[i].list, owners[i].index,
                        locator_text(owners[i].locator).s, owners[i - 1].list, owners[i - 1].index);
        }
    }
    for (size_t i = 0; i < spec->n_services; i++) {
        const struct og_service *service = &spec->services[i];
        struct owner key = {.list = NULL};
        const struct owner *hit;

        memcpy(key.locator, service->vip, 8);
        hit = bsearch(&key, owners, n, sizeof(*owners), by_locator);
        if (service->protocol != 0 && hit != NULL) {
            return fail(report, "services[%zu].vip: %s is inside the locator of %s[%zu]", i,
                        address_text(service->vip).s, hit->list, hit->index);
        }
    }
    return true;
}

static bool check_own(const struct report *report, const struct og_tables_spec *spec)
{
    if (is_zero(spec->locator, 8)) {
        return fail(report, "locator: empty");
    }
    for (size_t i = 0; i < spec->n_agents; i++) {
        const uint8_t *locator = spec->agents[i].locator;

        if (og_same_locator(spec->locator, locator)) {
            return fail(report, "agents[%zu].locator: %s is this node's own", i, locator_text(locator).s);
        }
        for (size_t g = 0; g < spec->n_gateways; g++) {
            if (og_same_locator(spec->gateways[g], locator)) {
                return fail(report, "gateways[%zu]: %s is the locator of agents[%zu]", g, locator_text(locator).s, i);
            }
        }
    }
    for (size_t g = 0; g < spec->n_gateways; g++) {
        if (is_zero(spec->gateways[g], 8)) {
            return fail(report, "gateways[%zu]: empty", g);
        }
    }
    return true;
}

/* ---- the rest ---------------------------------------------------------------------------------------------------- */

static bool has_host_bits(const uint8_t prefix[16], uint8_t length)
{
    for (unsigned bit = length; bit < 128; bit++) {
        if (prefix[bit / 8] >> (7 - bit % 8) & 1) {
            return true;
        }
    }
    return false;
}

static bool check_sr_domain(const struct report *report, const struct og_tables_spec *spec)
{
    if (spec->n_sr_domain > sizeof(spec->sr_domain) / sizeof(spec->sr_domain[0])) {
        return fail(report, "sr_domain: %zu prefixes, at most 16", spec->n_sr_domain);
    }
    for (size_t i = 0; i < spec->n_sr_domain; i++) {
        const uint8_t length = spec->sr_domain[i].length;

        if (length == 0 || length > 128) {
            return fail(report, "sr_domain[%zu]: prefix length %u is not in 1..128", i, length);
        }
        if (has_host_bits(spec->sr_domain[i].prefix, length)) {
            return fail(report, "sr_domain[%zu]: %s/%u has bits set behind its length", i,
                        address_text(spec->sr_domain[i].prefix).s, length);
        }
    }
    return true;
}

static bool check_scalars(const struct report *report, const struct og_tables_spec *spec)
{
    if (!og_maglev_slots_ok(spec->slots)) {
        return fail(report, "slots: %u is not a prime in 3..%u", spec->slots, OG_MAGLEV_MAX_SLOTS);
    }
    if (spec->own_site >= OG_MAX_SITES) {
        return fail(report, "own_site: %u is above %u", spec->own_site, OG_MAX_SITES - 1);
    }
    if (spec->fabric_mtu < MIN_FABRIC_MTU || spec->fabric_mtu > MAX_FABRIC_MTU) {
        return fail(report, "fabric_mtu: %u is not in %d..%d bytes", spec->fabric_mtu, MIN_FABRIC_MTU, MAX_FABRIC_MTU);
    }
    if ((spec->traffic_class_dscp & 3) != 0) {
        return fail(report, "traffic_class_dscp: 0x%02x has ECN bits", spec->traffic_class_dscp);
    }
    if (spec->n_services > OG_MAX_SERVICES) {
        return fail(report, "services: %zu of them, at most %u", spec->n_services, OG_MAX_SERVICES);
    }
    if (spec->n_gateways > MAX_GATEWAYS) {
        return fail(report, "gateways: %zu of them, at most %u", spec->n_gateways, MAX_GATEWAYS);
    }
    return true;
}

static bool has_service(const struct og_tables_spec *spec, uint16_t index)
{
    return index < spec->n_services && spec->services[index].protocol != 0;
}

static bool check_past(const struct report *report, const struct og_tables_spec *spec, size_t i)
{
    const struct og_past *past = &spec->history[i];
    bool seen[OG_MAX_MEMBERS] = {false};
    size_t n = 1;

    if (!has_service(spec, past->service)) {
        return fail(report, "history[%zu].service: there is no service with index %u", i, past->service);
    }
    for (size_t j = 0; j < i; j++) {
        n += spec->history[j].service == past->service;
    }
    if (n > OG_HISTORY_MEMBERSHIPS) {
        return fail(report, "history[%zu].service: more than %u of \"%s\"", i, OG_HISTORY_MEMBERSHIPS,
                    spec->services[past->service].name);
    }
    if (past->n_agents > OG_MAX_MEMBERS) {
        return fail(report, "history[%zu].agents: %u of them, at most %u", i, past->n_agents, OG_MAX_MEMBERS);
    }
    for (size_t j = 0; j < past->n_agents; j++) {
        const uint16_t id = past->agents[j].id;

        if (id >= OG_MAX_MEMBERS || seen[id]) {
            return fail(report, "history[%zu].agents[%zu]: id %u %s", i, j, id,
                        id >= OG_MAX_MEMBERS ? "is above 1023" : "is there before");
        }
        seen[id] = true;
    }
    return true;
}

static bool check_spill(const struct report *report, const struct og_tables_spec *spec, size_t i)
{
    const struct og_spill *spill = &spec->spill[i];

    if (!has_service(spec, spill->service)) {
        return fail(report, "spill[%zu].service: there is no service with index %u", i, spill->service);
    }
    if (spill->site >= OG_MAX_SITES) {
        return fail(report, "spill[%zu].site: %u is above %u", i, spill->site, OG_MAX_SITES - 1);
    }
    if (spill->site == spec->own_site) {
        return fail(report, "spill[%zu].site: the own one", i);
    }
    for (size_t j = 0; j < i; j++) {
        if (spec->spill[j].service == spill->service && spec->spill[j].site == spill->site) {
            return fail(report, "spill[%zu]: same service and site as spill[%zu]", i, j);
        }
    }
    return true;
}

static bool check_history_and_spill(const struct report *report, const struct og_tables_spec *spec)
{
    for (size_t i = 0; i < spec->n_history; i++) {
        if (!check_past(report, spec, i)) {
            return false;
        }
    }
    for (size_t i = 0; i < spec->n_spill; i++) {
        if (!check_spill(report, spec, i)) {
            return false;
        }
    }
    return true;
}

bool og_tables_check(const struct og_tables_spec *spec, char *error, size_t error_len)
{
    const struct report report = {error, error_len};
    struct owner owners[2 * OG_MAX_MEMBERS];

    if (!check_scalars(&report, spec) || !check_sr_domain(&report, spec)) {
        return false;
    }
    for (size_t i = 0; i < spec->n_services; i++) {
        if (!check_service(&report, spec, i)) {
            return false;
        }
    }
    return check_members(&report, spec, "routers", spec->routers, spec->n_routers) &&
           check_members(&report, spec, "agents", spec->agents, spec->n_agents) && check_own(&report, spec) &&
           check_locators(&report, spec, owners) && check_history_and_spill(&report, spec);
}
