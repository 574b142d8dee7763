/* SPDX-License-Identifier: Apache-2.0
 *
 * The flow key and its hash. The key is a union with 64-bit words: hashing a struct through a pointer cast is silently
 * miscompiled under strict aliasing, so the hash reads `q`, never the members.
 */
#ifndef OG_FLOW_H
#define OG_FLOW_H

#include <stdint.h>

/* Always in the client-to-VIP direction. Ports in network byte order. 40 bytes, no padding left unset. */
union og_flow {
    struct {
        uint8_t client[16];
        uint8_t vip[16];
        uint16_t client_port;
        uint16_t vip_port;
        uint8_t protocol;
        uint8_t zero[3];
    };
    uint64_t q[5];
};

struct og_seed {
    uint64_t k[2]; /* SipHash key, the site's secret (`flow_seed` of the table document) */
};

/* Independent uses of one hash: each gets its own finaliser, so that e.g. all flows of one router still spread over
 * all agents, spill buckets and pin lines. */
enum og_hash_use { OG_USE_ROUTER, OG_USE_AGENT, OG_USE_SPILL, OG_USE_LABEL, OG_USE_PIN, OG_USE_OWNER };

/* SipHash-1-3 of the five words. */
uint64_t og_flow_hash(const struct og_seed *seed, const union og_flow *flow);

/* A burst of flow keys, word by word, so that several are hashed at once. */
#define OG_FLOW_BATCH 32
struct og_flow_batch {
    uint64_t q[5][OG_FLOW_BATCH];
};

static inline void og_flow_batch_set(struct og_flow_batch *batch, unsigned i, const union og_flow *flow)
{
    for (unsigned word = 0; word < 5; word++) {
        batch->q[word][i] = flow->q[word];
    }
}

/* og_flow_hash() of the first n of them; n <= OG_FLOW_BATCH. Entries of `batch` and `hashes` up to the next multiple of 4
 * are read and written: their values do not matter. */
void og_flow_hash_batch(const struct og_seed *seed, const struct og_flow_batch *batch, uint64_t hashes[OG_FLOW_BATCH],
                        unsigned n);

/* 64 well-mixed bits for one use: a bijection of the flow hash (MurmurHash3's finaliser) with a constant per use. What an
 * attacker cannot predict is the flow hash, so this need not be keyed. */
inline uint64_t og_hash_for(uint64_t flow_hash, enum og_hash_use use)
{
    uint64_t h = flow_hash ^ ((uint64_t)use + 1) * UINT64_C(0x9e3779b97f4a7c15);

    h ^= h >> 33;
    h *= UINT64_C(0xff51afd7ed558ccd);
    h ^= h >> 33;
    h *= UINT64_C(0xc4ceb9fe1a85ec53);
    h ^= h >> 33;
    return h;
}

#endif
