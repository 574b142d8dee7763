/* SPDX-License-Identifier: Apache-2.0
 *
 * The port steering program on one interface: what `og-port` does, without its command line.
 */
#ifndef OG_STEERING_H
#define OG_STEERING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../bpf/og_port.h"

enum og_steering_mode { OG_STEERING_NONE, OG_STEERING_NATIVE, OG_STEERING_GENERIC };

struct og_steering_error {
    char text[512];
};

struct og_steering_state {
    enum og_steering_mode mode; /* NONE: nothing attached */
    uint32_t program_id;
    char program_name[16];
    bool ours; /* the attached program is the steering program and uses the maps pinned in `pin_dir` */
    uint64_t counters[OG_PORT_COUNTERS];
    struct og_port_destination *destinations; /* free() */
    size_t n_destinations;
};

const char *og_steering_mode_name(enum og_steering_mode mode);

/* Makes the interface steer exactly these destinations. Idempotent: a running program of the same code, mode and maps is
 * kept and only its destinations are brought up to date; another version of it is replaced atomically. A program of
 * somebody else is an error. `changed` tells whether anything was done. */
bool og_steering_attach(const char *interface, enum og_steering_mode mode, const char *object, const char *pin_dir,
                        const struct og_port_destination *wanted, size_t n_wanted, bool *changed,
                        struct og_steering_error *error);

/* Removes the program (if it is ours) and the pinned maps. No error if there is nothing to remove. */
bool og_steering_detach(const char *interface, const char *pin_dir, bool *changed, struct og_steering_error *error);

bool og_steering_read(const char *interface, const char *pin_dir, struct og_steering_state *state,
                      struct og_steering_error *error);

#endif
