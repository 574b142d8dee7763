/* SPDX-License-Identifier: Apache-2.0
 *
 * Large tables in large pages.
 */
#ifndef OG_LARGE_PAGES_H
#define OG_LARGE_PAGES_H

#include <stddef.h>

/* At least `bytes` of zeroed memory, aligned to 2 MiB: from hugetlbfs pages if enough are reserved, else anonymous memory
 * that the kernel is asked to back with transparent huge pages. NULL if there is none. `kind` tells which it was. */
void *og_memory_large(size_t bytes, const char **kind);

#endif
