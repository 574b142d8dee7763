/* SPDX-License-Identifier: Apache-2.0
 *
 * Input: number of segments, segments left, then the TLV area of a segment routing header that is otherwise right (padded
 * with zero to 8 bytes). What is found must lie inside the area, in order.
 */
#include <string.h>

#include "fuzz.h"
#include "og_bytes.h"
#include "og_parse.h"

#define MAX_TLVS 1800u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t packet[40 + 8 + 16 * OG_MAX_SEGMENTS + MAX_TLVS + 8] = {0x60};
    struct og_buf buf;
    struct og_outer outer;

    if (size < 2 || size - 2 > MAX_TLVS) {
        return 0;
    }
    uint32_t n = data[0] % OG_MAX_SEGMENTS + 1u, left = data[1] % n;
    uint32_t area = ((uint32_t)size - 2 + 7) & ~7u;
    uint32_t srh_len = 8 + 16 * n + area, area_at = 40 + 8 + 16 * n;

    og_store16(packet + 4, (uint16_t)srh_len);
    packet[6] = OG_NH_ROUTING;
    packet[40] = OG_NH_NONE;
    packet[41] = (uint8_t)(srh_len / 8 - 1);
    packet[42] = OG_SRH_TYPE;
    packet[43] = (uint8_t)left;
    packet[44] = (uint8_t)(n - 1);
    memcpy(packet + area_at, data + 2, size - 2);

    fuzz_buf_open(&buf, packet, 40 + srh_len);
    enum og_verdict verdict = og_parse_outer(buf.data, buf.len, &outer);
    CHECK(verdict == OG_V_NONE || verdict == OG_V_DROP_TLV);
    const uint8_t *before = buf.data + area_at;
    for (unsigned i = 0; verdict == OG_V_NONE && i < outer.n_cookies; i++) {
        const uint8_t *cookie = (const uint8_t *)outer.cookies[i];
        CHECK(cookie >= before && cookie + 16 <= buf.data + buf.len);
        CHECK(cookie[0] == OG_TLV_COOKIE && cookie[1] == OG_COOKIE_LEN);
        before = cookie + 16;
    }
    buf.verdict = OG_V_DROP_TLV;
    fuzz_buf_close(&buf, 40 + srh_len);
    return 0;
}
