/* SPDX-License-Identifier: Apache-2.0 */
#include "heartbeat.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "app.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the heartbeat file is little-endian");

struct og_heartbeat *og_heartbeat_open(const char *path, uint64_t incarnation, struct og_error *error)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    struct og_heartbeat *heartbeat = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, sizeof(*heartbeat)) == 0) {
        heartbeat = mmap(NULL, sizeof(*heartbeat), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (heartbeat == MAP_FAILED) {
        og_fail(error, "%s: %s", path, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    close(fd);
    memset(heartbeat, 0, sizeof(*heartbeat)); /* a reader sees no magic, then all of it */
    heartbeat->version = OG_HEARTBEAT_VERSION;
    heartbeat->pid = (uint32_t)getpid();
    heartbeat->incarnation = incarnation;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    memcpy(heartbeat->magic, "OGHB", 4);
    return heartbeat;
}
