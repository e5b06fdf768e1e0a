/*
 * The window operator's part of the plan language: validation, and its line in EXPLAIN.
 *
 *   Window partition=(k) order=(t asc nulls last) functions=(row_number(),
 *       sum(v) rows between 2 preceding and current row)
 *
 * Any thread.
 */
#include "core/engine/plan_check.h"
#include "core/engine/plan_print.h"
#include "core/engine/wacc.h"

/* ---- validation ------------------------------------------------------------------------------ */

/* The ends compare as bytes with the one ordered column. */
static err_t check_bound(const struct plan_bound *bound, const struct plan_node *node,
                         const struct plan_frame *frame, const struct schema *input)
{
    bool range = frame->mode == PLAN_FRAME_RANGE;
    CHECK(bound->kind >= PLAN_BOUND_UNBOUNDED && bound->kind <= PLAN_BOUND_VALUE,
          "unknown bound %u", bound->kind);
    CHECK(bound->kind != PLAN_BOUND_OFFSET || !range, "an offset in a range");
    if (bound->kind == PLAN_BOUND_VALUE) {
        CHECK(range && node->window.order_len == 1, "a value bounds a range of one order column");
        CHECK(bound->col < input->cols, "bound column %u of %u", bound->col, input->cols);
        CHECK(input->types[bound->col].kind == input->types[node->window.order[0].col].kind,
              "the bound is of another type than the order");
    }
    return ERR_OK;
}

static err_t check_frame(const struct plan_window_call *call, const struct plan_node *node,
                         const struct schema *input)
{
    const struct plan_frame *frame = &call->frame;
    CHECK(frame->mode >= PLAN_FRAME_ROWS && frame->mode <= PLAN_FRAME_GROUPS,
          "unknown frame mode %u", frame->mode);
    CHECK(frame->exclude >= PLAN_EXCLUDE_NONE && frame->exclude <= PLAN_EXCLUDE_TIES,
          "unknown exclusion %u", frame->exclude);
    TRY(err_wrap(check_bound(&frame->start, node, frame, input), "start"));
    return err_wrap(check_bound(&frame->end, node, frame, input), "end");
}

static uint8_t result_kind(const struct plan_window_call *call, const struct schema *input)
{
    switch (call->func) {
    case PLAN_WINDOW_PERCENT_RANK:
    case PLAN_WINDOW_CUME_DIST:
        return TYPE_FLOAT8;
    case PLAN_WINDOW_NTILE:
        return TYPE_INT4;
    case PLAN_WINDOW_AGG:
        return call->agg.type.kind;
    default:
        return plan_window_has_arg(call->func) ? input->types[call->arg].kind : TYPE_INT8;
    }
}

static err_t check_call(const struct plan_window_call *call, const struct plan_node *node,
                        const struct schema *input)
{
    CHECK(call->func >= PLAN_WINDOW_ROW_NUMBER && call->func <= PLAN_WINDOW_AGG,
          "unknown function %u", call->func);
    bool counted = call->func == PLAN_WINDOW_NTILE || call->func == PLAN_WINDOW_NTH_VALUE;
    CHECK(!counted || call->n > 0, "%lld of function %u", (long long)call->n, call->func);
    CHECK(!plan_window_has_arg(call->func) || call->arg < input->cols, "argument %u of %u columns",
          call->arg, input->cols);
    CHECK(!call->has_fallback || call->func == PLAN_WINDOW_LAG, "a fallback of function %u",
          call->func);
    CHECK(!call->has_fallback || (call->fallback < input->cols &&
                                  input->types[call->fallback].kind ==
                                      input->types[call->arg].kind),
          "the fallback is of another type");
    if (call->n_of_row) {
        bool lag = call->func == PLAN_WINDOW_LAG;
        CHECK(lag || call->func == PLAN_WINDOW_NTH_VALUE, "function %u counts by a column",
              call->func);
        CHECK(call->n == 1 || (lag && call->n == -1), "%lld times a column", (long long)call->n);
        CHECK(call->n_col < input->cols && input->types[call->n_col].kind == TYPE_INT8,
              "column %u is none to count by", call->n_col);
    }
    if (plan_window_has_frame(call->func)) {
        TRY(err_wrap(check_frame(call, node, input), "frame"));
    }
    if (call->func == PLAN_WINDOW_AGG) {
        struct wacc_spec spec;
        TRY(plan_check_agg(&call->agg, input));
        CHECK(wacc_spec_of(&call->agg,
                           call->agg.func == AGG_COUNT_ALL ? 0 : input->types[call->agg.arg].kind,
                           &spec),
              "aggregate %u is not kept over windows", call->agg.func);
    }
    CHECK(call->type.kind == result_kind(call, input), "function %u gives type %u, not %u",
          call->func, result_kind(call, input), call->type.kind);
    return ERR_OK;
}

/* The output is fixed: the input's columns, then one a function. */
err_t plan_check_window(const struct plan_node *node, const struct schema *input)
{
    uint32_t len = node->window.calls_len;
    TRY(plan_check_cols("partition", node->window.keys, node->window.keys_len, input->cols));
    TRY(plan_check_order(node->window.order, node->window.order_len, input));
    CHECK(len <= BATCH_COLS_MAX && (len == 0 || node->window.calls != NULL),
          "functions missing, or too many");
    CHECK(node->schema.cols == input->cols + len, "%u columns where %u are produced",
          node->schema.cols, input->cols + len);
    for (uint32_t i = 0; i < input->cols; i++) {
        CHECK(node->schema.types[i].kind == input->types[i].kind, "column %u is of another type",
              i);
    }
    for (uint32_t i = 0; i < len; i++) {
        TRY(err_wrap(check_call(&node->window.calls[i], node, input), "function %u", i));
        CHECK(node->schema.types[input->cols + i].kind == node->window.calls[i].type.kind,
              "column %u is of another type", input->cols + i);
    }
    return ERR_OK;
}

/* ---- EXPLAIN --------------------------------------------------------------------------------- */

static const char *const func_names[] = {
    [PLAN_WINDOW_ROW_NUMBER] = "row_number",     [PLAN_WINDOW_RANK] = "rank",
    [PLAN_WINDOW_DENSE_RANK] = "dense_rank",     [PLAN_WINDOW_PERCENT_RANK] = "percent_rank",
    [PLAN_WINDOW_CUME_DIST] = "cume_dist",       [PLAN_WINDOW_NTILE] = "ntile",
    [PLAN_WINDOW_LAG] = "lag",                   [PLAN_WINDOW_FIRST_VALUE] = "first_value",
    [PLAN_WINDOW_LAST_VALUE] = "last_value",     [PLAN_WINDOW_NTH_VALUE] = "nth_value",
};

static void print_bound(struct buf *out, const struct plan_bound *bound, bool end,
                        const struct schema *input)
{
    switch (bound->kind) {
    case PLAN_BOUND_UNBOUNDED:
        buf_append_str(out, end ? "unbounded following" : "unbounded preceding");
        break;
    case PLAN_BOUND_OFFSET:
        buf_printf(out, "%lld %s", (long long)(bound->offset < 0 ? -(uint64_t)bound->offset
                                                                 : (uint64_t)bound->offset),
                   bound->offset < 0 ? "preceding" : "following");
        break;
    case PLAN_BOUND_VALUE:
        plan_print_col(out, input, bound->col);
        break;
    default:
        buf_append_str(out, "current row");
        break;
    }
}

static void print_frame(struct buf *out, const struct plan_frame *frame,
                        const struct schema *input)
{
    static const char *const modes[] = {"", "rows", "range", "groups"};
    static const char *const excludes[] = {"", "", " exclude current row", " exclude group",
                                           " exclude ties"};
    ASSERT(frame->mode < ARRAY_LEN(modes) && frame->exclude < ARRAY_LEN(excludes));
    buf_printf(out, " %s between ", modes[frame->mode]);
    print_bound(out, &frame->start, false, input);
    buf_append_str(out, " and ");
    print_bound(out, &frame->end, true, input);
    buf_append_str(out, excludes[frame->exclude]);
}

static void print_call(struct buf *out, const struct plan_window_call *call,
                       const struct schema *input)
{
    if (call->func == PLAN_WINDOW_AGG) {
        plan_print_agg(out, &call->agg, input);
        print_frame(out, &call->frame, input);
        return;
    }
    ASSERT(call->func < ARRAY_LEN(func_names) && func_names[call->func] != NULL);
    buf_printf(out, "%s(", func_names[call->func]);
    if (plan_window_has_arg(call->func)) {
        plan_print_col(out, input, call->arg);
    }
    if (call->n_of_row) {
        buf_append_str(out, call->n < 0 ? ", -" : ", ");
        plan_print_col(out, input, call->n_col);
    } else if (call->func == PLAN_WINDOW_LAG || call->func == PLAN_WINDOW_NTH_VALUE) {
        buf_printf(out, ", %lld", (long long)call->n);
    } else if (call->func == PLAN_WINDOW_NTILE) {
        buf_printf(out, "%lld", (long long)call->n);
    }
    if (call->has_fallback) {
        buf_append_str(out, ", ");
        plan_print_col(out, input, call->fallback);
    }
    buf_append_byte(out, ')');
    if (plan_window_has_frame(call->func)) {
        print_frame(out, &call->frame, input);
    }
}

void plan_print_window(struct buf *out, const struct plan_node *node, const struct schema *input)
{
    ASSERT(node->op == PLAN_WINDOW);
    buf_append_str(out, "Window");
    if (node->window.keys_len > 0) {
        buf_append_str(out, " partition=");
        plan_print_cols(out, input, node->window.keys, node->window.keys_len);
    }
    if (node->window.order_len > 0) {
        buf_append_str(out, " order=(");
        plan_print_order(out, input, node->window.order, node->window.order_len);
        buf_append_byte(out, ')');
    }
    buf_append_str(out, " functions=(");
    for (uint32_t i = 0; i < node->window.calls_len; i++) {
        buf_append_str(out, i > 0 ? ", " : "");
        print_call(out, &node->window.calls[i], input);
    }
    buf_append_byte(out, ')');
}
