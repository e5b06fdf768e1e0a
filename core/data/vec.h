/*
 * What kernels see: columns of up to VEC_ROWS rows, the call that applies a function to them, and
 * the evaluator's scratch memory. Module-private.
 *
 * A vector is an array of values (a struct slice each for variable kinds) and one byte a row that
 * says NULL. A constant is a vector whose mask is 0: row & mask is always its only row. Values of
 * rows that are NULL or not selected are undefined and never looked at.
 *
 *   column of 4      values 10 20 30 40   nulls 0 0 1 0   mask ~0
 *   constant 7       values 7             nulls NULL      mask 0
 *   selection        sel 0 3              n 2
 *
 * A kernel is a function of a struct call. It reads ARG(c, k, type, i) for the rows FOR_ROWS gives
 * it, writes out[i], and says call_null or call_fail where there is no value. The rows a strict
 * kernel gets have no NULL argument. VEC_ROWS is chosen so that a handful of vectors of 8-byte
 * values stay in the first-level cache.
 *
 * Everything here belongs to one compiled program; one thread.
 */
#ifndef TAILRACE_CORE_DATA_VEC_H
#define TAILRACE_CORE_DATA_VEC_H

#include "core/data/data_internal.h"
#include "core/data/expr.h"

enum { VEC_ROWS = 1024, VEC_VALUE_MAX = sizeof(struct numeric) };

/* A string value: bytes somebody else owns, alive until the chunk is done. */
struct slice {
    const char *s;
    size_t len;
};

/* A column of a chunk as kernels read it. */
struct vec {
    const void *values;
    const uint8_t *nulls; /* NULL: no nulls; else 1 is NULL */
    uint32_t mask;        /* UINT32_MAX, or 0 for a constant */
};

/* Result memory of one node. 24 KiB and a byte a row: fits the first-level cache for most kinds. */
struct vec_mem {
    _Alignas(64) uint8_t values[VEC_ROWS * VEC_VALUE_MAX];
    uint8_t nulls[VEC_ROWS];
    struct vec_mem *next; /* in the pool */
};

/* A selection: row numbers in ascending order. */
struct sel_mem {
    uint32_t rows[VEC_ROWS];
    struct sel_mem *next;
};

/* A row that goes to the error twin. */
struct failure {
    uint32_t row;
    char sqlstate[6];
    const char *message; /* in the evaluator's bump memory */
};

/* Bump memory for strings, kept from chunk to chunk. */
struct bump_block {
    struct bump_block *next;
    size_t size;
    char data[];
};

/*
 * Scratch of one compiled program; one thread. Owned by one program; every field is scratch but
 * cols, which the program fills per chunk.
 */
struct eval {
    struct memo *memos;         /* shared calls with values of this chunk */
    struct vec_mem *vec_pool;
    struct sel_mem *sel_pool;
    struct bump_block *blocks;  /* all, in order of first use */
    struct bump_block *current;
    size_t current_used;
    size_t taken;               /* bytes since the last reset */
    size_t budget;              /* 0: none. See eval_over */
    struct failure *failures;
    size_t failures_len;
    size_t failures_cap;
    uint8_t failed[VEC_ROWS];
    struct buf buf;             /* for strings of unknown length */
    struct vec *cols;           /* of the chunk: input columns, then maps */
};

/*
 * A function applied to the rows sel (NULL: 0..n-1). What a kernel gets. It writes out[row] for the
 * selected rows, calls call_null or call_fail for rows that have no value, and touches nothing
 * else.
 */
struct call {
    struct eval *ev;
    const struct func *func;
    const struct vec *args;
    const uint8_t *arg_kinds;
    uint32_t args_len;
    uint8_t out_kind;
    bool has_nulls;      /* of the result; then nulls is initialised */
    const uint32_t *sel;
    uint32_t n;
    void *out;
    uint8_t *nulls;
    void **state;        /* the node's own, kept between calls; NULL at first */
};

typedef void (*kernel_fn)(struct call *c);

/* Row number k of a call. */
static inline uint32_t call_row(const struct call *c, uint32_t k)
{
    return c->sel != NULL ? c->sel[k] : k;
}

/* The loop over the selected rows; i is the row number. Not nested: k_ is its own. */
#define FOR_ROWS(c, i)                                                                             \
    for (uint32_t k_ = 0, i = 0; k_ < (c)->n && (i = call_row((c), k_), true); k_++)

/* Argument k of row i. */
#define ARG(c, k, type, i) (((const type *)(c)->args[k].values)[(i) & (c)->args[k].mask])

static inline bool arg_is_null(const struct call *c, uint32_t k, uint32_t i)
{
    const struct vec *v = &c->args[k];
    return v->nulls != NULL && v->nulls[i & v->mask] != 0;
}

/* Then the kernel may prepare once (a compiled pattern, a folded string). */
static inline bool arg_is_const(const struct call *c, uint32_t k)
{
    return c->args[k].mask == 0;
}

/* Makes the result of row i NULL. */
void call_null(struct call *c, uint32_t i);
/*
 * The row fails: it goes to the error twin; its result is NULL. The first failure counts. i must be
 * selected. fault is static: nothing is copied but its text.
 */
void call_fail(struct call *c, uint32_t i, const struct fault *fault);
void call_failf(struct call *c, uint32_t i, const char *sqlstate, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Frees err. */
void call_fail_err(struct call *c, uint32_t i, err_t err);
/* Fails the row if fault is not NULL. */
static inline void call_check(struct call *c, uint32_t i, const struct fault *fault)
{
    if (__builtin_expect(fault != NULL, 0)) {
        call_fail(c, i, fault);
    }
}

/* len bytes that live until the chunk is done. */
char *eval_alloc(struct eval *ev, size_t len);
/*
 * Did the chunk take more than its budget? Whoever set one throws the chunk's results away and runs
 * fewer rows; until it is through, long texts are NULL instead of taking more.
 */
static inline bool eval_over(const struct eval *ev)
{
    return ev->budget > 0 && ev->taken > ev->budget;
}
/* As eval_alloc, for the text of row i; NULL over the budget: then the row is NULL already. */
char *call_alloc(struct call *c, uint32_t i, size_t len);
/* Sets the result of row i to a copy. Longer than a text may be: the row fails with 54000. */
void call_text(struct call *c, uint32_t i, const void *s, size_t len);
static inline void call_slice(struct call *c, uint32_t i, const char *s, size_t len)
{
    ((struct slice *)c->out)[i] = (struct slice){s, len};
}

/* A value of a vector as a datum, and back (variable bytes are copied). */
void vec_datum(const struct vec *v, uint8_t kind, uint32_t row, struct datum *out);
void call_datum(struct call *c, uint32_t i, const struct datum *d);

enum { TEXT_BYTES_MAX = 256 << 20 };

/* What a kernel keeps between calls starts with how to free it. See struct regex for one. */
struct kernel_state {
    void (*free)(struct kernel_state *state);
};

/* NULL: the kernel never ran. */
static inline void kernel_state_free(void *state)
{
    if (state != NULL) {
        ((struct kernel_state *)state)->free(state);
    }
}

/* ---- compiled expressions -------------------------------------------------------------------- */

struct cnode;
struct memo;

/* The expression must have been validated. Columns at or beyond input_cols are maps. */
struct cnode *cnode_compile(const struct expr *e);
void cnode_free(struct cnode *node);
/* Marks the columns it reads. */
void cnode_columns(const struct cnode *node, bool *used);
uint8_t cnode_kind(const struct cnode *node);
/*
 * Dear calls that stand in these trees several times become one node each, in place. They are
 * evaluated by one struct eval then, whose user says eval_forget_shared when it is done with a
 * chunk's results.
 */
void cnode_share(struct cnode **const *roots, size_t roots_len);
void eval_forget_shared(struct eval *ev);
/*
 * Evaluates for the rows sel. The result is valid until cnode_release. Rows of sel that failed
 * earlier are the caller's to leave out.
 */
void cnode_eval(struct eval *ev, struct cnode *node, const uint32_t *sel, uint32_t n,
                struct vec *out);
void cnode_release(struct eval *ev, struct cnode *node);

struct sel_mem *eval_take_sel(struct eval *ev);
void eval_give_sel(struct eval *ev, struct sel_mem *sel);
/* Forgets strings and failures of the chunk. */
void eval_reset(struct eval *ev);
void eval_free(struct eval *ev);

kernel_fn func_kernel(uint32_t id);
/* Argument kinds against a function's: exact, or polymorphic. */
bool func_accepts(const struct func *f, const uint8_t *kinds, size_t len, uint8_t *result);

#endif
