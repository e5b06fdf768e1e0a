/*
 * The base of every carrier: the life of a session over its net loop and its workers' loops, as
 * carrier.h tells it. The order of mailbox items is the whole protocol: OPEN is the first and CLOSE
 * the last item a worker gets, CLOSED the last the net loop gets from that worker; so when all
 * CLOSED are in, nothing anywhere refers to the session.
 */
#include "ring/carrier.h"

#include "core/base/log.h"
#include "core/base/mem.h"

/* ---- nodes ----------------------------------------------------------------------------------- */

enum {
    /* Bytes of a message of a pack that is put together in private memory, at most. */
    PACKED_EACH = (CARRIER_RUN_BYTES + CARRIER_PACK_ALIGN - 1) / CARRIER_PACK_ALIGN *
                  CARRIER_PACK_ALIGN,
};

size_t carrier_node_size(size_t len)
{
    size_t head = (sizeof(struct carrier_node) + CARRIER_ALIGN - 1) & ~(size_t)(CARRIER_ALIGN - 1);
    return (head + len + CARRIER_ALIGN - 1) & ~(size_t)(CARRIER_ALIGN - 1);
}

void carrier_node_init(struct carrier_node *node, enum carrier_node_kind kind, uint32_t local,
                       uint32_t remote, const struct carrier_message *m, size_t len)
{
    ASSERT(len <= FRAME_MESSAGE_MAX && (uintptr_t)node % CARRIER_ALIGN == 0);
    *node = (struct carrier_node){
        .kind = kind,
        .local = (uint16_t)local,
        .remote = (uint16_t)remote,
    };
    if (m != NULL) {
        node->m = *m;
    }
    node->m.data = len > 0 ? carrier_node_data(node) : NULL;
    node->m.len = len;
}

struct carrier_node *carrier_node_new(enum carrier_node_kind kind, uint32_t local, uint32_t remote,
                                      const struct carrier_message *m, size_t len)
{
    ASSERT(len <= FRAME_MESSAGE_MAX);
    struct carrier_node *node = aligned_alloc(CARRIER_ALIGN, carrier_node_size(len));
    ASSERT(node != NULL);
    carrier_node_init(node, kind, local, remote, m, len);
    return node;
}

void carrier_node_free(struct carrier_node *node)
{
    if (node->give_back != NULL) {
        node->give_back(node);
        return;
    }
    err_free(node->reason);
    free(node);
}

static struct carrier_node *node_of(struct mailbox_item *item)
{
    return CONTAINER_OF(item, struct carrier_node, item);
}

static void node_drop(struct mailbox_item *item)
{
    carrier_node_free(node_of(item));
}

/* ---- worker loops ---------------------------------------------------------------------------- */

static void to_net(struct carrier *c, struct carrier_node *node)
{
    mailbox_put(c->net_box, &node->item);
}

static void end_open(struct carrier_end *end)
{
    struct carrier *c = end->carrier;
    ASSERT(!end->open);
    if (c->ops->attach != NULL) {
        c->ops->attach(c, end->local);
    }
    end->open = true;
    c->host->open(end->worker.ctx, c, end->local);
}

static void end_close(struct carrier_end *end)
{
    struct carrier *c = end->carrier;
    if (end->open) {
        end->open = false;
        c->host->close(end->worker.ctx, c, end->local);
    }
    if (c->ops->detach != NULL) {
        c->ops->detach(c, end->local);
    }
    /* The box is this thread's to free, which is still inside its run; CLOSED comes after, since
     * from then on the net loop may free everything else. */
    struct mailbox *box = end->box;
    uint32_t local = end->local;
    end->box = NULL;
    mailbox_free(box, node_drop);
    to_net(c, carrier_node_new(CARRIER_NODE_CLOSED, local, 0, NULL, 0));
}

bool carrier_deliver(struct carrier *c, uint32_t local, uint32_t remote,
                     const struct carrier_message *m)
{
    ASSERT(local < c->ends_len);
    struct carrier_end *end = &c->ends[local];
    if (!end->open || end->failed) {
        return false;
    }
    carrier_count(&end->counters->messages_in, 1);
    carrier_count(&end->counters->bytes_in, m->len);
    err_t err = c->host->message(end->worker.ctx, c, local, remote, m);
    if (err != ERR_OK) {
        carrier_fail(c, local, err);
        return false;
    }
    return true;
}

/* Of n messages, which are counted. False: nobody is told any more. */
static bool takes(struct carrier_end *end, uint32_t n, size_t bytes)
{
    ASSERT(n > 0 && n <= CARRIER_RUN_MAX);
    if (!end->open || end->failed) {
        return false;
    }
    carrier_count(&end->counters->messages_in, n);
    carrier_count(&end->counters->bytes_in, bytes);
    return true;
}

bool carrier_deliver_pack(struct carrier *c, uint32_t local, uint32_t remote,
                          const struct carrier_message *m, uint32_t n, uint32_t stride)
{
    ASSERT(local < c->ends_len && stride >= m->len);
    struct carrier_end *end = &c->ends[local];
    if (!takes(end, n, n * m->len)) {
        return false;
    }
    err_t err = c->host->pack(end->worker.ctx, c, local, remote, m, n, stride);
    if (err != ERR_OK) {
        carrier_fail(c, local, err);
        return false;
    }
    return true;
}

bool carrier_deliver_run(struct carrier *c, uint32_t local, uint32_t remote,
                         const struct carrier_small *messages, uint32_t len, size_t bytes)
{
    ASSERT(local < c->ends_len);
    struct carrier_end *end = &c->ends[local];
    if (!takes(end, len, bytes)) {
        return false;
    }
    err_t err = c->host->run(end->worker.ctx, c, local, remote, messages, len);
    if (err != ERR_OK) {
        carrier_fail(c, local, err);
        return false;
    }
    return true;
}

void carrier_writable(struct carrier *c, uint32_t local)
{
    ASSERT(local < c->ends_len);
    struct carrier_end *end = &c->ends[local];
    if (end->open && !end->failed && c->host->writable != NULL) {
        c->host->writable(end->worker.ctx, c, local);
    }
}

static void end_take(void *arg, struct mailbox_item *item)
{
    struct carrier_end *end = arg;
    struct carrier_node *node = node_of(item);
    switch (node->kind) {
    case CARRIER_NODE_PREPARE:
        end->carrier->ops->prepare(end->carrier, end->local);
        break;
    case CARRIER_NODE_OPEN:
        end_open(end);
        break;
    case CARRIER_NODE_MESSAGE:
        node->m.flags = CARRIER_STABLE;
        carrier_deliver(end->carrier, node->local, node->remote, &node->m);
        break;
    case CARRIER_NODE_WRITABLE:
        carrier_writable(end->carrier, end->local);
        break;
    case CARRIER_NODE_CLOSE:
        end_close(end);
        break;
    default:
        UNREACHABLE();
    }
    carrier_node_free(node);
}

static void ask_for_end(struct carrier *c, uint32_t local, enum carrier_node_kind kind,
                        err_t reason)
{
    ASSERT(reason != ERR_OK);
    if (local != CARRIER_NET) {
        c->ends[local].failed = true;
    }
    struct carrier_node *node = carrier_node_new(kind, local, 0, NULL, 0);
    node->reason = reason;
    to_net(c, node);
}

void carrier_fail(struct carrier *c, uint32_t local, err_t reason)
{
    ask_for_end(c, local, CARRIER_NODE_FAIL, reason);
}

void carrier_fail_unfit(struct carrier *c, uint32_t local, err_t reason)
{
    ask_for_end(c, local, CARRIER_NODE_UNFIT, reason);
}

bool carrier_ready(struct carrier *c, uint32_t local, uint32_t remote)
{
    return c->ops->ready(c, local, remote);
}

void carrier_reserve(struct carrier *c, uint32_t local, uint32_t remote, size_t len,
                     struct carrier_block *out)
{
    ASSERT(local < c->ends_len && c->ends[local].open && !c->ends[local].building);
    ASSERT(remote < c->theirs.workers && len > 0 && len <= FRAME_MESSAGE_MAX);
    c->ops->reserve(c, local, remote, len, out); /* the last call, as in carrier_send */
}

static void count_out(struct carrier *c, uint32_t local, size_t len)
{
    carrier_count(&c->ends[local].counters->messages_out, 1);
    carrier_count(&c->ends[local].counters->bytes_out, len);
}

void carrier_commit(struct carrier *c, uint32_t local, uint32_t remote,
                    const struct carrier_message *m, struct carrier_block *block, size_t len)
{
    ASSERT(local < c->ends_len && c->ends[local].open && remote < c->theirs.workers);
    ASSERT(!c->ends[local].building);
    ASSERT(m->kind >= FRAME_KIND_USER && (block == NULL ? len == 0 : len <= block->len));
    count_out(c, local, len);
    c->ops->commit(c, local, remote, m, block, len);
}

/* For carriers without a way of their own. Apart, so that the others save no registers. */
static __attribute__((noinline)) void send_by_commit(struct carrier *c, uint32_t local,
                                                     uint32_t remote,
                                                     const struct carrier_message *m)
{
    struct carrier_block block;
    if (m->len == 0) {
        carrier_commit(c, local, remote, m, NULL, 0);
    } else {
        carrier_reserve(c, local, remote, m->len, &block);
        memcpy(block.data, m->data, m->len);
        carrier_commit(c, local, remote, m, &block, m->len);
    }
    if ((m->flags & CARRIER_NOW) != 0) {
        carrier_flush(c, local);
    }
}

void carrier_send(struct carrier *c, uint32_t local, uint32_t remote,
                  const struct carrier_message *m)
{
    ASSERT(local < c->ends_len && remote < c->theirs.workers);
    ASSERT(c->ends[local].open && !c->ends[local].building);
    if (c->ops->send == NULL) {
        send_by_commit(c, local, remote, m);
        return;
    }
    c->ops->send(c, local, remote, m); /* the last call: few stores stand before its own */
}

void carrier_share(struct carrier *c, uint32_t local, uint32_t remote,
                   const struct carrier_message *m, const struct carrier_block *block, size_t len)
{
    ASSERT(local < c->ends_len && c->ends[local].open && remote < c->theirs.workers);
    ASSERT(!c->ends[local].building);
    ASSERT(m->kind >= FRAME_KIND_USER && len > 0 && len <= block->len);
    if (c->ops->share != NULL) {
        count_out(c, local, len);
        c->ops->share(c, local, remote, m, block, len);
        return;
    }
    struct carrier_message copied = *m;
    copied.data = block->data;
    copied.len = len;
    carrier_send(c, local, remote, &copied);
}

void carrier_flush(struct carrier *c, uint32_t local)
{
    ASSERT(local < c->ends_len && c->ends[local].open && !c->ends[local].building);
    if (c->ops->flush != NULL) {
        c->ops->flush(c, local);
    }
}

/* ---- runs ------------------------------------------------------------------------------------ */

/* Where a carrier has no room in place. */
static void gather(struct carrier_end *end, uint32_t n, size_t len, struct carrier_run *run)
{
    if (end->gathered == NULL) {
        size_t size = 2 * CARRIER_RUN_MAX * sizeof(end->gathered[0]);
        end->gathered = aligned_alloc(sizeof(end->gathered[0]), size);
        ASSERT(end->gathered != NULL);
    }
    *run = (struct carrier_run){.first = end->gathered, .lines = end->gathered, .len = n,
                                .stride = carrier_lines_of(len), .bytes = (uint32_t)len};
}

void carrier_run_begin(struct carrier *c, uint32_t local, uint32_t remote, uint32_t n, size_t len,
                       struct carrier_run *run)
{
    ASSERT(local < c->ends_len && c->ends[local].open && remote < c->theirs.workers);
    ASSERT(n > 0 && n <= CARRIER_RUN_MAX && len <= CARRIER_RUN_BYTES);
    struct carrier_end *end = &c->ends[local];
    ASSERT(!end->building);
    end->building = true;
    if (c->ops->run_begin == NULL) {
        gather(end, n, len, run);
    } else if (!c->ops->run_begin(c, local, remote, n, len, run)) {
        gather(end, 1, len, run);
    }
}

/* Puts the bytes together that lie in private lines. */
static void join_lines(const struct carrier_line *line, size_t len, uint8_t *bytes)
{
    size_t head = len < CARRIER_RUN_HEAD ? len : CARRIER_RUN_HEAD;
    memcpy(bytes, line->bytes, head);
    if (len > head) {
        memcpy(bytes + head, line[1].more, len - head);
    }
}

/* Sends what was written as if to the ring. */
static void send_lines(struct carrier *c, uint32_t local, uint32_t remote,
                       const struct carrier_line *line, uint8_t flags)
{
    uint8_t bytes[CARRIER_RUN_BYTES];
    ASSERT(line->len <= CARRIER_RUN_BYTES);
    join_lines(line, line->len, bytes);
    /* Relaxed: private memory. */
    uint32_t word = atomic_load_explicit(&line->word, memory_order_relaxed);
    struct carrier_message m = {.kind = (uint8_t)word, .flags = flags, .stream = line->stream,
                                .c = line->c, .a = line->a, .b = line->b, .data = bytes,
                                .len = line->len};
    carrier_send(c, local, remote, &m);
}

void carrier_run_end(struct carrier *c, uint32_t local, uint32_t remote,
                     const struct carrier_run *run, uint32_t n)
{
    ASSERT(local < c->ends_len && c->ends[local].building && n <= run->len);
    c->ends[local].building = false;
    if (run->word != 0) {
        c->ops->run_end(c, local, remote, run, n);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        send_lines(c, local, remote, run->lines + (size_t)i * run->stride, 0);
    }
}

/* ---- packs ----------------------------------------------------------------------------------- */

static void gather_pack(struct carrier_end *end, struct carrier_pack *pack)
{
    if (end->packed == NULL) {
        end->packed = aligned_alloc(CARRIER_ALIGN, CARRIER_RUN_MAX * PACKED_EACH);
        ASSERT(end->packed != NULL);
    }
    pack->bytes = end->packed;
    pack->in_place = false;
}

void carrier_pack_begin(struct carrier *c, uint32_t local, uint32_t remote, uint32_t n, size_t len,
                        struct carrier_pack *pack)
{
    ASSERT(local < c->ends_len && c->ends[local].open && remote < c->theirs.workers);
    ASSERT(n > 0 && n <= CARRIER_RUN_MAX && len <= CARRIER_RUN_BYTES);
    struct carrier_end *end = &c->ends[local];
    ASSERT(!end->building);
    end->building = true;
    pack->stride = carrier_pack_stride((uint32_t)len);
    pack->len = (uint32_t)len;
    pack->n = n;
    pack->in_place = true;
    if (c->ops->pack_begin == NULL || !c->ops->pack_begin(c, local, remote, n, len, pack)) {
        gather_pack(end, pack);
    }
}

void carrier_pack_end(struct carrier *c, uint32_t local, uint32_t remote,
                      const struct carrier_pack *pack, const struct carrier_message *m, uint32_t n)
{
    ASSERT(local < c->ends_len && c->ends[local].building && n <= pack->n);
    ASSERT(m->kind >= FRAME_KIND_USER);
    c->ends[local].building = false;
    if (pack->in_place) {
        c->ops->pack_end(c, local, remote, pack, m, n);
        return;
    }
    struct carrier_message one = *m;
    one.flags = 0;
    one.len = pack->len;
    for (uint32_t i = 0; i < n; i++) {
        one.data = carrier_pack_at(pack, i);
        carrier_send(c, local, remote, &one);
    }
}

/* ---- posts ----------------------------------------------------------------------------------- */

struct carrier_window *carrier_window(struct carrier *c, uint32_t local, uint32_t remote)
{
    ASSERT(local < c->ends_len && c->ends[local].open && remote < c->theirs.workers);
    struct carrier_end *end = &c->ends[local];
    if (c->ops->window != NULL) {
        return c->ops->window(c, local, remote);
    }
    if (end->windows == NULL) {
        size_t size = c->theirs.workers * sizeof(end->windows[0]);
        end->windows = aligned_alloc(CARRIER_ALIGN, size);
        ASSERT(end->windows != NULL);
        memset(end->windows, 0, size);
    }
    struct carrier_window *w = &end->windows[remote];
    w->carrier = c;
    w->local = local;
    w->remote = remote;
    return w;
}

void carrier_post_aside(struct carrier_window *w)
{
    send_lines(w->carrier, w->local, w->remote, w->aside, CARRIER_NOW);
}

void carrier_post_wake(struct carrier_window *w)
{
    ASSERT(w->carrier->ops->posted != NULL);
    w->carrier->ops->posted(w->carrier, w->local, w->remote);
}

bool carrier_in_place(const struct carrier *c)
{
    ASSERT((c->ops->run_begin == NULL) == (c->ops->window == NULL));
    return c->ops->run_begin != NULL;
}

void **carrier_slot(struct carrier *c, uint32_t local)
{
    ASSERT(local < c->ends_len);
    return &c->ends[local].slot;
}

/* ---- net loop -------------------------------------------------------------------------------- */

static void tell_ends(struct carrier *c, enum carrier_node_kind kind)
{
    for (uint32_t i = 0; i < c->ends_len; i++) {
        struct carrier_node *node = carrier_node_new(kind, i, 0, NULL, 0);
        mailbox_put(c->ends[i].box, &node->item);
    }
}

void carrier_end_session(struct carrier *c, err_t reason)
{
    if (c->ending) {
        err_free(reason);
        return;
    }
    c->ending = true;
    const char *text = reason != ERR_OK ? err_text(reason) : "the peer closed the connection";
    c->ops->shut(c, text);
    c->host->ending(c->net_ctx, c, text);
    err_free(reason);
    tell_ends(c, CARRIER_NODE_CLOSE);
}

void carrier_end_unfit(struct carrier *c, err_t reason)
{
    ASSERT(!c->started && reason != ERR_OK);
    c->unfit |= !c->ending; /* else it has ended for another reason */
    carrier_end_session(c, reason);
}

static void net_take(void *arg, struct mailbox_item *item)
{
    struct carrier *c = arg;
    struct carrier_node *node = node_of(item);
    if (node->kind == CARRIER_NODE_MESSAGE || node->kind == CARRIER_NODE_OTHER) {
        c->ops->node(c, item);
        return;
    }
    if (node->kind == CARRIER_NODE_FAIL || node->kind == CARRIER_NODE_UNFIT) {
        err_t reason = node->reason;
        node->reason = ERR_OK;
        (node->kind == CARRIER_NODE_UNFIT ? carrier_end_unfit : carrier_end_session)(c, reason);
    } else {
        ASSERT(node->kind == CARRIER_NODE_CLOSED && c->ending && c->closed < c->ends_len);
        c->closed++;
    }
    carrier_node_free(node);
    if (c->closed == c->ends_len) {
        c->host->ended(c->net_ctx, c);
        carrier_destroy(c);
    }
}

void carrier_control(struct carrier *c, const struct carrier_message *m)
{
    ASSERT(m->kind >= FRAME_KIND_USER && m->len <= FRAME_FRAGMENT);
    if (!c->ending) {
        c->ops->control(c, m);
    }
}

/* The order of struct carrier_counters. */
#define SESSION_VALUES                                                                             \
    {"messages_out", "bytes_out",  "shared_out", "batches_out", "messages_in", "bytes_in",         \
     "batches_in",   "wakes",      "woken",      "stalls",      "lost_out",    "lost_in"}
static const struct counters_type shm_session = {
    .name = "session_shm", .ids = {"service", "process", "worker"}, .values = SESSION_VALUES};
static const struct counters_type tcp_session = {
    .name = "session_tcp", .ids = {"service", "process", "worker"}, .values = SESSION_VALUES};
STATIC_ASSERT(sizeof(struct carrier_counters) == COUNTERS_VALUES * sizeof(uint64_t),
              "a session's counters are the values of a slot");

/* ids: the peer's service and process, and our worker. */
static void show_counters(struct carrier *c, struct carrier_end *end)
{
    end->counters = &end->own_counters;
    if (c->counters == NULL) {
        return;
    }
    bool shm = strcmp(c->ops->name, "shm") == 0;
    end->slot_shown = counters_open(
        c->counters, shm ? &shm_session : &tcp_session,
        (uint64_t[COUNTERS_IDS]){c->theirs.service, c->theirs.process, end->local});
    end->counters = (struct carrier_counters *)end->slot_shown->values;
}

static void net_after(void *arg)
{
    struct carrier *c = arg;
    if (c->ops->after != NULL) {
        c->ops->after(c);
    }
}

void carrier_init(struct carrier *c, const struct carrier_ops *ops,
                  const struct carrier_config *config)
{
    ASSERT(config->workers_len > 0 && config->workers_len <= HELLO_WORKERS_MAX);
    c->ops = ops;
    c->host = config->host;
    c->net_ctx = config->net_ctx;
    c->net = config->net;
    c->ours = *config->ours;
    c->theirs = *config->theirs;
    c->counters = config->counters;
    c->ends_len = config->workers_len;
    c->ends = mem_zalloc(sizeof(c->ends[0]) * c->ends_len);
    c->net_box = mailbox_new(c->net, net_take, net_after, c);
    for (uint32_t i = 0; i < c->ends_len; i++) {
        struct carrier_end *end = &c->ends[i];
        end->carrier = c;
        end->local = i;
        end->worker = config->workers[i];
        show_counters(c, end);
        end->box = mailbox_new(end->worker.loop, end_take, NULL, end);
    }
}

void carrier_prepare(struct carrier *c)
{
    ASSERT(!c->started && !c->ending && c->ops->prepare != NULL);
    tell_ends(c, CARRIER_NODE_PREPARE);
}

void carrier_start(struct carrier *c)
{
    ASSERT(!c->started && !c->ending);
    c->started = true;
    tell_ends(c, CARRIER_NODE_OPEN);
}

bool carrier_started(const struct carrier *c)
{
    return c->started;
}

bool carrier_unfit(const struct carrier *c)
{
    ASSERT(!c->unfit || !c->started);
    return c->unfit;
}

void carrier_to_worker(struct carrier *c, struct carrier_node *node)
{
    ASSERT(node->kind == CARRIER_NODE_MESSAGE || node->kind == CARRIER_NODE_WRITABLE);
    ASSERT(node->local < c->ends_len);
    if (c->ending) {
        carrier_node_free(node);
        return;
    }
    mailbox_put(c->ends[node->local].box, &node->item);
}

void carrier_release(struct carrier *c)
{
    for (uint32_t i = 0; i < c->ends_len; i++) {
        mailbox_free(c->ends[i].box, node_drop);
        free(c->ends[i].gathered);
        free(c->ends[i].packed);
        free(c->ends[i].windows);
        if (c->ends[i].slot_shown != NULL) {
            counters_close(c->counters, c->ends[i].slot_shown);
        }
    }
    mailbox_free(c->net_box, node_drop);
    free(c->ends);
}

void carrier_destroy(struct carrier *c)
{
    if (!c->ending) {
        c->ending = true;
        c->ops->shut(c, "this side has stopped");
    }
    for (uint32_t i = 0; i < c->ends_len; i++) {
        struct carrier_end *end = &c->ends[i];
        end->open = false;
        if (end->box != NULL && c->ops->detach != NULL) { /* else it has closed by itself */
            c->ops->detach(c, end->local);
        }
    }
    c->ops->free(c);
}

/* ---- constants ------------------------------------------------------------------------------- */

const struct hello *carrier_peer(const struct carrier *c)
{
    return &c->theirs;
}

const char *carrier_name(const struct carrier *c)
{
    return c->ops->name;
}

const struct carrier_counters *carrier_counters(const struct carrier *c, uint32_t local)
{
    ASSERT(local < c->ends_len);
    return c->ends[local].counters;
}

uint32_t carrier_remote_workers(const struct carrier *c)
{
    return c->theirs.workers;
}
