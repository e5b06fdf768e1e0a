/*
 * The oracle: random values of every type and random calls of every function, evaluated here and
 * by a real PostgreSQL; text of the result or SQLSTATE must agree. Run by tests/lib/postgres.sh.
 * ORACLE_SEED and ORACLE_ROUNDS choose another or a longer run.
 */
#include "tests/unit/core/data/oracle_gen.h"
#include "tests/unit/harness.h"

#include <libpq-fe.h>
#include <math.h>
#include <stdio.h>

enum { SHOWN_MAX = 60 };

static PGconn *conn;
static size_t compared;
static size_t different;

static uint64_t env_number(const char *name, uint64_t otherwise)
{
    const char *s = getenv(name);
    return s != NULL ? strtoull(s, NULL, 10) : otherwise;
}

static bool connected(void)
{
    if (conn == NULL) {
        conn = PQconnectdb("options='-c standard_conforming_strings=on "
                           "-c client_min_messages=error'");
    }
    bool ok = PQstatus(conn) == CONNECTION_OK;
    if (!ok) {
        fprintf(stderr, "%s", PQerrorMessage(conn));
    }
    CU_ASSERT_FATAL(ok);
    return ok;
}

static void append_quoted(struct buf *sql, const char *s, size_t len)
{
    buf_append_byte(sql, '\'');
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '\'') {
            buf_append_byte(sql, '\'');
        }
        buf_append_byte(sql, (uint8_t)s[i]);
    }
    buf_append_byte(sql, '\'');
}

/* ---- comparing ------------------------------------------------------------------------------- */

static int significant_digits(const char *s)
{
    int n = 0;
    bool any = false;
    for (; *s != '\0'; s++) {
        any |= *s >= '1' && *s <= '9';
        n += any && *s >= '0' && *s <= '9';
    }
    return n;
}

static int fraction_digits(const char *s)
{
    const char *dot = strchr(s, '.');
    return dot == NULL ? 0 : (int)strlen(dot + 1);
}

/* What README.md admits: numbers that need more than 38 digits, years after 294246, and that the
 * age of infinity is an error (PostgreSQL 15 computes with its sentinel). */
static bool admitted(const char *sql, uint8_t kind, const char *theirs, bool failed,
                     const char *ours)
{
    if (strstr(sql, "\"age\"") != NULL && strstr(sql, "infinity") != NULL) {
        return failed && strcmp(ours, "22008") == 0;
    }
    if (kind == TYPE_NUMERIC) {
        bool beyond = significant_digits(theirs) > 38 || fraction_digits(theirs) > 38;
        if (beyond && failed) {
            return strcmp(ours, "22003") == 0;
        }
        long double a = strtold(theirs, NULL);
        long double b = strtold(ours, NULL);
        long double limit = beyond ? 1e-17L : 1e-30L;
        /* Transcendental functions: all of 16 digits more than PostgreSQL promises. */
        bool close = fabsl(a - b) <= fabsl(a) * limit;
        return !failed && (beyond ? fabsl(a - b) <= fabsl(a) * limit || fabsl(a - b) < 1e-37L
                                  : close && significant_digits(theirs) > 30);
    }
    bool time = kind == TYPE_TIMESTAMP || kind == TYPE_TIMESTAMPTZ;
    return time && failed && strcmp(ours, "22008") == 0 && strtol(theirs, NULL, 10) >= 294247;
}

static void compare(const char *sql, uint8_t kind, err_t err, const char *ours)
{
    PGresult *res = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(res);
    const char *theirs = NULL;
    const char *theirs_state = NULL;
    compared++;
    if (status == PGRES_TUPLES_OK) {
        theirs = PQgetisnull(res, 0, 0) ? "NULL" : PQgetvalue(res, 0, 0);
    } else {
        theirs_state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
        CU_ASSERT_FATAL(theirs_state != NULL);
    }
    const char *state = err != ERR_OK ? err_sqlstate(err) : NULL;
    bool same = (theirs == NULL) == (err != ERR_OK) &&
                strcmp(theirs != NULL ? theirs : theirs_state, state != NULL ? state : ours) == 0;
    if (!same && theirs != NULL) {
        same = admitted(sql, kind, theirs, state != NULL, state != NULL ? state : ours);
    }
    if (!same && ++different <= SHOWN_MAX) {
        printf("\n  %s\n    PostgreSQL: %s%s\n    here:       %s %s\n", sql,
               theirs != NULL ? theirs : PQresultErrorMessage(res),
               theirs_state != NULL ? theirs_state : "", state != NULL ? state : ours,
               err != ERR_OK ? err_message(err) : "");
    }
    PQclear(res);
}

/* ---- values ---------------------------------------------------------------------------------- */

static void compare_value(struct rng *r, uint8_t kind, const char *name, int32_t typmod)
{
    struct buf text = {0};
    struct buf sql = {0};
    struct buf printed = {0};
    struct arena arena = {0};
    struct datum d;
    gen_value(r, kind, false, &text);
    struct type type;
    bool known = type_of_name(name, typmod, &type);
    CU_ASSERT_FATAL(known);
    /* A typed literal goes through the input function with the typmod. */
    const char *format = type_format(&arena, &type);
    err_t err = datum_parse(&type, (const char *)text.data, text.len, &arena, &d);
    if (err == ERR_OK) {
        datum_print(&type, &d, &printed);
    }
    buf_printf(&sql, "CREATE TEMP TABLE IF NOT EXISTS t_%s_%d (v %s); DELETE FROM t_%s_%d; "
                     "INSERT INTO t_%s_%d VALUES (",
               name, typmod + 1, format, name, typmod + 1, name, typmod + 1);
    append_quoted(&sql, (const char *)text.data, text.len);
    buf_printf(&sql, ") RETURNING v");
    compare(buf_cstr(&sql), kind, err, buf_cstr(&printed));
    err_free(err);
    buf_free(&text);
    buf_free(&sql);
    buf_free(&printed);
    arena_free(&arena);
}

static void compare_literal(struct rng *r, uint8_t kind, const char *name, bool hostile)
{
    struct buf text = {0};
    struct buf sql = {0};
    struct buf printed = {0};
    struct arena arena = {0};
    struct type type = type_of(kind);
    struct datum d;
    gen_value(r, kind, hostile, &text);
    err_t err = datum_parse(&type, (const char *)text.data, text.len, &arena, &d);
    if (err == ERR_OK) {
        datum_print(&type, &d, &printed);
    }
    buf_append_str(&sql, "SELECT ");
    append_quoted(&sql, (const char *)text.data, text.len);
    buf_printf(&sql, "::%s", name);
    compare(buf_cstr(&sql), kind, err, buf_cstr(&printed));
    err_free(err);
    buf_free(&text);
    buf_free(&sql);
    buf_free(&printed);
    arena_free(&arena);
}

static const struct {
    uint8_t kind;
    const char *name;
    bool hostile; /* mangled text is judged alike too */
} kinds[] = {
    {TYPE_BOOL, "bool", true},       {TYPE_INT2, "int2", true},
    {TYPE_INT4, "int4", true},       {TYPE_INT8, "int8", true},
    {TYPE_FLOAT4, "float4", true},   {TYPE_FLOAT8, "float8", true},
    {TYPE_NUMERIC, "numeric", true}, {TYPE_TEXT, "text", true},
    {TYPE_BYTEA, "bytea", true},     {TYPE_DATE, "date", false},
    {TYPE_TIMESTAMP, "timestamp", false}, {TYPE_TIMESTAMPTZ, "timestamptz", false},
    {TYPE_INTERVAL, "interval", false}, {TYPE_JSONB, "jsonb", true},
    {TYPE_UUID, "uuid", true},       {TYPE_TIME, "time", false},
};

static const char *kind_name(uint8_t kind)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (kinds[i].kind == kind) {
            return kinds[i].name;
        }
    }
    return kind == TYPE_OID ? "oid" : NULL;
}

static void report(const char *what)
{
    printf("[%s: %zu compared, %zu different] ", what, compared, different);
    CU_ASSERT_EQUAL(different, 0);
    compared = 0;
    different = 0;
}

static void test_values(void)
{
    struct rng r = {env_number("ORACLE_SEED", 1)};
    uint64_t rounds = env_number("ORACLE_ROUNDS", 400);
    if (!connected()) {
        return;
    }
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        for (uint64_t i = 0; i < rounds; i++) {
            compare_literal(&r, kinds[k].kind, kinds[k].name, kinds[k].hostile);
        }
    }
    report("values");
}

static void test_typmods(void)
{
    struct rng r = {env_number("ORACLE_SEED", 2)};
    uint64_t rounds = env_number("ORACLE_ROUNDS", 400) / 4;
    static const struct {
        uint8_t kind;
        const char *name;
        int32_t typmod;
    } cases[] = {
        {TYPE_NUMERIC, "numeric", ((10 << 16) | 2) + 4},
        {TYPE_NUMERIC, "numeric", ((5 << 16) | 0) + 4},
        {TYPE_NUMERIC, "numeric", ((3 << 16) | (-2 & 0x7ff)) + 4},
        {TYPE_NUMERIC, "numeric", ((2 << 16) | 4) + 4},
        {TYPE_TEXT, "varchar", 3 + 4},
        {TYPE_TEXT, "bpchar", 4 + 4},
        {TYPE_TIMESTAMP, "timestamp", 3},
        {TYPE_TIMESTAMP, "timestamp", 0},
        {TYPE_TIMESTAMPTZ, "timestamptz", 1},
        {TYPE_TIME, "time", 2},
    };
    if (!connected()) {
        return;
    }
    for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
        for (uint64_t i = 0; i < rounds; i++) {
            compare_value(&r, cases[k].kind, cases[k].name, cases[k].typmod);
        }
    }
    report("typmods");
}

/* ---- functions ------------------------------------------------------------------------------- */

static bool is_operator(const char *name)
{
    return strchr("+-*/<>=~!@#%^&|?", name[0]) != NULL;
}

/* Not PostgreSQL's, or not callable by SQL under this name; casts of arrays: oracle.sql. */
static bool skipped_func(const struct func *f)
{
    static const char *const names[] = {"raise_if", "varchar", "bpchar", "is_distinct_from",
                                        "is_not_distinct_from", "array_cast"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(f->name, names[i]) == 0) {
            return true;
        }
    }
    /* Typmod functions read their number as a typmod. */
    if (strcmp(f->name, "numeric") == 0 || strcmp(f->name, "timestamp") == 0 ||
        strcmp(f->name, "timestamptz") == 0 || strcmp(f->name, "time") == 0 ||
        strcmp(f->name, "interval") == 0) {
        return true;
    }
    for (uint32_t i = 0; i < f->args_len; i++) {
        if (f->args[i] == TYPE_MZ_TIMESTAMP) {
            return true;
        }
    }
    bool temporal_text = (f->flags & FUNC_CAST) != 0 && f->args[0] == TYPE_TEXT &&
                         (f->result == TYPE_DATE || f->result == TYPE_TIMESTAMP ||
                          f->result == TYPE_TIMESTAMPTZ || f->result == TYPE_TIME ||
                          f->result == TYPE_INTERVAL || f->result == TYPE_OID);
    return f->result == TYPE_MZ_TIMESTAMP || temporal_text;
}

struct built {
    struct expr expr;
    struct arena arena;
    struct buf sql;
    err_t err; /* an argument is not a value: PostgreSQL must say so too */
};

static uint32_t add_arg(struct built *b, struct rng *r, const struct func *f, uint32_t arg,
                        uint8_t kind)
{
    struct expr_node n = {.kind = EXPR_LITERAL, .type = type_of(kind)};
    struct buf text = {0};
    gen_arg(r, f, arg, kind, &text);
    bool path = f->name[0] == '#' && f->name[1] == '>' && arg == 1;
    if (rng_below(r, 16) == 0) {
        n.literal.null = true;
        buf_printf(&b->sql, "NULL::%s", path ? "text[]" : kind_name(kind));
    } else {
        append_quoted(&b->sql, (const char *)text.data, text.len);
        buf_printf(&b->sql, "::%s", path ? "text[]" : kind_name(kind));
        if (b->err == ERR_OK) {
            b->err = datum_parse(&n.type, (const char *)text.data, text.len, &b->arena,
                                 &n.literal);
        }
        n.literal.null |= b->err != ERR_OK;
    }
    buf_free(&text);
    return expr_add(&b->arena, &b->expr, &n);
}

static void build_call(struct built *b, struct rng *r, const struct func *f, uint8_t any)
{
    bool op = is_operator(f->name);
    bool cast = (f->flags & FUNC_CAST) != 0;
    bool keyword = strcmp(f->name, "greatest") == 0 || strcmp(f->name, "least") == 0;
    bool array = strcmp(f->name, "array") == 0;
    uint32_t args_len = f->args_len + ((f->flags & FUNC_VARIADIC) != 0 ? rng_below(r, 3) : 0u);
    uint32_t args[8];
    buf_append_str(&b->sql, "SELECT ");
    if (cast) {
        buf_append_str(&b->sql, "CAST(");
    } else if (op && args_len == 1) {
        buf_printf(&b->sql, "%s ", f->name);
    } else if (array) {
        buf_append_str(&b->sql, "ARRAY[");
    } else if (!op) {
        buf_printf(&b->sql, keyword ? "%s(" : "pg_catalog.\"%s\"(", f->name);
    }
    for (uint32_t i = 0; i < args_len; i++) {
        uint8_t kind = f->args[i < f->args_len ? i : f->args_len - 1u];
        if (i > 0 && op) {
            buf_printf(&b->sql, " %s ", f->name);
        } else if (i > 0) {
            buf_append_str(&b->sql, ", ");
        }
        args[i] = add_arg(b, r, f, i, kind != 0 ? kind : any);
    }
    struct expr_node n = {.kind = EXPR_CALL, .func = f->id, .args = args, .args_len = args_len};
    n.type = type_of(f->result != 0 ? f->result : any);
    expr_add(&b->arena, &b->expr, &n);
    if (cast) {
        buf_printf(&b->sql, " AS %s)", kind_name(n.type.kind));
    } else if (!op) {
        buf_append_byte(&b->sql, array ? ']' : ')');
    }
}

static void compare_call(struct rng *r, const struct func *f)
{
    static const uint8_t anys[] = {TYPE_INT4, TYPE_TEXT, TYPE_NUMERIC, TYPE_BOOL, TYPE_DATE,
                                   TYPE_FLOAT8, TYPE_TIMESTAMP, TYPE_UUID};
    struct built b = {0};
    struct buf printed = {0};
    struct datum d;
    build_call(&b, r, f, anys[rng_below(r, ARRAY_LEN(anys))]);
    if (b.err == ERR_OK) {
        b.err = expr_eval_const(&b.expr, &b.arena, &d);
    }
    const struct type *type = &b.expr.nodes[b.expr.nodes_len - 1].type;
    if (b.err == ERR_OK && d.null) {
        buf_append_str(&printed, "NULL");
    } else if (b.err == ERR_OK) {
        datum_print(type, &d, &printed);
    }
    compare(buf_cstr(&b.sql), type->kind, b.err, buf_cstr(&printed));
    err_free(b.err);
    buf_free(&b.sql);
    buf_free(&printed);
    arena_free(&b.arena);
}

static void test_functions(void)
{
    struct rng r = {env_number("ORACLE_SEED", 3)};
    uint64_t rounds = env_number("ORACLE_ROUNDS", 400) / 10;
    const char *only = getenv("ORACLE_FUNCTION");
    size_t len;
    const struct func *catalog = func_catalog(&len);
    if (!connected()) {
        return;
    }
    for (size_t k = 0; k < len; k++) {
        if (skipped_func(&catalog[k]) || (only != NULL && strcmp(only, catalog[k].name) != 0)) {
            continue;
        }
        for (uint64_t i = 0; i < rounds; i++) {
            compare_call(&r, &catalog[k]);
        }
    }
    report("functions");
    PQfinish(conn);
    conn = NULL;
}

static const struct test_case cases[] = {
    {"oracle_values", test_values},
    {"oracle_typmods", test_typmods},
    {"oracle_functions", test_functions},
};
TEST_SUITE("core/data oracle", cases)
