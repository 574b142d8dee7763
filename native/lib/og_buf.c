/* SPDX-License-Identifier: Apache-2.0 */
#include "og_buf.h"

uint8_t *og_buf_push(struct og_buf *buf, uint32_t bytes)
{
    if (bytes > buf->headroom || buf->len > UINT32_MAX - bytes) {
        return NULL;
    }
    buf->data -= bytes;
    buf->len += bytes;
    buf->headroom -= bytes;
    return buf->data;
}

uint8_t *og_buf_pull(struct og_buf *buf, uint32_t bytes)
{
    if (bytes > buf->len) {
        return NULL;
    }
    buf->data += bytes;
    buf->len -= bytes;
    buf->headroom += bytes;
    return buf->data;
}
