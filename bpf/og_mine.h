/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * "Mine": does the kernel of this host know the flow, or would a listener take it? The kernel's own socket table
 * answers; there is no copy of it to keep in step. The answer is the counter to take the packet under, or OG_C_COUNT:
 * not mine.
 */
#ifndef OG_MINE_H
#define OG_MINE_H

#include "og_inner.h"

/* rcv_nxt +- 2^25: twice the largest window in common use. A socket that expects something quite different is a leftover
 * of an earlier connection with the same ports, or of a SYN that another server answered, too. */
#define OG_SEQUENCE_SPAN (1 << 25)

/* Fields of the kernel's sockets. The offsets are those of the running kernel: from libbpf by relocation, from the loader by
 * BTF. Without BTF nothing is read: a listener is then never full, and no socket a leftover. */
#ifdef OG_LIBBPF

struct sock {
    __u32 sk_ack_backlog;
    __u32 sk_max_ack_backlog;
} __attribute__((preserve_access_index));

struct tcp_sock {
    __u32 rcv_nxt;
} __attribute__((preserve_access_index));

struct tcp_request_sock {
    __u32 rcv_isn;
    __u32 snt_isn;
} __attribute__((preserve_access_index));

struct sock_common {
    __u32 skc_tw_rcv_nxt;
} __attribute__((preserve_access_index));

#define OG_HAVE_OFFSETS
#define og_ack_backlog(tcp_sock) (((struct sock *)(tcp_sock))->sk_ack_backlog)
#define og_max_ack_backlog(tcp_sock) (((struct sock *)(tcp_sock))->sk_max_ack_backlog)
#define og_rcv_nxt(sk) (((struct tcp_sock *)(sk))->rcv_nxt)
#define og_rcv_isn(request) (((struct tcp_request_sock *)(request))->rcv_isn)
#define og_snt_isn(request) (((struct tcp_request_sock *)(request))->snt_isn)
#define og_tw_rcv_nxt(time_wait) (((struct sock_common *)(time_wait))->skc_tw_rcv_nxt)

#elif defined(OG_OFF_ACK_BACKLOG) && defined(OG_OFF_MAX_ACK_BACKLOG) && defined(OG_OFF_RCV_NXT) &&                     \
    defined(OG_OFF_RCV_ISN) && defined(OG_OFF_SNT_ISN) && defined(OG_OFF_TW_RCV_NXT)

#define OG_HAVE_OFFSETS
#define og_ack_backlog(tcp_sock) (*(__u32 *)((void *)(tcp_sock) + OG_OFF_ACK_BACKLOG))
#define og_max_ack_backlog(tcp_sock) (*(__u32 *)((void *)(tcp_sock) + OG_OFF_MAX_ACK_BACKLOG))
#define og_rcv_nxt(sk) (*(__u32 *)((void *)(sk) + OG_OFF_RCV_NXT))
#define og_rcv_isn(request) (*(__u32 *)((void *)(request) + OG_OFF_RCV_ISN))
#define og_snt_isn(request) (*(__u32 *)((void *)(request) + OG_OFF_SNT_ISN))
#define og_tw_rcv_nxt(time_wait) (*(__u32 *)((void *)(time_wait) + OG_OFF_TW_RCV_NXT))

#endif

/* Is there room in the accept queue of listener `sk`? `limit` 0: the kernel's own rule, full when the queue is longer than
 * its maximum (sk_acceptq_is_full). */
static __always_inline int og_has_room(struct bpf_sock *sk, __u32 limit)
{
#ifdef OG_HAVE_OFFSETS
    struct og_config *config = og_config_get();

    if (config && config->flags & OG_CONFIG_LOAD_AWARE) {
        void *tcp_sock = bpf_skc_to_tcp_sock(sk);

        if (tcp_sock) {
            __u32 backlog = og_ack_backlog(tcp_sock);

            return limit ? backlog < limit : backlog <= og_max_ack_backlog(tcp_sock);
        }
    }
#endif
    return 1;
}

static __always_inline int og_is_far(const struct og_tcp *tcp, __u32 expected)
{
    __s32 distance = og_get32(tcp->seq) - expected;

    return distance > OG_SEQUENCE_SPAN || distance < -OG_SEQUENCE_SPAN;
}

/* Does `sk`, which is no listener, belong to another connection with the same ports? A kernel would reset the one of this
 * segment for a SYN that it answered and nobody confirmed: there only its own ISN is acknowledged (RFC 9293 section
 * 3.10.7.4, SYN-RECEIVED). */
static __always_inline int og_is_leftover(struct bpf_sock *sk, const struct og_tcp *tcp)
{
#ifdef OG_HAVE_OFFSETS
    if (sk->state == BPF_TCP_NEW_SYN_RECV) {
        void *request = bpf_skc_to_tcp_request_sock(sk);

        if (request && tcp->flags & OG_TCP_ACK) {
            return og_get32(tcp->ack) - og_snt_isn(request) != 1;
        }
        return request && og_is_far(tcp, og_rcv_isn(request));
    }
    if (sk->state == BPF_TCP_TIME_WAIT) {
        void *time_wait = bpf_skc_to_tcp_timewait_sock(sk);

        return time_wait && og_is_far(tcp, og_tw_rcv_nxt(time_wait));
    }

    void *tcp_sock = bpf_skc_to_tcp_sock(sk);

    return tcp_sock && og_is_far(tcp, og_rcv_nxt(tcp_sock));
#else
    return 0;
#endif
}

static __always_inline struct bpf_sock *og_socket(void *ctx, struct og_flow_key *flow)
{
    struct bpf_sock_tuple *tuple = (struct bpf_sock_tuple *)flow;

    return bpf_skc_lookup_tcp(ctx, tuple, sizeof(tuple->ipv6), BPF_F_CURRENT_NETNS, 0);
}

/* What a listener `sk` says to a SYN. Releases it. */
static __always_inline enum og_counter og_listener_takes(struct bpf_sock *sk, __u16 flags, __u32 limit)
{
    int listens = sk->state == BPF_TCP_LISTEN;
    int room = listens && og_has_room(sk, limit);

    bpf_sk_release(sk);
    if (!listens) {
        og_count(OG_C_DECLINED_NO_LISTENER);
        return OG_C_COUNT;
    }
    if (room) {
        return OG_C_TAKEN_NEW;
    }
    if (flags & OG_ACCEPT_LAST) {
        return OG_C_TAKEN_LAST;
    }
    og_count(OG_C_DECLINED_FULL);
    return OG_C_COUNT;
}

/* A SYN is mine if any socket knows its tuple, but LISTEN and TIME_WAIT. Under churn the exact look-up often finds a
 * TIME_WAIT socket; the listener is then found with a wildcard source. */
static __always_inline enum og_counter og_syn_is_mine(void *ctx, struct og_flow_key *flow, __u16 flags, __u32 limit)
{
    struct bpf_sock *sk = og_socket(ctx, flow);

    if (sk) {
        __u32 state = sk->state;

        if (state != BPF_TCP_LISTEN && state != BPF_TCP_TIME_WAIT) {
            bpf_sk_release(sk);
            return OG_C_TAKEN_KNOWN;
        }
        if (state == BPF_TCP_LISTEN && flags & OG_ACCEPT_N) {
            return og_listener_takes(sk, flags, limit);
        }
        bpf_sk_release(sk);
    }
    if (!(flags & OG_ACCEPT_N)) {
        return OG_C_COUNT;
    }

    struct og_flow_key any OG_ALIGNED = {};
    og_copy16(any.vip, flow->vip);
    *(og_word16 *)any.vip_port = og_raw16(flow->vip_port);
    sk = og_socket(ctx, &any);
    if (!sk) {
        og_count(OG_C_DECLINED_NO_LISTENER);
        return OG_C_COUNT;
    }
    return og_listener_takes(sk, flags, limit);
}

static __always_inline void og_count_accept(__u32 index)
{
    struct og_service_stats *stats = og_map_find(stats_map, &index);

    if (stats) {
        stats->accepts += 1;
    }
}

/* Any other segment is mine if a socket knows its connection; a listener's, if it acknowledges a SYN cookie. */
static __always_inline enum og_counter og_segment_is_mine(void *ctx, struct og_inner *inner, struct og_tcp *tcp,
                                                          __u32 service)
{
    int confirms = (tcp->flags & (OG_TCP_ACK | OG_TCP_RST)) == OG_TCP_ACK;
    struct bpf_sock *sk = og_socket(ctx, &inner->flow);
    enum og_counter mine = OG_C_TAKEN_KNOWN;

    if (!sk) {
        return OG_C_COUNT;
    }
    if (sk->state == BPF_TCP_LISTEN) {
        mine = OG_C_COUNT;
        if (confirms &&
            bpf_tcp_check_syncookie(sk, (void *)inner->ip, sizeof(*inner->ip), (void *)tcp, sizeof(*tcp)) == 0) {
            mine = OG_C_TAKEN_COOKIE;
            og_count_accept(service);
        }
    } else if (og_is_leftover(sk, tcp)) {
        og_count(OG_C_DECLINED_LEFTOVER);
        mine = OG_C_COUNT;
    } else if (sk->state == BPF_TCP_NEW_SYN_RECV && confirms) {
        og_count_accept(service);
    }
    bpf_sk_release(sk);
    return mine;
}

/* An ICMPv6 error is mine if a socket, but LISTEN, sent the packet it is about. */
static __always_inline int og_error_is_mine(void *ctx, struct og_flow_key *flow)
{
    if (flow->protocol != OG_NH_TCP) {
        return 1; /* datagrams have one candidate */
    }

    struct bpf_sock *sk = og_socket(ctx, flow);
    if (!sk) {
        return 0;
    }
    int mine = sk->state != BPF_TCP_LISTEN;
    bpf_sk_release(sk);
    return mine;
}

#endif
