/*
 * Peeks: sent to every replica of the cluster, answered exactly once. environmentd's loop.
 *
 * Which answer wins. Rows of any one replica do, and so does an error of the data (division by
 * zero): what a replica computes is a function of the data, so the others would say the same. An
 * error of the replica itself (no memory, a dataflow that failed there, a message that does not
 * decode) says nothing about the data: it waits until every connected replica has failed too, and
 * only then is the asker told the first of them.
 *
 * Why exactly once. A peek is in c->peeks until it is answered, and whoever takes it out answers
 * it: a response (peek_answer), a replica lost (settle), what it reads being dropped (refuse). Each
 * process of a replica answers once per session; a second answer is a breach of the protocol. A
 * peek whose replica went away is asked again when it is back (peek_replay).
 */
#include "ctrl/controller/controller_internal.h"

#include "core/base/log.h"
#include "core/base/mem.h"

#include <inttypes.h>

/* Nothing of this session's answers counts any more. */
static void answers_clear(struct ctl_peek_replica *replica)
{
    for (size_t i = 0; i < replica->rows_len; i++) {
        free(replica->rows[i].storage);
        free(replica->rows[i].cols);
    }
    free(replica->rows);
    err_free(replica->err);
    *replica = (struct ctl_peek_replica){0};
}

/* Answers of all replicas with it; fn is not called. */
static void peek_free(struct ctl_peek *peek)
{
    ASSERT(peek->replicas != NULL || peek->replicas_len == 0);
    for (uint32_t r = 0; r < peek->replicas_len; r++) {
        answers_clear(&peek->replicas[r]);
    }
    free(peek->replicas);
    free(peek->kinds);
    buf_free(&peek->message);
    free(peek);
}

/* Replicas that have answered, or never heard of the peek, ignore it. */
static void send_cancel(const struct ctl_peek *peek)
{
    tailrace_v1_ComputeCommand command = {0};
    command.which_command = tailrace_v1_ComputeCommand_cancel_peek_tag;
    command.command.cancel_peek.id = peek->id;
    struct buf bytes = {0};
    err_t err = rpc_pb_encode(tailrace_v1_ComputeCommand_fields, &command, &bytes);
    ASSERT(err == ERR_OK);
    compute_broadcast(peek->cluster, &bytes);
    buf_free(&bytes);
}

/* One batch of a worker's rows, checked against the kinds the peek produces. */
static err_t keep_rows(const struct ctl_peek *peek, struct ctl_peek_replica *replica,
                       const struct rpc_bytes *bytes)
{
    struct arena arena = {0};
    void *storage = NULL;
    struct batch view;
    err_t err =
        plan_codec_open_batch(bytes, peek->kinds, peek->cols, &arena, &storage, &view);
    arena_free(&arena);
    if (err != ERR_OK) {
        return err_wrap(err, "rows of peek %" PRIu64, peek->id);
    }
    struct ctl_piece *piece = VEC_PUSH(replica, rows);
    piece->storage = storage;
    ASSERT(storage != NULL || bytes->len == 0);
    piece->cols = mem_zalloc((peek->cols + 1) * sizeof(piece->cols[0]));
    batch_view(storage, bytes->len, piece->cols, peek->cols, &piece->ok);
    return ERR_OK;
}

/*
 * Takes the peek out first: fn may ask, cancel or drop anything. Batches are valid during fn only.
 */
static void peek_answer(struct controller *c, struct ctl_peek *peek,
                        struct ctl_peek_replica *replica)
{
    ASSERT(u64map_get(&c->peeks, peek->id) == peek);
    u64map_remove(&c->peeks, peek->id);
    if (peek->cluster->spec.replicas > 1) {
        send_cancel(peek);
    }
    if (replica->err != ERR_OK) {
        err_t err = replica->err;
        replica->err = ERR_OK;
        peek->fn(peek->arg, NULL, 0, err);
    } else {
        const struct batch **rows = mem_zalloc((replica->rows_len + 1) * sizeof(rows[0]));
        for (size_t i = 0; i < replica->rows_len; i++) {
            rows[i] = &replica->rows[i].ok;
        }
        peek->fn(peek->arg, rows, replica->rows_len, ERR_OK);
        free(rows);
    }
    peek_free(peek);
}

/* Would every replica say this? Errors of rows carry a SQLSTATE of the classes for data (21, 22,
 * 23...). Everything else is about the replica, also 22000, the state of what has none of its own:
 * "readable from 7, not at 5" is what a replica says that began later than the others. */
static bool is_error_of_data(const struct err *err)
{
    ASSERT(err != ERR_OK);
    const char *state = err_sqlstate(err);
    return err_code(err) == ERR_INVALID && state[0] == '2' && strcmp(state, "22000") != 0;
}

/* The peek's first failed replica, once no connected one can give rows any more; else NULL. */
static struct ctl_peek_replica *hopeless(struct ctl_peek *peek)
{
    const struct ctl_cluster *cluster = peek->cluster;
    ASSERT(peek->replicas_len == cluster->spec.replicas);
    struct ctl_peek_replica *failed = NULL;
    for (uint32_t r = 0; r < peek->replicas_len; r++) {
        struct ctl_peek_replica *answers = &peek->replicas[r];
        if (!cluster->replicas[r].ready) {
            continue; /* when it is back it is asked again, if somebody still waits */
        }
        if (answers->err == ERR_OK) {
            return NULL;
        }
        failed = failed == NULL ? answers : failed;
    }
    return failed;
}

/* Takes one process's answer into account; a second one of the same process is refused. */
static err_t take_answer(struct ctl_peek *peek, const struct ctl_replica *replica,
                         uint32_t process, const tailrace_v1_PeekResponse *message)
{
    struct ctl_peek_replica *answers = &peek->replicas[replica->index];
    ASSERT(process < replica->cluster->spec.scale);
    uint64_t bit = UINT64_C(1) << process % 64;
    if ((answers->answered[process / 64] & bit) != 0) {
        return err_new(ERR_PROTOCOL, "process %u answers peek %" PRIu64 " twice", process,
                       peek->id);
    }
    answers->answered[process / 64] |= bit;
    answers->answers++;
    ASSERT(answers->answers <= replica->cluster->spec.scale);
    err_t err = message->has_error ? plan_codec_decode_err(&message->error) : ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < message->rows_count; i++) {
        err = keep_rows(peek, answers, &message->rows[i].data);
    }
    if (answers->err == ERR_OK) {
        answers->err = err;
    } else {
        err_free(err); /* the first is told */
    }
    return ERR_OK;
}

err_t peek_response(struct ctl_replica *replica, uint32_t process,
                    const tailrace_v1_PeekResponse *message)
{
    struct controller *c = replica->cluster->controller;
    struct ctl_peek *peek = u64map_get(&c->peeks, message->id);
    if (peek == NULL || peek->cluster != replica->cluster) {
        return ERR_OK; /* answered by another replica, or cancelled */
    }
    TRY(take_answer(peek, replica, process, message));
    struct ctl_peek_replica *answers = &peek->replicas[replica->index];
    if (answers->err == ERR_OK && answers->answers < replica->cluster->spec.scale) {
        return ERR_OK; /* one process's error is the replica's: the others may never answer */
    }
    if (answers->err != ERR_OK && !is_error_of_data(answers->err)) {
        LOG_WARN("controller", "a replica cannot answer", LOG_STR("service", replica->service),
                 LOG_U64("peek", peek->id), LOG_ERR(answers->err));
        answers = hopeless(peek);
    }
    if (answers != NULL) {
        peek_answer(c, peek, answers);
    }
    return ERR_OK;
}

/* To all processes: each holds a part of the index. */
static void send_to(struct ctl_peek *peek, struct ctl_replica *replica)
{
    ASSERT(peek->cluster == replica->cluster && peek->message.len > 0);
    for (uint32_t p = 0; p < replica->cluster->spec.scale; p++) {
        ctl_conn_send_bytes(&replica->conns[p], &peek->message);
    }
}

/* A peek of a dataflow that waits for its imports waits with it: replicas do not know it yet. */
static bool waits(const struct controller *c, const struct ctl_peek *peek)
{
    const struct ctl_export *export = u64map_get(&c->exports, peek->index);
    return export != NULL && !export->dataflow->as_of_known;
}

/* The replicas that are ready know the dataflow since this turn; others hear of both by replay. */
void peek_dataflow_started(struct controller *c, const struct ctl_dataflow *dataflow)
{
    ASSERT(dataflow->as_of_known);
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->peeks, &at, &id, &value)) {
        struct ctl_peek *peek = value;
        const struct ctl_export *export = u64map_get(&c->exports, peek->index);
        if (export != NULL && export->dataflow == dataflow) {
            compute_broadcast(peek->cluster, &peek->message);
        }
    }
}

/* UNAVAILABLE: the adapter takes a later time and asks again. */
static err_t compacted(uint64_t time, uint64_t since)
{
    return err_new(ERR_UNAVAILABLE,
                   "the index is compacted beyond %" PRIu64 ", it can be read from %" PRIu64, time,
                   since);
}

/* Peeks that ask for history no replica has any more: their asker takes a later time. */
static void refuse_compacted(struct ctl_replica *replica)
{
    struct controller *c = replica->cluster->controller;
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->peeks, &at, &id, &value)) {
        struct ctl_peek *peek = value;
        const struct ctl_export *export = u64map_get(&c->exports, peek->index);
        if (peek->cluster != replica->cluster || export == NULL || peek->time >= export->since) {
            continue;
        }
        u64map_remove(&c->peeks, id);
        peek->fn(peek->arg, NULL, 0, compacted(peek->time, export->since));
        peek_free(peek);
        at = 0; /* the map changed */
    }
}

/*
 * In the middle of a replay, after the dataflows: the replica knows every index that can be read.
 */
void peek_replay(struct ctl_replica *replica)
{
    ASSERT(!replica->ready);
    refuse_compacted(replica);
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&replica->cluster->controller->peeks, &at, &id, &value)) {
        struct ctl_peek *peek = value;
        if (peek->cluster == replica->cluster && !waits(replica->cluster->controller, peek)) {
            answers_clear(&peek->replicas[replica->index]);
            send_to(peek, replica);
        }
    }
}

/*
 * Peeks that fail are answered from the loop: not from inside the call that asked or dropped what
 * they read, whose caller is not ready for its own callbacks.
 */
struct ctl_refusal {
    struct ctl_refusal *next;
    uint64_t id;
    controller_peek_fn fn;
    void *arg;
    err_t err;
};

/* Each may ask for more, and refuse more: the list is taken one by one. */
static void refusals_run(struct io_task *task)
{
    ASSERT(task->run == refusals_run);
    struct controller *c = CONTAINER_OF(task, struct controller, refusals_task);
    while (c->refusals != NULL) {
        struct ctl_refusal *refusal = c->refusals;
        c->refusals = refusal->next;
        refusal->fn(refusal->arg, NULL, 0, refusal->err);
        free(refusal);
    }
}

/* Owns err. In no order among each other. */
static void refuse(struct controller *c, uint64_t id, controller_peek_fn fn, void *arg, err_t err)
{
    ASSERT(fn != NULL && err != ERR_OK);
    struct ctl_refusal *refusal = MEM_NEW(struct ctl_refusal);
    *refusal = (struct ctl_refusal){
        .next = c->refusals, .id = id, .fn = fn, .arg = arg, .err = err};
    c->refusals = refusal;
    io_task_cancel(c->loop, &c->refusals_task); /* it may wait already */
    c->refusals_task.run = refusals_run;
    io_post(c->loop, &c->refusals_task);
}

/*
 * A replica's session ended; it is not ready any more. Its answers are void, and a peek that waited
 * for it beside replicas that failed is told their error, from the loop: the callers of on_lost
 * still use the session.
 */
void peek_replica_lost(struct ctl_replica *replica)
{
    struct controller *c = replica->cluster->controller;
    ASSERT(!replica->ready);
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->peeks, &at, &id, &value)) {
        struct ctl_peek *peek = value;
        if (peek->cluster != replica->cluster) {
            continue;
        }
        answers_clear(&peek->replicas[replica->index]);
        const struct ctl_peek_replica *failed = hopeless(peek);
        if (failed != NULL) {
            u64map_remove(&c->peeks, id);
            send_cancel(peek);
            refuse(c, id, peek->fn, peek->arg, err_copy(failed->err));
            peek_free(peek);
            at = 0; /* the map changed */
        }
    }
}

/* The peeks of an index that is gone or failed. Owns err. */
void peek_fail_index(struct controller *c, uint64_t cluster, uint64_t index, err_t err)
{
    ASSERT(err != ERR_OK);
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->peeks, &at, &id, &value)) {
        struct ctl_peek *peek = value;
        if (peek->cluster->spec.id != cluster || peek->index != index) {
            continue;
        }
        u64map_remove(&c->peeks, id);
        send_cancel(peek);
        refuse(c, id, peek->fn, peek->arg, err_copy(err));
        peek_free(peek);
        at = 0; /* the map changed */
    }
    err_free(err);
}

/* The peeks of a cluster that is dropped: its processes are gone already. Owns err. */
void peek_fail_cluster(struct controller *c, const struct ctl_cluster *cluster, err_t err)
{
    ASSERT(err != ERR_OK);
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->peeks, &at, &id, &value)) {
        struct ctl_peek *peek = value;
        if (peek->cluster != cluster) {
            continue;
        }
        u64map_remove(&c->peeks, id);
        refuse(c, id, peek->fn, peek->arg, err_copy(err));
        peek_free(peek);
        at = 0; /* the map changed */
    }
    err_free(err);
}

/* The kinds of the rows a peek returns: the index's, or its program's. */
static err_t result_kinds(const struct ctl_export *export, const struct mfp *mfp,
                          struct ctl_peek *peek)
{
    const struct schema *schema = &export->dataflow->plan->nodes[export->node].schema;
    struct arena arena = {0};
    struct type *types = schema->types;
    uint32_t cols = schema->cols;
    err_t err = ERR_OK;
    if (mfp != NULL) {
        err = mfp_validate(mfp, schema->types, schema->cols, &arena, &types);
        cols = mfp->project_len;
    }
    if (err == ERR_OK) {
        peek->cols = cols;
        ASSERT(cols <= BATCH_COLS_MAX);
        peek->kinds = mem_alloc(cols + 1);
        for (uint32_t i = 0; i < cols; i++) {
            peek->kinds[i] = types[i].kind;
        }
    }
    arena_free(&arena);
    return err;
}

/* The command as it is sent, kept for replays. */
static void encode_peek(const struct controller_peek *from, struct ctl_peek *peek)
{
    ASSERT(peek->id != 0 && peek->message.len == 0);
    struct arena arena = {0};
    tailrace_v1_ComputeCommand command = {0};
    command.which_command = tailrace_v1_ComputeCommand_peek_tag;
    tailrace_v1_Peek *message = &command.command.peek;
    *message = (tailrace_v1_Peek){
        .id = peek->id, .index = from->index, .time = from->time, .limit = from->limit};
    if (from->keys != NULL) {
        message->has_keys = true;
        message->keys.data = (struct rpc_bytes){from->keys->base, from->keys->size};
        message->key_kinds_count = (pb_size_t)from->keys->cols;
        message->key_kinds = ARENA_ARRAY(&arena, uint32_t, from->keys->cols);
        for (uint32_t i = 0; i < from->keys->cols; i++) {
            message->key_kinds[i] = from->keys->col[i].kind;
        }
    }
    if (from->mfp != NULL) {
        message->has_mfp = true;
        plan_codec_encode_mfp(from->mfp, &arena, &message->mfp);
    }
    message->order_count = (pb_size_t)from->order_len;
    message->order = plan_codec_encode_order(from->order, from->order_len, &arena);
    err_t err = rpc_pb_encode(tailrace_v1_ComputeCommand_fields, &command, &peek->message);
    ASSERT(err == ERR_OK); /* our own structures, bounded before */
    arena_free(&arena);
}

/* A peek that was refused but not yet told. */
static void refusal_cancel(struct controller *c, uint64_t id)
{
    for (struct ctl_refusal **at = &c->refusals; *at != NULL; at = &(*at)->next) {
        struct ctl_refusal *refusal = *at;
        if (refusal->id == id) {
            *at = refusal->next;
            err_free(refusal->err);
            free(refusal);
            return;
        }
    }
}

/* Sent at once to replicas that are ready, kept for those that are not. */
uint64_t controller_peek(struct controller *c, const struct controller_peek *from,
                         controller_peek_fn fn, void *arg)
{
    ASSERT(fn != NULL && from->index != 0);
    uint64_t id = ++c->next_peek;
    struct ctl_export *export = u64map_get(&c->exports, from->index);
    if (export == NULL || export->cluster->spec.id != from->cluster ||
        export->dataflow->failed) {
        refuse(c, id, fn, arg,
               err_new(ERR_NOT_FOUND, "no index %" PRIu64 " to read from", from->index));
        return id;
    }
    if (from->time < export->since) {
        refuse(c, id, fn, arg, compacted(from->time, export->since));
        return id;
    }
    struct ctl_peek *peek = MEM_NEW(struct ctl_peek);
    peek->id = id;
    peek->cluster = export->cluster;
    peek->index = from->index;
    peek->time = from->time;
    peek->fn = fn;
    peek->arg = arg;
    peek->replicas_len = export->cluster->spec.replicas;
    peek->replicas = mem_zalloc((peek->replicas_len + 1) * sizeof(peek->replicas[0]));
    err_t err = result_kinds(export, from->mfp, peek);
    if (err != ERR_OK) {
        peek_free(peek);
        refuse(c, id, fn, arg, err);
        return id;
    }
    encode_peek(from, peek);
    u64map_put(&c->peeks, id, peek);
    if (export->dataflow->as_of_known) {
        compute_broadcast(peek->cluster, &peek->message);
    }
    return id;
}

/*
 * Also one that was refused but not yet told. Unknown ids are ignored: it may have been answered.
 */
void controller_peek_cancel(struct controller *c, uint64_t peek_id)
{
    struct ctl_peek *peek = u64map_remove(&c->peeks, peek_id);
    if (peek != NULL) {
        send_cancel(peek);
        peek_free(peek);
    } else {
        refusal_cancel(c, peek_id);
    }
}

/* No callback is made any more. */
void peek_free_all(struct controller *c)
{
    io_task_cancel(c->loop, &c->refusals_task);
    while (c->refusals != NULL) {
        refusal_cancel(c, c->refusals->id);
    }
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->peeks, &at, &id, &value)) {
        peek_free(value);
    }
    u64map_free(&c->peeks);
}
