/* SPDX-License-Identifier: Apache-2.0
 *
 * og-bench: what the library costs per packet on one core, without ports. Prints one JSON document.
 *
 * Each row is a loop over bursts of 32: write the packets, ask the clock (as the poll loop does), call the library, look
 * at the verdicts. The base line is the same loop without the call; own = total - base line. Times are thread CPU time,
 * medians over the runs. Packets that got the expected verdict are counted and printed, and must be at least 99.9 %: a
 * table filled to its capacity has lost a few pins.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "large_pages.h"
#include "og_hasher.h"
#include "og_router.h"
#include "traffic.h"

#define MAX_RUNS 31
#define MILLION UINT64_C(1000000)

static unsigned runs = 7;
static uint64_t packets_per_run = 2 * MILLION; /* a multiple of the burst */
static bool first_row = true;

__attribute__((noreturn)) static void die(const char *what)
{
    fprintf(stderr, "og-bench: %s\n", what);
    exit(1);
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *need(size_t alignment, size_t size)
{
    void *memory = aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);

    if (!memory) {
        die("out of memory");
    }
    memset(memory, 0, size);
    return memory;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

struct result {
    double median, least, most; /* ns */
};

static struct result summarise(double *values, unsigned n)
{
    qsort(values, n, sizeof(*values), compare);
    return (struct result){values[n / 2], values[0], values[n - 1]};
}

/* ---- tables ------------------------------------------------------------------------------------------------------- */

static struct og_tables *build_tables(unsigned n_agents)
{
    static struct og_member agents[OG_MAX_MEMBERS];
    static const uint8_t gateways[1][8] = {{0x5f, 0, 0, 1, 0, 0x11}};
    struct og_service service = {
        .port = htons(80), .protocol = OG_NH_TCP, .idle_s = 8000, .closing_s = 60, .half_open_s = 8, .name = "web"};
    struct og_member routers[2] = {
        {.weight = 100, .name = "ogr_w1"},
        {.weight = 100, .name = "ogr_e1", .id = 1, .site = 1, .locator = {0x5f, 0, 0, 2, 0, 0x21}}};
    struct og_tables_spec spec = {.generation = 1,
                                  .flow_seed.k = {1, 2},
                                  .fabric_mtu = 2000,
                                  .slots = OG_TABLE_SLOTS,
                                  .services = &service,
                                  .n_services = 1,
                                  .routers = routers,
                                  .n_routers = 2,
                                  .agents = agents,
                                  .n_agents = n_agents,
                                  .gateways = gateways,
                                  .n_gateways = 1};
    struct og_tables *tables;
    char error[256];

    memcpy(service.vip, og_bench_vip, 16);
    memcpy(routers[0].locator, og_bench_router, 8);
    memcpy(spec.locator, og_bench_router, 8);
    for (unsigned i = 0; i < n_agents; i++) {
        agents[i] = (struct og_member){.locator = {0x5f, 0, 0, 1, (uint8_t)(1 + i / 256), (uint8_t)i},
                                       .id = (uint16_t)i,
                                       .weight = 100,
                                       .services = 1};
        snprintf(agents[i].name, sizeof(agents[i].name), "agent_w%u", i + 1);
    }
    tables = og_tables_build(&spec, error, sizeof(error));
    if (!tables) {
        die(error);
    }
    return tables;
}

/* ---- rows --------------------------------------------------------------------------------------------------------- */

/* One measured loop. `call` may be NULL: the base line. */
struct row {
    const char *name;
    struct og_bench_traffic *traffic;
    void (*call)(void *plane, const struct og_tables *tables, struct og_buf *const bufs[], size_t n, uint64_t now_ns);
    void *plane;
    const struct og_tables *tables;
    enum og_verdict expected;
};

static double run_once(const struct row *row, uint64_t *expected)
{
    const uint64_t bursts = packets_per_run / OG_BENCH_BURST;
    const uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);

    for (uint64_t burst = 0; burst < bursts; burst++) {
        const uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);

        og_bench_traffic_fill(row->traffic);
        if (row->call) {
            row->call(row->plane, row->tables, row->traffic->refs, OG_BENCH_BURST, now_ns);
        } else {
            __asm__ volatile("" ::: "memory"); /* the packets are written, though nobody reads them */
        }
        for (unsigned i = 0; i < OG_BENCH_BURST; i++) {
            *expected += row->traffic->bufs[i].verdict == row->expected;
        }
    }
    return (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - start) / (double)(bursts * OG_BENCH_BURST);
}

static struct result measure(const struct row *row, uint64_t *hits)
{
    const uint64_t packets = runs * (packets_per_run / OG_BENCH_BURST) * OG_BENCH_BURST;
    uint64_t expected = 0;
    double values[MAX_RUNS];
    uint64_t warm = 0;

    (void)run_once(row, &warm);
    for (unsigned i = 0; i < runs; i++) {
        values[i] = run_once(row, &expected);
    }
    if (expected < packets - packets / 1000) {
        fprintf(stderr, "og-bench: %s: %llu of %llu packets got the verdict expected (one got %s)\n", row->name,
                (unsigned long long)expected, (unsigned long long)packets,
                row->traffic->bufs[0].verdict < OG_V_COUNT ? og_verdict_name(row->traffic->bufs[0].verdict) : "none");
        exit(1);
    }
    *hits = expected;
    return summarise(values, runs);
}

static void print_row(const struct row *row, struct result base, const char *more)
{
    uint64_t hits;
    const struct result total = measure(row, &hits);
    const uint64_t packets = runs * packets_per_run;

    printf("%s\n    {\"name\": \"%s\", \"total_ns\": %.1f, \"least_ns\": %.1f, \"most_ns\": %.1f, \"base_ns\": %.1f, "
           "\"own_ns\": %.1f, \"mpps\": %.2f, \"packets\": %llu, \"verdict\": \"%s\", \"verdicts\": %llu%s}",
           first_row ? "" : ",", row->name, total.median, total.least, total.most, base.median,
           total.median - base.median, 1000 / total.median, (unsigned long long)packets, og_verdict_name(row->expected),
           (unsigned long long)hits, more);
    first_row = false;
}

static struct result base_line(struct og_bench_traffic *traffic)
{
    const struct row row = {.name = "base line", .traffic = traffic, .expected = OG_V_NONE};

    uint64_t untouched;

    return measure(&row, &untouched);
}

/* ---- what is measured --------------------------------------------------------------------------------------------- */

static void call_hasher(void *plane, const struct og_tables *tables, struct og_buf *const bufs[], size_t n,
                        uint64_t now_ns)
{
    og_hasher_burst(plane, tables, bufs, n, now_ns);
}

/* With its house-keeping, as in the poll loop. */
static void call_router(void *plane, const struct og_tables *tables, struct og_buf *const bufs[], size_t n,
                        uint64_t now_ns)
{
    og_router_burst(plane, tables, bufs, n, now_ns);
    og_router_tick(plane, tables, now_ns);
}

static void bench_hasher(void)
{
    static struct og_health health;
    static const uint64_t key[2] = {3, 4};
    const struct og_probe_self self = {.role = OG_ROLE_HASHER};
    struct og_bench_traffic *traffic = need(64, sizeof(*traffic));
    struct og_hasher *hasher = need(_Alignof(struct og_hasher), sizeof(*hasher));
    struct og_tables *tables = build_tables(0);
    struct row row = {.name = "hasher",
                      .traffic = traffic,
                      .call = call_hasher,
                      .plane = hasher,
                      .tables = tables,
                      .expected = OG_V_STEERED};

    og_hasher_init(hasher, &health, key, &self);
    og_bench_traffic_init(traffic, false, OG_BENCH_ACK, MILLION);
    print_row(&row, base_line(traffic), "");
    og_tables_free(tables);
    free(hasher);
    free(traffic);
}

static struct og_router *make_router(uint64_t pins)
{
    struct og_router *router = need(_Alignof(struct og_router), sizeof(*router));
    struct og_router_config config = {
        .threads = 1, .pins = pins, .halfopen = OG_HALFOPEN_ENTRIES, .key = {5, 6}, .self = {.role = OG_ROLE_ROUTER}};
    const char *kind;

    config.pins_memory = og_memory_large(og_pins_bytes(pins), &kind);
    config.halfopen_memory = og_memory_large(og_halfopen_bytes(config.halfopen), &kind);
    if (!config.pins_memory || !config.halfopen_memory || !og_router_init(router, &config, clock_ns(CLOCK_MONOTONIC))) {
        die("cannot make a router");
    }
    return router;
}

/* Pins as a promotion makes them, without the handshakes; to agents 0 .. n_agents - 1, or to the other site with 0. */
static void fill_pins(struct og_router *router, const struct og_tables *tables, uint64_t flows, unsigned n_agents)
{
    const uint32_t now_s = (uint32_t)(clock_ns(CLOCK_MONOTONIC) / 1000000000u);

    for (uint64_t number = 0; number < flows; number++) {
        union og_pin_key key = {.service = 0};
        union og_flow flow;
        uint64_t hash;

        og_bench_flow(number, &flow);
        hash = og_hash_for(og_flow_hash(&og_tables_spec(tables)->flow_seed, &flow), OG_USE_PIN);
        memcpy(key.client, flow.client, 16);
        key.client_port = flow.client_port;
        og_pins_put(&router->pins, og_tables_pin_rules(tables), &key, hash,
                    n_agents ? (uint16_t)(number % n_agents) : OG_TARGET_SITE + 1, 1, now_s);
    }
}

static void bench_pinned(uint64_t flows, unsigned n_agents, const char *name)
{
    struct og_bench_traffic *traffic = need(64, sizeof(*traffic));
    struct og_tables *tables = build_tables(16);
    struct og_router *router = make_router(flows < 4096 ? 4096 : flows);
    struct row row = {.name = name,
                      .traffic = traffic,
                      .call = call_router,
                      .plane = router,
                      .tables = tables,
                      .expected = OG_V_PINNED};
    const uint64_t slots = router->pins.lines * OG_PINS_SLOTS;
    struct og_pins_stats before;
    struct result base;
    char more[256];

    fill_pins(router, tables, flows, n_agents);
    og_bench_traffic_init(traffic, true, OG_BENCH_ACK, flows);
    base = base_line(traffic);
    before = router->pins.stats;
    {
        /* Every flow once, to count hits and lines before the numbers are printed. */
        uint64_t bursts = flows / OG_BENCH_BURST;

        for (uint64_t burst = 0; burst < bursts; burst++) {
            og_bench_traffic_fill(traffic);
            og_router_burst(router, tables, traffic->refs, OG_BENCH_BURST, clock_ns(CLOCK_MONOTONIC));
        }
    }
    snprintf(more, sizeof(more),
             ", \"flows\": %llu, \"pins\": %llu, \"bytes_per_pin\": %.1f, \"load_factor\": %.3f, \"hits\": %llu, "
             "\"lines_per_hit\": %.3f, \"evictions\": %llu",
             (unsigned long long)flows, (unsigned long long)router->pins.count,
             (double)og_pins_bytes(router->pins.capacity) / (double)router->pins.capacity,
             (double)router->pins.count / (double)slots, (unsigned long long)(router->pins.stats.hits - before.hits),
             (double)(router->pins.stats.hit_lines - before.hit_lines) /
                 (double)(router->pins.stats.hits - before.hits),
             (unsigned long long)router->pins.stats.evictions);
    print_row(&row, base, more);
    og_tables_free(tables);
    free(router);
    free(traffic);
}

static void bench_unpinned(uint8_t flags, enum og_verdict expected, const char *name)
{
    struct og_bench_traffic *traffic = need(64, sizeof(*traffic));
    struct og_tables *tables = build_tables(16);
    struct og_router *router = make_router(MILLION);
    struct row row = {
        .name = name, .traffic = traffic, .call = call_router, .plane = router, .tables = tables, .expected = expected};

    og_bench_traffic_init(traffic, true, flags, MILLION);
    print_row(&row, base_line(traffic), "");
    og_tables_free(tables);
    free(router);
    free(traffic);
}

static void bench_tables(unsigned n_agents)
{
    double values[MAX_RUNS];
    struct result result;

    for (unsigned i = 0; i < runs; i++) {
        const uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);

        og_tables_free(build_tables(n_agents));
        values[i] = (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - start) / 1e6;
    }
    result = summarise(values, runs);
    printf("%s\n    {\"agents\": %u, \"slots\": %u, \"median_ms\": %.2f, \"least_ms\": %.2f, \"most_ms\": %.2f}",
           first_row ? "" : ",", n_agents, OG_TABLE_SLOTS, result.median, result.least, result.most);
    first_row = false;
}

int main(int argc, char **argv)
{
    const bool quick = argc > 1 && strcmp(argv[1], "--quick") == 0;

    if (argc > 1 && !quick) {
        fprintf(stderr, "usage: og-bench [--quick]\n  --quick  3 short runs, and no 10 M flows\n");
        return 2;
    }
    if (quick) {
        runs = 3;
        packets_per_run = MILLION / 5;
    }
    printf("{\"runs\": %u, \"packets_per_run\": %llu, \"rows\": [", runs, (unsigned long long)packets_per_run);
    bench_hasher();
    bench_pinned(1000, 16, "router, pinned, 1 k flows");
    bench_pinned(MILLION, 16, "router, pinned, 1 M flows");
    bench_pinned(MILLION, 0, "router, pinned to another site, 1 M flows");
    if (!quick) {
        bench_pinned(10 * MILLION, 16, "router, pinned, 10 M flows");
    }
    bench_unpinned(OG_BENCH_SYN, OG_V_OFFERED, "router, SYN");
    bench_unpinned(OG_BENCH_ACK, OG_V_HUNT_1, "router, unknown flow");
    printf("\n  ],\n  \"tables\": [");
    first_row = true;
    bench_tables(16);
    bench_tables(256);
    printf("\n  ]}\n");
    return 0;
}
