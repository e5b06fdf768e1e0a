/*
 * Live counters of one process in a mapped file, which a tool can print while the process runs, or
 * after it died: what each session, subscription and loop does right now. After Aeron's counters
 * file (aeron_counters_manager). Metrics (metrics.h) are few and stay; counters are many and come
 * and go with what they count.
 *
 * A slot is two cache lines: what it counts (a type, and up to three numbers that name it) and up
 * to twelve values. One thread writes a slot's values, with relaxed stores, no lock, no system
 * call; anybody may read them at any time, from any process.
 *
 * Opening and closing take a lock: they belong to set-up. A full file costs nobody anything: the
 * slot handed out then is one that is not shown, and the header counts those.
 */
#ifndef TAILRACE_CORE_BASE_COUNTERS_H
#define TAILRACE_CORE_BASE_COUNTERS_H

#include "core/base/buf.h"
#include "core/base/err.h"

#include <stdatomic.h>
#include <stdbool.h>

enum { COUNTERS_IDS = 3, COUNTERS_VALUES = 12, COUNTERS_NAME_MAX = 24, COUNTERS_TYPES_MAX = 16 };

/* What a kind of slot counts. Static: compared by address. Names are at most COUNTERS_NAME_MAX - 1
 * bytes of [a-z0-9_]; an unused one is NULL, as are all after it. */
struct counters_type {
    const char *name;
    const char *ids[COUNTERS_IDS];
    const char *values[COUNTERS_VALUES];
    uint32_t gauges; /* bit i: value i may go down (for what is shown to Prometheus) */
};

/* 128 bytes in the file. */
struct counters_slot {
    _Atomic uint32_t version; /* odd while it is open; grows */
    _Atomic uint32_t type;    /* index in the file's table */
    _Atomic uint64_t ids[COUNTERS_IDS];
    _Atomic uint64_t values[COUNTERS_VALUES];
};

struct counters;

/* A file at path with room for so many slots (sparse: a page is used when its slots are), replacing
 * what is there; path NULL: private memory, in the simulator and in tests. */
err_t counters_new(const char *path, uint32_t slots, struct counters **out);
/* Unmaps; the file stays and says that the process has ended in order. NULL is allowed. */
void counters_free(struct counters *counters);

/* A slot with all values 0; never NULL. counters may be NULL: then nobody sees it. Any thread. */
struct counters_slot *counters_open(struct counters *counters, const struct counters_type *type,
                                    const uint64_t ids[COUNTERS_IDS]);
/* The slot is not the caller's any more. Any thread. */
void counters_close(struct counters *counters, struct counters_slot *slot);
/* Appends what is open in Prometheus' text format, tailrace_<type>_<value>; at most max slots of a
 * type, and says how many were left out. Any thread. */
void counters_expose(struct counters *counters, size_t max, struct buf *out);

/* The writer's thread. Relaxed throughout: a value orders nothing. */
static inline void counters_add(struct counters_slot *slot, int value, uint64_t n)
{
    _Atomic uint64_t *at = &slot->values[value];
    /* One writer, so no read-modify-write is needed. */
    atomic_store_explicit(at, atomic_load_explicit(at, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline void counters_set(struct counters_slot *slot, int value, uint64_t n)
{
    atomic_store_explicit(&slot->values[value], n, memory_order_relaxed);
}

/* ---- reading another process' file ----------------------------------------------------------- */

struct counters_view;

/* Maps a file read-only. Everything in it is checked: ERR_INVALID when it is not such a file. */
err_t counters_view_open(const char *path, struct counters_view **out);
void counters_view_close(struct counters_view *view);

/* Of the process that wrote it. */
struct counters_owner {
    uint64_t pid;
    uint64_t started_us; /* since the Unix epoch */
    uint64_t refused;    /* slots asked for when it was full */
    bool ended;          /* in order; a killed process leaves false */
    bool alive;          /* a process of that number runs here */
};
struct counters_owner counters_view_owner(const struct counters_view *view);

/* A copy of a slot, taken while it was open; names belong to the view. */
struct counters_reading {
    const char *type;
    const char *id_names[COUNTERS_IDS];
    const char *value_names[COUNTERS_VALUES];
    uint64_t ids[COUNTERS_IDS];
    uint64_t values[COUNTERS_VALUES];
    uint32_t gauges;
    uint32_t slot; /* its place in the file: the same as long as it is open */
};
/* The next open slot at or after *at, which is moved behind it; false at the end. */
bool counters_view_next(const struct counters_view *view, uint32_t *at,
                        struct counters_reading *out);

/* ---- reading the own process' ---------------------------------------------------------------- */

/* Slots that were ever open: where a walk ends. Any thread; 0 when counters is NULL. */
uint32_t counters_used(const struct counters *counters);
/* As counters_view_next, but no further than end <= counters_used: a walk over a large file is made
 * in pieces, so that it holds up no loop. Names live as long as counters. Any thread. */
bool counters_next(const struct counters *counters, uint32_t *at, uint32_t end,
                   struct counters_reading *out);

#endif
