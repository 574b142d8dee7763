/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * The ingress program inside one that undoes what it did, for BPF_PROG_TEST_RUN repeats a program on the same buffer.
 * OG_BENCH_HEAD: bytes of envelope, the Ethernet header included. With OG_BENCH_BASE the same without the program, but with
 * the two moves of the packet's start: the base line to subtract. The envelope is restored from what the first run saw.
 */
#define OG_PROGRAM(section) static __always_inline
#include "og_agent_xdp.c"

struct og_bench_head {
    __u64 words[(OG_BENCH_HEAD + 7) / 8];
};

int og_bench_xdp(struct xdp_md *ctx)
{
    __u32 zero = 0;
    struct og_bench_head *head = og_map_find(bench_map, &zero);
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    const int cut = OG_BENCH_HEAD - sizeof(struct ethhdr);
    long before = end - data;

    if (!head || data + OG_BENCH_HEAD > end) {
        return XDP_ABORTED;
    }
    if (!head->words[0]) {
        __builtin_memcpy(head, data, OG_BENCH_HEAD);
    }
#ifdef OG_BENCH_BASE
    if (OG_BENCH_CUT && bpf_xdp_adjust_head(ctx, cut)) {
        return XDP_ABORTED;
    }
    int action = XDP_PASS;
#else
    int action = og_agent_xdp(ctx);
#endif
    data = (void *)(long)ctx->data;
    end = (void *)(long)ctx->data_end;
    if (end - data != before && bpf_xdp_adjust_head(ctx, -cut)) {
        return XDP_ABORTED;
    }
    data = (void *)(long)ctx->data;
    end = (void *)(long)ctx->data_end;
    if (data + OG_BENCH_HEAD > end) {
        return XDP_ABORTED;
    }
    for (int i = 0; i < OG_BENCH_HEAD / 8; i++) {
        ((og_word64 *)data)[i] = head->words[i];
    }
    __builtin_memcpy(data + OG_BENCH_HEAD / 8 * 8, (void *)head + OG_BENCH_HEAD / 8 * 8, OG_BENCH_HEAD % 8);
    return action;
}
