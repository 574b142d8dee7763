/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON documents that outlive the process, in the state directory.
 */
#ifndef OG_STATE_FILE_H
#define OG_STATE_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

struct og_app;
struct og_error;

/* <state_dir>/<role>.<kind>.json */
void og_state_path(const struct og_app *app, const char *kind, char *path, size_t size);

/* Temporary file, fsync, rename, fsync of the directory: after a power failure there is the old one or the new one. */
bool og_state_write(const struct og_app *app, const char *kind, const json_t *document, struct og_error *error);

#endif
