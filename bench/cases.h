/* The cases that links are compared in. */
#ifndef TAILRACE_BENCH_CASES_H
#define TAILRACE_BENCH_CASES_H

#include "bench/link.h"

struct bench_case {
    const char *title;
    struct load_shape shape; /* without run_ns */
};

extern const struct bench_case bench_cases[];
extern const size_t bench_cases_len;

struct options;
struct report;
/* All cases over all links of that layer, and the carriers below. ring.c */
void bench_links(const struct options *options, struct report *report, enum link_layer layer);

#endif
