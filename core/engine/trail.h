/*
 * Trails: the rows of one key by iteration, rows x (iteration, diff); what operators of a recursion
 * keep (iterate.h). The sum of a trail through i is what its key has at iteration i.
 *
 * A trail is one word, so that it lies in the cell of its key:
 *
 *   0            no entry
 *   odd          one narrow entry, the word itself
 *   .. 00        address of narrow entries in order, each combination once
 *   .. 10        address of wide entries
 *
 * A narrow entry is a word: a value of at most one word that fits 33 bits, no NULLs, an iteration
 * below 2^20 and a small diff; which is what most keys have, and few of. A trail with anything
 * else, or with more than TRAIL_NARROW_MAX entries, is wide until nothing is left of it.
 *
 * One thread: the engine's.
 */
#ifndef TAILRACE_CORE_ENGINE_TRAIL_H
#define TAILRACE_CORE_ENGINE_TRAIL_H

#include "core/engine/cells.h"

struct interns;

enum {
    TRAIL_NARROW_MAX = 255,
    TRAIL_DIFF_BITS = 10,      /* signed */
    TRAIL_ITERATION_BITS = 20,
    TRAIL_VALUE_SHIFT = 1 + TRAIL_DIFF_BITS + TRAIL_ITERATION_BITS,
};

struct trail {
    uint64_t word;
};

/* In the order of their words. */
struct trail_narrow {
    uint32_t len, cap;
    uint64_t entry[];
};

/*
 * Entries of 2 + words words: nulls << 32 | iteration, diff, values. The first `sorted` are in
 * order, each combination once; those behind came later. The order is that of their values, NULLs
 * and iterations; of a trail with nets that of their iterations first, and those behind are in the
 * order of their iterations too.
 */
struct trail_wide {
    uint32_t len, cap, sorted, pad;
    int64_t net; /* sum of all diffs, modulo 2^64 */
    struct trail_nets *nets; /* of a long one whose sums were asked for */
    uint64_t row[];
};

/*
 * What the values of a long trail come to through one iteration. To ask for the next iteration then
 * costs what lies between the two and how many values there are, not how many entries: a key that
 * changes at each of n iterations is not gone through n times.
 */
struct trail_nets {
    uint32_t through;       /* the iteration */
    uint32_t sorted, fresh; /* entries that count: of the sorted ones, of those behind */
    uint32_t len, cap;
    uint32_t pad;
    uint64_t row[];         /* like entries of iteration 0, in order; no diff is 0 */
};

/* What the trails of one kind have in common. */
struct trail_form {
    uint32_t words;          /* of values */
    struct interns *interns; /* of the first value; NULL: none */
    struct pool *pool;
    uint64_t *len;           /* entries of all, for statistics */
};

/* An entry that is looked at. */
struct trail_entry {
    uint32_t iteration, nulls;
    int64_t diff;
    const uint64_t *values; /* valid until the trail changes; of a narrow one, as long as this */
    uint64_t value;         /* of a narrow one */
};

/* All diffs are sums modulo 2^64. */
static inline int64_t trail_plus(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

/* Of INT64_MIN, which has no opposite: itself. */
static inline int64_t trail_minus(int64_t diff)
{
    return (int64_t)(0 - (uint64_t)diff);
}

/* How many rows a diff says have come or gone. */
static inline uint64_t trail_size(int64_t diff)
{
    return diff < 0 ? 0 - (uint64_t)diff : (uint64_t)diff;
}

static inline bool trail_is_empty(struct trail trail)
{
    return trail.word == 0;
}
static inline bool trail_is_wide(struct trail trail)
{
    return (trail.word & 3) == 2;
}
static inline struct trail_wide *trail_wide(struct trail trail)
{
    ASSERT(trail_is_wide(trail));
    return (struct trail_wide *)(uintptr_t)(trail.word - 2);
}
static inline struct trail_narrow *trail_list(struct trail trail)
{
    ASSERT((trail.word & 3) == 0 && trail.word != 0);
    return (struct trail_narrow *)(uintptr_t)trail.word;
}
/* Starts loading what a trail refers to. */
static inline void trail_load(struct trail trail)
{
    if (trail.word % 2 == 0) {
        __builtin_prefetch((const void *)(uintptr_t)trail.word);
    }
}

/* The narrow entries; one may lie in the trail itself. */
static inline const uint64_t *trail_narrow(const struct trail *trail, uint32_t *len)
{
    ASSERT(!trail_is_wide(*trail));
    if (trail->word % 2 == 1) {
        *len = 1;
        return &trail->word;
    }
    const struct trail_narrow *list = trail->word != 0 ? trail_list(*trail) : NULL;
    *len = list != NULL ? list->len : 0;
    return list != NULL ? list->entry : NULL;
}

static inline uint32_t trail_len(struct trail trail)
{
    if (trail.word % 2 == 1) {
        return 1;
    }
    if (trail_is_empty(trail)) {
        return 0;
    }
    return trail_is_wide(trail) ? trail_wide(trail)->len : trail_list(trail)->len;
}

static inline uint64_t trail_narrow_value(uint64_t entry)
{
    return (uint64_t)((int64_t)entry >> TRAIL_VALUE_SHIFT);
}
static inline uint32_t trail_narrow_iteration(uint64_t entry)
{
    return (uint32_t)(entry >> (1 + TRAIL_DIFF_BITS)) & ((1u << TRAIL_ITERATION_BITS) - 1);
}
static inline int64_t trail_narrow_diff(uint64_t entry)
{
    return (int64_t)(entry << (63 - TRAIL_DIFF_BITS)) >> (64 - TRAIL_DIFF_BITS);
}

/* The next value of narrow entries, and the sum of its diffs through an iteration; *next: the least
 * later one so far. */
static inline int64_t trail_narrow_next(const uint64_t *entries, uint32_t len, uint32_t *at,
                                        uint32_t iteration, uint32_t *next, uint64_t *value)
{
    int64_t sum = 0;
    ASSERT(*at < len);
    *value = trail_narrow_value(entries[*at]);
    do {
        uint32_t own = trail_narrow_iteration(entries[*at]);
        sum += own <= iteration ? trail_narrow_diff(entries[*at]) : 0;
        *next = own > iteration && own < *next ? own : *next;
    } while (++*at < len && trail_narrow_value(entries[*at]) == *value);
    return sum;
}

static inline size_t trail_stride(const struct trail_form *form)
{
    return 2 + form->words;
}

static inline void trail_at(const struct trail_form *form, const struct trail *trail, uint32_t i,
                            struct trail_entry *out)
{
    if (trail_is_wide(*trail)) {
        const struct trail_wide *wide = trail_wide(*trail);
        ASSERT(i < wide->len);
        const uint64_t *row = wide->row + i * trail_stride(form);
        out->iteration = (uint32_t)row[0];
        out->nulls = (uint32_t)(row[0] >> 32);
        out->diff = (int64_t)row[1];
        out->values = row + 2;
        return;
    }
    uint32_t len;
    const uint64_t *entries = trail_narrow(trail, &len);
    ASSERT(i < len);
    out->iteration = trail_narrow_iteration(entries[i]);
    out->nulls = 0;
    out->diff = trail_narrow_diff(entries[i]);
    out->value = trail_narrow_value(entries[i]);
    out->values = &out->value;
}

/* Adds to a trail; it may be empty before or after. */
void trail_add(const struct trail_form *form, struct trail *trail, uint32_t nulls,
               uint32_t iteration, int64_t diff, const uint64_t *values);
/* Everything in order, each value and iteration once. */
void trail_settle(const struct trail_form *form, struct trail *trail);

/* The values of a trail and what their diffs through an iteration come to, one after the other. */
struct trail_sums {
    const struct trail_form *form;
    const struct trail *trail;
    const struct trail_nets *nets; /* or NULL */
    uint32_t iteration;
    uint32_t at, len;
    uint32_t cost;            /* entries and values that are gone through, about */
    uint32_t next;            /* at the end: the least later iteration with an entry, UINT32_MAX */
    struct trail_entry value; /* diff: the sum, which may be 0 */
};

/* Settles the trail, which must not change until the end. */
void trail_sums(const struct trail_form *form, struct trail *trail, uint32_t iteration,
                struct trail_sums *sums);
bool trail_sums_next(struct trail_sums *sums);

/*
 * What a row of this iteration meets in a trail: rows whose entries through it are as many as they
 * come to (iteration 0 or their own), and all later entries. How many, then each of them; the trail
 * must not change in between.
 */
uint32_t trail_matches(const struct trail_form *form, struct trail *trail, uint32_t iteration);
void trail_match(const struct trail_form *form, const struct trail *trail, uint32_t i,
                 struct trail_entry *out);

/* Of trail.c and trail_sums.c. */
int trail_compare_values(const struct trail_form *form, const uint64_t *a, const uint64_t *b);
/* By iteration, then NULLs, then value; arg: the form. */
int trail_compare_long(const void *a, const void *b, void *arg);
/* Counts what came through the iteration of the nets; before entries are put in order. */
void trail_nets_count(const struct trail_form *form, struct trail_wide *wide);
/* Finds the place in the entries again, which are all in order. */
void trail_nets_settled(const struct trail_form *form, struct trail_wide *wide);
void trail_nets_free(const struct trail_form *form, struct trail_wide *wide);

/* It is empty then. */
void trail_free(const struct trail_form *form, struct trail *trail);

#endif
