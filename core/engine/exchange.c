/*
 * Rows and frontiers between the workers of a replica.
 *
 * A payload is a sequence of records, each a 24-byte header and, for data, a batch. What a worker
 * has to say to another in a step goes into one payload (more only when there is much data); the
 * frontiers that moved come last. The lane is FIFO, so a frontier record says that all earlier data
 * has arrived: no acknowledgement and no counting is needed.
 *
 * Dataflow ids may be created and dropped again; every worker does so in the same order, though not
 * at the same moment. Each incarnation ends on every worker exactly once, with a record. So the
 * number of ends received from a worker says to which incarnation its next record belongs, and a
 * record is for the past (ignored), for now, or for one to come (kept).
 *
 * A dataflow may also begin anew, of any worker's own accord (engine_restart). Restarts are
 * numbered within a life, and a record tells the number: who has a lower one follows. So an
 * incarnation is a pair, lives before and restarts of this one, in one number that only grows:
 *
 *     63: lives that ended   31..: restarts of this one   0
 */
#include "core/base/hash.h"
#include "core/engine/clock.h"
#include "core/engine/place.h"

enum record_kind {
    RECORD_DATA = 1,
    RECORD_ERRORS,
    RECORD_FRONTIER,
    RECORD_END,
    RECORD_VOTE, /* of a recursion (op_iterate.c): channel: operator * 2 + changes; value: time */
    RECORD_WANT, /* a dataflow has to be awake (clock.c): channel: 1, 0: not any more; value: 0 */
    RECORD_RESTART, /* value: which restart of this life */
};

struct record {
    uint32_t kind;
    uint32_t channel;  /* operator * 2 + port; 0 for an end or restart */
    uint64_t dataflow;
    uint64_t value;    /* bytes of data that follow, or the frontier */
};
STATIC_ASSERT(sizeof(struct record) == 24, "records are written as they are");

#define PENDING_BYTES_MAX (1ULL << 30)

/* From this size on a part of a chunk is worth a payload of its own, built without a copy. */
enum { DIRECT_BYTES = 8 * 1024 };

/* A record kept for an incarnation that does not live here yet; data is a copy. */
struct pending {
    uint32_t from;
    uint64_t incarnation;
    struct record record;
    void *data;
};

/* What is known of one dataflow id. live: its incarnation here, or NULL. */
struct slot {
    struct dataflow *live;
    uint64_t incarnation;   /* here */
    uint64_t *incarnation_from; /* per worker: where its records are */
    struct pending *pending;
    size_t pending_len, pending_cap;
};

/* ---- incarnations ---------------------------------------------------------------------------- */

/* Of a life. The number itself is out of reach: a peer that claims it is refused. */
#define RESTARTS_MAX UINT32_MAX

static uint64_t restarts_of(uint64_t incarnation)
{
    return incarnation & UINT32_MAX;
}

static uint64_t lives_of(uint64_t incarnation)
{
    return incarnation >> 32;
}

static uint64_t next_life(uint64_t incarnation)
{
    return (lives_of(incarnation) + 1) << 32;
}

/* Made on first mention, by the own worker or another. */
static struct slot *slot_get(struct engine *engine, uint64_t id)
{
    struct slot *slot = u64map_get(&engine->slots, id);
    if (slot == NULL) {
        slot = MEM_NEW(struct slot);
        slot->incarnation_from = mem_zalloc(engine->config.workers * sizeof(uint64_t));
        u64map_put(&engine->slots, id, slot);
    }
    return slot;
}

static void pending_free(struct engine *engine, struct pending *pending)
{
    ASSERT(engine->pending_bytes >= sizeof(*pending));
    if (pending->data != NULL) {
        engine->pending_bytes -= pending->record.value;
    }
    engine->pending_bytes -= sizeof(*pending);
    free(pending->data);
}

/* The slot must be in the map and not live. */
static void slot_free(struct engine *engine, uint64_t id)
{
    struct slot *slot = u64map_remove(&engine->slots, id);
    ASSERT(slot != NULL && slot->live == NULL);
    for (size_t i = 0; i < slot->pending_len; i++) {
        pending_free(engine, &slot->pending[i]);
    }
    free(slot->pending);
    free(slot->incarnation_from);
    free(slot);
}

/*
 * Forgets an id once every worker has ended as many incarnations and nothing is kept. Until then
 * the count of ends is needed to place late records.
 */
static void slot_release(struct engine *engine, uint64_t id)
{
    struct slot *slot = u64map_get(&engine->slots, id);
    if (slot == NULL || slot->live != NULL || slot->pending_len > 0) {
        return;
    }
    for (uint32_t w = 0; w < engine->config.workers; w++) {
        if (w != engine->config.worker && slot->incarnation_from[w] != slot->incarnation) {
            return;
        }
    }
    slot_free(engine, id);
}

/*
 * Forgets ids below a bound that are not live here. Two passes, as the map may not change while it
 * is walked.
 */
static void slots_free_below(struct engine *engine, uint64_t bound)
{
    uint64_t *ids = mem_alloc(engine->slots.len * sizeof(*ids));
    size_t len = 0;
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&engine->slots, &at, &id, &value)) {
        if (id < bound && ((struct slot *)value)->live == NULL) {
            ids[len++] = id;
        }
    }
    for (size_t i = 0; i < len; i++) {
        slot_free(engine, ids[i]);
    }
    free(ids);
}

/*
 * A dropped dataflow that importers keep alive is still found: what arrives for it is still needed.
 */
struct dataflow *engine_exchange_find(struct engine *engine, uint64_t dataflow_id)
{
    struct slot *slot = u64map_get(&engine->slots, dataflow_id);
    return slot != NULL ? slot->live : NULL;
}

void engine_exchange_free(struct engine *engine)
{
    slots_free_below(engine, UINT64_MAX);
    u64map_free(&engine->slots);
}

/* Drops what was kept for incarnations that have ended. */
static void forget_past(struct engine *engine, struct slot *slot)
{
    size_t kept = 0;
    for (size_t i = 0; i < slot->pending_len; i++) {
        if (slot->pending[i].incarnation >= slot->incarnation) {
            slot->pending[kept++] = slot->pending[i];
        } else {
            pending_free(engine, &slot->pending[i]);
        }
    }
    slot->pending_len = kept;
}

void engine_forget_before(struct engine *engine, uint64_t dataflow_id)
{
    if (dataflow_id <= engine->forgotten_below) {
        return;
    }
    engine->forgotten_below = dataflow_id;
    slots_free_below(engine, dataflow_id);
}

/* ---- sending --------------------------------------------------------------------------------- */

/* Memory of an unusually large payload is given back. */
static void send_out(struct engine *engine, uint32_t dest)
{
    struct buf *out = &engine->out[dest];
    if (out->len > 0) {
        engine->config.host->send(engine->config.ctx, dest, out->data, out->len);
        buf_clear(out);
        if (out->cap > 4 * SEND_BYTES) {
            buf_free(out);
        }
    }
}

/*
 * Records follow each other without padding: their sizes are multiples of 8, so batches stay
 * aligned within a payload.
 */
static void append_record(struct engine *engine, uint32_t dest, enum record_kind kind,
                          uint64_t dataflow, uint32_t channel, uint64_t value)
{
    ASSERT(dest < engine->config.workers && dest != engine->config.worker);
    struct record record = {
        .kind = kind, .channel = channel, .dataflow = dataflow, .value = value};
    buf_append(&engine->out[dest], &record, sizeof(record));
    ASSERT(engine->out[dest].len % 8 == 0);
}

/* What comes after it is of the new incarnation, so it is the last record of its payload. */
static void tell_all(struct engine *engine, enum record_kind kind, uint64_t id, uint64_t value)
{
    for (uint32_t w = 0; w < engine->config.workers; w++) {
        if (w != engine->config.worker && !engine->closing) {
            append_record(engine, w, kind, id, 0, value);
            send_out(engine, w);
        }
    }
}

/* The most restarts of this life that any other worker is known to have had. */
static uint64_t restarts_elsewhere(const struct engine *engine, const struct slot *slot)
{
    uint64_t most = 0;
    for (uint32_t w = 0; w < engine->config.workers; w++) {
        uint64_t theirs = slot->incarnation_from[w];
        if (lives_of(theirs) == lives_of(slot->incarnation) && restarts_of(theirs) > most) {
            most = restarts_of(theirs);
        }
    }
    return most;
}

static void set_restarts(struct engine *engine, struct slot *slot, uint64_t id, uint64_t restarts)
{
    ASSERT(restarts > restarts_of(slot->incarnation) && restarts < RESTARTS_MAX);
    slot->incarnation = lives_of(slot->incarnation) << 32 | restarts;
    forget_past(engine, slot);
    tell_all(engine, RECORD_RESTART, id, restarts);
}

/* As many as the others, or one more when it is of this worker's own accord. */
static uint64_t next_restart(const struct engine *engine, const struct slot *slot)
{
    uint64_t own = restarts_of(slot->incarnation);
    uint64_t theirs = restarts_elsewhere(engine, slot);
    return theirs > own ? theirs : own + 1;
}

bool engine_exchange_can_restart(const struct dataflow *dataflow)
{
    const struct slot *slot = u64map_get(&dataflow->engine->slots, dataflow->id);
    ASSERT(slot != NULL && slot->live == dataflow);
    return next_restart(dataflow->engine, slot) < RESTARTS_MAX;
}

void engine_exchange_restart(struct engine *engine, struct dataflow *dataflow)
{
    struct slot *slot = u64map_get(&engine->slots, dataflow->id);
    ASSERT(slot != NULL && slot->live == dataflow);
    set_restarts(engine, slot, dataflow->id, next_restart(engine, slot));
}

/*
 * The other workers are told even of dataflows that could not be created here, so that all count
 * the same incarnations.
 */
void engine_exchange_end(struct engine *engine, uint64_t dataflow_id)
{
    struct slot *slot = slot_get(engine, dataflow_id);
    slot->live = NULL;
    slot->incarnation = next_life(slot->incarnation);
    forget_past(engine, slot);
    tell_all(engine, RECORD_END, dataflow_id, 0);
    if (dataflow_id < engine->forgotten_below) {
        slot_free(engine, dataflow_id);
    } else {
        slot_release(engine, dataflow_id);
    }
}

/*
 * From here on records of the other workers reach it directly. Some may have begun it anew before
 * it was created here: then here it begins as what they have.
 */
void engine_exchange_begin(struct engine *engine, struct dataflow *dataflow)
{
    struct slot *slot = slot_get(engine, dataflow->id);
    ASSERT(slot->live == NULL);
    ASSERT(dataflow->engine == engine);
    slot->live = dataflow;
    if (restarts_elsewhere(engine, slot) > restarts_of(slot->incarnation)) {
        engine_exchange_restart(engine, dataflow);
    }
}

/* With a single worker ports stay local and none of this is ever touched. Of rows that are placed
 * already errors alone may have to travel. */
void engine_exchange_set_up(struct op *op, uint32_t port_index, enum route route,
                            const uint32_t *keys, uint32_t keys_len, bool err_routed)
{
    struct port *port = &op->ports[port_index];
    uint32_t workers = op->engine->config.workers;
    if (workers == 1) {
        return;
    }
    ASSERT(route != ROUTE_LOCAL && port->from == NULL && port_index < 2);
    port->ok_stays = places_stay(op->dataflow->places, op, port_index, route, keys, keys_len);
    if (port->ok_stays && !err_routed) {
        return;
    }
    port->route = route;
    port->keys = keys;
    port->keys_len = keys_len;
    port->err_routed = err_routed;
    port->from = mem_alloc(workers * sizeof(uint64_t));
    for (uint32_t w = 0; w < workers; w++) {
        port->from[w] = op->dataflow->as_of;
    }
}

/* The same on every worker, as all render the same plan. */
static uint32_t channel_of(const struct op *op, uint32_t port)
{
    ASSERT(port < 2);
    return op->index * 2 + port;
}

/*
 * The hash of each row: the worker follows from it (batch_split), so every worker must compute the
 * same for equal keys: see batch_hash_rows. Without key columns one worker, chosen by the operator,
 * takes all.
 */
static void route_rows(struct op *op, const struct port *port, const struct batch *b, bool err)
{
    struct engine *engine = op->engine;
    if (b->rows > engine->hashes_cap) {
        engine->hashes_cap = b->rows * 2UL;
        engine->hashes = mem_realloc(engine->hashes, engine->hashes_cap * sizeof(uint64_t));
    }
    ASSERT(engine->config.workers > 1 && port->route != ROUTE_LOCAL);
    if (err || port->route == ROUTE_ROW) {
        batch_hash_rows(b, NULL, 0, engine->hashes);
    } else if (port->keys_len > 0) {
        batch_hash_rows(b, port->keys, port->keys_len, engine->hashes);
    } else {
        uint64_t one = hash_combine(op->dataflow->id, op->index);
        for (uint32_t i = 0; i < b->rows; i++) {
            engine->hashes[i] = one;
        }
    }
}

/*
 * Where a part of size bytes for another worker is written: in the payload being gathered; or, when
 * it is large, as a payload of its own in the host's memory, behind what was gathered.
 */
static void *open_part(struct op *op, uint32_t port, uint32_t dest, size_t size, bool err)
{
    struct engine *engine = op->engine;
    const struct engine_host *host = engine->config.host;
    enum record_kind kind = err ? RECORD_ERRORS : RECORD_DATA;
    ASSERT(size > 0 && size % 8 == 0);
    if (host->reserve == NULL || size < DIRECT_BYTES) {
        append_record(engine, dest, kind, op->dataflow->id, channel_of(op, port), size);
        struct buf *out = &engine->out[dest];
        buf_reserve(out, size);
        out->len += size;
        return out->data + out->len - size;
    }
    send_out(engine, dest);
    struct engine_block *block = &engine->parts[dest];
    host->reserve(engine->config.ctx, dest, sizeof(struct record) + size, block);
    ASSERT((uintptr_t)block->data % 8 == 0 && block->len >= sizeof(struct record) + size);
    *(struct record *)block->data = (struct record){.kind = kind,
                                                    .channel = channel_of(op, port),
                                                    .dataflow = op->dataflow->id,
                                                    .value = size};
    return block->data + sizeof(struct record);
}

/* It is written. */
static void close_part(struct engine *engine, uint32_t dest)
{
    struct engine_block *block = &engine->parts[dest];
    if (block->data != NULL) {
        engine->config.host->commit(engine->config.ctx, dest, block);
        *block = (struct engine_block){0};
    } else if (engine->out[dest].len >= SEND_BYTES) {
        send_out(engine, dest);
    }
}

/* Of one chunk: finds a place for every worker's part, writes them all in one go, sends them. */
static void divide(struct op *op, uint32_t port, const struct batch *b, bool err)
{
    struct engine *engine = op->engine;
    struct batch_split *split = engine->split;
    uint32_t self = engine->config.worker;
    size_t own = 0;
    for (uint32_t w = 0; w < engine->config.workers; w++) {
        size_t size = batch_split_rows(split, w) > 0 ? batch_split_size(split, w) : 0;
        engine->places[w] = NULL;
        if (size > 0 && w == self) {
            own = size;
            engine->places[w] = aligned_alloc(BATCH_ALIGN, size);
            ASSERT(engine->places[w] != NULL);
        } else if (size > 0) {
            engine->places[w] = open_part(op, port, w, size, err);
        }
    }
    batch_split_write(split, engine->places);
    for (uint32_t w = 0; w < engine->config.workers; w++) {
        if (engine->places[w] != NULL && w != self) {
            close_part(engine, w);
        }
    }
    if (own > 0) {
        op_port_push(op, port,
                     chunk_take(engine->places[self], own, b->cols, &op->dataflow->account), err);
    }
}

/*
 * Rows for the own worker do not leave it; a chunk that is all its own is passed on by reference.
 */
void engine_exchange_push(struct op *op, uint32_t port_index, struct chunk *chunk, bool err)
{
    struct engine *engine = op->engine;
    struct port *port = &op->ports[port_index];
    const struct batch *b = &chunk->batch;
    uint32_t workers = engine->config.workers;
    ASSERT(port->route != ROUTE_LOCAL && b->rows > 0);
    ASSERT(chunk->time_min >= port->from[engine->config.worker]);
    if (engine->split == NULL) {
        engine->split = batch_split_new();
        engine->places = mem_zalloc(workers * sizeof(engine->places[0]));
        engine->parts = mem_zalloc(workers * sizeof(engine->parts[0]));
    }
    route_rows(op, port, b, err);
    batch_split_begin(engine->split, b, engine->hashes, workers);
    if (batch_split_rows(engine->split, engine->config.worker) == b->rows) {
        op_port_push(op, port_index, chunk, err);
        return;
    }
    divide(op, port_index, b, err);
    chunk_unref(chunk);
}

/* The port's frontier is the least of all workers': only a worker that lagged can move it. */
static void set_from(struct op *op, uint32_t port_index, uint32_t worker, uint64_t frontier)
{
    ASSERT(port_index < op->ports_len);
    struct port *port = &op->ports[port_index];
    ASSERT(port->from != NULL && worker < op->engine->config.workers);
    ASSERT(frontier >= port->from[worker]);
    port->from[worker] = frontier;
    uint64_t least = frontier;
    for (uint32_t w = 0; w < op->engine->config.workers; w++) {
        least = port->from[w] < least ? port->from[w] : least;
    }
    op_port_set_frontier(op, port_index, least);
}

/* Announced once per step, however often it moves within: only the last value is sent. */
void engine_exchange_frontier(struct op *op, uint32_t port_index, uint64_t frontier)
{
    struct engine *engine = op->engine;
    struct port *port = &op->ports[port_index];
    ASSERT(port->from != NULL && port->route != ROUTE_LOCAL);
    ASSERT(frontier > port->from[engine->config.worker]);
    if (!port->moved) {
        port->moved = true;
        *VEC_PUSH(engine, moved) = (struct moved){.dataflow_id = op->dataflow->id,
                                                  .channel = channel_of(op, port_index),
                                                  .port = port};
    }
    set_from(op, port_index, engine->config.worker, frontier);
}

void engine_exchange_vote(struct op *op, uint32_t dest, uint64_t time, bool changes)
{
    append_record(op->engine, dest, RECORD_VOTE, op->dataflow->id, op->index * 2 + changes, time);
}

void engine_exchange_want(struct dataflow *dataflow, bool wanted)
{
    struct engine *engine = dataflow->engine;
    for (uint32_t w = 0; w < engine->config.workers; w++) {
        if (w != engine->config.worker) {
            append_record(engine, w, RECORD_WANT, dataflow->id, wanted, 0);
        }
    }
}

/* After all data of the step, in the same payloads: that order is what a frontier record means. */
void engine_exchange_flush(struct engine *engine)
{
    uint32_t self = engine->config.worker;
    for (uint32_t w = 0; w < engine->config.workers; w++) {
        if (w == self) {
            continue;
        }
        for (size_t i = 0; i < engine->moved_len; i++) {
            const struct moved *moved = &engine->moved[i];
            ASSERT(moved->port->moved && moved->port->from != NULL);
            append_record(engine, w, RECORD_FRONTIER, moved->dataflow_id, moved->channel,
                          moved->port->from[self]);
        }
        send_out(engine, w);
    }
    for (size_t i = 0; i < engine->moved_len; i++) {
        engine->moved[i].port->moved = false;
    }
    engine->moved_len = 0;
}

/* ---- receiving ------------------------------------------------------------------------------- */

/* A record with what it means here, validated but not yet applied. */
struct arrival {
    struct record record;
    const void *data;
    struct op *op; /* NULL: for the past, for later, or an end */
    bool later;
    bool forgotten; /* of a dataflow that will never live here */
    struct chunk *chunk;
};

struct arrivals {
    struct arrival *arrivals;
    size_t arrivals_len, arrivals_cap;
};

/* Only routed ports are channels: a local port is no business of another worker. */
static err_t find_channel(struct dataflow *dataflow, uint32_t channel, uint32_t kind,
                          struct op **out)
{
    ASSERT(dataflow != NULL && out != NULL);
    uint32_t index = channel / 2;
    uint32_t port = channel % 2;
    if (index >= dataflow->ops_len || port >= dataflow->ops[index].ports_len ||
        dataflow->ops[index].ports[port].route == ROUTE_LOCAL) {
        return err_new(ERR_PROTOCOL, "no channel %u", channel);
    }
    const struct port *at = &dataflow->ops[index].ports[port];
    if (kind == RECORD_ERRORS ? !at->err_routed : kind == RECORD_DATA && at->ok_stays) {
        return err_new(ERR_PROTOCOL, "channel %u takes no %s", channel,
                       kind == RECORD_ERRORS ? "errors" : "rows");
    }
    *out = &dataflow->ops[index];
    return ERR_OK;
}

/* What is voted for is judged when all votes are there. */
static err_t check_vote(struct dataflow *dataflow, struct arrival *arrival)
{
    uint32_t index = arrival->record.channel / 2;
    if (index >= dataflow->ops_len || !scope_takes_votes(&dataflow->ops[index])) {
        return err_new(ERR_PROTOCOL, "a vote for node %u", index);
    }
    arrival->op = &dataflow->ops[index];
    return ERR_OK;
}

static err_t check_want(struct dataflow *dataflow, struct arrival *arrival)
{
    if (arrival->record.channel > 1 || arrival->record.value != 0) {
        return err_new(ERR_PROTOCOL, "a wish %u for %llu", arrival->record.channel,
                       (unsigned long long)arrival->record.value);
    }
    arrival->op = &dataflow->ops[0]; /* it concerns all of them */
    return ERR_OK;
}

/*
 * A record for a live dataflow: nothing is changed except the port's payload_seen, a mark. A
 * channel has at most one frontier record per payload and no data after it; a time before the
 * sender's frontier would break an operator's invariant, so it is refused here.
 */
static err_t check_live(struct dataflow *dataflow, uint32_t from, uint64_t payload,
                        struct arrival *arrival)
{
    const struct record *record = &arrival->record;
    bool err = record->kind == RECORD_ERRORS;
    if (record->kind == RECORD_VOTE) {
        return check_vote(dataflow, arrival);
    }
    if (record->kind == RECORD_WANT) {
        return check_want(dataflow, arrival);
    }
    TRY(find_channel(dataflow, record->channel, record->kind, &arrival->op));
    struct port *port = &arrival->op->ports[record->channel % 2];
    if (port->payload_seen == payload) {
        return err_new(ERR_PROTOCOL, "channel %u goes on after its frontier", record->channel);
    }
    if (record->kind == RECORD_FRONTIER) {
        port->payload_seen = payload;
        return record->value >= port->from[from]
                   ? ERR_OK
                   : err_new(ERR_PROTOCOL, "the frontier of channel %u goes back",
                             record->channel);
    }
    err_t bad = chunk_open(arrival->data, record->value, err ? batch_err_kinds : port->kinds,
                           err ? (uint32_t)ERR_COLS : port->cols, NULL, &dataflow->account,
                           &arrival->chunk);
    if (bad != ERR_OK) {
        err_t wrapped = err_new(ERR_PROTOCOL, "channel %u: %s", record->channel, err_text(bad));
        err_free(bad);
        return wrapped;
    }
    if (arrival->chunk != NULL && arrival->chunk->time_min < port->from[from]) {
        return err_new(ERR_PROTOCOL, "channel %u: a time before its frontier", record->channel);
    }
    return ERR_OK;
}

/* What is kept is bounded, as a peer could name any number of ids. */
static err_t check_pending(const struct record *record, const void *data, struct engine *engine)
{
    if (engine->pending_bytes + record->value > PENDING_BYTES_MAX &&
        record->kind != RECORD_FRONTIER && record->kind != RECORD_VOTE &&
        record->kind != RECORD_WANT) {
        return err_new(ERR_LIMIT, "too much for dataflows that do not exist yet");
    }
    if (engine->pending_bytes > PENDING_BYTES_MAX) {
        return err_new(ERR_LIMIT, "too many records for dataflows that do not exist yet");
    }
    return ERR_OK;
}

/* Only the form is checked here; what it means follows in check_record. */
static err_t read_record(struct reader *reader, struct arrival *arrival)
{
    const void *header = reader_bytes(reader, sizeof(arrival->record));
    if (header == NULL) {
        return err_new(ERR_PROTOCOL, "a record is cut short");
    }
    memcpy(&arrival->record, header, sizeof(arrival->record));
    const struct record *record = &arrival->record;
    bool last = record->kind == RECORD_END || record->kind == RECORD_RESTART;
    if (record->kind < RECORD_DATA || record->kind > RECORD_RESTART) {
        return err_new(ERR_PROTOCOL, "unknown record %u", record->kind);
    }
    if (record->kind == RECORD_DATA || record->kind == RECORD_ERRORS) {
        if (record->value > reader_left(reader) || record->value % 8 != 0) {
            return err_new(ERR_PROTOCOL, "%llu bytes of data, %zu are there",
                           (unsigned long long)record->value, reader_left(reader));
        }
        arrival->data = reader_bytes(reader, record->value);
    } else if (last && reader_left(reader) > 0) {
        return err_new(ERR_PROTOCOL, "an end or restart is not the last record");
    } else if (record->kind == RECORD_END && record->value != 0) {
        return err_new(ERR_PROTOCOL, "an end with a value");
    }
    return ERR_OK;
}

static err_t check_restart(const struct record *record, uint64_t incarnation)
{
    if (record->value <= restarts_of(incarnation) || record->value >= RESTARTS_MAX) {
        return err_new(ERR_PROTOCOL, "restart %llu after %llu", (unsigned long long)record->value,
                       (unsigned long long)restarts_of(incarnation));
    }
    return ERR_OK;
}

/* Of a life that failed here: it will not follow, so nothing of this life is kept for it. */
static bool failed_life(const struct slot *slot, uint64_t theirs)
{
    return slot != NULL && slot->live != NULL && slot->live->failed != ERR_OK &&
           lives_of(theirs) == lives_of(slot->incarnation);
}

/* The order of questions: forgotten, past, now, later (see the head of this file). */
static err_t check_record(struct engine *engine, uint32_t from, struct arrival *arrival)
{
    ASSERT(from < engine->config.workers);
    struct slot *slot = u64map_get(&engine->slots, arrival->record.dataflow);
    uint64_t theirs = slot != NULL ? slot->incarnation_from[from] : 0;
    uint64_t ours = slot != NULL ? slot->incarnation : 0;
    if ((slot == NULL || slot->live == NULL) &&
        arrival->record.dataflow < engine->forgotten_below) {
        arrival->forgotten = true;
        return ERR_OK;
    }
    if (arrival->record.kind == RECORD_RESTART) {
        return check_restart(&arrival->record, theirs);
    }
    if (arrival->record.kind == RECORD_END || theirs < ours || failed_life(slot, theirs)) {
        return ERR_OK;
    }
    if (theirs == ours && slot != NULL && slot->live != NULL) {
        return check_live(slot->live, from, engine->payloads, arrival);
    }
    arrival->later = true;
    return check_pending(&arrival->record, arrival->data, engine);
}

static void keep(struct engine *engine, uint32_t from, const struct arrival *arrival)
{
    ASSERT(arrival->later && arrival->op == NULL);
    struct slot *slot = slot_get(engine, arrival->record.dataflow);
    ASSERT(slot->live == NULL || slot->incarnation_from[from] != slot->incarnation);
    struct pending *pending = VEC_PUSH(slot, pending);
    *pending = (struct pending){.from = from,
                                .incarnation = slot->incarnation_from[from],
                                .record = arrival->record};
    engine->pending_bytes += sizeof(*pending);
    if (arrival->data != NULL) {
        pending->data = mem_alloc(arrival->record.value);
        memcpy(pending->data, arrival->data, arrival->record.value);
        engine->pending_bytes += arrival->record.value;
    }
}

/* One that lives here follows; one that does not yet will begin with it. */
static void follow_restart(struct engine *engine, uint32_t from, const struct record *record)
{
    struct slot *slot = slot_get(engine, record->dataflow);
    uint64_t theirs = lives_of(slot->incarnation_from[from]) << 32 | record->value;
    ASSERT(theirs > slot->incarnation_from[from]);
    slot->incarnation_from[from] = theirs;
    bool same = lives_of(theirs) == lives_of(slot->incarnation);
    if (slot->live != NULL && same && theirs > slot->incarnation) {
        engine_want_restart(slot->live);
    }
}

/* Cannot fail: check_record saw to that. */
static void apply(struct engine *engine, uint32_t from, struct arrival *arrival)
{
    const struct record *record = &arrival->record;
    ASSERT(arrival->chunk == NULL || arrival->op != NULL);
    if (arrival->forgotten) {
        return;
    }
    if (record->kind == RECORD_END) {
        struct slot *slot = slot_get(engine, record->dataflow);
        slot->incarnation_from[from] = next_life(slot->incarnation_from[from]);
        slot_release(engine, record->dataflow);
    } else if (record->kind == RECORD_RESTART) {
        follow_restart(engine, from, record);
    } else if (arrival->later) {
        keep(engine, from, arrival);
    } else if (arrival->op != NULL && record->kind == RECORD_VOTE) {
        scope_vote(arrival->op, from, record->value, record->channel % 2 == 1);
    } else if (arrival->op != NULL && record->kind == RECORD_WANT) {
        clock_wanted(arrival->op->dataflow, from, record->channel == 1);
    } else if (arrival->op != NULL && record->kind == RECORD_FRONTIER) {
        set_from(arrival->op, record->channel % 2, from, record->value);
    } else if (arrival->chunk != NULL) {
        if (arrival->op->scope == NULL) { /* its times are the dataflow's */
            note_given(arrival->op->dataflow, arrival->chunk->time_max);
        }
        op_port_push(arrival->op, record->channel % 2, arrival->chunk,
                  record->kind == RECORD_ERRORS);
        arrival->chunk = NULL;
    }
}

/* All records are checked before the first is applied, so a refused payload changes nothing. */
err_t engine_receive(struct engine *engine, uint32_t from, const void *payload, size_t len)
{
    if (from >= engine->config.workers || from == engine->config.worker) {
        return err_new(ERR_PROTOCOL, "no worker %u", from);
    }
    struct reader reader = reader_of(payload, len);
    struct arrivals list = {0};
    err_t err = ERR_OK;
    engine->payloads++;
    while (err == ERR_OK && reader_left(&reader) > 0) {
        struct arrival *arrival = VEC_PUSH(&list, arrivals);
        err = read_record(&reader, arrival);
        if (err == ERR_OK) {
            err = check_record(engine, from, arrival);
        }
    }
    for (size_t i = 0; i < list.arrivals_len; i++) {
        if (err == ERR_OK) {
            apply(engine, from, &list.arrivals[i]);
        }
        chunk_unref(list.arrivals[i].chunk);
    }
    free(list.arrivals);
    engine_run_restarts(engine);
    return err_wrap(err, "payload from worker %u", from);
}

/* What was kept was checked only for its form: now it is checked against the dataflow. */
err_t engine_exchange_deliver_pending(struct dataflow *dataflow)
{
    struct engine *engine = dataflow->engine;
    struct slot *slot = slot_get(engine, dataflow->id);
    err_t err = ERR_OK;
    size_t kept = 0;
    for (size_t i = 0; i < slot->pending_len; i++) {
        struct pending *pending = &slot->pending[i];
        if (pending->incarnation != slot->incarnation) {
            slot->pending[kept++] = *pending;
            continue;
        }
        struct arrival arrival = {.record = pending->record, .data = pending->data};
        if (err == ERR_OK) {
            engine->payloads++;
            err = check_live(dataflow, pending->from, engine->payloads, &arrival);
        }
        if (err == ERR_OK) {
            apply(engine, pending->from, &arrival);
        }
        chunk_unref(arrival.chunk);
        pending_free(engine, pending);
    }
    slot->pending_len = kept;
    ASSERT(slot->live == dataflow);
    return err;
}
