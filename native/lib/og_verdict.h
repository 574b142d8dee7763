/* SPDX-License-Identifier: Apache-2.0
 *
 * What became of a packet. Every packet ends with exactly one verdict, and is counted under it once. The names are what
 * an operator reads in telemetry, `ogctl counters` and the dashboards; the texts are shown beside them.
 *
 * X(symbol, name, class, text)   class: TX = the buffer holds a packet to send; DROP = nothing is sent; KEEP = the buffer
 * has changed hands (another thread, a probe consumed by the prober).
 */
#ifndef OG_VERDICT_H
#define OG_VERDICT_H

#include <stdbool.h>

#define OG_VERDICTS(X)                                                                                                 \
    /* hasher */                                                                                                       \
    X(STEERED, "steered", TX, "client packet encapsulated to a router")                                                \
    X(STEERED_ICMP, "steered_icmp", TX, "ICMPv6 error steered by the packet embedded in it")                           \
    X(ECHO_REPLY, "echo_reply", TX, "ICMPv6 echo to a VIP answered")                                                   \
    X(TOO_BIG, "too_big", TX, "Packet Too Big sent to a client")                                                       \
    X(TIME_EXCEEDED, "time_exceeded", TX, "Time Exceeded sent to a client")                                            \
    /* router */                                                                                                       \
    X(PINNED, "pinned", TX, "sent to the pinned target")                                                               \
    X(HALF_OPEN_HIT, "half_open_hit", TX, "sent to the target of a half-open entry")                                   \
    X(PROMOTED, "promoted", TX, "client's ACK fitted: half-open entry became a pin")                                   \
    X(OFFERED, "offered", TX, "SYN offered to candidates")                                                             \
    X(OFFERED_PINNED, "offered_pinned", TX, "SYN of a known flow offered to its target, then to candidates")           \
    X(OFFERED_SITE, "offered_site", TX, "new flow sent to another site: no usable server here")                        \
    X(SPILLED, "spilled", TX, "new flow sent to another site by the spill share")                                      \
    X(OFFERED_UDP, "offered_udp", TX, "datagram without a pin sent by the table")                                      \
    X(HUNT_1, "hunt_1", TX, "unknown flow: hunt, first and second pick")                                               \
    X(HUNT_2, "hunt_2", TX, "unknown flow: hunt, history of the slot")                                                 \
    X(HUNT_3, "hunt_3", TX, "unknown flow: hunt, other site")                                                          \
    X(HUNT_FOR, "hunt_for", TX, "hunt of another site's router: servers here asked")                                   \
    X(HUNT_4, "hunt_4", TX, "unknown to every server: delivered for a reset")                                          \
    X(RETURNED_HALF_OPEN, "returned_half_open", TX, "SYN-ACK returned, half-open entry made")                          \
    X(RETURNED_PIN, "returned_pin", TX, "reply of a hunted flow returned, pin made")                                   \
    X(RETURNED, "returned", TX, "reply returned that teaches nothing: RST, repeated SYN-ACK, challenge ACK")           \
    X(RETURNED_NO_PIN, "returned_no_pin", TX, "reply returned without a pin: cookie from an unknown or old key")       \
    X(RETURNED_ONWARD, "returned_onward", TX, "reply passed to the next router on its way back")                       \
    /* both */                                                                                                         \
    X(PROBE_ANSWERED, "probe_answered", TX, "probe answered")                                                          \
    X(PROBE_REPLY, "probe_reply", KEEP, "reply to a probe of ours")                                                    \
    X(HANDOFF, "handoff", KEEP, "belongs to another thread")                                                           \
    X(FABRIC_ERROR, "fabric_error", KEEP, "ICMPv6 error from the fabric")                                              \
    /* dropped: what came in was wrong or is not served */                                                             \
    X(DROP_TRUNCATED, "drop_truncated", DROP, "shorter than its headers say")                                          \
    X(DROP_NOT_IPV6, "drop_not_ipv6", DROP, "not an IPv6 packet")                                                      \
    X(DROP_FRAGMENT, "drop_fragment", DROP, "fragment")                                                                \
    X(DROP_EXT_HEADERS, "drop_ext_headers", DROP, "more than 4 extension headers or 64 bytes of them")                 \
    X(DROP_ROUTING_HEADER, "drop_routing_header", DROP, "routing header from a client")                                \
    X(DROP_PROTOCOL, "drop_protocol", DROP, "ESP, AH or unknown protocol")                                             \
    X(DROP_NO_SERVICE, "drop_no_service", DROP, "no service at this address and port")                                 \
    X(DROP_SOURCE, "drop_source", DROP,                                                                                \
      "client source is a VIP, multicast, unspecified, link-local or in the SR domain")                                \
    X(DROP_TCP_FLAGS, "drop_tcp_flags", DROP, "SYN|ACK, null or xmas packet from a client")                            \
    X(DROP_HOP_LIMIT, "drop_hop_limit", DROP, "hop limit used up")                                                     \
    X(DROP_ICMP_TYPE, "drop_icmp_type", DROP, "ICMPv6 type that is not steered")                                       \
    X(DROP_ICMP_EMBEDDED, "drop_icmp_embedded", DROP, "ICMPv6 error with an embedded packet that is not of a service") \
    X(DROP_ICMP_MTU, "drop_icmp_mtu", DROP, "Packet Too Big with an MTU below 1280")                                   \
    X(DROP_ICMP_RATE, "drop_icmp_rate", DROP, "ICMPv6 over its rate")                                                  \
    X(DROP_TOO_BIG, "drop_too_big", DROP, "too large for the fabric; Packet Too Big over its rate")                    \
    /* dropped: SR */                                                                                                  \
    X(DROP_SRH, "drop_srh", DROP, "malformed segment routing header")                                                  \
    X(DROP_SRH_TYPE, "drop_srh_type", DROP, "routing header that is not an SRH")                                       \
    X(DROP_TLV, "drop_tlv", DROP, "TLV overruns the segment routing header")                                           \
    X(DROP_SEGMENTS, "drop_segments", DROP, "segment list this node cannot follow")                                    \
    X(DROP_LOOP, "drop_loop", DROP, "third Steer on one path")                                                         \
    X(DROP_SID_FUNCTION, "drop_sid_function", DROP, "unknown function in a SID of this node")                          \
    X(DROP_OUTER_SOURCE, "drop_outer_source", DROP, "SID packet from outside the gateway's prefixes")                  \
    X(DROP_INNER, "drop_inner", DROP, "encapsulated packet is not one of a service")                                   \
    X(DROP_ECN, "drop_ecn", DROP, "congestion mark on an envelope whose packet cannot carry it (RFC 6040)")            \
    X(DROP_COOKIE, "drop_cookie", DROP, "wrong tag under a known key")                                                 \
    X(DROP_NO_COOKIE, "drop_no_cookie", DROP, "reply or miss without a cookie")                                        \
    X(DROP_PIN_SOURCE, "drop_pin_source", DROP, "reply from an agent that is not known")                               \
    X(DROP_SYNACK_SECOND, "drop_synack_second", DROP, "second server answered a SYN: the first answer wins")           \
    X(DROP_PROBE, "drop_probe", DROP, "malformed probe")                                                               \
    X(DROP_PROBE_RATE, "drop_probe_rate", DROP, "probes over their rate")                                              \
    /* dropped: the gateway could not */                                                                               \
    X(DROP_NO_TABLE, "drop_no_table", DROP, "no table loaded yet")                                                     \
    X(DROP_NO_TARGET, "drop_no_target", DROP, "no usable router or server")                                            \
    X(DROP_HUNT_BUDGET, "drop_hunt_budget", DROP, "hunt over its budget")                                              \
    X(DROP_HUNT_NEGATIVE, "drop_hunt_negative", DROP, "hunt that failed a moment ago")                                 \
    X(DROP_HUNT_END, "drop_hunt_end", DROP, "RST, FIN or ICMP error of an unknown flow")                               \
    X(DROP_NO_ROOM, "drop_no_room", DROP, "no headroom in the buffer")                                                 \
    X(DROP_NO_NEIGHBOUR, "drop_no_neighbour", DROP, "next hop's link address is not known")                            \
    X(DROP_TX, "drop_tx", DROP, "port did not take the packet")

enum og_verdict_class { OG_CLASS_TX, OG_CLASS_DROP, OG_CLASS_KEEP };

enum og_verdict {
#define OG_X(symbol, name, class, text) OG_V_##symbol,
    OG_VERDICTS(OG_X)
#undef OG_X
        OG_V_COUNT,
    OG_V_NONE = OG_V_COUNT /* no verdict yet: what a parser says of a packet that may go on */
};

/* For verdicts below OG_V_COUNT. */
enum og_verdict_class og_verdict_class(enum og_verdict verdict);
const char *og_verdict_name(enum og_verdict verdict);
const char *og_verdict_text(enum og_verdict verdict);

static inline bool og_verdict_is_tx(enum og_verdict verdict)
{
    return og_verdict_class(verdict) == OG_CLASS_TX;
}

#endif
