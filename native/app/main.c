/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_launch.h>
#include <rte_malloc.h>
#include <rte_version.h>

#include "app.h"
#include "document.h"
#include "heartbeat.h"
#include "poll_loop.h"
#include "port.h"
#include "shares.h"
#include "table_socket.h"
#include "telemetry.h"

#define GROUP "og"

enum exit_code { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* One per process; too large for the stack, and the signal handler needs it. */
static struct og_app the_app;

uint64_t og_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool og_fail(struct og_error *error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(error->text, sizeof(error->text), format, arguments);
    va_end(arguments);
    return false;
}

void og_log(const char *format, ...)
{
    char text[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    fprintf(stderr, "og-%s: %s\n", the_app.role->name, text);
}

void og_give_group(const char *path, unsigned mode)
{
    const struct group *group = getgrnam(GROUP);

    if (chmod(path, mode) || (group && chown(path, (uid_t)-1, group->gr_gid))) {
        og_log("%s: cannot set group %s and mode %o: %s", path, GROUP, mode, strerror(errno));
    }
}

static void usage(FILE *out, const struct og_role *role)
{
    fprintf(out,
            "usage: og-%s --config FILE [--tables FILE] [--check-config]\n"
            "       og-%s --version | --help\n"
            "\n"
            "  --config FILE      start-up options (JSON)\n"
            "  --tables FILE      load this table document at start instead of the last accepted one\n"
            "  --check-config     check the files given and exit\n",
            role->name, role->name);
}

struct command_line {
    const char *config, *tables;
    bool check;
};

/* Returns false with the exit code if there is nothing to run. */
static bool read_command_line(int argc, char **argv, const struct og_role *role, struct command_line *line, int *code)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"tables", required_argument, NULL, 't'},
        {"check-config", no_argument, NULL, 'k'}, {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};

    *code = EXIT_OK;
    for (int c = getopt_long(argc, argv, "", options, NULL); c != -1; c = getopt_long(argc, argv, "", options, NULL)) {
        switch (c) {
        case 'c':
            line->config = optarg;
            break;
        case 't':
            line->tables = optarg;
            break;
        case 'k':
            line->check = true;
            break;
        case 'v':
            printf("og-%s %s (wire version %d, %s)\n", role->name, OG_RELEASE, OG_WIRE_VERSION, rte_version());
            return false;
        case 'h':
            usage(stdout, role);
            return false;
        default:
            usage(stderr, role);
            *code = EXIT_USAGE;
            return false;
        }
    }
    if (line->config && optind == argc) {
        return true;
    }
    usage(stderr, role);
    *code = EXIT_USAGE;
    return false;
}

/* Checks a table document as loading it would, without running anything. */
static bool check_tables(const struct og_app *app, const char *file, struct og_error *error)
{
    struct og_document_self self = {
        .fabric_mtu = app->options.fabric_mtu, .dscp = app->options.dscp, .router = app->role->router};
    struct og_json_error reason;
    struct og_tables *tables;
    json_error_t syntax;
    json_t *document = json_load_file(file, JSON_REJECT_DUPLICATES, &syntax);

    if (!document) {
        return og_fail(error, "%s: line %d: %s", file, syntax.line, syntax.text);
    }
    memcpy(self.locator, app->options.locator, sizeof(self.locator));
    tables = og_document_build(document, &self, &reason);
    json_decref(document);
    if (!tables) {
        return og_fail(error, "%.150s: %.350s", file, reason.text);
    }
    og_tables_free(tables);
    return true;
}

static void on_signal(int signal_number)
{
    (void)signal_number;
    atomic_store(&the_app.stop, true);
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static bool make_directory(const char *path, struct og_error *error)
{
    return mkdir(path, 0755) == 0 || errno == EEXIST || og_fail(error, "%s: %s", path, strerror(errno));
}

static bool open_planes(struct og_app *app, struct og_error *error)
{
    for (unsigned i = 0; i < app->options.threads; i++) {
        app->threads[i].index = i;
        app->threads[i].plane = app->role->open(app, i, og_now_ns(), error);
        if (!app->threads[i].plane) {
            return false;
        }
        app->role->local(app->threads[i].plane)->self.role = app->role->probe_role;
        app->role->local(app->threads[i].plane)->self.incarnation = app->incarnation;
    }
    return true;
}

static bool start_rcu(struct og_app *app, struct og_error *error)
{
    app->qsbr = rte_zmalloc("og-qsbr", rte_rcu_qsbr_get_memsize(app->options.threads), OG_CACHE_LINE);
    if (!app->qsbr || rte_rcu_qsbr_init(app->qsbr, app->options.threads)) {
        return og_fail(error, "out of EAL memory");
    }
    return true;
}

static bool start_next_hop(struct og_app *app, struct og_error *error)
{
    unsigned char mac[6];

    if (app->options.next_hop_mode == OG_NEXT_HOP_KERNEL) {
        return og_next_hop_follow(&app->next_hop, app->options.interface, error);
    }
    if (!og_port_mac(mac, error)) {
        return false;
    }
    og_next_hop_fix(&app->next_hop, app->options.next_hop_mac, mac);
    return true;
}

static bool start_heartbeat(struct og_app *app, struct og_error *error)
{
    char path[300];

    snprintf(path, sizeof(path), "%s/%s.heartbeat", app->options.runtime_dir, app->role->name);
    app->heartbeat = og_heartbeat_open(path, app->incarnation, error);
    return app->heartbeat != NULL;
}

static bool load_tables(struct og_app *app, const char *file, struct og_error *error)
{
    og_shares_load(app);
    if (file) {
        return og_table_socket_load_file(app, file, error);
    }
    og_table_socket_load_persisted(app);
    return true;
}

/* Runs the poll threads until they are told to stop. */
static bool run(struct og_app *app, struct og_error *error)
{
    if (rte_eal_mp_remote_launch(og_poll, app, CALL_MAIN)) {
        return og_fail(error, "cannot start the poll threads");
    }
    rte_eal_mp_wait_lcore();
    return true;
}

static bool start_and_run(struct og_app *app, const char *program, const char *tables, struct og_error *error)
{
    bool ok;

    catch_signals();
    ok = make_directory(app->options.runtime_dir, error) && make_directory(app->options.state_dir, error) &&
         og_eal_start(app, program, error) && start_rcu(app, error) && open_planes(app, error) &&
         og_port_open(app, error) && load_tables(app, tables, error) && start_next_hop(app, error) &&
         start_heartbeat(app, error) && og_telemetry_start(app, error) && og_table_socket_start(app, error);
    if (ok) {
        og_log("running: release %s, %u threads", OG_RELEASE, app->options.threads);
        ok = run(app, error);
    }
    atomic_store(&app->stop, true);
    og_table_socket_stop();
    og_next_hop_stop(&app->next_hop);
    return ok;
}

int og_main(int argc, char **argv, const struct og_role *role)
{
    struct og_app *app = &the_app;
    struct command_line line = {0};
    struct og_json_error reason;
    struct og_error error;
    int code;
    bool ok;

    app->role = role;
    if (!read_command_line(argc, argv, role, &line, &code)) {
        return code;
    }
    if (!og_options_read(line.config, role->router, &app->options, &reason)) {
        og_log("%s", reason.text);
        return EXIT_FAILED;
    }
    if (line.check) {
        if (!line.tables || check_tables(app, line.tables, &error)) {
            return EXIT_OK;
        }
        og_log("%s", error.text);
        return EXIT_FAILED;
    }
    pthread_mutex_init(&app->tables_lock, NULL);
    rte_spinlock_init(&app->tx_lock);
    og_prober_init(&app->prober, role->probe_role, !app->options.probe, &app->health);
    app->start_ns = og_now_ns();
    if (getrandom(&app->incarnation, sizeof(app->incarnation), 0) != sizeof(app->incarnation)) {
        og_log("no random numbers: %s", strerror(errno));
        return EXIT_FAILED;
    }
    ok = start_and_run(app, argv[0], line.tables, &error);
    if (!ok) {
        og_log("%s", error.text);
    } else {
        og_log("stopped");
    }
    og_port_close(app);
    /* No rte_eal_cleanup: it would close an AF_XDP port, see og_port_close. The kernel takes back all the rest. */
    return ok ? EXIT_OK : EXIT_FAILED;
}
