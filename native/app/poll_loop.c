/* SPDX-License-Identifier: Apache-2.0 */
#include "poll_loop.h"

#include <time.h>

#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_pause.h>

#include "app.h"
#include "heartbeat.h"

#define TX_TRIES 4
#define AWAY_NS UINT64_C(1000000000)
#define BUSY_TURNS 4 /* empty turns before the first sleep: a burst is often followed by another */

/* og_verdict_class as a table: once per packet, a call is worth avoiding. */
static const uint8_t class_of[OG_V_COUNT] = {
#define OG_X(symbol, name, class, text) [OG_V_##symbol] = OG_CLASS_##class,
    OG_VERDICTS(OG_X)
#undef OG_X
};

/* Packets on their way through one turn. */
struct burst {
    struct rte_mbuf *packets[OG_BURST];
    struct og_buf bufs[OG_BURST];
    struct og_buf *refs[OG_BURST];
    unsigned n;
};

struct outbox {
    struct rte_mbuf *packets[OG_BURST];
    enum og_verdict verdicts[OG_BURST];
    unsigned n;
};

static void drop(struct og_thread *thread, struct rte_mbuf *packet, enum og_verdict verdict)
{
    thread->verdicts[verdict]++;
    rte_pktmbuf_free(packet);
}

/* A packet whose first byte is that of the IPv6 header, as the library sees it. */
static void view(struct burst *burst, struct rte_mbuf *packet)
{
    struct og_buf *buf = &burst->bufs[burst->n];

    buf->data = rte_pktmbuf_mtod(packet, uint8_t *);
    buf->len = packet->data_len;
    buf->headroom = packet->data_off > OG_ETHERNET_LEN ? (uint32_t)packet->data_off - OG_ETHERNET_LEN : 0;
    buf->tailroom = rte_pktmbuf_tailroom(packet);
    buf->verdict = OG_V_NONE;
    buf->owner = 0;
    burst->refs[burst->n] = buf;
    burst->packets[burst->n++] = packet;
}

/* Takes the Ethernet header off what came from the wire. */
static void strip(struct og_thread *thread, struct burst *burst, struct rte_mbuf *const *received, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        rte_prefetch0(rte_pktmbuf_mtod(received[i], void *));
    }
    for (unsigned i = 0; i < n; i++) {
        struct rte_mbuf *packet = received[i];
        const uint8_t *ethernet = rte_pktmbuf_mtod(packet, uint8_t *);

        if (packet->data_len < OG_ETHERNET_LEN) {
            drop(thread, packet, OG_V_DROP_TRUNCATED);
        } else if (ethernet[12] != 0x86 || ethernet[13] != 0xdd) {
            drop(thread, packet, OG_V_DROP_NOT_IPV6);
        } else if (packet->nb_segs > 1) {
            drop(thread, packet, OG_V_DROP_TOO_BIG); /* a buffer holds every frame of the fabric's MTU */
        } else {
            rte_pktmbuf_adj(packet, OG_ETHERNET_LEN);
            view(burst, packet);
        }
    }
}

/* Returns how many of the packets the port took. */
static unsigned transmit(struct og_app *app, struct og_thread *thread, struct rte_mbuf **packets, unsigned n)
{
    unsigned sent = 0;

    if (thread->tx_shared) {
        rte_spinlock_lock(&app->tx_lock);
    }
    for (unsigned i = 0; i < TX_TRIES && sent < n; i++) {
        sent += rte_eth_tx_burst(thread->port, thread->tx_queue, packets + sent, (uint16_t)(n - sent));
    }
    if (thread->tx_shared) {
        rte_spinlock_unlock(&app->tx_lock);
    }
    thread->tx += sent;
    return sent;
}

/* Sends and counts: a packet counts under its verdict only if the port took it. */
static void flush(struct og_app *app, struct og_thread *thread, struct outbox *out)
{
    const unsigned sent = out->n ? transmit(app, thread, out->packets, out->n) : 0;

    for (unsigned i = 0; i < sent; i++) {
        thread->verdicts[out->verdicts[i]]++;
    }
    for (unsigned i = sent; i < out->n; i++) {
        drop(thread, out->packets[i], OG_V_DROP_TX);
    }
    out->n = 0;
}

/* Puts the Ethernet header in front of what `buf` has become. */
static void post(struct og_app *app, struct og_thread *thread, struct outbox *out, struct rte_mbuf *packet,
                 const struct og_buf *buf)
{
    uint8_t *frame = buf->data - OG_ETHERNET_LEN;

    if (unlikely(!og_next_hop_write(&app->next_hop, frame))) {
        drop(thread, packet, OG_V_DROP_NO_NEIGHBOUR);
        return;
    }
    packet->data_off = (uint16_t)(frame - (uint8_t *)packet->buf_addr);
    packet->data_len = (uint16_t)(buf->len + OG_ETHERNET_LEN);
    packet->pkt_len = packet->data_len;
    out->packets[out->n] = packet;
    out->verdicts[out->n++] = buf->verdict;
}

static void hand_over(struct og_app *app, struct og_thread *thread, struct rte_mbuf *packet, unsigned owner)
{
    if (owner >= app->options.threads || rte_ring_enqueue(app->threads[owner].ring, packet)) {
        drop(thread, packet, OG_V_DROP_TX);
        return;
    }
    thread->verdicts[OG_V_HANDOFF]++;
}

/* Packets that are for the prober, which lives in the first thread. */
static void keep(struct og_app *app, struct og_thread *thread, const struct og_tables *tables, struct rte_mbuf *packet,
                 const struct og_buf *buf, uint64_t now_ns)
{
    if (buf->verdict == OG_V_HANDOFF) {
        hand_over(app, thread, packet, buf->owner);
        return;
    }
    if (thread->index != 0) {
        hand_over(app, thread, packet, 0);
        return;
    }
    if (buf->verdict == OG_V_PROBE_REPLY) {
        og_prober_reply(&app->prober, buf->data, buf->len, now_ns);
    } else if (buf->verdict == OG_V_FABRIC_ERROR) {
        og_prober_fabric_error(&app->prober, tables, buf->data, buf->len);
    }
    drop(thread, packet, buf->verdict);
}

static void work(struct og_app *app, struct og_thread *thread, const struct og_tables *tables, struct burst *burst,
                 uint64_t now_ns)
{
    struct outbox out = {.n = 0};

    app->role->burst(thread->plane, tables, burst->refs, burst->n, now_ns);
    for (unsigned i = 0; i < burst->n; i++) {
        const struct og_buf *buf = &burst->bufs[i];

        switch (class_of[buf->verdict]) {
        case OG_CLASS_TX:
            post(app, thread, &out, burst->packets[i], buf);
            break;
        case OG_CLASS_KEEP:
            keep(app, thread, tables, burst->packets[i], buf, now_ns);
            break;
        default:
            drop(thread, burst->packets[i], buf->verdict);
        }
    }
    flush(app, thread, &out);
}

/* From the wire, then from other threads. Returns how many packets came. */
static unsigned serve(struct og_app *app, struct og_thread *thread, const struct og_tables *tables, uint64_t now_ns)
{
    struct rte_mbuf *received[OG_BURST];
    struct burst burst;
    unsigned n = 0, handed = 0;

    if (thread->rx_queue != OG_NO_QUEUE) {
        n = rte_eth_rx_burst(thread->port, thread->rx_queue, received, OG_BURST);
        thread->rx += n;
        burst.n = 0;
        strip(thread, &burst, received, n);
        if (burst.n) {
            work(app, thread, tables, &burst, now_ns);
        }
    }
    if (thread->ring) {
        handed = rte_ring_dequeue_burst(thread->ring, (void **)received, OG_BURST, NULL);
        burst.n = 0;
        for (unsigned i = 0; i < handed; i++) {
            view(&burst, received[i]);
        }
        if (burst.n) {
            work(app, thread, tables, &burst, now_ns);
        }
    }
    return n + handed;
}

/* Probes are ours, not somebody's packets: sent beside the counters of verdicts. */
static void send_probes(struct og_app *app, struct og_thread *thread, const struct og_tables *tables)
{
    for (enum og_member_kind kind = 0; kind < OG_MEMBER_KINDS; kind++) {
        for (unsigned i = 0; i < app->prober.n_ids[kind]; i++) {
            struct rte_mbuf *packet = rte_pktmbuf_alloc(app->pool);
            uint8_t *frame =
                packet ? (uint8_t *)rte_pktmbuf_append(packet, OG_ETHERNET_LEN + OG_PROBE_PACKET_LEN) : NULL;

            /* Counted as sent in any case: not being able to send is a miss like any other. */
            uint8_t scratch[OG_PROBE_PACKET_LEN];
            og_prober_request(&app->prober, tables, kind, i, frame ? frame + OG_ETHERNET_LEN : scratch, og_now_ns());
            if (!frame || !og_next_hop_write(&app->next_hop, frame) || transmit(app, thread, &packet, 1) != 1) {
                rte_pktmbuf_free(packet);
            }
        }
    }
}

/* What this router has sent to other sites; the rate is looked at once per AWAY_NS. */
static struct og_probe_load away(struct og_app *app, uint64_t now_ns)
{
    uint64_t pins = 0, flows = 0;

    for (unsigned i = 0; app->role->pins && i < app->options.threads; i++) {
        struct og_pins_view view;

        app->role->pins(app->threads[i].plane, &view);
        pins += view.pins->to_sites;
        flows += view.promotions_to_sites;
    }
    if (now_ns - app->away.counted_ns >= AWAY_NS) {
        app->away.per_s = (uint32_t)((flows - app->away.counted) * 1000 / ((now_ns - app->away.counted_ns) / 1000000));
        app->away.counted = flows;
        app->away.counted_ns = now_ns;
    }
    return (struct og_probe_load){.connections = (uint32_t)pins, .accepts_per_s = app->away.per_s};
}

/* The flags and loads of probe replies, and the heartbeat's flags. */
static void announce(struct og_app *app, const struct og_tables *tables, uint64_t now_ns)
{
    const struct og_probe_load beside = away(app, now_ns);
    struct og_probe_load site;
    uint64_t listeners;

    const uint64_t generation = tables ? og_tables_spec(tables)->generation : 0;
    const bool serving = tables && og_prober_serving(&app->prober);

    og_prober_totals(&app->prober, &listeners, &site);
    app->prober.changed = false;
    app->heartbeat->generation = generation;
    app->heartbeat->flags = (tables ? OG_HEARTBEAT_TABLES : 0) | (serving ? OG_HEARTBEAT_SERVING : 0);
    app->serving = serving;
    for (unsigned i = 0; i < app->options.threads; i++) {
        struct og_local *local = app->role->local(app->threads[i].plane);

        local->self.generation = (uint32_t)generation;
        local->self.flags = serving ? OG_PROBE_F_SERVING : 0;
        local->self.listeners = listeners;
        local->self.load = site;
        local->beside = beside;
    }
}

/* The heartbeat grows when every thread has gone round since it last did: one that hangs stops it. */
static void beat(struct og_app *app, struct og_thread *first)
{
    const uint64_t epoch = atomic_load_explicit(&first->epoch, memory_order_relaxed);

    for (unsigned i = 1; i < app->options.threads; i++) {
        if (atomic_load_explicit(&app->threads[i].epoch, memory_order_relaxed) != epoch) {
            return;
        }
    }
    atomic_store_explicit(&first->epoch, epoch + 1, memory_order_relaxed);
    atomic_store_explicit(&app->heartbeat->loops,
                          atomic_load_explicit(&app->heartbeat->loops, memory_order_relaxed) + 1, memory_order_relaxed);
}

static void chores(struct og_app *app, struct og_thread *thread, const struct og_tables *tables, uint64_t version,
                   uint64_t now_ns)
{
    if (app->role->tick) {
        app->role->tick(thread->plane, tables, now_ns);
    }
    if (thread->index != 0) {
        atomic_store_explicit(&thread->epoch, atomic_load_explicit(&app->threads[0].epoch, memory_order_relaxed),
                              memory_order_relaxed);
        return;
    }
    if (og_prober_turn(&app->prober, tables, version, now_ns) && tables) {
        send_probes(app, thread, tables);
    }
    if (app->prober.changed) {
        announce(app, tables, now_ns);
    }
    beat(app, thread);
    if (app->options.max_packets && thread->rx >= app->options.max_packets) {
        atomic_store(&app->stop, true);
    }
}

static void rest(const struct og_app *app, unsigned empty_turns)
{
    const struct timespec pause = {.tv_nsec = app->options.idle_us * 1000L};

    if (app->options.idle_us && empty_turns >= BUSY_TURNS) {
        nanosleep(&pause, NULL);
    } else {
        rte_pause();
    }
}

int og_poll(void *argument)
{
    struct og_app *app = argument;
    struct og_thread *thread = &app->threads[rte_lcore_index((int)rte_lcore_id())];
    unsigned empty_turns = 0;

    rte_rcu_qsbr_thread_register(app->qsbr, thread->index);
    rte_rcu_qsbr_thread_online(app->qsbr, thread->index);
    while (!atomic_load_explicit(&app->stop, memory_order_relaxed)) {
        /* The version first: a version never gets ahead of its tables (see swap() in table_socket.c). */
        const uint64_t version = atomic_load_explicit(&app->version, memory_order_acquire);
        const struct og_tables *tables = atomic_load_explicit(&app->tables, memory_order_acquire);
        const uint64_t now_ns = og_now_ns();
        const unsigned n = serve(app, thread, tables, now_ns);

        chores(app, thread, tables, version, now_ns);
        rte_rcu_qsbr_quiescent(app->qsbr, thread->index);
        thread->loops++;
        if (n) {
            thread->busy_loops++;
            thread->busy_ns += og_now_ns() - now_ns;
            empty_turns = 0;
        } else {
            rest(app, ++empty_turns);
        }
    }
    rte_rcu_qsbr_thread_offline(app->qsbr, thread->index);
    rte_rcu_qsbr_thread_unregister(app->qsbr, thread->index);
    return 0;
}
