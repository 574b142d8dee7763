/* SPDX-License-Identifier: Apache-2.0 */
#include "og_probe.h"

#include <string.h>

#include "og_bytes.h"
#include "og_checksum.h"
#include "og_sid.h"

#define UDP_LEN 8u
#define MESSAGE_LEN (UDP_LEN + (uint32_t)sizeof(struct og_probe))
#define NONCE_MASK UINT64_C(0xffffffffffff)

_Static_assert(sizeof(struct og_ipv6) + MESSAGE_LEN == OG_PROBE_PACKET_LEN, "wire format");

static uint64_t sid_nonce(const struct og_sid *sid)
{
    return (uint64_t)og_load16(sid->argument) << 32 | og_load32(sid->argument + 2);
}

/* RFC 8200 section 8.1: a UDP checksum of zero is sent as ffff. */
static void write_checksum(const struct og_ipv6 *ip, uint8_t *udp)
{
    memset(udp + 6, 0, 2);
    uint16_t checksum = og_checksum(ip, OG_NH_UDP, udp, MESSAGE_LEN);
    if (checksum == 0) {
        checksum = 0xffff;
    }
    memcpy(udp + 6, &checksum, sizeof(checksum));
}

void og_probe_request(uint8_t *out, const uint8_t own_locator[8], const uint8_t target_locator[8], uint8_t role,
                      uint8_t traffic_class, uint64_t nonce, uint64_t sent_ns)
{
    struct og_ipv6 *ip = (struct og_ipv6 *)out;
    uint8_t *udp = out + sizeof(*ip);
    struct og_probe *probe = (struct og_probe *)(udp + UDP_LEN);

    memset(out, 0, OG_PROBE_PACKET_LEN);
    og_store32(ip->vtc_flow, UINT32_C(6) << 28 | (uint32_t)traffic_class << 20);
    og_store16(ip->payload_len, (uint16_t)MESSAGE_LEN);
    ip->next_header = OG_NH_UDP;
    ip->hop_limit = OG_OUTER_HOP_LIMIT;
    og_sid_set((struct og_sid *)ip->src, own_locator, OG_FN_ERRORS, 0);
    og_sid_set((struct og_sid *)ip->dst, target_locator, OG_FN_PROBE, nonce & NONCE_MASK);

    og_store16(udp, OG_PROBE_PORT);
    og_store16(udp + 2, OG_PROBE_PORT);
    og_store16(udp + 4, (uint16_t)MESSAGE_LEN);

    probe->version = OG_PROBE_VERSION;
    probe->type = OG_PROBE_REQUEST;
    probe->role = role;
    og_store64(probe->nonce, nonce & NONCE_MASK);
    og_store64(probe->sent_ns, sent_ns);
    write_checksum(ip, udp);
}

enum og_verdict og_probe_parse(const uint8_t *data, const struct og_outer *outer, struct og_probe_info *info)
{
    if (outer->srh != NULL || outer->next_header != OG_NH_UDP) {
        return OG_V_DROP_PROBE;
    }
    /* A longer message is a later version's (its additions are not read); a shorter one is nobody's. */
    const uint8_t *udp = og_read(data, outer->len, outer->payload, MESSAGE_LEN);
    if (udp == NULL) {
        return OG_V_DROP_PROBE;
    }
    uint32_t size = og_load16(udp + 4);
    if (og_load16(udp + 2) != OG_PROBE_PORT || size < MESSAGE_LEN || size != outer->len - outer->payload ||
        (udp[6] == 0 && udp[7] == 0) || og_checksum(outer->ip, OG_NH_UDP, udp, size) != 0) {
        return OG_V_DROP_PROBE;
    }
    const struct og_probe *probe = (const struct og_probe *)(udp + UDP_LEN);
    if (probe->version != OG_PROBE_VERSION || (probe->type != OG_PROBE_REQUEST && probe->type != OG_PROBE_REPLY) ||
        (og_load64(probe->nonce) & NONCE_MASK) != sid_nonce(outer->destination)) {
        return OG_V_DROP_PROBE;
    }
    *info = (struct og_probe_info){
        .type = probe->type,
        .nonce = og_load64(probe->nonce) & NONCE_MASK,
        .sent_ns = og_load64(probe->sent_ns),
        .sender =
            {
                .role = probe->role,
                .flags = probe->flags,
                .generation = og_load32(probe->generation),
                .incarnation = og_load64(probe->incarnation),
                .listeners = og_load64(probe->listeners),
                .load = {og_load32(probe->connections), og_load32(probe->accepts_per_s), og_load64(probe->bytes_per_s)},
            },
    };
    return OG_V_NONE;
}

void og_probe_answer(struct og_buf *buf, const struct og_outer *outer, const uint8_t own_locator[8],
                     const struct og_probe_self *self)
{
    uint8_t prober[8];
    uint64_t nonce = sid_nonce(outer->destination);

    memcpy(prober, outer->source->locator, sizeof(prober));
    og_buf_trim(buf, OG_PROBE_PACKET_LEN);

    struct og_ipv6 *ip = (struct og_ipv6 *)buf->data;
    uint8_t *udp = buf->data + sizeof(*ip);
    struct og_probe *probe = (struct og_probe *)(udp + UDP_LEN);
    og_store16(ip->payload_len, (uint16_t)MESSAGE_LEN);
    ip->hop_limit = OG_OUTER_HOP_LIMIT;
    og_sid_set((struct og_sid *)ip->src, own_locator, OG_FN_ERRORS, 0);
    og_sid_set((struct og_sid *)ip->dst, prober, OG_FN_PROBE, nonce);

    og_store16(udp, OG_PROBE_PORT);
    og_store16(udp + 2, OG_PROBE_PORT);
    og_store16(udp + 4, (uint16_t)MESSAGE_LEN);

    /* version, nonce and the prober's clock stay */
    probe->type = OG_PROBE_REPLY;
    probe->role = self->role;
    probe->flags = self->flags;
    og_store32(probe->generation, self->generation);
    og_store64(probe->incarnation, self->incarnation);
    og_store64(probe->listeners, self->listeners);
    og_store32(probe->connections, self->load.connections);
    og_store32(probe->accepts_per_s, self->load.accepts_per_s);
    og_store64(probe->bytes_per_s, self->load.bytes_per_s);
    write_checksum(ip, udp);
}
