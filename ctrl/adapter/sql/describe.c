/*
 * SHOW, EXPLAIN, EXECUTE's arguments, and the description of statements.
 *
 * The extended protocol asks for result columns and parameter types before values are bound:
 * sql_describe analyses the statement with parameters as placeholders (az->describe) and stops
 * before planning. Planning analyses again with the values as literals, so that they fold and
 * choose indexes like written ones; both see the same text and the same catalog version, or the
 * session describes anew.
 *
 * SHOW <objects> is a SELECT over catalog tables that the adapter fills, written as text here: so
 * LIKE, order, columns and the protocol need nothing of their own.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "ctrl/adapter/sql/typing.h"

/* ---- SHOW ------------------------------------------------------------------------------------ */

/* A name as a string literal: quotes doubled. standard_conforming_strings is always on. */
static const char *literal(struct arena *arena, const char *text)
{
    ASSERT(text != NULL);
    char *out = arena_alloc(arena, strlen(text) * 2 + 3), *to = out;
    *to++ = '\'';
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '\'') {
            *to++ = '\'';
        }
        *to++ = *c;
    }
    *to = '\'';
    return out;
}

/* The relation is resolved by the search path first: its name alone may stand in many schemas. */
static err_t show_columns(struct az *az, const struct sql_stmt *stmt, const char **out)
{
    const struct sql_name *on = &stmt->ast->on;
    const struct sql_relation *relation = NULL;
    uint32_t base = az->base;
    ASSERT(on->name != NULL);
    az->base = 0; /* our own statements' locations count from the script's beginning */
    TRY(az_relation(az, on->database, on->schema, on->name, on->location, &relation));
    az->base = base;
    *out = arena_printf(az->arena,
                        "SELECT name, nullable, type FROM mz_internal.mz_show_columns WHERE "
                        "relation = %s AND schema = %s ORDER BY position",
                        literal(az->arena, on->name), literal(az->arena, relation->schema));
    return ERR_OK;
}

/* By default only the session's schema is listed, for objects that live in schemas. */
err_t sql_show_text(struct az *az, const struct sql_stmt *stmt, const char **out)
{
    ASSERT(stmt->kind == SQL_SHOW_OBJECTS);
    struct arena *arena = az->arena;
    const struct sql_context *cx = az->cx;
    static const struct {
        uint8_t object;
        const char *kind, *columns;
        bool schemas; /* objects live in schemas */
    } table[] = {
        {SQL_OBJECT_TABLE, "table", "name", true},
        {SQL_OBJECT_SOURCE, "source", "name, type, cluster", true},
        {SQL_OBJECT_VIEW, "view", "name", true},
        {SQL_OBJECT_MATERIALIZED_VIEW, "materialized-view", "name, cluster", true},
        {SQL_OBJECT_INDEX, "index", "name, on_name AS \"on\", cluster, key", true},
        {SQL_OBJECT_CLUSTER, "cluster", "name, replicas", false},
        {SQL_OBJECT_CLUSTER_REPLICA, "cluster-replica", "cluster, name AS replica, type AS size",
         false},
        {SQL_OBJECT_SCHEMA, "schema", "name", false},
        {SQL_OBJECT_DATABASE, "database", "name", false},
        {SQL_OBJECT_ANY, NULL, "name, kind AS type", true},
    };
    /* Columns are in a table of their own. */
    if (stmt->object == SQL_OBJECT_COLUMN) {
        return show_columns(az, stmt, out);
    }
    size_t i = 0;
    while (i < ARRAY_LEN(table) - 1 && table[i].object != stmt->object) {
        i++;
    }
    const struct sql_ast *ast = stmt->ast;
    const char *where = table[i].kind == NULL
                            ? "kind IN ('table', 'source', 'view', 'materialized-view', 'index')"
                            : arena_printf(arena, "kind = %s", literal(arena, table[i].kind));
    /* SHOW INDEXES FROM t, but SHOW TABLES FROM schema. */
    bool index = stmt->object == SQL_OBJECT_INDEX;
    if (ast->on.name != NULL) {
        where = arena_printf(arena, "%s AND %s = %s", where, index ? "on_name" : "schema",
                             literal(arena, ast->on.name));
    } else if (table[i].schemas && cx->schema != NULL) {
        where = arena_printf(arena, "%s AND schema = %s", where, literal(arena, cx->schema));
    }
    if (ast->cluster != NULL) {
        where = arena_printf(arena, "%s AND cluster = %s", where, literal(arena, ast->cluster));
    }
    if (ast->like != NULL) {
        where = arena_printf(arena, "%s AND name LIKE %s", where, literal(arena, ast->like));
    }
    *out = arena_printf(arena, "SELECT %s FROM mz_internal.mz_show_objects WHERE %s ORDER BY 1",
                        table[i].columns, where);
    return ERR_OK;
}

/* ---- describe -------------------------------------------------------------------------------- */

/* A result of one text column. */
static struct schema one_column(struct arena *arena, const char *name)
{
    ASSERT(name != NULL);
    struct type text = type_of(TYPE_TEXT);
    return schema_copy(arena, &name, &text, 1);
}

/* The visible columns; hidden ones never leave. */
static err_t describe_query(struct az *az, const struct sql_stmt *stmt, struct schema *out)
{
    ASSERT(out != NULL);
    struct query q;
    TRY(query_analyse(az, stmt, &q));
    *out = schema_copy(az->arena, q.names, q.rel->types, q.cols_len);
    return ERR_OK;
}

/* SUBSCRIBE puts mz_timestamp, mz_diff (and mz_progressed) before the columns. A progress row has
 * NULL in all of those, so they are nullable then. */
static err_t describe_subscribe(struct az *az, const struct sql_stmt *stmt, struct schema *out)
{
    ASSERT(stmt->kind == SQL_SUBSCRIBE);
    struct schema inner;
    TRY(describe_query(az, stmt, &inner));
    bool progress = stmt->subscribe.progress;
    /* mz_timestamp, mz_progressed when asked for, mz_diff. */
    uint32_t extra = progress ? 3 : 2;
    out->cols = inner.cols + extra;
    out->types = ARENA_ARRAY(az->arena, struct type, out->cols);
    out->names = ARENA_ARRAY(az->arena, const char *, out->cols);
    out->names[0] = "mz_timestamp";
    out->types[0] = type_of(TYPE_MZ_TIMESTAMP);
    out->types[0].nullable = false;
    if (progress) {
        out->names[1] = "mz_progressed";
        out->types[1] = type_of(TYPE_BOOL);
        out->types[1].nullable = false;
    }
    out->names[extra - 1] = "mz_diff";
    /* A difference is NULL in a progress row. */
    out->types[extra - 1] = type_of(TYPE_INT8);
    for (uint32_t i = 0; i < inner.cols; i++) {
        out->names[extra + i] = inner.names[i];
        out->types[extra + i] = inner.types[i];
        out->types[extra + i].nullable = inner.types[i].nullable || progress;
    }
    return ERR_OK;
}

/* Statements without rows describe nothing, but their parameters are still asked for. */
static err_t describe_into(struct az *az, const struct sql_stmt *stmt, struct schema *out)
{
    ASSERT(az->describe);
    switch (stmt->kind) {
    case SQL_SELECT:
    case SQL_SHOW_OBJECTS:
        return describe_query(az, stmt, out);
    case SQL_SUBSCRIBE:
        return describe_subscribe(az, stmt, out);
    case SQL_INSERT:
    case SQL_UPDATE:
    case SQL_DELETE:
        return write_describe(az, stmt, out);
    case SQL_COPY_TO:
        if (stmt->inner == NULL) {
            return describe_query(az, stmt, out);
        }
        az->base = stmt->inner->ast->base;
        return describe_into(az, stmt->inner, out);
    case SQL_EXPLAIN:
        *out = one_column(az->arena, "QUERY PLAN");
        return ERR_OK;
    case SQL_SHOW:
        *out = one_column(az->arena, stmt->variable.name);
        return ERR_OK;
    case SQL_SHOW_CREATE: {
        const char *names[2] = {"name", "create_sql"};
        struct type types[2] = {type_of(TYPE_TEXT), type_of(TYPE_TEXT)};
        *out = schema_copy(az->arena, names, types, 2);
        return ERR_OK;
    }
    default:
        return ERR_OK;
    }
}

/* Parameters that nothing determined are text, as in PostgreSQL. */
err_t sql_describe(const struct sql_context *cx, const struct sql_stmt *stmt,
                   struct sql_description **out)
{
    ASSERT(cx != NULL && stmt != NULL);
    *out = NULL;
    struct sql_description *d = MEM_NEW(struct sql_description);
    struct az az;
    az_init(&az, &d->arena, cx, stmt);
    /* Parameters may be without a value, and nothing is planned. */
    az.describe = true;
    az.symbolic_now = true;
    struct schema columns = {0};
    err_t err = describe_into(&az, stmt, &columns);
    if (err == ERR_OK) {
        d->columns = schema_copy(&d->arena, columns.names, columns.types, columns.cols);
        d->params_len = stmt->params_len;
        d->params = ARENA_ARRAY(&d->arena, struct type, d->params_len);
        for (uint32_t i = 0; i < d->params_len; i++) {
            d->params[i] = az.param_types[i];
            if (d->params[i].kind == 0 || d->params[i].kind == TYPE_UNKNOWN) {
                d->params[i] = type_of(TYPE_TEXT);
            }
        }
    }
    az_release(&az);
    if (err != ERR_OK) {
        sql_description_free(d);
        return err;
    }
    *out = d;
    return ERR_OK;
}

/* NULL is allowed, as for every free function here. */
void sql_description_free(struct sql_description *description)
{
    if (description == NULL) {
        return;
    }
    arena_free(&description->arena);
    free(description);
}

/* ---- EXECUTE --------------------------------------------------------------------------------- */

/* Converted as if assigned to columns of the prepared types, then evaluated: they are constants. */
static err_t execute_args(struct az *az, const struct sql_stmt *stmt, const struct type *types,
                          uint32_t types_len, struct datum *out)
{
    ASSERT(stmt->ast->node != NULL);
    const PgQuery__ExecuteStmt *s = stmt->ast->node->execute_stmt;
    struct scope scope = {.no_aggs = "EXECUTE parameters"};
    if (s->n_params != types_len) {
        err_t err = err_sql(ERR_INVALID, "42601",
                            "wrong number of parameters for prepared statement \"%s\"", s->name);
        return err_detail(err, "Expected %u parameters but got %zu.", types_len, s->n_params);
    }
    for (uint32_t i = 0; i < types_len; i++) {
        struct sx *sx = NULL;
        struct expr e;
        TRY(az_expr(az, &scope, s->params[i], &sx));
        TRY(az_coerce(az, sx, types[i], CAST_ASSIGNMENT, &sx));
        /* Values are computed without an engine. */
        if (sx_has_subquery(sx)) {
            return AZ_UNSUPPORTED(az, sx->location,
                                  "subqueries as EXECUTE parameters are not supported");
        }
        TRY(sx_emit(az->arena, sx, &e));
        TRY(expr_eval_const(&e, az->arena, &out[i]));
        if (!out[i].null && type_is_variable((enum type_kind)types[i].kind)) {
            out[i].s = arena_memdup(az->arena, out[i].s, out[i].len);
        }
    }
    return ERR_OK;
}

/* The values live in the caller's arena. */
err_t sql_execute_args(const struct sql_context *cx, const struct sql_stmt *stmt,
                       const struct type *types, uint32_t types_len, struct arena *arena,
                       struct datum **out)
{
    ASSERT(types_len == 0 || types != NULL);
    ASSERT(stmt->kind == SQL_EXECUTE);
    struct az az;
    az_init(&az, arena, cx, stmt);
    *out = ARENA_ARRAY(arena, struct datum, types_len);
    err_t err = execute_args(&az, stmt, types, types_len, *out);
    az_release(&az);
    return err;
}

/* ---- EXPLAIN --------------------------------------------------------------------------------- */

/* What is done with the rows after reading: ORDER BY, LIMIT, OFFSET. */
void sql_explain_finish(const struct sql_query *q, struct buf *out)
{
    ASSERT(q != NULL);
    if (q->order_len == 0 && q->limit < 0 && q->offset == 0) {
        return;
    }
    buf_append_str(out, "Finish");
    for (uint32_t i = 0; i < q->order_len; i++) {
        buf_printf(out, "%s#%u%s%s", i == 0 ? " order by " : ", ", q->order[i].col,
                   q->order[i].desc ? " desc" : "",
                   q->order[i].nulls_first == q->order[i].desc ? ""
                   : q->order[i].nulls_first                   ? " nulls first"
                                                               : " nulls last");
    }
    if (q->limit >= 0) {
        buf_printf(out, " limit %lld", (long long)q->limit);
    }
    if (q->offset > 0) {
        buf_printf(out, " offset %lld", (long long)q->offset);
    }
    buf_append_byte(out, '\n');
}

/* Which index, by which key, and what is made of its rows. */
static void explain_peek(const struct sql_context *cx, const struct sql_query *q, struct buf *out)
{
    ASSERT(q->kind == SQL_QUERY_PEEK);
    const struct schema *columns = NULL;
    const char *name = cx->catalog->object != NULL
                           ? cx->catalog->object(cx->catalog_ctx, q->peek.index_id, &columns)
                           : NULL;
    buf_printf(out, "Peek index u%llu", (unsigned long long)q->peek.index_id);
    if (name != NULL) {
        buf_printf(out, " (%s)", name);
    }
    for (uint32_t i = 0; i < q->peek.keys_len * q->peek.key_cols; i++) {
        buf_append_str(out, i == 0 ? " key (" : ", ");
        if (q->peek.keys[i].null) {
            buf_append_str(out, "NULL");
        } else {
            datum_print(&q->peek.key_types[i], &q->peek.keys[i], out);
        }
    }
    buf_append_str(out, q->peek.keys_len > 0 ? ")\n  " : "\n  ");
    bool named = columns != NULL && columns->cols == q->peek.mfp.input_cols;
    mfp_print(&q->peek.mfp, named ? columns->names : NULL, out);
    if (out->len == 0 || out->data[out->len - 1] != '\n') {
        buf_append_byte(out, '\n');
    }
}

/* As it would run now: indexes that exist count. */
void sql_explain_query(const struct sql_context *cx, const struct sql_query *q, struct buf *out)
{
    const struct plan_words words = {.object = cx->catalog->object, .arg = cx->catalog_ctx};
    ASSERT(q->kind >= SQL_QUERY_CONSTANT && q->kind <= SQL_QUERY_DATAFLOW);
    sql_explain_finish(q, out);
    if (cx->optimized != NULL) {
        buf_append(out, cx->optimized->data, cx->optimized->len);
        return;
    }
    switch (q->kind) {
    case SQL_QUERY_CONSTANT:
        buf_printf(out, "Constant %u rows\n", q->constant.rows_len);
        break;
    case SQL_QUERY_PEEK:
        explain_peek(cx, q, out);
        break;
    default:
        plan_print_words(q->plan, &words, out);
        break;
    }
}

/* EXPLAIN VIEW v: the dataflow that maintains it, planned from its definition. */
static err_t explain_object(const struct sql_context *cx, const struct sql_stmt *stmt,
                            struct buf *out)
{
    ASSERT(stmt->explain.of_object);
    struct arena arena = {0};
    const struct sql_relation *relation = NULL;
    struct sql_query *q = NULL;
    const struct sql_name *n = &stmt->name;
    err_t err =
        cx->catalog->relation(cx->catalog_ctx, n->database, n->schema, n->name, &arena, &relation);
    if (err == ERR_OK && (relation == NULL || relation->definition == NULL)) {
        err = relation == NULL ? sql_position(err_sql(ERR_NOT_FOUND, "42P01",
                                                      "relation \"%s\" does not exist", n->name),
                                              stmt->script->text, (uint32_t)n->location)
                               : err_sql(ERR_INVALID, "42809", "\"%s\" is not a view", n->name);
    }
    if (err == ERR_OK) {
        err = sql_plan_view(cx, relation->definition, relation, NULL, 0, &q);
    }
    if (err == ERR_OK) {
        sql_explain_query(cx, q, out);
    }
    sql_query_free(q);
    arena_free(&arena);
    return err;
}

/* Nothing is run; a definition that could not be made is an error here, too. */
static err_t explain(const struct sql_context *cx, const struct sql_stmt *stmt, struct buf *out)
{
    if (stmt->explain.of_object) {
        return explain_object(cx, stmt, out);
    }
    const struct sql_stmt *inner = stmt->inner;
    /* The read that says what to write. */
    if (inner->kind == SQL_INSERT || inner->kind == SQL_UPDATE || inner->kind == SQL_DELETE) {
        struct sql_write *w = NULL;
        TRY(sql_plan_write(cx, inner, &w));
        sql_explain_query(cx, w->query, out);
        sql_write_free(w);
        return ERR_OK;
    }
    /* As it would be maintained: planned from the definition that would be stored. */
    if (inner->kind == SQL_CREATE_MATERIALIZED_VIEW || inner->kind == SQL_CREATE_VIEW) {
        struct sql_ddl *ddl = NULL;
        struct sql_query *q = NULL;
        TRY(sql_plan_ddl(cx, inner, &ddl));
        err_t err = sql_plan_view(cx, ddl->definition, NULL, NULL, 0, &q);
        if (err == ERR_OK) {
            sql_explain_query(cx, q, out);
        }
        sql_query_free(q);
        sql_ddl_free(ddl);
        return err;
    }
    struct sql_query *q = NULL;
    TRY(sql_plan_query(cx, inner, &q));
    sql_explain_query(cx, q, out);
    sql_query_free(q);
    return ERR_OK;
}

/* The plan is made in any case; the logical one is noted on the way. */
err_t sql_explain(const struct sql_context *cx, const struct sql_stmt *stmt, struct buf *out)
{
    ASSERT(stmt->kind == SQL_EXPLAIN && stmt->explain.stage != SQL_EXPLAIN_ANALYZE);
    struct buf optimized = {0};
    struct sql_context with = *cx;
    with.optimized = stmt->explain.stage == SQL_EXPLAIN_OPTIMIZED ? &optimized : NULL;
    err_t err = explain(&with, stmt, out);
    buf_free(&optimized);
    return err;
}
