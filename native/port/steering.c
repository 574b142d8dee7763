/* SPDX-License-Identifier: Apache-2.0 */
#include "steering.h"

#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#define PROGRAM "og_port"
#define BPF_FS 0xcafe4a11 /* linux/magic.h BPF_FS_MAGIC */
#define MOUNT_HINT " (mount -t bpf bpf /sys/fs/bpf)"

static const char *const map_names[] = {"xsks_map", "destinations", "counters"};
#define N_MAPS (sizeof(map_names) / sizeof(map_names[0]))

/* What is attached to an interface now. */
struct attached {
    enum og_steering_mode mode;
    uint32_t id;
    int fd; /* of the program, -1 if none */
    struct bpf_prog_info info;
    uint32_t map_ids[N_MAPS + 1];
};

__attribute__((format(printf, 2, 3))) static bool fail(struct og_steering_error *error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(error->text, sizeof(error->text), format, arguments);
    va_end(arguments);
    return false;
}

const char *og_steering_mode_name(enum og_steering_mode mode)
{
    static const char *const names[] = {"none", "native", "generic"};

    return names[mode];
}

static uint32_t mode_flag(enum og_steering_mode mode)
{
    return mode == OG_STEERING_NATIVE ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
}

static bool interface_index(const char *interface, int *index, struct og_steering_error *error)
{
    *index = (int)if_nametoindex(interface);
    return *index != 0 || fail(error, "%s: no such interface", interface);
}

static void attached_close(struct attached *now)
{
    if (now->fd >= 0) {
        close(now->fd);
    }
    now->fd = -1;
}

static bool attached_read(const char *interface, int index, struct attached *now, struct og_steering_error *error)
{
    LIBBPF_OPTS(bpf_xdp_query_opts, query);
    uint32_t size = sizeof(now->info);

    memset(now, 0, sizeof(*now));
    now->fd = -1;
    if (bpf_xdp_query(index, 0, &query)) {
        return fail(error, "%s: cannot ask for its XDP program: %s", interface, strerror(errno));
    }
    if (query.drv_prog_id || query.hw_prog_id) {
        now->mode = OG_STEERING_NATIVE;
        now->id = query.drv_prog_id ? query.drv_prog_id : query.hw_prog_id;
    } else if (query.skb_prog_id) {
        now->mode = OG_STEERING_GENERIC;
        now->id = query.skb_prog_id;
    } else {
        return true;
    }
    now->fd = bpf_prog_get_fd_by_id(now->id);
    if (now->fd < 0) {
        return fail(error, "%s: cannot open XDP program %u: %s", interface, now->id, strerror(errno));
    }
    now->info.map_ids = (uintptr_t)now->map_ids;
    now->info.nr_map_ids = sizeof(now->map_ids) / sizeof(now->map_ids[0]);
    if (bpf_obj_get_info_by_fd(now->fd, &now->info, &size)) {
        attached_close(now);
        return fail(error, "%s: cannot read XDP program %u: %s", interface, now->id, strerror(errno));
    }
    return true;
}

static uint32_t map_id(int fd)
{
    struct bpf_map_info info = {0};
    uint32_t size = sizeof(info);

    return bpf_obj_get_info_by_fd(fd, &info, &size) ? 0 : info.id;
}

static bool is_steering_program(const struct attached *now)
{
    return now->fd >= 0 && strncmp(now->info.name, PROGRAM, sizeof(now->info.name)) == 0;
}

static bool uses_map(const struct attached *now, uint32_t id)
{
    uint32_t known = now->info.nr_map_ids < N_MAPS + 1 ? now->info.nr_map_ids : N_MAPS + 1;

    for (uint32_t i = 0; i < known; i++) {
        if (now->map_ids[i] == id) {
            return true;
        }
    }
    return false;
}

static int open_pinned(const char *pin_dir, const char *name)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/%s", pin_dir, name);
    return bpf_obj_get(path);
}

/* mkdir -p inside a bpffs. */
static bool make_pin_dir(const char *pin_dir, struct og_steering_error *error)
{
    char path[512];
    struct statfs fs;

    if (pin_dir[0] != '/' || strlen(pin_dir) >= sizeof(path)) {
        return fail(error, "pin directory %s: must be an absolute path of less than %zu bytes", pin_dir, sizeof(path));
    }
    snprintf(path, sizeof(path), "%s", pin_dir);
    for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash) {
            *slash = '\0';
        }
        /* Sysfs refuses directories: looking first gives the clear error below, not that of mkdir. */
        if (access(path, F_OK) && mkdir(path, 0700) && errno != EEXIST && errno != EPERM) {
            return fail(error, "pin directory %s: %s" MOUNT_HINT, path, strerror(errno));
        }
        if (!slash) {
            break;
        }
        *slash = '/';
    }
    if (statfs(pin_dir, &fs) || (uint32_t)fs.f_type != BPF_FS) {
        return fail(error, "pin directory %s is not on a BPF file system" MOUNT_HINT, pin_dir);
    }
    return true;
}

static bool sync_destinations(int fd, const struct og_port_destination *wanted, size_t n_wanted, bool *changed,
                              struct og_steering_error *error)
{
    struct og_port_destination key, next;
    struct og_port_destination stale[OG_PORT_MAX_DESTINATIONS];
    size_t n_stale = 0;
    const uint8_t one = 1;
    uint8_t value;

    for (size_t i = 0; i < n_wanted; i++) {
        if (bpf_map_lookup_elem(fd, &wanted[i], &value) == 0) {
            continue;
        }
        if (bpf_map_update_elem(fd, &wanted[i], &one, BPF_ANY)) {
            return fail(error, "map destinations: cannot add entry %zu: %s", i, strerror(errno));
        }
        *changed = true;
    }
    for (int rc = bpf_map_get_next_key(fd, NULL, &next); rc == 0; rc = bpf_map_get_next_key(fd, &key, &next)) {
        bool keep = false;

        for (size_t i = 0; i < n_wanted && !keep; i++) {
            keep = memcmp(&wanted[i], &next, sizeof(next)) == 0;
        }
        if (!keep && n_stale < OG_PORT_MAX_DESTINATIONS) {
            stale[n_stale++] = next;
        }
        key = next;
    }
    for (size_t i = 0; i < n_stale; i++) {
        if (bpf_map_delete_elem(fd, &stale[i]) && errno != ENOENT) {
            return fail(error, "map destinations: cannot delete an entry: %s", strerror(errno));
        }
        *changed = true;
    }
    return true;
}

/* True if the running program may stay: same code, same mode, and the pinned maps are its maps. */
static bool up_to_date(const struct attached *now, const struct bpf_object *object, enum og_steering_mode mode,
                       int program_fd)
{
    struct bpf_prog_info info = {0};
    uint32_t size = sizeof(info);

    if (!is_steering_program(now) || now->mode != mode || bpf_obj_get_info_by_fd(program_fd, &info, &size)) {
        return false;
    }
    if (memcmp(info.tag, now->info.tag, sizeof(info.tag)) != 0) {
        return false;
    }
    for (size_t i = 0; i < N_MAPS; i++) {
        if (!uses_map(now, map_id(bpf_object__find_map_fd_by_name(object, map_names[i])))) {
            return false;
        }
    }
    return true;
}

static bool install(const char *interface, int index, const struct attached *now, enum og_steering_mode mode,
                    int program_fd, struct og_steering_error *error)
{
    LIBBPF_OPTS(bpf_xdp_attach_opts, options);
    uint32_t flags = mode_flag(mode) | XDP_FLAGS_UPDATE_IF_NOEXIST;

    if (now->fd >= 0 && now->mode != mode) {
        /* The kernel keeps one mode per interface: the old program must go with its own flag first. */
        if (bpf_xdp_detach(index, mode_flag(now->mode), NULL)) {
            return fail(error, "%s: cannot remove the %s program: %s", interface, og_steering_mode_name(now->mode),
                        strerror(errno));
        }
    } else if (now->fd >= 0) {
        options.old_prog_fd = now->fd;
        flags = mode_flag(mode) | XDP_FLAGS_REPLACE;
    }
    if (bpf_xdp_attach(index, program_fd, flags, &options)) {
        return fail(error, "%s: cannot attach in %s mode: %s%s", interface, og_steering_mode_name(mode),
                    strerror(errno),
                    mode == OG_STEERING_NATIVE ? " (driver without XDP, or MTU too large for it? --mode generic)" : "");
    }
    return true;
}

bool og_steering_attach(const char *interface, enum og_steering_mode mode, const char *object_path, const char *pin_dir,
                        const struct og_port_destination *wanted, size_t n_wanted, bool *changed,
                        struct og_steering_error *error)
{
    LIBBPF_OPTS(bpf_object_open_opts, options, .pin_root_path = pin_dir);
    struct bpf_object *object = NULL;
    const struct bpf_program *program;
    struct attached now = {.fd = -1};
    bool ok = false;
    int index, rc;

    *changed = false;
    if (!interface_index(interface, &index, error) || !make_pin_dir(pin_dir, error) ||
        !attached_read(interface, index, &now, error)) {
        return false;
    }
    if (now.fd >= 0 && !is_steering_program(&now)) {
        fail(error, "%s: the XDP program \"%.16s\" (id %u, %s mode) is attached and is not ours", interface,
             now.info.name, now.id, og_steering_mode_name(now.mode));
        goto out;
    }
    object = bpf_object__open_file(object_path, &options);
    if (!object) {
        fail(error, "%s: %s", object_path, strerror(errno));
        goto out;
    }
    program = bpf_object__find_program_by_name(object, PROGRAM);
    if (!program) {
        fail(error, "%s: no program named " PROGRAM, object_path);
        goto out;
    }
    rc = bpf_object__load(object);
    if (rc) {
        fail(error, "%s: cannot load%s: %s", object_path,
             rc == -EINVAL ? " (maps of another version in the pin directory? og-port detach)" : "", strerror(-rc));
        goto out;
    }
    if (!sync_destinations(bpf_object__find_map_fd_by_name(object, "destinations"), wanted, n_wanted, changed, error)) {
        goto out;
    }
    if (!up_to_date(&now, object, mode, bpf_program__fd(program))) {
        if (!install(interface, index, &now, mode, bpf_program__fd(program), error)) {
            goto out;
        }
        *changed = true;
    }
    ok = true;
out:
    bpf_object__close(object);
    attached_close(&now);
    return ok;
}

bool og_steering_detach(const char *interface, const char *pin_dir, bool *changed, struct og_steering_error *error)
{
    struct attached now;
    int index;

    *changed = false;
    if (!interface_index(interface, &index, error) || !attached_read(interface, index, &now, error)) {
        return false;
    }
    if (is_steering_program(&now)) {
        if (bpf_xdp_detach(index, mode_flag(now.mode), NULL)) {
            attached_close(&now);
            return fail(error, "%s: cannot remove the program: %s", interface, strerror(errno));
        }
        *changed = true;
    }
    attached_close(&now);
    for (size_t i = 0; i < N_MAPS; i++) {
        char path[512];

        snprintf(path, sizeof(path), "%s/%s", pin_dir, map_names[i]);
        if (unlink(path) == 0) {
            *changed = true;
        } else if (errno != ENOENT && errno != ENOTDIR) {
            return fail(error, "%s: %s", path, strerror(errno));
        }
    }
    return true;
}

static void read_counters(int fd, uint64_t totals[OG_PORT_COUNTERS])
{
    int cpus = libbpf_num_possible_cpus();
    uint64_t *values = cpus > 0 ? calloc((size_t)cpus, sizeof(*values)) : NULL;

    for (uint32_t which = 0; values && which < OG_PORT_COUNTERS; which++) {
        if (bpf_map_lookup_elem(fd, &which, values)) {
            continue;
        }
        for (int cpu = 0; cpu < cpus; cpu++) {
            totals[which] += values[cpu];
        }
    }
    free(values);
}

static bool read_destinations(int fd, struct og_steering_state *state, struct og_steering_error *error)
{
    struct og_port_destination key, next;

    state->destinations = calloc(OG_PORT_MAX_DESTINATIONS, sizeof(*state->destinations));
    if (!state->destinations) {
        return fail(error, "out of memory");
    }
    for (int rc = bpf_map_get_next_key(fd, NULL, &next); rc == 0; rc = bpf_map_get_next_key(fd, &key, &next)) {
        if (state->n_destinations < OG_PORT_MAX_DESTINATIONS) {
            state->destinations[state->n_destinations++] = next;
        }
        key = next;
    }
    return true;
}

bool og_steering_read(const char *interface, const char *pin_dir, struct og_steering_state *state,
                      struct og_steering_error *error)
{
    struct attached now;
    int index, fd;
    bool ok = true;

    memset(state, 0, sizeof(*state));
    if (!interface_index(interface, &index, error) || !attached_read(interface, index, &now, error)) {
        return false;
    }
    state->mode = now.mode;
    state->program_id = now.id;
    memcpy(state->program_name, now.info.name, sizeof(state->program_name) - 1);
    fd = open_pinned(pin_dir, "xsks_map");
    state->ours = is_steering_program(&now) && fd >= 0 && uses_map(&now, map_id(fd));
    if (fd >= 0) {
        close(fd);
    }
    fd = open_pinned(pin_dir, "counters");
    if (fd >= 0) {
        read_counters(fd, state->counters);
        close(fd);
    }
    fd = open_pinned(pin_dir, "destinations");
    if (fd >= 0) {
        ok = read_destinations(fd, state, error);
        close(fd);
    }
    attached_close(&now);
    return ok;
}
