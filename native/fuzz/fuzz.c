/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#include <arpa/inet.h>
#include <string.h>

#include "og_bytes.h"

static void address(uint8_t out[16], const char *text)
{
    CHECK(inet_pton(AF_INET6, text, out) == 1);
}

static void locator(uint8_t out[8], const char *text)
{
    uint8_t whole[16];

    address(whole, text);
    memcpy(out, whole, 8);
}

static void services(struct og_service list[2])
{
    list[0] = (struct og_service){.port = htons(80), .protocol = 6, .idle_s = 8000, .closing_s = 60, .half_open_s = 8};
    list[1] = list[0];
    list[1].port = htons(53);
    list[1].protocol = 17;
    list[1].udp_pins = true;
    address(list[0].vip, "2001:db8:1::80");
    address(list[1].vip, "2001:db8:1::53");
    strcpy(list[0].name, "web");
    strcpy(list[1].name, "dns");
}

static void members(struct og_member *list, unsigned n, unsigned first_node, const char *prefix, uint64_t of_services)
{
    for (unsigned i = 0; i < n; i++) {
        char text[32];

        list[i] = (struct og_member){.id = (uint16_t)i, .weight = 100, .services = of_services};
        snprintf(text, sizeof(text), "5f00:1:%x::", first_node + i);
        locator(list[i].locator, text);
        snprintf(list[i].name, sizeof(list[i].name), "%s%u", prefix, i + 1);
    }
}

const struct og_tables *fuzz_tables(const char *own_locator)
{
    static struct og_service service_list[2];
    static struct og_member routers[4], agents[3];
    static const uint8_t gateways[5][8] = {
        {0x5f, 0, 0, 1, 0, 0x11}, {0x5f, 0, 0, 1, 0, 0x21}, {0x5f, 0, 0, 1, 0, 0x22},
        {0x5f, 0, 0, 1, 0, 0x23}, {0x5f, 0, 0, 1, 0, 0x24},
    };
    char error[256];

    services(service_list);
    members(routers, 4, 0x21, "router", 0);
    members(agents, 3, 0x31, "agent", 3);
    struct og_tables_spec spec = {
        .generation = 1,
        .flow_seed = {{1, 2}},
        .fabric_mtu = 2000,
        .slots = 251, /* a small prime: quick to build, enough for seven members */
        .services = service_list,
        .n_services = 2,
        .routers = routers,
        .n_routers = 4,
        .agents = agents,
        .n_agents = 3,
        .gateways = gateways,
        .n_gateways = 5,
        .n_sr_domain = 3,
    };
    locator(spec.locator, own_locator);
    address(spec.sr_domain[0].prefix, "5f00::");
    spec.sr_domain[0].length = 16;
    address(spec.sr_domain[1].prefix, "2001:db8:f000::");
    spec.sr_domain[1].length = 36;
    address(spec.sr_domain[2].prefix, "2001:db8:1::");
    spec.sr_domain[2].length = 48;

    const struct og_tables *tables = og_tables_build(&spec, error, sizeof(error));
    if (tables == NULL) {
        fprintf(stderr, "%s\n", error);
        abort();
    }
    return tables;
}

void fuzz_buf_open(struct og_buf *buf, const uint8_t *data, size_t size)
{
    uint8_t *memory = malloc(FUZZ_HEADROOM + size);

    CHECK(memory != NULL);
    memset(memory, 0xa5, FUZZ_HEADROOM);
    if (size > 0) {
        memcpy(memory + FUZZ_HEADROOM, data, size);
    }
    *buf = (struct og_buf){
        .data = memory + FUZZ_HEADROOM, .len = (uint32_t)size, .headroom = FUZZ_HEADROOM, .verdict = OG_V_NONE};
}

void fuzz_buf_close(struct og_buf *buf, size_t size)
{
    CHECK((size_t)buf->headroom + buf->len + buf->tailroom == FUZZ_HEADROOM + size);
    CHECK((unsigned)buf->verdict < OG_V_COUNT);
    if (og_verdict_is_tx(buf->verdict)) {
        CHECK(buf->len >= 40 && buf->data[0] >> 4 == 6);
        CHECK(40u + og_load16(buf->data + 4) == buf->len);
        CHECK(buf->data[7] > 0);
    }
    free(buf->data - buf->headroom);
}
