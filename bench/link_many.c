/*
 * Ours: the storage boundary with many subscriptions on one connection. The child serves, the
 * parent subscribes; sources are ACTIVE, which always has records or (paced) has one at each due
 * time for every subscriber, and IDLE, which never has any. Nothing is sent before all cursors are
 * open, so what is measured is the running state.
 *
 * The order of events: the parent asks for all subscriptions at once; the child opens a cursor for
 * each and counts them in a page both see; at the last one the source begins to flow. So the
 * measured time has no subscribing in it, and an idle subscription is one whose cursor said once
 * that it has nothing and was never asked again.
 *
 * Memory is what /proc says of the child at the end: shared (both sides' memory is mapped there)
 * and private (cursors and the server's books). A run with one subscription is the zero to
 * subtract.
 */
#include "bench/link.h"

#include "core/base/mem.h"
#include "ring/boundary/boundary.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { WATCH_US = 50 * 1000, ACTIVE = 1, IDLE = 2 };

/* Shared by both processes; written by the child. */
struct page {
    _Atomic uint32_t open; /* cursors */
};

/* Addresses are filled before the forks; from the loop on it is each process's own. */
struct many {
    struct link *link;
    struct load *load;               /* only its clock and counters: bytes are checked here */
    struct page *page;               /* shared */
    char secret[192];                /* path of the node's secret */
    char tcp[32];                    /* the child's, not used by shared memory but needed */
    char local[192];                 /* "unixpacket:path" of the child */
    struct io_loop *loop;            /* net loop and worker loop in one */
    struct boundary_server *server;  /* the child's */
    struct boundary_client *client;  /* the parent's */
    struct boundary_handler handler; /* must outlive the subscriptions */
    struct io_timer timer;
    uint64_t *record;  /* the child's: the same bytes for every reader, but for word 0 */
    uint64_t produced; /* paced: records there are */
    bool flowing;      /* the child: all cursors are open */
    err_t err;
};

/* Subscriptions of the run. */
static uint32_t total(const struct many *m)
{
    ASSERT(m->load->shape->subscribers > 0);
    return m->load->shape->subscribers + m->load->shape->idle;
}

/* The first error is the one that counts; the loop ends after the current callback. */
static void many_end(struct many *m, err_t err)
{
    ASSERT(m->loop != NULL);
    if (m->err == ERR_OK) {
        m->err = err;
    } else {
        err_free(err);
    }
    io_loop_stop(m->loop);
}

/* ---- the child: serves ----------------------------------------------------------------------- */

struct cursor {
    struct many *many;
    uint64_t at; /* read up to here: record i is [i, i + 1) */
    bool active;
};

/* Each subscription has a place of its own in the log. */
static err_t open_cursor(void *ctx, const struct boundary_request *request, void **out)
{
    struct many *m = ctx;
    struct cursor *cursor = MEM_NEW(struct cursor);
    ASSERT(request->source == ACTIVE || request->source == IDLE);
    *cursor = (struct cursor){.many = m, .active = request->source == ACTIVE};
    *out = cursor;
    /* Relaxed: a count to look at. */
    uint32_t open = atomic_fetch_add_explicit(&m->page->open, 1, memory_order_relaxed) + 1;
    if (open == total(m)) {
        m->flowing = true;
        boundary_server_wake(m->server, 0, ACTIVE, m->produced);
    }
    return ERR_OK;
}

/* Every reader of ACTIVE is given the same records, each at its own pace. */
static err_t next_chunk(void *ctx, size_t max_bytes, struct boundary_chunk *out, bool *more)
{
    struct cursor *cursor = ctx;
    struct many *m = cursor->many;
    bool flood = m->load->shape->pattern == LOAD_FLOOD;
    ASSERT(max_bytes > 0);
    *out = (struct boundary_chunk){.lower = cursor->at, .upper = cursor->at};
    *more = m->flowing && cursor->active && (flood || cursor->at < m->produced);
    if (*more) {
        m->record[0] = cursor->at;
        out->upper = ++cursor->at;
        out->ok = m->record;
        out->ok_len = m->load->shape->bytes;
    }
    return ERR_OK;
}

static void close_cursor(void *ctx)
{
    free(ctx);
}

/* Records are the same for every reader, so one may be given what another has made. */
static bool skip_chunk(void *ctx, uint64_t lower, uint64_t upper)
{
    struct cursor *cursor = ctx;
    if (cursor->at != lower) {
        return false;
    }
    cursor->at = upper;
    return true;
}

static const struct boundary_backend backend = {
    .open = open_cursor, .next = next_chunk, .close = close_cursor, .skip = skip_chunk};

/* Paced by a timer rather than by looking at the clock: the producer's CPU time is what counts. */
static void produce(struct many *m)
{
    if (m->flowing && load_due(m->load, machine_now_ns())) {
        m->produced++;
        m->load->due_ns += m->load->shape->interval_ns;
        boundary_server_wake(m->server, 0, ACTIVE, m->produced);
    }
}

/* ---- the parent: subscribes ------------------------------------------------------------------ */

/* One subscription; freed by the end of the process. */
struct many_reader {
    struct many *many;
    uint64_t next; /* lower of the chunk expected */
};

/* Checks order and the record's number, not every byte: what is measured here is the cost of
 * being many. */
static void on_data(void *arg, const struct boundary_chunk *chunk)
{
    struct many_reader *reader = arg;
    struct many *m = reader->many;
    struct load *load = m->load;
    ASSERT(chunk->lower <= chunk->upper);
    if (chunk->upper == chunk->lower || chunk->ok_len == 0) {
        return;
    }
    const uint64_t *words = chunk->ok;
    if (chunk->lower != reader->next || chunk->ok_len != load->shape->bytes ||
        words[0] != chunk->lower) {
        load->torn = true;
    }
    reader->next = chunk->upper;
    load->received++;
    if ((load->received & load->count_mask) == 0) {
        load_clock(load, machine_now_ns());
    }
    if (load->over) {
        io_loop_stop(m->loop);
    }
}

static void on_reset(void *arg)
{
    UNREACHABLE(); /* every record is complete */
}

/* Our own server refuses nothing: it is a failure. */
static void on_refused(void *arg, err_t err)
{
    struct many_reader *reader = arg;
    many_end(reader->many, err_wrap(err, "subscribing"));
}

static void subscribe_all(struct many *m)
{
    for (uint32_t i = 0; i < total(m); i++) {
        struct many_reader *reader = MEM_NEW(struct many_reader);
        reader->many = m;
        /* The idle ones first: they are there before anything flows. */
        struct boundary_request request = {
            .dataflow = i + 1, .source = i < m->load->shape->idle ? IDLE : ACTIVE};
        boundary_subscribe(m->client, 0, &request, &m->handler, reader);
    }
}

/* ---- start ----------------------------------------------------------------------------------- */

/* The producer's clock, and a look whether the run was interrupted. */
static void on_timer(struct io_timer *timer)
{
    struct many *m = CONTAINER_OF(timer, struct many, timer);
    uint64_t wait_us = WATCH_US;
    if (link_interrupted) {
        io_loop_stop(m->loop);
        return;
    }
    if (!m->load->parent && m->load->shape->pattern == LOAD_PACED) {
        produce(m);
        wait_us = m->load->shape->interval_ns / 1000;
    }
    io_timer_start(m->loop, timer, io_now_us(m->loop) + wait_us);
}

/* The child: a server with one worker on the same loop. */
static err_t serve(struct many *m, const struct boundary_identity *self)
{
    struct boundary_server_config config = {
        .address = m->tcp, .unix_path = m->local, .self = *self,
        .carrier = BOUNDARY_CARRIER_SHM, .workers = 1, .backend = &backend};
    ASSERT(!m->load->parent);
    TRY(boundary_server_new(m->loop, &config, &m->server));
    boundary_server_worker(m->server, 0, m->loop, m);
    return ERR_OK;
}

/* The parent: a client with one worker and all the subscriptions. */
static err_t subscribe(struct many *m, const struct boundary_identity *self)
{
    struct boundary_client_config config = {
        .self = *self, .carrier = BOUNDARY_CARRIER_SHM, .workers = 1};
    ASSERT(m->load->parent);
    TRY(boundary_client_new(m->loop, &config, &m->client));
    boundary_client_worker(m->client, 0, m->loop);
    const char *addresses[] = {m->tcp};
    const char *paths[] = {m->local};
    boundary_client_directory(m->client, addresses, paths, 1, 1);
    m->handler = (struct boundary_handler){on_data, on_reset, on_refused};
    subscribe_all(m);
    return ERR_OK;
}

/* io_main's: an error before the loop runs ends it at once. */
static void start(struct io_loop *loop, void *arg)
{
    struct many *m = arg;
    m->loop = loop;
    struct boundary_identity self = {.environment = "tailrace-bench!",
                                     .service = m->load->parent ? 2 : 1, .generation = 1,
                                     .epoch = 1, .node_secret_path = m->secret};
    err_t err = m->load->parent ? subscribe(m, &self) : serve(m, &self);
    if (err != ERR_OK) {
        many_end(m, err);
        return;
    }
    m->timer.fire = on_timer;
    io_timer_start(loop, &m->timer, io_now_us(loop) + WATCH_US);
}

/* What it made is not freed: the process ends when this returns. */
static err_t many_run(struct link *link, struct load *load)
{
    struct many *m = link->state;
    struct io_env *env;
    ASSERT(m->load == NULL);
    m->link = link;
    m->load = load;
    /* Records of all subscriptions count, few of them may come: look at the clock often. */
    load->count_mask = 15;
    TRY(io_env_new_real(&env));
    TRY(io_main(env, start, m));
    return m->err;
}

/* What both processes inherit. */
static err_t many_open(struct link *link)
{
    struct many *m = MEM_NEW(struct many);
    ASSERT(link->state == NULL);
    link->state = m;
    m->record = mem_zalloc(link->shape->bytes);
    m->page = mmap(NULL, sizeof(*m->page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                   -1, 0);
    if (m->page == MAP_FAILED) {
        return err_errno(errno, "mmap");
    }
    snprintf(m->secret, sizeof(m->secret), "%s/secret", link->directory);
    snprintf(m->tcp, sizeof(m->tcp), "127.0.0.1:%d", link_free_port());
    snprintf(m->local, sizeof(m->local), "unixpacket:%s/many%u", link->directory,
             link->serial);
    return link_write_secret(m->secret);
}

/* In the program, which never ran a loop of this link. */
static void many_close(struct link *link)
{
    struct many *m = link->state;
    ASSERT(link->state != NULL);
    munmap(m->page, sizeof(*m->page));
    unlink(m->secret);
    free(m->record);
    free(m);
}

const struct link_ops link_many = {
    .name = "boundary shm", .kind = LINK_OURS, .layer = LINK_BOUNDARY,
    .open = many_open, .run = many_run, .close = many_close};
