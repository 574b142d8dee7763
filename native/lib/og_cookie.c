/* SPDX-License-Identifier: Apache-2.0 */
#include "og_cookie.h"

#include <string.h>

#include "og_bytes.h"
#include "og_siphash.h"

#define EPOCH_NS (OG_COOKIE_EPOCH_S * UINT64_C(1000000000))
#define INPUT_WORDS (sizeof(struct og_cookie_input) / 8)

_Static_assert(sizeof(struct og_cookie_input) == 56, "seven words");

/* The key of an epoch: SipHash-2-4 under the secret as a pseudo-random function of (turn, half). */
static void derive(struct og_cookie_keys *keys, uint64_t turn)
{
    struct og_cookie_key *key = &keys->key[turn & 1];

    for (uint64_t half = 0; half < 2; half++) {
        const uint64_t words[2] = {turn, half};
        key->key[half] = og_siphash24(keys->secret.key, words, 2);
    }
    key->epoch = (uint16_t)(keys->secret.epoch0 + turn);
    key->id = (uint8_t)(keys->secret.key_id0 + turn);
}

void og_cookie_init(struct og_cookie_keys *keys, const struct og_cookie_secret *secret)
{
    keys->secret = *secret;
    keys->turn = 1; /* so that there is a previous one */
    derive(keys, 0);
    derive(keys, 1);
}

void og_cookie_tick(struct og_cookie_keys *keys, uint64_t now_ns)
{
    if (now_ns - keys->secret.start_ns < keys->turn * EPOCH_NS) {
        return;
    }
    keys->turn = (now_ns - keys->secret.start_ns) / EPOCH_NS + 1;
    derive(keys, keys->turn - 1); /* the same as before, unless epochs were slept through */
    derive(keys, keys->turn);
}

static uint64_t tag_of(const struct og_cookie_key *key, const union og_flow *flow, const uint8_t locator[8],
                       const uint8_t epoch[2], const uint8_t flags[2])
{
    union {
        struct og_cookie_input input;
        uint64_t words[INPUT_WORDS];
    } u;

    _Static_assert(sizeof(u.input) == sizeof(u.words), "hashed by words");
    memcpy(u.words, flow->q, sizeof(flow->q)); /* the first five words are the flow key */
    memcpy(u.input.locator, locator, sizeof(u.input.locator));
    u.words[6] = 0;
    memcpy(u.input.epoch, epoch, sizeof(u.input.epoch));
    memcpy(u.input.flags, flags, sizeof(u.input.flags));
    return og_siphash_words(key->key, u.words, INPUT_WORDS, 2, 4);
}

void og_cookie_make(const struct og_cookie_keys *keys, const union og_flow *flow, const uint8_t locator[8],
                    uint16_t flags, struct og_cookie *cookie)
{
    const struct og_cookie_key *key = &keys->key[keys->turn & 1];

    cookie->type = OG_TLV_COOKIE;
    cookie->length = OG_COOKIE_LEN;
    cookie->version = OG_COOKIE_VERSION;
    cookie->key_id = key->id;
    og_store16(cookie->epoch, key->epoch);
    og_store16(cookie->flags, flags);
    og_store64(cookie->tag, tag_of(key, flow, locator, cookie->epoch, cookie->flags));
}

enum og_cookie_result og_cookie_check(const struct og_cookie_keys *keys, const union og_flow *flow,
                                      const uint8_t locator[8], const struct og_cookie *cookie)
{
    uint16_t epoch = og_load16(cookie->epoch);

    if (cookie->version != OG_COOKIE_VERSION) {
        return OG_COOKIE_UNKNOWN;
    }
    for (unsigned i = 0; i < 2; i++) {
        const struct og_cookie_key *key = &keys->key[i];
        if (key->id == cookie->key_id && key->epoch == epoch) {
            uint64_t tag = tag_of(key, flow, locator, cookie->epoch, cookie->flags);
            return tag == og_load64(cookie->tag) ? OG_COOKIE_VALID : OG_COOKIE_WRONG;
        }
    }
    return OG_COOKIE_UNKNOWN;
}
