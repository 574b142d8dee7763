/* SPDX-License-Identifier: Apache-2.0 */
#include "state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app.h"

static bool write_all(int fd, const char *data, size_t n)
{
    while (n) {
        ssize_t written = write(fd, data, n);

        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            return false;
        }
        data += written;
        n -= (size_t)written;
    }
    return true;
}

void og_state_path(const struct og_app *app, const char *kind, char *path, size_t size)
{
    snprintf(path, size, "%s/%s.%s.json", app->options.state_dir, app->role->name, kind);
}

bool og_state_write(const struct og_app *app, const char *kind, const json_t *document, struct og_error *error)
{
    char path[300], temporary[310];
    char *text = json_dumps(document, JSON_COMPACT | JSON_SORT_KEYS);
    int fd, directory;
    bool ok;

    og_state_path(app, kind, path, sizeof(path));
    snprintf(temporary, sizeof(temporary), "%s.new", path);
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    ok = text && fd >= 0 && write_all(fd, text, strlen(text)) && fsync(fd) == 0 && rename(temporary, path) == 0;
    if (!ok) {
        og_fail(error, "%s: %s", path, strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    free(text);
    directory = ok ? open(app->options.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (directory >= 0) {
        (void)fsync(directory); /* not every file system can; the rename stands */
        close(directory);
    }
    return ok;
}
