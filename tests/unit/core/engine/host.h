/*
 * A replica of engines in one process: FIFO queues between each pair of workers, delivered in
 * random interleaving, and everything the host table reports collected for comparison.
 */
#ifndef TAILRACE_TESTS_UNIT_CORE_ENGINE_HOST_H
#define TAILRACE_TESTS_UNIT_CORE_ENGINE_HOST_H

#include "core/engine/engine.h"

enum { WORKERS_MAX = 4, EXPORTS_MAX = 32 };

/* splitmix64 */
struct rng {
    uint64_t state;
};
uint64_t rng_next(struct rng *rng);
uint64_t rng_below(struct rng *rng, uint64_t n);

struct packet {
    void *data;
    size_t len;
};

struct lane {
    struct packet *packets;
    size_t packets_len, packets_cap, first;
};

/* What one export put out on one worker. */
struct output {
    uint64_t export_id;
    uint64_t frontier;   /* reported */
    bool follows;        /* its inputs, it was said since */
    uint64_t upper;      /* of the subscribe calls */
    uint64_t last;       /* latest time of any row */
    uint64_t calls;
    struct batch_builder *ok, *err; /* all updates */
};

struct peek_result {
    uint64_t id;
    uint32_t answers;      /* one per worker */
    struct batch_builder *rows;
    char *error;           /* first one */
    char sqlstate[6];
    enum err_code code;
};

struct worker {
    struct replica *replica;
    uint32_t index;
    struct engine *engine;
    struct lane in[WORKERS_MAX]; /* by sender */
    struct output outputs[EXPORTS_MAX];
    uint32_t outputs_len;
    uint32_t restarts; /* told by the engine */
};

struct replica {
    uint32_t workers;
    struct worker worker[WORKERS_MAX];
    struct rng rng;
    struct peek_result *peeks;
    size_t peeks_len, peeks_cap;
    char *failed;     /* text of the last dataflow failure */
    uint32_t failures;
    uint64_t packets, packet_bytes;
    uint64_t built; /* packets that the engine built in place */
    /* NULL, or called when a dataflow begins anew on a worker. */
    void (*restarted)(void *arg, uint32_t worker, uint64_t dataflow_id);
    void *restarted_arg;
    const uint8_t *kinds[EXPORTS_MAX]; /* by export id */
    uint32_t cols[EXPORTS_MAX];
};

struct replica *replica_new(uint32_t workers, uint64_t seed, uint64_t memory_limit);
void replica_free(struct replica *r);
/* Creates on every worker, in a random order with deliveries in between. make is called once per
 * worker. parts as for engine_create, worker by worker. Returns the first error. */
err_t replica_create(struct replica *r, struct plan *(*make)(void *arg), void *arg,
                     uint32_t (*parts)(void *arg, uint32_t worker, uint32_t source),
                     uint32_t sources);
void replica_drop(struct replica *r, uint64_t dataflow_id);
/* n random acts: a step of a worker or a delivery. */
void replica_stir(struct replica *r, uint32_t n);
/* Until nothing is left to do. */
void replica_settle(struct replica *r);
void replica_register(struct replica *r, uint64_t export_id, const uint8_t *kinds, uint32_t cols);
/* The least frontier reported by all workers. */
uint64_t replica_frontier(const struct replica *r, uint64_t export_id);
/* Accumulated output of a subscribe export at a time, consolidated, as a new builder. */
struct batch_builder *replica_output(struct replica *r, uint64_t export_id, uint64_t time,
                                     bool err, const uint8_t *kinds, uint32_t cols);
struct peek_result *replica_peek(struct replica *r, const struct engine_peek *peek,
                                 const uint8_t *kinds, uint32_t cols);
void replica_clear_output(struct replica *r);

/* A builder's content as a batch; the builder is kept. */
struct view {
    struct batch batch;
    struct batch_col *cols;
    void *data;
};
struct view view_of(struct batch_builder *b, uint32_t cols);
void view_free(struct view *view);
/* Same multiset of rows, times ignored. */
bool same_rows(struct batch_builder *a, struct batch_builder *b, const uint8_t *kinds,
               uint32_t cols);
void print_rows(const char *what, struct batch_builder *b, const uint8_t *kinds, uint32_t cols);

#endif
