/*
 * Ours: the storage boundary with many subscriptions. The child serves, the parent subscribes;
 * sources are ACTIVE, which always has records or (paced) has one at each due time for every
 * subscriber, IDLE, which never has any, and HELD, which always has and is read by victims. Nothing
 * is sent before all cursors are open, so what is measured is the running state.
 *
 * The order of events: the parent asks for all subscriptions at once; the child opens a cursor for
 * each and counts them in a page all see; at the last one the source begins to flow. So the
 * measured time has no subscribing in it, and an idle subscription is one whose cursor said once
 * that it has nothing and was never asked again.
 *
 * Further processes, forked by the child: readers, each with as many subscriptions to ACTIVE as the
 * parent, and victims, which take the first record of HELD and then nothing, so that they hold all
 * that the server will send ahead. One lane holds a quarter of its worker's arena at most, so HELD
 * is of several workers, and the victims read it of all of them. With victims the parent measures
 * the gaps between deliveries: in a window in which nothing happens, then in one that begins with
 * the death of a victim, in turn.
 *
 * Memory is what /proc says of the child at the end: shared (both sides' memory is mapped there)
 * and private (cursors and the server's books). A run with one subscription is the zero to
 * subtract.
 */
#include "bench/link_side.h"

#include "core/base/mem.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

/* HELD_BYTES: hardly more than what lies in the ring itself, so a death leaves as many blocks as it
 * can. */
enum { ACTIVE = 1, IDLE = 2, HELD = 3, HELD_BYTES = 20 * 1024, HELD_CREDIT = 1 << 30,
       HELD_WORKERS = 4 };
#define SETTLED_NS 200000000 /* nothing was sent to victims for so long: they hold all they will */

/* Shared by all processes. Relaxed throughout: numbers to look at, they order nothing. */
struct page {
    _Atomic uint32_t open;                  /* the child's: cursors */
    _Atomic uint64_t held;                  /* the child's: bytes of HELD made */
    _Atomic int victims[LOAD_VICTIMS_MAX];  /* the child's: process ids */
};

enum role { SERVES, MEASURES, READS, IS_VICTIM };

/* Gaps between deliveries. The parent's. */
struct gaps {
    uint64_t last_ns;   /* delivery */
    uint64_t held;      /* as last seen, and since when */
    uint64_t since_ns;
    uint32_t window;    /* even: quiet; odd: begins with a death; at 0 nothing is counted yet */
    uint64_t end_ns;    /* of it; 0: not begun */
    uint64_t max_ns[2 * LOAD_VICTIMS_MAX];
};

/* What is of one process is filled after the forks. */
struct many {
    struct link_side base;           /* load: only its clock and counters, bytes are checked here */
    bool tcp;                        /* else shared memory */
    struct page *page;               /* shared */
    enum role role;
    uint32_t process;                /* index of a client */
    struct boundary_server *server;  /* the child's */
    struct boundary_client *client;  /* the others' */
    struct boundary_handler handler; /* must outlive the subscriptions */
    struct io_timer timer;           /* paced: the producer's clock */
    struct gaps gaps;
    uint64_t *record;  /* the child's: the same bytes for every reader, but for word 0 */
    uint64_t produced; /* paced: records there are */
    bool flowing;      /* the child: all cursors are open */
};

static const struct load_shape *shape_of(const struct many *m)
{
    ASSERT(m->base.load->shape->subscribers > 0);
    return m->base.load->shape;
}

/* Of storage; all on the server's one loop, ACTIVE and IDLE at the first. */
static uint32_t workers(const struct many *m)
{
    return shape_of(m)->victims > 0 ? HELD_WORKERS : 1;
}

/* Subscriptions of the run. */
static uint32_t total(const struct many *m)
{
    const struct load_shape *shape = shape_of(m);
    return shape->subscribers * (1 + shape->readers) + shape->idle +
           shape->victims * workers(m);
}

/* ---- the child: serves ----------------------------------------------------------------------- */

struct cursor {
    struct many *many;
    uint64_t at; /* read up to here: record i is [i, i + 1) */
    uint64_t source;
};

/* Each subscription has a place of its own in the log. */
static err_t open_cursor(void *ctx, const struct boundary_request *request, void **out)
{
    struct many *m = ctx;
    struct cursor *cursor = MEM_NEW(struct cursor);
    ASSERT(request->source >= ACTIVE && request->source <= HELD);
    *cursor = (struct cursor){.many = m, .source = request->source};
    *out = cursor;
    uint32_t open = atomic_fetch_add_explicit(&m->page->open, 1, memory_order_relaxed) + 1;
    if (open == total(m)) {
        m->flowing = true;
        boundary_server_wake(m->server, 0, ACTIVE, m->produced);
    }
    return ERR_OK;
}

/* Every reader of ACTIVE is given the same records, each at its own pace. */
static err_t next_chunk(void *ctx, size_t max_bytes, struct boundary_room *room,
                        struct boundary_chunk *out, bool *more)
{
    struct cursor *cursor = ctx;
    struct many *m = cursor->many;
    const struct load_shape *shape = shape_of(m);
    const bool held = cursor->source == HELD;
    ASSERT(max_bytes > 0);
    *out = (struct boundary_chunk){.lower = cursor->at, .upper = cursor->at};
    *more = held || (m->flowing && cursor->source == ACTIVE &&
                     (shape->pattern == LOAD_FLOOD || cursor->at < m->produced));
    if (*more) {
        m->record[0] = cursor->at;
        out->upper = ++cursor->at;
        out->ok = m->record;
        out->ok_len = held ? HELD_BYTES : shape->bytes;
    }
    if (held) {
        atomic_fetch_add_explicit(&m->page->held, HELD_BYTES, memory_order_relaxed);
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
static void produce(struct io_timer *timer)
{
    struct many *m = CONTAINER_OF(timer, struct many, timer);
    struct load *load = m->base.load;
    if (m->flowing && load_due(load, machine_now_ns())) {
        m->produced++;
        load->due_ns += load->shape->interval_ns;
        boundary_server_wake(m->server, 0, ACTIVE, m->produced);
    }
    io_timer_start(m->base.loop, timer,
                   io_now_us(m->base.loop) + load->shape->interval_ns / 1000);
}

/* ---- the parent: gaps ------------------------------------------------------------------------ */

/* The larger half's least: with one that is disturbed by others, of three the other two. */
static uint64_t median(const struct gaps *gaps, uint32_t parity, uint32_t n)
{
    uint64_t sorted[LOAD_VICTIMS_MAX];
    ASSERT(n > 0 && n <= LOAD_VICTIMS_MAX && parity < 2);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = i;
        uint64_t gap = gaps->max_ns[2 * i + parity];
        for (; at > 0 && sorted[at - 1] > gap; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = gap;
    }
    return sorted[n / 2];
}

/* The next window begins; every other one with a death. */
static void next_window(struct many *m, uint64_t now)
{
    struct gaps *gaps = &m->gaps;
    struct load *load = m->base.load;
    uint32_t victims = shape_of(m)->victims;
    gaps->end_ns = now + load->shape->run_ns / (2 * victims);
    if (gaps->window == 2 * victims) {
        load->figures->gap_quiet_ns = median(gaps, 0, victims);
        load->figures->gap_kill_ns = median(gaps, 1, victims);
        load->figures->held_bytes =
            atomic_load_explicit(&m->page->held, memory_order_relaxed);
        load->figures->messages = load->received;
        load->over = true;
        io_loop_stop(m->base.loop);
    } else if (gaps->window % 2 == 1) {
        kill(atomic_load_explicit(&m->page->victims[gaps->window / 2], memory_order_relaxed),
             SIGKILL);
    }
}

/* A delivery. Counting begins when the victims hold all they will. */
static void take_gap(struct many *m)
{
    struct gaps *gaps = &m->gaps;
    uint64_t now = machine_now_ns();
    uint64_t held = atomic_load_explicit(&m->page->held, memory_order_relaxed);
    if (gaps->end_ns == 0) {
        if (held != gaps->held || held == 0) {
            gaps->held = held;
            gaps->since_ns = now;
        } else if (now - gaps->since_ns >= SETTLED_NS) {
            next_window(m, now);
        }
    } else {
        uint64_t *max = &gaps->max_ns[gaps->window];
        *max = now - gaps->last_ns > *max ? now - gaps->last_ns : *max;
        if (now >= gaps->end_ns) {
            gaps->window++;
            next_window(m, now);
        }
    }
    gaps->last_ns = now;
}

/* ---- clients: subscribe ------------------------------------------------------------------ */

/* One subscription; freed by the end of the process. */
struct many_reader {
    struct many *many;
    uint64_t next; /* lower of the chunk expected */
};

/* Order and the number, not every byte: what is measured here is the cost of being many. */
static void check(struct many_reader *reader, const struct boundary_chunk *chunk)
{
    struct load *load = reader->many->base.load;
    const uint64_t *words = chunk->ok;
    if (chunk->lower != reader->next || chunk->ok_len != load->shape->bytes ||
        words[0] != chunk->lower) {
        load->torn = true;
    }
    reader->next = chunk->upper;
    load->received++;
}

/* Every client's; a victim does not come back from its first record. */
static void on_data(void *arg, const struct boundary_chunk *chunk)
{
    struct many_reader *reader = arg;
    struct many *m = reader->many;
    struct load *load = m->base.load;
    ASSERT(chunk->lower <= chunk->upper);
    if (chunk->upper == chunk->lower || chunk->ok_len == 0) {
        return;
    }
    while (m->role == IS_VICTIM) {
        pause(); /* until it is killed */
    }
    check(reader, chunk);
    if (m->role == READS) {
        return;
    }
    if (load->shape->victims > 0) {
        take_gap(m);
    } else if ((load->received & load->count_mask) == 0) {
        load_clock(load, machine_now_ns());
    }
    if (load->over) {
        io_loop_stop(m->base.loop);
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
    link_side_end(&reader->many->base, err_wrap(err, "subscribing"));
}

static void subscribe_one(struct many *m, uint64_t source, uint32_t worker, uint32_t dataflow)
{
    struct many_reader *reader = MEM_NEW(struct many_reader);
    struct boundary_request request = {.dataflow = dataflow, .source = source, .worker = worker};
    reader->many = m;
    boundary_subscribe(m->client, 0, &request, &m->handler, reader);
}

static void subscribe_all(struct many *m)
{
    const struct load_shape *shape = shape_of(m);
    for (uint32_t i = 0; m->role == IS_VICTIM && i < workers(m); i++) {
        subscribe_one(m, HELD, i, i + 1);
    }
    if (m->role == IS_VICTIM) {
        return;
    }
    /* The idle ones first: they are there before anything flows. */
    for (uint32_t i = 0; m->role == MEASURES && i < shape->idle; i++) {
        subscribe_one(m, IDLE, 0, i + 1);
    }
    for (uint32_t i = 0; i < shape->subscribers; i++) {
        subscribe_one(m, ACTIVE, 0, shape->idle + i + 1);
    }
}

/* ---- start ----------------------------------------------------------------------------------- */

/* The child: a server with one worker on the same loop. */
static err_t serve(struct many *m, const struct boundary_identity *self)
{
    const struct load_shape *shape = shape_of(m);
    struct boundary_server_config config = {
        .address = m->base.tcp[0], .unix_path = m->tcp ? NULL : m->base.local[0], .self = *self,
        .carrier = m->tcp ? BOUNDARY_CARRIER_TCP : BOUNDARY_CARRIER_SHM, .workers = workers(m),
        .backend = &backend, .arena_bytes = (size_t)shape->arena_mib << 20};
    TRY(boundary_server_new(m->base.loop, &config, &m->server));
    for (uint32_t i = 0; i < workers(m); i++) {
        boundary_server_worker(m->server, i, m->base.loop, m);
    }
    if (shape->pattern == LOAD_PACED) {
        m->timer.fire = produce;
        io_timer_start(m->base.loop, &m->timer, io_now_us(m->base.loop));
    }
    return ERR_OK;
}

/* A client with one worker and all its subscriptions. */
static err_t subscribe(struct many *m, const struct boundary_identity *self)
{
    struct boundary_client_config config = {
        .self = *self, .carrier = m->tcp ? BOUNDARY_CARRIER_TCP : BOUNDARY_CARRIER_SHM,
        .workers = 1, .credit_bytes = m->role == IS_VICTIM ? HELD_CREDIT : 0};
    TRY(boundary_client_new(m->base.loop, &config, &m->client));
    boundary_client_worker(m->client, 0, m->base.loop);
    const char *addresses[] = {m->base.tcp[0]};
    const char *paths[] = {m->tcp ? NULL : m->base.local[0]};
    boundary_client_directory(m->client, addresses, paths, 1, workers(m));
    m->handler = (struct boundary_handler){on_data, on_reset, on_refused};
    subscribe_all(m);
    return ERR_OK;
}

static err_t start(struct link_side *base)
{
    struct many *m = CONTAINER_OF(base, struct many, base);
    struct boundary_identity self = link_side_identity(base);
    ASSERT(m->server == NULL && m->client == NULL);
    if (m->role == SERVES) {
        return serve(m, &self);
    }
    self.service = 2;
    self.process = m->process;
    return subscribe(m, &self);
}

/* The index-th further client, in a process of its own, wherever there is a CPU for it. */
static _Noreturn void client_main(struct many *m, struct load *load, uint32_t index)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    machine_pin(-1);
    m->role = index < load->shape->readers ? READS : IS_VICTIM;
    m->process = index + 1;
    if (m->role == IS_VICTIM) {
        /* The kernel takes a dead process's memory down in its time, which there is no third CPU
         * for: it must not be that of those measured. Without the right to, it is. */
        (void)sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0});
    }
    err_free(link_side_run(&m->base, load, start));
    _exit(1);
}

/* The further clients, forked by the child, whom nobody interrupts when one of them dies. */
static err_t fork_clients(struct many *m, struct load *load)
{
    const struct load_shape *shape = load->shape;
    ASSERT(shape->victims <= LOAD_VICTIMS_MAX);
    for (uint32_t i = 0; i < shape->readers + shape->victims; i++) {
        pid_t pid = fork();
        if (pid < 0) {
            return err_errno(errno, "fork");
        }
        if (pid == 0) {
            client_main(m, load, i);
        }
        if (i >= shape->readers) {
            atomic_store_explicit(&m->page->victims[i - shape->readers], (int)pid,
                                  memory_order_relaxed);
        }
    }
    return ERR_OK;
}

static err_t many_run(struct link *link, struct load *load)
{
    struct many *m = link->state;
    m->role = load->parent ? MEASURES : SERVES;
    /* Records of all subscriptions count, few of them may come: look at the clock often. */
    load->count_mask = 15;
    if (m->role == SERVES) {
        TRY(fork_clients(m, load));
    }
    return link_side_run(&m->base, load, start);
}

/* What all processes inherit. */
static err_t many_new(struct link *link, bool tcp)
{
    struct many *m = MEM_NEW(struct many);
    ASSERT(link->state == NULL);
    link->state = m;
    m->tcp = tcp;
    m->record = mem_zalloc(link->shape->bytes > HELD_BYTES ? link->shape->bytes : HELD_BYTES);
    m->page = mmap(NULL, sizeof(*m->page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                   -1, 0);
    if (m->page == MAP_FAILED) {
        return err_errno(errno, "mmap");
    }
    return link_side_open(&m->base, link, "many");
}

static err_t shm_open_link(struct link *link)
{
    return many_new(link, false);
}

static err_t tcp_open_link(struct link *link)
{
    return many_new(link, true);
}

/* In the program, which never ran a loop of this link. */
static void many_close(struct link *link)
{
    struct many *m = link->state;
    ASSERT(link->state != NULL);
    munmap(m->page, sizeof(*m->page));
    link_side_close(&m->base);
    free(m->record);
    free(m);
}

const struct link_ops link_many = {
    .name = "boundary shm", .kind = LINK_OURS, .layer = LINK_BOUNDARY,
    .open = shm_open_link, .run = many_run, .close = many_close};
const struct link_ops link_many_tcp = {
    .name = "boundary tcp", .kind = LINK_OURS, .layer = LINK_BOUNDARY,
    .open = tcp_open_link, .run = many_run, .close = many_close};
