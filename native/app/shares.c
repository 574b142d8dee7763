/* SPDX-License-Identifier: Apache-2.0 */
#include "shares.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app.h"
#include "json.h"
#include "state_file.h"

#define FORMAT 1

struct share_list {
    struct og_named_share shares[OG_MAX_SHARES];
    size_t n;
};

static bool read_share(const struct og_json_at *item, struct og_named_share *share)
{
    static const char *const names[] = {"service", "site", "share", NULL};
    uint64_t number;

    if (!og_json_only(item, names) || !og_json_string(item, "service", share->service, sizeof(share->service)) ||
        !og_json_string(item, "site", share->site, sizeof(share->site)) ||
        !og_json_u64(item, "share", 0, OG_SHARE_ALL, &number)) {
        return false;
    }
    share->share = (uint16_t)number;
    return true;
}

/* Twice the same, or more than everything? */
static bool fits(const struct og_json_at *item, const struct share_list *list, const struct og_named_share *share)
{
    unsigned sum = share->share;

    for (size_t i = 0; i < list->n; i++) {
        const struct og_named_share *other = &list->shares[i];

        if (strcmp(other->service, share->service) != 0) {
            continue;
        }
        if (strcmp(other->site, share->site) == 0) {
            return og_json_fail(item, "same service and site as shares[%zu]", i);
        }
        sum += other->share;
    }
    return sum <= OG_SHARE_ALL || og_json_fail_member(item, "share", "the shares of \"%s\" are %u together, at most %u",
                                                      share->service, sum, OG_SHARE_ALL);
}

static int service_index(const struct og_tables_spec *spec, const char *name)
{
    for (size_t i = 0; i < spec->n_services; i++) {
        if (spec->services[i].protocol != 0 && strcmp(spec->services[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static int site_index(const struct og_tables_spec *spec, const char *name)
{
    for (int i = 0; i < OG_MAX_SITES; i++) {
        if (strcmp(spec->site_names[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

static bool known(const struct og_json_at *item, const struct og_tables_spec *spec, const struct og_named_share *share)
{
    const int site = site_index(spec, share->site);

    if (service_index(spec, share->service) < 0) {
        return og_json_fail_member(item, "service", "no such service: \"%s\"", share->service);
    }
    if (site < 0) {
        return og_json_fail_member(item, "site", "not in sites: \"%s\"", share->site);
    }
    return site != spec->own_site || og_json_fail_member(item, "site", "the own one: \"%s\"", share->site);
}

/* `spec` NULL: names are not looked up. */
static bool read_list(json_t *document, const struct og_tables_spec *spec, struct share_list *list,
                      struct og_json_error *error)
{
    struct og_json_at root, shares, item;

    list->n = 0;
    if (!og_json_root(document, error, &root) || !og_json_array(&root, "shares", OG_MAX_SHARES, &shares)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(shares.value); i++) {
        struct og_named_share *share = &list->shares[i];

        if (!og_json_item(&shares, i, &item) || !read_share(&item, share) || (spec && !known(&item, spec, share)) ||
            !fits(&item, list, share)) {
            return false;
        }
        list->n++;
    }
    return true;
}

static void adopt(struct og_app *app, const struct share_list *list)
{
    memcpy(app->named_shares, list->shares, list->n * sizeof(list->shares[0]));
    app->n_named_shares = list->n;
}

void og_shares_apply(struct og_app *app)
{
    const struct og_tables *tables = atomic_load(&app->tables);
    static struct og_shares next; /* of the table thread */

    if (!tables) {
        return;
    }
    memset(&next, 0, sizeof(next));
    for (size_t i = 0; i < app->n_named_shares; i++) {
        const int service = service_index(og_tables_spec(tables), app->named_shares[i].service);
        const int site = site_index(og_tables_spec(tables), app->named_shares[i].site);

        if (service >= 0 && site >= 0) {
            next.share[service][site] = app->named_shares[i].share;
        }
    }
    for (unsigned service = 0; service < OG_MAX_SERVICES; service++) {
        for (unsigned site = 0; site < OG_MAX_SITES; site++) {
            __atomic_store_n(&app->shares.share[service][site], next.share[service][site], __ATOMIC_RELAXED);
        }
    }
}

json_t *og_shares_json(const struct og_app *app)
{
    json_t *list = json_array();

    for (size_t i = 0; i < app->n_named_shares; i++) {
        const struct og_named_share *share = &app->named_shares[i];

        json_array_append_new(list, json_pack("{s:s, s:s, s:i}", "service", share->service, "site", share->site,
                                              "share", (int)share->share));
    }
    return list;
}

static bool is_running(const struct og_app *app, const struct share_list *list)
{
    if (app->n_named_shares != list->n) {
        return false;
    }
    for (size_t i = 0; i < list->n; i++) {
        const struct og_named_share *a = &app->named_shares[i], *b = &list->shares[i];

        if (strcmp(a->service, b->service) != 0 || strcmp(a->site, b->site) != 0 || a->share != b->share) {
            return false;
        }
    }
    return true;
}

static bool set(struct og_app *app, json_t *request, struct share_list *list, struct og_error *error)
{
    const struct og_tables *tables = atomic_load(&app->tables);
    struct og_json_error reason;
    json_t *document;
    bool ok;

    if (!app->role->router) {
        return og_fail(error, "shares: a hasher has none");
    }
    if (!tables) {
        return og_fail(error, "shares: no tables are loaded yet");
    }
    if (!read_list(request, og_tables_spec(tables), list, &reason)) {
        return og_fail(error, "%s", reason.text);
    }
    if (is_running(app, list)) {
        return true;
    }
    document = json_pack("{s:i, s:O}", "format", FORMAT, "shares", json_object_get(request, "shares"));
    ok = og_state_write(app, "shares", document, error);
    json_decref(document);
    if (ok) {
        adopt(app, list);
        og_shares_apply(app);
    }
    return ok;
}

bool og_shares_set(struct og_app *app, json_t *request, struct og_error *error)
{
    struct share_list *list = malloc(sizeof(*list));
    bool ok = list ? set(app, request, list, error) : og_fail(error, "out of memory");

    free(list);
    return ok;
}

void og_shares_load(struct og_app *app)
{
    struct share_list *list = malloc(sizeof(*list));
    struct og_json_error reason;
    json_error_t syntax;
    json_t *document;
    char path[300];

    og_state_path(app, "shares", path, sizeof(path));
    if (!list || !app->role->router || access(path, F_OK) != 0) {
        free(list);
        return;
    }
    document = json_load_file(path, JSON_REJECT_DUPLICATES, &syntax);
    if (!document) {
        og_log("starting without shares: %s: line %d: %s", path, syntax.line, syntax.text);
    } else if (json_integer_value(json_object_get(document, "format")) != FORMAT) {
        og_log("starting without shares: %s: format: not %d", path, FORMAT);
    } else if (!read_list(document, NULL, list, &reason)) {
        og_log("starting without shares: %s: %s", path, reason.text);
    } else {
        adopt(app, list);
    }
    json_decref(document);
    free(list);
}
