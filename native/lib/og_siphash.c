/* SPDX-License-Identifier: Apache-2.0 */
#include "og_siphash.h"

uint64_t og_siphash13(const uint64_t key[2], const uint64_t *words, size_t n)
{
    return og_siphash_words(key, words, n, 1, 3);
}

uint64_t og_siphash24(const uint64_t key[2], const uint64_t *words, size_t n)
{
    return og_siphash_words(key, words, n, 2, 4);
}
