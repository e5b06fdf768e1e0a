/*
 * Distances from the nodes 0 to 7, kept up to date by hand: the loop for workload w4. Fit for
 * increments: an insertion spreads what becomes nearer, a removal finds what has lost its support
 * and reaches it again from the rest (Ramalingam and Reps, 1996). One thread.
 */
#ifndef TAILRACE_BENCH_BFS_H
#define TAILRACE_BENCH_BFS_H

#include "bench/workload.h"

enum { BFS_ROOTS = 8 };

struct bfs;

struct bfs *bfs_new(void);
void bfs_free(struct bfs *bfs);
/* One round: edges come and go (key: from, value: to), then the nodes that changed are put out. */
void bfs_run(struct bfs *bfs, const struct update *updates, size_t len, struct outcome *outcome);
uint64_t bfs_memory(const struct bfs *bfs);

#endif
