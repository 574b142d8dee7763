/* SPDX-License-Identifier: Apache-2.0 */
#include "large_pages.h"

#include <stdint.h>
#include <sys/mman.h>

#define PAGE (UINT64_C(2) << 20)

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif

void *og_memory_large(size_t bytes, const char **kind)
{
    const size_t rounded = (bytes + PAGE - 1) & ~(PAGE - 1);
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    uint8_t *memory;
    size_t skip;

    *kind = "hugetlb";
    memory = mmap(NULL, rounded, PROT_READ | PROT_WRITE, flags | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0);
    if (memory != MAP_FAILED) {
        return memory;
    }
    *kind = "transparent huge pages";
    memory = mmap(NULL, rounded + PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    skip = (PAGE - ((uintptr_t)memory & (PAGE - 1))) & (PAGE - 1);
    if (madvise(memory + skip, rounded, MADV_HUGEPAGE)) {
        *kind = "small pages";
    }
    return memory + skip;
}
