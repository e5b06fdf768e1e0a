/*
 * What all operators share: scheduling, output, ports, the input of a pass.
 *
 * Ownership of chunks: op_emit and op_port_push take a reference; a port's queue owns what is in it
 * until the operator takes it out. Everything an operator emits goes through op_emit, everything it
 * promises through op_advance: those two assert the rules of frontiers that the README's argument
 * stands on.
 *
 * Runs on the engine's thread only.
 */
#include "core/base/hash.h"
#include "core/engine/engine_internal.h"

/* ---- scheduling and output ------------------------------------------------------------------- */

/*
 * Idempotent and cheap: a bit, and the dataflow at the end of the ready list unless it is there
 * already. While a dataflow runs it counts as queued, and is queued again after its turn if bits
 * are left.
 */
void op_activate(struct op *op)
{
    struct dataflow *dataflow = op->dataflow;
    ASSERT(op->index < dataflow->ops_len);
    dataflow->active[op->index / 64] |= 1ULL << (op->index % 64);
    dataflow_queue(dataflow);
}

void dataflow_queue(struct dataflow *dataflow)
{
    struct engine *engine = dataflow->engine;
    ASSERT((engine->ready_first == NULL) == (engine->ready_last == NULL));
    if (dataflow->queued || dataflow->ops == NULL) {
        return;
    }
    dataflow->queued = true;
    dataflow->ready_next = NULL;
    if (engine->ready_last != NULL) {
        engine->ready_last->ready_next = dataflow;
    } else {
        engine->ready_first = dataflow;
    }
    engine->ready_last = dataflow;
}

/* Operators that never emit rows of their own (union, negate) never make one. */
struct batch_builder *op_ok(struct op *op)
{
    if (op->ok == NULL) {
        op->ok = batch_builder_new(op->kinds, op->cols);
    }
    return op->ok;
}

struct batch_builder *op_err(struct op *op)
{
    if (op->err == NULL) {
        op->err = batch_builder_new(batch_err_kinds, ERR_COLS);
    }
    return op->err;
}

/*
 * One chunk serves all users: they share it. Where a user's port is fed by key, the exchange
 * divides it among the workers.
 */
void op_emit(struct op *op, struct chunk *chunk, bool err)
{
    ASSERT(chunk != NULL && chunk->refs > 0);
    ASSERT(chunk->time_min >= op->frontier && chunk->batch.rows > 0);
    ASSERT(chunk->batch.cols == (err ? (uint32_t)ERR_COLS : op->cols));
    op->rows_out += chunk->batch.rows;
    op->batches++;
    for (size_t i = 0; i < op->users_len; i++) {
        struct op *user = op->users[i].op;
        struct port *port = &user->ports[op->users[i].port];
        if (op->users[i].frontier_only) {
            continue;
        }
        if (port->route != ROUTE_LOCAL && (err ? port->err_routed : !port->ok_stays)) {
            engine_exchange_push(user, op->users[i].port, chunk_ref(chunk), err);
        } else {
            op_port_push(user, op->users[i].port, chunk_ref(chunk), err);
        }
    }
    chunk_unref(chunk);
}

/* The builders keep their memory for the next chunk. */
void op_flush(struct op *op)
{
    struct chunk *chunk =
        op->ok != NULL ? chunk_from_builder(op->ok, op->cols, &op->dataflow->account) : NULL;
    op->rows_sized = 0;
    if (chunk != NULL) {
        op_emit(op, chunk, false);
    }
    chunk = op->err != NULL ? chunk_from_builder(op->err, ERR_COLS, &op->dataflow->account) : NULL;
    if (chunk != NULL) {
        op_emit(op, chunk, true);
    }
}

/* The size in bytes is looked at once in 128 rows, as it walks the columns; but texts after each
 * row, since a single one may be long. Rows may have come singly or many at once. */
void op_row_done(struct op *op)
{
    uint32_t rows = op->ok != NULL ? batch_builder_rows(op->ok) : 0;
    uint32_t errs = op->err != NULL ? batch_builder_rows(op->err) : 0;
    bool large = rows >= OUT_ROWS || errs >= OUT_ROWS;
    ASSERT(rows >= op->rows_sized);
    if (!large && op->texts) {
        large = op->ok != NULL && batch_builder_bytes(op->ok) >= OUT_BYTES;
    }
    if (!large && rows - op->rows_sized >= 128) {
        op->rows_sized = rows;
        large = batch_builder_size(op->ok) >= OUT_BYTES;
    }
    if (large) {
        op_flush(op);
    }
}

/* The order matters: data before the frontier that covers it, on every path to the users. */
void op_advance(struct op *op, uint64_t frontier)
{
    op_flush(op);
    ASSERT(frontier >= op->frontier);
    if (frontier == op->frontier) {
        return;
    }
    op->frontier = frontier;
    for (size_t i = 0; i < op->users_len; i++) {
        struct op *user = op->users[i].op;
        if (user->ports[op->users[i].port].route != ROUTE_LOCAL) {
            engine_exchange_frontier(user, op->users[i].port, frontier);
        } else {
            op_port_set_frontier(user, op->users[i].port, frontier);
        }
    }
}

/* Errors of inputs are errors of the output, at the same times; no operator looks into them. */
void op_forward_errors(struct op *op)
{
    for (uint32_t p = 0; p < op->ports_len; p++) {
        struct chunk_list *list = &op->ports[p].err;
        for (size_t i = 0; i < list->chunks_len; i++) {
            op_emit(op, list->chunks[i], true);
        }
        list->chunks_len = 0;
    }
}

/* Of an operator without ports (source, constant) it is empty. */
uint64_t op_input_frontier(const struct op *op)
{
    uint64_t frontier = FRONTIER_EMPTY;
    for (uint32_t p = 0; p < op->ports_len; p++) {
        uint64_t f = op->ports[p].frontier;
        frontier = f < frontier ? f : frontier;
    }
    return frontier;
}

/* The texts are copied. context names the dataflow: what a user sees as the error's origin. */
void op_error(struct op *op, const char *sqlstate, const char *message, const char *context,
              uint64_t time, int64_t diff)
{
    ASSERT(message != NULL && context != NULL);
    ASSERT(strlen(sqlstate) == 5 && time >= op->frontier && diff != 0);
    const char *texts[ERR_COLS] = {
        [ERR_COL_SQLSTATE] = sqlstate, [ERR_COL_MESSAGE] = message, [ERR_COL_CONTEXT] = context};
    struct batch_builder *builder = op_err(op);
    for (int c = 0; c < ERR_COLS; c++) {
        struct datum d = {.s = texts[c], .len = (uint32_t)strlen(texts[c])};
        batch_builder_datum(builder, (size_t)c, &d);
    }
    batch_builder_end_row(builder, time, diff);
    op_row_done(op);
}

/*
 * The first reason counts. The operator is activated so that the engine notices even if nothing
 * else happens; the dataflow is given up after the activation at hand.
 */
void op_fail(struct op *op, err_t err)
{
    ASSERT(err != ERR_OK);
    if (op->dataflow->failed == ERR_OK) {
        op->dataflow->failed = err;
        op_activate(op);
    } else {
        err_free(err);
    }
}

/* ---- ports ----------------------------------------------------------------------------------- */

/*
 * For chunks of the own worker and, from the exchange, of others: both must respect the frontier.
 */
void op_port_push(struct op *op, uint32_t port_index, struct chunk *chunk, bool err)
{
    ASSERT(port_index < op->ports_len);
    struct port *port = &op->ports[port_index];
    ASSERT(chunk->time_min >= port->frontier);
    ASSERT(chunk->batch.cols == (err ? (uint32_t)ERR_COLS : port->cols));
    op->rows_in += chunk->batch.rows;
    op->early_rows += !err && chunk->time_max == op->frontier ? chunk->batch.rows : 0;
    chunk_list_push(err ? &port->err : &port->ok, chunk);
    op_activate(op);
}

/* Absolute and monotone; the same frontier again is no news and schedules nobody. */
void op_port_set_frontier(struct op *op, uint32_t port_index, uint64_t frontier)
{
    ASSERT(port_index < op->ports_len);
    struct port *port = &op->ports[port_index];
    ASSERT(frontier >= port->frontier);
    if (frontier > port->frontier) {
        port->frontier = frontier;
        op_activate(op);
    }
}

void op_port_free(struct port *port)
{
    chunk_list_free(&port->ok);
    chunk_list_free(&port->err);
    free(port->kinds);
    free(port->from);
}

/* The rows of a chunk whose time is (before upper) == before. */
static struct chunk *chunk_part(const struct chunk *chunk, const uint8_t *kinds, uint64_t upper,
                                bool before)
{
    ASSERT(chunk->time_min < upper && chunk->time_max >= upper);
    const struct batch *b = &chunk->batch;
    uint32_t *sel = mem_alloc(b->rows * sizeof(*sel));
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->rows; i++) {
        if ((batch_time(b, i) < upper) == before) {
            sel[n++] = i;
        }
    }
    struct batch_builder *builder = batch_builder_new(kinds, b->cols);
    ASSERT(n > 0 && n < b->rows);
    batch_builder_rows_of(builder, b, sel, n);
    struct chunk *part = chunk_from_builder(builder, b->cols, chunk->account);
    batch_builder_free(builder);
    free(sel);
    return part;
}

/* About as many rows are in a pass of several times; tests set fewer. */
static uint64_t pass_rows(const struct op *op)
{
    return op->engine->config.pass_rows > 0 ? op->engine->config.pass_rows : PASS_ROWS;
}

static bool rows_in_time_order(const struct chunk *chunk)
{
    const struct batch *b = &chunk->batch;
    ASSERT(chunk->time_min <= chunk->time_max && b->rows > 0);
    bool one_time = chunk->time_min == chunk->time_max;
    for (uint32_t row = 1; !one_time && row < b->rows; row++) {
        if (b->times[row - 1] > b->times[row]) {
            return false;
        }
    }
    return true;
}

/*
 * Is it worth cutting it at once into pieces for many passes? Otherwise each of them would copy all
 * that is left, when the other port makes the passes short. Out of order it is rare and not cut.
 */
static bool is_long(const struct chunk *chunk, uint64_t upper, uint64_t enough)
{
    return chunk->time_min < upper && chunk->time_max >= upper &&
           chunk->batch.rows / 2 >= enough && rows_in_time_order(chunk);
}

/* Pieces of enough rows, or more where a time has more: no time is in two of them. Takes chunk. */
static void cut_long(struct chunk *chunk, const uint8_t *kinds, uint64_t enough,
                     struct chunk_list *out)
{
    const struct batch *b = &chunk->batch;
    uint32_t *sel = mem_alloc(b->rows * sizeof(*sel));
    struct batch_builder *builder = batch_builder_new(kinds, b->cols);
    ASSERT(b->times != NULL && enough > 0);
    uint32_t n = 0;
    for (uint32_t row = 0; row < b->rows; row++) {
        sel[n++] = row;
        bool last = row + 1 == b->rows;
        if (last || (n >= enough && b->times[row + 1] > b->times[row])) {
            batch_builder_rows_of(builder, b, sel, n);
            chunk_list_push(out, chunk_from_builder(builder, b->cols, chunk->account));
            n = 0;
        }
    }
    ASSERT(n == 0);
    batch_builder_free(builder);
    free(sel);
    chunk_unref(chunk);
}

/* Before a pass up to upper. The usual list has no long chunk at upper and stays as it is. */
static void cut_at(struct chunk_list *list, const uint8_t *kinds, uint64_t upper, uint64_t enough)
{
    size_t first = 0;
    while (first < list->chunks_len && !is_long(list->chunks[first], upper, enough)) {
        first++;
    }
    if (first == list->chunks_len) {
        return;
    }
    struct chunk_list cut = {0};
    for (size_t i = 0; i < list->chunks_len; i++) {
        struct chunk *chunk = list->chunks[i];
        if (i >= first && is_long(chunk, upper, enough)) {
            cut_long(chunk, kinds, enough, &cut);
        } else {
            chunk_list_push(&cut, chunk);
        }
    }
    ASSERT(cut.chunks_len >= list->chunks_len);
    free(list->chunks);
    *list = cut;
}

/*
 * Most chunks lie on one side of upper, since times arrive roughly in order: those only move. What
 * is at or beyond upper keeps its order in the queue.
 */
void op_port_take(struct op *op, struct port *port, bool err, uint64_t upper,
                  struct chunk_list *out)
{
    ASSERT(upper <= port->frontier);
    struct chunk_list *list = err ? &port->err : &port->ok;
    const uint8_t *kinds = err ? batch_err_kinds : port->kinds;
    cut_at(list, kinds, upper, pass_rows(op));
    size_t kept = 0;
    for (size_t i = 0; i < list->chunks_len; i++) {
        struct chunk *chunk = list->chunks[i];
        if (chunk->time_max < upper) {
            chunk_list_push(out, chunk);
        } else if (chunk->time_min >= upper) {
            list->chunks[kept++] = chunk;
        } else {
            chunk_list_push(out, chunk_part(chunk, kinds, upper, true));
            list->chunks[kept++] = chunk_part(chunk, kinds, upper, false);
            chunk_unref(chunk);
        }
    }
    list->chunks_len = kept;
    ASSERT(list->chunks_len == 0 || list->chunks[0] != NULL);
}

/* ---- passes ---------------------------------------------------------------------------------- */

/* The end of the run of refs from first on whose times are in order. */
static size_t run_end(const struct intake_ref *refs, size_t first, size_t len)
{
    size_t end = first + 1;
    while (end < len && refs[end - 1].time <= refs[end].time) {
        end++;
    }
    return end < len ? end : len;
}

/* Two adjacent runs into one; of equal times those of the first run come first. */
static void merge_runs(const struct intake_ref *from, size_t first, size_t middle, size_t end,
                       struct intake_ref *to)
{
    size_t a = first;
    size_t b = middle;
    for (size_t i = first; i < end; i++) {
        bool left = b == end || (a < middle && from[a].time <= from[b].time);
        to[i] = from[left ? a++ : b++];
    }
    ASSERT(a == middle && b == end);
}

/*
 * By time, stable: refs are listed by port, chunk and row. They are a few runs in order of time,
 * one or a few a port, so merging runs takes few rounds where a sort would take many.
 */
static void sort_by_time(struct intake *intake)
{
    size_t len = intake->refs_len;
    struct intake_ref *other = NULL;
    while (len > 0 && run_end(intake->refs, 0, len) < len) {
        if (other == NULL) {
            other = mem_alloc(intake->refs_cap * sizeof(*other));
        }
        for (size_t first = 0; first < len;) {
            size_t middle = run_end(intake->refs, first, len);
            size_t end = middle < len ? run_end(intake->refs, middle, len) : len;
            merge_runs(intake->refs, first, middle, end, other);
            first = end;
        }
        struct intake_ref *sorted = other;
        other = intake->refs;
        intake->refs = sorted;
    }
    free(other);
}

/* A ref per row. Chunks were taken for this pass, so all their times are before its upper. */
static void intake_add(struct intake *intake, uint32_t port, uint32_t chunk_index)
{
    ASSERT(port < 2 && chunk_index < intake->list.chunks_len);
    ASSERT(intake->list.chunks[chunk_index]->time_max < intake->upper);
    const struct batch *b = &intake->list.chunks[chunk_index]->batch;
    if (intake->refs_len + b->rows > intake->refs_cap) {
        intake->refs_cap = (intake->refs_len + b->rows) * 2;
        intake->refs = mem_realloc(intake->refs, intake->refs_cap * sizeof(intake->refs[0]));
    }
    for (uint32_t row = 0; row < b->rows; row++) {
        intake->refs[intake->refs_len++] = (struct intake_ref){
            .time = batch_time(b, row), .port = port, .chunk = chunk_index, .row = row};
    }
}

/* Are the updates, chunk by chunk and row by row, in the order of their times? */
static bool in_time_order(const struct chunk_list *list)
{
    uint64_t last = 0;
    for (size_t i = 0; i < list->chunks_len; i++) {
        const struct chunk *chunk = list->chunks[i];
        if (chunk->time_min < last) {
            return false;
        }
        last = chunk->time_max;
        if (!rows_in_time_order(chunk)) {
            return false;
        }
    }
    return true;
}

/* Lists the updates of all ports by time. */
static void sort_refs(struct intake *intake, uint32_t ports_len)
{
    ASSERT(!intake->plain && intake->refs_len == 0);
    for (uint32_t p = 0; p < ports_len; p++) {
        for (uint32_t c = intake->port_start[p]; c < intake->port_start[p + 1]; c++) {
            intake_add(intake, p, c);
        }
    }
    sort_by_time(intake);
}

/*
 * Up to where the pass goes: as far as the input is complete, unless that is very much at several
 * times. Then it ends with the time that makes it large enough at one of the ports, so that sorting
 * it, and what its operator keeps for it, are bounded.
 */
static uint64_t pass_upper(const struct op *op)
{
    uint64_t upper = op_input_frontier(op);
    uint64_t enough = pass_rows(op);
    for (uint32_t p = 0; p < op->ports_len; p++) {
        const struct chunk_list *list = &op->ports[p].ok;
        uint64_t rows = 0;
        uint64_t last = 0;
        for (size_t i = 0; i < list->chunks_len && rows < enough; i++) {
            rows += list->chunks[i]->batch.rows;
            last = list->chunks[i]->time_max > last ? list->chunks[i]->time_max : last;
        }
        upper = rows >= enough && last < upper ? last + 1 : upper;
    }
    return upper;
}

/* Of a part only chunks of the first time are taken, whole. */
static void take_part(struct port *port, uint64_t time, struct chunk_list *out)
{
    struct chunk_list *list = &port->ok;
    size_t kept = 0;
    for (size_t i = 0; i < list->chunks_len; i++) {
        struct chunk *chunk = list->chunks[i];
        if (chunk->time_max == time) {
            ASSERT(chunk->time_min == time);
            chunk_list_push(out, chunk);
        } else {
            list->chunks[kept++] = chunk;
        }
    }
    list->chunks_len = kept;
}

/*
 * The usual pass covers one time, or times in order: then nothing is listed, which in a snapshot
 * saves 24 bytes a row.
 */
static void intake_begin(struct intake *intake, struct op *op, enum intake_order order)
{
    intake->open = true;
    intake->keep = false;
    intake->released = 0;
    ASSERT(intake->list.chunks_len == 0 && intake->upper > op->frontier);
    intake->at = 0;
    intake->refs_len = 0;
    intake->chunk = intake->row = 0;
    op->early_rows = 0;
    for (uint32_t p = 0; p < op->ports_len; p++) {
        intake->port_start[p] = (uint32_t)intake->list.chunks_len;
        if (intake->part) {
            take_part(&op->ports[p], op->frontier, &intake->list);
        } else {
            op_port_take(op, &op->ports[p], false, intake->upper, &intake->list);
        }
        intake->port_start[p + 1] = (uint32_t)intake->list.chunks_len;
    }
    intake->plain = order == INTAKE_BY_TIME && in_time_order(&intake->list);
    ASSERT(!intake->part || order != INTAKE_REFS);
    if (intake->plain) {
        for (size_t c = 0; c < intake->list.chunks_len; c++) {
            intake->refs_len += intake->list.chunks[c]->batch.rows;
        }
    } else if (order != INTAKE_CHUNKS) {
        sort_refs(intake, op->ports_len);
    }
}

bool intake_open(struct intake *intake, struct op *op, enum intake_order order)
{
    ASSERT(!intake->open && op->ports_len <= 2);
    intake->upper = pass_upper(op);
    intake->part = false;
    if (intake->upper <= op->frontier) {
        return false;
    }
    if (intake->parts) {
        intake->upper = op->frontier + 1;
        intake->parts = false;
    }
    intake_begin(intake, op, order);
    return true;
}

bool intake_open_part(struct intake *intake, struct op *op, enum intake_order order, uint64_t rows)
{
    ASSERT(!intake->open && op->ports_len <= 2 && rows > 0);
    uint64_t set = op->engine->config.pass_rows; /* smaller in tests */
    rows = set > 0 && set < rows ? set : rows;
    if (op->early_rows < rows || op_input_frontier(op) > op->frontier) {
        return false;
    }
    intake->upper = op->frontier + 1;
    intake->part = intake->parts = true;
    intake_begin(intake, op, order);
    ASSERT(intake->list.chunks_len > 0);
    return true;
}

/* Of a plain intake rows of one chunk are next to each other, of another one they are listed. */
uint32_t intake_take(struct intake *intake, uint32_t max, uint32_t *rows, const struct batch **b)
{
    struct intake_ref first = intake_ref(intake);
    if (intake->plain) {
        intake_release(intake);
    }
    *b = intake_batch(intake, &first);
    size_t left = intake->plain ? (*b)->rows - first.row : intake->refs_len - intake->at;
    uint32_t most = left < max ? (uint32_t)left : max;
    uint32_t n = 0;
    for (; n < most; n++) {
        struct intake_ref ref = {first.time, first.port, first.chunk, first.row + n};
        if (!intake->plain) {
            ref = intake->refs[intake->at + n];
        }
        if (ref.chunk != first.chunk || batch_time(*b, ref.row) != first.time) {
            break;
        }
        rows[n] = ref.row;
    }
    intake->at += n;
    intake->row += intake->plain ? n : 0;
    if (intake->plain && intake->row == (*b)->rows) {
        intake->chunk++;
        intake->row = 0;
    }
    ASSERT(n > 0 && intake->at <= intake->refs_len);
    return n;
}

uint64_t intake_first_time(const struct intake *intake)
{
    ASSERT(intake->open);
    uint64_t first = intake->upper;
    for (size_t i = 0; i < intake->list.chunks_len; i++) {
        uint64_t time = intake->list.chunks[i]->time_min;
        first = time < first ? time : first;
    }
    return first;
}

void intake_close(struct intake *intake)
{
    ASSERT(intake->open && intake->at == intake->refs_len);
    chunk_list_clear(&intake->list);
    intake->open = false;
    if (intake->refs_cap > 65536) { /* a snapshot's worth is not kept */
        free(intake->refs);
        intake->refs = NULL;
        intake->refs_cap = 0;
    }
}

void intake_free(struct intake *intake)
{
    chunk_list_free(&intake->list);
    free(intake->refs);
    *intake = (struct intake){0};
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* Keys in canonical form: values that SQL holds equal are the same key (1.0 and 1.00). */
uint64_t op_key_encode(const struct batch *b, uint32_t row, const uint32_t *keys, uint32_t keys_len,
                    struct buf *out)
{
    buf_clear(out);
    if (keys_len > 0) {
        ASSERT(keys != NULL);
        batch_encode_row(b, row, keys, keys_len, true, out);
    }
    return hash_bytes(out->data, out->len);
}

/* SQL's = is never true of NULL: such rows match nothing in a join. */
bool op_key_has_null(const struct batch *b, uint32_t row, const uint32_t *keys, uint32_t keys_len)
{
    ASSERT(keys_len == 0 || (keys != NULL && row < b->rows));
    for (uint32_t i = 0; i < keys_len; i++) {
        if (batch_is_null(&b->col[keys[i]], row)) {
            return true;
        }
    }
    return false;
}
