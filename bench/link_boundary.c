/*
 * Ours: the storage boundary between the two processes. The child serves a log whose record i is
 * [i, i + 1), the parent subscribes to it; back and forth both do both. What a record costs here
 * and not over a bare carrier is the protocol: cursors, credit, frontiers, a copy into the block.
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
#include "bench/link.h"

#include "core/base/mem.h"
#include "ring/boundary/boundary.h"

#include <stdio.h>
#include <unistd.h>

enum { SECRET_BYTES = 32, WATCH_US = 100 * 1000, SPIN_US = 10 * 1000 * 1000, SOURCE = 1 };

/* Of one process. Addresses are filled before the forks: [0] the child's, [1] the parent's. */
struct side {
    struct link *link;
    struct load *load;    /* what to send, what was received */
    bool shm;             /* else TCP */
    char secret[192];     /* path of the node's secret */
    char tcp[2][32];      /* "127.0.0.1:port" */
    char local[2][192];   /* "unixpacket:path", for shared memory */
    struct io_loop *loop; /* net loop and worker loop in one */
    struct boundary_server *server;  /* NULL: this side only reads */
    struct boundary_client *client;  /* NULL: this side only serves */
    struct boundary_handler handler; /* must outlive the subscription */
    struct io_poller poller;         /* PACED: looks at the clock */
    struct io_timer timer;           /* looks at link_interrupted */
    uint64_t *record; /* the next one, copied by the server */
    bool open;        /* the other side reads our log */
    err_t err;        /* why the loop was stopped before its time */
};

/* The first error is the one that counts; the loop ends after the current callback. */
static void side_end(struct side *side, err_t err)
{
    ASSERT(side->loop != NULL);
    if (side->err == ERR_OK) {
        side->err = err;
    } else {
        err_free(err);
    }
    io_loop_stop(side->loop);
}

/* ---- the log this side serves ---------------------------------------------------------------- */

/* May the reader have one more now? */
static bool has_record(struct side *side)
{
    struct load *load = side->load;
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

/* The record is written here, when it is asked for: the server copies it into its block, as it
 * does with a batch of storage. */
static err_t next_chunk(void *cursor, size_t max_bytes, struct boundary_chunk *out, bool *more)
{
    struct side *side = cursor;
    struct load *load = side->load;
    ASSERT(max_bytes > 0);
    *out = (struct boundary_chunk){.lower = load->sent, .upper = load->sent};
    *more = has_record(side);
    if (*more) {
        load_fill(load, side->record);
        load->due_ns += load->shape->interval_ns;
        out->upper = load->sent;
        out->ok = side->record;
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
    if (side->open && load_due(side->load, machine_now_ns())) {
        boundary_server_wake(side->server, 0, SOURCE, side->load->sent);
    }
    return true;
}

/* ---- what it reads --------------------------------------------------------------------------- */

/* One more record may be read; the server pulls it at once. */
static void ping(struct side *side)
{
    ASSERT(side->server != NULL);
    side->load->sent_ns = machine_now_ns();
    boundary_server_wake(side->server, 0, SOURCE, side->load->sent);
}

/* A record of the other side's log. */
static void on_data(void *arg, const struct boundary_chunk *chunk)
{
    struct side *side = arg;
    struct load *load = side->load;
    ASSERT(chunk->lower <= chunk->upper);
    if (chunk->upper == chunk->lower || chunk->ok_len == 0) {
        return; /* progress alone */
    }
    if (chunk->ok_len != load->shape->bytes) {
        side_end(side, err_new(ERR_CORRUPT, "a record of %zu bytes", chunk->ok_len));
        return;
    }
    load_take(load, chunk->ok);
    if (load->over) {
        io_loop_stop(side->loop);
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
    side_end(arg, err_wrap(err, "subscribing"));
}

/* ---- start ----------------------------------------------------------------------------------- */

/* Was the run interrupted? */
static void on_timer(struct io_timer *timer)
{
    struct side *side = CONTAINER_OF(timer, struct side, timer);
    if (link_interrupted) {
        io_loop_stop(side->loop);
        return;
    }
    io_timer_start(side->loop, timer, io_now_us(side->loop) + WATCH_US);
}

/* The server of this process, with its one worker on the same loop. */
static err_t serve(struct side *side, const struct boundary_identity *self)
{
    bool parent = side->load->parent;
    struct boundary_server_config config = {
        .address = side->tcp[parent],
        .unix_path = side->shm ? side->local[parent] : NULL,
        .self = *self,
        .carrier = side->shm ? BOUNDARY_CARRIER_SHM : BOUNDARY_CARRIER_TCP,
        .workers = 1,
        .backend = &backend,
    };
    ASSERT(side->server == NULL);
    TRY(boundary_server_new(side->loop, &config, &side->server));
    boundary_server_worker(side->server, 0, side->loop, side);
    if (side->load->shape->pattern == LOAD_PACED) {
        side->poller = (struct io_poller){.poll = poll_clock};
        io_poller_add(side->loop, &side->poller);
    }
    return ERR_OK;
}

/* The client, which dials until the other side listens, and its one subscription. */
static err_t subscribe(struct side *side, const struct boundary_identity *self)
{
    bool parent = side->load->parent;
    struct boundary_client_config config = {
        .self = *self,
        .carrier = side->shm ? BOUNDARY_CARRIER_SHM : BOUNDARY_CARRIER_TCP,
        .workers = 1,
    };
    ASSERT(side->client == NULL);
    TRY(boundary_client_new(side->loop, &config, &side->client));
    boundary_client_worker(side->client, 0, side->loop);
    const char *addresses[] = {side->tcp[!parent]};
    const char *paths[] = {side->shm ? side->local[!parent] : NULL};
    boundary_client_directory(side->client, addresses, paths, 1, 1);
    struct boundary_request request = {.dataflow = 1, .source = SOURCE};
    side->handler = (struct boundary_handler){on_data, on_reset, on_refused};
    boundary_subscribe(side->client, 0, &request, &side->handler, side);
    return ERR_OK;
}

/* Who sends serves, who receives subscribes; back and forth both do both. */
static err_t start_side(struct side *side)
{
    static const uint32_t spins_us[] = {[LOAD_SPIN] = SPIN_US, [LOAD_SLEEP] = 0};
    const struct load_shape *shape = side->load->shape;
    struct boundary_identity self = {.environment = "tailrace-bench!",
                                     .service = side->load->parent ? 2 : 1, .generation = 1,
                                     .epoch = 1, .node_secret_path = side->secret};
    ASSERT(side->load != NULL);
    if (shape->wait != LOAD_ADAPT) {
        io_loop_set_spin(side->loop, spins_us[shape->wait]);
    }
    if (load_sends(side->load) || shape->pattern == LOAD_PING) {
        TRY(serve(side, &self));
    }
    if (!load_sends(side->load) || shape->pattern == LOAD_PING) {
        TRY(subscribe(side, &self));
    }
    if (load_sends(side->load) && shape->pattern == LOAD_PING) {
        ping(side);
    }
    side->timer.fire = on_timer;
    io_timer_start(side->loop, &side->timer, io_now_us(side->loop) + WATCH_US);
    return ERR_OK;
}

/* io_main's: an error before the loop runs ends it at once. */
static void start(struct io_loop *loop, void *arg)
{
    struct side *side = arg;
    side->loop = loop;
    err_t err = start_side(side);
    if (err != ERR_OK) {
        side_end(side, err);
    }
}

/* What it made is not freed: the process ends when this returns. */
static err_t boundary_run(struct link *link, struct load *load)
{
    struct side *side = link->state;
    struct io_env *env;
    ASSERT(side->load == NULL);
    side->link = link;
    side->load = load;
    TRY(io_env_new_real(&env));
    TRY(io_main(env, start, side));
    return side->err;
}

/* Both sides on one loop: for counting instructions. */
struct both {
    struct side sides[2];
};

static void start_both(struct io_loop *loop, void *arg)
{
    struct both *both = arg;
    start(loop, &both->sides[0]);
    start(loop, &both->sides[1]);
}

/* Sides of their own, of which only the record must not be shared. */
static err_t boundary_count(struct link *link, struct load *child, struct load *parent)
{
    struct both *both = MEM_NEW(struct both);
    struct side *side = link->state;
    struct io_env *env;
    ASSERT(!child->parent && parent->parent);
    for (int i = 0; i < 2; i++) {
        both->sides[i] = *side;
        both->sides[i].link = link;
        both->sides[i].load = i == 0 ? child : parent;
    }
    both->sides[1].record = mem_zalloc(link->shape->bytes);
    TRY(io_env_new_real(&env));
    TRY(io_main(env, start_both, both));
    return both->sides[0].err != ERR_OK ? both->sides[0].err : both->sides[1].err;
}

/* Addresses of both sides, known to both by the fork. */
static err_t side_new(struct link *link, bool shm)
{
    struct side *side = MEM_NEW(struct side);
    ASSERT(link->state == NULL);
    link->state = side;
    side->shm = shm;
    side->record = mem_zalloc(link->shape->bytes);
    snprintf(side->secret, sizeof(side->secret), "%s/secret", link->directory);
    for (int i = 0; i < 2; i++) {
        snprintf(side->tcp[i], sizeof(side->tcp[i]), "127.0.0.1:%d", link_free_port());
        snprintf(side->local[i], sizeof(side->local[i]), "unixpacket:%s/boundary%u-%d",
                 link->directory, link->serial, i);
    }
    return link_write_secret(side->secret);
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
    unlink(side->secret);
    free(side->record);
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
