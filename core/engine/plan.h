/*
 * The physical plan language: what environmentd emits and computed renders. A plan is a directed
 * acyclic graph of nodes in which inputs come before their users; everything hangs in one arena.
 * It is printed by EXPLAIN, encoded for the wire by ctrl/plan, and validated on receipt as hostile
 * input by plan_validate.
 */
#ifndef TAILRACE_CORE_ENGINE_PLAN_H
#define TAILRACE_CORE_ENGINE_PLAN_H

#include "core/data/expr.h"
#include "core/data/table_func.h"

enum { PLAN_NODES_MAX = 4096, PLAN_INPUTS_MAX = 256 };

/* Ids of collections (tables, sources, indexes, views). Transient ones have the top bit set. */
#define PLAN_ID_TRANSIENT (1ULL << 63)

/*
 * The columns of a stream. types and names hang in the plan's arena; names may be NULL, whole or
 * each.
 */
struct schema {
    uint32_t cols;
    struct type *types;
    const char **names;
};

/* The numbers are part of the wire format: never change or reuse one. */
enum plan_op {
    PLAN_SOURCE = 1, /* a storage collection: import */
    PLAN_INDEX,      /* an arrangement already on this cluster: import */
    PLAN_CONSTANT,   /* rows at the dataflow's as_of */
    PLAN_MFP,
    PLAN_UNION,      /* all inputs, same kinds */
    PLAN_NEGATE,
    PLAN_JOIN,       /* two inputs, on keys; output: left columns then right columns */
    PLAN_REDUCE,     /* output: group columns then aggregates */
    PLAN_DISTINCT,   /* multiplicity 1 where positive */
    PLAN_THRESHOLD,  /* keeps positive multiplicities */
    PLAN_TOPK,
    PLAN_WINDOW,     /* window functions; output: input columns, then one a function */
    PLAN_VARIABLE,   /* of a recursion: what its body gave in the iteration before */
    PLAN_FIXPOINT,   /* a recursion; inputs: the bodies; no columns, used by PLAN_LEAVE only */
    PLAN_LEAVE,      /* the final contents of one variable of a recursion */
    PLAN_FLAT_MAP,   /* set-returning functions; output: kept columns, then the functions' */
    PLAN_TEMPORAL,   /* rows while the time is within their bounds; output: the first columns */
    PLAN_ARRANGE,    /* its input by key, for lookups; puts out nothing itself */
    PLAN_LOOKUP,     /* inputs: rows, and where to look them up; output: columns of both */
    PLAN_OP_MAX = PLAN_LOOKUP,
};

enum plan_join_kind {
    PLAN_JOIN_INNER = 1,
    PLAN_JOIN_LEFT, /* unmatched left rows padded with NULLs */
    PLAN_JOIN_SEMI, /* left rows that have a match; output: left columns */
    PLAN_JOIN_ANTI, /* left rows that have none */
};

/*
 * One column of an order. PostgreSQL's default is NULLS LAST when ascending, FIRST when descending:
 * the planner has made that explicit.
 */
struct plan_order {
    uint32_t col;
    bool desc;
    bool nulls_first;
};

/* One aggregate of a reduce. type is that of the result, as agg_result gives it. */
struct plan_agg {
    uint8_t func; /* enum agg_func */
    bool distinct;
    bool has_filter;
    uint32_t arg;    /* input column (unused by count(*)) */
    uint32_t arg2;   /* the second one, when agg_takes_two */
    uint32_t filter; /* boolean input column, when has_filter */
    struct type type;
    /* agg_is_ordered: the order of the values, NULL by the values themselves; else none. */
    struct plan_order *order;
    uint32_t order_len;
};

/* The i-th column an aggregate reads, to be looked at or renumbered; NULL behind the last. */
static inline uint32_t *plan_agg_col(struct plan_agg *agg, uint32_t i)
{
    uint32_t *fixed[3];
    uint32_t n = 0;
    if (agg->func != AGG_COUNT_ALL) {
        fixed[n++] = &agg->arg;
    }
    if (agg_takes_two((enum agg_func)agg->func)) {
        fixed[n++] = &agg->arg2;
    }
    if (agg->has_filter) {
        fixed[n++] = &agg->filter;
    }
    return i < n ? fixed[i] : i - n < agg->order_len ? &agg->order[i - n].col : NULL;
}

/* ---- window functions ------------------------------------------------------------------------ */

/* The numbers are part of the wire format. Types of results as in PostgreSQL. */
enum plan_window_func {
    PLAN_WINDOW_ROW_NUMBER = 1,
    PLAN_WINDOW_RANK,
    PLAN_WINDOW_DENSE_RANK,
    PLAN_WINDOW_PERCENT_RANK,
    PLAN_WINDOW_CUME_DIST,
    PLAN_WINDOW_NTILE,       /* n buckets */
    PLAN_WINDOW_LAG,         /* arg of the row n before (behind when negative), or the fallback */
    PLAN_WINDOW_FIRST_VALUE, /* arg of the frame's first row, its last, its n-th */
    PLAN_WINDOW_LAST_VALUE,
    PLAN_WINDOW_NTH_VALUE,
    PLAN_WINDOW_AGG,         /* agg over the frame */
};

enum plan_frame_mode { PLAN_FRAME_ROWS = 1, PLAN_FRAME_RANGE, PLAN_FRAME_GROUPS };
enum plan_bound_kind {
    PLAN_BOUND_UNBOUNDED = 1, /* to the partition's end on this side */
    PLAN_BOUND_CURRENT,       /* the row, or with RANGE and GROUPS its peers */
    PLAN_BOUND_OFFSET,        /* ROWS, GROUPS: so many behind (negative: before) */
    PLAN_BOUND_VALUE,         /* RANGE: by the order's one column, which is compared with col */
};
enum plan_exclude {
    PLAN_EXCLUDE_NONE = 1,
    PLAN_EXCLUDE_CURRENT,
    PLAN_EXCLUDE_GROUP,
    PLAN_EXCLUDE_TIES,
};

struct plan_bound {
    uint8_t kind; /* enum plan_bound_kind */
    int64_t offset;
    uint32_t col; /* of the input; NULL where the ordered column is: the row's peers */
};

struct plan_frame {
    uint8_t mode;    /* enum plan_frame_mode */
    uint8_t exclude; /* enum plan_exclude */
    struct plan_bound start, end;
};

/* One function of a window. Which fields count follows from func; type always does. */
struct plan_window_call {
    uint8_t func;      /* enum plan_window_func */
    bool has_fallback;
    uint32_t arg;      /* columns of the input */
    uint32_t fallback;
    int64_t n;
    bool n_of_row;     /* LAG, NTH_VALUE: n (1 or -1) times column n_col, an int8 */
    uint32_t n_col;
    struct plan_agg agg; /* not distinct, not ordered */
    struct plan_frame frame; /* FIRST_VALUE and those behind it */
    struct type type;
};

static inline bool plan_window_has_frame(uint8_t func)
{
    return func >= PLAN_WINDOW_FIRST_VALUE;
}

static inline bool plan_window_has_arg(uint8_t func)
{
    return func >= PLAN_WINDOW_LAG && func <= PLAN_WINDOW_NTH_VALUE;
}

/* The i-th column a call reads, as plan_agg_col. */
static inline uint32_t *plan_window_col(struct plan_window_call *call, uint32_t i)
{
    uint32_t *fixed[5];
    uint32_t n = 0;
    if (plan_window_has_arg(call->func)) {
        fixed[n++] = &call->arg;
    }
    if (call->has_fallback) {
        fixed[n++] = &call->fallback;
    }
    if (call->n_of_row) {
        fixed[n++] = &call->n_col;
    }
    if (call->frame.start.kind == PLAN_BOUND_VALUE) {
        fixed[n++] = &call->frame.start.col;
    }
    if (call->frame.end.kind == PLAN_BOUND_VALUE) {
        fixed[n++] = &call->frame.end.col;
    }
    if (i < n) {
        return fixed[i];
    }
    return call->func == PLAN_WINDOW_AGG ? plan_agg_col(&call->agg, i - n) : NULL;
}

/* ---- flat maps ------------------------------------------------------------------------------- */

/* One function of a flat map. How many columns it gives is the catalogue's knowledge. */
struct plan_table_call {
    uint32_t func;  /* struct table_func.id */
    uint32_t *args; /* columns of the input */
    uint32_t args_len;
};

/* ---- temporal filters ------------------------------------------------------------------------ */

/* How the logical time is compared with a bound. The numbers are part of the wire format. */
enum plan_temporal_cmp {
    PLAN_TEMPORAL_BEFORE = 1, /* time < bound: the row goes at it */
    PLAN_TEMPORAL_UNTIL,      /* time <= bound */
    PLAN_TEMPORAL_AFTER,      /* time > bound */
    PLAN_TEMPORAL_FROM,       /* time >= bound: the row comes at it */
    PLAN_TEMPORAL_AT,         /* time = bound */
    PLAN_TEMPORAL_CMP_MAX = PLAN_TEMPORAL_AT,
};

/* A row is there while all of its bounds hold; never, when one is NULL. */
struct plan_temporal_bound {
    uint8_t cmp;  /* enum plan_temporal_cmp */
    uint32_t col; /* of the input: microseconds since 1970 */
};

/* mz_timestamp, bigint and the two timestamps: 64 bits each, whose infinities are bounds too. */
static inline bool plan_temporal_takes(uint8_t kind)
{
    return kind == TYPE_MZ_TIMESTAMP || kind == TYPE_INT8 || kind == TYPE_TIMESTAMP ||
           kind == TYPE_TIMESTAMPTZ;
}

/*
 * Recursion. A PLAN_FIXPOINT has bodies (its inputs) and as many variables (PLAN_VARIABLE nodes
 * before it, no inputs). The nodes that reach one of its variables are its scope; of them only the
 * bodies are seen outside, through PLAN_LEAVE. What the scope takes from other nodes enters as is.
 *
 * At each time by itself: all variables are empty at first; an iteration evaluates all bodies, each
 * variable standing for what its body gave in the iteration before. It ends when an iteration gives
 * what the one before gave, or after limit iterations. A PLAN_LEAVE is what its body gave last.
 * Streams are multisets, as everywhere: without a distinct or the like they may grow for ever.
 *
 * Bodies in order, each seeing what those before it gave in the same iteration (WITH MUTUALLY
 * RECURSIVE): such a body takes the earlier body's node as its input, not its variable.
 *
 * Not supported (0A000): a scope that depends on another's variables; in a scope window functions,
 * temporal filters, arrangements and joins but inner ones.
 */
struct plan_fixpoint {
    uint32_t *variables; /* nodes; the k-th is that of the k-th input */
    uint32_t variables_len;
    uint64_t limit;      /* of iterations; 0: none */
    bool limit_error;    /* it did not end within the limit: an error (54000) as well */
};

/*
 * One operator. Which member of the union counts follows from op; distinct, threshold, union and
 * negate have none. Everything it points to hangs in the plan's arena.
 */
struct plan_node {
    uint8_t op;
    uint32_t *inputs;
    uint32_t inputs_len;
    struct schema schema; /* of the output */
    union {
        struct {
            uint64_t id;          /* collection or index */
            uint32_t *keys;       /* of an index that is looked up in: its key columns */
            uint32_t keys_len;    /* 0: not looked up in */
        } import;
        struct {
            struct datum *rows;   /* rows_len * schema.cols, row by row */
            int64_t *diffs;       /* rows_len */
            uint32_t rows_len;
        } constant;
        struct mfp mfp;
        struct {
            bool errors_once;     /* all inputs have the first one's errors, and no others */
        } sum;                    /* PLAN_UNION */
        struct {
            uint8_t kind;         /* enum plan_join_kind */
            uint32_t keys_len;    /* 0: cross join */
            uint32_t *left_keys;  /* columns; kinds equal pairwise */
            uint32_t *right_keys;
            bool null_equal;      /* NULL keys match each other (else they match nothing) */
        } join;
        struct {
            uint32_t *keys;
            uint32_t keys_len;
            bool null_equal;      /* rows with a NULL among the keys are kept too */
        } arrange;
        /*
         * Half of a join: each row of the first input at t with the rows that the second one, an
         * arrangement, has of its key through t, or before t. A join of n inputs is n paths of
         * lookups, one from each input's changes, put together by a union: with the inputs in any
         * order, a path reads those in front of its own input through t and those behind it before
         * t, so that changes of one time meet once. Nothing lies before the as_of, so only the last
         * input's path has rows then: the others' leave them out at once (later).
         */
        struct {
            uint32_t *keys;       /* columns of the first input: the arrangement's keys */
            uint32_t keys_len;
            bool null_equal;      /* as in join */
            bool before;          /* before t; else through t */
            bool later;           /* rows at the as_of are left out */
        } lookup;
        struct {
            uint32_t *keys;       /* empty: one group; no input rows, no output row */
            uint32_t keys_len;
            struct plan_agg *aggs;
            uint32_t aggs_len;
        } reduce;
        struct {
            uint32_t *keys;       /* partition; empty: one group */
            uint32_t keys_len;
            struct plan_order *order; /* ties are broken by the whole row, deterministic */
            uint32_t order_len;
            int64_t limit;        /* -1: none */
            int64_t offset;
            bool ties;            /* and the last one's peers: rank() <= limit. No offset then */
        } topk;
        struct {
            uint32_t *keys;       /* partition; empty: one */
            uint32_t keys_len;
            struct plan_order *order; /* empty: all rows are peers; ties as in topk */
            uint32_t order_len;
            struct plan_window_call *calls;
            uint32_t calls_len;
        } window;
        struct plan_fixpoint fixpoint;
        struct {
            uint32_t binding;     /* which variable of the fixpoint */
        } leave;
        struct {
            uint32_t *keep;       /* columns of the input */
            uint32_t keep_len;
            struct plan_table_call *calls; /* in lockstep: the shorter ones are padded with NULLs */
            uint32_t calls_len;
            bool ordinality;      /* a last column, INT8: which of the input row's rows it is */
            bool outer;           /* a row without any gives one of NULLs */
        } flat_map;
        struct {
            struct plan_temporal_bound *bounds; /* at least one */
            uint32_t bounds_len;
        } temporal;
    };
};

enum plan_export_kind {
    PLAN_EXPORT_INDEX = 1, /* an arrangement by key, peekable and importable */
    PLAN_EXPORT_SUBSCRIBE, /* consolidated changes to the controller */
};

/* What a dataflow gives to the outside: to the controller, to peeks, to other dataflows. */
struct plan_export {
    uint8_t kind;
    uint64_t id;
    uint32_t node;
    uint32_t *keys; /* PLAN_EXPORT_INDEX: columns of the node */
    uint32_t keys_len;
    bool snapshot;  /* PLAN_EXPORT_SUBSCRIBE: with the state at as_of */
    uint64_t until; /* frontier at which the export is complete; FRONTIER_EMPTY: never */
};

/* Owned by whoever made it until engine_create takes it; not changed from then on. */
struct plan {
    struct arena arena;
    struct plan_node *nodes;
    uint32_t nodes_len;
    struct plan_export *exports;
    uint32_t exports_len;
    uint64_t id;         /* the dataflow */
    char *name;          /* for logs, errors and EXPLAIN */
    uint64_t as_of;      /* updates at times before are seen as if at as_of */
    uint64_t memory_limit; /* bytes on each worker; more, and it fails. 0: the engine's own */
};

/* An empty plan (free with plan_free); nodes and exports are allocated from plan->arena. */
struct plan *plan_new(void);
void plan_free(struct plan *plan);
/* Appends a node (shallow copy); returns its index. */
uint32_t plan_add(struct plan *plan, const struct plan_node *node);
/* Every index, column, type and bound; ERR_INVALID says which node. */
err_t plan_validate(const struct plan *plan);
/* The scope of each node of a valid plan: the node of its PLAN_FIXPOINT, which is not in it itself,
 * or UINT32_MAX. out: nodes_len of them. */
void plan_scopes(const struct plan *plan, uint32_t *out);
/* What EXPLAIN may say beyond the plan itself. Every function may be NULL. */
struct plan_words {
    /* Appended to the line of each node, and of each export (nodes_len + i). */
    void (*note)(void *arg, uint32_t op, struct buf *out);
    /* The name of what is imported, and its columns; NULL: unknown. Valid while it prints. */
    const char *(*object)(void *arg, uint64_t id, const struct schema **columns);
    void *arg; /* of both */
};
/* A readable tree, one node a line, for EXPLAIN. */
void plan_print(const struct plan *plan, struct buf *out);
void plan_print_words(const struct plan *plan, const struct plan_words *words, struct buf *out);
/* Line by line: plan and words must outlive the printer. op: a node, or nodes_len + an export. */
struct plan_printer;
struct plan_printer *plan_printer_new(const struct plan *plan, const struct plan_words *words);
void plan_printer_line(struct plan_printer *printer, uint32_t op, struct buf *out);
void plan_printer_free(struct plan_printer *printer);
/* Same nodes and exports (as_of, limit, transient ids and names ignored): reconciliation. */
bool plan_equal(const struct plan *a, const struct plan *b);

#endif
