/* SPDX-License-Identifier: Apache-2.0
 *
 * Input: one byte of options, then a packet as it reaches a router. Option 1: cookies in it are signed by this router, so
 * that the fuzzer gets behind them. The whole burst path runs on the packet, then the decapsulation alone.
 */
#include <stdalign.h>
#include <string.h>

#include "fuzz.h"
#include "og_encap.h"
#include "og_icmp.h"
#include "og_router.h"

#define PINS 1024u
#define HALF_OPEN 64u
#define OPTION_SIGN 1u

static const struct og_tables *tables;
static struct og_router router;

static void start(void)
{
    struct og_router_config config = {
        .threads = 1,
        .pins = PINS,
        .halfopen = HALF_OPEN,
        .cookies = {.key = {3, 4}, .start_ns = 1},
        .key = {5, 6},
        .self = {.role = 2},
    };

    tables = fuzz_tables(FUZZ_ROUTER);
    config.pins_memory = aligned_alloc(OG_PINS_LINE, og_pins_bytes(PINS));
    config.halfopen_memory = aligned_alloc(64, (og_halfopen_bytes(HALF_OPEN) + 63) & ~(size_t)63);
    CHECK(config.pins_memory != NULL && config.halfopen_memory != NULL);
    CHECK(og_router_init(&router, &config, 1));
}

/* Sign each cookie for the flow of the packet inside, whichever way it goes. */
static void sign_cookies(struct og_buf *buf)
{
    const uint8_t *own = og_tables_spec(tables)->locator;
    struct og_outer outer;
    struct og_packet packet;

    if (og_parse_outer(buf->data, buf->len, &outer) != OG_V_NONE || outer.payload > outer.len) {
        return;
    }
    const uint8_t *inner = buf->data + outer.payload;
    uint32_t len = outer.len - outer.payload;
    if (og_parse_server(inner, len, &packet) != OG_V_NONE && og_parse_client(inner, len, &packet) != OG_V_NONE) {
        return;
    }
    for (unsigned i = 0; i < outer.n_cookies; i++) {
        struct og_cookie *cookie = (struct og_cookie *)(buf->data + ((const uint8_t *)outer.cookies[i] - buf->data));
        og_cookie_make(&router.cookies, &packet.flow, own, og_cookie_flags(cookie), cookie);
    }
}

static void decapsulate(const uint8_t *data, size_t size)
{
    struct og_buf buf;
    struct og_outer outer;
    struct og_outer_fields fields;
    struct og_fabric_error error;

    fuzz_buf_open(&buf, data, size);
    buf.verdict = og_parse_outer(buf.data, buf.len, &outer);
    if (buf.verdict == OG_V_NONE) {
        CHECK(outer.payload <= outer.len && outer.len <= size);
        CHECK(outer.n_segments <= OG_MAX_SEGMENTS && outer.n_cookies <= OG_MAX_COOKIES);
        CHECK(outer.n_segments == 0 || outer.segments_left < outer.n_segments);
        for (unsigned i = 0; i < OG_MAX_SEGMENTS + 2; i++) {
            const struct og_sid *visited = og_outer_visited(&outer, i), *ahead = og_outer_ahead(&outer, i);
            CHECK(visited == NULL || (const uint8_t *)(visited + 1) <= buf.data + outer.payload);
            CHECK(ahead == NULL || (const uint8_t *)ahead >= buf.data + 48);
        }
        CHECK(og_outer_fields_from(&outer, &fields) == (outer.ip->hop_limit > 1));
        const uint8_t *own = og_tables_spec(tables)->locator;
        if (og_fabric_error_parse(buf.data, &outer, own, &error) == OG_V_FABRIC_ERROR) {
            CHECK(error.client_packet == 0 || error.client_packet + 40 <= outer.len);
        }
        buf.verdict = og_decap(&buf, &outer, data[0] & 1);
        if (buf.verdict == OG_V_NONE) {
            CHECK(buf.len >= 40 && buf.data[0] >> 4 == 6);
            buf.verdict = OG_V_DROP_INNER;
        }
    }
    fuzz_buf_close(&buf, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint64_t now_ns = 1;
    struct og_buf packet;
    struct og_buf *const bufs[] = {&packet};

    if (tables == NULL) {
        start();
    }
    if (size < 1 || size - 1 > FUZZ_MAX_PACKET) {
        return 0;
    }
    uint8_t options = data[0];
    data++;
    size--;

    now_ns += 10000000;
    fuzz_buf_open(&packet, data, size);
    if (options & OPTION_SIGN) {
        sign_cookies(&packet);
    }
    og_router_burst(&router, tables, bufs, 1, now_ns);
    fuzz_buf_close(&packet, size);
    og_router_tick(&router, tables, now_ns);

    if (size > 0) {
        decapsulate(data, size);
    }
    return 0;
}
