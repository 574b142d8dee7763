/* SPDX-License-Identifier: Apache-2.0
 *
 * og-port: puts the port steering program on an interface, brings it up to date, takes it off, shows it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/libbpf.h>

#include "steering.h"

#define DEFAULT_PIN_DIR "/sys/fs/bpf/og/port"

enum exit_code { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static const char usage[] =
    "usage: og-port attach --interface IF --locator PREFIX/64 [--vip ADDRESS]... [--mode native|generic]\n"
    "                      [--pin-dir DIR] [--object FILE]\n"
    "       og-port detach --interface IF [--pin-dir DIR]\n"
    "       og-port status --interface IF [--pin-dir DIR] [--json]\n"
    "       og-port --version | --help\n"
    "\n"
    "Steers IPv6 packets for the locator and the VIPs into AF_XDP sockets; all others, and these too while no data\n"
    "plane is bound, stay with the kernel. attach is idempotent: it changes only what differs.\n"
    "\n"
    "  --interface IF     network interface\n"
    "  --locator P        own locator, e.g. 5f00:1:11::/64 (may be given more than once)\n"
    "  --vip A            a VIP (may be given more than once)\n"
    "  --mode M           native (in the driver, default) or generic\n"
    "  --pin-dir DIR      where the maps are pinned (default " DEFAULT_PIN_DIR ")\n"
    "  --object FILE      compiled program (default ../bpf/og_port.bpf.o beside this program's directory)\n";

struct arguments {
    const char *interface;
    const char *pin_dir;
    const char *object;
    enum og_steering_mode mode;
    bool json;
    struct og_port_destination destinations[OG_PORT_MAX_DESTINATIONS];
    size_t n_destinations;
    bool has_locator;
};

__attribute__((format(printf, 1, 2))) static int complain(const char *format, ...)
{
    va_list arguments;

    fputs("og-port: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return EXIT_USAGE;
}

static const char *default_object(void)
{
    static char path[1024 + sizeof("/../bpf/og_port.bpf.o")];
    char self[1024];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (n < 0) {
        return "og_port.bpf.o";
    }
    self[n] = '\0';
    snprintf(path, sizeof(path), "%s/../bpf/og_port.bpf.o", dirname(self));
    return path;
}

static bool add_destination(struct arguments *arguments, const char *text, uint32_t prefix_length)
{
    struct og_port_destination *destination = &arguments->destinations[arguments->n_destinations];
    char address[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t length = slash ? (size_t)(slash - text) : strlen(text);
    static const uint8_t zero[8];

    if (arguments->n_destinations == OG_PORT_MAX_DESTINATIONS || length >= sizeof(address)) {
        return false;
    }
    if (prefix_length == 64 ? !slash || strcmp(slash, "/64") != 0 : slash != NULL) {
        return false;
    }
    memcpy(address, text, length);
    address[length] = '\0';
    memset(destination, 0, sizeof(*destination));
    destination->prefix_length = prefix_length;
    if (inet_pton(AF_INET6, address, destination->address) != 1) {
        return false;
    }
    if (prefix_length == 64 && memcmp(destination->address + 8, zero, 8) != 0) {
        return false;
    }
    arguments->n_destinations++;
    return true;
}

static int parse(int argc, char **argv, struct arguments *arguments)
{
    static const struct option options[] = {{"interface", required_argument, NULL, 'i'},
                                            {"locator", required_argument, NULL, 'l'},
                                            {"vip", required_argument, NULL, 'v'},
                                            {"mode", required_argument, NULL, 'm'},
                                            {"pin-dir", required_argument, NULL, 'p'},
                                            {"object", required_argument, NULL, 'o'},
                                            {"json", no_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};

    arguments->pin_dir = DEFAULT_PIN_DIR;
    arguments->mode = OG_STEERING_NATIVE;
    for (int c = getopt_long(argc, argv, "", options, NULL); c != -1; c = getopt_long(argc, argv, "", options, NULL)) {
        switch (c) {
        case 'i':
            arguments->interface = optarg;
            break;
        case 'l':
            if (!add_destination(arguments, optarg, 64)) {
                return complain("--locator: not an IPv6 prefix of length 64: \"%s\"", optarg);
            }
            arguments->has_locator = true;
            break;
        case 'v':
            if (!add_destination(arguments, optarg, 128)) {
                return complain("--vip: not an IPv6 address: \"%s\"", optarg);
            }
            break;
        case 'm':
            if (strcmp(optarg, "native") != 0 && strcmp(optarg, "generic") != 0) {
                return complain("--mode: neither native nor generic: \"%s\"", optarg);
            }
            arguments->mode = optarg[0] == 'n' ? OG_STEERING_NATIVE : OG_STEERING_GENERIC;
            break;
        case 'p':
            arguments->pin_dir = optarg;
            break;
        case 'o':
            arguments->object = optarg;
            break;
        case 'j':
            arguments->json = true;
            break;
        default:
            fputs(usage, stderr);
            return EXIT_USAGE;
        }
    }
    if (optind < argc) {
        return complain("unexpected argument: \"%s\"", argv[optind]);
    }
    if (!arguments->interface) {
        return complain("--interface is missing");
    }
    return EXIT_OK;
}

static int report(bool ok, const struct og_steering_error *error)
{
    if (ok) {
        return EXIT_OK;
    }
    fprintf(stderr, "og-port: %s\n", error->text);
    return EXIT_FAILED;
}

static int attach(struct arguments *arguments)
{
    struct og_steering_error error;
    bool changed;

    if (!arguments->has_locator) {
        return complain("attach: --locator is missing");
    }
    if (!arguments->object) {
        arguments->object = default_object();
    }
    if (!og_steering_attach(arguments->interface, arguments->mode, arguments->object, arguments->pin_dir,
                            arguments->destinations, arguments->n_destinations, &changed, &error)) {
        return report(false, &error);
    }
    printf("%s: %s mode, %zu destinations, %s\n", arguments->interface, og_steering_mode_name(arguments->mode),
           arguments->n_destinations, changed ? "changed" : "unchanged");
    return EXIT_OK;
}

static int detach(const struct arguments *arguments)
{
    struct og_steering_error error;
    bool changed;

    if (!og_steering_detach(arguments->interface, arguments->pin_dir, &changed, &error)) {
        return report(false, &error);
    }
    printf("%s: %s\n", arguments->interface, changed ? "detached" : "unchanged");
    return EXIT_OK;
}

/* Interface names and addresses need no JSON escaping but for a quote or a backslash, which a name may contain. */
static void print_json_string(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') {
            putchar('\\');
        }
        putchar(*text);
    }
    putchar('"');
}

static void print_destination(const struct og_port_destination *destination)
{
    char address[INET6_ADDRSTRLEN];

    inet_ntop(AF_INET6, destination->address, address, sizeof(address));
    printf("%s/%u", address, destination->prefix_length);
}

static void print_status_json(const struct arguments *arguments, const struct og_steering_state *state)
{
    printf("{\"interface\": ");
    print_json_string(arguments->interface);
    printf(", \"attached\": %s, \"mode\": \"%s\", \"program_id\": %u, \"program\": ", state->ours ? "true" : "false",
           og_steering_mode_name(state->mode), state->program_id);
    print_json_string(state->program_name);
    printf(", \"destinations\": [");
    for (size_t i = 0; i < state->n_destinations; i++) {
        printf("%s\"", i ? ", " : "");
        print_destination(&state->destinations[i]);
        putchar('"');
    }
    printf("], \"counters\": {\"passed\": %llu, \"steered\": %llu, \"unbound\": %llu}}\n",
           (unsigned long long)state->counters[OG_PORT_PASSED], (unsigned long long)state->counters[OG_PORT_STEERED],
           (unsigned long long)state->counters[OG_PORT_UNBOUND]);
}

static void print_status(const struct arguments *arguments, const struct og_steering_state *state)
{
    if (state->mode == OG_STEERING_NONE) {
        printf("%s: no XDP program\n", arguments->interface);
    } else {
        printf("%s: %s program %u (%s), %s\n", arguments->interface, og_steering_mode_name(state->mode),
               state->program_id, state->program_name, state->ours ? "ours" : "not ours");
    }
    for (size_t i = 0; i < state->n_destinations; i++) {
        printf("  steers ");
        print_destination(&state->destinations[i]);
        putchar('\n');
    }
    printf("  packets: %llu steered, %llu passed, %llu without a data plane\n",
           (unsigned long long)state->counters[OG_PORT_STEERED], (unsigned long long)state->counters[OG_PORT_PASSED],
           (unsigned long long)state->counters[OG_PORT_UNBOUND]);
}

static int status(const struct arguments *arguments)
{
    struct og_steering_error error;
    struct og_steering_state state;
    bool ok = og_steering_read(arguments->interface, arguments->pin_dir, &state, &error);

    if (ok && arguments->json) {
        print_status_json(arguments, &state);
    } else if (ok) {
        print_status(arguments, &state);
    }
    free(state.destinations);
    return report(ok, &error);
}

static int quiet(enum libbpf_print_level level, const char *format, va_list arguments)
{
    return level == LIBBPF_WARN && getenv("OG_PORT_VERBOSE") ? vfprintf(stderr, format, arguments) : 0;
}

int main(int argc, char **argv)
{
    static struct arguments arguments; /* too large for a modest stack */
    int code;

    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("og-port " OG_RELEASE);
        return EXIT_OK;
    }
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return EXIT_OK;
    }
    if (argc < 2) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    libbpf_set_print(quiet);
    code = parse(argc - 1, argv + 1, &arguments);
    if (code != EXIT_OK) {
        return code;
    }
    if (strcmp(argv[1], "attach") == 0) {
        return attach(&arguments);
    }
    if (strcmp(argv[1], "detach") == 0) {
        return detach(&arguments);
    }
    if (strcmp(argv[1], "status") == 0) {
        return status(&arguments);
    }
    return complain("neither attach, detach nor status: \"%s\"", argv[1]);
}
