/* SPDX-License-Identifier: Apache-2.0
 *
 * The poll loop: receive a burst, let the library decide, send. The only place that knows mbufs, Ethernet and the
 * library at once.
 */
#ifndef OG_POLL_LOOP_H
#define OG_POLL_LOOP_H

/* An lcore function; `app` is a struct og_app. Returns when app->stop is set. */
int og_poll(void *app);

#endif
