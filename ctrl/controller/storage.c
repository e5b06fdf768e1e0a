/*
 * The storage controller: which collections exist, what was appended, how far each is complete.
 * environmentd's loop.
 *
 * Appends are answered exactly once. They go to the process of storage worker 0 in order; one whose
 * answer was lost with the connection is settled at the next Hello, which names the time of the
 * last durable append: appends up to it were applied, later ones are sent again. Times of appends
 * grow, so a time names its append. A late answer of the old stream cannot come: a session is one
 * stream.
 *
 * What a storage process must run is its history, as for replicas: on each Hello all collections it
 * holds a part of, then InitializationComplete if everything is known, then the appends that wait
 * and how far tables are promised.
 *
 * Frontiers of the processes are kept over a lost session: storage's history never changes, so what
 * was complete stays complete.
 */
#include "ctrl/controller/controller_internal.h"

#include "core/base/log.h"
#include "core/base/mem.h"

#include <inttypes.h>

enum { STORAGE_WAKE_US = 50000 }; /* storage stays awake for four times as long */

/* NULL when it is not known, or was dropped. */
struct ctl_collection *storage_collection(const struct controller *c, uint64_t id)
{
    ASSERT(c != NULL);
    return u64map_get(&c->collections, id);
}

/* Tables live on storage worker 0, which is process 0's; sources on all workers. */
static bool is_part(const struct ctl_collection *collection, uint32_t process)
{
    ASSERT(collection->kind == STORAGE_TABLE || collection->kind == STORAGE_FILE);
    return collection->kind != STORAGE_TABLE || process == 0;
}

/* Every process that holds a part has said how far it is. */
bool storage_collection_known(const struct ctl_collection *collection)
{
    return collection->upper > 0;
}

/* The latest of what was allowed and of what any process says it is at. */
uint64_t storage_collection_since(const struct controller *c,
                                  const struct ctl_collection *collection)
{
    uint64_t since = collection->since;
    for (uint32_t p = 0; p < c->config.storage_processes; p++) {
        if (is_part(collection, p) && collection->sinces[p] > since) {
            since = collection->sinces[p];
        }
    }
    return since;
}

/* Our own structures: what cannot be encoded is a bug, or out of memory. */
static void encode_storage(const tailrace_v1_StorageCommand *command, struct buf *out)
{
    err_t err = rpc_pb_encode(tailrace_v1_StorageCommand_fields, command, out);
    ASSERT(err == ERR_OK); /* our own structures, bounded before */
}

/* ---- frontiers ------------------------------------------------------------------------------- */

/* The meet over the processes that hold a part. */
static void update_upper(const struct controller *c, struct ctl_collection *collection)
{
    ASSERT(collection->uppers != NULL);
    uint64_t upper = FRONTIER_EMPTY;
    for (uint32_t p = 0; p < c->config.storage_processes; p++) {
        if (is_part(collection, p) && collection->uppers[p] < upper) {
            upper = collection->uppers[p];
        }
    }
    if (upper <= collection->upper) {
        return;
    }
    collection->upper = upper;
}

/* Told once: what the files held at first lies below it, whatever comes later. */
static void update_ready(struct controller *c, struct ctl_collection *collection)
{
    uint64_t ready = 0;
    for (uint32_t p = 0; p < c->config.storage_processes; p++) {
        if (is_part(collection, p) && collection->readies[p] == 0) {
            return;
        }
        ready = collection->readies[p] > ready ? collection->readies[p] : ready;
    }
    if (collection->ready != 0) {
        return;
    }
    collection->ready = ready;
    if (c->config.events->storage_ready != NULL) {
        c->config.events->storage_ready(c->config.ctx, collection->id, ready);
    }
}

/* Data in one process: sources in the others pass its times, too, at most a few times a second. */
static void wake_others(struct controller *c, uint32_t process)
{
    tailrace_v1_StorageCommand command = {0};
    command.which_command = tailrace_v1_StorageCommand_wake_tag;
    for (uint32_t p = 0; p < c->config.storage_processes; p++) {
        if (p != process) {
            ctl_conn_send(&c->storage[p], tailrace_v1_StorageCommand_fields, &command);
        }
    }
}

void controller_wake(struct controller *c)
{
    uint64_t now = io_now_us(c->config.loop);
    if (now >= c->woken_us + STORAGE_WAKE_US) {
        c->woken_us = now;
        wake_others(c, UINT32_MAX);
    }
}

/* May make dataflows start that waited for a collection to be known. */
static void on_frontiers(struct ctl_conn *conn, const tailrace_v1_Frontiers *message)
{
    struct controller *c = conn->controller;
    for (size_t i = 0; i < message->frontiers_count; i++) {
        const tailrace_v1_Frontier *f = &message->frontiers[i];
        struct ctl_collection *collection = storage_collection(c, f->id);
        if (collection == NULL || !is_part(collection, conn->process)) {
            continue; /* dropped meanwhile */
        }
        if (f->upper > collection->uppers[conn->process]) {
            collection->uppers[conn->process] = f->upper;
        }
        if (f->since > collection->sinces[conn->process]) {
            collection->sinces[conn->process] = f->since;
        }
        if (f->ready > collection->readies[conn->process]) {
            collection->readies[conn->process] = f->ready;
        }
        update_upper(c, collection);
        update_ready(c, collection);
    }
    if (message->active) {
        wake_others(c, conn->process);
        if (c->config.events->storage_active != NULL) {
            c->config.events->storage_active(c->config.ctx);
        }
    }
    dataflow_try_start(c);
}

/* ---- appends --------------------------------------------------------------------------------- */

/* The first of the list; done may append again. Owns err. */
static void append_finish(struct controller *c, err_t err)
{
    ASSERT(c->appends_first != NULL);
    struct ctl_append *append = c->appends_first;
    c->appends_first = append->next;
    if (c->appends_first == NULL) {
        c->appends_last = NULL;
    }
    append->done(append->arg, err);
    buf_free(&append->message);
    free(append);
}

/* In the order asked, so an answer to another time means that the two disagree. */
static err_t on_append(struct ctl_conn *conn, const tailrace_v1_AppendResult *message)
{
    struct controller *c = conn->controller;
    if (c->appends_first == NULL || c->appends_first->time != message->time) {
        return err_new(ERR_PROTOCOL, "answer to an append at %" PRIu64 " that was not asked for",
                       message->time);
    }
    append_finish(c, message->has_error ? plan_codec_decode_err(&message->error) : ERR_OK);
    return ERR_OK;
}

void controller_append(struct controller *c, uint64_t time, const struct storage_write *writes,
                       size_t writes_len, void (*done)(void *arg, err_t err), void *arg)
{
    ASSERT(c->appends_last == NULL || c->appends_last->time < time);
    struct arena arena = {0};
    tailrace_v1_StorageCommand command = {0};
    command.which_command = tailrace_v1_StorageCommand_append_tag;
    tailrace_v1_Append *message = &command.command.append;
    message->time = time;
    message->writes_count = (pb_size_t)writes_len;
    message->writes = ARENA_ARRAY(&arena, tailrace_v1_TableWrite, writes_len);
    for (size_t i = 0; i < writes_len; i++) {
        message->writes[i].id = writes[i].id;
        message->writes[i].has_batch = true;
        message->writes[i].batch.data =
            (struct rpc_bytes){writes[i].batch->base, writes[i].batch->size};
    }
    struct ctl_append *append = MEM_NEW(struct ctl_append);
    append->time = time;
    append->done = done;
    append->arg = arg;
    encode_storage(&command, &append->message);
    arena_free(&arena);
    if (append->message.len > CONTROLLER_MESSAGE_MAX) {
        /* storaged would end the session, and the append be sent again with the next, for ever. */
        err_t err = err_sql(ERR_LIMIT, "54000", "a write of %zu bytes, the limit is %u",
                            append->message.len, (unsigned)CONTROLLER_MESSAGE_MAX);
        buf_free(&append->message);
        free(append);
        done(arg, err_hint(err, "Write it in several transactions."));
        return;
    }
    if (c->appends_last != NULL) {
        c->appends_last->next = append;
    } else {
        c->appends_first = append;
    }
    c->appends_last = append;
    ctl_conn_send_bytes(&c->storage[0], &append->message);
}

/* A promise: no append below it will follow. Sent after all appends that were asked before. */
static void send_tables_upper(struct controller *c)
{
    ASSERT(c->tables_upper > 0);
    tailrace_v1_StorageCommand command = {0};
    command.which_command = tailrace_v1_StorageCommand_advance_tables_tag;
    command.command.advance_tables.upper = c->tables_upper;
    ctl_conn_send(&c->storage[0], tailrace_v1_StorageCommand_fields, &command);
}

void controller_advance_tables(struct controller *c, uint64_t upper)
{
    if (upper > c->tables_upper) {
        c->tables_upper = upper;
        send_tables_upper(c);
    }
}

/* ---- the session ----------------------------------------------------------------------------- */

static void send_initialized(struct ctl_conn *conn)
{
    tailrace_v1_StorageCommand command = {0};
    command.which_command = tailrace_v1_StorageCommand_initialization_complete_tag;
    ctl_conn_send(conn, tailrace_v1_StorageCommand_fields, &command);
}

/* Processes that are not in session are told by on_hello. */
void storage_initialized(struct controller *c)
{
    ASSERT(c->initialized);
    for (uint32_t p = 0; p < c->config.storage_processes; p++) {
        if (c->storage[p].greeted) {
            send_initialized(&c->storage[p]);
        }
    }
}

/* The process stands: its history, then what waits. Only process 0 takes appends. */
static err_t on_hello(struct ctl_conn *conn, const tailrace_v1_StorageHello *hello)
{
    struct controller *c = conn->controller;
    if (conn->greeted || hello->nonce != conn->nonce || hello->process != conn->process ||
        hello->workers != c->config.storage_workers) {
        return err_new(ERR_PROTOCOL,
                       "storage process %u greets as process %u with %u workers (expected %u)",
                       conn->process, hello->process, hello->workers, c->config.storage_workers);
    }
    conn->greeted = true;
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->collections, &at, &id, &value)) {
        struct ctl_collection *collection = value;
        if (is_part(collection, conn->process)) {
            ctl_conn_send_bytes(conn, &collection->run);
        }
    }
    if (c->initialized) {
        send_initialized(conn);
    }
    if (conn->process != 0) {
        return ERR_OK;
    }
    while (c->appends_first != NULL && c->appends_first->time <= hello->last_append) {
        append_finish(c, ERR_OK);
    }
    for (struct ctl_append *append = c->appends_first; append != NULL; append = append->next) {
        ctl_conn_send_bytes(conn, &append->message);
    }
    if (c->tables_upper > 0) {
        send_tables_upper(c);
    }
    return ERR_OK;
}

/* A word not heard yet counts for nothing. */
static int badness(const struct ctl_health *health)
{
    ASSERT(health->status <= STORAGE_DROPPED);
    return health->known ? storage_status_badness(health->status) : -1;
}

/* Health is passed on as it is: words for the user, checked for being one of the states. */
static void on_status(struct ctl_conn *conn, const tailrace_v1_StatusUpdate *message)
{
    struct controller *c = conn->controller;
    struct ctl_collection *collection = storage_collection(c, message->id);
    if (message->status > STORAGE_DROPPED || collection == NULL) {
        return; /* dropped meanwhile */
    }
    struct ctl_health *health = &collection->health[conn->process];
    free(health->reason);
    free(health->hint);
    *health = (struct ctl_health){
        .known = true,
        .status = (enum storage_status)message->status,
        .reason = mem_strdup(message->reason != NULL ? message->reason : ""),
        .hint = mem_strdup(message->hint != NULL ? message->hint : "")};
    for (uint32_t p = 0; p < c->config.storage_processes; p++) {
        if (badness(&collection->health[p]) > badness(health)) {
            health = &collection->health[p];
        }
    }
    if (c->config.events->storage_status != NULL) {
        c->config.events->storage_status(c->config.ctx, collection->id, health->status,
                                         health->reason, health->hint);
    }
}

/* Everything but the answer to Hello needs a session that has been answered. */
static err_t handle(struct ctl_conn *conn, const tailrace_v1_StorageResponse *response)
{
    if (!conn->greeted && response->which_response != tailrace_v1_StorageResponse_hello_tag) {
        return err_new(ERR_PROTOCOL, "a response before the answer to Hello");
    }
    switch (response->which_response) {
    case tailrace_v1_StorageResponse_hello_tag: return on_hello(conn, &response->response.hello);
    case tailrace_v1_StorageResponse_frontiers_tag:
        on_frontiers(conn, &response->response.frontiers);
        return ERR_OK;
    case tailrace_v1_StorageResponse_stats_tag:
        return report_response(conn, &response->response.stats);
    case tailrace_v1_StorageResponse_append_tag: return on_append(conn, &response->response.append);
    case tailrace_v1_StorageResponse_status_tag:
        on_status(conn, &response->response.status);
        return ERR_OK;
    default: return err_new(ERR_PROTOCOL, "unknown response %u", response->which_response);
    }
}

/*
 * Addresses may have changed with a restart: replicas are told when a process is connected again.
 */
static err_t on_message(struct ctl_conn *conn, const uint8_t *data, size_t len)
{
    bool was = conn->greeted;
    tailrace_v1_StorageResponse response;
    TRY(rpc_decode_pb(tailrace_v1_StorageResponse_fields, &response, data, len));
    err_t err = handle(conn, &response);
    rpc_release_pb(tailrace_v1_StorageResponse_fields, &response);
    if (err == ERR_OK && !was && conn->greeted) {
        LOG_INFO("controller", "storage connected", LOG_U64("process", conn->process));
        compute_update_storage(conn->controller);
    }
    return err;
}

/* Nothing is forgotten: see the head of this file. */
static void on_lost(struct ctl_conn *conn, const char *reason)
{
    report_lost(conn->controller, conn->service, conn->process, reason);
}

static const struct ctl_conn_ops storage_ops = {.path = "/tailrace.v1.Storage/Session",
                                                .role = PKI_STORAGED,
                                                .message = on_message,
                                                .lost = on_lost};

/* ---- collections ----------------------------------------------------------------------------- */

/* For nanopb's structures, which want char * and never write through it. */
static char *borrow(const char *text)
{
    union {
        const char *in;
        char *out; /* nanopb only reads it */
    } of = {.in = text != NULL ? text : ""};
    return of.out;
}

/* RunCollection, kept as bytes: it is sent again with each session. */
static void encode_run(const struct storage_collection *from, struct buf *out)
{
    struct arena arena = {0};
    tailrace_v1_StorageCommand command = {0};
    command.which_command = tailrace_v1_StorageCommand_run_tag;
    tailrace_v1_RunCollection *run = &command.command.run;
    run->id = from->id;
    run->kind = from->kind;
    run->has_schema = true;
    const struct schema schema = {
        .cols = (uint32_t)from->cols,
        .types = arena_memdup(&arena, from->types, from->cols * sizeof(from->types[0])),
        .names = arena_memdup(&arena, from->names, from->cols * sizeof(from->names[0]))};
    plan_codec_encode_schema(&schema, &arena, &run->schema);
    if (from->kind == STORAGE_FILE) {
        run->has_file = true;
        run->file = (tailrace_v1_FileOptions){.path = borrow(from->path),
                                              .format = from->format,
                                              .tail = from->tail,
                                              .csv_header = from->csv_header,
                                              .csv_delimiter = (unsigned char)from->csv_delimiter,
                                              .csv_quote = (unsigned char)from->csv_quote,
                                              .has_csv_null = from->csv_null != NULL,
                                              .csv_null = borrow(from->csv_null)};
    }
    encode_storage(&command, out);
    arena_free(&arena);
}

err_t controller_collection_create(struct controller *c,
                                   const struct storage_collection *description)
{
    if (storage_collection(c, description->id) != NULL) {
        return err_new(ERR_EXISTS, "collection %" PRIu64 " exists already", description->id);
    }
    struct ctl_collection *collection = MEM_NEW(struct ctl_collection);
    collection->id = description->id;
    collection->kind = description->kind;
    collection->sinces = mem_zalloc(c->config.storage_processes * sizeof(uint64_t));
    collection->uppers = mem_zalloc(c->config.storage_processes * sizeof(uint64_t));
    collection->readies = mem_zalloc(c->config.storage_processes * sizeof(uint64_t));
    collection->health =
        mem_zalloc(c->config.storage_processes * sizeof(collection->health[0]));
    encode_run(description, &collection->run);
    u64map_put(&c->collections, collection->id, collection);
    for (uint32_t p = 0; p < c->config.storage_processes; p++) {
        if (is_part(collection, p)) {
            ctl_conn_send_bytes(&c->storage[p], &collection->run);
        }
    }
    return ERR_OK;
}

/* Memory; storage was told before. */
static void collection_free(struct controller *c, struct ctl_collection *collection)
{
    ASSERT(collection->id != 0);
    for (uint32_t p = 0; p < c->config.storage_processes; p++) {
        free(collection->health[p].reason);
        free(collection->health[p].hint);
    }
    free(collection->health);
    free(collection->readies);
    buf_free(&collection->run);
    free(collection->sinces);
    free(collection->uppers);
    free(collection);
}

/* FRONTIER_EMPTY: drop it and its data. */
static void send_compaction(struct controller *c, const struct ctl_collection *collection,
                            uint64_t frontier)
{
    ASSERT(frontier > 0);
    tailrace_v1_StorageCommand command = {0};
    command.which_command = tailrace_v1_StorageCommand_allow_compaction_tag;
    command.command.allow_compaction =
        (tailrace_v1_AllowCompaction){.id = collection->id, .frontier = frontier};
    for (uint32_t p = 0; p < c->config.storage_processes; p++) {
        if (is_part(collection, p)) {
            ctl_conn_send(&c->storage[p], tailrace_v1_StorageCommand_fields, &command);
        }
    }
}

void controller_collection_drop(struct controller *c, uint64_t id)
{
    struct ctl_collection *collection = u64map_remove(&c->collections, id);
    if (collection != NULL) {
        send_compaction(c, collection, FRONTIER_EMPTY);
        collection_free(c, collection);
    }
}

/* As far as the adapter wants and every hold allows. */
void storage_compact(struct controller *c, struct ctl_collection *collection)
{
    ASSERT(collection->since <= collection->since_wanted || collection->since_wanted == 0);
    uint64_t since = controller_min_hold(c, 0, collection->id, collection->since_wanted,
                                         collection->since);
    if (since > collection->since) {
        collection->since = since;
        send_compaction(c, collection, since);
    }
}

bool controller_collection_frontiers(const struct controller *c, uint64_t id, uint64_t *since,
                                     uint64_t *upper)
{
    const struct ctl_collection *collection = storage_collection(c, id);
    if (collection == NULL) {
        return false;
    }
    *since = storage_collection_since(c, collection);
    *upper = collection->upper;
    return true;
}

uint64_t controller_collection_ready(const struct controller *c, uint64_t id)
{
    const struct ctl_collection *collection = storage_collection(c, id);
    return collection != NULL ? collection->ready : 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

/* Connections begin at once: the processes may have been running for days. */
err_t storage_start(struct controller *c)
{
    ASSERT(c->storage == NULL);
    TRY(services_storage_ensure(c));
    c->storage = mem_zalloc(c->config.storage_processes * sizeof(c->storage[0]));
    for (uint32_t p = 0; p < c->config.storage_processes; p++) {
        ctl_conn_init(&c->storage[p], c, &storage_ops, c, "storage", p);
    }
    return ERR_OK;
}

/* Unanswered appends end without an answer: nobody is there to hear it. */
void storage_free_all(struct controller *c)
{
    for (uint32_t p = 0; c->storage != NULL && p < c->config.storage_processes; p++) {
        ctl_conn_free(&c->storage[p]);
    }
    free(c->storage);
    services_args_free(c->storage_args);
    while (c->appends_first != NULL) { /* unanswered: their fate is storage's */
        struct ctl_append *append = c->appends_first;
        c->appends_first = append->next;
        buf_free(&append->message);
        free(append);
    }
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->collections, &at, &id, &value)) {
        collection_free(c, value);
    }
    u64map_free(&c->collections);
}
