/*
 * The workloads and their known answers. See workload.h.
 *
 * Expected outcomes are updates put out, the sum of their signs, and the sum of their hashes times
 * their signs, all of which depend on the set of updates alone: any implementation may put them
 * out in any order, and its mistakes do not cancel out. They were computed by a program that
 * shares nothing with this one.
 *
 * Scaling divides keys and rounds (or the one round's rows), which keeps the ratio of rows to
 * keys: the shape of the work is that of the whole.
 */
#include "bench/workload.h"

#include "core/base/assert.h"
#include "core/base/hash.h"

/* A pair is two updates. */
#define PAIRS                                                                                      \
    {"pairs of 1", 100000, 2, false, {0}}, {"pairs of 10", 20000, 20, false, {0}},                 \
        {"pairs of 100", 5000, 200, false, {0}}, {"pairs of 1k", 500, 2000, false, {0}},           \
        {"pairs of 10k", 100, 20000, false, {0}}, {"pairs of 100k", 20, 200000, false, {0}},       \
        {"pairs of 1M", 5, 2000000, false, {0}}

const struct workload workloads[] = {
    {"w1 count", "w1", WORKLOAD_COUNT, 1000000, {1}, 4,
     {{"load 10k", 1000, 10000, true, {18900375, 999963, 0xf17737262818b7e9ULL}},
      {"rounds of 1", 100000, 1, false, {0}},
      {"rounds of 100", 10000, 100, false, {0}},
      {"rounds of 10k", 100, 10000, true, {23085277, 999951, 0x648bee1092356958ULL}}}, false},
    /* The last: 3,214,018 when pairs that come and go within a round are not cancelled. */
    {"w2 join", "w2", WORKLOAD_JOIN, 1000000, {2, 3}, 4,
     {{"load 2M", 1, 2000000, true, {1001134, 1001134, 0xfd583b2dd6127243ULL}},
      {"rounds of 100k", 20, 100000, false, {0}},
      {"rounds of 100", 2000, 100, false, {0}},
      {"rounds of 1", 10000, 1, true, {3189226, 999952, 0xe0dc9519affc2a90ULL}}}, false},
    {"w3a distinct", "w3a", WORKLOAD_DISTINCT, 5000000, {4}, 1,
     {{"one round", 1, 10000000, true, {4323320, 4323320, 0x5465f72061dd5a3eULL}}}, false},
    {"w3a distinct", "w3a", WORKLOAD_DISTINCT, 5000000, {4}, 1,
     {{"rounds of 100k", 100, 100000, true, {4323320, 4323320, 0x5465f72061dd5a3eULL}}}, false},
    {"w3b consolidate", "w3b", WORKLOAD_CONSOLIDATE, 1000000, {4}, 1,
     {{"one round", 1, 10000000, true, {872265, -3092, 0x7375c406e777ce30ULL}}}, false},
    {"w3b consolidate", "w3b", WORKLOAD_CONSOLIDATE, 1000000, {4}, 1,
     {{"rounds of 100k", 100, 100000, true, {9288925, -3092, 0x7375c406e777ce30ULL}}}, false},
    {"degrees 1M/5M", "degrees", WORKLOAD_COUNT, 1000000, {6}, 8,
     {{"load 1M", 5, 1000000, false, {0}}, PAIRS}, false},
    {"distribution 10M/50M", "distribution", WORKLOAD_DISTRIBUTION, 10000000, {6}, 8,
     {{"load 1M", 50, 1000000, false, {0}}, PAIRS}, false},
    {"w4 distances", "w4", WORKLOAD_BFS, 100000, {5}, 4,
     {{"load 200k", 1, 200000, true, {79746, 79746, 0x6a2069899f3e847cULL}},
      {"rounds of 1", 1000, 1, false, {0}},
      {"rounds of 10", 100, 10, false, {0}},
      {"rounds of 100", 10, 100, true, {114785, 79675, 0x587bbe5473d5af40ULL}}}, false},
    {"w4l distances", "w4l", WORKLOAD_BFS, 1000000, {5}, 4,
     {{"load 2M", 1, 2000000, true, {797045, 797045, 0x3dcaeda6446c2c6aULL}},
      {"rounds of 1", 1000, 1, false, {0}},
      {"rounds of 10", 100, 10, false, {0}},
      {"rounds of 100", 10, 100, true, {820219, 797091, 0xe82fb0ffef9f221cULL}}}, false},
    {"join of zipf keys", "join-zipf", WORKLOAD_JOIN, 1000000, {2, 3}, 5,
     {{"load 2M", 1, 2000000, false, {0}},
      {"rounds of 100k", 20, 100000, false, {0}},
      {"rounds of 10k", 200, 10000, false, {0}},
      {"rounds of 100", 2000, 100, false, {0}},
      {"rounds of 1", 10000, 1, false, {0}}}, true},
};
const size_t workloads_len = sizeof(workloads) / sizeof(workloads[0]);

/* At least one of everything. */
static size_t scaled(size_t n, double scale)
{
    size_t result = (size_t)((double)n * scale);
    ASSERT(scale > 0 && scale <= 1);
    return result > 0 ? result : 1;
}

struct workload workload_scaled(const struct workload *workload, double scale)
{
    ASSERT(scale > 0 && scale <= 1);
    struct workload result = *workload;
    result.keys = scaled(workload->keys, scale);
    for (size_t i = 0; i < result.phases_len; i++) {
        struct phase *phase = &result.phases[i];
        if (phase->rounds == 1) {
            phase->per_round = scaled(phase->per_round, scale);
        } else {
            phase->rounds = scaled(phase->rounds, scale);
        }
        phase->checked &= scale == 1;
    }
    return result;
}

/* splitmix64 */
static uint64_t draw(struct stream *stream)
{
    stream->state += 0x9E3779B97F4A7C15ULL;
    return hash_u64(stream->state);
}

/* Lemire's multiplication: no division, and a bias far below what a checksum could see. */
static uint64_t draw_below(struct stream *stream, uint64_t n)
{
    ASSERT(n > 0);
    return (uint64_t)(((unsigned __int128)draw(stream) * n) >> 64);
}

/* A key of rank r comes with a probability of 1 / sqrt(r), up to a factor: the square of a uniform
 * number, by the same multiplication. */
static uint64_t draw_key(struct stream *stream, const struct workload *workload)
{
    if (!workload->skewed) {
        return draw_below(stream, workload->keys);
    }
    uint64_t u = draw(stream);
    uint64_t square = (uint64_t)(((unsigned __int128)u * u) >> 64);
    return (uint64_t)(((unsigned __int128)square * workload->keys) >> 64);
}

/* The oldest row is found again by drawing the same numbers a second time: no list of what was
 * inserted is kept. */
void generator_init(struct generator *generator, const struct workload *workload)
{
    ASSERT(workload->keys > 0);
    *generator = (struct generator){.workload = workload};
    for (int side = 0; side < 2; side++) {
        generator->next[side].state = workload->seeds[side];
        generator->oldest[side].state = workload->seeds[side];
    }
}

/* While loading: insertions, on both sides in turn. Then: insertion, retraction of the oldest. */
static void insert_and_retract(struct generator *generator, bool load, struct update *out)
{
    bool join = generator->workload->kind == WORKLOAD_JOIN;
    uint64_t turn = load ? generator->loaded++ : generator->turn++;
    bool insert = load || turn % 2 == 0;
    out->side = !join ? 0 : load ? turn % 2 : turn % 4 / 2;
    out->diff = insert ? 1 : -1;
    struct stream *stream = insert ? &generator->next[out->side] : &generator->oldest[out->side];
    out->key = draw_key(stream, generator->workload);
    bool edge = generator->workload->kind == WORKLOAD_BFS;
    out->value = edge ? draw_below(stream, generator->workload->keys) : stream->number++;
}

void generator_next(struct generator *generator, bool load, struct update *out)
{
    ASSERT(generator->workload != NULL);
    *out = (struct update){.diff = 1};
    switch (generator->workload->kind) {
    case WORKLOAD_COUNT:
    case WORKLOAD_DISTRIBUTION:
    case WORKLOAD_JOIN:
    case WORKLOAD_BFS:
        insert_and_retract(generator, load, out);
        break;
    case WORKLOAD_DISTINCT:
        out->key = draw_below(&generator->next[0], generator->workload->keys);
        break;
    case WORKLOAD_CONSOLIDATE:
        out->key = draw_below(&generator->next[0], generator->workload->keys);
        out->diff = (draw(&generator->next[0]) & 1) != 0 ? -1 : 1;
        break;
    }
}

uint64_t workload_hash(const uint64_t *record, size_t n)
{
    ASSERT(n > 0);
    if (n == 1) {
        return hash_u64(record[0]);
    }
    uint64_t hash = hash_combine(record[0], record[1]);
    for (size_t i = 2; i < n; i++) {
        hash = hash_u64(hash + record[i]);
    }
    return hash;
}
