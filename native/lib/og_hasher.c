/* SPDX-License-Identifier: Apache-2.0
 *
 * A burst goes through in three stages, each a loop over all packets, so that the loads of one packet overlap with the
 * work on others: judge (parse, and all that ends here), hash, encapsulate.
 */
#include "og_hasher.h"

#include "og_bytes.h"
#include "og_encap.h"
#include "og_icmp.h"
#include "og_parse.h"
#include "og_sid.h"

#define PREFETCH_AHEAD 4

_Static_assert(OG_HASHER_BURST == OG_FLOW_BATCH, "one batch of hashes per burst");

/* Packets that passed: their buffers, flows, and the flows' hashes. */
struct steered {
    struct og_buf *buf[OG_HASHER_BURST];
    struct og_flow_batch flows;
    uint64_t hash[OG_HASHER_BURST];
    uint32_t slot[OG_HASHER_BURST]; /* in the routers' table */
};

void og_hasher_init(struct og_hasher *hasher, const struct og_health *health, const uint64_t key[2],
                    const struct og_probe_self *self)
{
    hasher->health = health;
    og_local_init(&hasher->local, key, self);
    og_rate_init(&hasher->errors_in, key, OG_ICMP_PER_S, OG_ICMP_TOTAL_PER_S);
    og_rate_init(&hasher->answers, key, OG_ICMP_PER_S, OG_ICMP_TOTAL_PER_S);
}

/* ---- stage 1: judge ----------------------------------------------------------------------------------------------- */

static enum og_verdict judge_sid(struct og_hasher *hasher, const struct og_tables *tables, struct og_buf *buf,
                                 uint64_t now_ns)
{
    struct og_outer outer;
    enum og_verdict verdict = og_parse_outer(buf->data, buf->len, &outer);

    if (verdict != OG_V_NONE) {
        return verdict;
    }
    og_buf_trim(buf, outer.len);
    return og_local_packet(&hasher->local, tables, buf, &outer, now_ns);
}

/* RFC 4291 section 2.4: multicast ff00::/8, link-local fe80::/10, unspecified and loopback. */
static inline bool source_is_special(const uint8_t source[16])
{
    if (source[0] >> 5 == 1) {
        return false; /* 2000::/3: nearly every client */
    }
    uint64_t upper = og_load64(source);
    if (upper == 0) {
        return og_load64(source + 8) <= 1;
    }
    return source[0] == 0xff || upper >> 54 == 0xfe80 >> 6;
}

static inline bool source_ok(const struct og_tables *tables, const uint8_t source[16])
{
    return !source_is_special(source) && !og_tables_source_refused(tables, source);
}

static enum og_verdict answer_echo(struct og_hasher *hasher, const struct og_tables *tables, struct og_buf *buf,
                                   const struct og_packet *packet, uint64_t now_ns)
{
    if (!og_tables_is_vip(tables, packet->flow.vip)) {
        return OG_V_DROP_NO_SERVICE;
    }
    if (!og_rate_take(&hasher->answers, packet->flow.client, now_ns)) {
        return OG_V_DROP_ICMP_RATE;
    }
    og_icmp_echo_reply(buf, packet);
    return OG_V_ECHO_REPLY;
}

/* May the sender of this packet be told what is wrong with it? Never about an error (RFC 4443 section 2.4 e). */
static bool may_answer(struct og_hasher *hasher, const struct og_buf *buf, const struct og_packet *packet,
                       uint64_t now_ns)
{
    return packet->kind != OG_KIND_ICMP_ERROR && og_rate_take(&hasher->answers, buf->data + 8, now_ns);
}

/* Most packets of a burst are for one service: the last one found is compared before any table is asked. Words 2 and 3 of
 * the flow are the VIP, the upper part of word 4 is VIP port and protocol. */
struct last_service {
    uint64_t vip[2], port_protocol;
};

static inline bool is_service(const struct og_tables *tables, struct last_service *last, const union og_flow *flow)
{
    const uint64_t port_protocol = flow->q[4] >> 16;

    if (((flow->q[2] ^ last->vip[0]) | (flow->q[3] ^ last->vip[1]) | (port_protocol ^ last->port_protocol)) == 0) {
        return true;
    }
    if (og_tables_service(tables, flow->vip, flow->vip_port, flow->protocol) < 0) {
        return false;
    }
    *last = (struct last_service){{flow->q[2], flow->q[3]}, port_protocol};
    return true;
}

/* OG_V_STEERED, OG_V_STEERED_ICMP: go on with packet->flow. */
static inline enum og_verdict judge_client(struct og_hasher *hasher, const struct og_tables *tables,
                                           struct last_service *last, struct og_buf *buf, struct og_packet *packet,
                                           uint64_t now_ns)
{
    enum og_verdict verdict = og_parse_client(buf->data, buf->len, packet);

    if (verdict != OG_V_NONE) {
        return verdict;
    }
    const struct og_ipv6 *ip = (const struct og_ipv6 *)buf->data;
    og_buf_trim(buf, packet->len);
    if (!source_ok(tables, ip->src)) {
        return OG_V_DROP_SOURCE;
    }
    if (packet->kind == OG_KIND_ECHO) {
        return answer_echo(hasher, tables, buf, packet, now_ns);
    }
    if (!is_service(tables, last, &packet->flow)) {
        return packet->kind == OG_KIND_ICMP_ERROR ? OG_V_DROP_ICMP_EMBEDDED : OG_V_DROP_NO_SERVICE;
    }
    if (ip->hop_limit <= 1) {
        return may_answer(hasher, buf, packet, now_ns) && og_icmp_time_exceeded(buf) ? OG_V_TIME_EXCEEDED
                                                                                     : OG_V_DROP_HOP_LIMIT;
    }
    uint32_t mtu = og_client_mtu(og_tables_spec(tables)->fabric_mtu);
    if (packet->len > mtu) {
        return may_answer(hasher, buf, packet, now_ns) && og_icmp_too_big(buf, mtu) ? OG_V_TOO_BIG : OG_V_DROP_TOO_BIG;
    }
    if (packet->kind == OG_KIND_ICMP_ERROR) {
        return og_rate_take(&hasher->errors_in, ip->src, now_ns) ? OG_V_STEERED_ICMP : OG_V_DROP_ICMP_RATE;
    }
    return OG_V_STEERED;
}

/* ---- stage 3: encapsulate ----------------------------------------------------------------------------------------- */

/* Leaves the verdict alone if all is well. */
static inline void encapsulate(const struct og_hasher *hasher, const struct og_tables *tables, uint8_t dscp_bits,
                               struct og_buf *buf, uint64_t hash, uint32_t slot)
{
    uint16_t router = og_tables_router_in_slot(tables, hasher->health, slot, hash);
    if (router == OG_NO_MEMBER) {
        buf->verdict = OG_V_DROP_NO_TARGET;
        return;
    }
    struct og_ipv6 *inner = (struct og_ipv6 *)buf->data;
    const struct og_outer_fields fields = {
        .traffic_class = og_traffic_class(dscp_bits, inner),
        .hop_limit = OG_OUTER_HOP_LIMIT,
        .flow_label = (uint32_t)og_hash_for(hash, OG_USE_LABEL) & 0xfffff,
    };
    struct og_ipv6 *outer = og_template_push(buf, og_tables_to_router(tables, router), &fields);
    if (outer == NULL) {
        buf->verdict = OG_V_DROP_NO_ROOM;
        return;
    }
    inner->hop_limit--; /* RFC 8986 section 5.1, as in RFC 2473 section 3.1 */

    uint64_t argument = og_flow_argument(hash);
    og_sid_set_argument((struct og_sid *)outer->src, argument);
    og_sid_set_argument((struct og_sid *)outer->dst, argument);
}

/* ---- the burst ---------------------------------------------------------------------------------------------------- */

/* The headers, and the line before them where the envelope goes. */
static inline void prefetch_packet(const struct og_buf *buf)
{
    __builtin_prefetch(buf->data - sizeof(struct og_ipv6), 1);
    __builtin_prefetch(buf->data + 24, 1);
}

static void burst(struct og_hasher *hasher, const struct og_tables *tables, struct og_buf *const bufs[], size_t n,
                  uint64_t now_ns)
{
    const struct og_tables_spec *spec = og_tables_spec(tables);
    const uint64_t own_locator = og_word(spec->locator);
    struct steered steered;
    struct last_service last = {.port_protocol = UINT64_MAX}; /* no port and protocol */
    struct og_packet packet;
    unsigned n_steered = 0;

    for (size_t i = 0; i < n && i < PREFETCH_AHEAD; i++) {
        prefetch_packet(bufs[i]);
    }
    for (size_t i = 0; i < n; i++) {
        struct og_buf *buf = bufs[i];

        if (i + PREFETCH_AHEAD < n) {
            prefetch_packet(bufs[i + PREFETCH_AHEAD]);
        }
        if (buf->len >= sizeof(struct og_ipv6) && og_word(buf->data + 24) == own_locator) {
            buf->verdict = judge_sid(hasher, tables, buf, now_ns);
            continue;
        }
        buf->verdict = judge_client(hasher, tables, &last, buf, &packet, now_ns);
        if (buf->verdict == OG_V_STEERED || buf->verdict == OG_V_STEERED_ICMP) {
            steered.buf[n_steered] = buf;
            og_flow_batch_set(&steered.flows, n_steered, &packet.flow);
            n_steered++;
        }
    }
    og_flow_hash_batch(&spec->flow_seed, &steered.flows, steered.hash, n_steered);
    for (unsigned i = 0; i < n_steered; i++) {
        steered.slot[i] = og_tables_router_slot(tables, steered.hash[i]);
    }
    for (unsigned i = 0; i < n_steered; i++) {
        encapsulate(hasher, tables, spec->traffic_class_dscp, steered.buf[i], steered.hash[i], steered.slot[i]);
    }
}

void og_hasher_burst(struct og_hasher *hasher, const struct og_tables *tables, struct og_buf *const bufs[], size_t n,
                     uint64_t now_ns)
{
    if (tables == NULL) {
        for (size_t i = 0; i < n; i++) {
            bufs[i]->verdict = OG_V_DROP_NO_TABLE;
        }
        return;
    }
    for (size_t done = 0; done < n; done += OG_HASHER_BURST) {
        size_t left = n - done;
        burst(hasher, tables, bufs + done, left < OG_HASHER_BURST ? left : OG_HASHER_BURST, now_ns);
    }
}
