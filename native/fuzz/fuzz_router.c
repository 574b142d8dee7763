/* SPDX-License-Identifier: Apache-2.0
 *
 * Sequences: clients, agents and another site's router that play with one router, by a script in the input. Each step is
 * three bytes: what, and two parameters. Packets the router sends are answered, declined, damaged or sent again; time
 * passes, agents die, suspicion comes and goes, tables are swapped. After each step the router's promises are checked,
 * the inner order of its pin table among them.
 */
#include <string.h>

#include "fuzz.h"
#include "og_bytes.h"
#include "og_encap.h"
#include "og_pins.h"
#include "og_router.h"
#include "og_sid.h"

#define PINS 4u /* home lines: windows overlap and fill */
#define HALF_OPEN 8u
#define STEPS ((size_t)400)
#define N_TABLES 4u
#define INNER 60u /* IPv6 and TCP, or IPv6, UDP and 12 bytes */

enum what {
    CLIENT_TCP, /* flow, flags */
    CLIENT_ACK, /* flow, acknowledges the server's ISN + parameter */
    CLIENT_UDP,
    OTHER_SITE, /* flow, flags: from the other site's router, without SRH */
    HUNT_FOR,   /* flow, flags: the other site's hunt, its Miss ahead */
    ONCE_MORE,  /* what the router sent last comes back as it is */
    REPLY,      /* agent, flags: along the way back of what was sent last */
    DECLINE,    /* agents pass it on, up to the last segment */
    DAMAGE,     /* offset, value: what was sent last, damaged */
    WAIT,       /* seconds = parameter^2 / 16 */
    HEALTH,     /* agent, bits */
    SITE,       /* bits, share: the other site's router; how much leaves */
    TABLES,     /* which */
    KINDS
};

static const struct og_tables *tables[N_TABLES];
static struct og_health health;
static struct og_shares shares;
static void *pins_memory, *halfopen_memory;

struct play {
    struct og_router router;
    unsigned tables;
    uint64_t now_ns;
    uint8_t last[2048]; /* what the router sent last */
    size_t last_len;
};

/* Two sites: one, two and three agents at the own one, and one whose agents have died once. */
static const struct og_tables *variant(unsigned number)
{
    static const struct og_tables *one_site;
    struct og_tables_spec spec;
    static const struct og_past_agent all[] = {{0, 100}, {1, 50}, {2, 100}, {900, 1}}, last[] = {{1, 1}};
    static const struct og_past past[] = {{0, 4, all}, {1, 1, last}, {0, 1, last}};
    struct og_member routers[4], agents[3];
    char error[256];

    if (one_site == NULL) {
        one_site = fuzz_tables(FUZZ_ROUTER);
    }
    spec = *og_tables_spec(one_site);
    memcpy(routers, spec.routers, sizeof(routers));
    memcpy(agents, spec.agents, sizeof(agents));
    routers[3].site = 1;
    agents[2].site = number == 3 ? 0 : 1;
    agents[1].weight = number == 1 ? 0 : 100;
    agents[0].generation = number == 2;
    spec.routers = routers;
    spec.agents = agents;
    spec.generation = number + 1;
    spec.history = past;
    spec.n_history = number == 1 ? 3 : number == 2;
    const struct og_tables *built = og_tables_build(&spec, error, sizeof(error));
    CHECK(built != NULL);
    return built;
}

static void start(struct play *play)
{
    struct og_router_config config = {.threads = 1,
                                      .pins = PINS,
                                      .pins_memory = pins_memory,
                                      .halfopen = HALF_OPEN,
                                      .halfopen_memory = halfopen_memory,
                                      .health = &health,
                                      .shares = &shares,
                                      .cookies = {.key = {3, 4}, .start_ns = 1},
                                      .key = {5, 6},
                                      .self = {.role = 2}};

    memset(&health, 0, sizeof(health));
    memset(&shares, 0, sizeof(shares));
    memset(play, 0, sizeof(*play));
    play->now_ns = 1;
    CHECK(og_router_init(&play->router, &config, play->now_ns));
}

/* ---- promises ------------------------------------------------------------------------------------------------------ */

static void check_pins(const struct og_pins *pins)
{
    const uint64_t lines = pins->lines + OG_PINS_WINDOW - 1;
    unsigned passed[PINS + OG_PINS_WINDOW] = {0};
    uint64_t count = 0, closing = 0, to_sites = 0;

    for (uint64_t slot = 0; slot < lines * OG_PINS_SLOTS; slot++) {
        const struct og_pin *pin = &pins->slots[slot];
        const uint64_t line = slot / OG_PINS_SLOTS;

        if (!(pin->state & OG_PIN_USED)) {
            CHECK(pin->state == 0 && pin->client[0] == 0 && pin->client[1] == 0);
            continue;
        }
        count++;
        closing += (pin->state & OG_PIN_CLOSING) != 0;
        to_sites += pin->target >= OG_TARGET_SITE;
        CHECK(pin->target < OG_TARGETS);
        CHECK(pin->displacement <= line && line - pin->displacement < pins->lines);
        for (uint64_t before = line - pin->displacement; before < line; before++) {
            passed[before]++;
        }
    }
    CHECK(count == pins->count && closing == pins->closing && to_sites == pins->to_sites);
    for (uint64_t line = 0; line < lines; line++) {
        CHECK(pins->slots[line * OG_PINS_SLOTS].passed == passed[line]);
    }
}

static bool may_pin(enum og_verdict verdict)
{
    return verdict == OG_V_PROMOTED || verdict == OG_V_RETURNED_PIN || verdict == OG_V_RETURNED_ONWARD ||
           verdict == OG_V_DROP_HOP_LIMIT || verdict == OG_V_DROP_SEGMENTS || verdict == OG_V_DROP_ECN ||
           verdict == OG_V_DROP_INNER || verdict == OG_V_DROP_NO_TARGET || verdict == OG_V_DROP_TOO_BIG ||
           verdict == OG_V_HUNT_3; /* promoted, and its site has no router any more */
}

/* Segment lists keep to the wire contract, whatever was asked. (A third Steer is dropped by who gets it, as a loop.) */
static void check_sent(const struct og_buf *buf)
{
    struct og_outer outer;
    unsigned steers = 0;

    if (buf->data[6] == OG_NH_TCP || buf->data[6] == OG_NH_UDP) {
        return; /* released to the client */
    }
    CHECK(og_parse_outer(buf->data, buf->len, &outer) == OG_V_NONE);
    for (unsigned i = 0; i < outer.n_segments; i++) {
        steers += og_sid_function(&outer.segments[i]) == OG_FN_STEER;
    }
    CHECK(steers <= OG_MAX_STEERS + 1u && outer.n_segments <= OG_MAX_SEGMENTS && outer.payload <= OG_MAX_OVERHEAD);
}

/* One packet through the router; what it sends is kept. */
static void step(struct play *play, const uint8_t *packet, size_t size)
{
    const uint64_t made = play->router.pins.stats.inserts + play->router.pins.stats.updates;
    struct og_buf buf;
    struct og_buf *const bufs[] = {&buf};

    fuzz_buf_open(&buf, packet, size);
    og_router_burst(&play->router, tables[play->tables], bufs, 1, play->now_ns);
    CHECK(may_pin(buf.verdict) || play->router.pins.stats.inserts + play->router.pins.stats.updates == made);
    if (og_verdict_is_tx(buf.verdict) && buf.verdict != OG_V_PROBE_ANSWERED) {
        check_sent(&buf);
    }
    if (og_verdict_is_tx(buf.verdict) && buf.len <= sizeof(play->last)) {
        memcpy(play->last, buf.data, buf.len);
        play->last_len = buf.len;
    }
    fuzz_buf_close(&buf, size);
    check_pins(&play->router.pins);
    CHECK(play->router.halfopen.count <= HALF_OPEN);
}

/* ---- packets ------------------------------------------------------------------------------------------------------- */

static void write_sid(uint8_t *out, uint8_t site, uint8_t node, uint16_t function)
{
    memset(out, 0, 16);
    out[0] = 0x5f;
    out[3] = site;
    out[5] = node;
    og_store16(out + 8, function);
}

static void write_ipv6(uint8_t *out, uint16_t payload, uint8_t next_header, uint8_t hop_limit)
{
    memset(out, 0, 40);
    out[0] = 0x60;
    og_store16(out + 4, payload);
    out[6] = next_header;
    out[7] = hop_limit;
}

/* From a client to the VIP ::80 (TCP) or ::53 (UDP). */
static void write_client(uint8_t *out, uint8_t flow, uint8_t protocol)
{
    static const uint8_t net[6] = {0x20, 0x01, 0x0d, 0xb8, 0xc0, 0x01};
    static const uint8_t vip[6] = {0x20, 0x01, 0x0d, 0xb8, 0x00, 0x01};

    write_ipv6(out, INNER - 40, protocol, 63);
    memcpy(out + 8, net, sizeof(net));
    out[23] = flow & 7;
    memcpy(out + 24, vip, sizeof(vip));
    out[39] = protocol == OG_NH_TCP ? 0x80 : 0x53;
    memset(out + 40, 0, INNER - 40);
    out[41] = (uint8_t)(1 + (flow >> 3));
    out[43] = protocol == OG_NH_TCP ? 80 : 53;
    if (protocol == OG_NH_UDP) {
        out[45] = INNER - 40;
    } else {
        out[52] = 5 << 4;
    }
}

static uint32_t server_isn(uint8_t flow)
{
    return UINT32_C(0xfffffff0) + flow;
}

static void client(struct play *play, uint8_t flow, uint8_t protocol, uint8_t flags, uint8_t node, uint8_t site)
{
    uint8_t packet[40 + INNER];
    uint8_t *inner = packet + 40;

    write_ipv6(packet, INNER, OG_NH_IPV6, 64);
    write_sid(packet + 8, site, node, OG_FN_ERRORS);
    write_sid(packet + 24, 1, 0x21, OG_FN_STEER);
    write_client(inner, flow, protocol);
    if (protocol == OG_NH_TCP) {
        inner[53] = flags;
        og_store32(inner + 48, server_isn(flow) + 1);
    }
    step(play, packet, sizeof(packet));
}

/* [R1.Steer visited, own Steer, R1.Miss] with a cookie of R1's, which is nothing to us. */
static void hunt_for(struct play *play, uint8_t flow, uint8_t flags)
{
    struct og_path path = {.n_segments = 3, .visited = 1, .n_cookies = 1};
    struct og_sid source;
    struct og_buf buf;
    uint8_t inner[INNER];

    write_sid((uint8_t *)&path.segments[0], 1, 0x24, OG_FN_STEER);
    write_sid((uint8_t *)&path.segments[1], 1, 0x21, OG_FN_STEER);
    write_sid((uint8_t *)&path.segments[2], 1, 0x24, OG_FN_MISS);
    path.cookies[0] = (struct og_cookie){.type = OG_TLV_COOKIE, .length = OG_COOKIE_LEN, .version = OG_COOKIE_VERSION};
    write_sid((uint8_t *)&source, 1, 0x24, OG_FN_ERRORS);
    write_client(inner, flow, OG_NH_TCP);
    inner[53] = flags;
    fuzz_buf_open(&buf, inner, INNER);
    CHECK(og_encap_push(&buf, &path, &source, 0, &(struct og_outer_fields){.hop_limit = 60}) != NULL);
    step(play, buf.data, buf.len);
    free(buf.data - buf.headroom);
}

static void acknowledge(struct play *play, uint8_t flow, uint8_t more)
{
    uint8_t packet[40 + INNER];

    write_ipv6(packet, INNER, OG_NH_IPV6, 64);
    write_sid(packet + 8, 1, 0x11, OG_FN_ERRORS);
    write_sid(packet + 24, 1, 0x21, OG_FN_STEER);
    write_client(packet + 40, flow, OG_NH_TCP);
    packet[93] = OG_TCP_ACK;
    og_store32(packet + 88, server_isn(flow) + more);
    step(play, packet, sizeof(packet));
}

/* What an agent sends along the way back of the last packet: Steers become Pins, newest first; cookies stay. */
static void reply(struct play *play, uint8_t agent, uint8_t flags)
{
    struct og_outer outer;
    struct og_path path = {.n_segments = 0};
    struct og_sid source;
    struct og_buf buf;
    uint8_t inner[INNER];

    if (og_parse_outer(play->last, (uint32_t)play->last_len, &outer) != OG_V_NONE ||
        play->last_len < outer.payload + INNER || outer.next_header != OG_NH_IPV6) {
        return;
    }
    for (unsigned i = 0; og_outer_visited(&outer, i) != NULL && path.n_segments < OG_MAX_STEERS; i++) {
        struct og_sid sid = *og_outer_visited(&outer, i);

        if (og_sid_function(&sid) == OG_FN_STEER) {
            og_store16(sid.function, OG_FN_PIN);
            path.segments[path.n_segments++] = sid;
        }
    }
    for (unsigned i = 0; i < outer.n_cookies; i++) {
        path.cookies[path.n_cookies++] = *outer.cookies[i];
    }
    memcpy(inner, play->last + outer.payload, INNER);
    memcpy(inner + 8, play->last + outer.payload + 24, 16);
    memcpy(inner + 24, play->last + outer.payload + 8, 16);
    memcpy(inner + 40, play->last + outer.payload + 42, 2);
    memcpy(inner + 42, play->last + outer.payload + 40, 2);
    inner[7] = 64;
    if (inner[6] == OG_NH_TCP) {
        inner[53] = flags;
        og_store32(inner + 44, server_isn((uint8_t)((inner[39] & 7) | (inner[43] - 1) << 3)));
    }
    write_sid((uint8_t *)&source, 1, (uint8_t)(0x31 + agent % 4), OG_FN_ERRORS);
    fuzz_buf_open(&buf, inner, INNER);
    if (og_encap_push(&buf, &path, &source, 0, &(struct og_outer_fields){.hop_limit = 64}) != NULL) {
        step(play, buf.data, buf.len);
    }
    free(buf.data - buf.headroom);
}

/* Everybody ahead passes the last packet on. */
static void decline(struct play *play)
{
    struct og_srh *srh = (struct og_srh *)(play->last + 40);

    if (play->last_len > 48 && play->last[6] == OG_NH_ROUTING) {
        srh->segments_left = 0;
        memcpy(play->last + 24, play->last + 48, 16);
        step(play, play->last, play->last_len);
    }
}

/* ---- the script ---------------------------------------------------------------------------------------------------- */

static void perform(struct play *play, enum what what, uint8_t a, uint8_t b)
{
    switch (what) {
    case CLIENT_TCP:
        client(play, a & 31, OG_NH_TCP, b & 0x3f, 0x11, 1);
        break;
    case CLIENT_ACK:
        acknowledge(play, a & 31, b);
        break;
    case CLIENT_UDP:
        client(play, a & 31, OG_NH_UDP, 0, 0x11, 1);
        break;
    case OTHER_SITE:
        client(play, a & 31, OG_NH_TCP, b & 0x3f, 0x24, 1);
        break;
    case HUNT_FOR:
        hunt_for(play, a & 31, b & 0x3f);
        break;
    case ONCE_MORE:
        step(play, play->last, play->last_len);
        break;
    case REPLY:
        reply(play, a, b);
        break;
    case DECLINE:
        decline(play);
        break;
    case DAMAGE:
        if (play->last_len > 0) {
            play->last[a % play->last_len] = b;
            step(play, play->last, play->last_len);
        }
        break;
    case WAIT:
        play->now_ns += (uint64_t)a * a * 62500000u + 1000000u;
        og_router_tick(&play->router, tables[play->tables], play->now_ns);
        check_pins(&play->router.pins);
        break;
    case HEALTH:
        health.agent_suspect[a % 3] = b & 1;
        health.agent_no_listener[a % 3] = b >> 1 & 3;
        health.agent_dead[a % 3] = b >> 3 & 1;
        health.agent_epoch[a % 3] = (uint16_t)(health.agent_epoch[a % 3] + (b >> 4 & 1));
        health.version++;
        break;
    case SITE:
        health.router_suspect[3] = a & 1;
        health.router_dead[3] = a >> 1 & 1;
        health.router_no_service[3] = a >> 2 & 3;
        shares.share[0][1] = shares.share[1][1] = (uint16_t)(b * 5);
        break;
    case TABLES:
        play->tables = a % N_TABLES;
        break;
    case KINDS:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct play play;

    if (tables[0] == NULL) {
        for (unsigned i = 0; i < N_TABLES; i++) {
            tables[i] = variant(i);
        }
        pins_memory = aligned_alloc(OG_PINS_LINE, og_pins_bytes(PINS));
        halfopen_memory = malloc(og_halfopen_bytes(HALF_OPEN));
        CHECK(pins_memory != NULL && halfopen_memory != NULL);
    }
    start(&play);
    for (size_t i = 0; i + 3 <= size && i < STEPS * 3; i += 3) {
        perform(&play, data[i] % KINDS, data[i + 1], data[i + 2]);
    }
    return 0;
}
