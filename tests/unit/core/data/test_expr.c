/*
 * Expressions and map-filter-project: every function over batches against one row at a time, lazy
 * evaluation, errors to the twin, validation of hostile programs, printing, casts, aggregates.
 */
#include "core/base/utf8.h"
#include "core/data/expr.h"
#include "tests/unit/core/data/oracle_gen.h"
#include "tests/unit/harness.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- building -------------------------------------------------------------------------------- */

static uint32_t add_column(struct arena *a, struct expr *e, uint32_t column, uint8_t kind)
{
    struct expr_node n = {.kind = EXPR_COLUMN, .column = column, .type = type_of(kind)};
    return expr_add(a, e, &n);
}

/* text NULL: a NULL literal. */
static uint32_t add_literal(struct arena *a, struct expr *e, uint8_t kind, const char *text)
{
    struct expr_node n = {.kind = EXPR_LITERAL, .type = type_of(kind)};
    if (text == NULL) {
        n.literal.null = true;
    } else {
        err_t err = datum_parse(&n.type, text, strlen(text), a, &n.literal);
        CU_ASSERT_PTR_NULL_FATAL(err);
    }
    return expr_add(a, e, &n);
}

static uint32_t add_call(struct arena *a, struct expr *e, const char *name, uint32_t x, uint32_t y)
{
    uint32_t args[] = {x, y};
    uint8_t kinds[] = {e->nodes[x].type.kind, e->nodes[y].type.kind};
    const struct func *f = func_find(name, kinds, 2);
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    struct expr_node n = {.kind = EXPR_CALL, .func = f->id, .args = args, .args_len = 2};
    n.type = type_of(f->result != 0 ? f->result : kinds[0]);
    return expr_add(a, e, &n);
}

static uint32_t add_node(struct arena *a, struct expr *e, uint8_t kind, uint8_t type,
                         const uint32_t *args, uint32_t len)
{
    struct expr_node n = {.kind = kind, .args = (uint32_t *)args, .args_len = len};
    n.type = type_of(type);
    return expr_add(a, e, &n);
}

/* The result of a constant expression as text: "NULL", "!SQLSTATE message" or the value. */
static const char *eval_text(struct arena *a, const struct expr *e, struct buf *out)
{
    struct datum d;
    err_t err = expr_eval_const(e, a, &d);
    buf_clear(out);
    if (err != ERR_OK) {
        buf_printf(out, "!%s %s", err_sqlstate(err), err_message(err));
        err_free(err);
    } else if (d.null) {
        buf_append_str(out, "NULL");
    } else {
        datum_print(&e->nodes[e->nodes_len - 1].type, &d, out);
    }
    return buf_cstr(out);
}

/* ---- catalogue ------------------------------------------------------------------------------- */

static void test_catalog(void)
{
    size_t len;
    const struct func *all = func_catalog(&len);
    CU_ASSERT(len > 400);
    for (size_t i = 0; i < len; i++) {
        CU_ASSERT(i == 0 || all[i].id > all[i - 1].id);
        CU_ASSERT_PTR_EQUAL(func_by_id(all[i].id), &all[i]);
        CU_ASSERT(all[i].args_len <= FUNC_ARGS_MAX && all[i].args_len > 0);
        if ((all[i].flags & FUNC_CAST) != 0) {
            CU_ASSERT_PTR_EQUAL(cast_find(all[i].args[0], all[i].result), &all[i]);
            CU_ASSERT_NOT_EQUAL(cast_context(all[i].args[0], all[i].result), CAST_NONE);
        } else if (all[i].args[0] != 0) {
            CU_ASSERT_PTR_EQUAL(func_find(all[i].name, all[i].args, all[i].args_len), &all[i]);
        }
    }
    CU_ASSERT_PTR_NULL(func_by_id(0));
    CU_ASSERT_PTR_NULL(func_by_id(199));
    CU_ASSERT_PTR_NULL(func_by_id(UINT32_MAX));
    uint8_t two[] = {TYPE_INT4, TYPE_TEXT};
    CU_ASSERT_PTR_NULL(func_find("+", two, 2));
    CU_ASSERT_PTR_NULL(func_find("is_distinct_from", two, 2));
    CU_ASSERT_PTR_NOT_NULL(func_find("concat", two, 2));
}

/* Ids are part of the plan format: these must stay what they are. */
static void test_stable_ids(void)
{
    uint8_t int4s[] = {TYPE_INT4, TYPE_INT4};
    uint8_t texts[] = {TYPE_TEXT, TYPE_TEXT};
    uint8_t json[] = {TYPE_JSONB, TYPE_TEXT};
    CU_ASSERT_EQUAL(func_find("+", int4s, 2)->id, 5);
    CU_ASSERT_EQUAL(func_find("=", int4s, 2)->id, 230);
    CU_ASSERT_EQUAL(func_find("~~", texts, 2)->id, 500);
    CU_ASSERT_EQUAL(func_find("->>", json, 2)->id, 652);
    CU_ASSERT_EQUAL(cast_find(TYPE_INT4, TYPE_INT8)->id, 702);
}

static void test_casts(void)
{
    CU_ASSERT_EQUAL(cast_context(TYPE_INT2, TYPE_INT4), CAST_IMPLICIT);
    CU_ASSERT_EQUAL(cast_context(TYPE_INT8, TYPE_INT4), CAST_ASSIGNMENT);
    CU_ASSERT_EQUAL(cast_context(TYPE_NUMERIC, TYPE_FLOAT8), CAST_IMPLICIT);
    CU_ASSERT_EQUAL(cast_context(TYPE_FLOAT8, TYPE_NUMERIC), CAST_ASSIGNMENT);
    CU_ASSERT_EQUAL(cast_context(TYPE_BOOL, TYPE_INT4), CAST_EXPLICIT);
    CU_ASSERT_EQUAL(cast_context(TYPE_INT4, TYPE_TEXT), CAST_ASSIGNMENT);
    CU_ASSERT_EQUAL(cast_context(TYPE_TEXT, TYPE_INT4), CAST_EXPLICIT);
    CU_ASSERT_EQUAL(cast_context(TYPE_DATE, TYPE_TIMESTAMPTZ), CAST_IMPLICIT);
    CU_ASSERT_EQUAL(cast_context(TYPE_TIMESTAMPTZ, TYPE_TIMESTAMP), CAST_ASSIGNMENT);
    CU_ASSERT_EQUAL(cast_context(TYPE_JSONB, TYPE_INT4), CAST_EXPLICIT);
    CU_ASSERT_EQUAL(cast_context(TYPE_UUID, TYPE_INT4), CAST_NONE);
    CU_ASSERT_EQUAL(cast_context(TYPE_UNKNOWN, TYPE_UUID), CAST_IMPLICIT);
    CU_ASSERT_PTR_NULL(cast_find(TYPE_TEXT, TYPE_TEXT));
}

static void test_aggregates(void)
{
    struct type t;
    CU_ASSERT(agg_result(AGG_SUM, TYPE_INT4, &t) && t.kind == TYPE_INT8);
    CU_ASSERT(agg_result(AGG_SUM, TYPE_INT8, &t) && t.kind == TYPE_NUMERIC);
    CU_ASSERT(agg_result(AGG_AVG, TYPE_INT2, &t) && t.kind == TYPE_NUMERIC);
    CU_ASSERT(agg_result(AGG_AVG, TYPE_FLOAT4, &t) && t.kind == TYPE_FLOAT8);
    CU_ASSERT(agg_result(AGG_COUNT_ALL, TYPE_TEXT, &t) && t.kind == TYPE_INT8 && !t.nullable);
    CU_ASSERT(agg_result(AGG_MAX, TYPE_JSONB, &t) && t.kind == TYPE_JSONB && t.nullable);
    CU_ASSERT(agg_result(AGG_BOOL_OR, TYPE_BOOL, &t) && t.kind == TYPE_BOOL);
    CU_ASSERT_FALSE(agg_result(AGG_SUM, TYPE_TEXT, &t));
    CU_ASSERT_FALSE(agg_result(AGG_BOOL_AND, TYPE_INT4, &t));
}

/* ---- every function: a batch against single rows --------------------------------------------- */

enum { MODEL_ROWS = 2500 };

/* What a row must give, computed alone. */
struct expected {
    bool failed;
    char sqlstate[6];
    struct buf row; /* encoded result */
};

static void encode_datum(uint8_t kind, const struct datum *d, struct buf *out)
{
    struct batch_builder *b = batch_builder_new(&kind, 1);
    size_t size;
    struct batch_col col;
    struct batch batch;
    batch_builder_datum(b, 0, d);
    batch_builder_end_row(b, 0, 1);
    void *bytes = batch_builder_finish_new(b, &size);
    batch_view(bytes, size, &col, 1, &batch);
    batch_encode_row(&batch, 0, NULL, 0, false, out);
    free(bytes);
    batch_builder_free(b);
}

struct case_func {
    const struct func *f;
    uint8_t kinds[4];
    uint32_t args_len;
    uint8_t result;
    bool constant[4]; /* argument is a literal */
    struct datum literal[4];
    struct arena arena;
};

static bool gen_datum(struct rng *r, struct case_func *c, uint32_t arg, struct datum *out)
{
    struct buf text = {0};
    struct type type = type_of(c->kinds[arg]);
    *out = (struct datum){.null = true};
    if (rng_below(r, 10) == 0) {
        return true;
    }
    gen_arg(r, c->f, arg, c->kinds[arg], &text);
    err_t err = datum_parse(&type, (const char *)text.data, text.len, &c->arena, out);
    buf_free(&text);
    if (err != ERR_OK) {
        *out = (struct datum){.null = true};
        err_free(err);
    }
    return true;
}

static struct case_func choose(struct rng *r, const struct func *f)
{
    static const uint8_t anys[] = {TYPE_INT4, TYPE_TEXT, TYPE_NUMERIC, TYPE_INTERVAL, TYPE_UUID};
    uint8_t any = anys[rng_below(r, ARRAY_LEN(anys))];
    struct case_func c = {.f = f, .args_len = f->args_len};
    c.args_len += (f->flags & FUNC_VARIADIC) != 0 && f->args_len < 3 ? rng_below(r, 2) : 0;
    for (uint32_t k = 0; k < c.args_len; k++) {
        uint8_t kind = f->args[k < f->args_len ? k : f->args_len - 1u];
        c.kinds[k] = kind != 0 ? kind : any;
        c.constant[k] = rng_below(r, 3) == 0;
        gen_datum(r, &c, k, &c.literal[k]);
    }
    c.result = f->result != 0 ? f->result : any;
    return c;
}

static void build_expr(const struct case_func *c, struct arena *a, struct expr *e,
                       const struct datum *row)
{
    uint32_t args[4];
    for (uint32_t k = 0; k < c->args_len; k++) {
        if (row == NULL && !c->constant[k]) {
            args[k] = add_column(a, e, k, c->kinds[k]);
            continue;
        }
        struct expr_node n = {.kind = EXPR_LITERAL, .type = type_of(c->kinds[k])};
        n.literal = c->constant[k] ? c->literal[k] : row[k];
        args[k] = expr_add(a, e, &n);
    }
    struct expr_node n = {.kind = EXPR_CALL, .func = c->f->id, .args = args,
                          .args_len = c->args_len, .type = type_of(c->result)};
    expr_add(a, e, &n);
}

static struct expected expect_row(const struct case_func *c, const struct datum *row)
{
    struct expected x = {0};
    struct arena a = {0};
    struct expr e = {0};
    struct datum d;
    build_expr(c, &a, &e, row);
    err_t err = expr_eval_const(&e, &a, &d);
    x.failed = err != ERR_OK;
    if (x.failed) {
        memcpy(x.sqlstate, err_sqlstate(err), 5);
        err_free(err);
    } else {
        encode_datum(c->result, &d, &x.row);
    }
    arena_free(&a);
    return x;
}

/* Input: the arguments and a boolean that filters about half of the rows. */
static void *build_input(struct rng *r, struct case_func *c, const bool *keep, bool nulls,
                         struct datum *values, struct batch_col *cols, struct batch *out)
{
    uint8_t kinds[5];
    memcpy(kinds, c->kinds, 4);
    kinds[c->args_len] = TYPE_BOOL;
    struct batch_builder *b = batch_builder_new(kinds, c->args_len + 1);
    for (uint32_t i = 0; i < MODEL_ROWS; i++) {
        for (uint32_t k = 0; k < c->args_len; k++) {
            struct datum *d = &values[i * 4 + k];
            do {
                if (i >= 60) { /* few distinct values, to be quick */
                    *d = values[(i % 60) * 4 + k];
                } else {
                    gen_datum(r, c, k, d);
                }
            } while (d->null && !nulls && i < 60 && rng_below(r, 50) != 0);
            batch_builder_datum(b, k, d);
        }
        batch_builder_datum(b, c->args_len, &(struct datum){.b = keep[i]});
        batch_builder_end_row(b, i, (int64_t)i % 3 + 1);
    }
    size_t size;
    void *bytes = batch_builder_finish_new(b, &size);
    err_t err = batch_open(bytes, size, kinds, c->args_len + 1, cols, 5, out);
    CU_ASSERT_PTR_NULL_FATAL(err);
    batch_builder_free(b);
    return bytes;
}

static struct batch_builder *err_builder(void)
{
    return batch_builder_new(batch_err_kinds, ERR_COLS);
}

static void *view_of(struct batch_builder *b, struct batch_col *cols, size_t cap, struct batch *out)
{
    size_t size;
    void *bytes = batch_builder_finish_new(b, &size);
    err_t err = batch_open(bytes, size, NULL, 0, cols, cap, out);
    CU_ASSERT_PTR_NULL_FATAL(err);
    return bytes;
}

/* Every kept row is in ok with the expected bytes, or in err with the expected SQLSTATE. */
static void check_run(const struct batch *in, const struct batch *ok, const struct batch *err,
                      const struct expected *expected, const bool *keep)
{
    struct buf row = {0};
    uint32_t ok_at = 0;
    uint32_t failed = 0;
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < in->rows; i++) {
        const struct expected *x = &expected[i % 60];
        if (!keep[i]) {
            continue;
        }
        if (x->failed) {
            failed++;
            continue;
        }
        buf_clear(&row);
        if (ok_at < ok->rows) {
            batch_encode_row(ok, ok_at, NULL, 0, false, &row);
            wrong += batch_time(ok, ok_at) != i || batch_diff(ok, ok_at) != (int64_t)i % 3 + 1;
        }
        wrong += row.len != x->row.len || memcmp(row.data, x->row.data, row.len) != 0;
        ok_at++;
    }
    wrong += ok_at != ok->rows || failed != err->rows;
    for (uint32_t k = 0; k < err->rows; k++) {
        struct datum d;
        uint64_t i = batch_time(err, k);
        batch_datum(&err->col[ERR_COL_SQLSTATE], k, &d);
        wrong += memcmp(d.s, expected[i % 60].sqlstate, 5) != 0 || !keep[i];
        batch_datum(&err->col[ERR_COL_CONTEXT], k, &d);
        wrong += d.len != 4 || memcmp(d.s, "here", 4) != 0;
    }
    CU_ASSERT_EQUAL(wrong, 0);
    buf_free(&row);
}

static void run_case(struct rng *r, const struct func *f)
{
    static struct datum values[MODEL_ROWS * 4];
    static bool keep[MODEL_ROWS];
    struct case_func c = choose(r, f);
    struct expected expected[60];
    struct batch_col cols[5];
    struct batch in;
    bool filter = rng_below(r, 2);
    for (uint32_t i = 0; i < MODEL_ROWS; i++) {
        keep[i] = !filter || rng_below(r, 2);
    }
    void *input = build_input(r, &c, keep, rng_below(r, 2), values, cols, &in);
    for (uint32_t i = 0; i < 60; i++) {
        expected[i] = expect_row(&c, &values[i * 4]);
    }
    struct arena a = {0};
    struct expr map = {0};
    struct expr predicate = {0};
    build_expr(&c, &a, &map, NULL);
    add_column(&a, &predicate, c.args_len, TYPE_BOOL);
    uint32_t project = c.args_len + 1;
    struct mfp mfp = {.input_cols = c.args_len + 1, .maps = &map, .maps_len = 1,
                      .predicates = &predicate, .predicates_len = filter,
                      .project = &project, .project_len = 1};
    uint8_t kinds[5];
    memcpy(kinds, c.kinds, 4);
    kinds[c.args_len] = TYPE_BOOL;
    struct mfp_prog *prog = mfp_compile(&mfp, kinds, "here");
    struct batch_builder *ok = batch_builder_new(&c.result, 1);
    struct batch_builder *err = err_builder();
    mfp_run(prog, &in, 0, ok, err);
    struct batch_col ok_cols[1];
    struct batch_col err_cols[ERR_COLS];
    struct batch ok_batch;
    struct batch err_batch;
    void *ok_bytes = view_of(ok, ok_cols, 1, &ok_batch);
    void *err_bytes = view_of(err, err_cols, ERR_COLS, &err_batch);
    unsigned failures = CU_get_number_of_failures();
    check_run(&in, &ok_batch, &err_batch, expected, keep);
    if (CU_get_number_of_failures() != failures) {
        printf("\n  function %u %s\n", f->id, f->name);
    }
    for (uint32_t i = 0; i < 60; i++) {
        buf_free(&expected[i].row);
    }
    free(ok_bytes);
    free(err_bytes);
    free(input);
    batch_builder_free(ok);
    batch_builder_free(err);
    mfp_prog_free(prog);
    arena_free(&a);
    arena_free(&c.arena);
}

/* ---- a constant second argument -------------------------------------------------------------- */

static uint32_t add_value(struct arena *a, struct expr *e, uint8_t kind, const struct datum *d)
{
    struct expr_node n = {.kind = EXPR_LITERAL, .type = type_of(kind), .literal = *d};
    return expr_add(a, e, &n);
}

/* One column and a literal: row after row as each of them alone. */
static void check_literal(const char *name, uint8_t kind, const struct datum *rows, uint32_t n,
                          const char *literal)
{
    struct arena a = {0};
    struct expr map = {0};
    uint8_t text = TYPE_TEXT;
    struct batch_builder *in = batch_builder_new(&kind, 1);
    struct batch_builder *ok = batch_builder_new(&text, 1);
    struct batch_builder *err = err_builder();
    struct batch_col in_col, ok_col;
    struct batch input, output;
    uint32_t column = add_column(&a, &map, 0, kind);
    add_call(&a, &map, name, column, add_literal(&a, &map, TYPE_TEXT, literal));
    uint32_t project = 1;
    struct mfp mfp = {.input_cols = 1, .maps = &map, .maps_len = 1, .project = &project,
                      .project_len = 1};
    for (uint32_t i = 0; i < n; i++) {
        batch_builder_datum(in, 0, &rows[i]);
        batch_builder_end_row(in, 1, 1);
    }
    void *bytes = view_of(in, &in_col, 1, &input);
    struct mfp_prog *prog = mfp_compile(&mfp, &kind, "here");
    mfp_run(prog, &input, 0, ok, err);
    void *ok_bytes = view_of(ok, &ok_col, 1, &output);
    CU_ASSERT_FATAL(output.rows == n);
    for (uint32_t i = 0; i < n; i++) {
        struct expr one = {0};
        struct datum have, want;
        uint32_t value = add_value(&a, &one, kind, &rows[i]);
        add_call(&a, &one, name, value, add_literal(&a, &one, TYPE_TEXT, literal));
        CU_ASSERT_PTR_NULL_FATAL(expr_eval_const(&one, &a, &want));
        batch_datum(&ok_col, i, &have);
        CU_ASSERT_FATAL(have.null == want.null);
        CU_ASSERT_FATAL(have.null || datum_equal(TYPE_TEXT, &have, &want));
    }
    free(bytes);
    free(ok_bytes);
    mfp_prog_free(prog);
    batch_builder_free(in);
    batch_builder_free(ok);
    batch_builder_free(err);
    arena_free(&a);
}

/* Moments close to each other, so that many share the text of their day, hour or second. */
static void test_to_char_spans(void)
{
    static const char *const formats[] = {"YYYY-MM-DD",    "HH24:MI",    "YYYY HH12 AM", "SS",
                                          "MS",            "US",         "Day IW SSSSS", "P.M.",
                                          "IYYY-IW HH24"};
    static const int64_t steps[] = {1, 700, 400000, 40000000, 3000000000, 40000000000};
    struct rng r = {31};
    struct datum rows[300];
    for (size_t f = 0; f < ARRAY_LEN(formats); f++) {
        for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
            int64_t ts = (int64_t)rng_below(&r, 4) * 400000000000000000 - 200000000000000000;
            for (uint32_t i = 0; i < ARRAY_LEN(rows); i++) {
                rows[i] = (struct datum){.i = rng_below(&r, 40) == 0 ? INT64_MAX : ts};
                ts += (int64_t)rng_below(&r, (uint64_t)steps[k] * 2) - (i % 2) * steps[k] / 2;
            }
            check_literal("to_char", TYPE_TIMESTAMP, rows, ARRAY_LEN(rows), formats[f]);
        }
    }
}

/* LIKE by its definition; of pieces that are a character each. */
static bool like_by_definition(const char *const *text, uint32_t text_len,
                               const char *const *pattern, uint32_t pattern_len)
{
    if (pattern_len == 0) {
        return text_len == 0;
    }
    if (strcmp(pattern[0], "%") == 0) {
        return like_by_definition(text, text_len, pattern + 1, pattern_len - 1) ||
               (text_len > 0 && like_by_definition(text + 1, text_len - 1, pattern, pattern_len));
    }
    return text_len > 0 &&
           (strcmp(pattern[0], "_") == 0 || strcmp(pattern[0], text[0]) == 0) &&
           like_by_definition(text + 1, text_len - 1, pattern + 1, pattern_len - 1);
}

/* Up to so many characters of a small alphabet; the last two stand for others in patterns. */
static uint32_t random_chars(struct rng *r, uint32_t max, uint32_t kinds, const char **out,
                             char *joined)
{
    static const char *const alphabet[] = {"a", "b", "\xC3\xA9", "\xC3\xAA", "_", "%"};
    uint32_t len = (uint32_t)rng_below(r, max + 1);
    for (uint32_t i = 0; i < len; i++) {
        out[i] = alphabet[rng_below(r, kinds)];
        memcpy(joined, out[i], strlen(out[i]));
        joined += strlen(out[i]);
    }
    *joined = 0;
    return len;
}

static void test_like(void)
{
    struct rng r = {32};
    struct buf out = {0};
    for (uint64_t round = 0; round < test_scaled(20000); round++) {
        const char *text[12], *pattern[6];
        char texts[2][40];
        struct arena a = {0};
        struct expr e = {0};
        uint32_t text_len = random_chars(&r, 12, 4, text, texts[0]);
        uint32_t pattern_len = random_chars(&r, 6, 6, pattern, texts[1]);
        uint32_t value = add_literal(&a, &e, TYPE_TEXT, texts[0]);
        add_call(&a, &e, "~~", value, add_literal(&a, &e, TYPE_TEXT, texts[1]));
        bool want = like_by_definition(text, text_len, pattern, pattern_len);
        CU_ASSERT_FATAL(strcmp(eval_text(&a, &e, &out), want ? "t" : "f") == 0);
        arena_free(&a);
    }
    buf_free(&out);
}

static void test_all_functions(void)
{
    struct rng r = {21};
    size_t len;
    const struct func *all = func_catalog(&len);
    for (size_t i = 0; i < len; i++) {
        if (strcmp(all[i].name, "repeat") == 0) {
            continue; /* its random counts make texts of megabytes */
        }
        for (uint64_t round = 0; round < test_scaled(3); round++) {
            run_case(&r, &all[i]);
        }
    }
}

/* ---- logic ----------------------------------------------------------------------------------- */

static void test_three_valued(void)
{
    static const char *const v[] = {"t", "f", NULL};
    static const char *const and_results[] = {"t", "f", "NULL", "f", "f", "f", "NULL", "f", "NULL"};
    static const char *const or_results[] = {"t", "t", "t", "t", "f", "NULL", "t", "NULL", "NULL"};
    for (int i = 0; i < 9; i++) {
        for (int or = 0; or < 2; or++) {
            struct arena a = {0};
            struct expr e = {0};
            struct buf out = {0};
            uint32_t args[2];
            args[0] = add_literal(&a, &e, TYPE_BOOL, v[i / 3]);
            args[1] = add_literal(&a, &e, TYPE_BOOL, v[i % 3]);
            add_node(&a, &e, or ? EXPR_OR : EXPR_AND, TYPE_BOOL, args, 2);
            CU_ASSERT_STRING_EQUAL(eval_text(&a, &e, &out), (or ? or_results : and_results)[i]);
            buf_free(&out);
            arena_free(&a);
        }
    }
}

/* 1 / 0 as text of an error, to see whether it was evaluated. */
static uint32_t add_division(struct arena *a, struct expr *e)
{
    uint32_t x = add_literal(a, e, TYPE_INT4, "1");
    uint32_t y = add_literal(a, e, TYPE_INT4, "0");
    return add_call(a, e, "/", x, y);
}

static void test_lazy(void)
{
    struct arena a = {0};
    struct buf out = {0};
    uint32_t args[3];
    struct expr e = {0};
    args[0] = add_literal(&a, &e, TYPE_BOOL, "t");
    args[1] = add_literal(&a, &e, TYPE_INT4, "7");
    args[2] = add_division(&a, &e);
    add_node(&a, &e, EXPR_CASE, TYPE_INT4, args, 3);
    CU_ASSERT_STRING_EQUAL(eval_text(&a, &e, &out), "7");
    e = (struct expr){0};
    args[0] = add_literal(&a, &e, TYPE_BOOL, "f");
    args[1] = add_literal(&a, &e, TYPE_INT4, "7");
    args[2] = add_division(&a, &e);
    add_node(&a, &e, EXPR_CASE, TYPE_INT4, args, 3);
    CU_ASSERT_STRING_EQUAL(eval_text(&a, &e, &out), "!22012 division by zero");
    e = (struct expr){0};
    args[0] = add_literal(&a, &e, TYPE_INT4, "3");
    args[1] = add_division(&a, &e);
    add_node(&a, &e, EXPR_COALESCE, TYPE_INT4, args, 2);
    CU_ASSERT_STRING_EQUAL(eval_text(&a, &e, &out), "3");
    e = (struct expr){0};
    uint32_t q = add_division(&a, &e);
    args[0] = add_literal(&a, &e, TYPE_BOOL, "f");
    args[1] = add_call(&a, &e, "=", q, q);
    add_node(&a, &e, EXPR_AND, TYPE_BOOL, args, 2);
    CU_ASSERT_STRING_EQUAL(eval_text(&a, &e, &out), "f");
    args[0] = args[1];
    args[1] = add_literal(&a, &e, TYPE_BOOL, "f");
    add_node(&a, &e, EXPR_AND, TYPE_BOOL, args, 2);
    CU_ASSERT_STRING_EQUAL(eval_text(&a, &e, &out), "!22012 division by zero");
    buf_free(&out);
    arena_free(&a);
}

/* CASE WHEN b <> 0 THEN a / b ELSE NULL END over a batch: the guard protects row by row. */
static void test_guard(void)
{
    uint8_t kinds[] = {TYPE_INT4, TYPE_INT4};
    struct batch_builder *b = batch_builder_new(kinds, 2);
    for (int64_t i = 0; i < 3000; i++) {
        batch_builder_datum(b, 0, &(struct datum){.i = i});
        batch_builder_datum(b, 1, &(struct datum){.i = i % 4, .null = i % 7 == 0});
        batch_builder_end_row(b, 9, 1);
    }
    struct batch_col cols[2];
    struct batch in;
    void *input = view_of(b, cols, 2, &in);
    struct arena a = {0};
    struct expr guarded = {0};
    struct expr bare = {0};
    uint32_t x = add_column(&a, &guarded, 0, TYPE_INT4);
    uint32_t y = add_column(&a, &guarded, 1, TYPE_INT4);
    uint32_t zero = add_literal(&a, &guarded, TYPE_INT4, "0");
    uint32_t args[3];
    args[0] = add_call(&a, &guarded, "<>", y, zero);
    args[1] = add_call(&a, &guarded, "/", x, y);
    args[2] = add_literal(&a, &guarded, TYPE_INT4, NULL);
    add_node(&a, &guarded, EXPR_CASE, TYPE_INT4, args, 3);
    x = add_column(&a, &bare, 0, TYPE_INT4);
    y = add_column(&a, &bare, 1, TYPE_INT4);
    add_call(&a, &bare, "/", x, y);
    for (int unguarded = 0; unguarded < 2; unguarded++) {
        uint32_t project[] = {0, 2};
        struct mfp mfp = {.input_cols = 2, .maps = unguarded ? &bare : &guarded, .maps_len = 1,
                          .project = project, .project_len = 2};
        struct mfp_prog *prog = mfp_compile(&mfp, kinds, "guard");
        struct batch_builder *ok = batch_builder_new(kinds, 2);
        struct batch_builder *err = err_builder();
        mfp_run(prog, &in, 0, ok, err);
        uint32_t zeros = 0;
        for (uint32_t i = 0; i < 3000; i++) {
            zeros += i % 4 == 0 && i % 7 != 0;
        }
        CU_ASSERT_EQUAL(batch_builder_rows(err), unguarded ? zeros : 0);
        CU_ASSERT_EQUAL(batch_builder_rows(ok), unguarded ? 3000 - zeros : 3000);
        struct batch_col ok_cols[2];
        struct batch out;
        void *bytes = view_of(ok, ok_cols, 2, &out);
        for (uint32_t i = 0; i < out.rows; i++) {
            struct datum p;
            struct datum d;
            batch_datum(&ok_cols[0], i, &p);
            batch_datum(&ok_cols[1], i, &d);
            bool null = p.i % 7 == 0 || p.i % 4 == 0;
            CU_ASSERT(d.null == null && (null || d.i == p.i / (p.i % 4)));
        }
        free(bytes);
        batch_builder_free(ok);
        batch_builder_free(err);
        mfp_prog_free(prog);
    }
    free(input);
    batch_builder_free(b);
    arena_free(&a);
}

/* s::int4, which is computed once a row however often it stands in an mfp. */
static uint32_t add_number(struct arena *a, struct expr *e)
{
    uint32_t s = add_column(a, e, 0, TYPE_TEXT);
    struct expr_node n = {.kind = EXPR_CALL, .func = cast_find(TYPE_TEXT, TYPE_INT4)->id,
                          .args = &s, .args_len = 1, .type = type_of(TYPE_INT4)};
    return expr_add(a, e, &n);
}

/* CASE WHEN column THEN s::int4 ELSE otherwise END */
static void add_number_if(struct arena *a, struct expr *e, uint32_t column, const char *otherwise)
{
    uint32_t args[] = {add_column(a, e, column, TYPE_BOOL), add_number(a, e),
                       add_literal(a, e, TYPE_INT4, otherwise)};
    add_node(a, e, EXPR_CASE, TYPE_INT4, args, 3);
}

/* Row i of test_shared: s, p, q, r. */
struct shared_row {
    const char *s; /* NULL: a NULL */
    int64_t number;
    bool p, q, r;
};

static struct shared_row shared_row(struct rng *r)
{
    static const char *const texts[] = {"7", NULL, "bad", "0", "22", "-3"};
    static const int64_t numbers[] = {7, 0, 0, 0, 22, -3};
    uint64_t which = rng_below(r, 6);
    return (struct shared_row){texts[which], numbers[which], rng_below(r, 2), rng_below(r, 2),
                               rng_below(r, 2)};
}

/* Whether the number is asked for, a row at a time: what fails and what is left follows. */
static void check_shared(const struct shared_row *row, const struct batch_col *ok, uint32_t *ok_at,
                         uint32_t *failed)
{
    bool bad = row->s != NULL && strcmp(row->s, "bad") == 0;
    bool known = row->s != NULL && !bad;
    if (bad && (row->p || !row->q || row->r)) {
        (*failed)++;
    } else if (row->q || (known && row->number > 0)) {
        struct datum a, b;
        batch_datum(&ok[0], *ok_at, &a);
        batch_datum(&ok[1], *ok_at, &b);
        (*ok_at)++;
        CU_ASSERT_FATAL(a.null == (row->p && !known) && b.null == (row->r && !known));
        CU_ASSERT_FATAL(a.null || a.i == (row->p ? row->number : -100));
        CU_ASSERT_FATAL(b.null || b.i == (row->r ? row->number : -200));
    }
}

/*
 * q OR s::int4 > 0 as the predicate, the number again in the branches of two maps: each place asks
 * for other rows, some of them for the first time, and a row nobody asks for does not fail.
 */
static void test_shared(void)
{
    enum { ROWS = 5000 };
    uint8_t kinds[] = {TYPE_TEXT, TYPE_BOOL, TYPE_BOOL, TYPE_BOOL};
    uint8_t results[] = {TYPE_INT4, TYPE_INT4};
    struct rng r = {67};
    struct shared_row *rows = calloc(ROWS, sizeof(*rows));
    struct batch_builder *b = batch_builder_new(kinds, 4);
    for (uint32_t i = 0; i < ROWS; i++) {
        rows[i] = shared_row(&r);
        size_t len = rows[i].s != NULL ? strlen(rows[i].s) : 0;
        batch_builder_datum(b, 0, &(struct datum){.s = rows[i].s, .len = (uint32_t)len,
                                                  .null = rows[i].s == NULL});
        batch_builder_datum(b, 1, &(struct datum){.b = rows[i].p});
        batch_builder_datum(b, 2, &(struct datum){.b = rows[i].q});
        batch_builder_datum(b, 3, &(struct datum){.b = rows[i].r});
        batch_builder_end_row(b, 9, 1);
    }
    struct batch_col cols[4], ok_cols[2];
    struct batch in, out;
    void *input = view_of(b, cols, 4, &in);
    struct arena a = {0};
    struct expr maps[2] = {0}, predicate = {0};
    uint32_t args[2];
    args[0] = add_column(&a, &predicate, 2, TYPE_BOOL);
    uint32_t number = add_number(&a, &predicate);
    args[1] = add_call(&a, &predicate, ">", number, add_literal(&a, &predicate, TYPE_INT4, "0"));
    add_node(&a, &predicate, EXPR_OR, TYPE_BOOL, args, 2);
    add_number_if(&a, &maps[0], 1, "-100");
    add_number_if(&a, &maps[1], 3, "-200");
    uint32_t project[] = {4, 5};
    struct mfp mfp = {.input_cols = 4, .maps = maps, .maps_len = 2, .predicates = &predicate,
                      .predicates_len = 1, .project = project, .project_len = 2};
    struct mfp_prog *prog = mfp_compile(&mfp, kinds, "shared");
    struct batch_builder *ok = batch_builder_new(results, 2);
    struct batch_builder *err = err_builder();
    CU_ASSERT_EQUAL(mfp_run(prog, &in, 0, ok, err), ROWS);
    void *bytes = view_of(ok, ok_cols, 2, &out);
    uint32_t ok_at = 0, failed = 0;
    for (uint32_t i = 0; i < ROWS; i++) {
        check_shared(&rows[i], ok_cols, &ok_at, &failed);
    }
    CU_ASSERT(ok_at == out.rows && ok_at > 0);
    CU_ASSERT(failed == batch_builder_rows(err) && failed > 0);
    free(rows);
    free(bytes);
    free(input);
    mfp_prog_free(prog);
    batch_builder_free(ok);
    batch_builder_free(err);
    batch_builder_free(b);
    arena_free(&a);
}

/*
 * repeat(s, n) with 64 long results among 3,000 rows, which are more than a chunk may take: runs
 * put out some and stop; every row comes once.
 */
static void test_long_texts(void)
{
    enum { ROWS = 3000, LEN = 3 << 20 };
    uint8_t kinds[] = {TYPE_TEXT, TYPE_INT4};
    struct batch_builder *b = batch_builder_new(kinds, 2);
    for (int64_t i = 0; i < ROWS; i++) {
        bool is_long = i >= 64 && i < 128;
        batch_builder_datum(b, 0, &(struct datum){.s = "x", .len = 1, .null = i % 3 == 0});
        batch_builder_datum(b, 1, &(struct datum){.i = is_long ? LEN : 1});
        batch_builder_end_row(b, 9, i + 1);
    }
    struct batch_col cols[2], ok_cols[2];
    struct batch in, out;
    void *input = view_of(b, cols, 2, &in);
    struct arena a = {0};
    struct expr e = {0};
    uint32_t s = add_column(&a, &e, 0, TYPE_TEXT);
    add_call(&a, &e, "repeat", s, add_column(&a, &e, 1, TYPE_INT4));
    uint32_t project[] = {2, 1};
    struct mfp mfp = {.input_cols = 2, .maps = &e, .maps_len = 1, .project = project,
                      .project_len = 2};
    struct mfp_prog *prog = mfp_compile(&mfp, kinds, "long");
    struct batch_builder *ok = batch_builder_new(kinds, 2);
    struct batch_builder *err = err_builder();
    uint32_t done = 0, runs = 0;
    for (uint32_t row = 0; row < ROWS; runs++) {
        row = mfp_run(prog, &in, row, ok, err);
        CU_ASSERT_FATAL(batch_builder_size(ok) < 4 * (size_t)LEN);
        void *bytes = view_of(ok, ok_cols, 2, &out);
        for (uint32_t i = 0; i < out.rows; i++, done++) {
            struct datum text, len;
            batch_datum(&ok_cols[0], i, &text);
            batch_datum(&ok_cols[1], i, &len);
            CU_ASSERT_FATAL(batch_diff(&out, i) == done + 1);
            CU_ASSERT_FATAL(text.null == (done % 3 == 0) && (text.null || text.len == len.i));
        }
        batch_builder_reset(ok);
        free(bytes);
        CU_ASSERT_FATAL(done == row);
    }
    CU_ASSERT(done == ROWS && runs > 20 && runs < 60);
    CU_ASSERT_EQUAL(batch_builder_rows(err), 0);
    mfp_prog_free(prog);
    batch_builder_free(ok);
    batch_builder_free(err);
    free(input);
    batch_builder_free(b);
    arena_free(&a);
}

/* A predicate that needs no map runs first: rows it drops never reach a failing map. */
static void test_order_of_steps(void)
{
    uint8_t kind = TYPE_INT4;
    struct batch_builder *b = batch_builder_new(&kind, 1);
    for (int64_t i = 0; i < 100; i++) {
        batch_builder_datum(b, 0, &(struct datum){.i = i % 10});
        batch_builder_end_row(b, 1, 1);
    }
    struct batch_col col;
    struct batch in;
    void *input = view_of(b, &col, 1, &in);
    struct arena a = {0};
    struct expr maps[2] = {0};
    struct expr predicates[2] = {0};
    uint32_t x = add_literal(&a, &maps[0], TYPE_INT4, "10");
    uint32_t y = add_column(&a, &maps[0], 0, TYPE_INT4);
    add_call(&a, &maps[0], "/", x, y);
    x = add_division(&a, &maps[1]); /* nobody projects it */
    y = add_column(&a, &predicates[0], 1, TYPE_INT4);
    x = add_literal(&a, &predicates[0], TYPE_INT4, "2");
    add_call(&a, &predicates[0], ">", y, x);
    y = add_column(&a, &predicates[1], 0, TYPE_INT4);
    x = add_literal(&a, &predicates[1], TYPE_INT4, "0");
    add_call(&a, &predicates[1], "<>", y, x);
    uint32_t project[] = {1};
    struct mfp mfp = {.input_cols = 1, .maps = maps, .maps_len = 2, .predicates = predicates,
                      .predicates_len = 2, .project = project, .project_len = 1};
    struct type input_type = type_of(TYPE_INT4);
    struct type *output;
    CU_ASSERT_PTR_NULL_FATAL(mfp_validate(&mfp, &input_type, 1, &a, &output));
    CU_ASSERT_EQUAL(output[0].kind, TYPE_INT4);
    struct mfp_prog *prog = mfp_compile(&mfp, &kind, NULL);
    struct batch_builder *ok = batch_builder_new(&kind, 1);
    struct batch_builder *err = err_builder();
    mfp_run(prog, &in, 0, ok, err);
    CU_ASSERT_EQUAL(batch_builder_rows(ok), 30); /* 10/1, 10/2, 10/3 */
    CU_ASSERT_EQUAL(batch_builder_rows(err), 0);
    struct buf text = {0};
    mfp_print(&mfp, NULL, &text);
    CU_ASSERT_STRING_EQUAL(buf_cstr(&text), "filter=(#1 > 2) and (#0 <> 0) map=#1: (10 / #0) "
                                            "map=#2: (1 / 0) project=(#1)");
    buf_free(&text);
    free(input);
    mfp_prog_free(prog);
    batch_builder_free(ok);
    batch_builder_free(err);
    batch_builder_free(b);
    arena_free(&a);
}

/* ---- validation ------------------------------------------------------------------------------ */

static void expect_invalid(const struct expr *e)
{
    struct type input[2] = {type_of(TYPE_INT4), type_of(TYPE_TEXT)};
    err_t err = expr_validate(e, input, 2);
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_EQUAL(err_code(err), ERR_INVALID);
    err_free(err);
}

static void test_validate(void)
{
    struct type input[2] = {type_of(TYPE_INT4), type_of(TYPE_TEXT)};
    struct arena a = {0};
    struct expr e = {0};
    expect_invalid(&e);
    uint32_t x = add_column(&a, &e, 0, TYPE_INT4);
    uint32_t y = add_literal(&a, &e, TYPE_INT4, "1");
    uint32_t sum = add_call(&a, &e, "+", x, y);
    CU_ASSERT_PTR_NULL(expr_validate(&e, input, 2));
    e.nodes[sum].args[1] = sum;
    expect_invalid(&e);
    e.nodes[sum].args[1] = UINT32_MAX;
    expect_invalid(&e);
    e.nodes[sum].args[1] = y;
    e.nodes[sum].func = 199;
    expect_invalid(&e);
    e.nodes[sum].func = 230; /* int4 = int4: boolean */
    expect_invalid(&e);
    e.nodes[sum].func = 5;
    e.nodes[sum].args_len = 1;
    expect_invalid(&e);
    e.nodes[sum].args_len = EXPR_ARGS_MAX + 1;
    expect_invalid(&e);
    e.nodes[sum].args_len = 2;
    e.nodes[x].column = 1;
    expect_invalid(&e);
    e.nodes[x].column = 2;
    expect_invalid(&e);
    e.nodes[x].column = 0;
    e.nodes[y].literal.i = 1LL << 40;
    expect_invalid(&e);
    e.nodes[y].literal.i = 1;
    e.nodes[y].type.kind = 77;
    expect_invalid(&e);
    e.nodes[y].type.kind = TYPE_INT4;
    e.nodes[sum].kind = 0;
    expect_invalid(&e);
    e.nodes[sum].kind = EXPR_CASE;
    expect_invalid(&e);
    e.nodes[sum].kind = EXPR_AND;
    expect_invalid(&e);
    arena_free(&a);
}

/* Shared nodes may not make an exponential tree, nor a chain a deep recursion. */
static void test_bombs(void)
{
    struct arena a = {0};
    struct expr wide = {0};
    uint32_t last = add_column(&a, &wide, 0, TYPE_INT4);
    for (int i = 0; i < 60; i++) {
        last = add_call(&a, &wide, "+", last, last);
    }
    expect_invalid(&wide);
    struct expr deep = {0};
    uint32_t one = add_column(&a, &deep, 0, TYPE_INT4);
    last = one;
    for (int i = 0; i < 30000; i++) {
        last = add_call(&a, &deep, "+", last, one);
    }
    expect_invalid(&deep);
    /* A long sum is fine. */
    struct expr sum = {0};
    struct buf out = {0};
    last = add_literal(&a, &sum, TYPE_INT4, "0");
    for (int i = 0; i < 1500; i++) {
        one = add_literal(&a, &sum, TYPE_INT4, "1");
        last = add_call(&a, &sum, "+", last, one);
    }
    CU_ASSERT_STRING_EQUAL(eval_text(&a, &sum, &out), "1500");
    buf_free(&out);
    arena_free(&a);
}

static void test_print(void)
{
    struct arena a = {0};
    struct expr e = {0};
    struct expr same = {0};
    struct buf out = {0};
    const char *names[] = {"price", NULL};
    for (int k = 0; k < 2; k++) {
        struct expr *to = k == 0 ? &e : &same;
        uint32_t args[3];
        uint32_t x = add_column(&a, to, 0, TYPE_INT4);
        uint32_t y = add_literal(&a, to, TYPE_INT4, "1");
        uint32_t t = add_column(&a, to, 1, TYPE_TEXT);
        uint32_t l = add_literal(&a, to, TYPE_TEXT, "it's");
        args[0] = add_call(&a, to, "=", t, l);
        args[1] = add_call(&a, to, "+", x, y);
        args[2] = add_literal(&a, to, TYPE_INT4, NULL);
        add_node(&a, to, EXPR_CASE, TYPE_INT4, args, 3);
    }
    expr_print(&e, names, &out);
    CU_ASSERT_STRING_EQUAL(buf_cstr(&out),
                           "case when (#1 = 'it''s') then (price + 1) else null end");
    CU_ASSERT(expr_equal(&e, &same));
    same.nodes[1].literal.i = 2;
    CU_ASSERT_FALSE(expr_equal(&e, &same));
    buf_free(&out);
    arena_free(&a);
}

/* Errors are rows of text: what they quote is cut between characters, and a SQLSTATE is one. */
static void test_error_text(void)
{
    struct arena a = {0};
    struct buf out = {0};
    for (int shift = 0; shift < 4; shift++) {
        struct expr e = {0};
        struct buf text = {0};
        buf_append(&text, "xyz", (size_t)shift);
        while (text.len < 2000) {
            buf_append_str(&text, shift % 2 == 0 ? "\xe2\x82\xac" : "\xf0\x9f\x90\x98");
        }
        uint32_t arg = add_literal(&a, &e, TYPE_TEXT, buf_cstr(&text));
        struct expr_node n = {.kind = EXPR_CALL, .args = &arg, .args_len = 1};
        n.func = cast_find(TYPE_TEXT, TYPE_INT4)->id;
        n.type = type_of(TYPE_INT4);
        expr_add(&a, &e, &n);
        const char *got = eval_text(&a, &e, &out);
        CU_ASSERT_EQUAL(strncmp(got, "!22P02 ", 7), 0);
        CU_ASSERT(strlen(got) > 990 && strlen(got) <= 1007);
        CU_ASSERT_TRUE(utf8_valid(got, strlen(got)));
        buf_free(&text);
    }
    static const char *const states[] = {"", "2100", "210000", "2100a", "21 00", "12\xe2\x82\xac"};
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        struct expr e = {0};
        uint8_t kinds[] = {TYPE_BOOL, TYPE_TEXT, TYPE_TEXT};
        uint32_t args[] = {add_literal(&a, &e, TYPE_BOOL, "t"),
                           add_literal(&a, &e, TYPE_TEXT, states[i]),
                           add_literal(&a, &e, TYPE_TEXT, "why")};
        struct expr_node n = {.kind = EXPR_CALL, .args = args, .args_len = 3};
        n.func = func_find("raise_if", kinds, 3)->id;
        n.type = type_of(TYPE_BOOL);
        expr_add(&a, &e, &n);
        CU_ASSERT_STRING_EQUAL(eval_text(&a, &e, &out), "!XX000 why");
    }
    buf_free(&out);
    arena_free(&a);
}

static void test_special(void)
{
    struct arena a = {0};
    struct expr e = {0};
    struct buf out = {0};
    uint32_t args[3];
    args[0] = add_literal(&a, &e, TYPE_BOOL, "t");
    args[1] = add_literal(&a, &e, TYPE_TEXT, "21000");
    args[2] = add_literal(&a, &e, TYPE_TEXT, "more than one row");
    uint8_t kinds[] = {TYPE_BOOL, TYPE_TEXT, TYPE_TEXT};
    struct expr_node n = {.kind = EXPR_CALL, .func = func_find("raise_if", kinds, 3)->id,
                          .args = args, .args_len = 3, .type = type_of(TYPE_BOOL)};
    expr_add(&a, &e, &n);
    CU_ASSERT_STRING_EQUAL(eval_text(&a, &e, &out), "!21000 more than one row");
    e = (struct expr){0};
    args[0] = add_literal(&a, &e, TYPE_TEXT, "abcdef");
    args[1] = add_literal(&a, &e, TYPE_INT4, "7"); /* varchar(3) */
    args[2] = add_literal(&a, &e, TYPE_BOOL, "f");
    kinds[0] = TYPE_TEXT;
    kinds[1] = TYPE_INT4;
    kinds[2] = TYPE_BOOL;
    n.func = func_find("varchar", kinds, 3)->id;
    n.type = type_of(TYPE_TEXT);
    uint32_t at = expr_add(&a, &e, &n);
    CU_ASSERT_STRING_EQUAL(eval_text(&a, &e, &out),
                           "!22001 value too long for type character varying(3)");
    e.nodes[e.nodes[at].args[2]].literal.b = true;
    CU_ASSERT_STRING_EQUAL(eval_text(&a, &e, &out), "abc");
    e = (struct expr){0};
    uint32_t x = add_literal(&a, &e, TYPE_INT4, NULL);
    uint32_t y = add_literal(&a, &e, TYPE_INT4, "1");
    add_call(&a, &e, "is_distinct_from", x, y);
    CU_ASSERT_STRING_EQUAL(eval_text(&a, &e, &out), "t");
    add_call(&a, &e, "is_not_distinct_from", x, x);
    CU_ASSERT_STRING_EQUAL(eval_text(&a, &e, &out), "t");
    buf_free(&out);
    arena_free(&a);
}

static const struct test_case cases[] = {
    {"catalog", test_catalog},
    {"stable_ids", test_stable_ids},
    {"casts", test_casts},
    {"aggregates", test_aggregates},
    {"all_functions", test_all_functions},
    {"to_char_spans", test_to_char_spans},
    {"like", test_like},
    {"three_valued", test_three_valued},
    {"lazy", test_lazy},
    {"guard", test_guard},
    {"shared", test_shared},
    {"long_texts", test_long_texts},
    {"order_of_steps", test_order_of_steps},
    {"validate", test_validate},
    {"bombs", test_bombs},
    {"print", test_print},
    {"special", test_special},
    {"error_text", test_error_text},
};
TEST_SUITE("core/data expressions", cases)
