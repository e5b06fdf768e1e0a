/*
 * From a statement to what the session runs: a constant, a peek of an index that is there already,
 * or a dataflow.
 *
 *   analyse -> lower -> optimise -> constant?  rows are known now (SELECT 1, catalog queries)
 *                                -> peek?      a chain of MAP, FILTER, PROJECT over an index
 *                                -> dataflow   a plan for a cluster
 *
 * A peek is what makes reads of maintained views cheap: no dataflow is made, and when the
 * predicates fix all key columns of an index the peek is one lookup. SUBSCRIBE and maintained
 * relations always are dataflows.
 *
 * rel_optimize is the order of the passes; each leaves what check.c asserts. Pushdown goes first,
 * as it decides what joins with what; physical joins need its flat inner joins; pruning needs the
 * final operators. One round is enough: nothing pruning does lets a predicate move further.
 *
 * Also here: the planning context's beginning and end, AS OF, and SELECT * for SUBSCRIBE and COPY
 * of an object. Entry points: sql_plan_query, sql_plan_view; query_plan serves write.c.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "ctrl/adapter/sql/typing.h"

/* Above it a constant is a dataflow's like any other rows. */
enum { CONSTANT_ROWS_MAX = 100000, GIVEN_BYTES = 1024 };

/*
 * stmt NULL: no text to refer to. Parameter types known so far are a beginning; analysis adds some.
 */
void az_init(struct az *az, struct arena *arena, const struct sql_context *cx,
             const struct sql_stmt *stmt)
{
    ASSERT(cx != NULL && cx->catalog != NULL);
    *az = (struct az){.arena = arena, .cx = cx};
    uint32_t params = cx->params_len;
    if (stmt != NULL) {
        az->text = stmt->script->text;
        az->base = stmt->ast->base;
        params = stmt->params_len > params ? stmt->params_len : params;
    }
    az->params_len = params;
    az->param_types = ARENA_ARRAY(arena, struct type, params);
    for (uint32_t i = 0; i < params && i < cx->params_len && cx->param_types != NULL; i++) {
        az->param_types[i] = cx->param_types[i];
    }
}

/* Trees of texts parsed on the way were referred to until now. What is in the arena stays. */
void az_release(struct az *az)
{
    for (size_t i = 0; i < az->scripts_len; i++) {
        sql_script_free(az->scripts[i]);
    }
    free(az->scripts);
    free(az->depends.ids);
    u64map_free(&az->relations);
}

/* names NULL: columns without names. */
struct schema schema_copy(struct arena *arena, const char *const *names, const struct type *types,
                          uint32_t cols)
{
    ASSERT(cols == 0 || types != NULL);
    struct schema s = {.cols = cols};
    s.types = arena_memdup(arena, types, cols * sizeof(types[0]));
    s.names = ARENA_ARRAY(arena, const char *, cols);
    for (uint32_t i = 0; i < cols; i++) {
        s.names[i] = arena_strdup(arena, names == NULL ? "" : names[i]);
    }
    return s;
}

/* ---- constants ------------------------------------------------------------------------------- */

/* Texts may belong to trees that az_release frees. */
static void copy_rows(struct arena *arena, struct rel *rel)
{
    ASSERT(rel->kind == REL_CONSTANT);
    for (size_t i = 0; i < (size_t)rel->rows_len * rel->cols_len; i++) {
        struct datum *d = &rel->rows[i];
        uint8_t kind = rel->types[i % rel->cols_len].kind;
        if (!d->null && type_is_variable((enum type_kind)kind)) {
            d->s = arena_memdup(arena, d->s, d->len);
        }
    }
}

/* The value of an expression over one row; an error is the statement's. */
static err_t row_value(struct arena *arena, struct sx *sx, struct sx *const *row, struct datum *out)
{
    ASSERT(sx != NULL && out != NULL);
    sx = sx_fold(arena, sx_subst(arena, sx, row));
    if (sx->kind == SX_LIT) {
        *out = sx->lit;
        return ERR_OK;
    }
    struct expr e;
    TRY(sx_emit(arena, sx, &e));
    return expr_eval_const(&e, arena, out);
}

/* A MAP, FILTER or PROJECT over known rows, row by row. */
static err_t constant_mfp(struct arena *arena, struct rel *rel, struct rel *in, struct rel *out)
{
    ASSERT(in->kind == REL_CONSTANT);
    struct sx **row = ARENA_ARRAY(arena, struct sx *, in->cols_len);
    out->rows = ARENA_ARRAY(arena, struct datum, (size_t)in->rows_len * rel->cols_len);
    for (uint32_t r = 0; r < in->rows_len; r++) {
        const struct datum *from = in->cols_len == 0 ? NULL : &in->rows[(size_t)r * in->cols_len];
        struct datum *to = out->rows + (size_t)out->rows_len * rel->cols_len;
        for (uint32_t c = 0; c < in->cols_len; c++) {
            row[c] = sx_lit(arena, in->types[c], from[c]);
        }
        bool keep = true;
        for (uint32_t i = 0; rel->kind == REL_FILTER && i < rel->sx_len && keep; i++) {
            struct datum d = {0};
            TRY(row_value(arena, rel->sx[i], row, &d));
            keep = !d.null && d.b;
        }
        for (uint32_t c = 0; c < rel->cols_len && keep; c++) {
            uint32_t from_col = rel->kind == REL_PROJECT ? rel->cols[c] : c;
            if (rel->kind == REL_MAP && c >= in->cols_len) {
                TRY(row_value(arena, rel->sx[c - in->cols_len], row, &to[c]));
            } else {
                to[c] = from[from_col];
            }
        }
        out->rows_len += keep ? 1 : 0;
    }
    return ERR_OK;
}

/* Room for one more row: the rows move to twice the place when their number is a power of two. */
static struct datum *next_row(struct arena *arena, struct rel *rel)
{
    uint32_t len = rel->rows_len;
    if (len == 0 || (len >= 16 && (len & (len - 1)) == 0)) {
        size_t cells = (size_t)len * rel->cols_len;
        struct datum *rows = ARENA_ARRAY(arena, struct datum, len == 0 ? 16 * rel->cols_len
                                                                       : 2 * cells);
        if (cells > 0) {
            memcpy(rows, rel->rows, cells * sizeof(rows[0]));
        }
        rel->rows = rows;
    }
    return rel->rows + (size_t)len * rel->cols_len;
}

/* Appends a row of the functions behind a row's kept columns; texts are copied. Returns the bytes
 * they take. */
static size_t add_given(struct arena *arena, const struct rel *rel, const struct datum *from,
                      const struct datum *given, struct rel *out)
{
    struct datum *to = next_row(arena, out);
    size_t bytes = 0;
    for (uint32_t c = 0; c < rel->cols_len; c++) {
        to[c] = c < rel->keys_len ? from[rel->cols[c]] : given[c - rel->keys_len];
        bool variable = type_is_variable((enum type_kind)rel->types[c].kind);
        if (c >= rel->keys_len && variable && !to[c].null) {
            to[c].s = arena_memdup(arena, to[c].s, to[c].len);
            bytes += to[c].len;
        }
    }
    out->rows_len++;
    return bytes;
}

/* The rows one input row gives; *most is how many more there may be, of which a long one counts as
 * several, and less than 0 when that was not enough. calls: of the functions, at their start. */
static err_t flat_row(struct arena *arena, const struct rel *rel, const struct datum *from,
                      struct table_call **calls, int64_t *most, struct rel *out)
{
    struct datum *given = ARENA_ARRAY(arena, struct datum, rel->cols_len + 1);
    bool any = true;
    for (int64_t ordinal = 1; any; ordinal++) {
        uint32_t at = 0;
        any = false;
        for (uint32_t i = 0; i < rel->tables_len; i++) {
            uint32_t cols = table_func_by_id(rel->tables[i].func)->cols_len;
            bool more;
            TRY(table_call_next(calls[i], &given[at], &more));
            for (uint32_t c = 0; c < cols && !more; c++) {
                given[at + c] = (struct datum){.null = true};
            }
            any = any || more;
            at += cols;
        }
        if (rel->ordinality) {
            given[at] = (struct datum){.i = ordinal, .null = !any};
        }
        if (any || (rel->outer && ordinal == 1)) {
            if (--*most < 0) {
                return ERR_OK;
            }
            *most -= (int64_t)(add_given(arena, rel, from, given, out) / GIVEN_BYTES);
        }
    }
    return ERR_OK;
}

/* Set-returning functions over known rows, as long as they give at most so many. */
static err_t constant_flat_map(struct arena *arena, struct rel *rel, struct rel *in, uint32_t most,
                               struct rel **out)
{
    ASSERT(rel->kind == REL_FLAT_MAP && in->kind == REL_CONSTANT);
    struct rel *made = rel_empty(arena, rel->types, rel->cols_len);
    struct table_call **calls = ARENA_ARRAY(arena, struct table_call *, rel->tables_len);
    uint32_t col = rel->keys_len;
    int64_t left = most;
    err_t err = ERR_OK;
    for (uint32_t i = 0; i < rel->tables_len; i++) {
        const struct table_func *func = table_func_by_id(rel->tables[i].func);
        calls[i] = table_call_new(func, rel->types[col].kind);
        col += func->cols_len;
    }
    for (uint32_t r = 0; r < in->rows_len && left >= 0 && err == ERR_OK; r++) {
        const struct datum *from = in->cols_len == 0 ? NULL : &in->rows[(size_t)r * in->cols_len];
        for (uint32_t i = 0; i < rel->tables_len; i++) {
            struct datum args[TABLE_FUNC_ARGS_MAX];
            for (uint32_t a = 0; a < rel->tables[i].args_len; a++) {
                args[a] = from[rel->tables[i].args[a]];
            }
            table_call_start(calls[i], args);
        }
        err = flat_row(arena, rel, from, calls, &left, made);
    }
    for (uint32_t i = 0; i < rel->tables_len; i++) {
        table_call_free(calls[i]);
    }
    *out = left >= 0 ? made : NULL;
    return err;
}

/* All of them are known, or *out is NULL. */
static err_t constant_union(struct arena *arena, struct rel *rel, uint32_t most, struct rel **out)
{
    ASSERT(rel->kind == REL_UNION);
    struct rel *made = rel_empty(arena, rel->types, rel->cols_len);
    struct rel **parts = ARENA_ARRAY(arena, struct rel *, rel->inputs_len);
    uint32_t total = 0;
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        TRY(query_constant_rows(arena, rel->inputs[i], most, &parts[i]));
        if (parts[i] == NULL) {
            return ERR_OK;
        }
        total += parts[i]->rows_len;
    }
    made->rows = ARENA_ARRAY(arena, struct datum, (size_t)total * rel->cols_len);
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        size_t cells = (size_t)parts[i]->rows_len * rel->cols_len;
        if (cells > 0) {
            memcpy(made->rows + (size_t)made->rows_len * rel->cols_len, parts[i]->rows,
                   cells * sizeof(made->rows[0]));
        }
        made->rows_len += parts[i]->rows_len;
    }
    *out = made;
    return ERR_OK;
}

/* Joins, groups and the rest of constants are the engine's, which has the code for them. */
err_t query_constant_rows(struct arena *arena, struct rel *rel, uint32_t most, struct rel **out)
{
    ASSERT(rel != NULL);
    *out = NULL;
    if (rel->kind == REL_CONSTANT) {
        *out = rel->diffs == NULL && rel->rows_len <= most ? rel : NULL;
        return ERR_OK;
    }
    bool linear = rel->kind == REL_MAP || rel->kind == REL_FILTER || rel->kind == REL_PROJECT;
    if (linear || rel->kind == REL_FLAT_MAP) {
        struct rel *in = NULL;
        TRY(query_constant_rows(arena, rel->inputs[0], most, &in));
        if (in == NULL) {
            return ERR_OK;
        }
        if (rel->kind == REL_FLAT_MAP) {
            return constant_flat_map(arena, rel, in, most, out);
        }
        *out = rel_empty(arena, rel->types, rel->cols_len);
        return constant_mfp(arena, rel, in, *out);
    }
    return rel->kind == REL_UNION ? constant_union(arena, rel, most, out) : ERR_OK;
}

/* ---- the fast path --------------------------------------------------------------------------- */

/* The literal a predicate of the mfp fixes the column to, or NULL. Of one kind only: the index
 * compares bytes. A NULL fixes nothing, as it equals nothing. */
static const struct expr_node *fixed_to(const struct mfp *mfp, uint32_t col)
{
    ASSERT(col < mfp->input_cols);
    for (uint32_t i = 0; i < mfp->predicates_len; i++) {
        const struct expr *e = &mfp->predicates[i];
        const struct expr_node *root = &e->nodes[e->nodes_len - 1];
        if (root->kind != EXPR_CALL || strcmp(func_by_id(root->func)->name, "=") != 0) {
            continue;
        }
        const struct expr_node *a = &e->nodes[root->args[0]], *b = &e->nodes[root->args[1]];
        if (a->kind == EXPR_LITERAL) {
            const struct expr_node *t = a;
            a = b;
            b = t;
        }
        if (a->kind == EXPR_COLUMN && a->column == col && b->kind == EXPR_LITERAL &&
            a->type.kind == b->type.kind && !b->literal.null) {
            return b;
        }
    }
    return NULL;
}

/* All key columns are fixed: the peek can look up instead of scan. Equality of numerics or floats
 * of different bytes is settled by the index's own encoding. */
static bool index_fits(const struct sql_index *index, const struct mfp *mfp)
{
    ASSERT(index != NULL);
    for (uint32_t k = 0; k < index->keys_len; k++) {
        if (fixed_to(mfp, index->keys[k]) == NULL) {
            return false;
        }
    }
    return index->keys_len > 0;
}

/*
 * A peek with the whole chain as its mfp; the predicates that gave the key stay in it, so a looser
 * lookup would still be right.
 */
static err_t fast_path(struct az *az, struct rel *rel, struct sql_query *out, bool *done)
{
    ASSERT(out->plan == NULL);
    struct rel *base = NULL;
    *done = false;
    TRY(rel_mfp(az->arena, az->arena, rel, &base, &out->peek.mfp));
    if (base->kind != REL_GET || !base->is_index) {
        return ERR_OK;
    }
    /* az_relation_rel reads the first index; any that fits the predicates serves as well. */
    const struct sql_relation *relation = base->relation;
    const struct sql_index *chosen = &relation->indexes[0];
    bool keyed = false;
    for (uint32_t i = 0; i < relation->indexes_len && !keyed; i++) {
        keyed = index_fits(&relation->indexes[i], &out->peek.mfp);
        chosen = keyed ? &relation->indexes[i] : chosen;
    }
    out->kind = SQL_QUERY_PEEK;
    out->peek.index_id = chosen->id;
    if (keyed) {
        out->peek.keys_len = 1;
        out->peek.key_cols = chosen->keys_len;
        out->peek.keys = ARENA_ARRAY(az->arena, struct datum, chosen->keys_len);
        out->peek.key_types = ARENA_ARRAY(az->arena, struct type, chosen->keys_len);
        for (uint32_t k = 0; k < chosen->keys_len; k++) {
            out->peek.keys[k] = fixed_to(&out->peek.mfp, chosen->keys[k])->literal;
            out->peek.key_types[k] = relation->columns.types[chosen->keys[k]];
        }
    }
    out->indexes = ARENA_ARRAY(az->arena, uint64_t, 1);
    out->indexes[0] = chosen->id;
    out->indexes_len = 1;
    *done = true;
    return ERR_OK;
}

/* ---- planning -------------------------------------------------------------------------------- */

/*
 * See the head for the order. Deterministic: the same statement over the same catalog gives the
 * same plan, by which a restarted environment finds its dataflows again (plan_equal).
 */
struct rel *rel_optimize(struct arena *arena, struct rel *rel)
{
    rel_check(arena, rel);
    rel = rel_push_filters(arena, rel);
    rel_check(arena, rel);
    rel = rel_prune(arena, rel); /* so that joins know how wide their inputs are */
    rel_check(arena, rel);
    rel = rel_physical(arena, rel);
    rel_check(arena, rel);
    rel = rel_recursive_joins(arena, rel);
    rel_check(arena, rel);
    rel = rel_prune(arena, rel);
    rel_check(arena, rel);
    rel = rel_expand_lookups(arena, rel);
    rel_check(arena, rel);
    return rel;
}

static bool plan_has_recursion(const struct plan *plan)
{
    bool found = false;
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        found = found || plan->nodes[i].op == PLAN_FIXPOINT;
    }
    return found;
}

/*
 * One export: the root, keyed on all columns so that a peek can read it in any way, or its changes.
 */
static err_t emit_plan(struct az *az, struct rel *rel, bool subscribe, bool snapshot,
                       struct sql_query *out)
{
    ASSERT(out->plan == NULL);
    struct plan *plan = plan_new();
    struct emit_reads reads = {0};
    uint32_t root = 0;
    err_t err = rel_emit(az->arena, rel, plan, &root, &reads);
    if (err == ERR_OK && plan_has_recursion(plan)) {
        err = plan_validate(plan); /* what a recursion's body cannot hold yet: 0A000 */
    }
    if (err == ERR_OK) {
        struct plan_export *e = ARENA_NEW(&plan->arena, struct plan_export);
        e->kind = subscribe ? PLAN_EXPORT_SUBSCRIBE : PLAN_EXPORT_INDEX;
        e->node = root;
        e->snapshot = snapshot;
        e->until = FRONTIER_EMPTY;
        e->keys_len = subscribe ? 0 : rel->cols_len;
        e->keys = ARENA_ARRAY(&plan->arena, uint32_t, rel->cols_len);
        for (uint32_t i = 0; i < rel->cols_len; i++) {
            e->keys[i] = i;
        }
        plan->exports = e;
        plan->exports_len = 1;
        plan->name = arena_strdup(&plan->arena, "query");
        out->kind = SQL_QUERY_DATAFLOW;
        out->plan = plan;
        out->collections = arena_memdup(az->arena, reads.collections.ids,
                                        reads.collections.ids_len * sizeof(uint64_t));
        out->collections_len = (uint32_t)reads.collections.ids_len;
        out->indexes =
            arena_memdup(az->arena, reads.indexes.ids, reads.indexes.ids_len * sizeof(uint64_t));
        out->indexes_len = (uint32_t)reads.indexes.ids_len;
        out->catalog_only = reads.collections.ids_len == 0 && reads.indexes.ids_len == 0;
    } else {
        plan_free(plan);
    }
    free(reads.collections.ids);
    free(reads.indexes.ids);
    return err;
}

/* See the head. Errors of constants (SELECT 1 / 0) are the statement's, raised here. */
err_t query_plan(struct az *az, struct rel *rel, bool subscribe, bool snapshot,
                 struct sql_query *out)
{
    ASSERT(rel != NULL && out->plan == NULL);
    out->needs_now = az->needs_now;
    TRY(rel_lower(az, rel, &rel));
    if (az->cx->optimized != NULL) {
        rel_print(az->arena, rel_push_filters(az->arena, rel), az->cx->optimized);
    }
    rel = rel_optimize(az->arena, rel);
    out->types = arena_memdup(az->arena, rel->types, rel->cols_len * sizeof(rel->types[0]));
    out->types_len = rel->cols_len;
    /* What is subscribed to or maintained must stay a dataflow though it be constant today. */
    if (!subscribe && !az->maintained) {
        struct rel *constant = NULL;
        TRY(query_constant_rows(az->arena, rel, CONSTANT_ROWS_MAX, &constant));
        if (constant != NULL) {
            copy_rows(az->arena, constant);
            out->kind = SQL_QUERY_CONSTANT;
            out->catalog_only = true;
            out->constant.rows = constant->rows;
            out->constant.rows_len = constant->rows_len;
            return ERR_OK;
        }
        bool done = false;
        TRY(fast_path(az, rel, out, &done));
        if (done) {
            return ERR_OK;
        }
    }
    return emit_plan(az, rel, subscribe, snapshot, out);
}

/* oids that are written as names (::regclass) leave the server as names. */
static err_t name_reg_columns(struct az *az, struct query *q)
{
    ASSERT(q->targets == NULL || q->cols_len <= q->targets_len);
    for (uint32_t i = 0; q->targets != NULL && i < q->cols_len; i++) {
        if (type_is_reg(&q->targets[i]->type)) {
            TRY(az_coerce(az, q->targets[i], type_of(TYPE_TEXT), CAST_EXPLICIT, &q->targets[i]));
        }
    }
    return ERR_OK;
}

/* Analyses text of our own making: it has no positions the user could know. */
static err_t analyse_text(struct az *az, const char *text, struct query *out)
{
    struct sql_script *script = NULL;
    TRY(sql_parse(text, strlen(text), &script));
    *VEC_PUSH(az, scripts) = script;
    ASSERT(script->stmts_len == 1);
    az->text = NULL;
    return az_query(az, script->stmts[0]->ast->node, NULL, 0, out);
}

/* SELECT * FROM name: SUBSCRIBE and COPY of an object. */
static const char *select_star(struct arena *arena, const struct sql_name *name)
{
    ASSERT(name->name != NULL);
    const char *text = sql_quote_ident(arena, name->name);
    if (name->schema != NULL) {
        text = arena_printf(arena, "%s.%s", sql_quote_ident(arena, name->schema), text);
    }
    if (name->database != NULL) {
        text = arena_printf(arena, "%s.%s", sql_quote_ident(arena, name->database), text);
    }
    return arena_printf(arena, "SELECT * FROM %s", text);
}

/* An object is resolved first, so that the error has its position in the user's text. */
err_t query_analyse(struct az *az, const struct sql_stmt *stmt, struct query *out)
{
    ASSERT(stmt != NULL);
    bool object = (stmt->kind == SQL_SUBSCRIBE && !stmt->ast->has_query) ||
                  (stmt->kind == SQL_COPY_TO && stmt->inner == NULL);
    if (stmt->kind == SQL_SHOW_OBJECTS) {
        const char *text = NULL;
        TRY(sql_show_text(az, stmt, &text));
        TRY(analyse_text(az, text, out));
    } else if (object) {
        const struct sql_name *name = stmt->kind == SQL_SUBSCRIBE ? &stmt->ast->on : &stmt->name;
        az->base = 0;
        const struct sql_relation *relation = NULL;
        TRY(az_relation(az, name->database, name->schema, name->name, name->location, &relation));
        TRY(analyse_text(az, select_star(az->arena, name), out));
    } else if (stmt->kind == SQL_SELECT || stmt->kind == SQL_SUBSCRIBE) {
        TRY(az_query(az, stmt->ast->node, NULL, 0, out));
    } else {
        return err_sql(ERR_INVALID, "42601", "a query is expected");
    }
    TRY(name_reg_columns(az, out));
    return az_query_finish(az, out, NULL);
}

/* ---- AS OF ----------------------------------------------------------------------------------- */

/*
 * A constant time: microseconds since 1970 as a number, or a timestamp. The expression was parsed
 * apart, hence its own base for positions.
 */
static err_t time_value(struct az *az, pg_node *node, uint32_t base, bool *has, uint64_t *out)
{
    ASSERT(has != NULL && out != NULL);
    *has = node != NULL;
    if (node == NULL) {
        return ERR_OK;
    }
    struct scope scope = {.no_aggs = "AS OF"};
    struct sx *sx = NULL;
    uint32_t saved = az->base;
    bool needs_now = az->needs_now;
    az->base = base;
    err_t err = az_expr(az, &scope, node, &sx);
    if (err == ERR_OK && az->needs_now && !needs_now) {
        err = az_err(az, pg_location(node), ERR_INVALID, "22023",
                     "mz_now() is the time of a query, which AS OF and UP TO say");
    }
    if (err == ERR_OK && type_is_unknown(sx) && sx->kind == SX_LIT && !sx->lit.null) {
        char *end = NULL;
        unsigned long long number = strtoull(sx->lit.s, &end, 10);
        if (end != sx->lit.s && *end == '\0') {
            sx = sx_int8(az->arena, (int64_t)number);
        } else {
            err = az_coerce(az, sx, type_of(TYPE_TIMESTAMPTZ), CAST_EXPLICIT, &sx);
        }
    } else if (err == ERR_OK && sx->type.kind != TYPE_TIMESTAMP &&
               sx->type.kind != TYPE_TIMESTAMPTZ && sx->type.kind != TYPE_MZ_TIMESTAMP) {
        err = az_coerce(az, sx, type_of(TYPE_INT8), CAST_EXPLICIT, &sx);
    }
    az->base = saved;
    TRY(err);
    sx = sx_fold(az->arena, sx);
    if (sx->kind != SX_LIT || sx->lit.null || sx->lit.i < 0) {
        return az_err(az, pg_location(node), ERR_INVALID, "22023",
                      "AS OF and UP TO need a constant time");
    }
    *out = (uint64_t)sx->lit.i;
    return ERR_OK;
}

/*
 * SELECT leaves its order and limit to finishing; a SUBSCRIBE's are part of the plan, as its
 * changes are those of the limited result.
 */
static err_t plan_into(struct az *az, const struct sql_stmt *stmt, struct sql_query *out)
{
    ASSERT(out->plan == NULL);
    struct query q;
    bool subscribe = stmt->kind == SQL_SUBSCRIBE;
    az->symbolic_now = subscribe;
    TRY(query_analyse(az, stmt, &q));
    TRY(time_value(az, stmt->ast->as_of, stmt->ast->as_of_base, &out->has_as_of, &out->as_of));
    TRY(time_value(az, stmt->ast->up_to, stmt->ast->up_to_base, &out->has_up_to, &out->up_to));
    struct rel *rel = q.rel;
    out->limit = -1;
    ASSERT(!q.ties);
    if (subscribe) {
        rel = az_query_rel(az, &q);
    } else {
        out->order = q.order;
        out->order_len = q.order_len;
        out->limit = q.limit;
        out->offset = q.offset;
    }
    out->columns = schema_copy(az->arena, q.names, q.rel->types, q.cols_len);
    out->project = ARENA_ARRAY(az->arena, uint32_t, q.cols_len);
    out->project_len = q.cols_len;
    for (uint32_t i = 0; i < q.cols_len; i++) {
        out->project[i] = i;
    }
    return query_plan(az, rel, subscribe, stmt->subscribe.snapshot, out);
}

/* The query's arena is the planning's, so what it refers to lives as long. */
err_t sql_plan_query(const struct sql_context *cx, const struct sql_stmt *stmt,
                     struct sql_query **out)
{
    ASSERT(cx != NULL && stmt != NULL);
    *out = NULL;
    struct sql_query *query = MEM_NEW(struct sql_query);
    struct az az;
    az_init(&az, &query->arena, cx, stmt);
    err_t err = plan_into(&az, stmt, query);
    az_release(&az);
    if (err != ERR_OK) {
        sql_query_free(query);
        return err;
    }
    *out = query;
    return ERR_OK;
}

void sql_query_free(struct sql_query *query)
{
    if (query == NULL) {
        return;
    }
    if (query->plan != NULL) {
        plan_free(query->plan);
    }
    arena_free(&query->arena);
    free(query);
}

/*
 * definition NULL: the relation itself, as an index on other keys. Nothing in it may depend on the
 * session or the clock: it outlives both.
 */
static err_t plan_view_into(struct az *az, const char *definition,
                            const struct sql_relation *relation, const uint32_t *keys,
                            uint32_t keys_len, struct sql_query *out)
{
    ASSERT(out->plan == NULL);
    struct query q;
    struct rel *rel = NULL;
    az->maintained = true;
    out->limit = -1;
    if (definition != NULL) {
        TRY(analyse_text(az, definition, &q));
        TRY(az_query_finish(az, &q, NULL));
        rel = az_query_rel(az, &q);
        out->columns = schema_copy(az->arena, q.names, rel->types, rel->cols_len);
    } else {
        TRY(az_relation_rel(az, relation, &rel));
        out->columns = schema_copy(az->arena, relation->columns.names, rel->types, rel->cols_len);
    }
    TRY(query_plan(az, rel, false, true, out));
    /* query_plan made one export, keyed on all columns. */
    struct plan_export *e = &out->plan->exports[0];
    if (keys_len > 0) {
        e->keys = arena_memdup(&out->plan->arena, keys, keys_len * sizeof(keys[0]));
        e->keys_len = keys_len;
    }
    out->project_len = rel->cols_len;
    out->project = ARENA_ARRAY(az->arena, uint32_t, rel->cols_len);
    for (uint32_t i = 0; i < rel->cols_len; i++) {
        out->project[i] = i;
    }
    return ERR_OK;
}

/* See sql.h; the caller fills ids and times into the plan. */
err_t sql_plan_view(const struct sql_context *cx, const char *definition,
                    const struct sql_relation *relation, const uint32_t *keys, uint32_t keys_len,
                    struct sql_query **out)
{
    ASSERT(definition != NULL || relation != NULL);
    *out = NULL;
    struct sql_query *query = MEM_NEW(struct sql_query);
    struct az az;
    az_init(&az, &query->arena, cx, NULL);
    err_t err = plan_view_into(&az, definition, relation, keys, keys_len, query);
    az_release(&az);
    if (err != ERR_OK) {
        sql_query_free(query);
        return err;
    }
    *out = query;
    return ERR_OK;
}
