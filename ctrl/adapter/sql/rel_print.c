/*
 * EXPLAIN OPTIMIZED PLAN: the relations of a statement after everything that only looks at what is
 * asked (subqueries are joins, predicates are where they do most), before it is decided how: joins
 * still have all their inputs, and nothing has an operator yet.
 *
 *     Reduce group=(name) aggregates=(sum(total))
 *       InnerJoin on=((customer = id))
 *         Filter (total > 5)
 *           Get u9 (orders)
 *         Get u10 (customers)
 *
 * Columns have the names of the relations they come from, as in plan_print.c; #n are computed.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "core/engine/plan_print.h"

/* One print. Relations are shared by address: they are keys. */
struct rel_printer {
    struct arena *arena;
    struct buf *out;
    struct u64map users; /* rel -> how often it is referred to, as a pointer */
    struct u64map names; /* rel -> const char *[cols_len] */
    struct u64map shown; /* rel -> its label, from 1 */
};

enum { REL_INDENT_MAX = 40 };

static uint64_t key_of(const struct rel *rel)
{
    return (uint64_t)(uintptr_t)rel;
}

static void count_users(struct rel_printer *p, const struct rel *rel)
{
    uintptr_t users = (uintptr_t)u64map_get(&p->users, key_of(rel));
    u64map_put(&p->users, key_of(rel), (void *)(users + 1));
    for (uint32_t i = 0; users == 0 && i < rel->inputs_len; i++) {
        count_users(p, rel->inputs[i]);
    }
}

/* ---- names ----------------------------------------------------------------------------------- */

static const char **names_of(struct rel_printer *p, const struct rel *rel);

/* Of all inputs' columns, one after the other; twins have their number behind. */
static const char **input_names(struct rel_printer *p, const struct rel *rel, uint32_t *len)
{
    *len = 0;
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        *len += rel->inputs[i]->cols_len;
    }
    const char **all = ARENA_ARRAY(p->arena, const char *, *len + rel->sx_len + 1);
    uint32_t at = 0;
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        const char **names = names_of(p, rel->inputs[i]);
        for (uint32_t c = 0; c < rel->inputs[i]->cols_len; c++) {
            all[at++] = names[c];
        }
    }
    for (uint32_t i = 0; rel->inputs_len > 1 && i < *len; i++) {
        for (uint32_t j = 0; all[i] != NULL && j < i; j++) {
            if (all[j] != NULL && strcmp(all[i], all[j]) == 0) {
                all[i] = arena_printf(p->arena, "%s#%u", all[i], i);
                break;
            }
        }
    }
    return all;
}

static const char **make_names(struct rel_printer *p, const struct rel *rel)
{
    uint32_t len = 0;
    const char **inputs = input_names(p, rel, &len);
    const char **names = ARENA_ARRAY(p->arena, const char *, rel->cols_len + 1);
    for (uint32_t c = 0; c < rel->cols_len; c++) {
        switch (rel->kind) {
        case REL_GET:
            names[c] = rel->relation != NULL && c < rel->relation->columns.cols
                           ? rel->relation->columns.names[c]
                           : NULL;
            break;
        case REL_PROJECT: names[c] = rel->cols[c] < len ? inputs[rel->cols[c]] : NULL; break;
        case REL_FLAT_MAP:
        case REL_REDUCE: names[c] = c < rel->keys_len ? inputs[rel->cols[c]] : NULL; break;
        default: names[c] = c < len ? inputs[c] : NULL; break;
        }
    }
    return names;
}

static const char **names_of(struct rel_printer *p, const struct rel *rel)
{
    const char **names = u64map_get(&p->names, key_of(rel));
    if (names == NULL) {
        names = make_names(p, rel);
        u64map_put(&p->names, key_of(rel), names);
    }
    return names;
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* As the physical plan prints it; what has no form there yet says so. */
static void print_sx(struct rel_printer *p, const struct sx *sx, const char *const *names)
{
    static const char *const cmps[] = {"?", "<", "<=", ">", ">=", "="};
    struct expr e;
    struct sx *bound = NULL;
    uint8_t cmp = 0;
    if (sx_temporal(sx, &cmp, &bound)) {
        ASSERT(cmp < ARRAY_LEN(cmps));
        buf_printf(p->out, "mz_now() %s ", cmps[cmp]);
        sx = bound;
    }
    err_t err = sx_emit(p->arena, sx, &e);
    if (err == ERR_OK) {
        expr_print(&e, names, p->out);
    } else {
        buf_append_str(p->out, "?");
        err_free(err);
    }
}

/* "a and b"; first: the number of the first when they are new columns. */
static void print_list(struct rel_printer *p, const struct rel *rel, const char *const *names,
                       const char *between)
{
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        buf_append_str(p->out, i > 0 ? between : "");
        if (rel->kind == REL_MAP) {
            buf_printf(p->out, "#%u: ", rel->inputs[0]->cols_len + i);
        }
        print_sx(p, rel->sx[i], names);
    }
}

static void print_join_rel(struct rel_printer *p, const struct rel *rel, const char *const *names)
{
    static const char *const kinds[] = {[REL_JOIN_INNER] = "Inner", [REL_JOIN_LEFT] = "Left",
                                        [REL_JOIN_FULL] = "Full",   [REL_JOIN_SEMI] = "Semi",
                                        [REL_JOIN_ANTI] = "Anti"};
    ASSERT(rel->join < ARRAY_LEN(kinds) && kinds[rel->join] != NULL);
    if (rel->sx_len == 0 && rel->join == REL_JOIN_INNER) {
        buf_append_str(p->out, "CrossJoin");
        return;
    }
    buf_printf(p->out, "%sJoin on=(", kinds[rel->join]);
    print_list(p, rel, names, " and ");
    buf_append_byte(p->out, ')');
}

/* Grouping and ordering, in the words of the physical plan. */
static void print_grouped(struct rel_printer *p, const struct rel *rel, const char **names)
{
    const struct rel *in = rel->inputs[0];
    struct schema schema = {.cols = in->cols_len, .types = in->types, .names = names};
    buf_append_str(p->out, rel->kind == REL_TOPK ? "TopK group=" : "Reduce group=");
    plan_print_cols(p->out, &schema, rel->cols, rel->keys_len);
    if (rel->kind == REL_TOPK) {
        buf_append_str(p->out, " order=(");
        plan_print_order(p->out, &schema, rel->order, rel->order_len);
        buf_printf(p->out, ") limit=%lld%s offset=%lld", (long long)rel->limit,
                   rel->ties ? " with ties" : "", (long long)rel->offset);
        return;
    }
    buf_append_str(p->out, " aggregates=(");
    for (uint32_t i = 0; i < rel->aggs_len; i++) {
        buf_append_str(p->out, i > 0 ? ", " : "");
        plan_print_agg(p->out, &rel->aggs[i], &schema);
    }
    buf_append_byte(p->out, ')');
}

/* By the physical plan's own printer, which looks at nothing else of the node. */
static void print_window(struct rel_printer *p, const struct rel *rel, const char **names)
{
    const struct rel *in = rel->inputs[0];
    const struct schema schema = {.cols = in->cols_len, .types = in->types, .names = names};
    const struct plan_node node = {.op = PLAN_WINDOW,
                                   .window = {.keys = rel->cols,
                                              .keys_len = rel->keys_len,
                                              .order = rel->order,
                                              .order_len = rel->order_len,
                                              .calls = rel->calls,
                                              .calls_len = rel->calls_len}};
    plan_print_window(p->out, &node, &schema);
}

/* As print_window. */
static void print_flat_map(struct rel_printer *p, const struct rel *rel, const char **names)
{
    const struct rel *in = rel->inputs[0];
    const struct schema schema = {.cols = in->cols_len, .types = in->types, .names = names};
    const struct plan_node node = {.op = PLAN_FLAT_MAP,
                                   .flat_map = {.keep = rel->cols,
                                                .keep_len = rel->keys_len,
                                                .calls = rel->tables,
                                                .calls_len = rel->tables_len,
                                                .ordinality = rel->ordinality,
                                                .outer = rel->outer}};
    plan_print_flat_map(p->out, &node, &schema);
}

static void print_get(struct rel_printer *p, const struct rel *rel)
{
    buf_printf(p->out, "Get u%llu", (unsigned long long)rel->id);
    if (rel->relation != NULL) {
        buf_printf(p->out, " (%s)", rel->relation->name);
    }
}

static void print_rel_head(struct rel_printer *p, const struct rel *rel)
{
    uint32_t len = 0;
    const char **names = input_names(p, rel, &len);
    const struct schema schema = {.cols = len, .names = names};
    switch (rel->kind) {
    case REL_GET: print_get(p, rel); break;
    case REL_CONSTANT: buf_printf(p->out, "Constant rows=%u", rel->rows_len); break;
    case REL_MAP:
        buf_append_str(p->out, "Map ");
        print_list(p, rel, names, ", ");
        break;
    case REL_FILTER:
        buf_append_str(p->out, "Filter ");
        print_list(p, rel, names, " and ");
        break;
    case REL_PROJECT:
        buf_append_str(p->out, "Project ");
        plan_print_cols(p->out, &schema, rel->cols, rel->cols_len);
        break;
    case REL_JOIN: print_join_rel(p, rel, names); break;
    case REL_REDUCE:
    case REL_TOPK: print_grouped(p, rel, names); break;
    case REL_WINDOW: print_window(p, rel, names); break;
    case REL_FLAT_MAP: print_flat_map(p, rel, names); break;
    case REL_DISTINCT: buf_append_str(p->out, "Distinct"); break;
    case REL_THRESHOLD: buf_append_str(p->out, "Threshold"); break;
    case REL_NEGATE: buf_append_str(p->out, "Negate"); break;
    case REL_UNION:
        buf_append_str(p->out, rel->errors_once ? "Union errors of the first" : "Union");
        break;
    case REL_VARIABLE: buf_printf(p->out, "Variable %u", rel->binding); break;
    case REL_FIXPOINT: buf_printf(p->out, "Fixpoint variables=%u", rel->recursion->len); break;
    case REL_LEAVE: buf_printf(p->out, "Leave variable=%u", rel->binding); break;
    default: buf_printf(p->out, "Operator %u", rel->kind); break;
    }
}

/* Depth is bounded by the analysis of the statement. */
static void print_rel(struct rel_printer *p, const struct rel *rel, uint32_t depth)
{
    for (uint32_t i = 0; i < depth && i < REL_INDENT_MAX; i++) {
        buf_append_str(p->out, "  ");
    }
    uintptr_t label = (uintptr_t)u64map_get(&p->shown, key_of(rel));
    if (label != 0) {
        buf_printf(p->out, "Get $%u\n", (unsigned)label);
        return;
    }
    if ((uintptr_t)u64map_get(&p->users, key_of(rel)) > 1 && rel->kind != REL_GET) {
        label = p->shown.len + 1;
        u64map_put(&p->shown, key_of(rel), (void *)label);
        buf_printf(p->out, "$%u = ", (unsigned)label);
    }
    print_rel_head(p, rel);
    buf_append_byte(p->out, '\n');
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        print_rel(p, rel->inputs[i], depth + 1);
    }
}

void rel_print(struct arena *arena, const struct rel *rel, struct buf *out)
{
    struct rel_printer p = {.arena = arena, .out = out};
    ASSERT(rel != NULL);
    count_users(&p, rel);
    print_rel(&p, rel, 0);
    u64map_free(&p.users);
    u64map_free(&p.names);
    u64map_free(&p.shown);
}
