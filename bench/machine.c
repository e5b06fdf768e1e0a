/* The machine and its floors. See machine.h. */
#include "bench/machine.h"

#include "core/base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

uint64_t machine_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void describe_cpu(char *out, size_t size)
{
    snprintf(out, size, "unknown CPU");
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (file == NULL) {
        return;
    }
    char line[256];
    while (fgets(line, sizeof(line), file) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            colon[strcspn(colon, "\n\"\\")] = '\0';
            snprintf(out, size, "%s", colon + 2);
            break;
        }
    }
    fclose(file);
}

void machine_describe(struct machine *machine)
{
    *machine = (struct machine){.cpus = (int)sysconf(_SC_NPROCESSORS_ONLN)};
    describe_cpu(machine->cpu, sizeof(machine->cpu));
    struct utsname names;
    if (uname(&names) == 0) {
        snprintf(machine->kernel, sizeof(machine->kernel), "%.60s", names.release);
    }
    if (getloadavg(&machine->load, 1) != 1) {
        machine->load = 0;
    }
}

double machine_peak_mib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

enum { PING_ROUNDS = 1000, PING_BATCHES = 101 };

struct ping {
    _Alignas(128) _Atomic uint64_t there;
    _Alignas(128) _Atomic uint64_t back;
};

static void *pong(void *arg)
{
    struct ping *ping = arg;
    for (uint64_t i = 1; i <= (uint64_t)PING_ROUNDS * PING_BATCHES; i++) {
        /* Pairs with the release in machine_ping_pong_ns; publishes nothing but itself. */
        while (atomic_load_explicit(&ping->there, memory_order_acquire) != i) {
        }
        /* Pairs with the acquire in machine_ping_pong_ns. */
        atomic_store_explicit(&ping->back, i, memory_order_release);
    }
    return NULL;
}

uint64_t machine_ping_pong_ns(void)
{
    struct ping ping = {0};
    struct hist hist;
    hist_clear(&hist);
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, pong, &ping);
    ASSERT(rc == 0);
    uint64_t i = 0;
    for (int batch = 0; batch < PING_BATCHES; batch++) {
        uint64_t start = machine_now_ns();
        for (int round = 0; round < PING_ROUNDS; round++) {
            i++;
            /* Pairs with the acquire in pong. */
            atomic_store_explicit(&ping.there, i, memory_order_release);
            /* Pairs with the release in pong. */
            while (atomic_load_explicit(&ping.back, memory_order_acquire) != i) {
            }
        }
        hist_add(&hist, (machine_now_ns() - start) / PING_ROUNDS);
    }
    pthread_join(thread, NULL);
    return hist_quantile(&hist, 0.5);
}

err_t machine_sync_probe(const char *directory, size_t count, struct hist *hist)
{
    int fd = open(directory, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) {
        return err_errno(errno, "temporary file in %s", directory);
    }
    char block[512] = {1};
    err_t err = ERR_OK;
    /* First pass: the blocks get their places. Second: they are overwritten, which is timed. */
    for (size_t i = 0; i < 2 * count && err == ERR_OK; i++) {
        uint64_t start = machine_now_ns();
        off_t at = (off_t)(i % count * sizeof(block));
        if (pwrite(fd, block, sizeof(block), at) != (ssize_t)sizeof(block) ||
            (i + 1 >= count && fdatasync(fd) != 0)) {
            err = err_errno(errno, "write and fdatasync in %s", directory);
        }
        if (i >= count) {
            hist_add(hist, machine_now_ns() - start);
        }
    }
    close(fd);
    return err;
}
