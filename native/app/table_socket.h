/* SPDX-License-Identifier: Apache-2.0
 *
 * Tables come and go here: the table socket, the persisted document, the swap under RCU.
 */
#ifndef OG_TABLE_SOCKET_H
#define OG_TABLE_SOCKET_H

#include <stdbool.h>

struct og_app;
struct og_error;

/* Load a document from a file, before the poll threads run or while they do. */
bool og_table_socket_load_file(struct og_app *app, const char *file, struct og_error *error);

/* Load the last accepted document from the state directory. No error if there is none; a bad one is logged and left
 * alone: the control daemon will send another. */
void og_table_socket_load_persisted(struct og_app *app);

/* Start the thread that serves the table socket; wait for its end once app->stop is set (at most 100 ms). */
bool og_table_socket_start(struct og_app *app, struct og_error *error);
void og_table_socket_stop(void);

#endif
