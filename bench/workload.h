/*
 * The engine's workloads as streams of updates, from a seed, so that any two implementations do
 * exactly the same work and can compare what they put out. Times do not matter: a round is one
 * time.
 *
 *   w1   count per key: bulk load, then small rounds of one insertion, one retraction of the oldest
 *   w2   two-way join on the key: the same on both sides in turn
 *   w3a  distinct keys
 *   w3b  consolidation of random +1 and -1
 *   degrees       edges per node: bulk load, then pairs of an insertion and a retraction of the
 *                 oldest, 1 to 1 M of them a round
 *   distribution  how many nodes have how many edges: two counts, one behind the other
 *   w4   distances of nodes from eight of them, edge by edge: a recursion; w4l: ten times as large
 *   join-zipf     w2 with keys whose frequency falls with the root of their rank
 */
#ifndef TAILRACE_BENCH_WORKLOAD_H
#define TAILRACE_BENCH_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum workload_kind {
    WORKLOAD_COUNT,
    WORKLOAD_JOIN,
    WORKLOAD_DISTINCT,
    WORKLOAD_CONSOLIDATE,
    WORKLOAD_DISTRIBUTION,
    WORKLOAD_BFS,
};

enum { WORKLOAD_PHASES_MAX = 8 };

/* What came out so far: consolidated updates, their net multiplicity, and the sum (mod 2^64) of
 * multiplicity times the record's hash. */
struct outcome {
    uint64_t updates;
    int64_t net;
    uint64_t checksum;
};

struct phase {
    const char *name;
    size_t rounds;
    size_t per_round;
    bool checked; /* the outcome after it is known at scale 1 */
    struct outcome expected;
};

struct workload {
    const char *name;
    const char *group; /* what --workload selects */
    enum workload_kind kind;
    uint64_t keys;
    uint64_t seeds[2];
    size_t phases_len;
    struct phase phases[WORKLOAD_PHASES_MAX];
    bool skewed; /* keys */
};

extern const struct workload workloads[];
extern const size_t workloads_len;

/* The same with fewer rows, keys and rounds. */
struct workload workload_scaled(const struct workload *workload, double scale);

struct update {
    uint32_t side; /* of a join */
    uint64_t key;
    uint64_t value; /* of a join: the row's number on its side; of an edge: where it leads */
    int64_t diff;
};

struct stream {
    uint64_t state;
    uint64_t number;
};

/* The stream of one run. */
struct generator {
    const struct workload *workload;
    struct stream next[2], oldest[2];
    uint64_t turn; /* updates since the load */
    uint64_t loaded;
};

void generator_init(struct generator *generator, const struct workload *workload);
/* The next update; load: of the first phase. */
void generator_next(struct generator *generator, bool load, struct update *out);

/* Hash of an output record of n columns. */
uint64_t workload_hash(const uint64_t *record, size_t n);

static inline void outcome_add(struct outcome *outcome, uint64_t hash, int64_t diff)
{
    outcome->updates++;
    outcome->net += diff;
    outcome->checksum += (uint64_t)diff * hash;
}

#endif
