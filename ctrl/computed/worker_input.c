/*
 * The inputs of a dataflow on one worker: subscriptions to storage workers' parts, whose chunks are
 * validated and handed to the engine. On the worker's loop.
 *
 * From a chunk to the engine. A chunk says [lower, upper) and holds batches of rows and of errors.
 * Storage may cut what belongs to one time into several: all but the last have upper == lower
 * ("nothing is complete yet"). A storage process that dies in between sends them again (on_reset).
 *
 * Pieces of the snapshot go to the engine as they come: nobody has seen anything of the dataflow
 * yet, so it begins anew when they come again (engine_restart), on all workers and with all inputs.
 * While the dataflow has not worked off what it was given, no more is asked for (paused): so what
 * waits is bounded by a subscription's credit. Pieces of a later time are kept aside until the
 * chunk that completes it, because nothing can be taken back then.
 *
 *     chunk [5, 5) rows A         kept; of a snapshot: feed A at [5, 5)
 *     chunk [5, 5) rows B         kept; of a snapshot: feed B at [5, 5)
 *     chunk [5, 9) rows C         feed A and B at [5, 5) if kept, C at [5, 9): complete below 9
 *
 * Trust. Data may lie in memory the storage process can still write: every batch is copied before
 * it is looked at, straight to where the engine keeps it (engine_rows_open), and its form, columns
 * and times are checked on the copy. What does not hold fails the dataflow, not the process.
 * Columns that the dataflow does not read are neither copied nor looked at.
 *
 * Several PLAN_SOURCE nodes of a plan may read one source: it is subscribed to once and fed to
 * each.
 */
#include "ctrl/computed/computed_internal.h"

#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/mem.h"

#include <inttypes.h>

/* ---- pausing --------------------------------------------------------------------------------- */

static void forget_paused(struct computed_input *input)
{
    struct computed_worker *worker = input->worker;
    size_t at = 0;
    while (at < worker->paused_len && worker->paused[at] != input) {
        at++;
    }
    ASSERT(input->paused && at < worker->paused_len);
    worker->paused[at] = worker->paused[--worker->paused_len];
    input->paused = false;
}

/* Until the dataflow has worked off what it was given. */
static void input_pause(struct computed_input *input)
{
    struct computed_worker *worker = input->worker;
    if (!input->paused && engine_is_behind(worker->engine, input->dataflow)) {
        input->paused = true;
        *VEC_PUSH(worker, paused) = input;
        boundary_sub_pause(input->sub, true);
    }
}

void worker_inputs_unpause(struct computed_worker *worker)
{
    for (size_t i = worker->paused_len; i > 0; i--) {
        struct computed_input *input = worker->paused[i - 1];
        if (!engine_is_behind(worker->engine, input->dataflow)) {
            forget_paused(input);
            boundary_sub_pause(input->sub, false);
        }
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

void worker_rows_free(const struct input_rows *rows)
{
    engine_rows_free(rows->ok);
    engine_rows_free(rows->err);
}

/* What was kept is fed, or void. */
static void kept_clear(struct computed_input *input)
{
    for (size_t i = 0; i < input->kept_len; i++) {
        worker_rows_free(&input->kept[i]);
    }
    input->kept_len = 0;
}

/* No callback of the subscription runs after boundary_unsubscribe. What it brought is void. */
void worker_input_unsubscribe(struct computed_input *input)
{
    if (input->sub != NULL) {
        boundary_unsubscribe(input->sub);
        input->sub = NULL;
    }
    if (input->paused) {
        forget_paused(input);
    }
    kept_clear(input);
    input->complete = input->pieces = false;
    input->pieces_max = 0;
    ASSERT(input->kept_len == 0 && !input->paused);
}

static void input_free(struct computed_input *input)
{
    ASSERT(input->kept_len <= input->kept_cap);
    worker_feed_leave(input);
    worker_input_unsubscribe(input);
    free(input->kept);
    free(input->kinds);
    free(input->reads);
    free(input->nodes);
    free(input->parts);
    free(input);
}

void worker_inputs_free(struct computed_dataflow *dataflow)
{
    for (size_t i = 0; i < dataflow->inputs_len; i++) {
        input_free(dataflow->inputs[i]);
    }
    free(dataflow->inputs);
    free(dataflow->exports);
    free(dataflow);
}

/* ---- chunks ---------------------------------------------------------------------------------- */

/* Which columns some source it feeds reads; NULL: all, for what is known. */
static const bool *columns_read(struct computed_input *input)
{
    memset(input->reads, 0, input->cols);
    for (uint32_t i = 0; i < input->nodes_len; i++) {
        const bool *reads = engine_reads(input->worker->engine, input->dataflow,
                                         input->nodes[i], input->cols);
        if (reads == NULL) {
            return NULL;
        }
        for (uint32_t c = 0; c < input->cols; c++) {
            input->reads[c] |= reads[c];
        }
    }
    return input->reads;
}

/* Both batches of a chunk; on an error there are no rows. */
err_t worker_rows_open(struct computed_worker *worker, const struct boundary_chunk *chunk,
                       const uint8_t *kinds, uint32_t cols, const bool *reads,
                       struct input_rows *out)
{
    struct engine *engine = worker->engine;
    *out = (struct input_rows){0};
    if (chunk->ok != NULL) {
        TRY(engine_rows_open(engine, chunk->ok, chunk->ok_len, kinds, cols, reads, &out->ok));
    }
    if (chunk->err != NULL) {
        err_t err = engine_rows_open(engine, chunk->err, chunk->err_len, batch_err_kinds,
                                     ERR_COLS, NULL, &out->err);
        if (err != ERR_OK) {
            engine_rows_free(out->ok);
            *out = (struct input_rows){0};
            return err;
        }
    }
    return ERR_OK;
}

/* Do all times lie where the chunk says? */
static err_t check_times(const struct chunk *rows, uint64_t lower, uint64_t upper)
{
    uint64_t min, max;
    ASSERT(lower <= upper);
    if (rows == NULL) {
        return ERR_OK;
    }
    engine_rows_times(rows, &min, &max);
    if (min < lower || max >= upper) {
        return err_new(ERR_PROTOCOL,
                       "updates from %" PRIu64 " to %" PRIu64 " outside of their chunk [%" PRIu64
                       ", %" PRIu64 ")", min, max, lower, upper);
    }
    return ERR_OK;
}

err_t worker_rows_check(const struct input_rows *rows, uint64_t lower, uint64_t upper)
{
    TRY(check_times(rows->ok, lower, upper));
    return check_times(rows->err, lower, upper);
}

static void feed(struct computed_input *input, const struct input_rows *rows, uint64_t lower,
                 uint64_t upper)
{
    for (uint32_t i = 0; i < input->nodes_len; i++) {
        engine_input_rows(input->worker->engine, input->dataflow, input->nodes[i],
                          input->parts[i], lower, upper, rows->ok, rows->err);
    }
}

/* A piece of the snapshot: its times may reach to the upper of the chunk that completes it, which
 * is not known yet. */
static err_t feed_piece(struct computed_input *input, const struct input_rows *rows,
                        uint64_t lower)
{
    const struct chunk *both[] = {rows->ok, rows->err};
    TRY(worker_rows_check(rows, lower, FRONTIER_EMPTY));
    for (size_t i = 0; i < ARRAY_LEN(both); i++) {
        if (both[i] != NULL) {
            uint64_t min, max;
            engine_rows_times(both[i], &min, &max);
            input->pieces_max = max > input->pieces_max ? max : input->pieces_max;
        }
    }
    input->pieces = true;
    feed(input, rows, lower, lower);
    input_pause(input);
    return ERR_OK;
}

/* Everything is checked before the engine sees any of it. What was kept completes nothing by
 * itself: it is fed with upper at lower, but its times may reach to the upper of the chunk that
 * does. */
static err_t feed_complete(struct computed_input *input, const struct input_rows *rows,
                           uint64_t lower, uint64_t upper)
{
    ASSERT(lower < upper);
    TRY(worker_rows_check(rows, lower, upper));
    if (input->pieces_max >= upper) {
        return err_new(ERR_PROTOCOL, "a snapshot complete below %" PRIu64 " had an update at %"
                       PRIu64, upper, input->pieces_max);
    }
    for (size_t i = 0; i < input->kept_len; i++) {
        TRY(worker_rows_check(&input->kept[i], lower, upper));
    }
    for (size_t i = 0; i < input->kept_len; i++) {
        feed(input, &input->kept[i], lower, lower);
    }
    feed(input, rows, lower, upper);
    kept_clear(input);
    input->complete = true;
    input->pieces = false;
    input->pieces_max = 0;
    return ERR_OK;
}

/* The boundary has checked that lower <= upper and that chunks abut. */
static err_t take_chunk(struct computed_input *input, const struct boundary_chunk *chunk)
{
    struct input_rows rows;
    ASSERT(chunk->lower <= chunk->upper && !input->dead);
    TRY(worker_rows_open(input->worker, chunk, input->kinds, input->cols,
                         chunk->ok != NULL ? columns_read(input) : NULL, &rows));
    if (chunk->upper == chunk->lower && input->complete) {
        *VEC_PUSH(input, kept) = rows;
        return ERR_OK;
    }
    err_t err = chunk->upper == chunk->lower
                    ? feed_piece(input, &rows, chunk->lower)
                    : feed_complete(input, &rows, chunk->lower, chunk->upper);
    worker_rows_free(&rows);
    input->upper = chunk->upper;
    return err;
}

/* Told once; the dataflow stays, failed, until the controller drops it. Owns err. */
static void input_fail(struct computed_input *input, err_t err)
{
    ASSERT(err != ERR_OK);
    input->dead = true;
    err = err_wrap(err, "source %" PRIu64, input->source);
    worker_dataflow_failed(input->worker, input->dataflow, err);
}

static void on_data(void *arg, const struct boundary_chunk *chunk)
{
    struct computed_input *input = arg;
    if (input->dead) {
        return;
    }
    err_t err = take_chunk(input, chunk);
    if (err != ERR_OK) {
        input_fail(input, err);
        return;
    }
    const struct computed_dataflow *dataflow =
        u64map_get(&input->worker->dataflows, input->dataflow);
    if (dataflow != NULL && dataflow->hydrated && chunk->upper > chunk->lower) {
        worker_feed_offer(input);
    }
}

/* The connection was lost: the subscription starts again at what is complete. If the engine has
 * pieces of the snapshot, worker_inputs_restart follows. */
static void on_reset(void *arg)
{
    struct computed_input *input = arg;
    kept_clear(input);
    if (input->pieces && !input->dead) {
        engine_restart(input->worker->engine, input->dataflow);
    }
}

/* Storage does not have the source, or not that far back. */
static void on_refused(void *arg, err_t err)
{
    input_fail(arg, err);
}

static const struct boundary_handler input_handler = {
    .data = on_data, .reset = on_reset, .refused = on_refused};

/* ---- planning -------------------------------------------------------------------------------- */

/* Which worker of the replica reads a part: spread by source, so that tables (all of them parts of
 * storage worker 0) do not meet on one worker. The same on every worker. */
static uint32_t reader_of_part(const struct computed_worker *worker, uint64_t source,
                               uint32_t storage_worker)
{
    uint32_t workers = computed_workers_total(worker->owner);
    return (uint32_t)((hash_u64(source) + storage_worker) % workers);
}

/* The first of that id; a second one has no meaning. */
static const tailrace_v1_SourceParts *find_parts(const tailrace_v1_CreateDataflow *message,
                                                 uint64_t source)
{
    for (size_t i = 0; i < message->sources_count; i++) {
        if (message->sources[i].id == source) {
            return &message->sources[i];
        }
    }
    return NULL;
}

/* Each once: a part named twice would be fed twice, beyond what an input has room for. */
static err_t check_parts(const tailrace_v1_SourceParts *parts)
{
    for (size_t i = 1; i < parts->workers_count; i++) {
        if (parts->workers[i] <= parts->workers[i - 1]) {
            return err_new(ERR_PROTOCOL, "storage workers of source %" PRIu64 " out of order",
                           parts->id);
        }
    }
    return ERR_OK;
}

/* inputs and storage_workers grow together. */
static struct computed_input *find_input(struct computed_dataflow *dataflow, uint64_t source,
                                         uint32_t storage_worker, const uint32_t *storage_workers)
{
    for (size_t i = 0; i < dataflow->inputs_len; i++) {
        if (dataflow->inputs[i]->source == source && storage_workers[i] == storage_worker) {
            return dataflow->inputs[i];
        }
    }
    return NULL;
}

/* nodes_max: of the plan: no more can read it. */
static struct computed_input *input_new(struct computed_worker *worker, uint64_t dataflow,
                                        uint64_t source, const struct schema *schema,
                                        uint32_t nodes_max)
{
    ASSERT(schema->cols <= BATCH_COLS_MAX && nodes_max > 0);
    struct computed_input *input = MEM_NEW(struct computed_input);
    input->worker = worker;
    input->dataflow = dataflow;
    input->source = source;
    input->cols = schema->cols;
    input->kinds = mem_alloc(schema->cols);
    input->reads = mem_alloc(schema->cols);
    for (uint32_t c = 0; c < schema->cols; c++) {
        input->kinds[c] = schema->types[c].kind;
    }
    input->nodes = mem_zalloc(nodes_max * sizeof(uint32_t));
    input->parts = mem_zalloc(nodes_max * sizeof(uint32_t));
    return input;
}

/* The inputs one PLAN_SOURCE node needs here; returns how many parts it will be fed. */
static uint32_t plan_node_inputs(struct computed_worker *worker,
                                 struct computed_dataflow *dataflow, const struct plan_node *node,
                                 const tailrace_v1_SourceParts *parts, uint32_t source_index,
                                 uint32_t nodes_max, uint32_t *storage_workers)
{
    ASSERT(node->op == PLAN_SOURCE);
    uint32_t count = 0;
    for (size_t i = 0; i < parts->workers_count; i++) {
        uint32_t storage_worker = parts->workers[i];
        if (reader_of_part(worker, node->import.id, storage_worker) != worker->global) {
            continue;
        }
        struct computed_input *input =
            find_input(dataflow, node->import.id, storage_worker, storage_workers);
        if (input == NULL) {
            storage_workers[dataflow->inputs_len] = storage_worker;
            input = input_new(worker, dataflow->id, node->import.id, &node->schema, nodes_max);
            *VEC_PUSH(dataflow, inputs) = input;
        }
        ASSERT(input->nodes_len < nodes_max);
        input->nodes[input->nodes_len] = source_index;
        input->parts[input->nodes_len] = count++;
        input->nodes_len++;
    }
    return count;
}

/*
 * Which parts of each source this worker reads. On an error the inputs made are the dataflow's, and
 * freed with it. An input without parts here is none: another worker reads it.
 */
err_t worker_inputs_plan(struct computed_worker *worker, struct computed_dataflow *dataflow,
                         const struct plan *plan, const tailrace_v1_CreateDataflow *message,
                         uint32_t **parts, size_t *parts_len, struct arena *arena)
{
    ASSERT(dataflow->inputs_len == 0 && plan->nodes_len > 0);
    size_t parts_max = 0;
    for (size_t i = 0; i < message->sources_count; i++) {
        parts_max += message->sources[i].workers_count;
    }
    uint32_t *storage_workers = ARENA_ARRAY(arena, uint32_t, parts_max + 1);
    *parts = ARENA_ARRAY(arena, uint32_t, plan->nodes_len + 1);
    *parts_len = 0;
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        const struct plan_node *node = &plan->nodes[i];
        if (node->op != PLAN_SOURCE) {
            continue;
        }
        const tailrace_v1_SourceParts *source = find_parts(message, node->import.id);
        if (source == NULL) {
            return err_new(ERR_PROTOCOL, "no storage workers named for source %" PRIu64,
                           node->import.id);
        }
        TRY(check_parts(source));
        (*parts)[*parts_len] =
            plan_node_inputs(worker, dataflow, node, source, (uint32_t)*parts_len,
                             plan->nodes_len, storage_workers);
        (*parts_len)++;
    }
    for (size_t i = 0; i < dataflow->inputs_len; i++) {
        dataflow->inputs[i]->storage_worker = storage_workers[i];
    }
    return ERR_OK;
}

void worker_inputs_subscribe(struct computed_worker *worker, struct computed_dataflow *dataflow)
{
    ASSERT(dataflow->id != 0);
    for (size_t i = 0; i < dataflow->inputs_len; i++) {
        struct computed_input *input = dataflow->inputs[i];
        ASSERT(input->sub == NULL && input->nodes_len > 0);
        const struct boundary_request request = {.dataflow = dataflow->id,
                                                 .source = input->source,
                                                 .worker = input->storage_worker,
                                                 .as_of = dataflow->as_of};
        input->sub = boundary_subscribe(worker->owner->boundary, worker->local, &request,
                                        &input_handler, input);
    }
}

/* An input that failed has told so, and the dataflow is about to be dropped. */
void worker_inputs_restart(struct computed_worker *worker, struct computed_dataflow *dataflow)
{
    for (size_t i = 0; i < dataflow->inputs_len; i++) {
        ASSERT(dataflow->inputs[i]->feed == NULL); /* only hydrated ones come to one */
        worker_input_unsubscribe(dataflow->inputs[i]);
    }
    worker_inputs_subscribe(worker, dataflow);
}
