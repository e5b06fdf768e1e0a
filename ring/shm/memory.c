/* Sealed shared memory: see memory.h. */
#include "ring/shm/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* FUTURE_WRITE: nobody, we included, maps it writable from now on; our mapping goes on. So the
 * peer cannot write, and not even punch holes. SEAL: these seals are final. */
static const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;

static err_t fill(int fd, const struct shm_shape *shape, void **base)
{
    size_t size = shm_size(shape);
    if (ftruncate(fd, (off_t)size) != 0) {
        return err_errno(errno, "shared memory of %zu bytes", size);
    }
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (p == MAP_FAILED) {
        return err_errno(errno, "mapping %zu bytes of shared memory", size);
    }
    if (fcntl(fd, F_ADD_SEALS, seals) != 0) {
        err_t err = err_errno(errno, "sealing shared memory");
        munmap(p, size);
        return err;
    }
    *base = p;
    return ERR_OK;
}

err_t shm_memory_make(const struct shm_shape *shape, void **base, int *fd)
{
    ASSERT(shape->arena_bytes % SHM_PAGE == 0);
    *fd = memfd_create("tailrace-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0) {
        return err_errno(errno, "memfd_create");
    }
    err_t err = fill(*fd, shape, base);
    if (err != ERR_OK) {
        close(*fd);
        *fd = -1;
        return err;
    }
    struct shm_head *head = *base;
    head->magic = SHM_MAGIC;
    head->workers = shape->workers;
    head->peer_workers = shape->peer_workers;
    head->arena_bytes = shape->arena_bytes;
    return ERR_OK;
}

static err_t check_head(const void *base, const struct shm_shape *shape)
{
    struct shm_head head;
    memcpy(&head, base, sizeof(head)); /* once: it may change underfoot */
    if (head.magic != SHM_MAGIC || head.workers != shape->workers ||
        head.peer_workers != shape->peer_workers || head.arena_bytes != shape->arena_bytes) {
        return err_new(ERR_PROTOCOL, "the peer's memory is of another shape");
    }
    return ERR_OK;
}

err_t shm_memory_attach(int fd, const struct shm_shape *shape, void **base)
{
    struct stat st;
    int got = fcntl(fd, F_GET_SEALS);
    if (got < 0 || (got & seals) != seals) {
        return err_new(ERR_PROTOCOL, "the peer's memory is not sealed (%d)", got);
    }
    size_t size = shm_size(shape);
    if (fstat(fd, &st) != 0 || st.st_size != (off_t)size) {
        return err_new(ERR_PROTOCOL, "the peer's memory has %lld bytes, expected %zu",
                       (long long)st.st_size, size);
    }
    void *p = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (p == MAP_FAILED) {
        return err_errno(errno, "mapping the peer's memory");
    }
    err_t err = check_head(p, shape);
    if (err != ERR_OK) {
        munmap(p, size);
        return err;
    }
    *base = p;
    return ERR_OK;
}

void shm_memory_unmap(void *base, const struct shm_shape *shape)
{
    if (base != NULL) {
        ASSERT(munmap(base, shm_size(shape)) == 0);
    }
}

void shm_close(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

void shm_ring(int fd)
{
    /* A counter the peer has filled up would block us, and rings anyway. It cannot be made
     * non-blocking: the flag is shared with the peer's end, which reads it blocking. */
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    static const struct timespec at_once;
    if (ppoll(&room, 1, &at_once, NULL) != 1 || (room.revents & POLLOUT) == 0) {
        return;
    }
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof(one));
    ASSERT(n == sizeof(one) || n < 0);
}

err_t shm_check_bell(int fd)
{
    char path[64];
    char target[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    target[n > 0 ? n : 0] = '\0';
    if (strcmp(target, "anon_inode:[eventfd]") != 0) {
        return err_new(ERR_PROTOCOL, "the peer's doorbell is no eventfd");
    }
    return ERR_OK;
}
