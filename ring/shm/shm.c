/*
 * The set-up, control and end of a session over shared memory, on the net loop.
 *
 * Set-up. Each side makes its memory and its workers open their doorbells; the initiator sends
 * ATTACH (proof of the node's secret, shape, and the descriptors of its memory), and behind it the
 * descriptors of its workers' doorbells, if it needs any, in as many packets as that takes (BELLS);
 * the other side checks and maps it, and answers with its own. Who has both sent and got everything
 * starts.
 *
 * End. The kernel closes the connection of a process that died after it has taken its memory away,
 * so the end of the stream proves that the peer writes no more; then the workers hear close, and
 * when all have, everything is unmapped.
 */
#include "core/base/log.h"
#include "ring/shm/internal.h"

enum {
    /* Generous: lanes are the square of the workers, and a busy machine takes seconds to map and
     * look at 40,000 of them. A session given up here goes over TCP until it is cut. */
    ATTACH_US = 30 * 1000 * 1000,
    ATTACH_LEN = HELLO_PROOF_LEN + 24,
    UNMAP_HERE_MAX = 4 << 20, /* bytes; more would hold up the loop for a millisecond */
    ATTACH_BELLS = 1, /* flag: doorbells are passed, one per worker */
};

/* ---- packets --------------------------------------------------------------------------------- */

static void send_packet(struct shm_carrier *shm, struct frame_header *h, const void *payload,
                        size_t len, const int *fds, size_t fds_len)
{
    ASSERT(len <= SHM_CONTROL_MAX && shm->stream != NULL);
    h->flags = FRAME_FIRST | FRAME_LAST;
    h->from = CARRIER_NET;
    h->to = CARRIER_NET;
    h->length = h->total = (uint32_t)len;
    uint8_t *packet = mem_alloc(FRAME_HEADER_LEN + len);
    frame_encode(packet, h, payload);
    if (len > 0) {
        memcpy(packet + FRAME_HEADER_LEN, payload, len);
    }
    if (fds_len > 0) {
        io_stream_write_fds(shm->stream, packet, FRAME_HEADER_LEN + len, fds, fds_len);
    } else {
        io_stream_write(shm->stream, packet, FRAME_HEADER_LEN + len);
    }
    free(packet);
}

static void send_control(struct shm_carrier *shm, const struct carrier_message *m)
{
    ASSERT(shm->base.started && m->kind >= FRAME_KIND_USER);
    struct frame_header h = {.kind = m->kind, .stream = m->stream, .c = m->c, .a = m->a,
                             .b = m->b};
    send_packet(shm, &h, m->data, m->len, NULL, 0);
}

/* Before the session stands the peer has not proved itself or would not listen: kept till then. */
static void shm_control(struct carrier *c, const struct carrier_message *m)
{
    struct shm_carrier *shm = shm_of(c);
    if (c->started) {
        send_control(shm, m);
        return;
    }
    struct carrier_node *node = carrier_node_new(CARRIER_NODE_MESSAGE, 0, 0, m, m->len);
    if (m->len > 0) {
        memcpy(carrier_node_data(node), m->data, m->len);
    }
    *(shm->waiting_last != NULL ? &shm->waiting_last->next : &shm->waiting) = node;
    shm->waiting_last = node;
}

static void send_waiting(struct shm_carrier *shm)
{
    ASSERT(shm->base.started);
    while (shm->waiting != NULL) {
        struct carrier_node *node = shm->waiting;
        shm->waiting = node->next;
        send_control(shm, &node->m);
        carrier_node_free(node);
    }
    shm->waiting_last = NULL;
}

/* Behind ATTACH: the connection keeps the order, so the peer knows whose each one is. */
static void send_bells(struct shm_carrier *shm)
{
    ASSERT(shm->bells && shm->base.ends_len <= SHM_WORKERS_MAX);
    int fds[SHM_BELLS_A_PACKET];
    for (uint32_t i = 0; i < shm->base.ends_len;) {
        size_t fds_len = 0;
        while (i < shm->base.ends_len && fds_len < SHM_BELLS_A_PACKET) {
            fds[fds_len++] = io_bell_fd(shm->ends[i++].bell);
        }
        struct frame_header h = {.kind = FRAME_BELLS};
        send_packet(shm, &h, NULL, 0, fds, fds_len);
    }
}

static void send_attach(struct shm_carrier *shm)
{
    ASSERT(!shm->told && shm->prepared == shm->base.ends_len);
    int fds[2] = {shm->own_fd, shm->pool->fd};
    struct buf text = {0};
    static const uint8_t no_proof[HELLO_PROOF_LEN];
    buf_append(&text, shm->config.initiator ? shm->config.proof : no_proof, HELLO_PROOF_LEN);
    buf_append_u32(&text, shm->own_shape.workers);
    buf_append_u32(&text, shm->own_shape.peer_workers);
    buf_append_u32(&text, shm->own_shape.lines);
    buf_append_u32(&text, shm->bells ? ATTACH_BELLS : 0);
    buf_append_u64(&text, shm->own_shape.arena_bytes);
    ASSERT(text.len == ATTACH_LEN);
    struct frame_header h = {.kind = FRAME_ATTACH};
    send_packet(shm, &h, text.data, text.len, fds, ARRAY_LEN(fds));
    buf_free(&text);
    if (shm->bells) {
        send_bells(shm);
    }
    shm_close(shm->own_fd); /* the stream has a duplicate */
    shm->own_fd = -1;
    shm->told = true;
}

/* Goes on with the set-up as far as it can. */
static void set_up(struct shm_carrier *shm)
{
    ASSERT(shm->prepared <= shm->base.ends_len);
    if (shm->base.ending || shm->base.started || shm->prepared < shm->base.ends_len) {
        return;
    }
    bool heard = shm->heard && shm->bells_taken == shm->bells_due;
    if (!shm->told && (shm->config.initiator || heard)) {
        send_attach(shm);
    }
    if (shm->told && heard) {
        io_timer_cancel(shm->base.net, &shm->timer);
        carrier_start(&shm->base);
        send_waiting(shm);
    }
}

static bool shape_fits(const struct shm_carrier *shm, const struct shm_shape *shape)
{
    return shape->workers == shm->base.theirs.workers &&
           shape->peer_workers == shm->base.ends_len && shape->lines >= SHM_LINES_MIN &&
           shape->lines <= SHM_LINES_MAX && (shape->lines & (shape->lines - 1)) == 0 &&
           shape->arena_bytes >= SHM_ARENA_MIN && shape->arena_bytes <= SHM_ARENA_MAX &&
           shape->arena_bytes % SHM_PAGE == 0;
}

/* Maps what the peer has passed, and checks what is written at the head of it. */
static err_t attach_memory(struct shm_carrier *shm)
{
    const struct shm_shape *shape = &shm->peer_shape;
    TRY(shm_memory_attach(shm->fds[0], shm_size(shape), &shm->peer));
    TRY(shm_memory_attach(shm->fds[1], shm_pool_size(shape->workers, shape->arena_bytes),
                          &shm->peer_pool));
    return shm_peer_check(shm);
}

/* The peer's net loop has died, or its session is over. */
static void alive_changed(void *arg)
{
    struct shm_carrier *shm = arg;
    const struct shm_head *head = shm->peer;
    /* Acquire: what the peer wrote before it died has been written. */
    uint32_t word = atomic_load_explicit(shm_alive_word(&head->alive), memory_order_acquire);
    if (shm_alive_died(word)) {
        carrier_end_session(&shm->base, err_new(ERR_UNAVAILABLE, "the peer's process died"));
    }
}

static void watch_peer(struct shm_carrier *shm)
{
    const struct shm_head *head = shm->peer;
    const _Atomic uint32_t *word = shm_alive_word(&head->alive);
    if (!io_loop_has_futex(shm->base.net)) {
        return; /* the end of the connection tells, which takes longer */
    }
    err_t err = io_futex_open(shm->base.net, word, alive_changed, shm, &shm->alive);
    if (err != ERR_OK) { /* the loop has stopped */
        err_free(err);
        return;
    }
    /* Acquire: as in alive_changed. */
    uint32_t seen = atomic_load_explicit(word, memory_order_acquire);
    if (shm_alive_died(seen)) {
        carrier_fail(&shm->base, CARRIER_NET,
                     err_new(ERR_UNAVAILABLE, "the peer's process died"));
        return;
    }
    io_futex_arm(shm->alive, seen);
}

static err_t take_attach(struct shm_carrier *shm, const uint8_t *data, size_t len)
{
    struct reader r = reader_of(data, len);
    const uint8_t *proof = reader_bytes(&r, HELLO_PROOF_LEN);
    struct shm_shape *shape = &shm->peer_shape;
    shape->workers = reader_u32(&r);
    shape->peer_workers = reader_u32(&r);
    shape->lines = reader_u32(&r);
    uint32_t flags = reader_u32(&r);
    shape->arena_bytes = reader_u64(&r);
    if (r.failed || reader_left(&r) != 0 || shm->heard) {
        return err_new(ERR_PROTOCOL, "malformed attach message");
    }
    if (!shm->config.initiator && !hello_proof_equal(proof, shm->config.proof)) {
        return err_new(ERR_PERMISSION, "the peer does not know the node's secret");
    }
    if (!shape_fits(shm, shape) || (flags & ~(uint32_t)ATTACH_BELLS) != 0 || shm->fds_len != 2) {
        return err_new(ERR_PROTOCOL, "attach of %u workers, arenas of %llu, %zu descriptors",
                       shape->workers, (unsigned long long)shape->arena_bytes, shm->fds_len);
    }
    TRY(attach_memory(shm));
    shm_close(shm->fds[0]);
    shm_close(shm->fds[1]);
    shm->fds_len = 0; /* taken */
    shm->heard = true;
    shm->bells_due = (flags & ATTACH_BELLS) != 0 ? shape->workers : 0;
    watch_peer(shm);
    return ERR_OK;
}

/* The next of the doorbells that ATTACH announced. */
static err_t take_bells(struct shm_carrier *shm, size_t len)
{
    ASSERT(shm->bells_taken <= shm->bells_due && shm->bells_due <= SHM_WORKERS_MAX);
    if (len != 0 || shm->fds_len == 0 || shm->fds_len > shm->bells_due - shm->bells_taken) {
        return err_new(ERR_PROTOCOL, "%zu doorbells, %u are missing", shm->fds_len,
                       shm->bells_due - shm->bells_taken);
    }
    for (size_t i = 0; i < shm->fds_len; i++) {
        TRY(shm_check_bell(shm->fds[i]));
    }
    for (size_t i = 0; i < shm->fds_len; i++) {
        shm->peer_bells[shm->bells_taken++] = shm->fds[i];
    }
    shm->fds_len = 0; /* taken */
    return ERR_OK;
}

/* May end the session. */
static void take_set_up(struct shm_carrier *shm, const struct frame_header *h)
{
    err_t err = h->kind == FRAME_ATTACH ? take_attach(shm, shm->packet, h->length)
                                        : take_bells(shm, h->length);
    if (err == ERR_OK) {
        set_up(shm);
    } else if (shm->base.started) {
        carrier_end_session(&shm->base, err);
    } else {
        carrier_end_unfit(&shm->base, err);
    }
}

/* ERR_UNSUPPORTED: the peer cannot set it up. */
static void take_goodbye(struct shm_carrier *shm, const struct frame_header *h)
{
    bool unfit = h->c == ERR_UNSUPPORTED && !shm->base.started;
    (unfit ? carrier_end_unfit : carrier_end_session)(
        &shm->base, err_new(ERR_UNAVAILABLE, "the peer closed: %.*s", (int)h->length,
                            h->length > 0 ? (const char *)shm->packet : ""));
}

static err_t frame_place(void *arg, const struct frame_header *h, uint8_t **place)
{
    struct shm_carrier *shm = arg;
    if (h->length > SHM_CONTROL_MAX) {
        return err_new(ERR_PROTOCOL, "control message of %u bytes", h->length);
    }
    shm->packet = mem_realloc(shm->packet, h->length);
    *place = shm->packet;
    return ERR_OK;
}

static err_t frame_there(void *arg, const struct frame_header *h)
{
    struct shm_carrier *shm = arg;
    struct carrier *c = &shm->base;
    if (h->kind == FRAME_DETACHED) {
        shm->peer_done = true;
        return ERR_OK;
    }
    if (c->ending) {
        return ERR_OK; /* it does not know yet */
    }
    if (h->kind == FRAME_ATTACH || h->kind == FRAME_BELLS) {
        take_set_up(shm, h);
        return ERR_OK;
    }
    if (h->kind == FRAME_GOODBYE) {
        take_goodbye(shm, h);
        return ERR_OK;
    }
    if (h->kind < FRAME_KIND_USER || !c->started || h->flags != FRAME_FLAGS ||
        c->host->control == NULL) {
        return err_new(ERR_PROTOCOL, "unexpected message of kind %u", h->kind);
    }
    struct carrier_message m = {.kind = h->kind, .stream = h->stream, .c = h->c, .a = h->a,
                                .b = h->b, .data = h->length > 0 ? shm->packet : NULL,
                                .len = h->length};
    return c->host->control(c->net_ctx, c, &m);
}

static void shm_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    struct shm_carrier *shm = arg;
    size_t used = 0;
    shm->fds = fds;
    shm->fds_len = fds_len;
    err_t err = frame_parse(&shm->parser, data, len, &used);
    if (err == ERR_OK && !frame_parser_clean(&shm->parser)) {
        err = err_new(ERR_PROTOCOL, "a packet that is not a whole message");
    }
    for (size_t i = 0; i < shm->fds_len; i++) { /* what nobody took */
        shm_close(fds[i]);
        err = err == ERR_OK ? err_new(ERR_PROTOCOL, "descriptors nobody asked for") : err;
    }
    if (err != ERR_OK) {
        carrier_end_session(&shm->base, err);
    }
}

static void shm_closed(void *arg, err_t reason)
{
    struct shm_carrier *shm = arg;
    ASSERT(shm->stream != NULL);
    shm->stream = NULL;
    carrier_end_session(&shm->base, reason);
}

static const struct io_stream_handler shm_handler = {
    .data = shm_data,
    .close = shm_closed,
};

/* ---- life ------------------------------------------------------------------------------------ */

static void shm_node(struct carrier *c, struct mailbox_item *item)
{
    struct shm_carrier *shm = shm_of(c);
    struct carrier_node *node = CONTAINER_OF(item, struct carrier_node, item);
    ASSERT(node->kind == CARRIER_NODE_OTHER && shm->prepared < c->ends_len);
    shm->bells |= shm->ends[node->local].bell != NULL;
    carrier_node_free(node);
    shm->prepared++;
    set_up(shm);
}

static void shm_timeout(struct io_timer *timer)
{
    struct shm_carrier *shm = CONTAINER_OF(timer, struct shm_carrier, timer);
    ASSERT(!shm->base.started);
    carrier_end_unfit(&shm->base, err_new(ERR_TIMEOUT, "shared memory not attached in time"));
}

/* The connection stays: its end says that this side reads no more. */
static void shm_shut(struct carrier *c, const char *reason)
{
    struct shm_carrier *shm = shm_of(c);
    io_timer_cancel(c->net, &shm->timer);
    io_futex_close(shm->alive);
    shm->alive = NULL;
    if (shm->stream == NULL) {
        return;
    }
    size_t len = strlen(reason);
    struct frame_header h = {.kind = FRAME_GOODBYE, .c = carrier_unfit(c) ? ERR_UNSUPPORTED : 0};
    send_packet(shm, &h, reason, len < SHM_CONTROL_MAX ? len : SHM_CONTROL_MAX, NULL, 0);
}

/* Every worker has let go. Blocks of a pool which the peer may still read outlive the session. */
static void part(struct shm_carrier *shm)
{
    struct shm_return *returns = NULL;
    for (uint32_t i = 0; i < shm->base.ends_len; i++) {
        struct shm_return *r = shm->ends[i].returns;
        if (r != NULL) {
            r->next = returns;
            returns = r;
        }
    }
    if (shm->stream != NULL) {
        struct frame_header h = {.kind = FRAME_DETACHED};
        send_packet(shm, &h, NULL, 0, NULL, 0);
    }
    if (shm->stream != NULL && returns != NULL && !shm->peer_done) {
        shm_linger(shm->config.pool, shm->stream, returns);
    } else {
        shm_pool_return(returns);
        if (shm->stream != NULL) {
            io_stream_finish(shm->stream);
        }
    }
    shm->stream = NULL;
}

struct unmap {
    void *base;
    size_t size;
};

static void unmap_start(struct io_loop *loop, void *arg)
{
    struct unmap *u = arg;
    shm_memory_unmap(u->base, u->size);
    free(u);
    io_loop_stop(loop);
}

/* The peer's blocks. Who lets go of them last frees them, a gigabyte in 200 ms: by a thread. */
static void unmap_pool(struct shm_carrier *shm)
{
    size_t size = shm_pool_size(shm->peer_shape.workers, shm->peer_shape.arena_bytes);
    if (shm->peer_pool != NULL && size > UNMAP_HERE_MAX) {
        struct unmap *u = MEM_NEW(struct unmap);
        *u = (struct unmap){shm->peer_pool, size};
        err_t err = io_thread_start(shm->base.net, "ring-unmap", -1, unmap_start, NULL, u);
        if (err == ERR_OK) {
            return;
        }
        err_free(err); /* the loop has stopped, or there is no thread to be had */
        free(u);
    }
    shm_memory_unmap(shm->peer_pool, size);
}

static void shm_free(struct carrier *c)
{
    struct shm_carrier *shm = shm_of(c);
    io_timer_cancel(c->net, &shm->timer);
    part(shm);
    shm_close(shm->own_fd);
    for (uint32_t i = 0; i < SHM_WORKERS_MAX; i++) {
        shm_close(shm->peer_bells[i]);
    }
    while (shm->waiting != NULL) {
        struct carrier_node *next = shm->waiting->next;
        carrier_node_free(shm->waiting);
        shm->waiting = next;
    }
    if (shm->own != NULL) {
        shm_alive_end(&((struct shm_head *)shm->own)->alive);
    }
    shm_memory_unmap(shm->own, shm_size(&shm->own_shape));
    shm_memory_unmap(shm->peer, shm_size(&shm->peer_shape));
    unmap_pool(shm);
    if (shm->config.pool == NULL) {
        shm_pool_free(shm->pool);
    }
    carrier_release(c);
    free(shm->packet);
    free(shm->ends);
    free(shm);
}

static const struct carrier_ops shm_ops = {
    .name = "shm",
    .ready = shm_ready,
    .reserve = shm_reserve,
    .commit = shm_commit,
    .send = shm_send,
    .share = shm_share,
    .flush = shm_flush,
    .run_begin = shm_run_begin,
    .run_end = shm_run_end,
    .pack_begin = shm_pack_begin,
    .pack_end = shm_pack_end,
    .window = shm_window,
    .posted = shm_posted,
    .prepare = shm_prepare,
    .attach = shm_attach,
    .detach = shm_detach,
    .control = shm_control,
    .node = shm_node,
    .shut = shm_shut,
    .free = shm_free,
};

static uint32_t ring_lines(uint32_t workers, uint32_t peer_workers)
{
    uint64_t lanes = (uint64_t)workers * peer_workers;
    uint32_t lines = SHM_LINES_MAX;
    while (lines > SHM_LINES_FEW && lanes * lines * SHM_LINE > SHM_RINGS_BYTES) {
        lines /= 2;
    }
    while (lines > SHM_LINES_MIN && lanes * lines * SHM_LINE > SHM_RINGS_MANY) {
        lines /= 2;
    }
    ASSERT(lines >= SHM_LINES_MIN && (lines & (lines - 1)) == 0);
    return lines;
}

/* Our memory, and the pool. */
static err_t make_memory(struct shm_carrier *shm)
{
    struct shm_shape *shape = &shm->own_shape;
    ASSERT(shm->base.ends_len <= SHM_WORKERS_MAX); /* carrier_init, and hello_decode */
    ASSERT(shm->base.theirs.workers > 0 && shm->base.theirs.workers <= SHM_WORKERS_MAX);
    shm->pool = shm->config.pool;
    if (shm->pool != NULL && shm->pool->fd < 0) {
        shm->config.pool = NULL; /* plain memory */
    }
    if (shm->config.pool == NULL) {
        TRY(shm_pool_new_own(shm->base.ends_len, shm->config.arena_bytes, &shm->pool));
    }
    ASSERT(shm->pool->config.workers == shm->base.ends_len);
    *shape = (struct shm_shape){.workers = shm->base.ends_len,
                                .peer_workers = shm->base.theirs.workers,
                                .lines = ring_lines(shm->base.ends_len, shm->base.theirs.workers),
                                .arena_bytes = shm->pool->arena_bytes};
    bool huge = false;
    TRY(shm_memory_make("tailrace-ring", shm_size(shape), &huge, &shm->own, &shm->own_fd));
    struct shm_head *head = shm->own;
    head->magic = SHM_MAGIC;
    head->workers = shape->workers;
    head->peer_workers = shape->peer_workers;
    head->lines = shape->lines;
    head->arena_bytes = shape->arena_bytes;
    shm_alive_begin(&head->alive);
    return ERR_OK;
}

struct carrier *shm_carrier_new(const struct carrier_config *config, struct io_stream *stream,
                                const struct shm_config *shm_config)
{
    ASSERT(io_stream_loop(stream) == config->net);
    struct shm_carrier *shm = MEM_NEW(struct shm_carrier);
    carrier_init(&shm->base, &shm_ops, config);
    shm->config = *shm_config;
    shm->stream = stream;
    shm->own_fd = -1;
    shm->parser.begin = frame_place;
    shm->parser.end = frame_there;
    shm->parser.arg = shm;
    shm->timer.fire = shm_timeout;
    for (uint32_t i = 0; i < SHM_WORKERS_MAX; i++) {
        shm->peer_bells[i] = -1;
    }
    size_t ends_bytes = sizeof(shm->ends[0]) * shm->base.ends_len;
    shm->ends = aligned_alloc(SHM_LINE, ends_bytes);
    ASSERT(shm->ends != NULL);
    memset(shm->ends, 0, ends_bytes);
    for (uint32_t i = 0; i < shm->base.ends_len; i++) {
        shm->ends[i].shm = shm;
        shm->ends[i].local = i;
        shm->ends[i].counters = shm->base.ends[i].counters;
    }
    io_stream_set_handler(stream, &shm_handler, shm);
    io_timer_start(config->net, &shm->timer, io_now_us(config->net) + ATTACH_US);
    err_t err = make_memory(shm);
    if (err != ERR_OK) {
        carrier_fail_unfit(&shm->base, CARRIER_NET, err);
        return &shm->base;
    }
    carrier_prepare(&shm->base);
    return &shm->base;
}
