/* SPDX-License-Identifier: Apache-2.0
 *
 * Input: a packet as it reaches a hasher, from a client or to one of its SIDs. The whole burst path runs on it.
 */
#include <string.h>

#include "fuzz.h"
#include "og_hasher.h"
#include "og_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct og_hasher hasher;
    static struct og_health health;
    static const struct og_tables *tables;
    static uint64_t now_ns = 1;
    struct og_buf packet, again;
    struct og_buf *const bufs[] = {&packet, &again};

    if (tables == NULL) {
        const struct og_probe_self self = {.role = 1};
        const uint64_t key[2] = {1, 2};

        tables = fuzz_tables(FUZZ_HASHER);
        og_hasher_init(&hasher, &health, key, &self);
    }
    if (size > FUZZ_MAX_PACKET) {
        return 0;
    }
    now_ns += 1000000000; /* so that limits do not hide what comes behind them */
    fuzz_buf_open(&packet, data, size);
    fuzz_buf_open(&again, data, size);
    og_hasher_burst(&hasher, tables, bufs, 2, now_ns);
    if (packet.verdict == OG_V_STEERED) { /* no state per flow: the same packet goes the same way */
        CHECK(again.verdict == OG_V_STEERED && again.len == packet.len);
        CHECK(memcmp(again.data, packet.data, packet.len) == 0);
        CHECK(memcmp(packet.data + 40 + 8, data + 8, packet.len - 48) == 0);
        CHECK(packet.data[40 + 7] == data[7] - 1);
    }
    fuzz_buf_close(&packet, size);
    fuzz_buf_close(&again, size);

    struct og_packet parsed;
    fuzz_buf_open(&packet, data, size);
    packet.verdict = og_parse_server(packet.data, packet.len, &parsed);
    if (packet.verdict == OG_V_NONE) {
        CHECK(parsed.transport < parsed.len && parsed.len <= size);
        packet.verdict = OG_V_DROP_INNER;
    }
    fuzz_buf_close(&packet, size);
    return 0;
}
