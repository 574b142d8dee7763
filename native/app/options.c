/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <stdio.h>
#include <string.h>

#define MIN_FABRIC_MTU (1280u + 256u) /* an IPv6 minimum MTU packet in the largest envelope */
#define MAX_IDLE_US 5000u             /* the heartbeat must grow every 10 ms */

static bool read_port(const struct og_json_at *root, struct og_options *options)
{
    static const char *const af_xdp[] = {"kind", "interface", "xsks_map", NULL};
    static const char *const vdev[] = {"kind", "args", NULL};
    static const char *const pci[] = {"kind", "address", "interface", NULL};
    struct og_json_at port;
    char kind[16];

    if (!og_json_object(root, "port", &port) || !og_json_string(&port, "kind", kind, sizeof(kind))) {
        return false;
    }
    if (strcmp(kind, "af_xdp") == 0) {
        options->port_kind = OG_PORT_AF_XDP;
        return og_json_only(&port, af_xdp) &&
               og_json_string(&port, "interface", options->interface, sizeof(options->interface)) &&
               og_json_string(&port, "xsks_map", options->xsks_map, sizeof(options->xsks_map));
    }
    if (strcmp(kind, "vdev") == 0) {
        options->port_kind = OG_PORT_VDEV;
        return og_json_only(&port, vdev) &&
               og_json_string(&port, "args", options->port_args, sizeof(options->port_args));
    }
    if (strcmp(kind, "pci") == 0) {
        options->port_kind = OG_PORT_PCI;
        return og_json_only(&port, pci) &&
               og_json_string(&port, "address", options->port_args, sizeof(options->port_args)) &&
               (!og_json_has(&port, "interface") ||
                og_json_string(&port, "interface", options->interface, sizeof(options->interface)));
    }
    return og_json_fail_member(&port, "kind", "neither af_xdp, vdev nor pci: \"%s\"", kind);
}

static bool read_eal(const struct og_json_at *root, struct og_options *options)
{
    struct og_json_at eal, item;

    if (!og_json_has(root, "eal")) {
        return true;
    }
    if (!og_json_array(root, "eal", OG_MAX_EAL_ARGS, &eal)) {
        return false;
    }
    for (; options->n_eal < json_array_size(eal.value); options->n_eal++) {
        char *text = options->eal[options->n_eal];

        if (!og_json_item(&eal, options->n_eal, &item) || !og_json_text(&item, text, sizeof(options->eal[0]))) {
            return false;
        }
    }
    return true;
}

static bool read_next_hop(const struct og_json_at *root, struct og_options *options)
{
    static const char *const kernel[] = {"mode", NULL};
    static const char *const fixed[] = {"mode", "mac", NULL};
    struct og_json_at hop;
    char mode[16];

    if (!og_json_object(root, "next_hop", &hop) || !og_json_string(&hop, "mode", mode, sizeof(mode))) {
        return false;
    }
    if (strcmp(mode, "kernel") == 0) {
        options->next_hop_mode = OG_NEXT_HOP_KERNEL;
        if (!options->interface[0]) {
            return og_json_fail_member(&hop, "mode", "kernel needs port.interface");
        }
        return og_json_only(&hop, kernel);
    }
    if (strcmp(mode, "fixed") == 0) {
        options->next_hop_mode = OG_NEXT_HOP_FIXED;
        return og_json_only(&hop, fixed) && og_json_mac(&hop, "mac", options->next_hop_mac);
    }
    return og_json_fail_member(&hop, "mode", "neither kernel nor fixed: \"%s\"", mode);
}

/* An optional number: keeps the default when it is not there. */
static bool optional_u64(const struct og_json_at *root, const char *name, uint64_t min, uint64_t max, uint64_t *value)
{
    return !og_json_has(root, name) || og_json_u64(root, name, min, max, value);
}

static bool optional_string(const struct og_json_at *root, const char *name, char *text, size_t size)
{
    return !og_json_has(root, name) || og_json_string(root, name, text, size);
}

static bool read_root(const struct og_json_at *root, bool router, struct og_options *options)
{
    static const char *const names[] = {"port",      "eal",        "locator", "threads",     "idle_us",
                                        "pins",      "fabric_mtu", "dscp",    "next_hop",    "runtime_dir",
                                        "state_dir", "telemetry",  "probe",   "max_packets", NULL};
    uint64_t threads = 1, idle_us = 0, pins = 1u << 20, fabric_mtu = 0, dscp = 0, max_packets = 0;

    options->telemetry = true;
    options->probe = true;
    snprintf(options->runtime_dir, sizeof(options->runtime_dir), "/run/og");
    snprintf(options->state_dir, sizeof(options->state_dir), "/var/lib/og");
    if (!og_json_only(root, names) || !read_port(root, options) || !read_eal(root, options) ||
        !og_json_locator(root, "locator", options->locator) || !read_next_hop(root, options) ||
        !og_json_u64(root, "fabric_mtu", MIN_FABRIC_MTU, 65535, &fabric_mtu) ||
        !optional_u64(root, "threads", 1, OG_MAX_THREADS, &threads) ||
        !optional_u64(root, "idle_us", 0, MAX_IDLE_US, &idle_us) ||
        !optional_u64(root, "pins", 1024, (uint64_t)1 << 32, &pins) || !optional_u64(root, "dscp", 0, 63, &dscp) ||
        !optional_u64(root, "max_packets", 0, INT64_MAX, &max_packets) ||
        !optional_string(root, "runtime_dir", options->runtime_dir, sizeof(options->runtime_dir)) ||
        !optional_string(root, "state_dir", options->state_dir, sizeof(options->state_dir))) {
        return false;
    }
    if (og_json_has(root, "telemetry") && !og_json_bool(root, "telemetry", &options->telemetry)) {
        return false;
    }
    if (og_json_has(root, "probe") && !og_json_bool(root, "probe", &options->probe)) {
        return false;
    }
    if (!router && og_json_has(root, "pins")) {
        return og_json_fail_member(root, "pins", "a hasher has none");
    }
    options->threads = (unsigned)threads;
    options->idle_us = (uint32_t)idle_us;
    options->pins = pins;
    options->fabric_mtu = (uint32_t)fabric_mtu;
    options->dscp = (uint8_t)dscp;
    options->max_packets = max_packets;
    return true;
}

bool og_options_read(const char *file, bool router, struct og_options *options, struct og_json_error *error)
{
    json_error_t syntax;
    json_t *document = json_load_file(file, JSON_REJECT_DUPLICATES, &syntax);
    struct og_json_error inner;
    struct og_json_at root;
    bool ok;

    memset(options, 0, sizeof(*options));
    if (!document) {
        if (syntax.line < 0) {
            snprintf(error->text, sizeof(error->text), "%s: %s", file, syntax.text);
        } else {
            snprintf(error->text, sizeof(error->text), "%s: line %d: %s", file, syntax.line, syntax.text);
        }
        return false;
    }
    ok = og_json_root(document, &inner, &root) && read_root(&root, router, options);
    if (!ok) {
        snprintf(error->text, sizeof(error->text), "%.200s: %.300s", file, inner.text);
    }
    json_decref(document);
    return ok;
}
