/*
 * Ours: the exchange of a replica of two processes with one worker each. What a message costs here
 * and not over a bare carrier is the protocol: numbering, keeping it until it is acknowledged (in
 * case the connection is cut), a copy.
 *
 * The exchange keeps what it sends until the other worker has taken it, so a sender asks
 * exchange_ready; acknowledgements come in the other direction of the same session and wake the
 * loop. Generations are formed once at the start: how long that takes is not measured here.
 */
#include "bench/link.h"

#include "core/base/mem.h"
#include "ring/exchange/exchange.h"

#include <stdio.h>
#include <unistd.h>

enum {
    WATCH_US = 100 * 1000,
    SPIN_US = 10 * 1000 * 1000,
};

/* Of one process: 0 the child, 1 the parent. Addresses are filled before the forks. */
struct member {
    struct link *link;
    struct load *load;    /* what to send, what was received */
    bool shm;             /* else TCP */
    char secret[192];     /* path of the node's secret */
    char tcp[2][32];      /* "127.0.0.1:port" */
    char local[2][192];   /* "unixpacket:path", for shared memory */
    struct io_loop *loop; /* net loop and worker loop in one */
    struct exchange *exchange;
    bool inner;              /* both members are workers of one process, which shares it */
    struct io_poller poller; /* sends */
    struct io_timer timer;   /* looks at link_interrupted */
    uint64_t *message;       /* the next one; the exchange copies it */
    bool formed;             /* sending may begin */
    err_t err;               /* why the loop was stopped before its time */
};

/* The first error is the one that counts; the loop ends after the current callback. */
static void member_end(struct member *m, err_t err)
{
    ASSERT(m->loop != NULL);
    if (m->err == ERR_OK) {
        m->err = err;
    } else {
        err_free(err);
    }
    io_loop_stop(m->loop);
}

/* Its index in its process. */
static uint32_t index_of(const struct member *m)
{
    return m->inner && m->load->parent ? 1 : 0;
}

/* To the other worker; the exchange copies and keeps it until it is taken. */
static void send_one(struct member *m)
{
    ASSERT(m->formed);
    load_fill(m->load, m->message);
    exchange_send(m->exchange, index_of(m), m->load->parent ? 0 : 1, m->message,
                  m->load->shape->bytes);
}

/* The clock is read before the message is written: building it is part of the round trip. */
static void ping(struct member *m)
{
    m->load->sent_ns = machine_now_ns();
    send_one(m);
}

/* The sender's side of the loop's turn; bounded as a worker bounds itself. */
static bool poll_member(struct io_poller *poller)
{
    struct member *m = CONTAINER_OF(poller, struct member, poller);
    struct load *load = m->load;
    if (!m->formed || !load_sends(load) || load->shape->pattern == LOAD_PING) {
        return false;
    }
    if (load->shape->pattern == LOAD_PACED) {
        if (load_due(load, machine_now_ns())) {
            send_one(m);
            load->due_ns += load->shape->interval_ns;
        }
        return true;
    }
    if (!exchange_ready(m->exchange, index_of(m))) {
        return false; /* an acknowledgement wakes the loop */
    }
    for (uint32_t i = 0; i < load->shape->batch; i++) {
        if (load->limit != 0 && load->sent >= load->limit) {
            return false;
        }
        send_one(m);
    }
    return true;
}

/* Both processes are there and agree that they are the replica. */
static void on_formed(void *ctx, uint64_t generation)
{
    struct member *m = ctx;
    ASSERT(generation > 0);
    m->formed = true;
    if (load_sends(m->load) && m->load->shape->pattern == LOAD_PING) {
        ping(m);
    }
}

/* The answer to a ping is sent from within the callback. */
static void on_message(void *ctx, uint32_t from, const uint8_t *data, size_t len)
{
    struct member *m = ctx;
    ASSERT(from == (m->load->parent ? 0U : 1U));
    if (len != m->load->shape->bytes) {
        member_end(m, err_new(ERR_CORRUPT, "a message of %zu bytes", len));
        return;
    }
    load_take(m->load, data);
    if (m->load->over) {
        io_loop_stop(m->loop);
    } else if (m->load->shape->pattern == LOAD_PING) {
        ping(m);
    }
}

/* Nobody restarts here: the end of a generation is a failure. */
static void on_lost(void *ctx, const char *reason)
{
    member_end(ctx, err_new(ERR_UNAVAILABLE, "the generation is over: %s", reason));
}

static const struct exchange_handler handler = {
    .formed = on_formed, .message = on_message, .lost = on_lost};

/* Was the run interrupted? */
static void on_timer(struct io_timer *timer)
{
    struct member *m = CONTAINER_OF(timer, struct member, timer);
    if (link_interrupted) {
        io_loop_stop(m->loop);
        return;
    }
    io_timer_start(m->loop, timer, io_now_us(m->loop) + WATCH_US);
}

/* The replica's process 0 is the child, 1 the parent; or its one process has two workers. */
static err_t make_exchange(struct member *m)
{
    const char *peers[] = {m->tcp[0], m->tcp[1]};
    const char *paths[] = {m->local[0], m->local[1]};
    uint32_t process = m->load->parent && !m->inner ? 1 : 0;
    ASSERT(m->load != NULL && m->exchange == NULL);
    struct exchange_config config = {
        .process = process, .processes = m->inner ? 1 : 2,
        .workers_per_process = m->inner ? 2 : 1,
        .listen_address = m->tcp[process], .peers = peers,
        .unix_paths = m->shm ? paths : NULL,
        .self = {.environment = "tailrace-bench!", .service = 1, .process = process,
                 .generation = 1, .epoch = 1, .node_secret_path = m->secret},
        .carrier = m->shm ? BOUNDARY_CARRIER_SHM : BOUNDARY_CARRIER_TCP,
        .handler = &handler,
    };
    return exchange_new(m->loop, &config, &m->exchange);
}

static err_t start_member(struct member *m)
{
    static const uint32_t spins_us[] = {[LOAD_SPIN] = SPIN_US, [LOAD_SLEEP] = 0};
    if (m->load->shape->wait != LOAD_ADAPT) {
        io_loop_set_spin(m->loop, spins_us[m->load->shape->wait]);
    }
    if (m->exchange == NULL) {
        TRY(make_exchange(m));
    }
    exchange_worker(m->exchange, index_of(m), m->loop, m);
    m->poller = (struct io_poller){.poll = poll_member};
    io_poller_add(m->loop, &m->poller);
    m->timer.fire = on_timer;
    io_timer_start(m->loop, &m->timer, io_now_us(m->loop) + WATCH_US);
    return ERR_OK;
}

/* io_main's: an error before the loop runs ends it at once. */
static void start(struct io_loop *loop, void *arg)
{
    struct member *m = arg;
    m->loop = loop;
    err_t err = start_member(m);
    if (err != ERR_OK) {
        member_end(m, err);
    }
}

/* What it made is not freed: the process ends when this returns. */
static err_t exchange_run(struct link *link, struct load *load)
{
    struct member *m = link->state;
    struct io_env *env;
    ASSERT(m->load == NULL);
    m->link = link;
    m->load = load;
    TRY(io_env_new_real(&env));
    TRY(io_main(env, start, m));
    return m->err;
}

struct both {
    struct member members[2];
};

static void start_both(struct io_loop *loop, void *arg)
{
    struct both *both = arg;
    start(loop, &both->members[0]);
    both->members[1].exchange = both->members[1].inner ? both->members[0].exchange : NULL;
    start(loop, &both->members[1]);
}

/* Members of their own, of which only the message must not be shared. */
static err_t exchange_count(struct link *link, struct load *child, struct load *parent)
{
    struct both *both = MEM_NEW(struct both);
    struct member *m = link->state;
    struct io_env *env;
    ASSERT(!child->parent && parent->parent);
    for (int i = 0; i < 2; i++) {
        both->members[i] = *m;
        both->members[i].link = link;
        both->members[i].load = i == 0 ? child : parent;
    }
    both->members[1].message = mem_zalloc(link->shape->bytes);
    TRY(io_env_new_real(&env));
    TRY(io_main(env, start_both, both));
    return both->members[0].err != ERR_OK ? both->members[0].err : both->members[1].err;
}

/* Addresses of both processes, known to both by the fork. */
static err_t member_new(struct link *link, bool shm)
{
    struct member *m = MEM_NEW(struct member);
    ASSERT(link->state == NULL);
    link->state = m;
    m->shm = shm;
    m->message = mem_zalloc(link->shape->bytes);
    snprintf(m->secret, sizeof(m->secret), "%s/secret", link->directory);
    for (int i = 0; i < 2; i++) {
        snprintf(m->tcp[i], sizeof(m->tcp[i]), "127.0.0.1:%d", link_free_port());
        snprintf(m->local[i], sizeof(m->local[i]), "unixpacket:%s/exchange%u-%d",
                 link->directory, link->serial, i);
    }
    return link_write_secret(m->secret);
}

static err_t shm_open_link(struct link *link)
{
    return member_new(link, true);
}

static err_t inner_open_link(struct link *link)
{
    err_t err = member_new(link, false);
    ((struct member *)link->state)->inner = true;
    return err;
}

static err_t tcp_open_link(struct link *link)
{
    return member_new(link, false);
}

/* In the program, which never ran a loop of this link. */
static void exchange_close(struct link *link)
{
    struct member *m = link->state;
    ASSERT(link->state != NULL);
    unlink(m->secret);
    free(m->message);
    free(m);
}

/* An exchange copies, and a death is the carrier's to notice. */
static bool fits(const struct load_shape *shape)
{
    return !shape->by_reference && shape->pattern != LOAD_KILL;
}

const struct link_ops link_exchange_shm = {
    .name = "exchange shm", .kind = LINK_OURS, .layer = LINK_EXCHANGE, .under = &link_shm,
    .fits = fits, .open = shm_open_link, .run = exchange_run, .count = exchange_count,
    .close = exchange_close};
const struct link_ops link_exchange_tcp = {
    .name = "exchange tcp", .kind = LINK_OURS, .layer = LINK_EXCHANGE, .under = &link_tcp,
    .fits = fits, .open = tcp_open_link, .run = exchange_run, .count = exchange_count,
    .close = exchange_close};
/* Two workers of a process, for the count alone: a run has two processes. Rounds of threads are
 * measured in exchange.c. */
const struct link_ops link_exchange_inner = {
    .name = "exchange inner", .kind = LINK_OURS, .layer = LINK_EXCHANGE, .fits = fits,
    .open = inner_open_link, .count = exchange_count, .close = exchange_close};
