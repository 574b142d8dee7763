/* SPDX-License-Identifier: Apache-2.0
 *
 * The port steering program: makes a NIC bifurcated. Packets for this node's SIDs and for the VIPs go to the data plane's
 * AF_XDP socket; everything else (BGP, neighbour discovery, Consul, ssh) stays with the kernel. When no data plane is
 * bound to the queue, its packets stay with the kernel as well, where blackhole routes end them: a dead data plane must
 * not become a forwarding loop.
 *
 * Loaded, attached and kept up to date by `og-port`; the maps are pinned so that they outlive it.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "og_port.h"
#include "../native/lib/og_wire.h"

/* The name and the key (receive queue) are what DPDK's net_af_xdp expects of a pinned map. */
struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, OG_PORT_MAX_QUEUES);
    __type(key, __u32);
    __type(value, __u32);
    __uint(pinning, LIBBPF_PIN_BY_NAME);
} xsks_map SEC(".maps");

/* Two exact look-ups cost less than one longest-prefix match, and locators are /64 by contract. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, OG_PORT_MAX_DESTINATIONS);
    __type(key, struct og_port_destination);
    __type(value, __u8);
    __uint(pinning, LIBBPF_PIN_BY_NAME);
} destinations SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, OG_PORT_COUNTERS);
    __type(key, __u32);
    __type(value, __u64);
    __uint(pinning, LIBBPF_PIN_BY_NAME);
} counters SEC(".maps");

static __always_inline void count(__u32 which)
{
    __u64 *value = bpf_map_lookup_elem(&counters, &which);

    if (value) {
        *value += 1; /* per CPU, and XDP does not nest: no atomic needed */
    }
}

static __always_inline int is_ours(const struct og_ipv6 *ip)
{
    struct og_port_destination key = {.prefix_length = 64};

    __builtin_memcpy(key.address, ip->dst, 8);
    if (bpf_map_lookup_elem(&destinations, &key)) {
        return 1;
    }
    __builtin_memcpy(key.address + 8, ip->dst + 8, 8);
    key.prefix_length = 128;
    return bpf_map_lookup_elem(&destinations, &key) != 0;
}

SEC("xdp")
int og_port(struct xdp_md *ctx)
{
    const void *data = (const void *)(long)ctx->data;
    const void *end = (const void *)(long)ctx->data_end;
    const struct ethhdr *ethernet = data;
    const struct og_ipv6 *ip = (const void *)(ethernet + 1);
    int action;

    if ((const void *)(ip + 1) > end || ethernet->h_proto != bpf_htons(ETH_P_IPV6) || !is_ours(ip)) {
        count(OG_PORT_PASSED);
        return XDP_PASS;
    }
    action = (int)bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
    count(action == XDP_REDIRECT ? OG_PORT_STEERED : OG_PORT_UNBOUND);
    return action;
}

char LICENSE[] SEC("license") = "Apache-2.0";
