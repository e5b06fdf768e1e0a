/*
 * Ours: the storage boundary between the two processes. The child serves a log whose record i is
 * [i, i + 1), the parent subscribes to it; back and forth both do both. What a record costs here
 * and not over a bare carrier is the protocol: cursors, credit, frontiers.
 *
 * Nothing is sent unasked: the server pulls the cursor while the subscription has credit, and the
 * cursor says when it has no more. So a flood is a cursor that always has more, and a paced source
 * is one that has a record for each due time that has passed, woken by a poller that looks at the
 * clock. One loop a process is net loop and worker loop of server and client alike.
 *
 * Rates: a server sends when it is asked for more or woken, and publishes at the end of its turn.
 * So "singly" and "by 32" of the cases are the same here: batches form by themselves, which is why
 * a boundary may beat the bare carrier that flushes after each message.
 */
#include "bench/link_side.h"

#include "core/base/mem.h"

enum { SOURCE = 1 };

/* Of one process. */
struct side {
    struct link_side base;
    bool shm;                        /* else TCP */
    struct boundary_server *server;  /* NULL: this side only reads */
    struct boundary_client *client;  /* NULL: this side only serves */
    struct boundary_handler handler; /* must outlive the subscription */
    struct io_poller poller;         /* PACED: looks at the clock */
    bool open;        /* the other side reads our log */
};

/* ---- the log this side serves ---------------------------------------------------------------- */

/* May the reader have one more now? */
static bool has_record(struct side *side)
{
    struct load *load = side->base.load;
    switch (load->shape->pattern) {
    case LOAD_PING: return load->sent < load->received + (load->parent ? 1 : 0);
    case LOAD_PACED: return load_due(load, machine_now_ns());
    case LOAD_FLOOD: return load->limit == 0 || load->sent < load->limit;
    case LOAD_KILL: return true;
    }
    UNREACHABLE();
}

/* One reader a log: the cursor is the side itself. */
static err_t open_cursor(void *ctx, const struct boundary_request *request, void **out)
{
    struct side *side = ctx;
    ASSERT(request->source == SOURCE);
    side->open = true;
    *out = side;
    return ERR_OK;
}

/* The record is written when it is asked for, where the server wants it: as storage does with a
 * batch that it puts together. */
static err_t next_chunk(void *cursor, size_t max_bytes, struct boundary_room *room,
                        struct boundary_chunk *out, bool *more)
{
    struct side *side = cursor;
    struct load *load = side->base.load;
    ASSERT(max_bytes > 0);
    *out = (struct boundary_chunk){.lower = load->sent, .upper = load->sent};
    *more = has_record(side);
    if (*more) {
        uint8_t *record = boundary_room_take(room, load->shape->bytes, 0, NULL);
        load_fill(load, record);
        load->due_ns += load->shape->interval_ns;
        out->upper = load->sent;
        out->ok = record;
        out->ok_len = load->shape->bytes;
    }
    return ERR_OK;
}

/* The reader is gone, or the program ends. */
static void close_cursor(void *cursor)
{
    struct side *side = cursor;
    side->open = false;
}

static const struct boundary_backend backend = {
    .open = open_cursor, .next = next_chunk, .close = close_cursor};

/* Paced: the clock is the source of new records, and must be looked at. */
static bool poll_clock(struct io_poller *poller)
{
    struct side *side = CONTAINER_OF(poller, struct side, poller);
    if (side->open && load_due(side->base.load, machine_now_ns())) {
        boundary_server_wake(side->server, 0, SOURCE, side->base.load->sent);
    }
    return true;
}

/* ---- what it reads --------------------------------------------------------------------------- */

/* One more record may be read; the server pulls it at once. */
static void ping(struct side *side)
{
    ASSERT(side->server != NULL);
    side->base.load->sent_ns = machine_now_ns();
    boundary_server_wake(side->server, 0, SOURCE, side->base.load->sent);
}

/* A record of the other side's log. */
static void on_data(void *arg, const struct boundary_chunk *chunk)
{
    struct side *side = arg;
    struct load *load = side->base.load;
    ASSERT(chunk->lower <= chunk->upper);
    if (chunk->upper == chunk->lower || chunk->ok_len == 0) {
        return; /* progress alone */
    }
    if (chunk->ok_len != load->shape->bytes) {
        link_side_end(&side->base, err_new(ERR_CORRUPT, "a record of %zu bytes", chunk->ok_len));
        return;
    }
    load_take(load, chunk->ok);
    if (load->over) {
        io_loop_stop(side->base.loop);
    } else if (load->shape->pattern == LOAD_PING) {
        ping(side);
    }
}

static void on_reset(void *arg)
{
    UNREACHABLE(); /* every record is complete */
}

/* Our own server refuses nothing: it is a failure. */
static void on_refused(void *arg, err_t err)
{
    link_side_end(arg, err_wrap(err, "subscribing")); /* base is the first of struct side */
}

/* ---- start ----------------------------------------------------------------------------------- */

/* The server of this process, with its one worker on the same loop. */
static err_t serve(struct side *side, const struct boundary_identity *self)
{
    bool parent = side->base.load->parent;
    struct boundary_server_config config = {
        .address = side->base.tcp[parent],
        .unix_path = side->shm ? side->base.local[parent] : NULL,
        .self = *self,
        .carrier = side->shm ? BOUNDARY_CARRIER_SHM : BOUNDARY_CARRIER_TCP,
        .workers = 1,
        .backend = &backend,
    };
    ASSERT(side->server == NULL);
    TRY(boundary_server_new(side->base.loop, &config, &side->server));
    boundary_server_worker(side->server, 0, side->base.loop, side);
    if (side->base.load->shape->pattern == LOAD_PACED) {
        side->poller = (struct io_poller){.poll = poll_clock};
        io_poller_add(side->base.loop, &side->poller);
    }
    return ERR_OK;
}

/* The client, which dials until the other side listens, and its one subscription. */
static err_t subscribe(struct side *side, const struct boundary_identity *self)
{
    bool parent = side->base.load->parent;
    struct boundary_client_config config = {
        .self = *self,
        .carrier = side->shm ? BOUNDARY_CARRIER_SHM : BOUNDARY_CARRIER_TCP,
        .workers = 1,
    };
    ASSERT(side->client == NULL);
    TRY(boundary_client_new(side->base.loop, &config, &side->client));
    boundary_client_worker(side->client, 0, side->base.loop);
    const char *addresses[] = {side->base.tcp[!parent]};
    const char *paths[] = {side->shm ? side->base.local[!parent] : NULL};
    boundary_client_directory(side->client, addresses, paths, 1, 1);
    struct boundary_request request = {.dataflow = 1, .source = SOURCE};
    side->handler = (struct boundary_handler){on_data, on_reset, on_refused};
    boundary_subscribe(side->client, 0, &request, &side->handler, side);
    return ERR_OK;
}

/* Who sends serves, who receives subscribes; back and forth both do both. */
static err_t start(struct link_side *base)
{
    struct side *side = CONTAINER_OF(base, struct side, base);
    struct load *load = base->load;
    const bool both_ways = load->shape->pattern == LOAD_PING;
    struct boundary_identity self = link_side_identity(base);
    ASSERT(side->server == NULL && side->client == NULL);
    link_side_spin(base);
    if (load_sends(load) || both_ways) {
        TRY(serve(side, &self));
    }
    if (!load_sends(load) || both_ways) {
        TRY(subscribe(side, &self));
    }
    if (load_sends(load) && both_ways) {
        ping(side);
    }
    return ERR_OK;
}

static err_t boundary_run(struct link *link, struct load *load)
{
    return link_side_run(link->state, load, start);
}

/* Sides of their own. */
static err_t boundary_count(struct link *link, struct load *child, struct load *parent)
{
    struct side *sides = mem_zalloc(2 * sizeof(sides[0]));
    const struct side *side = link->state;
    sides[0] = sides[1] = *side;
    return link_side_run_both((struct link_side *[]){&sides[0].base, &sides[1].base},
                              (struct load *[]){child, parent}, start);
}

/* What both processes inherit. */
static err_t side_new(struct link *link, bool shm)
{
    struct side *side = MEM_NEW(struct side);
    ASSERT(link->state == NULL);
    link->state = side;
    side->shm = shm;
    return link_side_open(&side->base, link, "boundary");
}

static err_t shm_open_link(struct link *link)
{
    return side_new(link, true);
}

static err_t tcp_open_link(struct link *link)
{
    return side_new(link, false);
}

/* In the program, which never ran a loop of this link. */
static void boundary_close(struct link *link)
{
    struct side *side = link->state;
    ASSERT(link->state != NULL);
    link_side_close(&side->base);
    free(side);
}

/* A boundary hears of its peer's death through the carrier, and copies what it serves. */
static bool fits(const struct load_shape *shape)
{
    return !shape->by_reference && shape->pattern != LOAD_KILL;
}

const struct link_ops link_boundary_shm = {
    .name = "boundary shm", .kind = LINK_OURS, .layer = LINK_BOUNDARY, .under = &link_shm,
    .fits = fits, .open = shm_open_link, .run = boundary_run, .count = boundary_count,
    .close = boundary_close};
const struct link_ops link_boundary_tcp = {
    .name = "boundary tcp", .kind = LINK_OURS, .layer = LINK_BOUNDARY, .under = &link_tcp,
    .fits = fits, .open = tcp_open_link, .run = boundary_run, .count = boundary_count,
    .close = boundary_close};
