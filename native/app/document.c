/* SPDX-License-Identifier: Apache-2.0 */
#include "document.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "document_draft.h"
#include "og_maglev.h"

#define FORMAT 1
#define MAX_TIMEOUT_S (1u << 18)

static bool read_sites(const struct og_json_at *root, struct og_draft *draft)
{
    struct og_json_at sites, item;
    char own[OG_SITE_NAME];

    if (!og_json_array(root, "sites", OG_MAX_SITES, &sites) || !og_json_string(root, "own_site", own, sizeof(own))) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(sites.value); i++) {
        if (!og_json_item(&sites, i, &item) || !og_json_text(&item, draft->spec.site_names[i], OG_SITE_NAME)) {
            return false;
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(draft->spec.site_names[i], draft->spec.site_names[j]) == 0) {
                return og_json_fail(&item, "same as sites[%zu]: \"%s\"", j, draft->spec.site_names[i]);
            }
        }
    }
    draft->n_sites = json_array_size(sites.value);
    for (size_t i = 0; i < draft->n_sites; i++) {
        if (strcmp(own, draft->spec.site_names[i]) == 0) {
            draft->spec.own_site = (uint16_t)i;
            return true;
        }
    }
    return og_json_fail_member(root, "own_site", "not in sites: \"%s\"", own);
}

static bool read_protocol(const struct og_json_at *item, uint8_t *protocol)
{
    char text[8];

    if (!og_json_string(item, "protocol", text, sizeof(text))) {
        return false;
    }
    if (strcmp(text, "tcp") == 0) {
        *protocol = IPPROTO_TCP;
    } else if (strcmp(text, "udp") == 0) {
        *protocol = IPPROTO_UDP;
    } else {
        return og_json_fail_member(item, "protocol", "neither tcp nor udp: \"%s\"", text);
    }
    return true;
}

/* Services are placed by their index, which is their bit in masks and their name on the wire and in pins. */
static bool read_service(const struct og_json_at *item, struct og_draft *draft, bool taken[OG_MAX_SERVICES])
{
    static const char *const names[] = {"index",    "name",   "vip",       "protocol",    "port",
                                        "udp_pins", "idle_s", "closing_s", "half_open_s", NULL};
    struct og_service service = {.udp_pins = false};
    uint64_t index, port, idle_s = 8000, closing_s = 60, half_open_s = 8;

    if (!og_json_only(item, names) || !og_json_u64(item, "index", 0, OG_MAX_SERVICES - 1, &index) ||
        !og_json_string(item, "name", service.name, sizeof(service.name)) || !og_json_ipv6(item, "vip", service.vip) ||
        !read_protocol(item, &service.protocol) || !og_json_u64(item, "port", 1, 65535, &port) ||
        (og_json_has(item, "udp_pins") && !og_json_bool(item, "udp_pins", &service.udp_pins)) ||
        (og_json_has(item, "idle_s") && !og_json_u64(item, "idle_s", 1, MAX_TIMEOUT_S, &idle_s)) ||
        (og_json_has(item, "closing_s") && !og_json_u64(item, "closing_s", 1, MAX_TIMEOUT_S, &closing_s)) ||
        (og_json_has(item, "half_open_s") && !og_json_u64(item, "half_open_s", 1, 3600, &half_open_s))) {
        return false;
    }
    if (taken[index]) {
        return og_json_fail_member(item, "index", "used twice: %llu", (unsigned long long)index);
    }
    if (IN6_IS_ADDR_MULTICAST((const struct in6_addr *)service.vip) ||
        IN6_IS_ADDR_UNSPECIFIED((const struct in6_addr *)service.vip) ||
        IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)service.vip)) {
        return og_json_fail_member(item, "vip", "not a global unicast address");
    }
    service.port = htons((uint16_t)port);
    service.idle_s = (uint32_t)idle_s;
    service.closing_s = (uint32_t)closing_s;
    service.half_open_s = (uint32_t)half_open_s;
    for (size_t i = 0; i < OG_MAX_SERVICES; i++) {
        const struct og_service *other = &draft->services[i];

        if (taken[i] && strcmp(other->name, service.name) == 0) {
            return og_json_fail_member(item, "name", "used twice: \"%s\"", service.name);
        }
        if (taken[i] && other->port == service.port && other->protocol == service.protocol &&
            memcmp(other->vip, service.vip, 16) == 0) {
            return og_json_fail(item, "same VIP, protocol and port as service \"%s\"", other->name);
        }
    }
    draft->services[index] = service;
    taken[index] = true;
    return true;
}

static bool read_services(const struct og_json_at *root, struct og_draft *draft)
{
    bool taken[OG_MAX_SERVICES] = {false};
    struct og_json_at services, item;

    if (!og_json_array(root, "services", OG_MAX_SERVICES, &services)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(services.value); i++) {
        if (!og_json_item(&services, i, &item) || !read_service(&item, draft, taken)) {
            return false;
        }
    }
    /* Indices may have holes (a service was removed): an empty entry has protocol 0 and matches nothing. */
    for (size_t i = 0; i < OG_MAX_SERVICES; i++) {
        if (taken[i]) {
            draft->spec.n_services = i + 1;
        }
    }
    draft->spec.services = draft->services;
    return true;
}

bool og_draft_site(const struct og_json_at *item, const struct og_draft *draft, uint16_t *index)
{
    char site[OG_SITE_NAME];

    if (!og_json_string(item, "site", site, sizeof(site))) {
        return false;
    }
    for (size_t i = 0; i < draft->n_sites; i++) {
        if (strcmp(site, draft->spec.site_names[i]) == 0) {
            *index = (uint16_t)i;
            return true;
        }
    }
    return og_json_fail_member(item, "site", "not in sites: \"%s\"", site);
}

/* -1: there is none. */
static int service_by_name(const struct og_draft *draft, const char *name)
{
    for (size_t i = 0; i < draft->spec.n_services; i++) {
        if (strcmp(draft->services[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

bool og_draft_service(const struct og_json_at *item, const struct og_draft *draft, uint16_t *index)
{
    char name[64];
    int service;

    if (!og_json_string(item, "service", name, sizeof(name))) {
        return false;
    }
    service = service_by_name(draft, name);
    if (service < 0) {
        return og_json_fail_member(item, "service", "no such service: \"%s\"", name);
    }
    *index = (uint16_t)service;
    return true;
}

static bool read_member_services(const struct og_json_at *item, const struct og_draft *draft, struct og_member *member)
{
    struct og_json_at list, entry;
    char name[64];

    if (!og_json_array(item, "services", OG_MAX_SERVICES, &list)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(list.value); i++) {
        int index;

        if (!og_json_item(&list, i, &entry) || !og_json_text(&entry, name, sizeof(name))) {
            return false;
        }
        index = service_by_name(draft, name);
        if (index < 0) {
            return og_json_fail(&entry, "no such service: \"%s\"", name);
        }
        member->services |= UINT64_C(1) << index;
    }
    return true;
}

static bool read_member(const struct og_json_at *item, const struct og_draft *draft, bool agent,
                        struct og_member *member)
{
    static const char *const router_names[] = {"id", "name", "site", "locator", "weight", "generation", "dead", NULL};
    static const char *const agent_names[] = {"id",         "name",     "site", "locator", "weight",
                                              "generation", "services", "dead", NULL};
    uint64_t id, weight, generation;

    memset(member, 0, sizeof(*member));
    if (!og_json_only(item, agent ? agent_names : router_names) ||
        !og_json_u64(item, "id", 0, OG_MAX_MEMBERS - 1, &id) ||
        !og_json_string(item, "name", member->name, sizeof(member->name)) ||
        !og_draft_site(item, draft, &member->site) || !og_json_locator(item, "locator", member->locator) ||
        !og_json_u64(item, "weight", 0, 65535, &weight) || !og_json_u64(item, "generation", 0, 65535, &generation) ||
        (og_json_has(item, "dead") && !og_json_bool(item, "dead", &member->dead))) {
        return false;
    }
    member->id = (uint16_t)id;
    member->weight = (uint16_t)weight;
    member->generation = (uint16_t)generation;
    return !agent || read_member_services(item, draft, member);
}

static bool read_members(const struct og_json_at *root, const struct og_draft *draft, bool agent,
                         struct og_member members[OG_MAX_MEMBERS], size_t *n)
{
    struct og_json_at list, item;

    if (!og_json_array(root, agent ? "agents" : "routers", OG_MAX_MEMBERS, &list)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(list.value); i++) {
        if (!og_json_item(&list, i, &item) || !read_member(&item, draft, agent, &members[i])) {
            return false;
        }
        for (size_t j = 0; j < i; j++) {
            if (members[j].id == members[i].id) {
                return og_json_fail_member(&item, "id", "used twice: %u", members[i].id);
            }
            if (strcmp(members[j].name, members[i].name) == 0) {
                return og_json_fail_member(&item, "name", "used twice: \"%s\"", members[i].name);
            }
            if (memcmp(members[j].locator, members[i].locator, 8) == 0) {
                return og_json_fail_member(&item, "locator", "same as that of \"%s\"", members[j].name);
            }
        }
    }
    *n = json_array_size(list.value);
    return true;
}

static bool read_gateways(const struct og_json_at *root, struct og_draft *draft)
{
    struct og_json_at list, item;

    if (!og_json_array(root, "gateways", OG_MAX_MEMBERS, &list)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(list.value); i++) {
        if (!og_json_item(&list, i, &item) || !og_json_text_locator(&item, draft->gateways[i])) {
            return false;
        }
    }
    draft->spec.gateways = (const uint8_t(*)[8])draft->gateways;
    draft->spec.n_gateways = json_array_size(list.value);
    return true;
}

static bool read_sr_domain(const struct og_json_at *root, struct og_draft *draft)
{
    const size_t max = sizeof(draft->spec.sr_domain) / sizeof(draft->spec.sr_domain[0]);
    struct og_json_at list, item;

    if (!og_json_array(root, "sr_domain", max, &list)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(list.value); i++) {
        if (!og_json_item(&list, i, &item) ||
            !og_json_text_prefix(&item, draft->spec.sr_domain[i].prefix, &draft->spec.sr_domain[i].length)) {
            return false;
        }
    }
    draft->spec.n_sr_domain = json_array_size(list.value);
    return true;
}

static bool read_head(const struct og_json_at *root, struct og_draft *draft)
{
    static const char *const names[] = {"format", "generation", "digest",    "flow_seed", "own_site",
                                        "sites",  "slots",      "sr_domain", "services",  "routers",
                                        "agents", "gateways",   "history",   "spill",     NULL};
    uint64_t format, slots;
    uint8_t seed[16];

    if (!og_json_u64(root, "format", 0, INT64_MAX, &format)) {
        return false;
    }
    if (format != FORMAT) {
        return og_json_fail_member(root, "format", "this data plane reads format %d, not %llu", FORMAT,
                                   (unsigned long long)format);
    }
    if (!og_json_only(root, names) || !og_json_u64(root, "generation", 1, INT64_MAX, &draft->spec.generation) ||
        !og_json_hex(root, "digest", draft->spec.digest, sizeof(draft->spec.digest)) ||
        !og_json_hex(root, "flow_seed", seed, sizeof(seed)) ||
        !og_json_u64(root, "slots", 0, OG_MAGLEV_MAX_SLOTS, &slots)) {
        return false;
    }
    if (!og_maglev_slots_ok((uint32_t)slots)) {
        return og_json_fail_member(root, "slots", "not a prime in 3..%u: %llu", OG_MAGLEV_MAX_SLOTS,
                                   (unsigned long long)slots);
    }
    draft->spec.slots = (uint32_t)slots;
    memcpy(draft->spec.flow_seed.k, seed, sizeof(seed));
    return true;
}

struct og_tables *og_document_build(json_t *document, const struct og_document_self *self, struct og_json_error *error)
{
    struct og_draft *draft = calloc(1, sizeof(*draft));
    struct og_tables *tables = NULL;
    struct og_json_at root;

    if (!draft) {
        snprintf(error->text, sizeof(error->text), "out of memory");
        return NULL;
    }
    memcpy(draft->spec.locator, self->locator, sizeof(self->locator));
    draft->spec.fabric_mtu = self->fabric_mtu;
    draft->spec.traffic_class_dscp = (uint8_t)(self->dscp << 2);
    if (og_json_root(document, error, &root) && read_head(&root, draft) && read_sites(&root, draft) &&
        read_sr_domain(&root, draft) && read_services(&root, draft) &&
        read_members(&root, draft, false, draft->routers, &draft->spec.n_routers) &&
        read_members(&root, draft, true, draft->agents, &draft->spec.n_agents) && read_gateways(&root, draft) &&
        og_draft_history(&root, draft) && og_draft_spill(&root, draft)) {
        draft->spec.routers = draft->routers;
        draft->spec.agents = draft->agents;
        if (!self->router && draft->spec.n_agents) {
            snprintf(error->text, sizeof(error->text), "agents: a hasher's document has none");
        } else {
            tables = og_tables_build(&draft->spec, error->text, sizeof(error->text));
        }
    }
    og_draft_free_history(draft);
    free(draft);
    return tables;
}
