/* SPDX-License-Identifier: Apache-2.0
 *
 * A packet as the library sees it: bytes, room around them, and what became of it. No ports, no mbufs, no Ethernet:
 * `data` is the first byte of the (outermost) IPv6 header. The caller owns the memory.
 */
#ifndef OG_BUF_H
#define OG_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "og_verdict.h"

struct og_buf {
    uint8_t *data;
    uint32_t len;
    uint32_t headroom; /* bytes that may be written before data */
    uint32_t tailroom; /* bytes that may be written after data + len */
    enum og_verdict verdict;
    uint16_t owner; /* thread that must handle it; differs from the current one only for OG_V_HANDOFF */
};

/* Move the start of the packet: grow into the headroom, or cut from the front. NULL and unchanged if there is no room. */
uint8_t *og_buf_push(struct og_buf *buf, uint32_t bytes);
uint8_t *og_buf_pull(struct og_buf *buf, uint32_t bytes);

/* Cut the end off so that `len` bytes remain; nothing happens if there are no more than that. */
static inline void og_buf_trim(struct og_buf *buf, uint32_t len)
{
    if (len < buf->len) {
        buf->tailroom += buf->len - len;
        buf->len = len;
    }
}

/* The one way to read a packet: n bytes at offset, or NULL if they are not all there. */
static inline const uint8_t *og_read(const uint8_t *data, uint32_t len, uint32_t offset, uint32_t n)
{
    return (offset <= len && n <= len - offset) ? data + offset : NULL;
}

#endif
