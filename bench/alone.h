/*
 * What an engine never asks of a bench: the host's callbacks that end the program, since what was
 * measured means nothing then. alone_send is for benches of one worker.
 */
#ifndef TAILRACE_BENCH_ALONE_H
#define TAILRACE_BENCH_ALONE_H

#include "core/engine/engine.h"

#include <stdio.h>

static inline void alone_send(void *ctx, uint32_t dest, const void *payload, size_t len)
{
    UNREACHABLE(); /* one worker */
}

static inline void alone_peek_done(void *ctx, uint64_t peek_id, const struct batch *rows,
                                   err_t err)
{
    UNREACHABLE(); /* nobody peeks */
}

static inline void alone_failed(void *ctx, uint64_t dataflow_id, err_t err)
{
    fprintf(stderr, "the dataflow failed: %s\n", err_text(err));
    UNREACHABLE();
}

#endif
