/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the library: is a table description sound? Separate from building, so that building cannot meet bad input.
 */
#ifndef OG_TABLES_CHECK_H
#define OG_TABLES_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "og_tables.h"

/* False with one message that names field and reason, e.g. `agents[2].weight: …`. */
bool og_tables_check(const struct og_tables_spec *spec, char *error, size_t error_len);

#endif
