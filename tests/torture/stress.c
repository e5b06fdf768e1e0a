/*
 * Messages as fast as they go from one process to another, each of which says its number and has a
 * sum over its bytes. The receiver checks that all come, in order, whole. Most are small, some lie
 * in blocks, a few are long.
 */
#include "tests/torture/pair.h"
#include "tests/torture/torture.h"

#include "core/base/hash.h"

#include <stdio.h>

enum { BURST = 256, LEN_MAX = 70000, REPORT_NS = 1000 * 1000 * 1000 };

struct stress {
    struct pair pair;
    uint64_t messages;
    uint64_t next; /* to send, or to come */
    uint64_t bytes;
    uint64_t started_ns;
    uint64_t reported_ns;
    char wrong[120];
    bool over;
    struct io_poller poller;
    uint8_t data[LEN_MAX] __attribute__((aligned(64)));
};

static struct stress *of(struct pair *p)
{
    return CONTAINER_OF(p, struct stress, pair);
}

static size_t len_of(uint64_t h)
{
    if (h % 1024 == 0) {
        return (h >> 20) % LEN_MAX;
    }
    return h % 16 == 1 ? (h >> 20) % 2000 : (h >> 20) % 100;
}

/* The bytes follow from h by words; the sum of all is what a message says in b. */
static uint64_t fill(uint8_t *data, size_t len, uint64_t h)
{
    uint64_t sum = len;
    for (size_t i = 0; i < len; i += 8) {
        uint64_t word = h * (i + 1);
        memcpy(data + i, &word, len - i < 8 ? len - i : 8);
        sum += len - i < 8 ? word & ((1ULL << 8 * (len - i)) - 1) : word;
    }
    return sum;
}

static uint64_t sum_of(const uint8_t *data, size_t len)
{
    uint64_t sum = len;
    for (size_t i = 0; i < len; i += 8) {
        uint64_t word = 0;
        memcpy(&word, data + i, len - i < 8 ? len - i : 8);
        sum += word;
    }
    return sum;
}

/* ---- the sender ------------------------------------------------------------------------------ */

static bool send_burst(struct stress *s)
{
    struct carrier *c = s->pair.carrier;
    uint32_t i = 0;
    for (; i < BURST && s->next < s->messages && carrier_ready(c, 0, 0); i++) {
        uint64_t h = hash_u64(s->next);
        size_t len = len_of(h);
        uint8_t flags = (h >> 8 & 3) == 0 ? CARRIER_NOW : 0; /* small ones are posted */
        struct carrier_message m = {.kind = FRAME_KIND_USER, .flags = flags,
                                    .stream = (uint32_t)(h & 7), .a = s->next++,
                                    .b = fill(s->data, len, h), .data = s->data, .len = len};
        carrier_send(c, 0, 0, &m);
    }
    return i > 0;
}

static bool stress_poll(struct io_poller *poller)
{
    struct stress *s = CONTAINER_OF(poller, struct stress, poller);
    return s->over ? false : send_burst(s);
}

static bool stress_arm(struct io_poller *poller)
{
    return stress_poll(poller); /* until writable tells */
}

static void stress_writable(void *ctx, struct carrier *c, uint32_t local)
{
    send_burst(of(ctx));
}

static void stress_open(void *ctx, struct carrier *c, uint32_t local)
{
    struct stress *s = of(ctx);
    if (s->pair.child) {
        s->poller = (struct io_poller){.poll = stress_poll, .arm = stress_arm};
        io_poller_add(s->pair.loop, &s->poller);
    }
    s->started_ns = s->reported_ns = io_mono_ns(s->pair.loop);
}

/* ---- the receiver ---------------------------------------------------------------------------- */

static void report(struct stress *s, bool last)
{
    uint64_t now = io_mono_ns(s->pair.loop);
    if (last || now - s->reported_ns >= 10ULL * REPORT_NS) {
        double seconds = (double)(now - s->started_ns) / 1e9;
        printf("%llu messages, %llu MiB, %.1f s, %.2f million/s\n", (unsigned long long)s->next,
               (unsigned long long)(s->bytes >> 20), seconds, (double)s->next / 1e6 / seconds);
        s->reported_ns = now;
    }
}

static err_t stress_message(void *ctx, struct carrier *c, uint32_t local, uint32_t remote,
                            const struct carrier_message *m)
{
    struct stress *s = of(ctx);
    uint64_t h = hash_u64(s->next);
    if (m->a != s->next || m->stream != (h & 7) || m->len != len_of(h) ||
        m->b != sum_of(m->data, m->len)) {
        snprintf(s->wrong, sizeof(s->wrong), "message %llu came as %llu of %zu bytes",
                 (unsigned long long)s->next, (unsigned long long)m->a, m->len);
        io_loop_stop(s->pair.loop);
        return ERR_OK;
    }
    s->next++;
    s->bytes += m->len;
    if (s->next % (1 << 16) == 0) {
        report(s, false);
    }
    if (s->next == s->messages) {
        report(s, true);
        io_loop_stop(s->pair.loop);
    }
    return ERR_OK;
}

static void stress_close(void *ctx, struct carrier *c, uint32_t local)
{
    of(ctx)->over = true;
}

static void stress_ending(void *net_ctx, struct carrier *c, const char *reason)
{
    struct stress *s = of(net_ctx);
    if (!s->pair.child && s->wrong[0] == '\0') {
        snprintf(s->wrong, sizeof(s->wrong), "the session ended: %s", reason);
    }
}

static void stress_ended(void *net_ctx, struct carrier *c)
{
    struct stress *s = of(net_ctx);
    s->pair.carrier = NULL;
    io_loop_stop(s->pair.loop);
}

static const struct carrier_host stress_host = {
    .open = stress_open,
    .message = stress_message,
    .writable = stress_writable,
    .close = stress_close,
    .ending = stress_ending,
    .ended = stress_ended,
};

static void stress_started(struct pair *p)
{
    if (p->child) {
        pair_connect(p);
    }
}

bool torture_stress(const struct torture_options *options)
{
    struct stress *s = aligned_alloc(64, (sizeof(*s) + 63) & ~(size_t)63);
    ASSERT(s != NULL);
    memset(s, 0, sizeof(*s));
    s->pair = (struct pair){.host = &stress_host, .started = stress_started};
    s->messages = options->cycles;
    uint64_t want = s->messages;
    pair_run(&s->pair);
    bool right = s->wrong[0] == '\0' && s->next == want;
    printf("%llu messages, %llu MiB, all whole and in order: %s %s\n",
           (unsigned long long)s->next, (unsigned long long)(s->bytes >> 20),
           right ? "yes" : "NO", s->wrong);
    free(s);
    return right;
}
