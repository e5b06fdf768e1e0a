/*
 * Evaluation of compiled expressions, a chunk of up to VEC_ROWS rows at a time.
 *
 * A compiled expression is a tree: shared nodes of the program are copied, so that each node is
 * evaluated in one place, for one selection. expr_validate bounds the size of the tree. Calls that
 * are dear and stand in several places become one node again (cnode_share), which remembers its
 * values for the chunk, row by row: a place that asks for a row first has it computed, the others
 * find it, and a row nobody asks for is never computed. Each other node
 * takes memory for its result from a pool when it is evaluated and its parent gives it back, so
 * that the memory in use follows the depth of the tree and stays hot in the cache.
 *
 * Selections: a node is evaluated for rows sel[0..n), or 0..n-1 when sel is NULL. Its result has
 * values for those rows only, at their own row numbers; what lies elsewhere is undefined. That is
 * how CASE, COALESCE, AND and OR keep a row that a guard excludes from ever being computed.
 *
 * Failures: a row that fails is recorded once, its value is NULL from then on, and the nodes that
 * choose rows drop it. What fails is decided by the order of evaluation, which is that of the
 * program: the same on every worker.
 *
 * One evaluator belongs to one compiled program and one thread.
 */
#include "core/base/hash.h"
#include "core/data/vec.h"

#include <stdarg.h>
#include <stdio.h>

enum { BUMP_BLOCK_MIN = 64 << 10, BUMP_KEPT_MAX = 4 << 20, MESSAGE_MAX = 1000 };

/*
 * A node of the tree. mem is set between its evaluation and its release; everything else is fixed
 * when it is compiled.
 */
struct cnode {
    uint8_t kind;
    uint8_t out_kind;
    uint32_t column;
    uint32_t args_len;
    const struct func *func;
    kernel_fn kernel;
    struct cnode **args;
    struct vec *arg_vecs;
    uint8_t *arg_kinds;
    void *state;            /* a kernel's, from malloc behind a struct kernel_state */
    struct vec_mem *mem;    /* the result's, while it is in use */
    struct vec literal;
    uint64_t literal_value[3];
    struct slice literal_slice;
    char *literal_bytes;
    uint64_t hash;          /* of the subtree: equal ones have equal hashes */
    bool is_volatile;       /* a call in the subtree gives something else each time */
    uint32_t more_uses;     /* places beyond the first; each frees it */
    struct memo *memo;      /* of a call in several places */
};

/* What a call in several places has given so far in this chunk; its values are in mem. */
struct memo {
    struct vec_mem *mem;    /* NULL: nobody has asked yet */
    struct memo *next;      /* of those with memory */
    bool nulls;             /* mem->nulls says something, of all rows that are done */
    bool all;               /* every row of the chunk is done */
    uint8_t done[VEC_ROWS];
};

/* ---- scratch memory -------------------------------------------------------------------------- */

/* From the pool, or new: a program makes as many as its depth needs, then no more. */
static struct vec_mem *take_mem(struct eval *ev)
{
    struct vec_mem *mem = ev->vec_pool;
    if (mem == NULL) {
        mem = aligned_alloc(64, (sizeof(*mem) + 63) / 64 * 64);
        ASSERT(mem != NULL);
    } else {
        ev->vec_pool = mem->next;
    }
    mem->next = NULL;
    return mem;
}

/* Row numbers of a chunk; to be given back. */
struct sel_mem *eval_take_sel(struct eval *ev)
{
    struct sel_mem *sel = ev->sel_pool;
    if (sel == NULL) {
        return mem_alloc(sizeof(*sel));
    }
    ev->sel_pool = sel->next;
    return sel;
}

void eval_give_sel(struct eval *ev, struct sel_mem *sel)
{
    sel->next = ev->sel_pool;
    ev->sel_pool = sel;
}

/*
 * Blocks are kept over chunks and used again in the same order. A block too small for what is asked
 * is passed over until the next chunk.
 */
char *eval_alloc(struct eval *ev, size_t len)
{
    len = (len + 15) & ~(size_t)15;
    while (ev->current != NULL && ev->current->size - ev->current_used < len &&
           ev->current->next != NULL) {
        ev->current = ev->current->next;
        ev->current_used = 0;
    }
    if (ev->current == NULL || ev->current->size - ev->current_used < len) {
        size_t size = len > BUMP_BLOCK_MIN ? len : BUMP_BLOCK_MIN;
        struct bump_block *block = mem_alloc(sizeof(*block) + size);
        block->size = size;
        block->next = NULL;
        if (ev->current == NULL) {
            ev->blocks = block;
        } else {
            ev->current->next = block;
        }
        ev->current = block;
        ev->current_used = 0;
    }
    char *p = ev->current->data + ev->current_used;
    ASSERT(ev->current_used + len <= ev->current->size);
    ev->current_used += len;
    ev->taken += len;
    return p;
}

static void free_blocks(struct eval *ev)
{
    while (ev->blocks != NULL) {
        struct bump_block *next = ev->blocks->next;
        free(ev->blocks);
        ev->blocks = next;
    }
}

/*
 * A chunk of long texts does not leave its memory to all that follow. failed is cleared only when
 * something failed: 1,024 bytes a chunk.
 */
void eval_reset(struct eval *ev)
{
    if (ev->taken > BUMP_KEPT_MAX) {
        free_blocks(ev);
    }
    ev->taken = 0;
    ev->current = ev->blocks;
    ev->current_used = 0;
    if (ev->failures_len > 0) {
        memset(ev->failed, 0, sizeof(ev->failed));
        ev->failures_len = 0;
    }
}

/* Results must have been released before: nodes hold memory of the pool. */
void eval_free(struct eval *ev)
{
    ASSERT(ev->memos == NULL);
    while (ev->vec_pool != NULL) {
        struct vec_mem *next = ev->vec_pool->next;
        free(ev->vec_pool);
        ev->vec_pool = next;
    }
    while (ev->sel_pool != NULL) {
        struct sel_mem *next = ev->sel_pool->next;
        free(ev->sel_pool);
        ev->sel_pool = next;
    }
    free_blocks(ev);
    free(ev->failures);
    buf_free(&ev->buf);
}

/* ---- results of calls ------------------------------------------------------------------------ */

/* The first NULL of a call clears the array; until then nobody looks at it. */
void call_null(struct call *c, uint32_t i)
{
    ASSERT(i < VEC_ROWS);
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    if (!c->has_nulls) {
        memset(c->nulls, 0, VEC_ROWS);
        c->has_nulls = true;
    }
    c->nulls[i] = 1;
}

/* The first failure of a row counts: later ones follow from it. */
static void record_failure(struct call *c, uint32_t i, const char *sqlstate, const char *message)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    struct eval *ev = c->ev;
    call_null(c, i);
    if (ev->failed[i]) {
        return;
    }
    ev->failed[i] = 1;
    struct failure *f = VEC_PUSH(ev, failures);
    size_t len = strnlen(message, MESSAGE_MAX);
    bool cut = len == MESSAGE_MAX;
    char *copy = eval_alloc(ev, len + 1);
    memcpy(copy, message, len);
    while (cut && len > 0 && ((uint8_t)message[len] & 0xC0) == 0x80) {
        len--; /* not within a character: the error twin's columns are UTF-8 */
    }
    copy[len] = '\0';
    f->row = i;
    f->message = copy;
    snprintf(f->sqlstate, sizeof(f->sqlstate), "%s", sqlstate);
}

void call_fail(struct call *c, uint32_t i, const struct fault *fault)
{
    record_failure(c, i, fault->sqlstate, fault->message);
}

/* For messages that quote the value: as PostgreSQL writes them. */
void call_failf(struct call *c, uint32_t i, const char *sqlstate, const char *format, ...)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    char message[MESSAGE_MAX + 8];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    record_failure(c, i, sqlstate, message);
}

void call_fail_err(struct call *c, uint32_t i, err_t err)
{
    ASSERT(err != ERR_OK);
    record_failure(c, i, err_sqlstate(err), err_message(err));
    err_free(err);
}

char *call_alloc(struct call *c, uint32_t i, size_t len)
{
    ASSERT(i < VEC_ROWS && c->n <= VEC_ROWS);
    if (eval_over(c->ev)) {
        call_null(c, i);
        return NULL;
    }
    return eval_alloc(c->ev, len);
}

/* For bytes that live elsewhere than the arguments and the bump memory. */
void call_text(struct call *c, uint32_t i, const void *s, size_t len)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    if (len > TEXT_BYTES_MAX) {
        call_failf(c, i, "54000", "result of %zu bytes is too long", len);
        return;
    }
    char *copy = call_alloc(c, i, len);
    if (copy == NULL) {
        return;
    }
    if (len > 0) {
        memcpy(copy, s, len);
    }
    call_slice(c, i, copy, len);
}

/* ---- values as datums ------------------------------------------------------------------------ */

/* The value of a failed or unselected row is undefined: do not ask for it. */
void vec_datum(const struct vec *v, uint8_t kind, uint32_t row, struct datum *out)
{
    row &= v->mask;
    if (v->nulls != NULL && v->nulls[row]) {
        *out = (struct datum){.null = true};
        return;
    }
    if (type_is_variable(kind)) {
        struct slice s = ((const struct slice *)v->values)[row];
        *out = (struct datum){.len = (uint32_t)s.len, .s = s.s};
        return;
    }
    struct batch_col col = {.kind = kind, .values = v->values};
    batch_datum(&col, row, out);
}

/* For kernels that work on datums: slow, general ones. */
void call_datum(struct call *c, uint32_t i, const struct datum *d)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    if (d->null) {
        call_null(c, i);
    } else if (type_is_variable(c->out_kind)) {
        call_text(c, i, d->s, d->len);
    } else {
        datum_store(c->out_kind, d, (uint8_t *)c->out + i * type_width(c->out_kind));
    }
}

/* ---- compiling ------------------------------------------------------------------------------- */

/* The literal is copied, as the program may be freed. */
static void compile_literal(struct cnode *node, const struct datum *d)
{
    static const uint8_t is_null = 1;
    node->literal = (struct vec){.values = node->literal_value, .mask = 0};
    if (d->null) {
        node->literal.nulls = &is_null;
        return;
    }
    if (type_is_variable(node->out_kind)) {
        node->literal_bytes = mem_strndup(d->len > 0 ? d->s : "", d->len);
        node->literal_slice = (struct slice){node->literal_bytes, d->len};
        node->literal.values = &node->literal_slice;
    } else {
        datum_store(node->out_kind, d, node->literal_value);
    }
}

/* From what cnode_same compares. */
static uint64_t hash_node(const struct cnode *node)
{
    uint64_t hash = hash_combine(node->kind, node->out_kind);
    hash = hash_combine(hash, node->column);
    hash = hash_combine(hash, node->func != NULL ? node->func->id : 0);
    hash = hash_combine(hash, hash_bytes(node->literal_value, sizeof(node->literal_value)));
    hash = hash_combine(hash, hash_bytes(node->literal_slice.s, node->literal_slice.len));
    for (uint32_t i = 0; i < node->args_len; i++) {
        hash = hash_combine(hash, node->args[i]->hash);
    }
    return hash;
}

/* Recursion follows the depth, which expr_validate bounds. */
static struct cnode *compile(const struct expr *e, uint32_t at)
{
    ASSERT(at < e->nodes_len);
    const struct expr_node *n = &e->nodes[at];
    struct cnode *node = MEM_NEW(struct cnode);
    node->kind = n->kind;
    node->out_kind = n->type.kind;
    node->column = n->column;
    node->args_len = n->args_len;
    if (n->kind == EXPR_LITERAL) {
        compile_literal(node, &n->literal);
    }
    if (n->args_len > 0) {
        node->args = mem_zalloc(n->args_len * sizeof(node->args[0]));
        node->arg_vecs = mem_zalloc(n->args_len * sizeof(node->arg_vecs[0]));
        node->arg_kinds = mem_zalloc(n->args_len);
    }
    for (uint32_t i = 0; i < n->args_len; i++) {
        ASSERT(n->args[i] < at);
        node->args[i] = compile(e, n->args[i]);
        node->arg_kinds[i] = node->args[i]->out_kind;
    }
    if (n->kind == EXPR_CALL) {
        node->func = func_by_id(n->func);
        node->kernel = func_kernel(n->func);
        ASSERT(node->func != NULL && node->kernel != NULL);
        node->is_volatile = (node->func->flags & FUNC_VOLATILE) != 0;
    }
    for (uint32_t i = 0; i < n->args_len; i++) {
        node->is_volatile |= node->args[i]->is_volatile;
    }
    node->hash = hash_node(node);
    return node;
}

/* The last node of the program is its result. */
struct cnode *cnode_compile(const struct expr *e)
{
    ASSERT(e->nodes_len > 0);
    return compile(e, e->nodes_len - 1);
}

void cnode_free(struct cnode *node)
{
    if (node == NULL) {
        return;
    }
    ASSERT(node->mem == NULL);
    if (node->more_uses > 0) {
        node->more_uses--;
        return;
    }
    ASSERT(node->memo == NULL || node->memo->mem == NULL);
    for (uint32_t i = 0; i < node->args_len; i++) {
        cnode_free(node->args[i]);
    }
    kernel_state_free(node->state);
    free(node->memo);
    free(node->args);
    free(node->arg_vecs);
    free(node->arg_kinds);
    free(node->literal_bytes);
    free(node);
}

/* used has room for all columns; true is added, nothing is cleared. */
void cnode_columns(const struct cnode *node, bool *used)
{
    if (node->kind == EXPR_COLUMN) {
        used[node->column] = true;
    }
    for (uint32_t i = 0; i < node->args_len; i++) {
        cnode_columns(node->args[i], used);
    }
}

uint8_t cnode_kind(const struct cnode *node)
{
    return node->out_kind;
}

/* ---- sharing --------------------------------------------------------------------------------- */

/* A shared call keeps a struct vec_mem through the chunk: beyond so many, calls are copied. */
enum { SHARED_MAX = 64 };

/* Candidates so far: open addressing, never full. */
struct share_table {
    struct cnode **slots;
    size_t mask;
    uint32_t shared;
};

/* Literals by their bytes: 1.0 and 1.00 give different texts. */
static bool same_literal(const struct cnode *a, const struct cnode *b)
{
    size_t len = a->literal_slice.len;
    return (a->literal.nulls != NULL) == (b->literal.nulls != NULL) &&
           memcmp(a->literal_value, b->literal_value, sizeof(a->literal_value)) == 0 &&
           len == b->literal_slice.len &&
           (len == 0 || memcmp(a->literal_slice.s, b->literal_slice.s, len) == 0);
}

static bool cnode_same(const struct cnode *a, const struct cnode *b)
{
    if (a == b) {
        return true;
    }
    if (a->hash != b->hash || a->kind != b->kind || a->out_kind != b->out_kind ||
        a->column != b->column || a->func != b->func || a->args_len != b->args_len ||
        (a->kind == EXPR_LITERAL && !same_literal(a, b))) {
        return false;
    }
    for (uint32_t i = 0; i < a->args_len; i++) {
        if (!cnode_same(a->args[i], b->args[i])) {
            return false;
        }
    }
    return true;
}

/* To compute a sum of words again is as cheap as to look for it: it has to do with texts, say. */
static bool is_dear(const struct cnode *node)
{
    bool dear = type_is_variable(node->out_kind) || node->out_kind == TYPE_NUMERIC;
    for (uint32_t i = 0; i < node->args_len; i++) {
        dear |= type_is_variable(node->arg_kinds[i]) || node->arg_kinds[i] == TYPE_NUMERIC;
    }
    return node->kind == EXPR_CALL && !node->is_volatile && dear;
}

/* What is below a call that is there already goes with it: its places do not count. */
static void share(struct share_table *table, struct cnode **place)
{
    struct cnode *node = *place;
    if (is_dear(node)) {
        size_t at = node->hash & table->mask;
        while (table->slots[at] != NULL && !cnode_same(table->slots[at], node)) {
            at = (at + 1) & table->mask;
        }
        struct cnode *found = table->slots[at];
        if (found == NULL) {
            table->slots[at] = node;
        } else if (found->memo != NULL || table->shared < SHARED_MAX) {
            ASSERT(found != node);
            if (found->memo == NULL) {
                found->memo = MEM_NEW(struct memo);
                table->shared++;
            }
            found->more_uses++;
            cnode_free(node);
            *place = found;
            return;
        }
    }
    for (uint32_t i = 0; i < node->args_len; i++) {
        share(table, &node->args[i]);
    }
}

static size_t count_nodes(const struct cnode *node)
{
    size_t n = 1;
    for (uint32_t i = 0; i < node->args_len; i++) {
        n += count_nodes(node->args[i]);
    }
    return n;
}

void cnode_share(struct cnode **const *roots, size_t roots_len)
{
    size_t nodes = 0, slots = 16;
    for (size_t i = 0; i < roots_len; i++) {
        nodes += count_nodes(*roots[i]);
    }
    while (slots < 2 * nodes) {
        slots *= 2;
    }
    struct share_table table = {.slots = mem_zalloc(slots * sizeof(table.slots[0])),
                                .mask = slots - 1};
    for (size_t i = 0; i < roots_len; i++) {
        share(&table, roots[i]);
    }
    free(table.slots);
}

/* ---- evaluating ------------------------------------------------------------------------------ */

/* Columns and literals hold no memory: nothing happens. */
void cnode_release(struct eval *ev, struct cnode *node)
{
    if (node->mem != NULL) {
        node->mem->next = ev->vec_pool;
        ev->vec_pool = node->mem;
        node->mem = NULL;
    }
}

static bool row_null(const struct vec *v, uint32_t i)
{
    return v->nulls != NULL && v->nulls[i & v->mask] != 0;
}

/* Marks rows with a NULL argument as NULL, collects the others in to; returns how many. */
static uint32_t select_not_null(struct call *c, uint32_t *to)
{
    ASSERT(to != NULL && c->args_len > 0);
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    uint32_t len = 0;
    FOR_ROWS(c, i) {
        uint8_t null = 0;
        for (uint32_t k = 0; k < c->args_len; k++) {
            null |= row_null(&c->args[k], i);
        }
        if (null) {
            call_null(c, i);
        } else {
            to[len++] = i;
        }
    }
    return len;
}

/*
 * Arguments, then the rows where none is NULL (strict functions), then the kernel. Arguments are
 * released only after the kernel: it reads them.
 */
static void eval_call(struct eval *ev, struct cnode *node, const uint32_t *sel, uint32_t n,
                      struct vec *out)
{
    ASSERT(ev != NULL && n <= VEC_ROWS);
    bool nulls = false;
    for (uint32_t k = 0; k < node->args_len; k++) {
        cnode_eval(ev, node->args[k], sel, n, &node->arg_vecs[k]);
        nulls |= node->arg_vecs[k].nulls != NULL;
    }
    node->mem = take_mem(ev);
    struct call c = {
        .ev = ev,
        .func = node->func,
        .args = node->arg_vecs,
        .arg_kinds = node->arg_kinds,
        .args_len = node->args_len,
        .out_kind = node->out_kind,
        .sel = sel,
        .n = n,
        .out = node->mem->values,
        .nulls = node->mem->nulls,
        .state = &node->state,
    };
    struct sel_mem *some = NULL;
    if (nulls && (node->func->flags & FUNC_NOT_STRICT) == 0) {
        some = eval_take_sel(ev);
        c.n = select_not_null(&c, some->rows);
        c.sel = some->rows;
    }
    if (c.n > 0) {
        node->kernel(&c);
    }
    if (some != NULL) {
        eval_give_sel(ev, some);
    }
    for (uint32_t k = 0; k < node->args_len; k++) {
        cnode_release(ev, node->args[k]);
    }
    *out = (struct vec){.values = node->mem->values,
                        .nulls = c.has_nulls ? node->mem->nulls : NULL,
                        .mask = UINT32_MAX};
}

/*
 * AND (and OR, which is AND with the truth values swapped): a row leaves when an argument decides
 * it, or fails; rows that stay to the end are NULL if any argument was, else undecided: the neutral
 * value. For example x AND y: rows where x is false are done; y is evaluated for the others alone,
 * and only if there are any. A NULL does not decide: NULL AND false is false.
 */
static void eval_and_or(struct eval *ev, struct cnode *node, const uint32_t *sel, uint32_t n,
                        struct vec *out)
{
    ASSERT(ev != NULL && n <= VEC_ROWS);
    uint8_t decides = node->kind == EXPR_OR;
    ASSERT(node->args_len > 0);
    struct sel_mem *rest = eval_take_sel(ev);
    node->mem = take_mem(ev);
    uint8_t *result = node->mem->values;
    uint8_t *nulls = node->mem->nulls;
    memset(result, !decides, VEC_ROWS);
    memset(nulls, 0, VEC_ROWS);
    bool any_null = false;
    uint32_t len = n;
    const uint32_t *rows = sel;
    for (uint32_t k = 0; k < node->args_len && len > 0; k++) {
        struct vec v;
        cnode_eval(ev, node->args[k], rows, len, &v);
        const uint8_t *values = v.values;
        uint32_t kept = 0;
        for (uint32_t j = 0; j < len; j++) {
            uint32_t i = rows != NULL ? rows[j] : j;
            if (row_null(&v, i)) {
                nulls[i] = 1;
                any_null = true;
                rest->rows[kept] = i;
                kept += !ev->failed[i];
            } else if (values[i & v.mask] == decides) {
                result[i] = decides;
                nulls[i] = 0;
            } else {
                rest->rows[kept++] = i;
            }
        }
        cnode_release(ev, node->args[k]);
        rows = rest->rows;
        len = kept;
    }
    eval_give_sel(ev, rest);
    *out = (struct vec){
        .values = result, .nulls = any_null ? nulls : NULL, .mask = UINT32_MAX};
}

/* NOT and IS NULL. IS NULL is never NULL; NOT is NULL where its argument is. */
static void eval_unary(struct eval *ev, struct cnode *node, const uint32_t *sel, uint32_t n,
                       struct vec *out)
{
    ASSERT(ev != NULL && n <= VEC_ROWS);
    struct vec v;
    cnode_eval(ev, node->args[0], sel, n, &v);
    node->mem = take_mem(ev);
    uint8_t *result = node->mem->values;
    bool is_null = node->kind == EXPR_IS_NULL;
    const uint8_t *values = v.values;
    bool copies_nulls = !is_null && v.nulls != NULL;
    for (uint32_t j = 0; j < n; j++) {
        uint32_t i = sel != NULL ? sel[j] : j;
        if (copies_nulls) {
            node->mem->nulls[i] = v.nulls[i & v.mask];
        }
        result[i] = is_null ? row_null(&v, i) : !values[i & v.mask];
    }
    cnode_release(ev, node->args[0]);
    *out = (struct vec){.values = result,
                        .nulls = copies_nulls ? node->mem->nulls : NULL,
                        .mask = UINT32_MAX};
}

/*
 * Copies rows of one vector into result memory; returns whether any is NULL. rows: which, at their
 * own places.
 */
static bool copy_rows(struct vec_mem *to, const struct vec *from, uint8_t kind,
                      const uint32_t *rows, uint32_t len)
{
    size_t width = type_is_variable(kind) ? sizeof(struct slice) : type_width(kind);
    bool any_null = false;
    for (uint32_t j = 0; j < len; j++) {
        uint32_t i = rows[j];
        uint32_t k = i & from->mask;
        bool null = from->nulls != NULL && from->nulls[k] != 0;
        to->nulls[i] = null;
        any_null |= null;
        if (!null) {
            memcpy(to->values + i * width, (const uint8_t *)from->values + k * width, width);
        }
    }
    return any_null;
}

/* A list that can be cut down, from a selection or from all rows. */
static uint32_t all_rows(const uint32_t *sel, uint32_t n, uint32_t *to)
{
    for (uint32_t j = 0; j < n; j++) {
        to[j] = sel != NULL ? sel[j] : j;
    }
    return n;
}

/* Evaluates a branch for some rows and puts it into the result of the whole. */
static bool eval_into(struct eval *ev, struct cnode *arg, const uint32_t *rows, uint32_t len,
                      struct vec_mem *to)
{
    struct vec v;
    if (len == 0) {
        return false;
    }
    cnode_eval(ev, arg, rows, len, &v);
    bool any_null = copy_rows(to, &v, arg->out_kind, rows, len);
    cnode_release(ev, arg);
    return any_null;
}

/*
 * Splits rest into rows where the condition holds (taken) and the others that did not fail. A
 * condition that is NULL is not true: the row goes on to the next one.
 */
static uint32_t split_rows(struct eval *ev, const struct vec *when, uint32_t *rest,
                           uint32_t *rest_len, uint32_t *taken, struct vec_mem *mem)
{
    uint32_t kept = 0;
    uint32_t len = 0;
    const uint8_t *values = when->values;
    for (uint32_t j = 0; j < *rest_len; j++) {
        uint32_t i = rest[j];
        if (ev->failed[i]) {
            mem->nulls[i] = 1;
        } else if (!row_null(when, i) && values[i & when->mask]) {
            taken[len++] = i;
        } else {
            rest[kept++] = i;
        }
    }
    *rest_len = kept;
    return len;
}

/*
 * Each row is in rest until a condition takes it; what is left gets the else. any_null is on the
 * safe side: after a failure, nulls must be looked at.
 */
static void eval_case(struct eval *ev, struct cnode *node, const uint32_t *sel, uint32_t n,
                      struct vec *out)
{
    ASSERT(ev != NULL && n <= VEC_ROWS);
    struct sel_mem *rest = eval_take_sel(ev);
    struct sel_mem *taken = eval_take_sel(ev);
    node->mem = take_mem(ev);
    uint32_t rest_len = all_rows(sel, n, rest->rows);
    bool any_null = ev->failures_len > 0;
    for (uint32_t k = 0; k + 1 < node->args_len && rest_len > 0; k += 2) {
        struct vec when;
        cnode_eval(ev, node->args[k], rest->rows, rest_len, &when);
        uint32_t len =
            split_rows(ev, &when, rest->rows, &rest_len, taken->rows, node->mem);
        cnode_release(ev, node->args[k]);
        any_null |= eval_into(ev, node->args[k + 1], taken->rows, len, node->mem);
    }
    any_null |= eval_into(ev, node->args[node->args_len - 1], rest->rows, rest_len, node->mem);
    any_null |= ev->failures_len > 0;
    eval_give_sel(ev, taken);
    eval_give_sel(ev, rest);
    *out = (struct vec){.values = node->mem->values,
                        .nulls = any_null ? node->mem->nulls : NULL,
                        .mask = UINT32_MAX};
}

/* A row leaves as soon as it has a value; nulls is filled for every row by the first argument. */
static void eval_coalesce(struct eval *ev, struct cnode *node, const uint32_t *sel, uint32_t n,
                          struct vec *out)
{
    ASSERT(ev != NULL && n <= VEC_ROWS);
    struct sel_mem *rest = eval_take_sel(ev);
    node->mem = take_mem(ev);
    uint32_t rest_len = all_rows(sel, n, rest->rows);
    for (uint32_t k = 0; k < node->args_len && rest_len > 0; k++) {
        eval_into(ev, node->args[k], rest->rows, rest_len, node->mem);
        uint32_t kept = 0;
        for (uint32_t j = 0; j < rest_len; j++) {
            uint32_t i = rest->rows[j];
            rest->rows[kept] = i;
            kept += node->mem->nulls[i] && !ev->failed[i];
        }
        rest_len = kept;
    }
    eval_give_sel(ev, rest);
    *out = (struct vec){
        .values = node->mem->values, .nulls = node->mem->nulls, .mask = UINT32_MAX};
}

/* Keeps the result of the first evaluation in a chunk as the memo's. */
static void memo_begin(struct eval *ev, struct cnode *node, const uint32_t *sel, uint32_t n,
                       const struct vec *v)
{
    struct memo *memo = node->memo;
    ASSERT(memo->mem == NULL && node->mem != NULL && v->values == node->mem->values);
    memo->mem = node->mem;
    memo->nulls = v->nulls != NULL;
    memo->all = sel == NULL;
    memo->next = ev->memos;
    ev->memos = memo;
    node->mem = NULL;
    if (sel != NULL) {
        memset(memo->done, 0, sizeof(memo->done));
        for (uint32_t j = 0; j < n; j++) {
            memo->done[sel[j]] = 1;
        }
    }
}

/* Values of more rows, computed now, beside those that are there. */
static void memo_add(struct memo *memo, const struct vec *v, uint8_t kind, const uint32_t *rows,
                     uint32_t len)
{
    ASSERT(memo->mem != NULL && !memo->all);
    if (v->nulls != NULL && !memo->nulls) {
        memset(memo->mem->nulls, 0, VEC_ROWS);
        memo->nulls = true;
    }
    copy_rows(memo->mem, v, kind, rows, len);
    for (uint32_t j = 0; j < len; j++) {
        memo->done[rows[j]] = 1;
    }
}

/*
 * A call in several places. A row that failed when it was computed is NULL here and marked as
 * failed, as it would be if it failed again.
 */
static void eval_shared(struct eval *ev, struct cnode *node, const uint32_t *sel, uint32_t n,
                        struct vec *out)
{
    struct memo *memo = node->memo;
    if (memo->mem == NULL) {
        eval_call(ev, node, sel, n, out);
        memo_begin(ev, node, sel, n, out);
    } else if (!memo->all) {
        struct sel_mem *rest = eval_take_sel(ev);
        uint32_t len = 0;
        for (uint32_t j = 0; j < n; j++) {
            uint32_t i = sel != NULL ? sel[j] : j;
            rest->rows[len] = i;
            len += !memo->done[i];
        }
        if (len > 0) {
            struct vec v;
            eval_call(ev, node, rest->rows, len, &v);
            memo_add(memo, &v, node->out_kind, rest->rows, len);
            cnode_release(ev, node);
        }
        eval_give_sel(ev, rest);
    }
    *out = (struct vec){.values = memo->mem->values,
                        .nulls = memo->nulls ? memo->mem->nulls : NULL,
                        .mask = UINT32_MAX};
}

/* At the end of a chunk, when nobody looks at the values any more. */
void eval_forget_shared(struct eval *ev)
{
    while (ev->memos != NULL) {
        struct memo *memo = ev->memos;
        ASSERT(memo->mem != NULL);
        ev->memos = memo->next;
        memo->mem->next = ev->vec_pool;
        ev->vec_pool = memo->mem;
        memo->mem = NULL;
    }
}

/* Columns and literals cost nothing: their vectors are handed on. */
void cnode_eval(struct eval *ev, struct cnode *node, const uint32_t *sel, uint32_t n,
                struct vec *out)
{
    ASSERT(ev != NULL && n <= VEC_ROWS);
    ASSERT(n <= VEC_ROWS && node->mem == NULL);
    if (node->memo != NULL) {
        eval_shared(ev, node, sel, n, out);
        return;
    }
    switch (node->kind) {
    case EXPR_COLUMN:
        *out = ev->cols[node->column];
        break;
    case EXPR_LITERAL:
        *out = node->literal;
        break;
    case EXPR_CALL:
        eval_call(ev, node, sel, n, out);
        break;
    case EXPR_AND:
    case EXPR_OR:
        eval_and_or(ev, node, sel, n, out);
        break;
    case EXPR_CASE:
        eval_case(ev, node, sel, n, out);
        break;
    case EXPR_COALESCE:
        eval_coalesce(ev, node, sel, n, out);
        break;
    default:
        ASSERT(node->kind == EXPR_NOT || node->kind == EXPR_IS_NULL);
        eval_unary(ev, node, sel, n, out);
        break;
    }
}
