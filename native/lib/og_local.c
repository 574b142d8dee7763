/* SPDX-License-Identifier: Apache-2.0 */
#include "og_local.h"

#include "og_icmp.h"
#include "og_sid.h"

void og_local_init(struct og_local *local, const uint64_t key[2], const struct og_probe_self *self)
{
    local->self = *self;
    local->beside = self->load;
    og_rate_init(&local->probe_rate, key, OG_PROBES_PER_S, OG_PROBES_TOTAL_PER_S);
}

static enum og_verdict probe(struct og_local *local, const struct og_tables *tables, struct og_buf *buf,
                             const struct og_outer *outer, uint64_t now_ns)
{
    struct og_locator_role sender = og_tables_locator(tables, outer->source->locator);
    struct og_probe_info info;

    if (!sender.gateway && sender.router == OG_NO_MEMBER && sender.agent == OG_NO_MEMBER) {
        return OG_V_DROP_OUTER_SOURCE;
    }
    enum og_verdict verdict = og_probe_parse(buf->data, outer, &info);
    if (verdict != OG_V_NONE) {
        return verdict;
    }
    if (info.type == OG_PROBE_REPLY) {
        return OG_V_PROBE_REPLY;
    }
    if (!sender.gateway) {
        return OG_V_DROP_OUTER_SOURCE; /* agents answer, they do not ask */
    }
    if (!og_rate_take(&local->probe_rate, outer->ip->src, now_ns)) {
        return OG_V_DROP_PROBE_RATE;
    }
    struct og_probe_self self = local->self;
    if (sender.router != OG_NO_MEMBER && sender.site == og_tables_spec(tables)->own_site) {
        self.load = local->beside;
    }
    og_probe_answer(buf, outer, og_tables_spec(tables)->locator, &self);
    return OG_V_PROBE_ANSWERED;
}

enum og_verdict og_local_packet(struct og_local *local, const struct og_tables *tables, struct og_buf *buf,
                                const struct og_outer *outer, uint64_t now_ns)
{
    struct og_fabric_error error;

    switch (og_sid_function(outer->destination)) {
    case OG_FN_PROBE:
        return probe(local, tables, buf, outer, now_ns);
    case OG_FN_ERRORS:
        return og_fabric_error_parse(buf->data, outer, og_tables_spec(tables)->locator, &error);
    default:
        return OG_V_DROP_SID_FUNCTION;
    }
}
