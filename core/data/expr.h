/*
 * Scalar expressions over batches: a flat, typed program built by the planner, sent in plans,
 * validated on receipt, and evaluated a column at a time with selection vectors.
 *
 * An expression is an array of nodes in which arguments come before their users; the last node is
 * the result. CASE WHEN b <> 0 THEN a / b END is
 *
 *   0  COLUMN 1 (b)         3  COLUMN 0 (a)          5  LITERAL NULL
 *   1  LITERAL 0            4  CALL /  (3, 0)        6  CASE (2, 4, 5)
 *   2  CALL <> (0, 1)
 *
 * Row errors (division by zero, bad cast) do not stop a batch: the row goes to the error twin with
 * SQLSTATE and message. CASE, COALESCE, AND and OR evaluate their later arguments only for the rows
 * that need them, so that guards protect, as in the example.
 *
 * Types: every node says its own; kinds of arguments match those of the function exactly. Casts are
 * calls like any other, put in by the planner.
 */
#ifndef TAILRACE_CORE_DATA_EXPR_H
#define TAILRACE_CORE_DATA_EXPR_H

#include "core/data/batch.h"

/* The numbers are part of the plan format: never change or reuse one. */
enum expr_kind {
    EXPR_COLUMN = 1, /* column of the input */
    EXPR_LITERAL,
    EXPR_CALL,       /* func over args; strict functions give NULL on a NULL argument */
    EXPR_AND,        /* three-valued, n-ary */
    EXPR_OR,
    EXPR_NOT,
    EXPR_IS_NULL,
    EXPR_CASE,       /* args: when1, then1, when2, then2, ..., else */
    EXPR_COALESCE,
};

enum { EXPR_ARGS_MAX = 100, EXPR_NODES_MAX = 65536 };

/*
 * Which fields count follows from kind; type always does. Everything it points to belongs to an
 * arena, or to whoever built it.
 */
struct expr_node {
    uint8_t kind;         /* enum expr_kind */
    struct type type;     /* of the result */
    uint32_t column;      /* EXPR_COLUMN */
    uint32_t func;        /* EXPR_CALL: struct func.id */
    uint32_t args_len;
    uint32_t *args;       /* indexes of earlier nodes */
    struct datum literal; /* EXPR_LITERAL */
};

/* A program: the last node is the result. */
struct expr {
    struct expr_node *nodes;
    uint32_t nodes_len;
};

/* ---- functions ------------------------------------------------------------------------------ */

enum { FUNC_ARGS_MAX = 4 };
/* What the planner and the evaluator need to know of a function. */
enum func_flags {
    FUNC_NOT_STRICT = 1, /* called with NULL arguments (concat) */
    FUNC_VARIADIC = 2,   /* the last argument type repeats */
    FUNC_CAST = 4,
    FUNC_CAN_FAIL = 8,
    FUNC_VOLATILE = 16,
    FUNC_PREDICATE_NULLSAFE = 32, /* IS [NOT] DISTINCT FROM */
};

/*
 * A scalar function or operator of the catalogue. Operators are functions whose name is the
 * operator ("+", "<=", "~~" is LIKE, "||", "->", "->>"). Casts have name "cast". The id is part of
 * the plan format and never changes.
 */
struct func {
    uint32_t id;
    const char *name;
    uint8_t args_len;
    uint8_t args[FUNC_ARGS_MAX]; /* enum type_kind; 0: any (polymorphic) */
    uint8_t result;              /* enum type_kind; 0: as the polymorphic argument */
    uint32_t flags;
};

/* NULL when there is none: ids come in plans. */
const struct func *func_by_id(uint32_t id);
/* The whole catalogue, for resolution by the planner and for pg_proc. */
const struct func *func_catalog(size_t *len);
/*
 * Exact match of kinds; NULL when there is none. Operators are found by their name like any other
 * function.
 */
const struct func *func_find(const char *name, const uint8_t *args, size_t args_len);

/*
 * Casts as pg_cast has them: when may one be applied? Each includes those before it: what is
 * implicit may also be written out.
 */
enum cast_context { CAST_NONE, CAST_EXPLICIT, CAST_ASSIGNMENT, CAST_IMPLICIT };
enum cast_context cast_context(enum type_kind from, enum type_kind to);
/* The cast function, or NULL when the bytes are the same or there is none. */
const struct func *cast_find(enum type_kind from, enum type_kind to);

/* ---- aggregates ----------------------------------------------------------------------------- */

/* The numbers are part of the plan format: never change or reuse one. */
enum agg_func {
    AGG_COUNT_ALL = 1, /* count(*) */
    AGG_COUNT,
    AGG_SUM,     /* int2/int4 -> int8, int8/numeric -> numeric; float4, float8, interval */
    AGG_AVG,     /* ints, numeric -> numeric; floats -> float8; interval */
    AGG_MIN,
    AGG_MAX,
    AGG_BOOL_AND,
    AGG_BOOL_OR,
    AGG_STRING_AGG, /* text or bytea, and a separator of the same kind */
    AGG_ARRAY_AGG,  /* anything; text in the format of arrays */
    AGG_JSONB_AGG,  /* jsonb */
    AGG_JSONB_OBJECT_AGG, /* a name as a jsonb string, and jsonb */
    AGG_BIT_AND,
    AGG_BIT_OR,
    AGG_BIT_XOR,
    AGG_VAR_POP, /* of float8; of exact kinds they are written with sums */
    AGG_VAR_SAMP,
    AGG_STDDEV_POP,
    AGG_STDDEV_SAMP,
    AGG_MAX_FUNC = AGG_STDDEV_SAMP,
};
/* Has the aggregate a second argument? It is of the same kind as the first. */
static inline bool agg_takes_two(enum agg_func agg)
{
    return agg == AGG_STRING_AGG || agg == AGG_JSONB_OBJECT_AGG;
}
/* Does its answer depend on the order of its values? */
static inline bool agg_is_ordered(enum agg_func agg)
{
    return agg >= AGG_STRING_AGG && agg <= AGG_JSONB_OBJECT_AGG;
}
/* Result type of an aggregate over an argument kind; false when there is no such aggregate. */
bool agg_result(enum agg_func agg, enum type_kind arg, struct type *out);

/* ---- building, checking, printing, evaluating ------------------------------------------------ */

/* Appends a node (args copied into the arena); returns its index. */
uint32_t expr_add(struct arena *arena, struct expr *e, const struct expr_node *node);
/* Type errors, forward references, unknown functions, columns out of range: ERR_INVALID. */
err_t expr_validate(const struct expr *e, const struct type *input, size_t input_len);
/* "(#0 + 1) > length(#2)"; names may be NULL (then #n). */
void expr_print(const struct expr *e, const char *const *names, struct buf *out);
/* Node by node; literals by SQL equality. */
bool expr_equal(const struct expr *a, const struct expr *b);

/*
 * Map, filter, project in one pass: columns of the input, then maps appended one after another
 * (each may use the ones before), rows kept when every predicate is true, projection of what is
 * left. Predicates may use map results; each is evaluated as early as its columns allow.
 */
struct mfp {
    uint32_t input_cols;
    struct expr *maps;
    uint32_t maps_len;
    struct expr *predicates;
    uint32_t predicates_len;
    uint32_t *project;
    uint32_t project_len;
};
err_t mfp_validate(const struct mfp *mfp, const struct type *input, size_t input_len,
                   struct arena *arena, struct type **output); /* output: project_len types */
/* names: of the input columns, may be NULL. */
void mfp_print(const struct mfp *mfp, const char *const *names, struct buf *out);

/* Compiled form with its scratch memory: one per operator instance, one thread. */
struct mfp_prog;
/* input kinds as validated; the mfp may be freed afterwards. context: for error rows. */
struct mfp_prog *mfp_compile(const struct mfp *mfp, const uint8_t *input_kinds,
                             const char *context);
/* Which input columns it looks at; the others need not be there when it runs. */
const bool *mfp_prog_reads(const struct mfp_prog *prog);
/* NULL is allowed. */
void mfp_prog_free(struct mfp_prog *prog);
/*
 * Applies to the rows of a batch from first on: rows appended to ok (schema: projected kinds) and
 * err (batch_err_kinds), with the time and diff of the input row. Returns the row to go on from,
 * in->rows at the end: it stops when it has put out some MiB of texts, a row of them at least, so
 * that its caller takes them away before a column has more than a batch can hold.
 */
uint32_t mfp_run(struct mfp_prog *prog, const struct batch *in, uint32_t first,
                 struct batch_builder *ok, struct batch_builder *err);

/* One row, no columns: constant folding in the planner, VALUES, INSERT. Errors are returned. */
err_t expr_eval_const(const struct expr *e, struct arena *arena, struct datum *out);

#endif
