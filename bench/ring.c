/*
 * tailrace-bench ring: our carriers between two processes, beside the floors below them and the
 * peers they replace. Every case runs over every link in turn, the whole of it several times, and
 * the cache line's round trip is probed before and after each run: ratios are taken within one run
 * of one case, and their medians are shown, because the host moves virtual CPUs about.
 *
 * Rows of a table are links. "shm of it" in a floor's or peer's row is our figure divided by that
 * row's; a goal stands beside it where there is one.
 *
 * Order of a run: for each case, for each link: probe, two processes, probe. So what is compared
 * was measured within seconds, and whoever else uses the machine disturbs all alike. The whole is
 * done several times, and not each link several times in a row, for the same reason.
 *
 * What a row means. M msg/s, GB/s: of the messages themselves. CPU: of all processes concerned,
 * spinning included, so a sleeping mechanism can be slower and cheaper. line ns, placed: the probe
 * around that very run; "mixed" when the runs differ. Ratios are figures of their own, see
 * report.c.
 *
 * Goals are those the project set itself. The one for a round trip is in cache lines, since it is
 * bounded by them: a message and its answer are one line each way at the least.
 */
#include "bench/cases.h"
#include "bench/link.h"
#include "bench/options.h"
#include "bench/report.h"
#include "bench/yardstick.h"

#include "core/base/mem.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINKS_MAX = 24, US = 1000, YARDSTICK_BYTES = 262144 };

const struct bench_case bench_cases[] = {
    /* The least a message can take: nobody sleeps, one is under way. */
    {"64 B there and back, both spinning", {LOAD_PING, LOAD_SPIN, .bytes = 64}},
    /* Two wakes: what a message costs between processes that had nothing to do. */
    {"64 B there and back, both sleeping", {LOAD_PING, LOAD_SLEEP, .bytes = 64}},
    /* Rarer than spinning is worth: one wake each. */
    {"64 B every 100 us, one way",
     {LOAD_PACED, LOAD_ADAPT, .bytes = 64, .interval_ns = 100 * US}},
    /* More often than a wake takes: who always sleeps falls behind, who spins does not. */
    {"64 B, 200,000 a second, one way",
     {LOAD_PACED, LOAD_ADAPT, .bytes = 64, .interval_ns = 5 * US}},
    {"64 B, 1,000,000 a second, one way",
     {LOAD_PACED, LOAD_ADAPT, .bytes = 64, .interval_ns = US}},
    /* Small messages at once: what publishing costs, singly and shared by a batch. */
    {"32 B, one by one", {LOAD_FLOOD, LOAD_SPIN, .bytes = 32, .batch = 1}},
    {"32 B, batches of 32", {LOAD_FLOOD, LOAD_SPIN, .bytes = 32, .batch = 32}},
    {"64 B, one by one", {LOAD_FLOOD, LOAD_SPIN, .bytes = 64, .batch = 1}},
    {"64 B, batches of 32", {LOAD_FLOOD, LOAD_SPIN, .bytes = 64, .batch = 32}},
    /* The same as records of one message, which is how the layers above send what is many: a slot
     * of the plain ring has no header, and here neither has a record. */
    {"32 B records, 32 in one message",
     {LOAD_FLOOD, LOAD_SPIN, .records = true, .bytes = 32, .batch = 32}},
    {"64 B records, 32 in one message",
     {LOAD_FLOOD, LOAD_SPIN, .records = true, .bytes = 64, .batch = 32}},
    /* Larger ones: bytes begin to count. */
    {"1 KiB, batches of 32", {LOAD_FLOOD, LOAD_SPIN, .bytes = 1024, .batch = 32}},
    {"4 KiB, batches of 8", {LOAD_FLOOD, LOAD_SPIN, .bytes = 4096, .batch = 8}},
    /* Blocks: bytes are all that counts; at 256 KiB beside iperf3 and openssl speed. */
    {"64 KiB, one by one", {LOAD_FLOOD, LOAD_SPIN, .bytes = 65536, .batch = 1}},
    {"256 KiB, one by one", {LOAD_FLOOD, LOAD_SPIN, .bytes = 262144, .batch = 1}},
    /* As an environment's processes run: not pinned, sleeping where that pays. The kernel may put
     * both on one CPU, where bytes stay in one cache; that is what it does with iperf3. */
    {"256 KiB on any CPU",
     {LOAD_FLOOD, LOAD_ADAPT, .anywhere = true, .bytes = 262144, .batch = 1}},
    /* Nobody reads the bytes: passing a block on must not depend on how large it is. */
    {"4 KiB block by reference",
     {LOAD_FLOOD, LOAD_SPIN, .by_reference = true, .bytes = 4096, .batch = 8}},
    {"64 KiB block by reference",
     {LOAD_FLOOD, LOAD_SPIN, .by_reference = true, .bytes = 65536, .batch = 8}},
    {"1 MiB block by reference",
     {LOAD_FLOOD, LOAD_SPIN, .by_reference = true, .bytes = 1 << 20, .batch = 8}},
};
enum { CASES = sizeof(bench_cases) / sizeof(bench_cases[0]) };
const size_t bench_cases_len = CASES;
STATIC_ASSERT(CASES >= 1, "there is something to compare");

/* What one link did in one run of one case; absent links have messages 0. */
struct outcome {
    const struct link_ops *link;
    struct load_figures figures; /* the parent's, copied out of the run */
    double line_ns; /* the cache line's round trip around it */
};

/* Nanoseconds. */
static double p50(const struct outcome *o)
{
    ASSERT(o->figures.hist.count > 0);
    return (double)hist_quantile(&o->figures.hist, 0.5);
}

/* Nanoseconds. */
static double p99(const struct outcome *o)
{
    ASSERT(o->figures.hist.count > 0);
    return (double)hist_quantile(&o->figures.hist, 0.99);
}

/* Million messages a second. */
static double rate(const struct outcome *o)
{
    ASSERT(o->figures.messages > 0 && o->figures.ns > 0);
    return (double)o->figures.messages * 1e3 / (double)o->figures.ns;
}

/* ---- figures --------------------------------------------------------------------------------- */

/* CPU time of everybody who moved the message, spinning included. */
static void add_cpu(struct report *report, const struct load_shape *shape, const char *name,
                    const struct load_figures *f)
{
    double seconds = (double)f->cpu_ns / 1e9;
    double messages = (double)f->messages;
    ASSERT(f->messages > 0);
    report_add(report, name, "CPU s/M msg", seconds * 1e6 / messages);
    if (shape->pattern == LOAD_FLOOD) {
        report_add(report, name, "CPU s/GiB",
                   seconds * (double)(1 << 30) / (messages * shape->bytes));
    }
}

/* What the link did by itself, and of ours what it is to the cache line. */
static void add_own(struct report *report, const struct load_shape *shape, const struct outcome *o)
{
    const char *name = o->link->name;
    ASSERT(o->figures.messages > 0);
    if (shape->pattern == LOAD_FLOOD) {
        report_add(report, name, "M msg/s", rate(o));
        report_add(report, name, "GB/s", rate(o) * shape->bytes / 1e3);
        report_add(report, name, "ns/msg", 1e3 / rate(o));
    } else {
        report_latency(report, name, &o->figures.hist);
    }
    add_cpu(report, shape, name, &o->figures);
    report_add(report, name, "line ns", o->line_ns);
    report_text(report, name, "placed", machine_placement(o->line_ns));
    if (o->figures.lost > 0) {
        report_add(report, name, "lost", (double)o->figures.lost);
    }
    if (o->link == &link_shm && shape->pattern == LOAD_PING && shape->wait == LOAD_SPIN) {
        report_goal(report, name, "p50 of line", p50(o) / o->line_ns, REPORT_AT_MOST, 1.5);
        report_goal(report, name, "p99 of line", p99(o) / o->line_ns, REPORT_AT_MOST, 3);
    }
}

/* The least our rate may be of that link's, in times; 0: just a figure. */
static double rate_goal(const struct load_shape *shape, const struct link_ops *link)
{
    bool small = shape->bytes <= 64;
    ASSERT(shape->pattern == LOAD_FLOOD);
    if (strcmp(link->name, "iceoryx") == 0) {
        return shape->bytes == 32 && shape->batch == 32 ? 50 : 1;
    }
    if (strcmp(link->name, "ZeroMQ ipc") == 0 && small) {
        return 10;
    }
    return 1;
}

/* A floor's or peer's row: what ours is to it, in this run. */
static void add_ratio(struct report *report, const struct load_shape *shape,
                      const struct outcome *ours, const struct outcome *it)
{
    const char *name = it->link->name;
    ASSERT(it->link->kind != LINK_OURS);
    if (shape->pattern == LOAD_FLOOD) {
        report_goal(report, name, "shm of it", rate(ours) / rate(it), REPORT_AT_LEAST,
                    rate_goal(shape, it->link));
    } else if (it->link->kind == LINK_PEER) {
        report_goal(report, name, "shm of it, p50", p50(ours) / p50(it), REPORT_AT_MOST, 1);
        report_goal(report, name, "shm of it, p99", p99(ours) / p99(it), REPORT_AT_MOST, 1);
    } else {
        report_add(report, name, "of it, p50", p50(ours) / p50(it));
    }
}

/* Bare TCP is the floor of the TCP carrier, not of shared memory. */
static void add_tcp_ratio(struct report *report, const struct load_shape *shape,
                          const struct outcome *tcp, const struct outcome *bare)
{
    ASSERT(bare->link == &link_socket_tcp);
    if (shape->pattern == LOAD_PING) {
        report_goal(report, bare->link->name, "tcp of it, p50", p50(tcp) / p50(bare),
                    REPORT_AT_MOST, shape->wait == LOAD_SPIN ? 1.3 : 1.2);
    } else if (shape->pattern == LOAD_FLOOD) {
        report_add(report, bare->link->name, "tcp of it", rate(tcp) / rate(bare));
    }
}

/* NULL: it did not run, or failed. */
static const struct outcome *of_link(const struct outcome *outcomes, size_t len,
                                     const struct link_ops *link)
{
    for (size_t i = 0; i < len; i++) {
        if (outcomes[i].link == link && outcomes[i].figures.messages > 0) {
            return &outcomes[i];
        }
    }
    return NULL;
}

/* A floor of the TCP carrier, not of shared memory. */
static bool over_tcp(const struct link_ops *link)
{
    return link == &link_socket_tcp || link == &link_socket_sealed;
}

/* Bulk over TCP and TLS beside what others get out of the loopback and out of the cipher, measured
 * in the same run: the machine's phases are longer than that. */
static void add_yardsticks(struct report *report, const struct load_shape *shape, double seconds,
                           const struct outcome *tcp, const struct outcome *tls)
{
    ASSERT(shape->bytes == YARDSTICK_BYTES);
    double iperf = tcp != NULL ? yardstick_iperf3(seconds, shape->bytes, shape->anywhere) : 0;
    double cipher = tls != NULL ? yardstick_openssl() : 0;
    if (iperf > 0) {
        report_add(report, "iperf3", "GB/s", iperf);
        report_goal(report, "iperf3", "tcp of it", rate(tcp) * shape->bytes / 1e3 / iperf,
                    REPORT_AT_LEAST, 0.9);
    }
    if (cipher > 0) {
        report_add(report, "openssl speed", "GB/s", cipher);
        report_goal(report, "openssl speed", "tls of it", rate(tls) * shape->bytes / 1e3 / cipher,
                    REPORT_AT_LEAST, 0.8);
    }
}

/* Our latency beside the best bare way to wake a sleeper in this run. */
static void add_best_bare(struct report *report, const struct load_shape *shape,
                          const struct outcome *outcomes, size_t len)
{
    const struct outcome *shm = of_link(outcomes, len, &link_shm);
    double best = 0;
    ASSERT(shape->pattern == LOAD_PACED);
    for (size_t i = 0; i < len; i++) {
        const struct outcome *o = &outcomes[i];
        if (o->figures.messages > 0 && o->link->kind == LINK_FLOOR &&
            (best == 0 || p50(o) < best)) {
            best = p50(o);
        }
    }
    if (shm != NULL && best > 0 && shape->wait != LOAD_SPIN &&
        shape->interval_ns >= 100 * US) {
        report_goal(report, "shm", "of best bare", p50(shm) / best, REPORT_AT_MOST, 1.1);
    }
}

/* One run of one case: all its links' rows. */
static void add_figures(struct report *report, const struct bench_case *c,
                        const struct outcome *outcomes, size_t len)
{
    const struct load_shape *shape = &c->shape;
    const struct outcome *shm = of_link(outcomes, len, &link_shm);
    const struct outcome *tcp = of_link(outcomes, len, &link_tcp);
    const struct outcome *tls = of_link(outcomes, len, &link_tls);
    ASSERT(len > 0 && len <= LINKS_MAX);
    report_group(report, c->title);
    for (size_t i = 0; i < len; i++) {
        const struct outcome *o = &outcomes[i];
        if (o->figures.messages == 0) {
            continue;
        }
        add_own(report, shape, o);
        if (o->link == &link_socket_tcp && tcp != NULL) {
            add_tcp_ratio(report, shape, tcp, o);
        } else if (o->link == &link_socket_sealed && tls != NULL) {
            report_add(report, o->link->name, "tls of it", rate(tls) / rate(o));
        } else if (o->link->kind != LINK_OURS && shm != NULL && !over_tcp(o->link)) {
            add_ratio(report, shape, shm, o);
        }
        const struct outcome *under = of_link(outcomes, len, o->link->under);
        if (under != NULL && o->link->under != NULL) {
            report_add(report, o->link->name, "of carrier",
                       shape->pattern == LOAD_FLOOD ? rate(o) / rate(under) : p50(o) / p50(under));
        }
    }
    if (shape->pattern == LOAD_PACED) {
        add_best_bare(report, shape, outcomes, len);
    }
}

/* ---- running --------------------------------------------------------------------------------- */

/* Kept from run to run. */
struct bench {
    const struct options *options;
    struct report *report; /* filled after each case */
    enum link_layer layer; /* whose links beside the carriers */
    char directory[160]; /* sockets and brokers' files; removed at the end */
    size_t done, total; /* runs of links, for the progress */
    bool absent[LINKS_MAX]; /* by index in links: said once that it is not installed */
};

/* Does link i run that case under these options? */
static bool wanted(const struct bench *b, size_t i, const struct bench_case *c)
{
    const char *link = b->options->link;
    const char *title = b->options->only_case;
    ASSERT(i < LINKS_MAX);
    /* A protocol is compared with the carriers below it only. */
    bool here = b->layer == LINK_CARRIER ? links[i]->layer == LINK_CARRIER
                                         : links[i]->layer == b->layer || links[i] == &link_shm ||
                                               links[i] == &link_tcp;
    here &= b->layer == LINK_CARRIER || !(c->shape.by_reference || c->shape.records);
    here &= !c->shape.anywhere || links[i] == &link_tcp || links[i] == &link_tls ||
            over_tcp(links[i]);
    here &= !c->shape.records || links[i] == &link_shm || links[i] == &link_ring;
    return here && !b->absent[i] && (links[i]->fits == NULL || links[i]->fits(&c->shape)) &&
           (link == NULL || strstr(links[i]->name, link) != NULL) &&
           (title == NULL || strstr(c->title, title) != NULL);
}

/* One line that is written over, on a terminal only. */
static void progress(const struct bench *b, const char *title, const char *name)
{
    ASSERT(b->done <= b->total);
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, "\r\033[K[%zu/%zu] %s: %s", b->done, b->total, title, name);
        if (b->done == b->total) {
            fprintf(stderr, "\r\033[K");
        }
    }
}

/* One run, probed before and after. A failure is reported and the others go on; a peer whose
 * daemon is not installed is left out from then on. */
static void run_link(struct bench *b, const struct bench_case *c, size_t i, struct outcome *out)
{
    struct load_shape shape = c->shape;
    ASSERT(links[i] != NULL);
    shape.run_ns = (uint64_t)(b->options->seconds * 1e9);
    out->link = links[i];
    b->done++;
    progress(b, c->title, links[i]->name);
    double before = machine_probe_line().p50_ns;
    err_t err = link_run(links[i], &shape, b->directory, &out->figures);
    out->line_ns = (before + machine_probe_line().p50_ns) / 2;
    if (err == ERR_OK) {
        ASSERT(out->figures.messages > 0 && out->figures.ns > 0);
        return;
    }
    out->figures.messages = 0;
    b->absent[i] = err_code(err) == ERR_UNSUPPORTED;
    if (links[i]->kind == LINK_PEER) { /* not ours to be right about */
        fprintf(stderr, "left out: %s, %s: %s\n", c->title, links[i]->name, err_text(err));
    } else {
        report_wrong(b->report, "%s, %s: %s", c->title, links[i]->name, err_text(err));
    }
    err_free(err);
}

/* All links in turn: what one run says of them was measured within seconds. */
static void run_case(struct bench *b, const struct bench_case *c)
{
    struct outcome *outcomes = mem_zalloc(LINKS_MAX * sizeof(*outcomes));
    size_t len = 0;
    for (size_t i = 0; links[i] != NULL; i++) {
        ASSERT(i < LINKS_MAX);
        if (wanted(b, i, c)) {
            run_link(b, c, i, &outcomes[len++]);
        }
    }
    if (len > 0) {
        add_figures(b->report, c, outcomes, len);
    }
    if (len > 0 && b->layer == LINK_CARRIER && c->shape.bytes == YARDSTICK_BYTES) {
        add_yardsticks(b->report, &c->shape, b->options->seconds,
                       of_link(outcomes, len, &link_tcp), of_link(outcomes, len, &link_tls));
    }
    free(outcomes);
}

/* What depends on several cases, from their medians. */
static const struct figure *median_of(const struct report *report, const char *group,
                                      const char *name, const char *metric)
{
    ASSERT(report != NULL && group != NULL);
    for (size_t i = 0; i < report->figures_len; i++) {
        const struct figure *f = &report->figures[i];
        if (strcmp(report->groups[f->group], group) == 0 && strcmp(f->name, name) == 0 &&
            strcmp(f->metric, metric) == 0) {
            return f;
        }
    }
    return NULL;
}

/* Does a block's size matter when it is passed by reference? */
static void add_reference_ratio(struct report *report)
{
    const struct figure *small = median_of(report, "4 KiB block by reference", "shm", "ns/msg");
    const struct figure *big = median_of(report, "1 MiB block by reference", "shm", "ns/msg");
    if (small != NULL && big != NULL) {
        double ratio = report_median(big) / report_median(small);
        report_group(report, "1 MiB block by reference");
        report_goal(report, "shm", "of 4 KiB's ns", ratio, REPORT_AT_MOST, 1.2);
    }
}

/* Once a run: where the CPUs are, and how fast memory is. */
static void add_machine(struct report *report)
{
    struct machine_line line = machine_probe_line();
    report_group(report, "the machine (placed: siblings < 95 ns, near < 250 ns, else far)");
    report_add(report, "cache line", "p50 ns", line.p50_ns);
    report_add(report, "cache line", "p99 ns", line.p99_ns);
    report_text(report, "cache line", "placed", machine_placement(line.p50_ns));
    report_add(report, "memcpy of 1 MiB", "GB/s", machine_probe_memcpy());
}

/* Runs of one case follow each other only after all the other cases. */
void bench_links(const struct options *options, struct report *report, enum link_layer layer)
{
    struct bench b = {.options = options, .report = report, .layer = layer};
    ASSERT(options->runs >= 1 && options->runs <= REPORT_RUNS_MAX);
    snprintf(b.directory, sizeof(b.directory), "%s/tailrace-bench-XXXXXX", options->directory);
    if (mkdtemp(b.directory) == NULL) {
        report_wrong(report, "no temporary directory in %s", options->directory);
        return;
    }
    for (size_t i = 0; links[i] != NULL; i++) {
        for (size_t c = 0; c < CASES; c++) {
            b.total += wanted(&b, i, &bench_cases[c]) ? (size_t)options->runs : 0;
        }
    }
    if (layer == LINK_CARRIER && link_absent[0] != '\0') {
        fprintf(stderr, "left out, not there when this was built: %s\n", link_absent);
    }
    for (int run = 0; run < options->runs; run++) {
        add_machine(report);
        for (size_t c = 0; c < CASES; c++) {
            run_case(&b, &bench_cases[c]);
        }
    }
    if (layer == LINK_CARRIER) {
        add_reference_ratio(report);
    }
    link_remove_directory(b.directory);
}

void bench_ring(const struct options *options, struct report *report)
{
    bench_links(options, report, LINK_CARRIER);
}
