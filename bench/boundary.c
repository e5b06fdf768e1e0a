/*
 * tailrace-bench boundary: two processes with a server and a client each, over every carrier. The
 * round trip of a cache line is probed before and after each case, because the host moves virtual
 * CPUs about: only the ratio to it can be compared between runs.
 */
#include "bench/boundary.h"

#include "bench/machine.h"
#include "bench/options.h"
#include "bench/report.h"
#include "core/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECRET_BYTES = 32 };

static err_t make_directory(const struct options *options, char *path, size_t size)
{
    snprintf(path, size, "%s/tailrace-bench-XXXXXX", options->directory);
    if (mkdtemp(path) == NULL) {
        return err_errno(errno, "temporary directory %s", path);
    }
    char secret[192];
    snprintf(secret, sizeof(secret), "%s/secret", path);
    int fd = open(secret, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    char bytes[SECRET_BYTES] = "0123456789abcdef0123456789abcdef";
    if (fd < 0 || write(fd, bytes, sizeof(bytes)) != (ssize_t)sizeof(bytes)) {
        return err_errno(errno, "%s", secret);
    }
    close(fd);
    return ERR_OK;
}

static void remove_directory(const char *path)
{
    static const char *const names[] = {"secret", "0", "1"};
    for (size_t i = 0; i < 3; i++) {
        char file[192];
        snprintf(file, sizeof(file), "%s/%s", path, names[i]);
        unlink(file);
    }
    rmdir(path);
}

/* The other side in a process of its own, this side here. */
static err_t run_both(struct side_config *config, struct side_result *result)
{
    int channel[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) != 0) {
        return err_errno(errno, "socketpair");
    }
    pid_t other = fork();
    if (other == 0) {
        struct side_config theirs = *config;
        theirs.first = false;
        theirs.channel = channel[1];
        close(channel[0]);
        struct side_result *unused = MEM_NEW(struct side_result);
        err_t err = side_run(&theirs, unused);
        fprintf(stderr, "the other side ended: %s\n", err_text(err));
        _exit(1);
    }
    close(channel[1]);
    err_t err = other < 0 ? err_errno(errno, "fork") : ERR_OK;
    if (err == ERR_OK) {
        config->first = true;
        config->channel = channel[0];
        err = side_run(config, result);
        kill(other, SIGKILL);
        waitpid(other, NULL, 0);
    }
    close(channel[0]);
    return err;
}

static void add_figures(struct report *report, const struct side_config *config, double line_ns,
                        const struct side_result *result)
{
    char name[64];
    const char *carrier = config->shm ? "shm" : "tcp";
    double seconds = (double)result->ns / 1e9;
    if (config->source == SIDE_PING) {
        snprintf(name, sizeof(name), "%s, round trip %zu B", carrier, config->record_bytes);
        report_latency(report, name, &result->round_trips);
        report_add(report, name, "line ns", line_ns);
        report_add(report, name, "of line",
                   (double)hist_quantile(&result->round_trips, 0.5) / line_ns);
        return;
    }
    snprintf(name, sizeof(name), "%s, flood of %zu B", carrier, config->record_bytes);
    report_add(report, name, "M records/s", (double)result->records / seconds / 1e6);
    report_add(report, name, "GB/s", (double)result->bytes / seconds / 1e9);
    report_add(report, name, "ns/record", (double)result->ns / (double)result->records);
    report_add(report, name, "line ns", line_ns);
}

static void run_case(const struct options *options, struct report *report, bool shm,
                     uint64_t source, size_t record_bytes)
{
    char directory[160];
    struct side_result *result = MEM_NEW(struct side_result);
    struct side_config config = {.shm = shm, .directory = directory, .source = source,
                                 .record_bytes = record_bytes,
                                 .run_ns = (uint64_t)(options->seconds * 1e9)};
    double before = machine_probe_line().p50_ns;
    err_t err = make_directory(options, directory, sizeof(directory));
    if (err == ERR_OK) {
        err = run_both(&config, result);
    }
    remove_directory(directory);
    if (err != ERR_OK) {
        report_wrong(report, "%s, %zu B: %s", shm ? "shm" : "tcp", record_bytes, err_text(err));
        err_free(err);
    } else if (result->records == 0) {
        report_wrong(report, "%s, %zu B: nothing arrived", shm ? "shm" : "tcp", record_bytes);
    } else {
        add_figures(report, &config, (before + machine_probe_line().p50_ns) / 2, result);
    }
    free(result);
}

void bench_boundary(const struct options *options, struct report *report)
{
    static const size_t sizes[] = {64, 1024, 4096, 65536};
    for (int run = 0; run < options->runs; run++) {
        for (int shm = 1; shm >= 0; shm--) {
            run_case(options, report, shm, SIDE_PING, 64);
        }
    }
    for (int run = 0; run < options->runs; run++) {
        for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
            run_case(options, report, i % 2 == 0, SIDE_FLOOD, sizes[i / 2]);
        }
    }
}
