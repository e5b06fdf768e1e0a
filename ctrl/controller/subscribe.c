/*
 * Subscriptions: each worker of a replica sends pieces that abut; a replica's pieces are joined at
 * their common frontier; whichever replica is furthest is handed on, from where the last one ended.
 * environmentd's loop.
 *
 * Why replicas may take turns: what a worker computes is a function of the data, so the updates in
 * [lower, upper) are the same from any replica, once all its workers are complete below upper.
 *
 *     worker 0   [10, 20) [20, 25)
 *     worker 1   [10, 17)                 joint frontier 17: hand on [10, 17) of both
 *     worker 1            [17, 30)        joint frontier 25: hand on [17, 25)
 *
 * The part of worker 0's first piece in [17, 20) waits: take_updates cuts pieces by time. A piece
 * is freed when nothing of it lies at or beyond what was handed on.
 *
 * A replica that is created later or again starts at emitted - 1 and without a snapshot
 * (dataflow_send), so its first pieces may begin before what was handed on; drop_emitted and the
 * lower bound of take_updates leave that out.
 *
 * An error among the updates ends the subscription: it is told once, then nothing.
 */
#include "ctrl/controller/controller_internal.h"

#include "core/base/log.h"
#include "core/base/mem.h"

enum { SUBSCRIBE_BYTES_MAX = CONTROLLER_MESSAGE_MAX - (1 << 20) };

/* What it owns; the piece itself lies in an array. */
static void piece_free(struct ctl_piece *piece)
{
    free(piece->storage);
    free(piece->cols);
}

/* The replica's session was lost: its pieces come again, from wherever it starts then. */
void subscribe_reset(struct ctl_export *export, uint32_t replica)
{
    ASSERT(replica < export->cluster->spec.replicas);
    struct ctl_sub_replica *sub = &export->subs[replica];
    for (size_t i = 0; i < sub->pieces_len; i++) {
        piece_free(&sub->pieces[i]);
    }
    sub->pieces_len = 0;
    memset(sub->uppers, 0, cluster_workers(export->cluster) * sizeof(uint64_t));
}

/* All replicas' share. */
void subscribe_free(struct ctl_export *export)
{
    for (uint32_t r = 0; r < export->cluster->spec.replicas; r++) {
        subscribe_reset(export, r);
        free(export->subs[r].pieces);
        free(export->subs[r].uppers);
    }
    free(export->subs);
}

/* Complete below this on all workers of the replica; 0 while one has sent nothing. */
static uint64_t joint_upper(const struct ctl_export *export, const struct ctl_sub_replica *sub)
{
    ASSERT(sub->uppers != NULL);
    uint64_t upper = FRONTIER_EMPTY;
    for (uint32_t w = 0; w < cluster_workers(export->cluster); w++) {
        upper = sub->uppers[w] < upper ? sub->uppers[w] : upper;
    }
    return upper;
}

/* Appends the updates of a piece in [lower, upper) to the builder; true when some lie beyond. */
static bool take_updates(const struct batch *batch, uint64_t lower, uint64_t upper,
                         struct batch_builder *out)
{
    ASSERT(lower < upper);
    bool beyond = false;
    for (uint32_t row = 0; row < batch->rows; row++) {
        uint64_t time = batch_time(batch, row);
        if (time >= lower && time < upper) {
            batch_builder_row(out, batch, row);
        }
        beyond = beyond || time >= upper;
    }
    return beyond;
}

/* What the export's rows must look like, by its plan. */
static const uint8_t *export_kinds(const struct ctl_export *export, struct arena *arena,
                                   uint32_t *cols)
{
    ASSERT(export->node < export->dataflow->plan->nodes_len);
    const struct schema *schema = &export->dataflow->plan->nodes[export->node].schema;
    uint8_t *kinds = ARENA_ARRAY(arena, uint8_t, schema->cols + 1);
    for (uint32_t c = 0; c < schema->cols; c++) {
        kinds[c] = schema->types[c].kind;
    }
    *cols = schema->cols;
    return kinds;
}

/* Consolidates what the pieces hold below the joint frontier and hands it on. */
static void emit(struct ctl_export *export, struct ctl_sub_replica *sub, uint64_t upper)
{
    ASSERT(upper > export->emitted && !export->ended);
    struct arena arena = {0};
    uint32_t cols = 0;
    const uint8_t *kinds = export_kinds(export, &arena, &cols);
    struct batch_builder *gathered = batch_builder_new(kinds, cols);
    size_t kept = 0;
    for (size_t i = 0; i < sub->pieces_len; i++) {
        if (take_updates(&sub->pieces[i].ok, export->emitted, upper, gathered)) {
            sub->pieces[kept++] = sub->pieces[i];
        } else {
            piece_free(&sub->pieces[i]);
        }
    }
    sub->pieces_len = kept;
    struct batch_builder *consolidated = batch_builder_new(kinds, cols);
    struct batch_col *views = ARENA_ARRAY(&arena, struct batch_col, cols + 1);
    size_t size = 0;
    void *bytes = batch_builder_finish_new(gathered, &size);
    struct batch view;
    batch_view(bytes, size, views, cols, &view);
    const struct batch *const in[] = {&view};
    batch_consolidate(in, 1, 0, consolidated);
    size_t out_size = 0;
    void *out_bytes = batch_builder_finish_new(consolidated, &out_size);
    batch_view(out_bytes, out_size, views, cols, &view);
    uint64_t lower = export->emitted;
    export->emitted = upper;
    export->started = true;
    if (upper == FRONTIER_EMPTY) {
        export->ended = true;
    }
    batch_builder_free(gathered);
    batch_builder_free(consolidated);
    export->fn(export->fn_arg, lower, upper, view.rows > 0 ? &view : NULL, ERR_OK);
    /* the receiver may have dropped the export: it is not touched any more */
    free(bytes);
    free(out_bytes);
    arena_free(&arena);
}

/* Pieces another replica was faster with. */
static void drop_emitted(const struct ctl_export *export, struct ctl_sub_replica *sub)
{
    ASSERT(sub->pieces_len <= sub->pieces_cap);
    size_t kept = 0;
    for (size_t i = 0; i < sub->pieces_len; i++) {
        if (sub->pieces[i].upper > export->emitted) {
            sub->pieces[kept++] = sub->pieces[i];
        } else {
            piece_free(&sub->pieces[i]);
        }
    }
    sub->pieces_len = kept;
}

/*
 * The first error row, as an error. Bytes of a replica: their form is checked. Rows with a negative
 * diff take an error back that came before; since an error ends a subscription, those cannot be the
 * first.
 */
static err_t first_error(const struct rpc_bytes *bytes)
{
    struct arena arena = {0};
    void *storage = NULL;
    struct batch batch;
    err_t err =
        plan_codec_open_batch(bytes, batch_err_kinds, ERR_COLS, &arena, &storage, &batch);
    if (err != ERR_OK) {
        arena_free(&arena);
        return err;
    }
    for (uint32_t row = 0; row < batch.rows && err == ERR_OK; row++) {
        if (batch_diff(&batch, row) <= 0) {
            continue;
        }
        struct datum state, message;
        batch_datum(&batch.col[ERR_COL_SQLSTATE], row, &state);
        batch_datum(&batch.col[ERR_COL_MESSAGE], row, &message);
        char sqlstate[6] = "XX000";
        if (!state.null && state.len == 5) {
            memcpy(sqlstate, state.s, 5);
        }
        err = err_sql(ERR_INVALID, sqlstate, "%.*s", message.null ? 0 : (int)message.len,
                      message.null ? "" : message.s);
    }
    free(storage);
    arena_free(&arena);
    return err;
}

/*
 * What is kept of a replica until it can be handed on is bounded: it is for environmentd's memory
 * as much as a peek's answer is.
 */
static err_t check_kept(const struct ctl_sub_replica *sub)
{
    size_t bytes = 0;
    uint64_t rows = 0;
    for (size_t i = 0; i < sub->pieces_len; i++) {
        bytes += sub->pieces[i].ok.size;
        rows += sub->pieces[i].ok.rows;
    }
    if (bytes <= SUBSCRIBE_BYTES_MAX && rows <= BATCH_ROWS_MAX) {
        return ERR_OK;
    }
    return err_hint(err_sql(ERR_LIMIT, "53400",
                            "the changes of one time are more than the %d MiB or %d rows a "
                            "subscription may hold",
                            SUBSCRIBE_BYTES_MAX >> 20, BATCH_ROWS_MAX),
                    "Subscribe to fewer rows or columns.");
}

/* Of a piece with upper == lower times may lie up to what a later one completes. */
static uint64_t last_time(const struct batch *b)
{
    uint64_t last = 0;
    for (uint32_t row = 0; row < b->rows; row++) {
        last = batch_time(b, row) > last ? batch_time(b, row) : last;
    }
    return last < TIME_MAX ? last : TIME_MAX;
}

/* A copy of the rows, checked against the plan's columns, until they can be handed on. */
static err_t keep_piece(struct ctl_export *export, struct ctl_sub_replica *sub,
                        const tailrace_v1_SubscribeResponse *message)
{
    if (!message->has_ok || message->ok.data.len == 0) {
        return ERR_OK;
    }
    struct arena arena = {0};
    uint32_t cols = 0;
    const uint8_t *kinds = export_kinds(export, &arena, &cols);
    void *storage = NULL;
    struct batch view;
    err_t err =
        plan_codec_open_batch(&message->ok.data, kinds, cols, &arena, &storage, &view);
    if (err == ERR_OK) {
        struct ctl_piece *piece = VEC_PUSH(sub, pieces);
        ASSERT(message->lower <= message->upper);
        piece->storage = storage;
        piece->cols = mem_zalloc((cols + 1) * sizeof(piece->cols[0]));
        piece->lower = message->lower;
        batch_view(storage, message->ok.data.len, piece->cols, cols, &piece->ok);
        piece->upper = last_time(&piece->ok) + 1;
        err = check_kept(sub);
    }
    arena_free(&arena);
    return err;
}

/* Owns err. The receiver may drop the export: it is not touched any more. */
static void end_with(struct ctl_export *export, err_t err)
{
    ASSERT(err != ERR_OK && !export->ended);
    export->ended = true;
    export->fn(export->fn_arg, export->emitted, export->emitted, NULL, err);
}

/*
 * One piece. What a process sends is data to be checked: a gap, or a worker there is not, ends the
 * subscription with an error rather than with wrong rows.
 */
void subscribe_response(struct ctl_replica *replica, const tailrace_v1_SubscribeResponse *message)
{
    struct controller *c = replica->cluster->controller;
    struct ctl_export *export = u64map_get(&c->exports, message->id);
    if (export == NULL || export->cluster != replica->cluster || export->ended ||
        export->fn == NULL || export->kind != PLAN_EXPORT_SUBSCRIBE) {
        return; /* dropped meanwhile */
    }
    struct ctl_sub_replica *sub = &export->subs[replica->index];
    bool abuts = message->worker < cluster_workers(replica->cluster) &&
                 message->upper >= message->lower &&
                 (sub->uppers[message->worker] == 0 ||
                  message->lower == sub->uppers[message->worker]);
    if (!abuts) {
        end_with(export, err_new(ERR_PROTOCOL, "pieces of a subscription that do not abut"));
        return;
    }
    drop_emitted(export, sub); /* what is kept counts */
    err_t err = keep_piece(export, sub, message);
    if (err == ERR_OK && message->has_err && message->err.data.len > 0) {
        err = first_error(&message->err.data);
    }
    if (err != ERR_OK) {
        end_with(export, err);
        return;
    }
    sub->uppers[message->worker] = message->upper;
    uint64_t upper = joint_upper(export, sub);
    if (upper > export->emitted) {
        emit(export, sub, upper);
    } else {
        drop_emitted(export, sub);
    }
}

void controller_subscribe(struct controller *c, uint64_t export_id, controller_subscribe_fn fn,
                          void *arg)
{
    ASSERT(fn != NULL && export_id != 0);
    struct ctl_receiver *receiver = MEM_NEW(struct ctl_receiver);
    *receiver = (struct ctl_receiver){.fn = fn, .arg = arg};
    free(u64map_put(&c->receivers, export_id, receiver));
}
