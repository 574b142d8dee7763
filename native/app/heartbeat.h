/* SPDX-License-Identifier: Apache-2.0
 *
 * The heartbeat file: proof, readable without asking the process, that its poll loops turn (docs/interfaces.md).
 */
#ifndef OG_HEARTBEAT_H
#define OG_HEARTBEAT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct og_error;

#define OG_HEARTBEAT_VERSION 1
#define OG_HEARTBEAT_TABLES 0x1u  /* tables are loaded */
#define OG_HEARTBEAT_SERVING 0x2u /* and there is somebody to send to */

/* Little-endian, as every host this runs on. */
struct og_heartbeat {
    char magic[4]; /* "OGHB" */
    uint32_t version;
    _Atomic uint64_t loops;
    uint64_t generation;
    uint32_t flags;
    uint32_t pid;
    uint64_t incarnation;
    uint8_t zero[24];
};
_Static_assert(sizeof(struct og_heartbeat) == 64, "one cache line");

/* Maps the file, made if it is not there. NULL on error. Never unmapped: it ends with the process. */
struct og_heartbeat *og_heartbeat_open(const char *path, uint64_t incarnation, struct og_error *error);

#endif
