/* SPDX-License-Identifier: Apache-2.0
 *
 * A running data plane: what its threads share. og-hasher and og-router are this plus a struct og_role.
 *
 * Threads: poll threads (one EAL lcore each; the first also probes and beats), the table thread (table socket), the
 * next-hop thread (netlink), DPDK's telemetry thread. Only poll threads touch packets.
 */
#ifndef OG_APP_H
#define OG_APP_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <rte_mempool.h>
#include <rte_rcu_qsbr.h>
#include <rte_ring.h>
#include <rte_spinlock.h>

#include "next_hop.h"
#include "og_buf.h"
#include "og_choice.h"
#include "og_local.h"
#include "og_pins.h"
#include "og_tables.h"
#include "options.h"
#include "prober.h"

#define OG_BURST 32
#define OG_NO_QUEUE UINT16_MAX
#define OG_CACHE_LINE 64

#define OG_MAX_SHARES ((size_t)OG_MAX_SERVICES * OG_MAX_SITES)

struct og_app;

struct og_error {
    char text[512];
};

/* What a role's telemetry shows of one thread's pins. Read without locks: a counter may be a moment old. */
struct og_pins_view {
    const struct og_pins *pins;
    uint64_t half_open, half_open_capacity, promotions, promotions_to_sites;
};

/* New flows to other sites, of all threads; kept by the first poll thread. */
struct og_away {
    uint64_t counted, counted_ns; /* at the last look */
    uint32_t per_s;
};

/* What a thread knows of a flow. */
struct og_flow_view {
    bool pinned, half_open;
    uint16_t target;
};

/* The share of a service's new flows that goes to another site, by name: it outlives tables, in which both may have
 * another index. */
struct og_named_share {
    char service[64], site[64];
    uint16_t share;
};

/* The difference between the two programs. `plane` is what `open` returned: one per thread, used by that thread only. */
struct og_role {
    const char *name;   /* "hasher", "router" */
    uint8_t probe_role; /* OG_ROLE_* */
    bool router;
    void *(*open)(struct og_app *app, unsigned thread, uint64_t now_ns, struct og_error *error);
    void (*burst)(void *plane, const struct og_tables *tables, struct og_buf *const bufs[], size_t n, uint64_t now_ns);
    void (*tick)(void *plane, const struct og_tables *tables, uint64_t now_ns); /* once per turn; may be NULL */
    struct og_local *(*local)(void *plane);
    void (*pins)(const void *plane, struct og_pins_view *view); /* NULL without pins */
    /* Called by another thread than the plane's; NULL without pins. */
    void (*flow)(const void *plane, const union og_pin_key *key, uint64_t flow_hash, uint64_t now_ns,
                 struct og_flow_view *view);
};

/* One poll thread. The counters are written by it alone. */
struct og_thread {
    alignas(OG_CACHE_LINE) unsigned index;
    uint16_t port;
    uint16_t rx_queue; /* OG_NO_QUEUE: only packets handed over by other threads */
    uint16_t tx_queue;
    bool tx_shared;        /* several threads send on this queue */
    struct rte_ring *ring; /* packets of flows this thread owns, from the others; IPv6 header first */
    void *plane;
    _Atomic uint64_t epoch; /* last heartbeat epoch this thread saw */
    uint64_t verdicts[OG_V_COUNT];
    uint64_t rx, tx;
    uint64_t loops, busy_loops, busy_ns;
};

struct og_app {
    const struct og_role *role;
    struct og_options options;
    uint64_t incarnation; /* random, of this process: pins of another one are gone */
    uint64_t start_ns;
    atomic_bool stop;

    struct og_tables *_Atomic tables; /* NULL until the first document; read by poll threads under `qsbr` */
    struct rte_rcu_qsbr *qsbr;
    _Atomic uint64_t version;    /* grows after each swap of `tables` */
    pthread_mutex_t tables_lock; /* writers, and readers that are not poll threads */

    struct og_health health;
    struct og_shares shares; /* by the indices of `tables`; written by the table thread in place */
    struct og_named_share named_shares[OG_MAX_SHARES];
    size_t n_named_shares;
    struct og_next_hop next_hop;
    struct og_prober prober;
    struct og_heartbeat *heartbeat;
    bool serving; /* written by the first poll thread */
    struct og_away away;

    struct rte_mempool *pool;
    rte_spinlock_t tx_lock;
    struct og_thread threads[OG_MAX_THREADS];
};

/* The whole program: options, EAL, threads, until SIGTERM. Returns the exit code. */
int og_main(int argc, char **argv, const struct og_role *role);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t og_now_ns(void);

__attribute__((format(printf, 2, 3))) bool og_fail(struct og_error *error, const char *format, ...);
/* One line to standard error, for the journal. */
__attribute__((format(printf, 1, 2))) void og_log(const char *format, ...);

/* chown to group og and chmod, if that group exists: files of the data plane are for root and it. */
void og_give_group(const char *path, unsigned mode);

#endif
