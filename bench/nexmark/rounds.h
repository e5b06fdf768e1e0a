/*
 * The stream as the engine gets it: columns of each table, made before any clock starts. A round is
 * so many events in a row, and one time.
 */
#ifndef TAILRACE_BENCH_NEXMARK_ROUNDS_H
#define TAILRACE_BENCH_NEXMARK_ROUNDS_H

#include "bench/nexmark/queries.h"
#include "bench/nexmark/stream.h"
#include "core/data/batch.h"

enum { NEXMARK_COLS_MAX = 10 }; /* of a table */

/* A batch with its memory; rows 0: data is NULL. */
struct nexmark_batch {
    void *data;
    struct batch view;
    struct batch_col cols[NEXMARK_COLS_MAX];
};

struct nexmark_rounds {
    uint64_t events;
    uint64_t per_round; /* the last one may have fewer */
    size_t len;
    struct nexmark_batch (*batches)[NEXMARK_TABLES]; /* [len]; of all updates time is the round */
};

/* Events 0 to events - 1; the side table is in the first round. Free with nexmark_rounds_free. */
struct nexmark_rounds *nexmark_rounds_new(const struct nexmark *nexmark, uint64_t events,
                                          uint64_t per_round);
void nexmark_rounds_free(struct nexmark_rounds *rounds);

#endif
