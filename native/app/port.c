/* SPDX-License-Identifier: Apache-2.0 */
#include "port.h"

#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "app.h"

#define RX_DESCRIPTORS 1024
#define TX_DESCRIPTORS 1024
#define PACKETS_PER_THREAD 8192 /* both rings of net_af_xdp, its completion ring, the pool's cache and bursts */
#define POOL_CACHE 256
#define HANDOVER_RING 4096
/* The kernel keeps 256 bytes of an AF_XDP frame for itself, in front of the packet (XDP_PACKET_HEADROOM). */
#define XDP_HEADROOM 256
#define LINK_OVERHEAD 18 /* Ethernet header and one VLAN tag */
#define MAX_ARGS (OG_MAX_EAL_ARGS + OG_MAX_THREADS + 16)

/* EAL keeps pointers into its arguments. */
struct arguments {
    char *argv[MAX_ARGS + 1];
    int argc;
};

__attribute__((format(printf, 2, 3))) static bool add(struct arguments *arguments, const char *format, ...)
{
    va_list list;
    char *text;
    int n;

    va_start(list, format);
    n = vasprintf(&text, format, list);
    va_end(list);
    if (n < 0 || arguments->argc == MAX_ARGS) {
        return false;
    }
    arguments->argv[arguments->argc++] = text;
    return true;
}

static bool has_option(const struct og_options *options, const char *const *names)
{
    for (unsigned i = 0; i < options->n_eal; i++) {
        for (size_t j = 0; names[j]; j++) {
            if (strncmp(options->eal[i], names[j], strlen(names[j])) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* "(0-3)@(0,1)": n lcores, all floating over the CPUs the process may use. */
static bool add_lcores(struct arguments *arguments, unsigned threads)
{
    char cpus[8192] = "";
    size_t used = 0;
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set)) {
        return false;
    }
    for (int cpu = 0; cpu < CPU_SETSIZE && used < sizeof(cpus) - 8; cpu++) {
        if (CPU_ISSET(cpu, &set)) {
            used += (size_t)snprintf(cpus + used, sizeof(cpus) - used, "%s%d", used ? "," : "", cpu);
        }
    }
    return add(arguments, "--lcores=(0-%u)@(%s)", threads - 1, cpus);
}

static bool add_port(struct arguments *arguments, const struct og_options *options)
{
    switch (options->port_kind) {
    case OG_PORT_AF_XDP:
        /* One device per queue: net_af_xdp on veth refuses more, and on any NIC this works as well. */
        for (unsigned queue = 0; queue < options->threads; queue++) {
            if (!add(arguments, "--vdev=net_af_xdp%u,iface=%s,start_queue=%u,queue_count=1,use_pinned_map=1,dp_path=%s",
                     queue, options->interface, queue, options->xsks_map)) {
                return false;
            }
        }
        return true;
    case OG_PORT_VDEV:
        return add(arguments, "--vdev=%s", options->port_args);
    case OG_PORT_PCI:
        return add(arguments, "--allow=%s", options->port_args);
    }
    return false;
}

static bool check_af_xdp(const struct og_options *options, struct og_error *error)
{
    if (if_nametoindex(options->interface) == 0) {
        return og_fail(error, "port.interface: no such interface: %s", options->interface);
    }
    if (access(options->xsks_map, R_OK | W_OK)) {
        return og_fail(error, "port.xsks_map: %s: %s (run og-port attach first)", options->xsks_map, strerror(errno));
    }
    return true;
}

bool og_eal_start(struct og_app *app, const char *program, struct og_error *error)
{
    static const char *const lcore_options[] = {"-l", "--lcores", "-c", "-S", NULL};
    static const char *const log_options[] = {"--log-level", NULL};
    static struct arguments arguments;
    const struct og_options *options = &app->options;
    bool ok;

    if (options->port_kind == OG_PORT_AF_XDP && !check_af_xdp(options, error)) {
        return false;
    }
    /* systemd's RuntimeDirectory= sets this; EAL would put its telemetry socket there instead of /var/run/dpdk. */
    unsetenv("RUNTIME_DIRECTORY");
    ok = add(&arguments, "%s", program) && add(&arguments, "--file-prefix=og-%s", app->role->name) &&
         add(&arguments, "--no-shconf") && (options->telemetry || add(&arguments, "--no-telemetry")) &&
         (options->port_kind == OG_PORT_PCI || add(&arguments, "--no-pci")) && add_port(&arguments, options) &&
         (has_option(options, lcore_options) || add_lcores(&arguments, options->threads)) &&
         (has_option(options, log_options) || add(&arguments, "--log-level=warning"));
    for (unsigned i = 0; ok && i < options->n_eal; i++) {
        ok = add(&arguments, "%s", options->eal[i]);
    }
    if (!ok) {
        return og_fail(error, "too many EAL arguments, or out of memory");
    }
    if (rte_eal_init(arguments.argc, arguments.argv) < 0) {
        return og_fail(error, "EAL does not start: %s (its messages are above)", rte_strerror(rte_errno));
    }
    if (rte_lcore_count() != options->threads) {
        return og_fail(error, "threads is %u, but EAL was given %u lcores", options->threads, rte_lcore_count());
    }
    return true;
}

static bool make_pool(struct og_app *app, struct og_error *error)
{
    /* net_af_xdp receives at most room - RTE_PKTMBUF_HEADROOM - XDP_HEADROOM bytes; larger frames vanish. */
    const uint32_t room =
        RTE_ALIGN_CEIL(RTE_PKTMBUF_HEADROOM + XDP_HEADROOM + LINK_OVERHEAD + app->options.fabric_mtu, 128u);

    if (room > UINT16_MAX) {
        return og_fail(error, "fabric_mtu: %u does not fit a packet buffer", app->options.fabric_mtu);
    }
    app->pool = rte_pktmbuf_pool_create("og", PACKETS_PER_THREAD * app->options.threads, POOL_CACHE, 0, (uint16_t)room,
                                        SOCKET_ID_ANY);
    return app->pool || og_fail(error, "cannot allocate packet buffers (eal: -m): %s", rte_strerror(rte_errno));
}

static bool start_port(struct og_app *app, uint16_t port, uint16_t n_rx, uint16_t n_tx,
                       const struct rte_eth_dev_info *info, struct og_error *error)
{
    struct rte_eth_conf conf = {0};
    uint16_t rx_descriptors = RX_DESCRIPTORS, tx_descriptors = TX_DESCRIPTORS;
    int rc;

    if (app->options.port_kind == OG_PORT_PCI) {
        conf.rxmode.mtu = app->options.fabric_mtu;
        if (n_rx > 1) {
            /* Spread on addresses and ports; the flow's owner is decided by our own hash anyway. */
            conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf =
                (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP) & info->flow_type_rss_offloads;
        }
    }
    rc = rte_eth_dev_configure(port, n_rx, n_tx, &conf);
    if (rc == 0) {
        rc = rte_eth_dev_adjust_nb_rx_tx_desc(port, &rx_descriptors, &tx_descriptors);
    }
    for (uint16_t queue = 0; rc == 0 && queue < n_rx; queue++) {
        rc = rte_eth_rx_queue_setup(port, queue, rx_descriptors, SOCKET_ID_ANY, NULL, app->pool);
    }
    for (uint16_t queue = 0; rc == 0 && queue < n_tx; queue++) {
        rc = rte_eth_tx_queue_setup(port, queue, tx_descriptors, SOCKET_ID_ANY, NULL);
    }
    if (rc == 0) {
        rc = rte_eth_dev_start(port);
    }
    return rc == 0 || og_fail(error, "port %u (%s): cannot start: %s", port,
                              info->device ? rte_dev_name(info->device) : "?", rte_strerror(-rc));
}

static uint16_t at_most(uint16_t wanted, uint16_t limit)
{
    return wanted < limit ? wanted : limit;
}

static bool make_rings(struct og_app *app, struct og_error *error)
{
    for (unsigned i = 0; app->options.threads > 1 && i < app->options.threads; i++) {
        char name[32];

        snprintf(name, sizeof(name), "og-handover-%u", i);
        app->threads[i].ring = rte_ring_create(name, HANDOVER_RING, SOCKET_ID_ANY, RING_F_SC_DEQ);
        if (!app->threads[i].ring) {
            return og_fail(error, "cannot make ring %s: %s", name, rte_strerror(rte_errno));
        }
    }
    return true;
}

bool og_port_open(struct og_app *app, struct og_error *error)
{
    const bool one_each = app->options.port_kind == OG_PORT_AF_XDP;
    const uint16_t threads = (uint16_t)app->options.threads;
    const uint16_t ports = one_each ? threads : 1;
    const uint16_t queues = one_each ? 1 : threads; /* of a port */

    if (rte_eth_dev_count_avail() != ports) {
        return og_fail(error, "port: %u of %u devices are there (EAL's messages are above)", rte_eth_dev_count_avail(),
                       ports);
    }
    if (!make_pool(app, error) || !make_rings(app, error)) {
        return false;
    }
    for (uint16_t port = 0; port < ports; port++) {
        struct rte_eth_dev_info info;
        uint16_t n_rx, n_tx;

        if (rte_eth_dev_info_get(port, &info)) {
            return og_fail(error, "port %u: does not describe itself", port);
        }
        n_rx = at_most(queues, info.max_rx_queues);
        n_tx = at_most(queues, info.max_tx_queues);
        if (n_rx == 0 || n_tx == 0) {
            return og_fail(error, "port %u: has no receive or no transmit queue", port);
        }
        if (!start_port(app, port, n_rx, n_tx, &info, error)) {
            return false;
        }
        for (uint16_t queue = 0; queue < queues; queue++) {
            struct og_thread *thread = &app->threads[one_each ? port : queue];

            thread->port = port;
            thread->rx_queue = queue < n_rx ? queue : OG_NO_QUEUE;
            thread->tx_queue = queue % n_tx;
            thread->tx_shared = n_tx < queues;
        }
    }
    return true;
}

bool og_port_mac(unsigned char mac[6], struct og_error *error)
{
    struct rte_ether_addr address;

    if (rte_eth_macaddr_get(0, &address)) {
        return og_fail(error, "port 0: has no link address");
    }
    memcpy(mac, address.addr_bytes, 6);
    return true;
}

unsigned long long og_port_missed(void)
{
    unsigned long long missed = 0;
    uint16_t port;

    RTE_ETH_FOREACH_DEV(port)
    {
        struct rte_eth_stats stats;

        if (rte_eth_stats_get(port, &stats) == 0) {
            missed += stats.imissed;
        }
    }
    return missed;
}

void og_port_close(struct og_app *app)
{
    uint16_t port;

    if (app->options.port_kind == OG_PORT_AF_XDP) {
        return;
    }
    RTE_ETH_FOREACH_DEV(port)
    {
        rte_eth_dev_stop(port);
        rte_eth_dev_close(port);
    }
}
