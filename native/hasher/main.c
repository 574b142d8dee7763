/* SPDX-License-Identifier: Apache-2.0
 *
 * og-hasher: takes clients' packets for the VIPs and encapsulates each to the router its flow belongs to. Keeps no state
 * per flow.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "app.h"
#include "og_hasher.h"

static void *hasher_open(struct og_app *app, unsigned thread, uint64_t now_ns, struct og_error *error)
{
    const struct og_probe_self self = {.role = OG_ROLE_HASHER, .incarnation = app->incarnation};
    struct og_hasher *hasher = aligned_alloc(alignof(struct og_hasher), sizeof(*hasher));
    uint64_t key[2];

    (void)thread;
    (void)now_ns;
    if (!hasher || getrandom(key, sizeof(key), 0) != sizeof(key)) {
        og_fail(error, "out of memory or of random numbers");
        free(hasher);
        return NULL;
    }
    og_hasher_init(hasher, &app->health, key, &self);
    return hasher;
}

static void hasher_burst(void *plane, const struct og_tables *tables, struct og_buf *const bufs[], size_t n,
                         uint64_t now_ns)
{
    og_hasher_burst(plane, tables, bufs, n, now_ns);
}

static struct og_local *hasher_local(void *plane)
{
    return &((struct og_hasher *)plane)->local;
}

int main(int argc, char **argv)
{
    static const struct og_role role = {
        .name = "hasher",
        .probe_role = OG_ROLE_HASHER,
        .open = hasher_open,
        .burst = hasher_burst,
        .local = hasher_local,
    };

    return og_main(argc, argv, &role);
}
