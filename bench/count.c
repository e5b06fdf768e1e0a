/*
 * tailrace-bench count: one case over one of our links, exactly so many messages, both sides on one
 * loop in one process. Nobody waits for anybody there, so the instructions of a run hardly differ
 * from those of the next: under callgrind, and system calls under strace, the difference between a
 * run of n and one of 3n messages is what 2n messages cost (tests/bench/test_counts.py).
 *
 * Why one loop. With two processes each spins while it waits for the other, and spinning is
 * counted too: the figure would say how the kernel scheduled them. On one loop every turn polls
 * the sender, then the receiver, then goes round; nothing is waited for, and all that runs is
 * work. What it can not show is cache misses and wakes: those are what the other subcommands
 * measure in time.
 *
 * The price: a turn of the loop is paid once a batch, as a busy process pays it.
 */
#include "bench/cases.h"
#include "bench/link.h"
#include "bench/options.h"
#include "bench/report.h"

#include "core/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* By its whole name: bounds are of exactly one. */
static const struct link_ops *find_link(const char *name)
{
    for (size_t i = 0; links[i] != NULL; i++) {
        if (links[i]->count != NULL && name != NULL && strcmp(links[i]->name, name) == 0) {
            return links[i];
        }
    }
    if (name != NULL && strcmp(link_exchange_inner.name, name) == 0) {
        return &link_exchange_inner;
    }
    return NULL;
}

/* By its whole title. */
static const struct bench_case *find_case(const char *title)
{
    for (size_t i = 0; i < bench_cases_len; i++) {
        if (title != NULL && strcmp(bench_cases[i].title, title) == 0) {
            return &bench_cases[i];
        }
    }
    return NULL;
}

/* One run; the count of the messages is checked, so that a bound is of what it says. */
static err_t count(const struct link_ops *ops, const struct load_shape *shape, uint64_t messages,
                   const char *directory)
{
    struct link link = {.ops = ops, .shape = shape, .directory = directory, .parent = true};
    struct load_figures *figures = mem_zalloc(2 * sizeof(*figures));
    struct load child, parent;
    ASSERT(messages > 0);
    ASSERT(ops->count != NULL);
    load_init(&child, shape, false, &figures[0]);
    load_init(&parent, shape, true, &figures[1]);
    child.limit = parent.limit = messages;
    err_t err = ops->open != NULL ? ops->open(&link) : ERR_OK;
    if (err == ERR_OK) {
        err = ops->count(&link, &child, &parent);
    }
    if (err == ERR_OK && (parent.received != messages || parent.torn || child.torn ||
                          figures[1].lost > 0)) {
        err = err_new(ERR_CORRUPT, "%llu of %llu messages arrived whole",
                      (unsigned long long)parent.received, (unsigned long long)messages);
    }
    if (ops->close != NULL) {
        ops->close(&link);
    }
    free(figures);
    return err;
}

void bench_count(const struct options *options, struct report *report)
{
    const struct link_ops *ops = find_link(options->link);
    const struct bench_case *c = find_case(options->only_case);
    ASSERT(options->messages > 0);
    if (ops == NULL || c == NULL || (ops->fits != NULL && !ops->fits(&c->shape)) ||
        c->shape.pattern == LOAD_PACED) {
        report_wrong(report, "count needs --link and --case, whole names of one of ours that fit");
        return;
    }
    char directory[160];
    snprintf(directory, sizeof(directory), "%s/tailrace-bench-XXXXXX", options->directory);
    if (mkdtemp(directory) == NULL) {
        report_wrong(report, "no temporary directory in %s", options->directory);
        return;
    }
    err_t err = count(ops, &c->shape, options->messages, directory);
    link_remove_directory(directory);
    if (err != ERR_OK) {
        report_wrong(report, "%s, %s: %s", c->title, ops->name, err_text(err));
        err_free(err);
        return;
    }
    report_group(report, c->title);
    report_add(report, ops->name, "messages", (double)options->messages);
}
