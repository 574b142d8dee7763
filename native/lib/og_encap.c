/* SPDX-License-Identifier: Apache-2.0 */
#include "og_encap.h"

#include <string.h>

_Static_assert(sizeof(struct og_sid) == 16, "a SID is an address");
_Static_assert(sizeof(struct og_ipv6) == 40, "wire format");
_Static_assert(sizeof(struct og_srh) == 8, "wire format");
_Static_assert(sizeof(struct og_cookie) == 16, "cookies keep the SRH a multiple of 8 bytes");

#define ECN_MASK 0x03u
#define ECN_NOT_ECT 0u
#define ECN_ECT1 1u
#define ECN_CE 3u

uint32_t og_path_overhead(const struct og_path *path)
{
    if (path->n_segments == 1 && path->n_cookies == 0) {
        return (uint32_t)sizeof(struct og_ipv6);
    }
    return (uint32_t)(sizeof(struct og_ipv6) + sizeof(struct og_srh) +
                      sizeof(struct og_sid) * ((uint32_t)path->n_segments + path->n_cookies));
}

static bool path_ok(const struct og_path *path)
{
    return path->n_segments <= OG_MAX_SEGMENTS && path->n_cookies <= OG_MAX_COOKIES && path->visited < path->n_segments;
}

/* Segments go in reverse, cookies as they are. */
static void write_srh(struct og_srh *srh, const struct og_path *path, uint16_t tag)
{
    unsigned n = path->n_segments;

    srh->next_header = OG_NH_IPV6;
    srh->hdr_ext_len = (uint8_t)(2 * (n + path->n_cookies));
    srh->routing_type = OG_SRH_TYPE;
    srh->segments_left = (uint8_t)(n - 1 - path->visited);
    srh->last_entry = (uint8_t)(n - 1);
    srh->flags = 0;
    og_store16(srh->tag, tag);

    uint8_t *out = (uint8_t *)(srh + 1);
    for (unsigned i = n; i-- > 0; out += sizeof(struct og_sid)) {
        memcpy(out, &path->segments[i], sizeof(struct og_sid));
    }
    memcpy(out, path->cookies, path->n_cookies * sizeof(struct og_cookie));
}

/* All that does not depend on the packet. */
static void write_headers(struct og_ipv6 *ip, const struct og_path *path, const struct og_sid *source, uint16_t tag,
                          bool reduced)
{
    ip->next_header = reduced ? OG_NH_IPV6 : OG_NH_ROUTING;
    memcpy(ip->src, source, sizeof(ip->src));
    memcpy(ip->dst, &path->segments[path->visited], sizeof(ip->dst));
    if (!reduced) {
        write_srh((struct og_srh *)(ip + 1), path, tag);
    }
}

bool og_template_build(struct og_template *template, const struct og_path *path, const struct og_sid *source,
                       uint16_t tag)
{
    if (!path_ok(path)) {
        return false;
    }
    memset(template, 0, sizeof(*template));
    template->len = (uint16_t)og_path_overhead(path);
    write_headers((struct og_ipv6 *)template->header, path, source, tag, template->len == sizeof(struct og_ipv6));
    return true;
}

struct og_ipv6 *og_encap_push(struct og_buf *buf, const struct og_path *path, const struct og_sid *source, uint16_t tag,
                              const struct og_outer_fields *fields)
{
    if (!path_ok(path)) {
        return NULL;
    }
    uint32_t overhead = og_path_overhead(path);
    uint32_t payload_len = buf->len + overhead - (uint32_t)sizeof(struct og_ipv6);
    if (payload_len > UINT16_MAX || og_buf_push(buf, overhead) == NULL) {
        return NULL;
    }
    struct og_ipv6 *ip = (struct og_ipv6 *)buf->data;
    og_outer_write(ip, payload_len, fields);
    write_headers(ip, path, source, tag, overhead == sizeof(*ip));
    return ip;
}

bool og_outer_fields_from(const struct og_outer *outer, struct og_outer_fields *fields)
{
    uint32_t vtc_flow = og_load32(outer->ip->vtc_flow);

    if (outer->ip->hop_limit <= 1) {
        return false;
    }
    fields->traffic_class = (uint8_t)(vtc_flow >> 20);
    fields->flow_label = vtc_flow & 0xfffff;
    fields->hop_limit = outer->ip->hop_limit - 1;
    return true;
}

/* RFC 6040 figure 4: what the inner ECN field becomes. False: the packet must be dropped. */
static bool combine_ecn(unsigned outer, unsigned *inner)
{
    if (*inner == ECN_NOT_ECT) {
        return outer != ECN_CE;
    }
    if (outer == ECN_CE || (outer == ECN_ECT1 && *inner != ECN_CE)) {
        *inner = outer;
    }
    return true;
}

enum og_verdict og_decap(struct og_buf *buf, const struct og_outer *outer, bool ecn)
{
    if (outer->next_header != OG_NH_IPV6) {
        return OG_V_DROP_INNER;
    }
    const uint8_t *ip = og_read(buf->data, outer->len, outer->payload, sizeof(struct og_ipv6));
    if (ip == NULL) {
        return OG_V_DROP_TRUNCATED;
    }
    if (ip[0] >> 4 != 6) {
        return OG_V_DROP_INNER;
    }
    uint32_t inner_len = (uint32_t)sizeof(struct og_ipv6) + og_load16(ip + 4);
    if (inner_len > outer->len - outer->payload) {
        return OG_V_DROP_TRUNCATED;
    }

    unsigned mark = ip[1] >> 4 & ECN_MASK;
    if (ecn && !combine_ecn(outer->ip->vtc_flow[1] >> 4 & ECN_MASK, &mark)) {
        return OG_V_DROP_ECN;
    }

    og_buf_pull(buf, outer->payload);
    og_buf_trim(buf, inner_len);
    if (ecn) {
        buf->data[1] = (uint8_t)((buf->data[1] & 0xcf) | mark << 4);
    }
    return OG_V_NONE;
}
