/* SPDX-License-Identifier: Apache-2.0 */
#include "table_socket.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_thread.h>

#include "app.h"
#include "document.h"
#include "shares.h"
#include "state_file.h"

#define MAX_CLIENTS 8
#define MAX_LINE (16u << 20) /* 1024 agents with 64 services each need about 3 MB */
#define SEND_TIMEOUT_S 2     /* a client that does not read must not stop the others */

struct client {
    int fd; /* -1 = free */
    char *line;
    size_t used, size;
};

struct table_socket {
    rte_thread_t thread;
    bool running;
    int listener;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    struct client clients[MAX_CLIENTS];
};

static struct table_socket table_socket = {.listener = -1};

/* ---- documents ---------------------------------------------------------------------------------------------------- */

/* Puts new tables in the place of the old ones and frees these when no poll thread can see them any more. */
static void swap(struct og_app *app, struct og_tables *tables)
{
    struct og_tables *old;

    pthread_mutex_lock(&app->tables_lock);
    old = atomic_exchange_explicit(&app->tables, tables, memory_order_acq_rel);
    atomic_fetch_add_explicit(&app->version, 1, memory_order_release);
    rte_rcu_qsbr_synchronize(app->qsbr, RTE_QSBR_THRID_INVALID);
    og_tables_free(old);
    pthread_mutex_unlock(&app->tables_lock);
}

static uint64_t running_generation(struct og_app *app)
{
    const struct og_tables *tables = atomic_load(&app->tables);

    return tables ? og_tables_spec(tables)->generation : 0;
}

/* Everything that can fail is before the swap. Called by one thread at a time. */
static bool load(struct og_app *app, json_t *document, bool force, bool keep, struct og_error *error)
{
    struct og_document_self self = {
        .fabric_mtu = app->options.fabric_mtu, .dscp = app->options.dscp, .router = app->role->router};
    struct og_json_error reason;
    struct og_tables *tables;
    uint64_t generation;

    memcpy(self.locator, app->options.locator, sizeof(self.locator));
    tables = og_document_build(document, &self, &reason);
    if (!tables) {
        return og_fail(error, "%s", reason.text);
    }
    generation = og_tables_spec(tables)->generation;
    if (!force && generation <= running_generation(app)) {
        og_fail(error, "generation: %llu is not above the running one, %llu", (unsigned long long)generation,
                (unsigned long long)running_generation(app));
        og_tables_free(tables);
        return false;
    }
    if (keep && !og_state_write(app, "tables", document, error)) {
        og_tables_free(tables);
        return false;
    }
    swap(app, tables);
    og_shares_apply(app);
    og_log("tables: generation %llu", (unsigned long long)generation);
    return true;
}

bool og_table_socket_load_file(struct og_app *app, const char *file, struct og_error *error)
{
    struct og_error reason;
    json_error_t syntax;
    json_t *document = json_load_file(file, JSON_REJECT_DUPLICATES, &syntax);
    bool ok;

    if (!document) {
        return og_fail(error, "%s: line %d: %s", file, syntax.line, syntax.text);
    }
    ok = load(app, document, true, false, &reason);
    if (!ok) {
        og_fail(error, "%.150s: %.350s", file, reason.text);
    }
    json_decref(document);
    return ok;
}

void og_table_socket_load_persisted(struct og_app *app)
{
    struct og_error error;
    char path[300];

    og_state_path(app, "tables", path, sizeof(path));
    if (access(path, F_OK) == 0 && !og_table_socket_load_file(app, path, &error)) {
        og_log("starting without tables: %s", error.text);
    }
}

/* ---- requests ----------------------------------------------------------------------------------------------------- */

static json_t *refusal(const char *text)
{
    return json_pack("{s:b, s:s}", "ok", 0, "error", text);
}

static json_t *answer_load(struct og_app *app, json_t *request)
{
    json_t *document = json_object_get(request, "tables");
    json_t *force = json_object_get(request, "force");
    struct og_error error;

    if (!document) {
        return refusal("tables: is missing");
    }
    if (force && !json_is_boolean(force)) {
        return refusal("force: neither true nor false");
    }
    if (!load(app, document, json_is_true(force), true, &error)) {
        return refusal(error.text);
    }
    return json_pack("{s:b, s:I}", "ok", 1, "generation", (json_int_t)running_generation(app));
}

static json_t *answer_shares(struct og_app *app, json_t *request)
{
    json_t *shares = json_object_get(request, "shares");
    struct og_error error;

    if (!shares) {
        return refusal("shares: is missing");
    }
    if (!og_shares_set(app, request, &error)) {
        return refusal(error.text);
    }
    return json_pack("{s:b}", "ok", 1);
}

static void add_suspects(const struct og_prober *prober, json_t *suspects, json_t *dead)
{
    for (unsigned kind = 0; kind < OG_MEMBER_KINDS; kind++) {
        for (unsigned i = 0; i < prober->n_ids[kind]; i++) {
            const struct og_target *target = &prober->targets[kind][prober->ids[kind][i]];

            if (target->suspect && !target->beside) {
                json_array_append_new(suspects, json_string(target->name));
            }
            if (target->dead) {
                json_array_append_new(dead, json_string(target->name));
            }
        }
    }
}

static json_t *answer_status(struct og_app *app)
{
    const struct og_tables *tables = atomic_load(&app->tables);
    char digest[2 * sizeof(((struct og_tables_spec *)0)->digest) + 1] = "";
    char incarnation[17];
    json_t *suspects = json_array(), *dead = json_array();

    for (size_t i = 0; tables && i < sizeof(og_tables_spec(tables)->digest); i++) {
        snprintf(digest + 2 * i, 3, "%02x", og_tables_spec(tables)->digest[i]);
    }
    snprintf(incarnation, sizeof(incarnation), "%016llx", (unsigned long long)app->incarnation);
    add_suspects(&app->prober, suspects, dead);
    return json_pack("{s:b, s:s, s:I, s:s, s:s, s:b, s:o, s:o, s:o}", "ok", 1, "role", app->role->name, "generation",
                     (json_int_t)running_generation(app), "digest", digest, "incarnation", incarnation, "serving",
                     (int)app->serving, "suspect", suspects, "dead", dead, "shares", og_shares_json(app));
}

static json_t *answer(struct og_app *app, const char *line, size_t length)
{
    json_error_t syntax;
    json_t *request = json_loadb(line, length, JSON_REJECT_DUPLICATES, &syntax);
    const char *op = json_string_value(json_object_get(request, "op"));
    json_t *reply;

    if (!request) {
        char text[256];

        snprintf(text, sizeof(text), "not a JSON document: column %d: %s", syntax.column, syntax.text);
        return refusal(text);
    }
    if (op && strcmp(op, "load") == 0) {
        reply = answer_load(app, request);
    } else if (op && strcmp(op, "status") == 0) {
        reply = answer_status(app);
    } else if (op && strcmp(op, "shares") == 0) {
        reply = answer_shares(app, request);
    } else {
        reply = refusal("op: neither load, status nor shares");
    }
    json_decref(request);
    return reply;
}

/* ---- socket ------------------------------------------------------------------------------------------------------- */

static void client_close(struct client *client)
{
    close(client->fd);
    free(client->line);
    *client = (struct client){.fd = -1};
}

static bool send_reply(struct client *client, json_t *reply)
{
    char *text = reply ? json_dumps(reply, JSON_COMPACT) : NULL;
    bool ok = text != NULL;

    for (size_t sent = 0, n = ok ? strlen(text) + 1 : 0; ok && sent < n;) {
        ssize_t rc;

        text[n - 1] = '\n';
        rc = send(client->fd, text + sent, n - sent, MSG_NOSIGNAL);
        ok = rc > 0;
        sent += ok ? (size_t)rc : 0;
    }
    free(text);
    json_decref(reply);
    return ok;
}

/* Answers every whole line that has come. */
static bool serve_lines(struct og_app *app, struct client *client)
{
    char *end;

    while ((end = memchr(client->line, '\n', client->used))) {
        const size_t length = (size_t)(end - client->line);

        if (!send_reply(client, answer(app, client->line, length))) {
            return false;
        }
        client->used -= length + 1;
        memmove(client->line, end + 1, client->used);
    }
    return true;
}

static bool client_read(struct og_app *app, struct client *client)
{
    ssize_t n;

    if (client->used == client->size) {
        const size_t size = client->size ? 2 * client->size : 65536;
        char *line = size <= MAX_LINE ? realloc(client->line, size) : NULL;

        if (!line) {
            (void)send_reply(client, refusal("line is too long"));
            return false;
        }
        client->line = line;
        client->size = size;
    }
    n = recv(client->fd, client->line + client->used, client->size - client->used, 0);
    if (n <= 0) {
        return n < 0 && errno == EINTR;
    }
    client->used += (size_t)n;
    return serve_lines(app, client);
}

static void client_accept(void)
{
    const struct timeval timeout = {.tv_sec = SEND_TIMEOUT_S};
    int fd = accept4(table_socket.listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0) {
        return;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    for (size_t i = 0; i < MAX_CLIENTS; i++) {
        if (table_socket.clients[i].fd < 0) {
            table_socket.clients[i] = (struct client){.fd = fd};
            return;
        }
    }
    close(fd); /* too many: this one sees the end of the stream */
}

static uint32_t serve(void *argument)
{
    struct og_app *app = argument;

    while (!atomic_load(&app->stop)) {
        struct pollfd waits[MAX_CLIENTS + 1];

        for (size_t i = 0; i < MAX_CLIENTS; i++) {
            waits[i] = (struct pollfd){.fd = table_socket.clients[i].fd, .events = POLLIN};
        }
        waits[MAX_CLIENTS] = (struct pollfd){.fd = table_socket.listener, .events = POLLIN};
        if (poll(waits, MAX_CLIENTS + 1, 100) <= 0) {
            continue;
        }
        for (size_t i = 0; i < MAX_CLIENTS; i++) {
            if (waits[i].revents && !client_read(app, &table_socket.clients[i])) {
                client_close(&table_socket.clients[i]);
            }
        }
        if (waits[MAX_CLIENTS].revents) {
            client_accept();
        }
    }
    return 0;
}

static bool listen_on(struct og_app *app, struct og_error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int n =
        snprintf(table_socket.path, sizeof(table_socket.path), "%s/%s.sock", app->options.runtime_dir, app->role->name);

    if (n < 0 || (size_t)n >= sizeof(table_socket.path)) {
        return og_fail(error, "runtime_dir: too long for a socket: %s", app->options.runtime_dir);
    }
    memcpy(address.sun_path, table_socket.path, (size_t)n + 1);
    table_socket.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)unlink(table_socket.path); /* left behind by a process that was killed */
    if (table_socket.listener < 0 || bind(table_socket.listener, (struct sockaddr *)&address, sizeof(address)) ||
        listen(table_socket.listener, MAX_CLIENTS)) {
        return og_fail(error, "%s: %s", table_socket.path, strerror(errno));
    }
    og_give_group(table_socket.path, 0660);
    return true;
}

bool og_table_socket_start(struct og_app *app, struct og_error *error)
{
    int rc;

    for (size_t i = 0; i < MAX_CLIENTS; i++) {
        table_socket.clients[i].fd = -1;
    }
    if (!listen_on(app, error)) {
        return false;
    }
    rc = rte_thread_create_control(&table_socket.thread, "og-tables", serve, app);
    if (rc) {
        return og_fail(error, "table socket: cannot start a thread: %s", strerror(-rc));
    }
    table_socket.running = true;
    return true;
}

void og_table_socket_stop(void)
{
    if (!table_socket.running) {
        return;
    }
    (void)rte_thread_join(table_socket.thread, NULL);
    table_socket.running = false;
    for (size_t i = 0; i < MAX_CLIENTS; i++) {
        if (table_socket.clients[i].fd >= 0) {
            client_close(&table_socket.clients[i]);
        }
    }
    close(table_socket.listener);
    (void)unlink(table_socket.path);
}
