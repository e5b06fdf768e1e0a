/* The in-test host: queues between workers, random delivery, collected results. */
#include "tests/unit/core/engine/host.h"

#include "tests/unit/harness.h"

#include <stdio.h>

uint64_t rng_next(struct rng *rng)
{
    uint64_t z = rng->state += 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}

uint64_t rng_below(struct rng *rng, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)rng_next(rng) * n) >> 64);
}

/* ---- the host table -------------------------------------------------------------------------- */

static void on_send(void *ctx, uint32_t dest, const void *payload, size_t len)
{
    struct worker *worker = ctx;
    struct lane *lane = &worker->replica->worker[dest].in[worker->index];
    struct packet *packet = VEC_PUSH(lane, packets);
    ASSERT(dest != worker->index && dest < worker->replica->workers);
    packet->data = mem_alloc(len);
    packet->len = len;
    memcpy(packet->data, payload, len);
    worker->replica->packets++;
    worker->replica->packet_bytes += len;
}

/* Large payloads are built in place. */
static void on_reserve(void *ctx, uint32_t dest, size_t len, struct engine_block *out)
{
    struct worker *worker = ctx;
    ASSERT(dest != worker->index && dest < worker->replica->workers);
    *out = (struct engine_block){.data = mem_alloc(len), .len = len, .owner = worker};
}

static void on_commit(void *ctx, uint32_t dest, struct engine_block *block)
{
    ASSERT(block->owner == ctx);
    ((struct worker *)ctx)->replica->built++;
    on_send(ctx, dest, block->data, block->len);
    free(block->data);
}

static struct output *output_of(struct worker *worker, uint64_t export_id)
{
    for (uint32_t i = 0; i < worker->outputs_len; i++) {
        if (worker->outputs[i].export_id == export_id) {
            return &worker->outputs[i];
        }
    }
    ASSERT(worker->outputs_len < EXPORTS_MAX && export_id < EXPORTS_MAX);
    struct output *output = &worker->outputs[worker->outputs_len++];
    *output = (struct output){.export_id = export_id};
    struct replica *r = worker->replica;
    if (r->kinds[export_id] != NULL) {
        output->ok = batch_builder_new(r->kinds[export_id], r->cols[export_id]);
        output->err = batch_builder_new(batch_err_kinds, ERR_COLS);
    }
    return output;
}

static void on_frontier(void *ctx, uint64_t export_id, uint64_t upper)
{
    struct output *output = output_of(ctx, export_id);
    ASSERT(upper >= output->frontier);
    output->frontier = upper;
    output->follows = false;
}

static void on_follows(void *ctx, uint64_t export_id, bool changed)
{
    output_of(ctx, export_id)->follows = true;
}

static void check_within(const struct batch *b, uint64_t lower, uint64_t upper)
{
    for (uint32_t i = 0; b != NULL && i < b->rows; i++) {
        ASSERT(batch_time(b, i) >= lower && batch_time(b, i) < upper);
        ASSERT(batch_diff(b, i) != 0);
    }
}

/* Parts of what is not complete yet may lie anywhere below the upper that will complete them. */
static void note_last(struct output *output, const struct batch *b)
{
    for (uint32_t i = 0; b != NULL && i < b->rows; i++) {
        output->last = batch_time(b, i) > output->last ? batch_time(b, i) : output->last;
    }
}

static void on_subscribe(void *ctx, uint64_t export_id, uint64_t lower, uint64_t upper,
                         const struct batch *ok, const struct batch *err)
{
    struct output *output = output_of(ctx, export_id);
    ASSERT(lower <= upper && (output->upper == 0 || lower == output->upper));
    uint64_t end = lower == upper ? FRONTIER_EMPTY : upper;
    check_within(ok, lower, end);
    check_within(err, lower, end);
    note_last(output, ok);
    note_last(output, err);
    ASSERT(output->last < end);
    output->upper = upper;
    output->calls++;
    if (ok != NULL) {
        batch_builder_rows_of(output->ok, ok, NULL, 0);
    }
    if (err != NULL) {
        batch_builder_rows_of(output->err, err, NULL, 0);
    }
}

static void on_peek_done(void *ctx, uint64_t peek_id, const struct batch *rows, err_t err)
{
    struct worker *worker = ctx;
    struct replica *r = worker->replica;
    for (size_t i = 0; i < r->peeks_len; i++) {
        struct peek_result *peek = &r->peeks[i];
        if (peek->id != peek_id) {
            continue;
        }
        peek->answers++;
        if (err != ERR_OK && peek->error == NULL) {
            peek->error = mem_strdup(err_message(err));
            peek->code = err_code(err);
            memcpy(peek->sqlstate, err_sqlstate(err), 5);
        } else if (err == ERR_OK) {
            batch_builder_rows_of(peek->rows, rows, NULL, 0);
        }
        err_free(err);
        return;
    }
    ASSERT(false);
}

static void on_peek_rows(void *ctx, uint64_t peek_id, const struct batch *rows)
{
    struct replica *r = ((struct worker *)ctx)->replica;
    for (size_t i = 0; i < r->peeks_len; i++) {
        if (r->peeks[i].id == peek_id) {
            batch_builder_rows_of(r->peeks[i].rows, rows, NULL, 0);
        }
    }
}

static void on_failed(void *ctx, uint64_t dataflow_id, err_t err)
{
    struct worker *worker = ctx;
    free(worker->replica->failed);
    worker->replica->failed = mem_strdup(err_text(err));
    worker->replica->failures++;
    err_free(err);
}

static void on_restarted(void *ctx, uint64_t dataflow_id)
{
    struct worker *worker = ctx;
    struct replica *r = worker->replica;
    worker->restarts++;
    if (r->restarted != NULL) {
        r->restarted(r->restarted_arg, worker->index, dataflow_id);
    }
}

static const struct engine_host host = {
    .restarted = on_restarted,
    .send = on_send,
    .reserve = on_reserve,
    .commit = on_commit,
    .frontier = on_frontier,
    .follows = on_follows,
    .subscribe = on_subscribe,
    .peek_rows = on_peek_rows,
    .peek_done = on_peek_done,
    .failed = on_failed,
};

/* ---- life ------------------------------------------------------------------------------------ */

struct replica *replica_new(uint32_t workers, uint64_t seed, uint64_t memory_limit)
{
    struct replica *r = MEM_NEW(struct replica);
    r->workers = workers;
    r->rng.state = seed;
    uint32_t pass_rows = seed % 3 == 0 ? (uint32_t)(1 + seed % 17) : 0;
    for (uint32_t w = 0; w < workers; w++) {
        struct worker *worker = &r->worker[w];
        worker->replica = r;
        worker->index = w;
        struct engine_config config = {.worker = w,
                                       .workers = workers,
                                       .host = &host,
                                       .ctx = worker,
                                       .memory_limit = memory_limit,
                                       .pass_rows = pass_rows,
                                       .divide_rows = seed % 4 == 1 ? 2 : 0,
                                       .part_rows = seed % 5 < 2 ? 1 + seed % 19 : 0};
        worker->engine = engine_new(&config);
    }
    return r;
}

void replica_clear_output(struct replica *r)
{
    for (uint32_t w = 0; w < r->workers; w++) {
        struct worker *worker = &r->worker[w];
        for (uint32_t i = 0; i < worker->outputs_len; i++) {
            batch_builder_free(worker->outputs[i].ok);
            batch_builder_free(worker->outputs[i].err);
        }
        worker->outputs_len = 0;
    }
}

void replica_free(struct replica *r)
{
    for (uint32_t w = 0; w < r->workers; w++) {
        struct worker *worker = &r->worker[w];
        engine_free(worker->engine);
        for (uint32_t from = 0; from < r->workers; from++) {
            struct lane *lane = &worker->in[from];
            for (size_t i = lane->first; i < lane->packets_len; i++) {
                free(lane->packets[i].data);
            }
            free(lane->packets);
        }
    }
    replica_clear_output(r);
    for (size_t i = 0; i < r->peeks_len; i++) {
        batch_builder_free(r->peeks[i].rows);
        free(r->peeks[i].error);
    }
    free(r->peeks);
    free(r->failed);
    free(r);
}

void replica_register(struct replica *r, uint64_t export_id, const uint8_t *kinds, uint32_t cols)
{
    ASSERT(export_id < EXPORTS_MAX);
    r->kinds[export_id] = kinds;
    r->cols[export_id] = cols;
}

/* ---- acting ---------------------------------------------------------------------------------- */

static bool deliver(struct worker *worker, uint32_t from)
{
    struct lane *lane = &worker->in[from];
    if (lane->first == lane->packets_len) {
        return false;
    }
    struct packet packet = lane->packets[lane->first++];
    err_t err = engine_receive(worker->engine, from, packet.data, packet.len);
    if (err != ERR_OK) {
        fprintf(stderr, "receive: %s\n", err_text(err));
    }
    ASSERT(err == ERR_OK);
    free(packet.data);
    if (lane->first == lane->packets_len) {
        lane->first = lane->packets_len = 0;
    }
    return true;
}

void replica_stir(struct replica *r, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct worker *worker = &r->worker[rng_below(&r->rng, r->workers)];
        if (rng_below(&r->rng, 2) == 0) {
            engine_step(worker->engine);
        } else {
            deliver(worker, (uint32_t)rng_below(&r->rng, r->workers));
        }
    }
}

void replica_settle(struct replica *r)
{
    bool more = true;
    while (more) {
        more = false;
        for (uint32_t w = 0; w < r->workers; w++) {
            for (uint32_t from = 0; from < r->workers; from++) {
                while (deliver(&r->worker[w], from)) {
                    more = true;
                }
            }
            uint64_t sent = r->packets;
            more |= engine_step(r->worker[w].engine);
            more |= r->packets != sent;
        }
    }
}

err_t replica_create(struct replica *r, struct plan *(*make)(void *arg), void *arg,
                     uint32_t (*parts)(void *arg, uint32_t worker, uint32_t source),
                     uint32_t sources)
{
    err_t first = ERR_OK;
    for (uint32_t w = 0; w < r->workers; w++) {
        uint32_t counts[16] = {0};
        ASSERT(sources <= ARRAY_LEN(counts));
        for (uint32_t s = 0; s < sources; s++) {
            counts[s] = parts(arg, w, s);
        }
        struct plan *plan = make(arg);
        err_t err = plan_validate(plan);
        if (err != ERR_OK) {
            plan_free(plan);
        } else {
            err = engine_create(r->worker[w].engine, plan, counts, sources);
        }
        if (first == ERR_OK) {
            first = err;
        } else {
            err_free(err);
        }
        replica_stir(r, 4);
    }
    return first;
}

void replica_drop(struct replica *r, uint64_t dataflow_id)
{
    for (uint32_t w = 0; w < r->workers; w++) {
        engine_drop(r->worker[w].engine, dataflow_id);
        replica_stir(r, 4);
    }
}

uint64_t replica_frontier(const struct replica *r, uint64_t export_id)
{
    uint64_t least = FRONTIER_EMPTY;
    for (uint32_t w = 0; w < r->workers; w++) {
        uint64_t frontier = 0;
        for (uint32_t i = 0; i < r->worker[w].outputs_len; i++) {
            const struct output *output = &r->worker[w].outputs[i];
            frontier = output->export_id == export_id ? output->frontier : frontier;
        }
        least = frontier < least ? frontier : least;
    }
    return least;
}

struct peek_result *replica_peek(struct replica *r, const struct engine_peek *ask,
                                 const uint8_t *kinds, uint32_t cols)
{
    struct peek_result *peek = VEC_PUSH(r, peeks);
    peek->id = ask->peek_id;
    peek->rows = batch_builder_new(kinds, cols);
    for (uint32_t w = 0; w < r->workers; w++) {
        engine_peek(r->worker[w].engine, ask);
    }
    return &r->peeks[r->peeks_len - 1];
}

/* ---- rows ------------------------------------------------------------------------------------ */

struct view view_of(struct batch_builder *b, uint32_t cols)
{
    struct view view = {.cols = mem_alloc((cols + 1) * sizeof(struct batch_col))};
    size_t size;
    view.data = batch_builder_finish_new(b, &size);
    batch_view(view.data, size, view.cols, cols, &view.batch);
    return view;
}

void view_free(struct view *view)
{
    free(view->data);
    free(view->cols);
}

struct batch_builder *replica_output(struct replica *r, uint64_t export_id, uint64_t time,
                                     bool err, const uint8_t *kinds, uint32_t cols)
{
    struct batch_builder *all = batch_builder_new(kinds, cols);
    for (uint32_t w = 0; w < r->workers; w++) {
        struct output *output = output_of(&r->worker[w], export_id);
        struct view view = view_of(err ? output->err : output->ok, cols);
        for (uint32_t i = 0; i < view.batch.rows; i++) {
            if (batch_time(&view.batch, i) <= time) {
                batch_builder_row(all, &view.batch, i);
            }
        }
        view_free(&view);
    }
    struct view view = view_of(all, cols);
    const struct batch *one = &view.batch;
    batch_builder_reset(all);
    batch_consolidate(&one, 1, time, all);
    view_free(&view);
    return all;
}

bool same_rows(struct batch_builder *a, struct batch_builder *b, const uint8_t *kinds,
               uint32_t cols)
{
    struct batch_builder *both = batch_builder_new(kinds, cols);
    struct view views[2] = {view_of(a, cols), view_of(b, cols)};
    for (int s = 0; s < 2; s++) {
        const struct batch *from = &views[s].batch;
        for (uint32_t i = 0; i < from->rows; i++) {
            for (uint32_t c = 0; c < cols; c++) {
                struct datum d;
                batch_datum(&from->col[c], i, &d);
                batch_builder_datum(both, c, &d);
            }
            batch_builder_end_row(both, 1, (s == 0 ? 1 : -1) * batch_diff(from, i));
        }
    }
    struct view whole = view_of(both, cols);
    const struct batch *one = &whole.batch;
    batch_builder_reset(both);
    batch_consolidate(&one, 1, 0, both);
    bool same = batch_builder_rows(both) == 0;
    batch_builder_free(both);
    view_free(&whole);
    view_free(&views[0]);
    view_free(&views[1]);
    return same;
}

void print_rows(const char *what, struct batch_builder *b, const uint8_t *kinds, uint32_t cols)
{
    struct view whole = view_of(b, cols);
    const struct batch view = whole.batch;
    struct buf line = {0};
    fprintf(stderr, "%s: %u rows\n", what, view.rows);
    for (uint32_t i = 0; i < view.rows && i < 40; i++) {
        buf_clear(&line);
        for (uint32_t c = 0; c < cols; c++) {
            struct datum d;
            struct type type = type_of((enum type_kind)kinds[c]);
            batch_datum(&view.col[c], i, &d);
            if (d.null) {
                buf_append_str(&line, "NULL");
            } else {
                datum_print(&type, &d, &line);
            }
            buf_append_byte(&line, '|');
        }
        fprintf(stderr, "   %s x%lld\n", buf_cstr(&line), (long long)batch_diff(&view, i));
    }
    buf_free(&line);
    view_free(&whole);
}
