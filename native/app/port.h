/* SPDX-License-Identifier: Apache-2.0
 *
 * EAL and the DPDK ports: from options to queues that poll threads read and write.
 */
#ifndef OG_APP_PORT_H
#define OG_APP_PORT_H

#include <stdbool.h>

struct og_app;
struct og_error;

/* Starts EAL with the options' arguments, one lcore per poll thread. Lcores float over the CPUs the process may use
 * unless the options pin them (-l, --lcores, -c). */
bool og_eal_start(struct og_app *app, const char *program, struct og_error *error);

/* Packet pool, ports and rings; tells each thread its queues. */
bool og_port_open(struct og_app *app, struct og_error *error);

/* Own link address of the first port. */
bool og_port_mac(unsigned char mac[6], struct og_error *error);

/* Received packets that found no room, of all ports since the start. */
unsigned long long og_port_missed(void);

/* Flushes what a virtual device writes (a pcap file). An AF_XDP port is left to the kernel: closing it through DPDK
 * would take the steering program off the interface, and with it what keeps the kernel from seeing our packets. */
void og_port_close(struct og_app *app);

#endif
