/* SPDX-License-Identifier: Apache-2.0
 *
 * Input: what stands behind the IPv6 header of a packet to a Probe SID. Its UDP checksum and the SID's nonce are made
 * right, so that the fuzzer gets behind them.
 */
#include <string.h>

#include "fuzz.h"
#include "og_bytes.h"
#include "og_checksum.h"
#include "og_probe.h"
#include "og_sid.h"

static const uint8_t own[8] = {0x5f, 0, 0, 1, 0, 0x11}, other[8] = {0x5f, 0, 0, 1, 0, 0x21};

static void mend(uint8_t *packet, uint32_t len)
{
    struct og_ipv6 *ip = (struct og_ipv6 *)packet;
    uint8_t *udp = packet + sizeof(*ip);
    uint64_t nonce = 0;

    if (len >= sizeof(*ip) + 24) {
        nonce = og_load64(udp + 8 + 8);
    }
    og_sid_set((struct og_sid *)ip->src, other, OG_FN_ERRORS, 0);
    og_sid_set((struct og_sid *)ip->dst, own, OG_FN_PROBE, nonce & 0xffffffffffff);
    if (len >= sizeof(*ip) + 8) {
        memset(udp + 6, 0, 2);
        uint16_t checksum = og_checksum(ip, OG_NH_UDP, udp, len - (uint32_t)sizeof(*ip));
        memcpy(udp + 6, &checksum, 2);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t packet[FUZZ_MAX_PACKET];
    struct og_ipv6 *ip = (struct og_ipv6 *)packet;
    struct og_buf buf;
    struct og_outer outer;
    struct og_probe_info info, answer;

    if (size > 2000) {
        return 0;
    }
    memset(packet, 0, sizeof(*ip));
    ip->vtc_flow[0] = 0x60;
    ip->next_header = OG_NH_UDP;
    ip->hop_limit = 64;
    og_store16(ip->payload_len, (uint16_t)size);
    memcpy(packet + sizeof(*ip), data, size);
    mend(packet, (uint32_t)(sizeof(*ip) + size));

    fuzz_buf_open(&buf, packet, sizeof(*ip) + size);
    CHECK(og_parse_outer(buf.data, buf.len, &outer) == OG_V_NONE);
    buf.verdict = og_probe_parse(buf.data, &outer, &info);
    if (buf.verdict == OG_V_NONE) {
        const struct og_probe_self self = {
            .role = 1, .flags = 1, .generation = 7, .incarnation = 9, .load = {.bytes_per_s = 1}};

        og_probe_answer(&buf, &outer, own, &self);
        CHECK(og_parse_outer(buf.data, buf.len, &outer) == OG_V_NONE);
        CHECK(og_probe_parse(buf.data, &outer, &answer) == OG_V_NONE);
        CHECK(answer.type == OG_PROBE_REPLY && answer.nonce == info.nonce && answer.sent_ns == info.sent_ns);
        CHECK(answer.sender.incarnation == 9 && answer.sender.generation == 7);
        buf.verdict = OG_V_PROBE_ANSWERED;
    }
    fuzz_buf_close(&buf, sizeof(*ip) + size);
    return 0;
}
