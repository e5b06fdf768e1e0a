/*
 * The state of groups that are words (op_reduce_flat.c): what each aggregate keeps of a group, how
 * rows change it, what it shows. Aggregates of the same argument and filter share what they keep:
 * min and max one ordered set, sum and avg one sum, counts of distinct values one table.
 *
 *   group    rows, serial number (if values are counted once), then the states
 *   image    rows, then what each state shows, and whether some value was retracted more often than
 *            inserted (if sets say so): a group's output is a function of it
 *
 * Both are arrays of words and may be moved. Sets and sums are exact under retraction like those of
 * reduce_state.h, and mean the same.
 */
#ifndef TAILRACE_CORE_ENGINE_FLAT_STATE_H
#define TAILRACE_CORE_ENGINE_FLAT_STATE_H

#include "core/engine/cells.h"
#include "core/engine/dict.h"
#include "core/engine/reduce_state.h"

enum {
    FLAT_ROWS = 64, /* cells of so many rows stay in the first-level cache until they are used */
    FLAT_AGGS_MAX = 24,
    FLAT_ROW_COUNT = 0, /* in group and image */
    FLAT_SERIAL = 1,    /* in the group */
};

enum flat_kind {
    FLAT_COUNT,    /* group: n;                       image: n */
    FLAT_SUM,      /* group: low, high, n;            image: the same */
    FLAT_RANGE,    /* group: struct wset;             image: any, least, greatest */
    FLAT_STRINGS,  /* group: struct oset;             image: any, their numbers in the dict */
    FLAT_DISTINCT, /* group: values, negative values; image: values */
};

/* One thing that is kept. */
struct flat_state {
    enum flat_kind kind;
    bool has_arg, has_filter;
    bool least, greatest; /* FLAT_RANGE, FLAT_STRINGS: which of them somebody wants */
    uint8_t arg_kind;
    uint32_t arg, filter; /* input columns */
    uint32_t at;          /* in the group */
    uint32_t shown;       /* in the image */
    uint32_t members, slot; /* FLAT_DISTINCT: which table, and which of its counts */
};

/* The values of one column that are counted once: (serial number, value) -> a count a state. */
struct flat_members {
    uint32_t arg; /* input column */
    uint8_t kind;
    uint32_t states[FLAT_AGGS_MAX]; /* whose counts, slot by slot */
    uint32_t slots;
    struct cells table;
};

struct flat_layout {
    const struct plan_agg *aggs; /* the plan's */
    uint32_t aggs_len;
    uint32_t agg_state[FLAT_AGGS_MAX]; /* which state an aggregate shows; FLAT_AGGS_MAX: rows */
    uint32_t agg_shown[FLAT_AGGS_MAX]; /* where in the image */
    bool plain; /* every aggregate is a word of the image as it stands: flat_result is not needed */
    struct flat_state states[FLAT_AGGS_MAX];
    uint32_t states_len;
    struct flat_members members[FLAT_AGGS_MAX];
    uint32_t members_len;
    uint32_t states_at;   /* in the group: behind its head */
    uint32_t negative_at; /* in the image; 0: there are no sets, no value can be negative alone */
    bool strings;         /* images hold strings */
    uint32_t group_words, image_words;
    uint64_t serial;   /* the last one given out */
    struct pool *pool; /* of the sets; the operator's, as dict */
    struct dict *dict;
    struct buf value;  /* scratch */
};

/* Rows of one time at hand, each with its group. */
struct flat_rows {
    const struct batch *batch;
    const uint32_t *rows;
    uint32_t len;
    uint64_t *groups[FLAT_ROWS];
};

bool flat_agg_fits(const struct plan_agg *agg, const uint8_t *input_kinds);
/* kinds: of the input. Everything but the scratch is in the account. */
void flat_layout_init(struct flat_layout *layout, const struct plan_agg *aggs, uint32_t aggs_len,
                      const uint8_t *kinds, struct pool *pool, struct dict *dict,
                      struct account *account);
/* pool and dict are cleared by their owner, and with them what groups hold. */
void flat_layout_free(struct flat_layout *layout);

/* A new group's words are zero; this makes them a group. Serial numbers are never used again. */
static inline void flat_group_init(struct flat_layout *layout, uint64_t *group)
{
    if (layout->members_len > 0) {
        group[FLAT_SERIAL] = ++layout->serial;
    }
}
void flat_update(struct flat_layout *layout, const struct flat_rows *rows);
/* Nothing is left of any row: the group can go, and holds no memory. */
static inline bool flat_group_is_empty(const struct flat_layout *layout, const uint64_t *group)
{
    uint64_t any = group[FLAT_ROW_COUNT];
    for (uint32_t w = layout->states_at; w < layout->group_words; w++) {
        any |= group[w];
    }
    return any == 0;
}
static inline bool flat_is_negative(const struct flat_layout *layout, const uint64_t *image)
{
    return layout->negative_at != 0 && image[layout->negative_at] != 0;
}
/* Holds the strings it shows. */
void flat_image(struct flat_layout *layout, const uint64_t *group, uint64_t *image);
void flat_image_release(struct flat_layout *layout, const uint64_t *image);
/* Would equal outputs follow from both? Aggregates may still be equal where this is false. */
bool flat_image_same(const struct flat_layout *layout, const uint64_t *a, const uint64_t *b);
/*
 * The aggregates of a group that has rows and is not negative; a string is its number in d->i.
 * False: an error, *sqlstate and *message say which.
 */
bool flat_result(const struct flat_layout *layout, const uint64_t *image, struct datum *out,
                 const char **sqlstate, const char **message);

#endif
