/*
 * Feeds: one subscription of a worker for all dataflows that are in step at one part of a source.
 * On the worker's loop.
 *
 * A dataflow begins with subscriptions of its own (worker_input.c), from its as_of. When it is
 * complete there, each of its inputs waits until it is where the feed is, since both go on by
 * chunks that storage cuts alike, and joins it: its subscription ends, and the source follows the
 * feed's clock in the engine. So storage serves as many subscriptions as there are sources, however
 * many views read them, and progress is told to the engine once (core/engine/clock.c), and to the
 * main loop once.
 *
 *     feed     [90, 100)               [100, 110)          goes on for both
 *     input    snapshot < 96 [96, 100) here: joins
 *
 * The first input to ask makes the feed, which resumes where the input is. The last to leave ends
 * it. Which dataflow the feed's counters name is the one that made it.
 */
#include "ctrl/computed/computed_internal.h"

#include "core/base/mem.h"

#include <inttypes.h>

/* ---- where a source is ----------------------------------------------------------------------- */

/* The least of its feeds; 0: there is none. */
static uint64_t source_upper(const struct computed_source *source)
{
    uint64_t upper = source->feeds_len > 0 ? FRONTIER_EMPTY : 0;
    for (size_t i = 0; i < source->feeds_len; i++) {
        upper = source->feeds[i]->upper < upper ? source->feeds[i]->upper : upper;
    }
    return upper;
}

static void tell(struct computed_worker *worker, const struct computed_source *source)
{
    worker_report_source(worker, source->id, source_upper(source));
}

static struct computed_source *source_get(struct computed_worker *worker, uint64_t id)
{
    struct computed_source *source = u64map_get(&worker->sources, id);
    if (source == NULL) {
        source = MEM_NEW(struct computed_source);
        source->id = id;
        u64map_put(&worker->sources, id, source);
    }
    ASSERT(source->id == id);
    return source;
}

static struct computed_feed *find_feed(struct computed_worker *worker, uint64_t source_id,
                                       uint32_t storage_worker)
{
    const struct computed_source *source = u64map_get(&worker->sources, source_id);
    for (size_t i = 0; source != NULL && i < source->feeds_len; i++) {
        if (source->feeds[i]->storage_worker == storage_worker) {
            return source->feeds[i];
        }
    }
    return NULL;
}

/* ---- joining --------------------------------------------------------------------------------- */

/* In the list of those who wait, or of those who joined. */
static void list_remove(struct computed_input **inputs, size_t *len, struct computed_input *input)
{
    ASSERT(input->feed_at < *len && inputs[input->feed_at] == input);
    inputs[input->feed_at] = inputs[--*len];
    inputs[input->feed_at]->feed_at = input->feed_at;
}

/* From the next chunk on the feed's data are the input's. */
static void join(struct computed_feed *feed, struct computed_input *input)
{
    ASSERT(input->upper == feed->upper && input->kept_len == 0 && !input->joined);
    list_remove(feed->waiting, &feed->waiting_len, input);
    *VEC_PUSH(feed, members) = input;
    input->feed_at = feed->members_len - 1;
    input->joined = true;
    worker_input_unsubscribe(input);
    for (uint32_t i = 0; i < input->nodes_len; i++) {
        engine_clock_join(feed->clock, input->dataflow, input->nodes[i], input->parts[i]);
    }
}

static void join_those_in_step(struct computed_feed *feed)
{
    for (size_t i = feed->waiting_len; i-- > 0;) {
        struct computed_input *input = feed->waiting[i];
        if (input->upper == feed->upper && input->kept_len == 0 && !feed->dead) {
            join(feed, input);
        }
    }
}

/* ---- chunks ---------------------------------------------------------------------------------- */

/* Which columns some member's dataflow reads. False: one that is gone cannot say. */
static bool columns_read(struct computed_feed *feed)
{
    bool known = true;
    memset(feed->reads, 0, feed->cols);
    for (size_t m = 0; m < feed->members_len; m++) {
        const struct computed_input *input = feed->members[m];
        for (uint32_t i = 0; i < input->nodes_len; i++) {
            const bool *reads = engine_reads(feed->worker->engine, input->dataflow,
                                             input->nodes[i], feed->cols);
            known = known && reads != NULL;
            for (uint32_t c = 0; reads != NULL && c < feed->cols; c++) {
                feed->reads[c] |= reads[c];
            }
        }
    }
    return known;
}

static void kept_clear(struct computed_feed *feed)
{
    for (size_t i = 0; i < feed->kept_len; i++) {
        worker_rows_free(&feed->kept[i]);
    }
    feed->kept_len = 0;
}

/* As of an input that is alone: all is checked, then what was kept goes first. */
static err_t take_chunk(struct computed_feed *feed, const struct boundary_chunk *chunk)
{
    struct input_rows rows = {0};
    ASSERT(chunk->lower == feed->upper && chunk->lower <= chunk->upper);
    if (chunk->ok != NULL || chunk->err != NULL) {
        const bool *reads = columns_read(feed) ? feed->reads : NULL;
        TRY(worker_rows_open(feed->worker, chunk, feed->kinds, feed->cols, reads, &rows));
    }
    if (chunk->upper == chunk->lower) {
        *VEC_PUSH(feed, kept) = rows;
        return ERR_OK;
    }
    err_t err = worker_rows_check(&rows, chunk->lower, chunk->upper);
    for (size_t i = 0; err == ERR_OK && i < feed->kept_len; i++) {
        err = worker_rows_check(&feed->kept[i], chunk->lower, chunk->upper);
    }
    for (size_t i = 0; err == ERR_OK && i < feed->kept_len; i++) {
        engine_clock_input(feed->clock, chunk->lower, feed->kept[i].ok, feed->kept[i].err);
    }
    if (err == ERR_OK) {
        engine_clock_input(feed->clock, chunk->upper, rows.ok, rows.err);
        feed->upper = chunk->upper;
        kept_clear(feed);
    }
    worker_rows_free(&rows);
    return err;
}

/* All dataflows that read it fail. Owns err. */
static void feed_fail(struct computed_feed *feed, err_t err)
{
    feed->dead = true;
    err = err_wrap(err, "source %" PRIu64, feed->source->id);
    for (size_t i = 0; i < feed->members_len; i++) {
        worker_dataflow_failed(feed->worker, feed->members[i]->dataflow, err_copy(err));
    }
    err_free(err);
}

static void on_data(void *arg, const struct boundary_chunk *chunk)
{
    struct computed_feed *feed = arg;
    if (feed->dead) {
        return;
    }
    err_t err = take_chunk(feed, chunk);
    if (err != ERR_OK) {
        feed_fail(feed, err);
        return;
    }
    tell(feed->worker, feed->source);
    join_those_in_step(feed);
}

static void on_reset(void *arg)
{
    kept_clear(arg);
}

static void on_refused(void *arg, err_t err)
{
    feed_fail(arg, err);
}

static const struct boundary_handler feed_handler = {
    .data = on_data, .reset = on_reset, .refused = on_refused};

/* ---- life ------------------------------------------------------------------------------------ */

static struct computed_feed *feed_new(struct computed_input *input)
{
    struct computed_worker *worker = input->worker;
    struct computed_feed *feed = MEM_NEW(struct computed_feed);
    feed->worker = worker;
    feed->source = source_get(worker, input->source);
    feed->storage_worker = input->storage_worker;
    feed->upper = input->upper;
    feed->cols = input->cols;
    feed->kinds = mem_alloc(input->cols);
    memcpy(feed->kinds, input->kinds, input->cols);
    feed->reads = mem_zalloc(input->cols);
    feed->clock = engine_clock_new(worker->engine, feed->upper);
    *VEC_PUSH(feed->source, feeds) = feed;
    const struct boundary_request request = {.dataflow = input->dataflow,
                                             .source = input->source,
                                             .worker = input->storage_worker,
                                             .as_of = feed->upper - 1,
                                             .resume = true,
                                             .resume_from = feed->upper};
    feed->sub = boundary_subscribe(worker->owner->boundary, worker->local, &request,
                                   &feed_handler, feed);
    tell(worker, feed->source);
    return feed;
}

/* Nobody is left. */
static void feed_free(struct computed_feed *feed)
{
    struct computed_worker *worker = feed->worker;
    struct computed_source *source = feed->source;
    ASSERT(feed->members_len == 0 && feed->waiting_len == 0);
    boundary_unsubscribe(feed->sub);
    engine_clock_free(feed->clock);
    kept_clear(feed);
    for (size_t i = 0; i < source->feeds_len; i++) {
        if (source->feeds[i] == feed) {
            source->feeds[i] = source->feeds[--source->feeds_len];
            break;
        }
    }
    tell(worker, source);
    if (source->feeds_len == 0) {
        u64map_remove(&worker->sources, source->id);
        free(source->feeds);
        free(source);
    }
    free(feed->kept);
    free(feed->members);
    free(feed->waiting);
    free(feed->kinds);
    free(feed->reads);
    free(feed);
}

/* One whose dataflow takes other columns for the source's stays alone, and fails by itself. */
void worker_feed_offer(struct computed_input *input)
{
    if (input->feed != NULL) {
        if (!input->joined) {
            join_those_in_step(input->feed);
        }
        return;
    }
    ASSERT(!input->dead && input->sub != NULL);
    struct computed_feed *feed = find_feed(input->worker, input->source, input->storage_worker);
    feed = feed != NULL ? feed : feed_new(input);
    if (feed->dead || feed->cols != input->cols ||
        memcmp(feed->kinds, input->kinds, input->cols) != 0) {
        return;
    }
    *VEC_PUSH(feed, waiting) = input;
    input->feed = feed;
    input->feed_at = feed->waiting_len - 1;
    join_those_in_step(feed);
}

void worker_feed_leave(struct computed_input *input)
{
    struct computed_feed *feed = input->feed;
    if (feed == NULL) {
        return;
    }
    if (input->joined) {
        list_remove(feed->members, &feed->members_len, input);
    } else {
        list_remove(feed->waiting, &feed->waiting_len, input);
    }
    input->feed = NULL;
    if (feed->members_len + feed->waiting_len == 0) {
        feed_free(feed);
    }
}
