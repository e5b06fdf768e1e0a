/* Sealed shared memory: see memory.h. */
#include "ring/shm/memory.h"

#include "core/base/log.h"
#include "ring/shm/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/memfd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* FUTURE_WRITE: nobody, we included, maps it writable from now on; our mapping goes on. So the
 * peer cannot write, and not even punch holes. SEAL: these seals are final. */
static const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;

static err_t fill(int fd, size_t size, void **base)
{
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

static err_t make(const char *name, size_t size, unsigned flags, void **base, int *fd)
{
    *fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
    if (*fd < 0) {
        return err_errno(errno, "memfd_create");
    }
    err_t err = fill(*fd, size, base);
    if (err != ERR_OK) {
        close(*fd);
        *fd = -1;
    }
    return err;
}

void *shm_memory_private(size_t size)
{
    bool large = size % SHM_HUGE_PAGE == 0;
    void *base = aligned_alloc(large ? SHM_HUGE_PAGE : SHM_PAGE, size);
    ASSERT(base != NULL);
    if (large) {
        (void)madvise(base, size, MADV_HUGEPAGE); /* a hint: small pages do as well */
    }
    return base;
}

/* Once a process: sessions come and go. */
static void say_small(size_t size, err_t err)
{
    static _Atomic bool said;
    /* Relaxed: who says it does not matter. */
    if (!atomic_exchange_explicit(&said, true, memory_order_relaxed)) {
        LOG_INFO("ring", "no huge pages for shared memory, using small ones",
                 LOG_U64("bytes", size), LOG_ERR(err));
    }
}

err_t shm_memory_make(const char *name, size_t size, bool *huge, void **base, int *fd)
{
    ASSERT(size > 0 && size % SHM_PAGE == 0);
    if (*huge) {
        ASSERT(size % SHM_HUGE_PAGE == 0);
        err_t err = make(name, size, MFD_HUGETLB | MFD_HUGE_2MB, base, fd);
        if (err == ERR_OK) {
            return ERR_OK;
        }
        say_small(size, err);
        err_free(err);
        *huge = false;
    }
    return make(name, size, 0, base, fd);
}

err_t shm_memory_attach(int fd, size_t size, void **base)
{
    struct stat st;
    int got = fcntl(fd, F_GET_SEALS);
    if (got < 0 || (got & seals) != seals) {
        return err_new(ERR_PROTOCOL, "the peer's memory is not sealed (%d)", got);
    }
    if (fstat(fd, &st) != 0 || st.st_size != (off_t)size) {
        return err_new(ERR_PROTOCOL, "the peer's memory has %lld bytes, expected %zu",
                       (long long)st.st_size, size);
    }
    void *p = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (p == MAP_FAILED) {
        return err_errno(errno, "mapping the peer's memory");
    }
    *base = p;
    return ERR_OK;
}

void shm_memory_unmap(void *base, size_t size)
{
    if (base != NULL) {
        ASSERT(munmap(base, size) == 0);
    }
}

void shm_close(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

void shm_ring_eventfd(int fd)
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

/* ---- the death of the peer ------------------------------------------------------------------- */

/* The C library keeps the owner's thread id in the first word of a robust mutex and its lists of
 * them where the kernel looks when a thread ends: both are its ABI with the kernel. */
STATIC_ASSERT(offsetof(pthread_mutex_t, __data.__lock) == 0, "the word comes first");

void shm_alive_begin(pthread_mutex_t *alive)
{
    pthread_mutexattr_t attributes;
    ASSERT(pthread_mutexattr_init(&attributes) == 0);
    ASSERT(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0);
    ASSERT(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
    ASSERT(pthread_mutex_init(alive, &attributes) == 0);
    ASSERT(pthread_mutexattr_destroy(&attributes) == 0);
    ASSERT(pthread_mutex_lock(alive) == 0);
    /* The peer cannot say that it waits, for it cannot write here: it is said in its name, so that
     * the kernel wakes it. Relaxed: the kernel reads it in this thread's own end. */
    atomic_fetch_or_explicit((_Atomic uint32_t *)alive, FUTEX_WAITERS, memory_order_relaxed);
}

void shm_alive_end(pthread_mutex_t *alive)
{
    ASSERT(pthread_mutex_unlock(alive) == 0);
    ASSERT(pthread_mutex_destroy(alive) == 0);
}

const _Atomic uint32_t *shm_alive_word(const pthread_mutex_t *alive)
{
    return (const _Atomic uint32_t *)alive;
}

bool shm_alive_died(uint32_t word)
{
    return (word & FUTEX_OWNER_DIED) != 0;
}
