/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * One source, two ways to build it.
 *
 * bcc (production): the loader makes and pins the maps itself and passes their descriptors as OG_FD_<map>; offsets into
 * kernel structs come from the running kernel's BTF as OG_OFF_*, because the headers bcc compiles against need not be
 * those of the running kernel. bcc's own map syntax is not used, so the code below is plain C.
 *
 * clang -target bpf -DOG_LIBBPF (tests, hosts without headers): maps are declared in og_maps.h, libbpf relocates.
 */
#ifndef OG_DIALECT_H
#define OG_DIALECT_H

#ifdef OG_LIBBPF

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#ifndef OG_PROGRAM
#define OG_PROGRAM(section) SEC(section)
#endif
#define OG_LICENSE char og_license[] SEC("license") = "GPL"
#define og_map_find(map, key) bpf_map_lookup_elem(&map, key)
#define og_map_set(map, key, value) bpf_map_update_elem(&map, key, value, BPF_ANY)
#define og_map_delete(map, key) bpf_map_delete_elem(&map, key)
#define og_redirect_neigh(ifindex) bpf_redirect_neigh(ifindex, NULL, 0, 0)

#else

#include <uapi/linux/bpf.h>
#include <uapi/linux/if_ether.h>
#include <uapi/linux/pkt_cls.h>

#ifndef OG_PROGRAM /* the benchmark puts the programs inside others */
#define OG_PROGRAM(section)
#endif
#define OG_LICENSE struct og_no_license /* bcc sets "GPL" by itself */
#define OG_FD(map) bpf_pseudo_fd(1, OG_FD_##map)
#define og_map_find(map, key) bpf_map_lookup_elem_(OG_FD(map), (void *)(key))
#define og_map_set(map, key, value) bpf_map_update_elem_(OG_FD(map), (void *)(key), value, BPF_ANY)
#define og_map_delete(map, key) bpf_map_delete_elem_(OG_FD(map), (void *)(key))

/* bcc 0.31 declares this helper with three arguments; it has four. */
static long (*const og_helper_redirect_neigh)(__u32 ifindex, void *params, int plen, __u64 flags) = (void *)152;
#define og_redirect_neigh(ifindex) og_helper_redirect_neigh(ifindex, (void *)0, 0, 0)

#endif

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/* Packets are read and written by whole words: for byte arrays clang would copy byte by byte. Architectures that run
 * BPF networking allow unaligned access to packets; what lies on the stack is declared aligned. */
typedef __u64 __attribute__((may_alias)) og_word64;
typedef __u32 __attribute__((may_alias)) og_word32;
typedef __u16 __attribute__((may_alias)) og_word16;

#define OG_ALIGNED __attribute__((aligned(8)))

/* The compiler may not conclude from one check that another is needless: the verifier wants to see each. */
#define OG_OPAQUE(value) __asm__ volatile("" : "+r"(value))

static __always_inline void og_copy16(void *to, const void *from)
{
    ((og_word64 *)to)[0] = ((const og_word64 *)from)[0];
    ((og_word64 *)to)[1] = ((const og_word64 *)from)[1];
}

static __always_inline __u64 og_raw64(const void *from)
{
    return *(const og_word64 *)from;
}

static __always_inline __u32 og_raw32(const void *from)
{
    return *(const og_word32 *)from;
}

static __always_inline __u16 og_raw16(const void *from)
{
    return *(const og_word16 *)from;
}

static __always_inline __u16 og_get16(const void *from)
{
    return __builtin_bswap16(og_raw16(from));
}

static __always_inline __u32 og_get32(const void *from)
{
    return __builtin_bswap32(og_raw32(from));
}

static __always_inline void og_put16(void *to, __u16 value)
{
    *(og_word16 *)to = __builtin_bswap16(value);
}

static __always_inline void og_put32(void *to, __u32 value)
{
    *(og_word32 *)to = __builtin_bswap32(value);
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "og_get16 and its kin are written for little-endian hosts"
#endif

#endif
