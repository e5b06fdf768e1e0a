/*
 * The main loop of storaged: the controller's session, the boundary, what all workers hold.
 *
 * Life: storaged_start makes the workers' directories and threads, serve() listens for the
 * controller. A session's Hello opens storage under its epoch, on every worker, the first time; the
 * Hello is answered when storage is open and no append of an earlier session is under way (greet).
 * Commands that come before wait. At InitializationComplete what was not named is dropped, and the
 * boundary opens.
 *
 *     Hello -> open_storage -> storaged_on_opened (each worker) -> greet -> commands -> ...
 *
 * Who touches what: everything in struct storaged and in the collections belongs to the main loop.
 * Workers are asked and answer by mail (ctrl/runtime/mail.h), in order per pair of loops, so the
 * answer to an order comes after the news that led to it. The same holds for worker 0, although it
 * runs on this very loop.
 *
 * Trust: a command is a message of another process. Whatever in it makes no sense ends the session
 * with an error that says why (run_command); nothing in it may stop the process.
 *
 * Bounds: an entry a collection that exists or is being dropped (storaged_frontiers_flush forgets
 * it), one status a worker, one message of frontiers a loop turn.
 */
#include "ctrl/storaged/storaged.h"

#include "core/base/log.h"
#include "core/base/mem.h"
#include "ctrl/pki/pki.h"
#include "ctrl/plan/plan_codec.h"
#include "ctrl/storaged/storaged_internal.h"

#include <inttypes.h>

/*
 * Tables live on storage worker 0 of the whole storage alone, so that an append is one record of
 * one log.
 */
static bool is_part(const struct storaged *storaged, const struct storaged_collection *collection,
                    uint32_t local)
{
    ASSERT(local < storaged->config.workers);
    return collection->kind != STORAGE_TABLE || storaged->workers[local].global == 0;
}

/* The entry of a collection, made when there is none: a run, or news of what was found on disk. */
static struct storaged_collection *collection_get(struct storaged *storaged, uint64_t id)
{
    struct storaged_collection *collection = u64map_get(&storaged->collections, id);
    if (collection == NULL) {
        uint32_t workers = storaged->config.workers;
        collection = MEM_NEW(struct storaged_collection);
        collection->id = id;
        collection->uppers = mem_zalloc(workers * sizeof(uint64_t));
        collection->sinces = mem_zalloc(workers * sizeof(uint64_t));
        collection->readies = mem_zalloc(workers * sizeof(uint64_t));
        collection->health = mem_zalloc(workers * sizeof(collection->health[0]));
        u64map_put(&storaged->collections, id, collection);
        ASSERT(!collection->named && collection->kind == 0);
    }
    return collection;
}

/* The list of those that moved names ids: the caller sees to it that none is left there. */
static void collection_free(struct storaged_collection *collection, uint32_t workers)
{
    ASSERT(collection->uppers != NULL && workers > 0);
    for (uint32_t w = 0; w < workers; w++) {
        free(collection->health[w].reason);
        free(collection->health[w].hint);
    }
    free(collection->health);
    free(collection->uppers);
    free(collection->sinces);
    free(collection->readies);
    free(collection);
}

/* Somebody is there who was greeted: may be told of things. */
static bool session_ready(const struct storaged *storaged)
{
    return runtime_in_session(storaged->runtime) && !storaged->greeting;
}

/* ---- news from workers ----------------------------------------------------------------------- */

/* Its frontiers may have to be sent: looked at with the next flush, so that a flush costs what
 * changed and not what there is. */
static void mark_moved(struct storaged *storaged, struct storaged_collection *collection)
{
    ASSERT(u64map_get(&storaged->collections, collection->id) == collection);
    if (!collection->moved) {
        collection->moved = true;
        *VEC_PUSH(storaged, moved) = collection->id;
    }
}

/* No worker has a part of it any more, and nobody has asked for it since. */
static bool is_gone(const struct storaged *storaged, const struct storaged_collection *collection)
{
    bool gone = !collection->named || collection->dropping;
    for (uint32_t w = 0; w < storaged->config.workers && gone; w++) {
        gone = !is_part(storaged, collection, w) || collection->sinces[w] == FRONTIER_EMPTY;
    }
    return gone;
}

void storaged_on_frontier(struct storaged *storaged, uint32_t worker,
                          const struct storaged_frontier *news)
{
    ASSERT(worker < storaged->config.workers);
    struct storaged_collection *collection = u64map_get(&storaged->collections, news->id);
    bool dropped = news->since == FRONTIER_EMPTY;
    bool wanted = collection != NULL && collection->named && !collection->dropping;
    if (dropped && (collection == NULL || wanted)) {
        return; /* forgotten already; or news of a predecessor of the same id */
    }
    collection = collection_get(storaged, news->id);
    collection->uppers[worker] = news->upper;
    collection->sinces[worker] = news->since;
    collection->readies[worker] = news->ready;
    mark_moved(storaged, collection);
}

/* The meet over the workers that hold a part: complete where all are, ready when all are. */
static struct storaged_frontier meet(const struct storaged *storaged,
                                     const struct storaged_collection *collection)
{
    struct storaged_frontier f = {.id = collection->id, .upper = FRONTIER_EMPTY};
    ASSERT(storaged->config.workers > 0);
    bool ready = true;
    for (uint32_t w = 0; w < storaged->config.workers; w++) {
        if (!is_part(storaged, collection, w)) {
            continue;
        }
        f.upper = collection->uppers[w] < f.upper ? collection->uppers[w] : f.upper;
        f.since = collection->sinces[w] > f.since ? collection->sinces[w] : f.since;
        f.ready = collection->readies[w] > f.ready ? collection->readies[w] : f.ready;
        ready = ready && collection->readies[w] > 0;
    }
    f.ready = ready ? f.ready : 0;
    return f;
}

/* Adds the collection's frontiers to the message when the session does not have them yet. */
static void flush_one(struct storaged *storaged, struct storaged_collection *collection,
                      tailrace_v1_Frontiers *out)
{
    ASSERT(collection->named);
    struct storaged_frontier f = meet(storaged, collection);
    if (f.upper == collection->upper_sent && f.since == collection->since_sent &&
        f.ready == collection->ready_sent) {
        return;
    }
    collection->upper_sent = f.upper;
    collection->since_sent = f.since;
    collection->ready_sent = f.ready;
    out->frontiers[out->frontiers_count++] = (tailrace_v1_Frontier){
        .id = f.id, .upper = f.upper, .since = f.since, .ready = f.ready};
}

/*
 * Tells the session what moved, and forgets what is gone: a collection costs nothing here once it
 * was dropped. Without a session the news waits for one; a session that has not named a collection
 * does not hear of it.
 */
void storaged_frontiers_flush(struct storaged *storaged)
{
    bool ready = session_ready(storaged);
    tailrace_v1_StorageResponse response = {0};
    response.which_response = tailrace_v1_StorageResponse_frontiers_tag;
    tailrace_v1_Frontiers *out = &response.response.frontiers;
    out->frontiers = mem_zalloc((storaged->moved_len + 1) * sizeof(out->frontiers[0]));
    size_t kept = 0;
    for (size_t i = 0; i < storaged->moved_len; i++) {
        uint64_t id = storaged->moved[i];
        struct storaged_collection *collection = u64map_get(&storaged->collections, id);
        ASSERT(collection != NULL && collection->moved); /* forgotten only below */
        ASSERT(kept <= i);
        if (collection->named && !ready) {
            storaged->moved[kept++] = id;
            continue;
        }
        collection->moved = false;
        if (collection->named) {
            flush_one(storaged, collection, out);
        }
        if (is_gone(storaged, collection)) {
            u64map_remove(&storaged->collections, id);
            collection_free(collection, storaged->config.workers);
        }
    }
    storaged->moved_len = kept;
    if (out->frontiers_count > 0) {
        out->active = storaged->active;
        ASSERT(ready); /* what is named waits for a session otherwise */
        storaged->active = false;
        runtime_send(storaged->runtime, tailrace_v1_StorageResponse_fields, &response);
    }
    free(out->frontiers);
}

/* Data came to one worker: the others' quiet sources pass its times, too, so that a join of both is
 * as fresh. The controller hears of it for the sake of other processes. */
void storaged_on_active(struct storaged *storaged, uint32_t worker)
{
    ASSERT(worker < storaged->config.workers);
    storaged->active = true;
    for (uint32_t w = 0; w < storaged->config.workers; w++) {
        if (w != worker) {
            storaged_worker_wake(&storaged->workers[w]);
        }
    }
}

/* ---- health ---------------------------------------------------------------------------------- */

/* A word not heard yet counts for nothing. */
static int badness(const struct storaged_health *health)
{
    ASSERT(health->status <= STORAGE_DROPPED);
    return health->known ? storage_status_badness(health->status) : -1;
}

/* The worst worker's word on the collection; nothing when no worker has said anything. */
static void send_status(struct storaged *storaged, struct storaged_collection *collection)
{
    uint32_t worst = 0;
    for (uint32_t w = 1; w < storaged->config.workers; w++) {
        if (badness(&collection->health[w]) > badness(&collection->health[worst])) {
            worst = w;
        }
    }
    const struct storaged_health *health = &collection->health[worst];
    if (!health->known) {
        return;
    }
    collection->health_sent = worst;
    tailrace_v1_StorageResponse response = {0};
    response.which_response = tailrace_v1_StorageResponse_status_tag;
    response.response.status =
        (tailrace_v1_StatusUpdate){.id = collection->id,
                                   .worker = storaged->workers[worst].global,
                                   .status = health->status,
                                   .reason = health->reason,
                                   .hint = health->hint};
    runtime_send(storaged->runtime, tailrace_v1_StorageResponse_fields, &response);
}

/* Told when it is, or was, the worst: the others' words change nothing for the user. */
void storaged_on_status(struct storaged *storaged, uint32_t local, uint64_t id,
                        enum storage_status status, const char *reason, const char *hint)
{
    ASSERT(local < storaged->config.workers && reason != NULL && hint != NULL);
    if (status == STORAGE_DROPPED && u64map_get(&storaged->collections, id) == NULL) {
        return; /* nobody knows it any more */
    }
    struct storaged_collection *collection = collection_get(storaged, id);
    struct storaged_health *health = &collection->health[local];
    int before = badness(&collection->health[collection->health_sent]);
    free(health->reason);
    free(health->hint);
    *health = (struct storaged_health){.known = true,
                                       .status = status,
                                       .reason = mem_strdup(reason),
                                       .hint = mem_strdup(hint)};
    bool matters = local == collection->health_sent || badness(health) > before;
    if (matters && session_ready(storaged)) {
        send_status(storaged, collection);
    }
}

/* A new session hears how every collection is. */
static void send_statuses(struct storaged *storaged)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&storaged->collections, &at, &id, &value)) {
        send_status(storaged, value);
    }
}

static void greet(struct storaged *storaged);

/* Also without a session: a Hello may wait for it, and last_append tells the next session. */
void storaged_on_appended(struct storaged *storaged, uint64_t time, err_t err)
{
    ASSERT(storaged->appends > 0);
    storaged->appends--;
    ASSERT(storaged->opened);
    if (err == ERR_OK && time > storaged->last_append) {
        storaged->last_append = time;
    }
    if (session_ready(storaged)) {
        struct arena arena = {0};
        tailrace_v1_StorageResponse response = {0};
        response.which_response = tailrace_v1_StorageResponse_append_tag;
        response.response.append.time = time;
        if (err != ERR_OK) {
            response.response.append.has_error = true;
            plan_codec_encode_err(err, &arena, &response.response.append.error);
        }
        runtime_send(storaged->runtime, tailrace_v1_StorageResponse_fields, &response);
        arena_free(&arena);
    }
    err_free(err);
    if (storaged->greeting) {
        greet(storaged);
    }
}

/* Once a session waits for it: on every worker that has not opened its storage yet. */
static void open_storage(struct storaged *storaged)
{
    ASSERT(storaged->config.workers > 0);
    if (storaged->opened || storaged->opening > 0 || !storaged->greeting) {
        return;
    }
    storaged->opening = storaged->config.workers;
    for (uint32_t w = 0; w < storaged->config.workers; w++) {
        storaged_worker_open(&storaged->workers[w], storaged->epoch);
    }
}

/*
 * Fails as a whole when one worker does; workers that are open stay so, and say so the next time.
 */
void storaged_on_opened(struct storaged *storaged, err_t err, uint64_t last_append)
{
    ASSERT(storaged->opening > 0);
    storaged->opening--;
    ASSERT(!storaged->opened && storaged->opening < storaged->config.workers);
    if (err != ERR_OK) {
        LOG_ERROR("storaged", "storage does not open", LOG_ERR(err));
        storaged->open_failed = true; /* the next session tries again */
        runtime_end_session(storaged->runtime, err);
    } else if (last_append > storaged->last_append) {
        storaged->last_append = last_append;
    }
    if (storaged->opening == 0 && storaged->open_failed) {
        storaged->open_failed = false;
        open_storage(storaged);
    } else if (storaged->opening == 0) {
        storaged->opened = true;
        for (uint32_t w = 0; w < storaged->config.workers; w++) {
            storaged_worker_announce(&storaged->workers[w]);
        }
        greet(storaged);
    }
}

/* ---- commands -------------------------------------------------------------------------------- */

/* What can be checked without a worker; the rest is storage_run's. */
static err_t decode_collection(const tailrace_v1_RunCollection *message, struct run_order *order)
{
    struct storage_collection *c = &order->collection;
    if (!message->has_schema || message->kind < STORAGE_TABLE || message->kind > STORAGE_FILE) {
        return err_new(ERR_PROTOCOL, "collection %" PRIu64 " of unknown kind %u", message->id,
                       message->kind);
    }
    struct schema schema;
    TRY(plan_codec_decode_schema(&message->schema, &order->arena, &schema));
    *c = (struct storage_collection){.id = message->id,
                                     .kind = (enum storage_kind)message->kind,
                                     .types = schema.types,
                                     .names = schema.names,
                                     .cols = schema.cols};
    if (c->kind == STORAGE_TABLE) {
        return ERR_OK;
    }
    const tailrace_v1_FileOptions *file = &message->file;
    bool known = file->format == STORAGE_CSV || file->format == STORAGE_JSON_LINES;
    if (!message->has_file || file->path == NULL || !known || file->csv_delimiter > 0x7F ||
        file->csv_quote > 0x7F) {
        return err_new(ERR_PROTOCOL, "file collection %" PRIu64 " without path or format",
                       message->id);
    }
    c->path = arena_strdup(&order->arena, file->path);
    c->format = (enum storage_format)file->format;
    c->tail = file->tail;
    c->csv_header = file->csv_header;
    c->csv_delimiter = (char)file->csv_delimiter;
    c->csv_quote = (char)file->csv_quote;
    if (file->has_csv_null) {
        c->csv_null =
            arena_strdup(&order->arena, file->csv_null != NULL ? file->csv_null : "");
    }
    return ERR_OK;
}

/*
 * A worker that refuses the collection says so with a status, not to the session: the others go on.
 */
static err_t run_collection(struct storaged *storaged, const tailrace_v1_RunCollection *message)
{
    struct storaged_collection *collection = collection_get(storaged, message->id);
    collection->kind = (enum storage_kind)message->kind;
    collection->named = true;
    ASSERT(storaged->opened);
    collection->dropping = false;
    collection->upper_sent = collection->since_sent = collection->ready_sent = 0;
    for (uint32_t w = 0; w < storaged->config.workers; w++) {
        if (collection->sinces[w] == FRONTIER_EMPTY) {
            collection->sinces[w] = collection->uppers[w] = 0; /* a predecessor's */
        }
        if (!is_part(storaged, collection, w)) {
            continue;
        }
        struct run_order *order = MEM_NEW(struct run_order);
        err_t err = decode_collection(message, order);
        if (err != ERR_OK) {
            arena_free(&order->arena);
            free(order);
            return err;
        }
        storaged_worker_run(&storaged->workers[w], order);
    }
    return ERR_OK;
}

/* Kinds are not checked here but against the table's schema by storage_append. */
static err_t decode_append(const tailrace_v1_Append *message, struct append_order *order)
{
    ASSERT(order->writes_len == 0);
    order->time = message->time;
    order->writes = ARENA_ARRAY(&order->arena, struct storage_write, message->writes_count);
    order->batches = ARENA_ARRAY(&order->arena, struct batch, message->writes_count);
    order->storage = ARENA_ARRAY(&order->arena, void *, message->writes_count);
    for (size_t i = 0; i < message->writes_count; i++) {
        const tailrace_v1_TableWrite *write = &message->writes[i];
        if (!write->has_batch) {
            return err_new(ERR_PROTOCOL, "append without rows for table %" PRIu64, write->id);
        }
        TRY(plan_codec_open_batch(&write->batch.data, NULL, BATCH_COLS_MAX, &order->arena,
                                  &order->storage[i], &order->batches[i]));
        order->writes_len = i + 1;
        order->writes[i] =
            (struct storage_write){.id = write->id, .batch = &order->batches[i]};
    }
    return ERR_OK;
}

/*
 * Batches are opened (validated) and copied here, on the main loop; the worker logs them. The
 * answer comes with storaged_on_appended, in the order of the appends.
 */
static err_t append(struct storaged *storaged, const tailrace_v1_Append *message)
{
    if (storaged->workers[0].global != 0) {
        return err_new(ERR_PROTOCOL, "tables live on storage worker 0, not in this process");
    }
    struct append_order *order = MEM_NEW(struct append_order);
    err_t err = decode_append(message, order);
    if (err != ERR_OK) {
        append_order_free(order);
        return err_wrap(err, "append at %" PRIu64, message->time);
    }
    storaged->appends++;
    ASSERT(storaged->workers[0].local == 0 && storaged->appends > 0);
    storaged_worker_append(&storaged->workers[0], order);
    return ERR_OK;
}

/*
 * FRONTIER_EMPTY drops. An id nobody knows is no error: a session may repeat what an earlier one
 * asked.
 */
static void allow_compaction(struct storaged *storaged, uint64_t id, uint64_t since)
{
    ASSERT(storaged->opened);
    struct storaged_collection *collection = u64map_get(&storaged->collections, id);
    if (collection == NULL) {
        return; /* dropped already: an order that was sent again */
    }
    collection->dropping = collection->dropping || since == FRONTIER_EMPTY;
    for (uint32_t w = 0; w < storaged->config.workers; w++) {
        if (is_part(storaged, collection, w)) {
            storaged_worker_compact(&storaged->workers[w], id, since);
        }
    }
}

/* Once for the life of the process; later sessions change its epoch only. */
static err_t open_boundary(struct storaged *storaged)
{
    ASSERT(storaged->boundary == NULL && storaged->opened);
    const struct storaged_config *config = &storaged->config;
    int carrier = 0;
    TRY(runtime_carrier_parse(config->carrier, &carrier));
    struct boundary_server_config boundary = {
        .address = config->storage_address,
        .unix_path = config->storage_unix_path,
        .tls = storaged->boundary_tls,
        .check_peer = storaged->boundary_tls != NULL ? runtime_check_peer : NULL,
        .check_ctx = &storaged->boundary_peers,
        .self = {.process = config->process,
                 .generation = storaged->started_us,
                 .epoch = storaged->epoch,
                 .node_secret_path = config->node_secret_path},
        .carrier = (enum boundary_carrier)carrier,
        .workers = config->workers,
        .worker_base = config->process * config->workers,
        .backend = &storaged_boundary_backend,
        .metrics = config->metrics,
    };
    memcpy(boundary.self.environment, storaged->environment, 16);
    TRY(err_wrap(boundary_server_new(storaged->loop, &boundary, &storaged->boundary),
                 "opening the storage boundary on %s", config->storage_address));
    for (uint32_t w = 0; w < config->workers; w++) {
        storaged_worker_serve(&storaged->workers[w], storaged->boundary);
    }
    LOG_INFO("storaged", "boundary open",
             LOG_STR("address", boundary_server_address(storaged->boundary)));
    return ERR_OK;
}

/* The session has named every collection: the rest goes, and subscribers may come. */
static err_t initialization_complete(struct storaged *storaged)
{
    ASSERT(storaged->opened && !storaged->greeting);
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&storaged->collections, &at, &id, &value)) {
        struct storaged_collection *collection = value;
        if (!collection->named) {
            LOG_INFO("storaged", "dropping a collection the catalog does not hold",
                     LOG_U64("id", id));
            allow_compaction(storaged, id, FRONTIER_EMPTY);
        }
    }
    return storaged->boundary == NULL ? open_boundary(storaged) : ERR_OK;
}

/* Other processes have no tables. A time no clock shows would be promised for ever: refused. */
static err_t advance_tables(struct storaged *storaged, uint64_t upper)
{
    if (upper > TIME_MAX / 2) {
        return err_new(ERR_PROTOCOL, "tables cannot advance to %" PRIu64, upper);
    }
    if (storaged->workers[0].global == 0) {
        storaged_worker_advance(&storaged->workers[0], upper);
    }
    return ERR_OK;
}

/* A reader or writer is busy: see storage_wake. */
static void wake(struct storaged *storaged)
{
    ASSERT(storaged->opened);
    for (uint32_t w = 0; w < storaged->config.workers; w++) {
        storaged_worker_wake(&storaged->workers[w]);
    }
}

/* Only after the Hello was answered: storage is open. */
static err_t handle_command(struct storaged *storaged, const tailrace_v1_StorageCommand *command)
{
    ASSERT(storaged->opened && !storaged->greeting);
    switch (command->which_command) {
    case tailrace_v1_StorageCommand_run_tag: return run_collection(storaged, &command->command.run);
    case tailrace_v1_StorageCommand_append_tag: return append(storaged, &command->command.append);
    case tailrace_v1_StorageCommand_advance_tables_tag:
        return advance_tables(storaged, command->command.advance_tables.upper);
    case tailrace_v1_StorageCommand_wake_tag:
        wake(storaged);
        return ERR_OK;
    case tailrace_v1_StorageCommand_allow_compaction_tag:
        allow_compaction(storaged, command->command.allow_compaction.id,
                         command->command.allow_compaction.frontier);
        return ERR_OK;
    case tailrace_v1_StorageCommand_initialization_complete_tag:
        return initialization_complete(storaged);
    case tailrace_v1_StorageCommand_report_stats_tag:
        storaged_report_stats(storaged, &command->command.report_stats);
        return ERR_OK;
    default:
        return err_new(ERR_PROTOCOL, "unexpected storage command %u", command->which_command);
    }
}

/* An error ends the session: the peer is not ours, or of another version. */
static err_t run_command(struct storaged *storaged, const uint8_t *data, size_t len)
{
    ASSERT(data != NULL || len == 0);
    tailrace_v1_StorageCommand command;
    TRY(rpc_decode_pb(tailrace_v1_StorageCommand_fields, &command, data, len));
    err_t err = handle_command(storaged, &command);
    rpc_release_pb(tailrace_v1_StorageCommand_fields, &command);
    return err;
}

static void waiting_clear(struct storaged *storaged)
{
    for (size_t i = 0; i < storaged->waiting_len; i++) {
        buf_free(&storaged->waiting[i]);
    }
    storaged->waiting_len = 0;
}

/*
 * Answers the Hello once storage is open and no append of an earlier session is under way: only
 * then does last_append tell the controller which of its unanswered appends were applied.
 */
static void greet(struct storaged *storaged)
{
    if (!storaged->greeting || !storaged->opened || storaged->appends > 0) {
        return;
    }
    storaged->greeting = false;
    tailrace_v1_StorageResponse response = {0};
    response.which_response = tailrace_v1_StorageResponse_hello_tag;
    response.response.hello = (tailrace_v1_StorageHello){.version = RUNTIME_PROTOCOL_VERSION,
                                                         .nonce = storaged->nonce,
                                                         .process = storaged->config.process,
                                                         .workers = storaged->config.workers,
                                                         .last_append = storaged->last_append};
    runtime_send(storaged->runtime, tailrace_v1_StorageResponse_fields, &response);
    send_statuses(storaged);
    err_t err = ERR_OK;
    for (size_t i = 0; i < storaged->waiting_len && err == ERR_OK; i++) {
        err = run_command(storaged, storaged->waiting[i].data, storaged->waiting[i].len);
    }
    waiting_clear(storaged);
    if (err != ERR_OK) {
        runtime_end_session(storaged->runtime, err);
    }
}

/* runtime.c has checked environment, epoch and version, and ended the session before. */
static void on_hello(void *ctx, uint64_t epoch, uint64_t nonce)
{
    struct storaged *storaged = ctx;
    storaged->epoch = epoch;
    if (storaged->boundary != NULL) {
        boundary_server_set_epoch(storaged->boundary, epoch);
    }
    storaged->nonce = nonce;
    storaged->greeting = true;
    waiting_clear(storaged);
    stats_clear(&storaged->stats);
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&storaged->collections, &at, &id, &value)) {
        struct storaged_collection *collection = value;
        collection->named = false;
        collection->upper_sent = collection->since_sent = collection->ready_sent = 0;
    }
    open_storage(storaged);
    greet(storaged);
}

/*
 * Before the Hello is answered commands wait, in order: the controller does not wait for the
 * answer.
 */
static err_t on_command(void *ctx, const uint8_t *data, size_t len)
{
    struct storaged *storaged = ctx;
    if (storaged->greeting) {
        buf_append(VEC_PUSH(storaged, waiting), data, len);
        return ERR_OK;
    }
    return run_command(storaged, data, len);
}

/* What the session asked for goes on; only answers have nobody to go to. */
static void on_lost(void *ctx)
{
    struct storaged *storaged = ctx;
    storaged->greeting = false;
    waiting_clear(storaged);
    stats_clear(&storaged->stats);
}

static const struct runtime_handler session_handler = {
    .hello = on_hello, .command = on_command, .lost = on_lost};

/* ---- life ------------------------------------------------------------------------------------ */

/* From the command line: wrong values are the operator's, not a bug. */
static err_t check_config(const struct storaged_config *config)
{
    ASSERT(config->carrier != NULL && config->data_directory != NULL);
    int carrier = 0;
    TRY(runtime_carrier_parse(config->carrier, &carrier));
    if (config->workers == 0 || config->process >= config->processes) {
        return err_new(ERR_INVALID, "process %u of %u with %u workers", config->process,
                       config->processes, config->workers);
    }
    return ERR_OK;
}

/* Every worker has its loop: the controller may come. */
static err_t serve(void *arg)
{
    ASSERT(arg != NULL);
    struct storaged *storaged = arg;
    for (uint32_t w = 0; w < storaged->config.workers; w++) {
        storaged->workers[w].loop = threads_loop(&storaged->threads, w);
    }
    struct runtime_config runtime = {.loop = storaged->loop,
                                     .address = storaged->config.controller_address,
                                     .environment = storaged->config.environment,
                                     .tls = storaged->config.tls,
                                     .session_path = "/tailrace.v1.Storage/Session",
                                     .handler = &session_handler,
                                     .ctx = storaged};
    TRY(runtime_new(&runtime, &storaged->runtime));
    LOG_INFO("storaged", "ready for the controller",
             LOG_STR("address", runtime_address(storaged->runtime)),
             LOG_U64("process", storaged->config.process),
             LOG_U64("workers", storaged->config.workers));
    return ERR_OK;
}

/* One directory a worker, named by its global index: a process always finds its own again. */
static err_t start_workers(struct storaged *storaged)
{
    ASSERT(storaged->workers == NULL);
    const struct storaged_config *config = &storaged->config;
    storaged->workers = mem_zalloc(config->workers * sizeof(storaged->workers[0]));
    for (uint32_t w = 0; w < config->workers; w++) {
        struct storaged_worker *worker = &storaged->workers[w];
        worker->owner = storaged;
        worker->local = w;
        worker->global = config->process * config->workers + w;
        struct buf path = {0};
        buf_printf(&path, "%s/worker-%u", config->data_directory, worker->global);
        worker->directory = mem_strdup(buf_cstr(&path));
        buf_free(&path);
        TRY(io_mkdir_durable_sync(storaged->loop, worker->directory, 0700));
    }
    const struct threads_config threads = {.loop = storaged->loop,
                                           .mailroom = &storaged->mailroom,
                                           .name = "storaged",
                                           .workers = config->workers,
                                           .counters = metrics_counters(config->metrics),
                                           .ready = serve,
                                           .arg = storaged};
    return threads_start(&storaged->threads, &threads);
}

static err_t start(struct storaged *storaged)
{
    ASSERT(storaged->runtime == NULL);
    const struct storaged_config *config = &storaged->config;
    TRY(check_config(config));
    TRY(runtime_environment_parse(config->environment, storaged->environment));
    TRY(runtime_tls_context(&config->tls, true, NULL, &storaged->boundary_tls));
    TRY(err_wrap(io_mkdir_durable_sync(storaged->loop, config->data_directory, 0700),
                 "making the data directory"));
    return start_workers(storaged);
}

err_t storaged_start(struct io_loop *loop, const struct storaged_config *config,
                     struct storaged **out)
{
    ASSERT(loop != NULL && config != NULL && out != NULL);
    struct storaged *storaged = MEM_NEW(struct storaged);
    storaged->config = *config;
    storaged->loop = loop;
    storaged->started_us = io_now_us(loop);
    storaged->boundary_peers = (struct runtime_peer_check){
        .environment = config->environment, .roles = PKI_ROLE_BIT(PKI_COMPUTED)};
    mailroom_init(&storaged->mailroom);
    storaged_stats_init(storaged);
    err_t err = start(storaged);
    if (err != ERR_OK) {
        storaged_free(storaged);
        return err;
    }
    *out = storaged;
    return ERR_OK;
}

void storaged_stop(struct storaged *storaged, void (*done)(void *arg), void *arg)
{
    threads_stop(&storaged->threads, storaged->runtime, done, arg);
}

/* The runtime and the boundary go first: nobody asks a worker for anything any more. */
void storaged_free(struct storaged *storaged)
{
    if (storaged == NULL) {
        return;
    }
    runtime_free(storaged->runtime);
    stats_clear(&storaged->stats);
    boundary_server_free(storaged->boundary);
    for (uint32_t w = 0; storaged->workers != NULL && w < storaged->config.workers; w++) {
        storaged_worker_free(&storaged->workers[w]);
    }
    free(storaged->workers);
    mailroom_free(&storaged->mailroom);
    threads_free(&storaged->threads);
    tls_context_free(storaged->boundary_tls);
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&storaged->collections, &at, &id, &value)) {
        collection_free(value, storaged->config.workers);
    }
    u64map_free(&storaged->collections);
    free(storaged->moved);
    waiting_clear(storaged);
    free(storaged->waiting);
    free(storaged);
}

const char *storaged_controller_address(const struct storaged *storaged)
{
    return storaged->runtime != NULL ? runtime_address(storaged->runtime) : "";
}

bool storaged_ready(const struct storaged *storaged)
{
    return storaged->opened && storaged->boundary != NULL;
}

size_t storaged_collections(const struct storaged *storaged)
{
    return storaged->collections.len;
}
