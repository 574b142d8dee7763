/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * The loader's self-test, run by BPF_PROG_TEST_RUN and never attached: reads a socket's fields exactly as og_mine.h does, so
 * that the loader can compare them with what it knows about a socket of its own.
 *
 * In: Ethernet header, struct og_flow_key. Out: the same bytes with the answer after the Ethernet header.
 */
#include "og_mine.h"

OG_LICENSE;

struct og_answer {
    __u32 found, state, backlog, maximum, rcv_nxt; /* host byte order */
};

OG_PROGRAM("xdp")
int og_agent_check(struct xdp_md *ctx)
{
    void *end = (void *)(long)ctx->data_end;
    struct og_flow_key *flow = (void *)(long)ctx->data + sizeof(struct ethhdr);
    struct og_flow_key key OG_ALIGNED;
    struct og_answer answer = {};

    if ((void *)(flow + 1) > end) {
        return XDP_DROP;
    }
    __builtin_memcpy(&key, flow, sizeof(key));
    struct bpf_sock *sk = og_socket(ctx, &key);
    if (!sk) {
        return XDP_DROP;
    }
    answer.found = 1;
    answer.state = sk->state;
#ifdef OG_HAVE_OFFSETS
    void *tcp_sock = bpf_skc_to_tcp_sock(sk);
    if (tcp_sock) {
        answer.backlog = og_ack_backlog(tcp_sock);
        answer.maximum = og_max_ack_backlog(tcp_sock);
        answer.rcv_nxt = og_rcv_nxt(tcp_sock);
    }
#endif
    bpf_sk_release(sk);
    __builtin_memcpy(flow, &answer, sizeof(answer));
    return XDP_PASS;
}
