/*
 * Window functions over one partition: the value of each function for a row at a position, and
 * which rows a change of another row may concern. The partition's rows stand in a wtree; beside it,
 * where groups of peers are counted, a second one has an element for each group.
 */
#ifndef TAILRACE_CORE_ENGINE_WINDOW_H
#define TAILRACE_CORE_ENGINE_WINDOW_H

#include "core/engine/wtree.h"

/* What an operator knows of its functions; fixed when it is made. */
struct window {
    const struct plan_node *node;
    struct wtree_shape rows;   /* with the aggregates */
    struct wtree_shape plain;  /* without: groups, changes */
    struct wacc_spec *aggs;
    uint32_t *agg_of;          /* per call: its aggregate */
    uint32_t *offsets;         /* acc_at and value_at */
    bool groups;               /* some function counts groups */
    bool shifts;               /* one depends on how many rows come before */
    bool dense;                /* or how many groups */
    bool total;                /* or how many rows there are */
    bool peers;                /* or where its peers begin and end */
    bool by_position;          /* copies of one row may have different values */
    struct datum *values;      /* per call: of the row at hand */
    struct buf scratch;
};

/*
 * The trees of one partition. While there are more copies than positions (wtree_is_over) rows come
 * and go, but there are no values.
 */
struct window_part {
    struct wtree rows;
    struct wtree groups; /* sort bytes, with the copies of all peers */
};

/* kinds: of the input; they and the node must outlive it. */
void window_init(struct window *w, const struct plan_node *node, const uint8_t *kinds,
                 uint32_t cols);
void window_free(struct window *w);

/* diff copies of a row; returns by how many its copies grew. */
int64_t window_apply(struct window *w, struct window_part *part, struct pool *pool,
                     struct wkey row, int64_t diff);

/*
 * Positions [from, to) of the rows whose values a change of this row may concern, but for those
 * that shift (struct window), in the partition as it is: before the change or after it.
 */
struct window_span {
    int64_t from, to;
};
struct window_span window_affected(struct window *w, const struct window_part *part,
                                   struct wkey row);

/* What is remembered from one row to the next while a partition stays as it is; zero at first. */
struct window_peers {
    const struct wnode *of;
    int64_t from, to; /* positions */
    int64_t group;    /* its number, when groups are counted */
};

/*
 * Leaves the functions' values for the row at a position in w->values; strings in there point into
 * the partition. False: an error instead.
 */
bool window_values(struct window *w, const struct window_part *part, const struct wnode *node,
                   int64_t position, struct window_peers *peers, const char **sqlstate,
                   const char **message);

#endif
