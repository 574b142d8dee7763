/* SPDX-License-Identifier: Apache-2.0
 *
 * What the fuzzers share: the lab's tables, and a packet in memory of exactly its size, so that the address sanitizer
 * sees the first byte read behind it.
 */
#ifndef OG_FUZZ_H
#define OG_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "og_buf.h"
#include "og_tables.h"

#define FUZZ_HEADROOM 320u
#define FUZZ_MAX_PACKET 65575u /* 40 + 65535 */

#define FUZZ_HASHER "5f00:1:11::"
#define FUZZ_ROUTER "5f00:1:21::"

/* A broken promise of the library ends the run like a memory error does. */
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                    \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The recovery lab as a node with this locator knows it. Never freed. */
const struct og_tables *fuzz_tables(const char *own_locator);

/* Copy a packet into a buffer with FUZZ_HEADROOM before and nothing behind it. */
void fuzz_buf_open(struct og_buf *buf, const uint8_t *data, size_t size);

/* The bookkeeping must add up, and a packet to be sent must be one; then the memory is freed. `size`: as opened. */
void fuzz_buf_close(struct og_buf *buf, size_t size);

#endif
