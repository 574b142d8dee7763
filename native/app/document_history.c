/* SPDX-License-Identifier: Apache-2.0
 *
 * Two optional parts of the table document: earlier memberships, and the sites new flows may go to.
 */
#include <stdlib.h>

#include "document_draft.h"

/* [id, weight] */
static bool read_past_agent(const struct og_json_at *item, struct og_past_agent *agent)
{
    struct og_json_at id, weight;
    uint64_t numbers[2];

    if (json_array_size(item->value) != 2) {
        return og_json_fail(item, "not a pair of id and weight");
    }
    if (!og_json_item(item, 0, &id) || !og_json_number(&id, 0, OG_MAX_MEMBERS - 1, &numbers[0]) ||
        !og_json_item(item, 1, &weight) || !og_json_number(&weight, 0, UINT16_MAX, &numbers[1])) {
        return false;
    }
    *agent = (struct og_past_agent){(uint16_t)numbers[0], (uint16_t)numbers[1]};
    return true;
}

static bool read_past(const struct og_json_at *item, struct og_draft *draft, struct og_past *past)
{
    static const char *const names[] = {"service", "agents", NULL};
    bool seen[OG_MAX_MEMBERS] = {false};
    struct og_past_agent *agents;
    struct og_json_at list, entry;
    unsigned n = 0;

    if (!og_json_only(item, names) || !og_draft_service(item, draft, &past->service) ||
        !og_json_array(item, "agents", OG_MAX_MEMBERS, &list)) {
        return false;
    }
    for (size_t i = 0; i < draft->spec.n_history; i++) {
        n += draft->history[i].service == past->service;
    }
    if (n >= OG_HISTORY_MEMBERSHIPS) {
        return og_json_fail_member(item, "service", "more than %u memberships of \"%s\"", OG_HISTORY_MEMBERSHIPS,
                                   draft->services[past->service].name);
    }
    agents = calloc(json_array_size(list.value) + 1, sizeof(*agents));
    if (!agents) {
        return og_json_fail(item, "out of memory");
    }
    past->agents = agents;
    past->n_agents = (uint16_t)json_array_size(list.value);
    draft->spec.n_history++;
    for (size_t i = 0; i < past->n_agents; i++) {
        if (!og_json_item(&list, i, &entry) || !read_past_agent(&entry, &agents[i])) {
            return false;
        }
        if (seen[agents[i].id]) {
            return og_json_fail(&entry, "id %u is there before", agents[i].id);
        }
        seen[agents[i].id] = true;
    }
    return true;
}

bool og_draft_history(const struct og_json_at *root, struct og_draft *draft)
{
    struct og_json_at list, item;

    draft->spec.history = draft->history;
    if (!og_json_has(root, "history")) {
        return true;
    }
    if (!og_json_array(root, "history", OG_MAX_PAST, &list)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(list.value); i++) {
        if (!og_json_item(&list, i, &item) || !read_past(&item, draft, &draft->history[i])) {
            return false;
        }
    }
    return true;
}

void og_draft_free_history(struct og_draft *draft)
{
    for (size_t i = 0; i < draft->spec.n_history; i++) {
        free((void *)(uintptr_t)draft->history[i].agents);
    }
}

bool og_draft_spill(const struct og_json_at *root, struct og_draft *draft)
{
    static const char *const names[] = {"service", "site", NULL};
    struct og_json_at list, item;

    draft->spec.spill = draft->spill;
    if (!og_json_has(root, "spill")) {
        return true;
    }
    draft->spec.spill_listed = true;
    if (!og_json_array(root, "spill", OG_MAX_SPILL, &list)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(list.value); i++) {
        struct og_spill *spill = &draft->spill[i];

        if (!og_json_item(&list, i, &item) || !og_json_only(&item, names) ||
            !og_draft_service(&item, draft, &spill->service) || !og_draft_site(&item, draft, &spill->site)) {
            return false;
        }
        if (spill->site == draft->spec.own_site) {
            return og_json_fail_member(&item, "site", "the own one: \"%s\"", draft->spec.site_names[spill->site]);
        }
        for (size_t j = 0; j < i; j++) {
            if (draft->spill[j].service == spill->service && draft->spill[j].site == spill->site) {
                return og_json_fail(&item, "same service and site as spill[%zu]", j);
            }
        }
        draft->spec.n_spill++;
    }
    return true;
}
