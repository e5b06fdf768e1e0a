/* See random.h: a grammar walked at random, with the columns in scope at hand. */
#include "tests/unit/ctrl/adapter/sql/random.h"

#include "core/base/buf.h"

#include <stdio.h>

/* Columns in scope: "q3.a" and whether it is an integer (else text). */
struct column {
    char name[40];
    bool is_int;
};

struct columns {
    struct column items[64];
    uint32_t len;
};

static uint32_t below(struct random_sql *g, uint32_t n)
{
    g->state += 0x9E3779B97F4A7C15ULL;
    uint64_t z = g->state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    z ^= z >> 31;
    return (uint32_t)(z % n);
}

static void int_expr(struct random_sql *g, const struct columns *in, struct buf *out);
static void bool_expr(struct random_sql *g, const struct columns *in, struct buf *out);
static void query(struct random_sql *g, const struct columns *outer, uint32_t cols, bool ints,
                  struct buf *out);

static void column(struct random_sql *g, const struct columns *in, bool is_int, struct buf *out)
{
    uint32_t matching = 0;
    for (uint32_t i = 0; i < in->len; i++) {
        matching += in->items[i].is_int == is_int ? 1 : 0;
    }
    if (matching == 0) {
        buf_append_str(out, is_int ? "2" : "'two'");
        return;
    }
    uint32_t pick = below(g, matching);
    for (uint32_t i = 0; i < in->len; i++) {
        if (in->items[i].is_int == is_int && pick-- == 0) {
            buf_append_str(out, in->items[i].name);
        }
    }
}

static void text_expr(struct random_sql *g, const struct columns *in, struct buf *out)
{
    static const char *const words[] = {"'one'", "'two'", "'deux'", "'nil'", "null"};
    switch (below(g, 5)) {
    case 0:
        buf_append_str(out, words[below(g, 5)]);
        break;
    case 1:
        buf_append_str(out, "coalesce(");
        column(g, in, false, out);
        buf_append_str(out, ", 'none')");
        break;
    case 2:
        buf_append_str(out, "(");
        column(g, in, false, out);
        buf_append_str(out, " || 'x')");
        break;
    default:
        column(g, in, false, out);
        break;
    }
}

static void scalar_subquery(struct random_sql *g, const struct columns *in, struct buf *out)
{
    static const char *const aggs[] = {"max(", "min(", "count(", "sum("};
    g->depth++;
    buf_printf(out, "(select %sz.c1)::int from (", aggs[below(g, 4)]);
    query(g, in, 1, true, out);
    buf_append_str(out, ") z (c1))");
    g->depth--;
}

static void int_expr(struct random_sql *g, const struct columns *in, struct buf *out)
{
    uint32_t kind = g->nest > 2 ? 5 : below(g, g->depth > 1 ? 7 : 9);
    g->nest++;
    if (kind == 0) {
        buf_printf(out, "%u", below(g, 5));
    } else if (kind == 1) {
        buf_append_str(out, "(");
        int_expr(g, in, out);
        bool divided = g->failing && below(g, 4) == 0;
        buf_append_str(out, divided ? " / " : below(g, 2) == 0 ? " + " : " - ");
        int_expr(g, in, out);
        buf_append_str(out, ")");
    } else if (kind == 2) {
        buf_append_str(out, "case when ");
        bool_expr(g, in, out);
        buf_append_str(out, " then ");
        int_expr(g, in, out);
        buf_append_str(out, " else ");
        int_expr(g, in, out);
        buf_append_str(out, " end");
    } else if (kind >= 7) {
        scalar_subquery(g, in, out);
    } else {
        column(g, in, true, out);
    }
    g->nest--;
}

static void subquery_test(struct random_sql *g, const struct columns *in, struct buf *out)
{
    static const char *const tests[] = {" in (", " not in (", " > any (", " <= all (", " = any ("};
    if (below(g, 3) == 0) {
        buf_append_str(out, below(g, 2) == 0 ? "exists (" : "not exists (");
    } else {
        int_expr(g, in, out);
        buf_append_str(out, tests[below(g, 5)]);
    }
    query(g, in, 1, true, out);
    buf_append_str(out, ")");
}

static void bool_expr(struct random_sql *g, const struct columns *in, struct buf *out)
{
    static const char *const ops[] = {" = ", " <> ", " < ", " >= "};
    uint32_t kind = g->nest > 2 ? below(g, 4) : below(g, g->depth > 1 ? 6 : 9);
    g->nest++;
    if (kind <= 1) {
        int_expr(g, in, out);
        buf_append_str(out, ops[below(g, 4)]);
        int_expr(g, in, out);
    } else if (kind == 2) {
        text_expr(g, in, out);
        buf_append_str(out, ops[below(g, 4)]);
        text_expr(g, in, out);
    } else if (kind == 3) {
        int_expr(g, in, out);
        buf_append_str(out, below(g, 2) == 0 ? " is null" : " is not null");
    } else if (kind <= 5) {
        buf_append_str(out, below(g, 4) == 0 ? "not (" : "(");
        bool_expr(g, in, out);
        buf_append_str(out, below(g, 2) == 0 ? " and " : " or ");
        bool_expr(g, in, out);
        buf_append_str(out, ")");
    } else {
        g->depth++;
        subquery_test(g, in, out);
        g->depth--;
    }
    g->nest--;
}

static void add_columns(struct columns *c, const char *alias, const char *table)
{
    static const struct {
        const char *table, *column;
        bool is_int;
    } all[] = {{"t", "a", true}, {"t", "b", false}, {"s", "x", true},
               {"s", "y", true}, {"u", "a", true},  {"u", "d", false}};
    for (size_t i = 0; i < ARRAY_LEN(all) && c->len < 64; i++) {
        if (strcmp(all[i].table, table) == 0) {
            struct column *to = &c->items[c->len++];
            snprintf(to->name, sizeof(to->name), "%s.%s", alias, all[i].column);
            to->is_int = all[i].is_int;
        }
    }
}

static void add_column(struct columns *c, const char *alias, const char *name, bool is_int)
{
    if (c->len < ARRAY_LEN(c->items)) {
        struct column *to = &c->items[c->len++];
        snprintf(to->name, sizeof(to->name), "%s.%s", alias, name);
        to->is_int = is_int;
    }
}

/* A number that is small, whatever it is made of: series are as long. */
static void small_int(struct random_sql *g, const struct columns *in, struct buf *out)
{
    buf_append_str(out, "((");
    int_expr(g, in, out);
    buf_append_str(out, ") % 4)");
}

/* A set-returning function of columns to its left, its own columns added to own. */
static void function_item(struct random_sql *g, const struct columns *seen, const char *alias,
                          struct columns *own, struct buf *out)
{
    g->depth++;
    switch (below(g, 5)) {
    case 0:
        buf_append_str(out, "generate_series(1, ");
        small_int(g, seen, out);
        buf_printf(out, ") %s (c1)", alias);
        add_column(own, alias, "c1", true);
        break;
    case 1:
        buf_append_str(out, "unnest(array[");
        int_expr(g, seen, out);
        buf_append_str(out, ", ");
        int_expr(g, seen, out);
        buf_printf(out, "]) %s (c1)", alias);
        add_column(own, alias, "c1", true);
        break;
    case 2:
        buf_append_str(out, "unnest(array[");
        int_expr(g, seen, out);
        buf_append_str(out, ", 3, null], array[");
        text_expr(g, seen, out);
        buf_printf(out, "]) with ordinality %s (c1, c2, c3)", alias);
        add_column(own, alias, "c1", true);
        add_column(own, alias, "c2", false);
        add_column(own, alias, "c3", true);
        break;
    case 3:
        buf_append_str(out, "string_to_table(");
        text_expr(g, seen, out);
        buf_printf(out, ", 'e') %s (c1)", alias);
        add_column(own, alias, "c1", false);
        break;
    default:
        buf_append_str(out, "rows from (generate_series(");
        small_int(g, seen, out);
        buf_append_str(out, ", 2), string_to_table(");
        text_expr(g, seen, out);
        buf_printf(out, ", 'o')) %s (c1, c2)", alias);
        add_column(own, alias, "c1", true);
        add_column(own, alias, "c2", false);
        break;
    }
    g->depth--;
}

/* One item of FROM, its columns added to own. */
static void from_item(struct random_sql *g, const struct columns *outer, struct columns *own,
                      bool lateral, struct buf *out)
{
    static const char *const tables[] = {"t", "s", "u"};
    char alias[16];
    snprintf(alias, sizeof(alias), "q%u", g->aliases++);
    struct columns seen = *outer;
    for (uint32_t i = 0; lateral && i < own->len && seen.len < 64; i++) {
        seen.items[seen.len++] = own->items[i];
    }
    if (lateral && below(g, 4) == 0) {
        function_item(g, &seen, alias, own, out);
        return;
    }
    if (g->depth < 2 && below(g, 4) == 0) {
        g->depth++;
        buf_append_str(out, lateral ? "lateral (" : "(");
        query(g, &seen, 2, true, out);
        buf_printf(out, ") %s (c1, c2)", alias);
        g->depth--;
        add_column(own, alias, "c1", true);
        add_column(own, alias, "c2", true);
        return;
    }
    const char *table = tables[below(g, 3)];
    buf_printf(out, "%s %s", table, alias);
    add_columns(own, alias, table);
}

static void from_clause(struct random_sql *g, const struct columns *outer, struct columns *own,
                        struct buf *out)
{
    static const char *const joins[] = {" join ", " left join ", " right join ", " full join "};
    from_item(g, outer, own, false, out);
    uint32_t more = below(g, g->depth > 1 ? 2 : 3);
    for (uint32_t i = 0; i < more; i++) {
        uint32_t kind = below(g, 5);
        if (kind == 4) {
            buf_append_str(out, " cross join ");
            from_item(g, outer, own, true, out);
            continue;
        }
        buf_append_str(out, joins[kind]);
        from_item(g, outer, own, kind <= 1, out);
        buf_append_str(out, " on ");
        if (kind == 3) {
            /* PostgreSQL has FULL JOIN for equalities of both sides only. */
            buf_printf(out, "%s = ", own->items[0].name);
            uint32_t last = own->len - 1;
            while (!own->items[last].is_int) {
                last--;
            }
            buf_append_str(out, own->items[last].name);
        } else {
            g->depth += 2;
            bool_expr(g, own, out);
            g->depth -= 2;
        }
    }
}

static void aggregate(struct random_sql *g, const struct columns *in, struct buf *out)
{
    static const char *const aggs[] = {"count(",  "min(",    "max(",    "sum(", "bit_and(",
                                       "bit_or(", "bit_xor(", "bit_xor(distinct ",
                                       "count(distinct ", "sum(distinct "};
    uint32_t kind = below(g, 9);
    if (kind > 2) {
        buf_append_str(out, aggs[below(g, 10)]);
        column(g, in, true, out);
        buf_append_str(out, ")");
        if (kind > 6) {
            g->depth += 2; /* no subqueries: those of an outer query's columns are refused */
            buf_append_str(out, " filter (where ");
            bool_expr(g, in, out);
            buf_append_str(out, ")");
            g->depth -= 2;
        }
        buf_append_str(out, "::int");
        return;
    }
    if (kind == 2) { /* in the select list it gives rows: those of the longest one */
        buf_append_str(out, "unnest(array_agg(");
        struct buf by = {0};
        column(g, in, true, &by);
        buf_printf(out, "%.*s order by %.*s))", (int)by.len, (const char *)by.data, (int)by.len,
                   (const char *)by.data);
        buf_free(&by);
        return;
    }
    /* The whole text at each place of its order, as a number. */
    struct buf arg = {0};
    column(g, in, false, &arg);
    buf_append_str(&arg, "::text"); /* a literal without a type is not found in ORDER BY again */
    static const char *const forms[] = {
        "length(string_agg(%s%.*s, ',' order by %.*s%s)%s)",
        "position('o,' in string_agg(%s%.*s, ',' order by %.*s%s)%s)",
        "ascii(substr(string_agg(%s%.*s, ',' order by %.*s%s)%s, 5))"};
    const char *form = forms[below(g, 3)];
    buf_printf(out, form, below(g, 3) == 0 ? "distinct " : "", (int)arg.len,
               (const char *)arg.data, (int)arg.len, (const char *)arg.data,
               below(g, 2) == 0 ? " desc" : "",
               below(g, 3) == 0 ? " filter (where true)" : "");
    buf_free(&arg);
}

/* One over rows in an order of all their columns: those that are peers are the same. */
static void total_window(struct random_sql *g, const struct columns *in, struct buf *out)
{
    static const char *const calls[] = {"row_number()", "ntile(3)", "lag(", "lead(",
                                        "first_value(", "nth_value(", "sum(", "count("};
    static const char *const frames[] = {
        "", " rows between 1 preceding and 1 following",
        " rows between unbounded preceding and 2 preceding",
        " rows between current row and unbounded following exclude current row"};
    uint32_t call = below(g, 8);
    buf_append_str(out, calls[call]);
    if (call >= 2) {
        column(g, in, true, out);
        if (call == 3 && below(g, 2) == 0) {
            buf_append_str(out, ", ");
            column(g, in, true, out);
        }
        buf_append_str(out, call == 5 ? ", 2)" : call == 2 ? ", 2, 7)" : ")");
    }
    buf_append_str(out, " over (");
    if (below(g, 3) == 0) {
        buf_append_str(out, "partition by ");
        column(g, in, true, out);
    }
    for (uint32_t i = 0; i < in->len; i++) {
        buf_printf(out, "%s%s%s", i == 0 ? " order by " : ", ", in->items[i].name,
                   below(g, 4) == 0 ? " desc" : "");
    }
    buf_printf(out, "%s)::int", call >= 4 ? frames[below(g, 4)] : "");
}

/* A set-returning function in a select list. */
static void table_target(struct random_sql *g, const struct columns *in, struct buf *out)
{
    if (below(g, 2) == 0) {
        buf_append_str(out, "generate_series(0, ");
        small_int(g, in, out);
        buf_append_str(out, ")");
        return;
    }
    buf_append_str(out, "unnest(array[");
    int_expr(g, in, out);
    buf_append_str(out, ", ");
    int_expr(g, in, out);
    buf_append_str(out, ", 4])");
}

/* A window function whose answer does not depend on the order of peers, as a number. */
static void window(struct random_sql *g, const struct columns *in, struct buf *out)
{
    static const char *const ranks[] = {"rank()", "dense_rank()", "count(*)"};
    static const char *const aggs[] = {"sum(", "min(", "max(", "count(", "first_value(",
                                       "last_value("};
    static const char *const frames[] = {
        "",
        " range between 1 preceding and 1 following",
        " range between unbounded preceding and 2 following",
        " groups between 1 preceding and current row",
        " groups between 1 following and unbounded following",
        " range between 2 following and 4 following",
        " groups between 2 preceding and 1 preceding exclude ties",
        " range between unbounded preceding and unbounded following exclude group",
        " range between current row and unbounded following exclude current row"};
    struct buf by = {0};
    column(g, in, true, &by);
    bool values = below(g, 2) == 0, whole = values && below(g, 12) == 0;
    if (values) {
        /* Of peers first and last are anybody's: what is asked for is what they are peers by. */
        buf_append_str(out, aggs[below(g, whole ? 4 : 6)]);
        buf_append(out, by.data, by.len);
        buf_append_str(out, ")");
    } else {
        buf_append_str(out, ranks[below(g, 3)]);
    }
    if (whole) {
        buf_append_str(out, " over ()::int");
        buf_free(&by);
        return;
    }
    buf_append_str(out, " over (");
    if (below(g, 3) == 0) {
        buf_append_str(out, "partition by ");
        column(g, in, below(g, 2) == 0, out);
    }
    buf_printf(out, " order by %.*s%s%s)::int", (int)by.len, (const char *)by.data,
               below(g, 3) == 0 ? " desc" : "", frames[below(g, 9)]);
    buf_free(&by);
}

static void plain_target(struct random_sql *g, const struct columns *own,
                         const struct columns *all, struct buf *out)
{
    uint32_t kind = below(g, 14);
    if (kind <= 1 && own->items[0].is_int) {
        window(g, own, out);
    } else if (kind == 2 && !g->numbered) {
        total_window(g, own, out);
        g->numbered = true; /* a second one may number equal rows the other way round */
    } else if (kind == 3) {
        table_target(g, all, out);
    } else {
        int_expr(g, all, out);
    }
}

/* The first key comes first, so that groups are told apart. */
static void grouped_target(struct random_sql *g, const struct columns *own, uint32_t i,
                           const char *const *keys, struct buf *out)
{
    if (i == 0 && keys[0] != NULL) {
        buf_append_str(out, keys[0]);
    } else if (i == 1 && keys[1] != NULL && below(g, 6) == 0) {
        buf_printf(out, "max(%s)", keys[1]);
    } else {
        aggregate(g, own, out);
    }
}

/* By one key or two, or by sets of them. */
static void group_clause(struct random_sql *g, const char *const *keys, struct buf *out)
{
    static const char *const forms[] = {"1",
                                        "1",
                                        "1, 2",
                                        "rollup (1)",
                                        "rollup (1, 2)",
                                        "cube (1, 2)",
                                        "grouping sets ((1), ())",
                                        "grouping sets ((1, 2), (2), (1), ())",
                                        "1, grouping sets ((2), ())"};
    const char *form = forms[below(g, keys[1] != NULL ? 9 : 2)];
    buf_append_str(out, " group by ");
    for (const char *c = form; *c != '\0'; c++) {
        if (*c == '1' || *c == '2') {
            buf_append_str(out, keys[*c - '1']);
        } else {
            buf_append_byte(out, (uint8_t)*c);
        }
    }
    if (below(g, 3) == 0) {
        buf_append_str(out, " having count(*) > 1");
    }
}

static void select_query(struct random_sql *g, const struct columns *outer, uint32_t cols,
                         struct buf *out)
{
    struct columns own = {0};
    struct buf from = {0};
    from_clause(g, outer, &own, &from);
    struct columns all = own;
    for (uint32_t i = 0; i < outer->len && all.len < 64; i++) {
        all.items[all.len++] = outer->items[i];
    }
    bool grouped = below(g, 4) == 0;
    bool distinct = !grouped && below(g, 5) == 0;
    buf_append_str(out, distinct ? "select distinct " : "select ");
    const char *keys[2] = {NULL, NULL};
    for (uint32_t i = 0, k = 0; i < own.len && k < 2; i++) {
        if (own.items[i].is_int) {
            keys[k++] = own.items[i].name;
        }
    }
    bool numbered = g->numbered;
    g->numbered = false;
    for (uint32_t i = 0; i < cols; i++) {
        buf_append_str(out, i > 0 ? ", " : "");
        if (grouped) {
            grouped_target(g, &own, i, keys, out);
        } else {
            plain_target(g, &own, &all, out);
        }
    }
    g->numbered = numbered;
    buf_printf(out, " from %.*s", (int)from.len, (const char *)from.data);
    buf_free(&from);
    if (below(g, 5) < 2) {
        buf_append_str(out, " where ");
        bool_expr(g, &all, out);
    }
    if (grouped && keys[0] != NULL) {
        group_clause(g, keys, out);
    }
}

static void query(struct random_sql *g, const struct columns *outer, uint32_t cols, bool ints,
                  struct buf *out)
{
    static const char *const sets[] = {" union ",     " union all ",  " except ",
                                       " intersect ", " except all ", " intersect all "};
    (void)ints;
    select_query(g, outer, cols, out);
    if (g->depth < 3 && below(g, 7) == 0) {
        buf_append_str(out, sets[below(g, 6)]);
        select_query(g, outer, cols, out);
    }
    if (below(g, 7) == 0) { /* by all columns: any rows that could change places are the same */
        for (uint32_t i = 0; i < cols; i++) {
            buf_printf(out, "%s%u%s", i == 0 ? " order by " : ", ", i + 1,
                       below(g, 3) == 0 ? " desc" : "");
        }
        buf_printf(out, " limit %u offset %u", 1 + below(g, 6), below(g, 3));
    }
}

char *random_query(struct random_sql *gen)
{
    struct buf out = {0};
    struct columns none = {0};
    gen->aliases = 0;
    gen->depth = 0;
    gen->nest = 0;
    gen->numbered = false;
    query(gen, &none, 1 + below(gen, 3), true, &out);
    buf_append_byte(&out, '\0');
    return (char *)out.data;
}
