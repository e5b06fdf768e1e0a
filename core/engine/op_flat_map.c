/*
 * Set-returning functions over the rows of the input. Without state over rows: an update becomes
 * the updates its row gives, with its time and diff. What a row gives is a function of the row
 * alone, so a retraction takes back what the insertion put out, errors as well.
 *
 *   keep=(k), generate_series(a, b), string_to_table(s, ',')    of k = 7, a = 1, b = 3, s = 'x,y'
 *
 *   7 1 x    7 2 y    7 3 NULL
 *
 * A row may give millions: the operator stops between two of them when the fuel is spent. The chunk
 * stays in the port until its last row is through, and what the functions remember are positions
 * in it.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/engine_internal.h"

/* row, and within it whatever the calls remember, is where the first chunk of the port is at. */
struct flat_map {
    struct table_call **calls;
    struct datum *keep;  /* of the row at hand */
    struct datum *given; /* a row of all functions together */
    uint32_t given_len;
    bool open;           /* the calls are in the middle of the row */
    uint32_t row;
    int64_t ordinal;
    size_t keep_bytes;   /* of the row at hand, as far as they are many: variable ones */
    size_t out_bytes;    /* likewise, put out since the last flush */
};

static void flat_map_release(struct op *op)
{
    struct flat_map *state = op->state;
    for (uint32_t i = 0; i < op->node->flat_map.calls_len; i++) {
        table_call_free(state->calls[i]);
    }
    free(state->calls);
    free(state->keep);
    free(state->given);
    free(state);
}

/* Puts the calls at the beginning of what the row gives. */
static void open_row(struct op *op, const struct batch *b)
{
    struct flat_map *state = op->state;
    const struct plan_node *node = op->node;
    ASSERT(!state->open && state->row < b->rows);
    state->keep_bytes = 0;
    for (uint32_t c = 0; c < node->flat_map.keep_len; c++) {
        batch_datum(&b->col[node->flat_map.keep[c]], state->row, &state->keep[c]);
        bool variable = type_is_variable((enum type_kind)op->kinds[c]);
        state->keep_bytes += variable ? state->keep[c].len : 0;
    }
    for (uint32_t i = 0; i < node->flat_map.calls_len; i++) {
        const struct plan_table_call *call = &node->flat_map.calls[i];
        struct datum args[TABLE_FUNC_ARGS_MAX];
        ASSERT(call->args_len <= TABLE_FUNC_ARGS_MAX);
        for (uint32_t a = 0; a < call->args_len; a++) {
            batch_datum(&b->col[call->args[a]], state->row, &args[a]);
        }
        table_call_start(state->calls[i], args);
    }
    state->open = true;
    state->ordinal = 0;
}

/* The next row of all functions; those that are at their end give NULLs. *more: some was not. */
static err_t next_given(struct op *op, bool *more)
{
    struct flat_map *state = op->state;
    uint32_t at = 0;
    *more = false;
    for (uint32_t i = 0; i < op->node->flat_map.calls_len; i++) {
        uint32_t cols = table_func_by_id(op->node->flat_map.calls[i].func)->cols_len;
        bool any;
        err_t err = table_call_next(state->calls[i], &state->given[at], &any);
        fuel_spend(op->engine, table_call_work(state->calls[i]));
        TRY(err);
        for (uint32_t c = 0; !any && c < cols; c++) {
            state->given[at + c] = (struct datum){.null = true};
        }
        *more = *more || any;
        at += cols;
    }
    ASSERT(at == state->given_len);
    return ERR_OK;
}

/* NULL is the ordinality of a row that stands for none. */
static void put_row(struct op *op, const struct batch *b, struct datum ordinal)
{
    struct flat_map *state = op->state;
    struct batch_builder *out = op_ok(op);
    uint32_t col = 0;
    for (uint32_t c = 0; c < op->node->flat_map.keep_len; c++) {
        batch_builder_datum(out, col++, &state->keep[c]);
    }
    for (uint32_t c = 0; c < state->given_len; c++) {
        const struct datum *d = &state->given[c];
        bool variable = type_is_variable((enum type_kind)op->kinds[col]) && !d->null;
        state->out_bytes += variable ? d->len : 0;
        batch_builder_datum(out, col++, d);
    }
    if (op->node->flat_map.ordinality) {
        batch_builder_datum(out, col++, &ordinal);
    }
    ASSERT(col == op->cols);
    batch_builder_end_row(out, batch_time(b, state->row), batch_diff(b, state->row));
    state->out_bytes += state->keep_bytes;
    if (state->out_bytes >= OUT_BYTES) { /* long values: op_row_done looks too seldom */
        op_flush(op);
        state->out_bytes = 0;
    }
    op_row_done(op);
}

/* A row's error ends the row. */
static void put_error(struct op *op, const struct batch *b, err_t err)
{
    const struct flat_map *state = op->state;
    const char *name = op->dataflow->plan->name;
    op_error(op, err_sqlstate(err), err_message(err), name != NULL ? name : "",
             batch_time(b, state->row), batch_diff(b, state->row));
    err_free(err);
}

/* What is left of the row, or a part of it: true when the fuel is spent. */
static bool expand_row(struct op *op, const struct batch *b)
{
    struct flat_map *state = op->state;
    bool spent = false;
    while (state->open && !spent) {
        bool more;
        err_t err = next_given(op, &more);
        if (err != ERR_OK) {
            put_error(op, b, err);
            state->open = false;
        } else if (more) {
            state->ordinal++;
            put_row(op, b, (struct datum){.i = state->ordinal});
        } else {
            if (state->ordinal == 0 && op->node->flat_map.outer) {
                put_row(op, b, (struct datum){.null = true});
            }
            state->open = false;
        }
        spent = fuel_spend(op->engine, 1);
    }
    return spent;
}

/* Goes on where it stopped; true when the fuel is spent before the chunk is through. */
static bool expand_chunk(struct op *op, const struct batch *b)
{
    struct flat_map *state = op->state;
    while (state->row < b->rows) {
        bool spent = false;
        if (state->open || batch_diff(b, state->row) != 0) {
            if (!state->open) {
                open_row(op, b);
            }
            spent = expand_row(op, b);
        }
        state->row += state->open ? 0 : 1;
        if (spent && state->row < b->rows) {
            return true;
        }
    }
    state->row = 0;
    return false;
}

/* The frontier moves only once every queued chunk is through. */
static bool flat_map_work(struct op *op)
{
    ASSERT(op->ports_len == 1 && op->state != NULL);
    struct flat_map *state = op->state;
    struct chunk_list *list = &op->ports[0].ok;
    size_t done = 0;
    bool spent = false;
    op_forward_errors(op);
    while (!spent && done < list->chunks_len && !expand_chunk(op, &list->chunks[done]->batch)) {
        chunk_unref(list->chunks[done++]);
        spent = op->engine->exhausted;
    }
    list->chunks_len -= done;
    if (done > 0) {
        memmove(list->chunks, list->chunks + done, list->chunks_len * sizeof(list->chunks[0]));
    }
    op_flush(op);
    state->out_bytes = 0;
    if (list->chunks_len == 0) {
        ASSERT(!state->open && state->row == 0);
        op_advance(op, op_input_frontier(op));
    }
    return list->chunks_len > 0;
}

void op_make_flat_map(struct op *op)
{
    static const struct op_class class = {"flat map", flat_map_work, flat_map_release};
    const struct plan_node *node = op->node;
    ASSERT(op->ports_len == 1 && node->op == PLAN_FLAT_MAP);
    struct flat_map *state = MEM_NEW(struct flat_map);
    uint32_t col = node->flat_map.keep_len;
    state->keep = mem_alloc((col + 1) * sizeof(*state->keep));
    state->given = mem_alloc((op->cols + 1) * sizeof(*state->given));
    state->calls = mem_alloc(node->flat_map.calls_len * sizeof(struct table_call *));
    for (uint32_t i = 0; i < node->flat_map.calls_len; i++) {
        const struct table_func *func = table_func_by_id(node->flat_map.calls[i].func);
        state->calls[i] = table_call_new(func, op->kinds[col]);
        col += func->cols_len;
        state->given_len += func->cols_len;
    }
    op->class = &class;
    op->state = state;
}
