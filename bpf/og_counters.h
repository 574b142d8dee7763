/* SPDX-License-Identifier: Apache-2.0
 *
 * What became of a packet on an application host. Every packet the XDP program sees, and every packet of a service the
 * tc program sees, is counted once under one name; EVENT counts something that happened on the way.
 *
 * X(symbol, name, class, text)   class: PASS = to the kernel (ingress) or to the client (egress); TX = sent on; DROP;
 * EVENT. New names go to the end: the position is the key in the pinned map, which outlives a release.
 */
#ifndef OG_COUNTERS_H
#define OG_COUNTERS_H

#define OG_AGENT_COUNTERS(X)                                                                                           \
    /* ingress: not ours */                                                                                            \
    X(PASS_OTHER, "pass_other", PASS, "not for this node's locator: left to the kernel untouched")                     \
    /* ingress: taken, the envelope removed */                                                                         \
    X(TAKEN_KNOWN, "taken_known", PASS, "a socket here knows this flow")                                               \
    X(TAKEN_COOKIE, "taken_cookie", PASS, "ACK with a valid SYN cookie of a listener here")                            \
    X(TAKEN_NEW, "taken_new", PASS, "SYN: a listener with room in its accept queue")                                   \
    X(TAKEN_LAST, "taken_last", PASS, "SYN: no room, but the last candidate")                                          \
    X(TAKEN_ICMP, "taken_icmp", PASS, "ICMPv6 error about a flow a socket here knows")                                 \
    X(TAKEN_UDP, "taken_udp", PASS, "datagram of a service here")                                                      \
    X(TAKEN_FINAL, "taken_final", PASS, "delivered whatever it is (F)")                                                \
    /* ingress: sent on */                                                                                             \
    X(NEXT_SEGMENT, "next_segment", TX, "not mine: to the next segment")                                               \
    X(RETURNED_MISS, "returned_miss", TX, "pinned packet that is not mine: back to the router as Miss")                \
    X(PROBE_ANSWERED, "probe_answered", TX, "probe answered")                                                          \
    /* ingress: dropped */                                                                                             \
    X(FABRIC_ERROR, "fabric_error", DROP, "ICMPv6 error from the fabric about a reply of ours")                        \
    X(DROP_TRUNCATED, "drop_truncated", DROP, "shorter than its headers say")                                          \
    X(DROP_NOT_IPV6, "drop_not_ipv6", DROP, "not IPv6 by its version field")                                           \
    X(DROP_OUTER_SOURCE, "drop_outer_source", DROP, "SID packet from outside the gateway's prefixes")                  \
    X(DROP_SID_FUNCTION, "drop_sid_function", DROP, "unknown function in a SID of this node")                          \
    X(DROP_PROTOCOL, "drop_protocol", DROP, "neither an SRH nor an IPv6 packet inside")                                \
    X(DROP_SRH_TYPE, "drop_srh_type", DROP, "routing header that is not an SRH")                                       \
    X(DROP_SRH, "drop_srh", DROP, "malformed segment routing header")                                                  \
    X(DROP_TLV, "drop_tlv", DROP, "TLV overruns the segment routing header, or too many")                              \
    X(DROP_SEGMENTS, "drop_segments", DROP, "segment list this node cannot follow")                                    \
    X(DROP_LOOP, "drop_loop", DROP, "third Steer on one path")                                                         \
    X(DROP_INNER, "drop_inner", DROP, "encapsulated packet is not one of a service here")                              \
    X(DROP_ECN, "drop_ecn", DROP, "congestion mark on the envelope of a packet without ECN (RFC 6040)")                \
    X(DROP_NOT_MINE, "drop_not_mine", DROP, "not mine, and no segment left")                                           \
    X(DROP_HOP_LIMIT, "drop_hop_limit", DROP, "hop limit used up")                                                     \
    X(DROP_PROBE, "drop_probe", DROP, "malformed probe")                                                               \
    X(DROP_PROBE_RATE, "drop_probe_rate", DROP, "probes over their rate")                                              \
    X(DROP_NO_CONFIG, "drop_no_config", DROP, "no configuration in the map, or the packet could not be cut")           \
    /* egress, packets of a service */                                                                                 \
    X(EGRESS_DIRECT, "egress_direct", PASS, "reply straight to the client")                                            \
    X(EGRESS_SYNACK_DIRECT, "egress_synack_direct", PASS, "SYN-ACK straight to the client: no note of a way back")     \
    X(EGRESS_FAILED, "egress_failed", PASS, "reply that could not be encapsulated: straight to the client")            \
    X(EGRESS_SYNACK, "egress_synack", TX, "SYN-ACK sent along the way back")                                           \
    X(EGRESS_HUNTED, "egress_hunted", TX, "reply of a hunted flow sent along the way back, once")                      \
    X(EGRESS_LOST, "egress_lost", DROP, "reply whose envelope could not be written")                                   \
    /* events */                                                                                                       \
    X(DECLINED_FULL, "declined_full", EVENT, "SYN declined: no room in the accept queue")                              \
    X(DECLINED_NO_LISTENER, "declined_no_listener", EVENT, "SYN declined: no listener")                                \
    X(DECLINED_LEFTOVER, "declined_leftover", EVENT, "sequence or acknowledgement number of another connection")       \
    X(NOTE_MADE, "note_made", EVENT, "way back noted")                                                                 \
    X(NOTE_REFUSED, "note_refused", EVENT, "no note: visited routers and cookies do not match")                        \
    X(MSS_CLAMPED, "mss_clamped", EVENT, "MSS lowered in a SYN-ACK")

enum og_counter {
#define OG_X(symbol, name, class, text) OG_C_##symbol,
    OG_AGENT_COUNTERS(OG_X)
#undef OG_X
        OG_C_COUNT
};

#define OG_COUNTERS_MAX 128 /* size of the pinned map: room for names of later releases */

#endif
