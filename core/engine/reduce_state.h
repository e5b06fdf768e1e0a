/*
 * The state of one group of a reduce: accumulators that can be changed in both directions and read
 * at any moment. The layout of a group is computed once per operator.
 */
#ifndef TAILRACE_CORE_ENGINE_REDUCE_STATE_H
#define TAILRACE_CORE_ENGINE_REDUCE_STATE_H

#include "core/engine/engine_internal.h"
#include "core/engine/oset.h"
#include "core/engine/htable.h"

enum acc_kind {
    ACC_NONE,     /* count(*): the group's count */
    ACC_COUNT,    /* int64_t */
    ACC_INT,      /* struct acc_int */
    ACC_EXACT,    /* struct acc_sum: numeric and floats */
    ACC_INTERVAL, /* struct acc_interval */
    ACC_BOOL,     /* struct acc_bool */
    ACC_ORDER,    /* struct oset: min, max */
    ACC_COLLATE,  /* struct oset: string_agg and its like */
    ACC_BITS,     /* struct acc_bits */
    ACC_SQUARE,   /* struct acc_square */
};

/* Where one aggregate's state lies within a group, and how it is kept. */
struct agg_layout {
    const struct plan_agg *agg;
    uint8_t arg_kind; /* 0: none */
    enum acc_kind acc;
    uint32_t at;      /* of the accumulator in the group */
    bool distinct;
    uint32_t set_at;  /* distinct: struct oset of the values that count once */
};

/* The head of a group; accumulators follow. */
struct group {
    int64_t count;    /* rows, net */
    uint32_t touched; /* 1 + its number among those changed at this time; 0: not changed */
    uint32_t pad;
    struct oset forms; /* of the key, when equal keys may look different (1.0 and 1.00) */
};

/* The same for all groups of an operator; fixed when it is made. */
struct reduce_layout {
    struct agg_layout *aggs;
    uint32_t aggs_len;
    uint32_t size; /* of a group */
    bool forms;    /* groups keep the forms of their key */
};

/* What a group contributes to the output. */
enum group_output { GROUP_NOTHING, GROUP_ROW, GROUP_ERROR };

/* input_kinds: of the operator's input; key_kinds: of its first key_len output columns. */
void reduce_layout_init(struct reduce_layout *layout, const struct plan_agg *aggs,
                        uint32_t aggs_len, const uint8_t *input_kinds, const uint8_t *key_kinds,
                        uint32_t key_len);
void reduce_layout_free(struct reduce_layout *layout);

/* Buffers reused from row to row; owned by the operator. */
struct reduce_scratch {
    struct buf value; /* sort bytes and data of the value at hand */
    struct buf before;
};

/* Adds diff copies of a row. The caller keeps count and forms. */
void reduce_update(const struct reduce_layout *layout, struct group *group, struct pool *pool,
                   const struct batch *b, uint32_t row, int64_t diff,
                   struct reduce_scratch *scratch);
/* Nothing is left of any row: the group can go. */
bool reduce_is_empty(const struct reduce_layout *layout, const struct group *group);
/* More was retracted than inserted: the group has no meaning, and says so. */
bool reduce_is_negative(const struct reduce_layout *layout, const struct group *group);
#define REDUCE_NEGATIVE "invalid data: a row was retracted more often than inserted"
/* Appends the aggregates as encoded columns; false: an error, *sqlstate and *message say which. */
bool reduce_result(const struct reduce_layout *layout, const struct group *group, struct buf *out,
                   const char **sqlstate, const char **message);
/* The sum or average of n integers; NULL of none. False as reduce_result. */
bool reduce_int_sum(const struct plan_agg *agg, __int128 sum, int64_t n, struct datum *out,
                    const char **sqlstate, const char **message);

#endif
