/*
 * Progress that dataflows share, and dataflows at rest: see the head of clock.c. One thread: the
 * engine's.
 */
#ifndef TAILRACE_CORE_ENGINE_CLOCK_H
#define TAILRACE_CORE_ENGINE_CLOCK_H

#include "core/engine/engine_internal.h"

/* A part of a source that follows a clock: the part-th one the source has heard of. */
struct follower {
    struct op *source;
    uint32_t part;
};

/* A time from which on a dataflow at rest has something to do. */
struct alarm {
    uint64_t time;
    uint64_t dataflow; /* id: it may be gone */
};

/* The host's, who frees it before the engine. */
struct engine_clock {
    struct engine *engine;
    uint64_t upper; /* everything below has been given */
    struct follower *followers;
    size_t followers_len, followers_cap;
    size_t awake; /* the first ones: of dataflows that are not at rest */
    struct alarm *alarms; /* a heap, the least first */
    size_t alarms_len, alarms_cap;
    size_t alarms_most; /* beyond it void ones are looked for */
};

/*
 * A part of the collection: one storage worker's share. Its updates abut: each call starts at
 * upper.
 */
struct source_part {
    uint32_t part;
    uint64_t upper; /* without a clock */
    struct engine_clock *clock; /* or NULL */
    size_t at; /* among the clock's followers */
};

/* The source's frontier is the least of its parts', once all have been heard of. */
struct source {
    uint32_t parts_expected;
    struct source_part *parts; /* heard of so far */
    size_t parts_len, parts_cap;
    bool *reads; /* a flag a column; NULL until somebody asks, when all users are there */
};

static inline uint64_t source_part_upper(const struct source_part *part)
{
    return part->clock != NULL ? part->clock->upper : part->upper;
}

/* The source's operator goes. */
void clock_leave(struct source *source);
/* Ticks reach the dataflow from now on, and it catches up. Nothing when they do already. */
void clock_wake(struct dataflow *dataflow);
/* It has nothing to do: may it rest, or must it not any more? */
void clock_settle(struct dataflow *dataflow);
/* The other worker needs it awake, or does not any more. */
void clock_wanted(struct dataflow *dataflow, uint32_t worker, bool wanted);

#endif
