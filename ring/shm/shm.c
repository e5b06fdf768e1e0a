/*
 * The set-up, control and end of a session over shared memory, on the net loop.
 *
 * Set-up. Each side makes its memory and its workers open their doorbells; the initiator sends
 * ATTACH (proof of the node's secret, shape, and the descriptors: memory, doorbells); the other
 * side checks and maps it, and answers with its own. Who has both sent and got one starts.
 *
 * End. The kernel closes the connection of a process that died after it has taken its memory away,
 * so the end of the stream proves that the peer writes no more; then the workers hear close, and
 * when all have, everything is unmapped.
 */
#include "core/base/log.h"
#include "ring/shm/internal.h"

enum { ATTACH_US = 5 * 1000 * 1000, ATTACH_LEN = HELLO_PROOF_LEN + 16 };

static struct shm_carrier *shm_of(struct carrier *c)
{
    return CONTAINER_OF(c, struct shm_carrier, base);
}

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

static void send_attach(struct shm_carrier *shm)
{
    int fds[1 + SHM_WORKERS_MAX];
    size_t fds_len = 0;
    ASSERT(!shm->told && shm->prepared == shm->base.ends_len);
    fds[fds_len++] = shm->own_fd;
    for (uint32_t i = 0; i < shm->base.ends_len; i++) {
        fds[fds_len++] = io_bell_fd(shm->ends[i].bell);
    }
    struct buf text = {0};
    static const uint8_t no_proof[HELLO_PROOF_LEN];
    buf_append(&text, shm->config.initiator ? shm->config.proof : no_proof, HELLO_PROOF_LEN);
    buf_append_u32(&text, shm->own_shape.workers);
    buf_append_u32(&text, shm->own_shape.peer_workers);
    buf_append_u64(&text, shm->own_shape.arena_bytes);
    ASSERT(text.len == ATTACH_LEN);
    struct frame_header h = {.kind = FRAME_ATTACH};
    send_packet(shm, &h, text.data, text.len, fds, fds_len);
    buf_free(&text);
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
    if (!shm->told && (shm->config.initiator || shm->heard)) {
        send_attach(shm);
    }
    if (shm->told && shm->heard) {
        io_timer_cancel(shm->base.net, &shm->timer);
        carrier_start(&shm->base);
        send_waiting(shm);
    }
}

static err_t take_attach(struct shm_carrier *shm, const uint8_t *data, size_t len)
{
    struct reader r = reader_of(data, len);
    const uint8_t *proof = reader_bytes(&r, HELLO_PROOF_LEN);
    struct shm_shape *shape = &shm->peer_shape;
    shape->workers = reader_u32(&r);
    shape->peer_workers = reader_u32(&r);
    shape->arena_bytes = reader_u64(&r);
    if (r.failed || reader_left(&r) != 0 || shm->heard) {
        return err_new(ERR_PROTOCOL, "malformed attach message");
    }
    if (!shm->config.initiator && !hello_proof_equal(proof, shm->config.proof)) {
        return err_new(ERR_PERMISSION, "the peer does not know the node's secret");
    }
    if (shape->workers != shm->base.theirs.workers ||
        shape->peer_workers != shm->base.ends_len || shape->arena_bytes < SHM_ARENA_MIN ||
        shape->arena_bytes > SHM_ARENA_MAX || shape->arena_bytes % SHM_PAGE != 0 ||
        shm->fds_len != 1 + shape->workers) {
        return err_new(ERR_PROTOCOL, "attach of %u workers, arenas of %llu, %zu descriptors",
                       shape->workers, (unsigned long long)shape->arena_bytes, shm->fds_len);
    }
    for (uint32_t i = 0; i < shape->workers; i++) {
        TRY(shm_check_bell(shm->fds[1 + i]));
    }
    TRY(shm_memory_attach(shm->fds[0], shape, &shm->peer));
    shm_close(shm->fds[0]);
    for (uint32_t i = 0; i < shape->workers; i++) {
        shm->peer_bells[i] = shm->fds[1 + i];
    }
    shm->fds_len = 0; /* taken */
    shm->heard = true;
    return ERR_OK;
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
    if (h->kind == FRAME_ATTACH) {
        TRY(take_attach(shm, shm->packet, h->length));
        set_up(shm);
        return ERR_OK;
    }
    if (h->kind == FRAME_GOODBYE) {
        return err_new(ERR_UNAVAILABLE, "the peer closed: %.*s", (int)h->length,
                       h->length > 0 ? (const char *)shm->packet : "");
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
    carrier_node_free(node);
    shm->prepared++;
    set_up(shm);
}

static void shm_timeout(struct io_timer *timer)
{
    struct shm_carrier *shm = CONTAINER_OF(timer, struct shm_carrier, timer);
    ASSERT(!shm->base.started);
    carrier_end_session(&shm->base, err_new(ERR_TIMEOUT, "shared memory not attached in time"));
}

static void shm_shut(struct carrier *c, const char *reason)
{
    struct shm_carrier *shm = shm_of(c);
    io_timer_cancel(c->net, &shm->timer);
    if (shm->stream == NULL) {
        return;
    }
    size_t len = strlen(reason);
    struct frame_header h = {.kind = FRAME_GOODBYE};
    send_packet(shm, &h, reason, len < SHM_CONTROL_MAX ? len : SHM_CONTROL_MAX, NULL, 0);
    io_stream_finish(shm->stream);
    shm->stream = NULL;
}

static void shm_free(struct carrier *c)
{
    struct shm_carrier *shm = shm_of(c);
    ASSERT(shm->stream == NULL);
    io_timer_cancel(c->net, &shm->timer);
    shm_close(shm->own_fd);
    if (shm->heard) {
        for (uint32_t i = 0; i < shm->peer_shape.workers; i++) {
            shm_close(shm->peer_bells[i]);
        }
    }
    while (shm->waiting != NULL) {
        struct carrier_node *next = shm->waiting->next;
        carrier_node_free(shm->waiting);
        shm->waiting = next;
    }
    shm_memory_unmap(shm->own, &shm->own_shape);
    shm_memory_unmap(shm->peer, &shm->peer_shape);
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
    .prepare = shm_prepare,
    .attach = shm_attach,
    .detach = shm_detach,
    .control = shm_control,
    .node = shm_node,
    .shut = shm_shut,
    .free = shm_free,
};

bool shm_carrier_fits(uint32_t workers, uint32_t peer_workers)
{
    return workers <= SHM_WORKERS_MAX && peer_workers <= SHM_WORKERS_MAX;
}

static void shape_own(struct shm_carrier *shm)
{
    ASSERT(shm->base.ends_len > 0);
    size_t bytes = shm->config.arena_bytes != 0 ? shm->config.arena_bytes : SHM_ARENA_DEFAULT;
    size_t each = bytes / shm->base.ends_len / SHM_PAGE * SHM_PAGE;
    each = each < SHM_ARENA_MIN ? SHM_ARENA_MIN : each;
    each = each > SHM_ARENA_MAX ? SHM_ARENA_MAX : each;
    shm->own_shape = (struct shm_shape){.workers = shm->base.ends_len,
                                        .peer_workers = shm->base.theirs.workers,
                                        .arena_bytes = each};
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
    shm->ends = mem_zalloc(sizeof(shm->ends[0]) * shm->base.ends_len);
    for (uint32_t i = 0; i < shm->base.ends_len; i++) {
        shm->ends[i].shm = shm;
        shm->ends[i].local = i;
    }
    shape_own(shm);
    io_stream_set_handler(stream, &shm_handler, shm);
    io_timer_start(config->net, &shm->timer, io_now_us(config->net) + ATTACH_US);
    err_t err = shm_carrier_fits(config->workers_len, config->theirs->workers)
                    ? shm_memory_make(&shm->own_shape, &shm->own, &shm->own_fd)
                    : err_new(ERR_UNSUPPORTED, "too many workers for shared memory");
    if (err != ERR_OK) {
        carrier_fail(&shm->base, CARRIER_NET, err);
        return &shm->base;
    }
    carrier_prepare(&shm->base);
    return &shm->base;
}
