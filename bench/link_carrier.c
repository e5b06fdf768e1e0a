/*
 * Ours: a real carrier session between the two processes, each with one loop that is both net loop
 * and worker loop, over shared memory, TCP and TLS. The handshake above the stream is left out (it
 * costs nothing later); from carrier_reserve to the host's message everything is as in production.
 *
 * The waits are the loop's: SPIN looks for work for ever, SLEEP sleeps at once, ADAPT is what a
 * daemon does.
 *
 * Back and forth, each side answers from within the callback that brought the message. A flood
 * sends up to 64 batches a turn of the loop (64 KiB at most), as a worker with that much to say
 * would, and goes on as long as the carrier has room. The carrier publishes at the end of a turn by
 * itself; the flush after each batch is there because the case says how large a publication is: one
 * by one is one message, however many of them a turn has. Over TCP what a turn has said leaves
 * together, so there a turn has one batch, and one by one is one system call each, as with bare
 * TCP.
 *
 * By reference: the block is built once in a pool, and each message only says which number it is.
 */
#include "bench/link.h"

#include "core/base/mem.h"
#include "core/io/tls.h"
#include "ctrl/pki/pki.h"
#include "ring/shm/shm.h"
#include "ring/tcp/tcp.h"

#include <stdio.h>
#include <string.h>

enum {
    RETRY_US = 5000,
    WATCH_US = 100 * 1000,
    SPIN_US = 10 * 1000 * 1000,
    TURN_FLUSHES = 64, /* a flood's publications in one turn of the loop, */
    TURN_BYTES = 64 * 1024, /* as long as they are fewer bytes than this */
};

/* How the session is made. Filled before the forks, then read only; the rest belongs to one
 * process each. */
struct post {
    struct link *link;
    struct load *load;         /* what to send, what was received */
    char address[192];         /* where the parent listens */
    bool shm;                  /* else TCP, with TLS when there are certificates */
    struct pki_files files[2]; /* TLS: of the child, of the parent */
    struct tls_context *tls;   /* NULL: plain */
    struct io_loop *loop;      /* net loop and worker loop in one */
    struct io_listener *listener; /* the parent's */
    struct io_stream *stream;  /* being set up; NULL: dial again */
    struct carrier *carrier;   /* NULL until the session stands */
    struct carrier_window *window; /* of its one lane */
    struct io_poller poller;   /* sends */
    struct io_timer timer;     /* dials, looks at link_interrupted, sees the end of a KILL */
    struct shm_pool *pool;     /* BY_REFERENCE: of the block below */
    struct carrier_block block;
    err_t err;                 /* why the loop was stopped before its time */
};

/* The first error is the one that counts; the loop ends after the current callback. */
static void post_end(struct post *post, err_t err)
{
    ASSERT(post->loop != NULL);
    if (post->err == ERR_OK) {
        post->err = err;
    } else {
        err_free(err);
    }
    io_loop_stop(post->loop);
}

/* ---- sending --------------------------------------------------------------------------------- */

/* Small messages in packs, built in place. */
static void send_small(struct post *post, uint32_t count)
{
    struct load *load = post->load;
    const struct carrier_message m = {.kind = FRAME_KIND_USER, .stream = 1};
    ASSERT(post->carrier != NULL && load->shape->bytes <= CARRIER_RUN_BYTES);
    while (count > 0) {
        uint32_t n = count < CARRIER_RUN_MAX ? count : CARRIER_RUN_MAX;
        struct carrier_pack pack;
        carrier_pack_begin(post->carrier, 0, 0, n, load->shape->bytes, &pack);
        for (uint32_t i = 0; i < n; i++) {
            load_fill(load, carrier_pack_at(&pack, i));
        }
        carrier_pack_end(post->carrier, 0, 0, &pack, &m, n);
        count -= n;
    }
}

/* One thing to say, which is not to wait: in place as well. */
static inline __attribute__((always_inline)) void send_single(struct load *load,
                                                              struct carrier_window *window,
                                                              size_t bytes)
{
    const struct carrier_message m = {.kind = FRAME_KIND_USER, .stream = 1};
    struct carrier_line *line = carrier_post_begin(window, bytes);
    if (bytes <= CARRIER_RUN_HEAD) {
        load_fill(load, line->bytes);
    } else {
        load_fill_two(load, line->bytes, CARRIER_RUN_HEAD / sizeof(load_pair),
                      carrier_post_more(line));
    }
    carrier_post_end(window, line, &m, bytes);
}

/* As long as there is room and something left, up to n of them; returns how many. */
static uint32_t send_singles(struct post *post, uint32_t n)
{
    struct load *load = post->load;
    struct carrier_window *window = post->window;
    size_t bytes = load->shape->bytes;
    uint32_t sent = 0;
    ASSERT(bytes <= CARRIER_RUN_BYTES);
    while (sent < n && (load->limit == 0 || load->sent < load->limit) &&
           carrier_post_room(window, bytes)) {
        send_single(load, window, bytes);
        sent++;
    }
    return sent;
}

/* In a block of the arena, or a reference to the one there is. */
static void send_large(struct post *post, uint32_t count)
{
    struct load *load = post->load;
    size_t bytes = load->shape->bytes;
    struct carrier_message m = {.kind = FRAME_KIND_USER, .stream = 1};
    for (uint32_t i = 0; i < count; i++) {
        struct carrier_block block;
        m.a = load->sent;
        m.b = load->due_ns;
        if (load->shape->by_reference) {
            load->sent++;
            carrier_share(post->carrier, 0, 0, &m, &post->block, bytes);
            continue;
        }
        carrier_reserve(post->carrier, 0, 0, bytes, &block);
        load_fill(load, block.data);
        carrier_commit(post->carrier, 0, 0, &m, &block, bytes);
    }
    carrier_flush(post->carrier, 0);
}

/* All of them in one block. */
static void send_records(struct post *post, uint32_t count)
{
    struct load *load = post->load;
    size_t bytes = load->shape->bytes;
    const struct carrier_message m = {.kind = FRAME_KIND_USER, .stream = 1};
    struct carrier_block block;
    carrier_reserve(post->carrier, 0, 0, count * bytes, &block);
    for (uint32_t i = 0; i < count; i++) {
        load_fill(load, block.data + i * bytes);
    }
    carrier_commit(post->carrier, 0, 0, &m, &block, count * bytes);
    carrier_flush(post->carrier, 0);
}

/* As the layers above would: publishes what it sent. */
static void send(struct post *post, uint32_t count)
{
    const struct load_shape *shape = post->load->shape;
    ASSERT(count > 0 && post->carrier != NULL);
    if (shape->records) {
        send_records(post, count);
    } else if (shape->by_reference || shape->bytes > CARRIER_RUN_BYTES) {
        send_large(post, count);
    } else if (count == 1) {
        send_single(post->load, post->window, shape->bytes);
    } else {
        send_small(post, count);
        carrier_flush(post->carrier, 0);
    }
}

/* False: no room (the carrier will say), or all is sent. */
static bool send_batch(struct post *post, uint32_t count)
{
    ASSERT(count > 0);
    if (!carrier_ready(post->carrier, 0, 0)) {
        return false; /* writable wakes us */
    }
    uint64_t limit = post->load->limit;
    if (limit != 0 && post->load->sent >= limit) {
        return false;
    }
    send(post, count);
    return true;
}

/* What a busy worker has to say in one turn of its loop. */
static bool send_turn(struct post *post)
{
    const struct load_shape *shape = post->load->shape;
    size_t each = (size_t)shape->batch * (shape->by_reference ? sizeof(uint64_t) : shape->bytes);
    const uint32_t most = post->shm ? TURN_FLUSHES : 1;
    ASSERT(each > 0);
    uint32_t flushes = 0;
    while (flushes < most && flushes * each < TURN_BYTES &&
           send_batch(post, shape->batch)) {
        flushes++;
        if (shape->batch == 1 && shape->bytes <= CARRIER_RUN_BYTES) {
            flushes += send_singles(post, most - flushes);
        }
    }
    return flushes > 0;
}

/* Sends what is due, once a turn, however late it is. */
static bool send_paced(struct post *post)
{
    struct load *load = post->load;
    if (load_due(load, machine_now_ns())) {
        send(post, 1);
        load->due_ns += load->shape->interval_ns;
    }
    return true; /* the clock must be looked at again: a sender on time does not sleep */
}

/* The sender's side of the loop's turn. */
static bool poll_post(struct io_poller *poller)
{
    struct post *post = CONTAINER_OF(poller, struct post, poller);
    if (post->carrier == NULL || !load_sends(post->load)) {
        return false;
    }
    switch (post->load->shape->pattern) {
    case LOAD_FLOOD:
    case LOAD_KILL: return send_turn(post);
    case LOAD_PACED: return send_paced(post);
    case LOAD_PING: return false; /* the answers drive it */
    }
    UNREACHABLE();
}

/* ---- the session ----------------------------------------------------------------------------- */

/* The clock is read before the message is written: building it is part of the round trip. */
static void ping(struct post *post)
{
    post->load->sent_ns = machine_now_ns();
    send(post, 1);
}

/* The session stands, on the worker's loop. */
static void on_open(void *ctx, struct carrier *carrier, uint32_t local)
{
    struct post *post = ctx;
    ASSERT(local == 0 && post->carrier == NULL);
    post->carrier = carrier;
    post->window = carrier_window(carrier, 0, 0);
    if (load_sends(post->load) && post->load->shape->pattern == LOAD_PING) {
        ping(post);
    }
}

/* After what came was taken. The answer to a ping is sent from within the callback, as a worker
 * that has nothing else to do would. */
static inline void taken(struct post *post)
{
    if (post->load->over) {
        io_loop_stop(post->loop);
    } else if (post->load->shape->pattern == LOAD_PING) {
        ping(post);
    }
}

static err_t bad_length(const struct post *post, size_t len)
{
    return err_new(ERR_CORRUPT, "%zu bytes instead of %u", len, post->load->shape->bytes);
}

/* What the case is about: larger messages, and those that did not come in runs. */
static err_t on_message(void *ctx, struct carrier *carrier, uint32_t local, uint32_t remote,
                        const struct carrier_message *m)
{
    struct post *post = ctx;
    struct load *load = post->load;
    size_t bytes = load->shape->bytes;
    ASSERT(local == 0 && remote == 0);
    if (m->len != (load->shape->records ? bytes * load->shape->batch : bytes)) {
        return bad_length(post, m->len);
    }
    if (load->shape->records) {
        for (size_t at = 0; at < m->len && !load->over; at += bytes) {
            load_take(load, m->data + at);
        }
    } else if (load->shape->by_reference) {
        uint64_t words[4] = {m->a, m->b};
        load_take(load, words);
    } else {
        load_take(load, m->data);
    }
    taken(post);
    return ERR_OK;
}

static err_t on_pack(void *ctx, struct carrier *carrier, uint32_t local, uint32_t remote,
                     const struct carrier_message *m, uint32_t n, uint32_t stride)
{
    struct post *post = ctx;
    struct load *load = post->load;
    ASSERT(local == 0 && remote == 0);
    if (m->len != load->shape->bytes) {
        return bad_length(post, m->len);
    }
    for (uint32_t i = 0; i < n && !load->over; i++) {
        load_take(load, m->data + (size_t)i * stride);
    }
    taken(post);
    return ERR_OK;
}

static err_t on_run(void *ctx, struct carrier *carrier, uint32_t local, uint32_t remote,
                    const struct carrier_small *messages, uint32_t len)
{
    struct post *post = ctx;
    struct load *load = post->load;
    ASSERT(local == 0 && remote == 0);
    for (uint32_t i = 0; i < len && !load->over; i++) {
        if (messages[i].len != load->shape->bytes) {
            return bad_length(post, messages[i].len);
        }
        load_take(load, messages[i].bytes);
    }
    taken(post);
    return ERR_OK;
}

/* Nothing is ever taken back here, because senders wait for room. */
static err_t on_lost(void *ctx, struct carrier *carrier, uint32_t local, uint32_t remote,
                     const struct carrier_message *m)
{
    return err_new(ERR_INTERNAL, "a message was taken back: the reader fell behind");
}

/* Nobody sends after it; the poller sees NULL. */
static void on_close(void *ctx, struct carrier *carrier, uint32_t local)
{
    struct post *post = ctx;
    ASSERT(post->carrier == NULL || post->carrier == carrier);
    post->carrier = NULL;
}

/* The end of a session is a failure, unless we killed the peer to see just that. */
static void on_ending(void *ctx, struct carrier *carrier, const char *reason)
{
    struct post *post = ctx;
    struct load *load = post->load;
    if (load->killed_ns != 0) {
        load->figures->notice_ns = machine_now_ns() - load->killed_ns;
        return;
    }
    post_end(post, err_new(ERR_UNAVAILABLE, "session ended: %s", reason));
}

/* In the loop's next turn, when the session and its mappings are gone. */
static void on_freed(struct io_timer *timer)
{
    struct post *post = CONTAINER_OF(timer, struct post, timer);
    post->load->figures->reclaim_ns = machine_now_ns() - post->load->killed_ns;
    post->load->over = true;
    io_loop_stop(post->loop);
}

/* The session is freed when this returns: a timer, due at once, comes after it. */
static void on_ended(void *ctx, struct carrier *carrier)
{
    struct post *post = ctx;
    if (post->load->killed_ns != 0) {
        io_timer_cancel(post->loop, &post->timer);
        post->timer.fire = on_freed;
        io_timer_start(post->loop, &post->timer, io_now_us(post->loop));
    }
}

static const struct carrier_host host = {
    .open = on_open, .message = on_message, .pack = on_pack, .run = on_run, .lost = on_lost,
    .close = on_close, .ending = on_ending, .ended = on_ended};

/* Over a connected stream, without the handshake of the layers above. */
static void session_new(struct post *post, struct io_stream *stream, const uint8_t *rest,
                        size_t rest_len)
{
    static const struct hello hello = {.workers = 1};
    struct carrier_worker worker = {.loop = post->loop, .ctx = post};
    struct carrier_config config = {.net = post->loop, .host = &host, .net_ctx = post,
                                    .workers = &worker, .workers_len = 1, .ours = &hello,
                                    .theirs = &hello};
    ASSERT(stream != NULL && post->carrier == NULL);
    if (post->shm) {
        struct shm_config shm = {.initiator = !post->load->parent, .pool = post->pool};
        shm_carrier_new(&config, stream, &shm);
    } else {
        tcp_carrier_new(&config, stream, rest, rest_len);
    }
}

/* The TLS handshake is done. */
static void on_secure(void *arg, struct io_stream *stream)
{
    session_new(arg, stream, NULL, 0);
}

/* Until the session takes the stream over. A refused connection is tried again by the timer. */
static void stream_closed(void *arg, err_t reason)
{
    struct post *post = arg;
    post->stream = NULL;
    if (post->tls != NULL && reason != ERR_OK && err_code(reason) != ERR_UNAVAILABLE) {
        post_end(post, err_wrap(reason, "connecting"));
        return;
    }
    err_free(reason);
}

static const struct io_stream_handler stream_handler = {.close = stream_closed};

/* Connected or accepted. */
static void on_stream(void *arg, struct io_stream *stream)
{
    struct post *post = arg;
    ASSERT(stream != NULL);
    if (post->tls != NULL) {
        tls_start(post->tls, stream, NULL, NULL, 0, &stream_handler, post, on_secure,
                  &post->stream);
    } else {
        session_new(post, stream, NULL, 0);
    }
    post->stream = stream; /* not NULL: no further attempt */
}

/* ---- one process ----------------------------------------------------------------------------- */

/* Dials until it is connected, then looks now and then whether the run was interrupted. */
static void on_timer(struct io_timer *timer)
{
    struct post *post = CONTAINER_OF(timer, struct post, timer);
    if (link_interrupted && post->load->killed_ns == 0) {
        io_loop_stop(post->loop);
        return;
    }
    bool dial = !post->load->parent && post->stream == NULL;
    if (dial) {
        err_t err = io_connect(post->loop, post->address, &stream_handler, post, on_stream,
                               &post->stream);
        if (err != ERR_OK) {
            post_end(post, err);
            return;
        }
    }
    io_timer_start(post->loop, timer, io_now_us(post->loop) + (dial ? RETRY_US : WATCH_US));
}

/* Both sides show certificates and check the other's, as storaged and computed do. */
static err_t open_tls(struct post *post)
{
    const struct pki_files *files = &post->files[post->load->parent];
    ASSERT(post->tls == NULL);
    if (files->certificate_path == NULL) {
        return ERR_OK;
    }
    struct tls_config config = {.certificate_path = files->certificate_path,
                                .key_path = files->key_path, .ca_path = files->ca_path,
                                .require_peer = post->load->parent};
    return tls_context_new(&config, post->load->parent, &post->tls);
}

/* Everything one process has, on its one loop. */
static err_t start_post(struct post *post)
{
    static const uint32_t spins_us[] = {[LOAD_SPIN] = SPIN_US, [LOAD_SLEEP] = 0};
    ASSERT(post->load != NULL && post->carrier == NULL);
    TRY(open_tls(post));
    if (post->load->shape->wait != LOAD_ADAPT) {
        io_loop_set_spin(post->loop, spins_us[post->load->shape->wait]);
    }
    if (post->load->shape->by_reference) {
        size_t bytes = post->load->shape->bytes;
        post->pool = shm_pool_new(&(struct shm_pool_config){.shared = true, .workers = 1});
        shm_pool_worker(post->pool, 0, post->loop, NULL, NULL);
        if (!shm_pool_reserve(post->pool, 0, bytes, &post->block)) {
            return err_new(ERR_LIMIT, "no block of %zu bytes", bytes);
        }
        memset(post->block.data, 1, bytes);
    }
    if (post->load->parent) {
        TRY(io_listen(post->loop, post->address, on_stream, post, &post->listener));
    }
    post->poller = (struct io_poller){.poll = poll_post, .brief = true};
    io_poller_add(post->loop, &post->poller);
    post->timer.fire = on_timer;
    io_timer_start(post->loop, &post->timer, io_now_us(post->loop));
    return ERR_OK;
}

/* io_main's: an error before the loop runs ends it at once. */
static void start(struct io_loop *loop, void *arg)
{
    struct post *post = arg;
    post->loop = loop;
    err_t err = start_post(post);
    if (err != ERR_OK) {
        post_end(post, err);
    }
}

/* What it made is not freed: the process ends when this returns. */
static err_t carrier_run(struct link *link, struct load *load)
{
    struct post *post = link->state;
    struct io_env *env;
    ASSERT(post->load == NULL);
    post->link = link;
    post->load = load;
    TRY(io_env_new_real(&env));
    TRY(io_main(env, start, post));
    return post->err;
}

/* Both sides on one loop: for counting instructions. */
struct both {
    struct post posts[2];
};

/* One loop for both: each turn polls one sender and one receiver. */
static void start_both(struct io_loop *loop, void *arg)
{
    struct both *both = arg;
    start(loop, &both->posts[1]); /* who listens first */
    start(loop, &both->posts[0]);
}

static err_t carrier_count_run(struct link *link, struct load *child, struct load *parent)
{
    struct both *both = MEM_NEW(struct both);
    const struct post *post = link->state;
    struct io_env *env;
    for (int i = 0; i < 2; i++) {
        both->posts[i] = *post;
        both->posts[i].link = link;
        both->posts[i].load = i == 0 ? child : parent;
    }
    TRY(io_env_new_real(&env));
    TRY(io_main(env, start_both, both));
    return both->posts[0].err != ERR_OK ? both->posts[0].err : both->posts[1].err;
}

/* ---- before the forks ------------------------------------------------------------------------ */

/* What the processes inherit by the fork. */
static void post_new(struct link *link)
{
    struct post *post = MEM_NEW(struct post);
    ASSERT(link->state == NULL);
    link->state = post;
    post->link = link;
}

/* A SEQPACKET socket in the run's directory carries the memories across. */
static err_t shm_open_link(struct link *link)
{
    post_new(link);
    struct post *post = link->state;
    post->shm = true;
    snprintf(post->address, sizeof(post->address), "unixpacket:%s/carrier%u", link->directory,
             link->serial);
    return ERR_OK;
}

/* The port was free a moment ago; nobody else on this machine is so quick. */
static err_t tcp_open_link(struct link *link)
{
    post_new(link);
    struct post *post = link->state;
    snprintf(post->address, sizeof(post->address), "127.0.0.1:%d", link_free_port());
    return ERR_OK;
}

/* On a loop of its own: an environment's certificate authority and both sides' certificates. */
static void make_certificates(struct io_loop *loop, void *arg)
{
    struct post *post = arg;
    char directory[192];
    struct pki *pki = NULL;
    ASSERT(!post->shm);
    snprintf(directory, sizeof(directory), "%s/pki", post->link->directory);
    post->loop = loop;
    err_t err = pki_init(loop, directory, "bench", &pki);
    for (int i = 0; i < 2 && err == ERR_OK; i++) {
        err = pki_issue(pki, i == 0 ? PKI_COMPUTED : PKI_STORAGED, "bench", &post->files[i]);
    }
    pki_free(pki);
    post_end(post, err);
}

/* A whole PKI for each run: keys are made in milliseconds. */
static err_t tls_open_link(struct link *link)
{
    TRY(tcp_open_link(link));
    struct post *post = link->state;
    struct io_env *env;
    TRY(io_env_new_real(&env));
    err_t err = io_main(env, make_certificates, post);
    io_env_free(env);
    if (err == ERR_OK) {
        err = post->err;
    }
    post->err = ERR_OK;
    return err;
}

/* In the program, which never ran a loop of this link. */
static void carrier_close_link(struct link *link)
{
    struct post *post = link->state;
    ASSERT(link->state != NULL);
    for (int i = 0; i < 2; i++) {
        pki_files_free(&post->files[i]);
    }
    free(post);
}

/* TCP copies what it shares, and hears of a death when the kernel says so. */
static bool tcp_fits(const struct load_shape *shape)
{
    return !shape->by_reference && shape->pattern != LOAD_KILL;
}

const struct link_ops link_shm = {
    .name = "shm", .kind = LINK_OURS,
    .open = shm_open_link, .run = carrier_run, .count = carrier_count_run,
    .close = carrier_close_link};
const struct link_ops link_tcp = {
    .name = "tcp", .kind = LINK_OURS, .fits = tcp_fits,
    .open = tcp_open_link, .run = carrier_run, .count = carrier_count_run,
    .close = carrier_close_link};
const struct link_ops link_tls = {
    .name = "tls", .kind = LINK_OURS, .fits = tcp_fits,
    .open = tls_open_link, .run = carrier_run, .count = carrier_count_run,
    .close = carrier_close_link};
