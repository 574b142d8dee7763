/* SPDX-License-Identifier: Apache-2.0
 *
 * Start-up options of a data plane: the file given with --config (docs/interfaces.md, "Data-plane options").
 */
#ifndef OG_OPTIONS_H
#define OG_OPTIONS_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "json.h"

#define OG_MAX_THREADS 32
#define OG_MAX_EAL_ARGS 64

enum og_port_kind { OG_PORT_AF_XDP, OG_PORT_VDEV, OG_PORT_PCI };
enum og_next_hop_mode { OG_NEXT_HOP_KERNEL, OG_NEXT_HOP_FIXED };

struct og_options {
    enum og_port_kind port_kind;
    char interface[IF_NAMESIZE]; /* af_xdp; optional for pci: the interface whose routes and neighbours are followed */
    char xsks_map[256];          /* af_xdp */
    char port_args[1024];        /* vdev: EAL's --vdev argument; pci: the address */
    char eal[OG_MAX_EAL_ARGS][128]; /* handed to EAL as they are */
    unsigned n_eal;
    uint8_t locator[8];
    unsigned threads;
    uint32_t idle_us; /* sleep when nothing came; 0 = never sleep */
    uint64_t pins;    /* capacity of the whole process (router) */
    uint32_t fabric_mtu;
    uint8_t dscp;
    enum og_next_hop_mode next_hop_mode;
    uint8_t next_hop_mac[6];
    char runtime_dir[256];
    char state_dir[256];
    bool telemetry;
    bool probe;           /* false: for benchmarks and captures, where nobody answers */
    uint64_t max_packets; /* stop after so many received packets; 0 = never */
};

/* Reads and checks the file. On error false, with a text that names the file and the place. */
bool og_options_read(const char *file, bool router, struct og_options *options, struct og_json_error *error);

#endif
