/* SPDX-License-Identifier: Apache-2.0
 *
 * og-router: decides which server gets a connection and remembers the decision.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "app.h"
#include "large_pages.h"
#include "og_router.h"

/* The key cookies are made with: random, of this process, the same for all its threads. */
static bool draw_secret(struct og_cookie_secret *secret)
{
    static struct og_cookie_secret drawn;
    static bool done;

    if (!done && getrandom(&drawn, sizeof(drawn), 0) != sizeof(drawn)) {
        return false;
    }
    done = true;
    *secret = drawn;
    return true;
}

static void *router_open(struct og_app *app, unsigned thread, uint64_t now_ns, struct og_error *error)
{
    struct og_router_config config = {
        .thread = (uint16_t)thread,
        .threads = (uint16_t)app->options.threads,
        .pins = app->options.pins / app->options.threads,
        .halfopen = OG_HALFOPEN_ENTRIES,
        .health = &app->health,
        .shares = &app->shares,
        .self = {.role = OG_ROLE_ROUTER, .incarnation = app->incarnation},
    };
    struct og_router *router = aligned_alloc(alignof(struct og_router), sizeof(*router));
    const char *kind, *other_kind;

    config.pins_memory = og_memory_large(og_pins_bytes(config.pins), &kind);
    config.halfopen_memory = og_memory_large(og_halfopen_bytes(config.halfopen), &other_kind);
    if (!router || !config.pins_memory || !config.halfopen_memory) {
        og_fail(error, "pins: no memory for %llu pins of thread %u", (unsigned long long)config.pins, thread);
        return NULL; /* the process ends: nothing to give back */
    }
    if (!draw_secret(&config.cookies) || getrandom(config.key, sizeof(config.key), 0) != sizeof(config.key)) {
        og_fail(error, "no random numbers");
        return NULL;
    }
    if (!og_router_init(router, &config, now_ns)) {
        og_fail(error, "pins: %llu pins in thread %u are not possible", (unsigned long long)config.pins, thread);
        return NULL;
    }
    og_log("thread %u: room for %llu pins on %s", thread, (unsigned long long)config.pins, kind);
    return router;
}

static void router_burst(void *plane, const struct og_tables *tables, struct og_buf *const bufs[], size_t n,
                         uint64_t now_ns)
{
    og_router_burst(plane, tables, bufs, n, now_ns);
}

static void router_tick(void *plane, const struct og_tables *tables, uint64_t now_ns)
{
    og_router_tick(plane, tables, now_ns);
}

static struct og_local *router_local(void *plane)
{
    return &((struct og_router *)plane)->local;
}

static void router_pins(const void *plane, struct og_pins_view *view)
{
    const struct og_router *router = plane;

    view->pins = &router->pins;
    view->half_open = router->halfopen.count;
    view->half_open_capacity = router->halfopen.capacity;
    view->promotions = router->halfopen.promotions;
    view->promotions_to_sites = router->promotions_to_sites;
}

static void router_flow(const void *plane, const union og_pin_key *key, uint64_t flow_hash, uint64_t now_ns,
                        struct og_flow_view *view)
{
    const struct og_router *router = plane;
    const struct og_pin_rules *rules = &router->rules;
    const uint64_t hash = og_hash_for(flow_hash, OG_USE_PIN);
    struct og_halfopen_entry entry;
    struct og_pin pin;

    *view = (struct og_flow_view){.target = OG_TARGET_NONE};
    if (og_pins_peek(&router->pins, rules, key, hash, (uint32_t)(now_ns / 1000000000u), &pin)) {
        view->pinned = true;
        view->target = pin.target;
    } else if (og_halfopen_peek(&router->halfopen, rules, key, hash, (uint32_t)(now_ns / 1000000u), &entry)) {
        view->half_open = true;
        view->target = entry.target;
    }
}

int main(int argc, char **argv)
{
    static const struct og_role role = {
        .name = "router",
        .probe_role = OG_ROLE_ROUTER,
        .router = true,
        .open = router_open,
        .burst = router_burst,
        .tick = router_tick,
        .local = router_local,
        .pins = router_pins,
        .flow = router_flow,
    };

    return og_main(argc, argv, &role);
}
