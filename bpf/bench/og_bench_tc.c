/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * The base line of the egress program: a tc program that does nothing.
 */
#include "og_dialect.h"

OG_LICENSE;

int og_bench_tc(struct __sk_buff *skb)
{
    return TC_ACT_OK;
}
