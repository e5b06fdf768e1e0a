/*
 * Channels as the client sees them, on virtual time: a storage process that is no server but plays
 * what a test says, so also what no correct one does. After it, the client must be as before or
 * have ended the session; what it holds must be gone in the end.
 */
#include "tests/unit/harness.h"

#include "core/base/log.h"
#include "core/io/sim.h"
#include "ring/boundary/client_internal.h"
#include "ring/frame/door.h"
#include "ring/tcp/tcp.h"

#include <stdio.h>

enum { SECOND = 1000 * 1000, SUBS = 3, AS_OF = 10, WORKERS = 2, CHANNEL = 5 };

/* A subscription and what it was told. */
struct listener {
    struct stage *stage;
    struct boundary_sub *sub;
    uint64_t upper;
    uint64_t bytes; /* of complete chunks and parts */
    uint32_t chunks;
    uint32_t resets;
    int refused;
    bool gives_up;        /* when it is called next, */
    bool gives_up_others; /* and these with it */
};

struct stage {
    struct sim *sim;
    struct metrics_registry *metrics;
    struct io_loop *loop; /* storage's */
    struct door *door;
    struct hello self;
    struct carrier *carrier; /* of storage; NULL between sessions */
    struct boundary_client *client;
    struct listener listeners[SUBS];
    /* What storage heard: */
    struct boundary_request requests[16];
    uint32_t ids[16]; /* of SUBSCRIBE */
    size_t requests_len;
    size_t unsubscribes;
    size_t sessions;
    uint64_t credit; /* of the first subscription, last heard */
};

/* ---- storage --------------------------------------------------------------------------------- */

static void storage_open(void *ctx, struct carrier *c, uint32_t local)
{
    struct stage *s = ctx;
    s->carrier = c;
    s->sessions += local == 0;
}

static err_t storage_message(void *ctx, struct carrier *c, uint32_t local, uint32_t remote,
                             const struct carrier_message *m)
{
    struct stage *s = ctx;
    if (m->kind == BOUNDARY_SUBSCRIBE && s->requests_len < 16) {
        s->ids[s->requests_len] = m->stream;
        return boundary_request_decode(m->data, m->len, &s->requests[s->requests_len++]);
    }
    s->unsubscribes += m->kind == BOUNDARY_UNSUBSCRIBE;
    if (m->kind == BOUNDARY_CREDIT && m->stream == 1) {
        s->credit = m->a;
    }
    return ERR_OK;
}

static void storage_close(void *ctx, struct carrier *c, uint32_t local)
{
    struct stage *s = ctx;
    s->carrier = NULL;
}

static void storage_ending(void *ctx, struct carrier *c, const char *reason)
{
}

static void storage_ended(void *ctx, struct carrier *c)
{
}

static const struct carrier_host storage_host = {
    .open = storage_open, .message = storage_message, .close = storage_close,
    .ending = storage_ending, .ended = storage_ended};

static err_t storage_judge(void *arg, const struct hello *theirs, const char *peer_name,
                           bool local, struct hello *welcome, enum hello_refusal *refusal)
{
    *welcome = ((struct stage *)arg)->self;
    return ERR_OK;
}

static void storage_greeted(void *arg, const struct greeted *greeted)
{
    struct stage *s = arg;
    struct carrier_worker workers[WORKERS] = {{s->loop, s}, {s->loop, s}};
    struct carrier_config config = {.net = s->loop, .host = &storage_host, .net_ctx = s,
                                    .workers = workers, .workers_len = WORKERS,
                                    .ours = greeted->ours, .theirs = greeted->theirs};
    tcp_carrier_new(&config, greeted->stream, greeted->rest, greeted->rest_len);
}

static void storage_start(struct io_loop *loop, void *arg)
{
    struct stage *s = arg;
    struct boundary_identity id = {.environment = "0123456789abcde", .epoch = 1};
    s->loop = loop;
    s->self = boundary_hello(loop, &id, HELLO_STORAGE, WORKERS);
    struct door_config config = {.loop = loop, .address = "h:2101", .arg = s,
                                 .judge = storage_judge, .done = storage_greeted};
    CU_ASSERT_PTR_NULL_FATAL(door_new(&config, &s->door));
}

static void storage_destroy(void *arg)
{
    struct stage *s = arg;
    if (s->carrier != NULL) {
        carrier_destroy(s->carrier);
    }
    door_free(s->door);
}

static void say(struct stage *s, uint32_t worker, uint8_t kind, uint32_t stream, uint64_t a,
                uint64_t b, uint32_t c, const void *data, size_t len)
{
    struct carrier_message m = {.kind = kind, .stream = stream, .a = a, .b = b, .c = c,
                                .data = data, .len = len};
    CU_ASSERT_PTR_NOT_NULL_FATAL(s->carrier);
    carrier_send(s->carrier, worker, 0, &m);
}

static void say_readers(struct stage *s, uint32_t stream, const uint32_t *ids, size_t len)
{
    say(s, 0, BOUNDARY_READERS, stream, 0, 0, 0, ids, len * sizeof(ids[0]));
}

static void say_data(struct stage *s, uint32_t stream, uint64_t lower, uint64_t upper)
{
    static const _Alignas(CARRIER_ALIGN) uint8_t bytes[100];
    say(s, 0, BOUNDARY_DATA, stream, lower, upper, sizeof(bytes), bytes, sizeof(bytes));
}

/* ---- compute --------------------------------------------------------------------------------- */

static void give_up(struct listener *l)
{
    if (l->sub != NULL) {
        boundary_unsubscribe(l->sub);
        l->sub = NULL;
    }
}

static void called(struct listener *l)
{
    for (int i = 0; l->gives_up_others && i < SUBS; i++) {
        if (&l->stage->listeners[i] != l) {
            give_up(&l->stage->listeners[i]);
        }
    }
    if (l->gives_up) {
        give_up(l);
    }
}

static void on_data(void *arg, const struct boundary_chunk *chunk)
{
    struct listener *l = arg;
    CU_ASSERT_EQUAL(chunk->lower, l->upper);
    CU_ASSERT_TRUE(chunk->stable);
    l->upper = chunk->upper;
    l->bytes += chunk->ok_len;
    l->chunks++;
    called(l);
}

static void on_reset(void *arg)
{
    struct listener *l = arg;
    l->resets++;
    called(l);
}

static void on_refused(void *arg, err_t err)
{
    ((struct listener *)arg)->refused = err_code(err);
    err_free(err);
}

static const struct boundary_handler handler = {on_data, on_reset, on_refused};

static void compute_start(struct io_loop *loop, void *arg)
{
    struct stage *s = arg;
    struct boundary_client_config config = {
        .self = {.environment = "0123456789abcde", .epoch = 1}, .workers = 2,
        .metrics = s->metrics, .credit_bytes = 1000};
    CU_ASSERT_PTR_NULL_FATAL(boundary_client_new(loop, &config, &s->client));
    boundary_client_worker(s->client, 0, loop);
    boundary_client_worker(s->client, 1, loop); /* which subscribes to nothing */
    const char *address = "h:2101";
    boundary_client_directory(s->client, &address, NULL, 1, WORKERS);
    for (int i = 0; i < SUBS; i++) {
        struct boundary_request request = {.source = 1, .as_of = AS_OF};
        s->listeners[i] = (struct listener){.stage = s, .upper = AS_OF};
        s->listeners[i].sub = boundary_subscribe(s->client, 0, &request, &handler,
                                                 &s->listeners[i]);
    }
}

static void compute_destroy(void *arg)
{
    boundary_client_free(((struct stage *)arg)->client);
}

/* ---- scenes ---------------------------------------------------------------------------------- */

static void run(struct stage *s)
{
    sim_run_until(s->sim, sim_now_us(s->sim) + SECOND / 20);
}

/* Both are there, and SUBSCRIBE of 1, 2 and 3 has been heard. */
static void stage_start(struct stage *s)
{
    log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "test");
    *s = (struct stage){.metrics = metrics_registry_new()};
    struct sim_config config = sim_config_default(5);
    s->sim = sim_new(&config);
    sim_process_start(s->sim, "h", "storage", storage_start, storage_destroy, s);
    sim_process_start(s->sim, "c", "compute", compute_start, compute_destroy, s);
    for (int i = 0; i < 20 && s->requests_len < SUBS; i++) {
        run(s);
    }
    CU_ASSERT_EQUAL_FATAL(s->requests_len, SUBS);
    CU_ASSERT_EQUAL(s->ids[0] + s->ids[1] + s->ids[2], 1 + 2 + 3); /* in any order */
}

static struct client_link *only_link(struct stage *s)
{
    CU_ASSERT_EQUAL_FATAL(s->client->workers[0].links_len, 1);
    return s->client->workers[0].links[0];
}

static void stage_end(struct stage *s)
{
    for (int i = 0; i < SUBS; i++) {
        give_up(&s->listeners[i]);
    }
    run(s);
    CU_ASSERT_EQUAL(metric_value(metric_gauge(s->metrics, "tailrace_boundary_client_subscriptions",
                                              "worker=\"0\"", "")), 0);
    sim_free(s->sim);
    metrics_registry_free(s->metrics);
}

/* What was said ends the session; the client comes again, and asks for everything anew. */
static void expect_end(struct stage *s)
{
    for (int i = 0; i < 60 && s->sessions < 2; i++) {
        run(s);
    }
    CU_ASSERT_EQUAL(s->sessions, 2);
    run(s);
    CU_ASSERT_EQUAL(s->requests_len, 2 * SUBS);
    CU_ASSERT_EQUAL(only_link(s)->named, 0);
    CU_ASSERT_EQUAL(only_link(s)->channels.len, 0);
    stage_end(s);
}

static const uint32_t all[] = {1, 2, 3};

static void test_many(void)
{
    struct stage s;
    stage_start(&s);
    say_readers(&s, CHANNEL, all, 3);
    say_data(&s, CHANNEL, AS_OF, 20);
    say_data(&s, CHANNEL, 20, 20); /* a part, */
    say_data(&s, CHANNEL, 20, 30); /* and what completes it */
    say_readers(&s, CHANNEL, all + 1, 1);
    say_data(&s, CHANNEL, 30, 40);
    run(&s);
    CU_ASSERT_EQUAL(s.listeners[0].chunks, 3);
    CU_ASSERT_EQUAL(s.listeners[1].chunks, 4);
    CU_ASSERT_EQUAL(s.listeners[2].bytes, 300);
    CU_ASSERT_EQUAL(s.listeners[2].upper, 30);
    CU_ASSERT_EQUAL(only_link(&s)->named, 1);
    /* Each pays for itself: 164 a chunk, so the fourth passes half of the window. */
    CU_ASSERT_EQUAL(s.credit, 0);
    say_readers(&s, CHANNEL, all, 1);
    say_data(&s, CHANNEL, 30, 50);
    run(&s);
    CU_ASSERT_EQUAL(s.credit, 4 * 164 + 1000);
    say_readers(&s, CHANNEL, NULL, 0); /* closed */
    run(&s);
    CU_ASSERT_EQUAL(only_link(&s)->channels.len, 0);
    CU_ASSERT_EQUAL(s.sessions, 1);
    stage_end(&s);
}

static void test_unknown(void)
{
    struct stage s;
    const uint32_t ids[] = {0, 1, 2, 3, 4, 77, UINT32_MAX};
    stage_start(&s);
    give_up(&s.listeners[1]);
    say_readers(&s, CHANNEL, ids, 7);
    say_data(&s, CHANNEL, AS_OF, 20);
    run(&s);
    CU_ASSERT_EQUAL(s.listeners[0].chunks, 1);
    CU_ASSERT_EQUAL(s.listeners[1].chunks, 0);
    CU_ASSERT_EQUAL(s.listeners[2].chunks, 1);
    CU_ASSERT_EQUAL(s.sessions, 1);
    stage_end(&s);
}

/* To a worker that has no subscription at all. */
static void test_nobody(void)
{
    struct stage s;
    stage_start(&s);
    struct carrier_message m = {.kind = BOUNDARY_READERS, .stream = CHANNEL,
                                .data = (const uint8_t *)all, .len = sizeof(all)};
    carrier_send(s.carrier, 0, 1, &m);
    m = (struct carrier_message){.kind = BOUNDARY_DATA, .stream = CHANNEL, .b = 9};
    carrier_send(s.carrier, 0, 1, &m);
    run(&s);
    CU_ASSERT_EQUAL(s.client->workers[1].links[0]->named, 3);
    CU_ASSERT_EQUAL(s.listeners[0].chunks, 0);
    CU_ASSERT_EQUAL(s.sessions, 1);
    stage_end(&s);
}

/* A handler gives up others that the same message names, and itself. */
static void test_give_up_inside(void)
{
    struct stage s;
    stage_start(&s);
    s.listeners[0].gives_up = s.listeners[0].gives_up_others = true;
    say_readers(&s, CHANNEL, all, 3);
    say_data(&s, CHANNEL, AS_OF, 20);
    say_data(&s, CHANNEL, 20, 30);
    run(&s);
    CU_ASSERT_EQUAL(s.listeners[0].chunks, 1);
    CU_ASSERT_EQUAL(s.listeners[1].chunks + s.listeners[2].chunks, 0);
    CU_ASSERT_EQUAL(s.unsubscribes, 3);
    stage_end(&s);
}

/* Behind what was sent on the channel; the others of it go on. */
static void test_refused(void)
{
    struct stage s;
    stage_start(&s);
    say_readers(&s, CHANNEL, all, 3);
    say_data(&s, CHANNEL, AS_OF, 20);
    say(&s, 0, BOUNDARY_REFUSED, CHANNEL, 2, 0, ERR_NOT_FOUND, "42P01gone", 9);
    say(&s, 0, BOUNDARY_REFUSED, CHANNEL, 1ULL << 32 | 1, 0, ERR_NOT_FOUND, "42P01gone", 9);
    say_readers(&s, CHANNEL, (uint32_t[]){1, 3}, 2);
    say_data(&s, CHANNEL, 20, 30);
    run(&s);
    CU_ASSERT_EQUAL(s.listeners[1].refused, ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(s.listeners[1].chunks, 1);
    CU_ASSERT_EQUAL(s.listeners[0].chunks, 2);
    CU_ASSERT_EQUAL(s.listeners[0].refused, 0);
    CU_ASSERT_EQUAL(s.listeners[2].chunks, 2);
    stage_end(&s);
}

static void test_bad_lists(void)
{
    struct stage s;
    stage_start(&s); /* twice */
    say_readers(&s, CHANNEL, (uint32_t[]){1, 2, 2}, 3);
    expect_end(&s);
    stage_start(&s); /* not ascending */
    say_readers(&s, CHANNEL, (uint32_t[]){1, 3, 2}, 3);
    expect_end(&s);
    stage_start(&s); /* half a number */
    say(&s, 0, BOUNDARY_READERS, CHANNEL, 0, 0, 0, all, 6);
    expect_end(&s);
    stage_start(&s); /* closed, never opened */
    say_readers(&s, CHANNEL, NULL, 0);
    expect_end(&s);
    stage_start(&s); /* nobody named */
    say_data(&s, CHANNEL, AS_OF, 20);
    expect_end(&s);
    stage_start(&s); /* named on another channel */
    say_readers(&s, CHANNEL, all, 3);
    say_data(&s, CHANNEL + 1, AS_OF, 20);
    expect_end(&s);
    stage_start(&s); /* of another storage worker */
    say(&s, 1, BOUNDARY_READERS, CHANNEL, 0, 0, 0, all, 4);
    say(&s, 1, BOUNDARY_DATA, CHANNEL, AS_OF, 20, 0, NULL, 0);
    expect_end(&s);
    stage_start(&s); /* a gap for one of them */
    say_readers(&s, CHANNEL, all, 1);
    say_data(&s, CHANNEL, AS_OF, 20);
    say_readers(&s, CHANNEL, all, 3);
    say_data(&s, CHANNEL, 20, 30);
    expect_end(&s);
    stage_start(&s); /* closed, then used */
    say_readers(&s, CHANNEL, all, 3);
    say_readers(&s, CHANNEL, NULL, 0);
    say_data(&s, CHANNEL, AS_OF, 20);
    expect_end(&s);
    stage_start(&s); /* a kind of the client's own */
    say(&s, 0, BOUNDARY_SUBSCRIBE, 1, 0, 0, 0, NULL, 0);
    expect_end(&s);
}

/* As many as may be named in all, by each worker so many, then one more. */
static void test_too_many(void)
{
    struct stage s;
    uint32_t *ids = mem_alloc((BOUNDARY_SUBS_MAX + 1) * sizeof(ids[0]));
    for (uint32_t i = 0; i <= BOUNDARY_SUBS_MAX; i++) {
        ids[i] = i + 1;
    }
    stage_start(&s);
    say_readers(&s, CHANNEL, ids, BOUNDARY_SUBS_MAX);
    say_data(&s, CHANNEL, AS_OF, 20);
    for (int i = 0; i < 40 && s.listeners[2].chunks == 0; i++) {
        run(&s);
    }
    CU_ASSERT_EQUAL(s.listeners[2].chunks, 1);
    CU_ASSERT_EQUAL(only_link(&s)->named, BOUNDARY_SUBS_MAX);
    say_readers(&s, CHANNEL + 1, ids, BOUNDARY_SUBS_MAX);
    for (int i = 0; i < 40 && only_link(&s)->named == BOUNDARY_SUBS_MAX; i++) {
        run(&s);
    }
    CU_ASSERT_EQUAL(only_link(&s)->named, WORKERS * BOUNDARY_SUBS_MAX);
    say_readers(&s, CHANNEL + 2, ids, 1);
    expect_end(&s);
    stage_start(&s);
    say_readers(&s, CHANNEL, ids, BOUNDARY_SUBS_MAX + 1);
    expect_end(&s);
    free(ids);
}

/* Where to resume is said by who resumes, and by nobody else. */
static void test_stray_resume(void)
{
    struct boundary_request request = {.source = 1, .as_of = AS_OF, .resume = true,
                                       .resume_from = UINT64_MAX};
    struct boundary_request out;
    struct buf bytes = {0};
    boundary_request_encode(&bytes, &request);
    CU_ASSERT_EQUAL_FATAL(boundary_request_decode(bytes.data, bytes.len, &out), ERR_OK);
    CU_ASSERT_TRUE(out.resume && out.resume_from == UINT64_MAX);
    bytes.data[20] = 0; /* the flags, behind dataflow, source and worker */
    err_t err = boundary_request_decode(bytes.data, bytes.len, &out);
    CU_ASSERT_EQUAL(err_code(err), ERR_PROTOCOL);
    err_free(err);
    buf_free(&bytes);
}

/* As shared memory says it of a block that was taken back. */
static err_t lose(struct stage *s, uint8_t kind, uint32_t stream)
{
    struct carrier_message m = {.kind = kind, .stream = stream, .a = AS_OF, .b = AS_OF};
    return boundary_client_host.lost(&s->client->workers[0], only_link(s)->carrier, 0, 0, &m);
}

/* All of the channel have lost the chunk: parts are taken back, each asks again under a new number
 * from where it was, and what is still under way for the old one is nobody's. */
static void test_lost(void)
{
    struct stage s;
    stage_start(&s);
    say_readers(&s, CHANNEL, all, 2);
    say_data(&s, CHANNEL, AS_OF, AS_OF); /* a part, for two */
    say_readers(&s, CHANNEL, all + 2, 1);
    say_data(&s, CHANNEL, AS_OF, 20); /* complete, for the third */
    say_readers(&s, CHANNEL, all, 3);
    run(&s);
    CU_ASSERT_PTR_NULL(lose(&s, BOUNDARY_DATA, CHANNEL));
    say_data(&s, CHANNEL, 20, 30); /* under way meanwhile */
    run(&s);
    for (int i = 0; i < SUBS; i++) {
        bool part = i < 2;
        const struct boundary_request *again = &s.requests[SUBS + i];
        CU_ASSERT_EQUAL(s.listeners[i].resets, part ? 1 : 0);
        CU_ASSERT_EQUAL(s.listeners[i].chunks, 1);
        CU_ASSERT_EQUAL(s.ids[SUBS + i], SUBS + 1 + (uint32_t)i);
        CU_ASSERT_EQUAL(again->resume, !part);
        CU_ASSERT_EQUAL(part ? again->as_of : again->resume_from, part ? AS_OF : 20);
    }
    CU_ASSERT_EQUAL(s.unsubscribes, 3);
    CU_ASSERT_EQUAL(s.requests_len, 2 * SUBS);
    say_readers(&s, CHANNEL + 1, (uint32_t[]){4, 5}, 2);
    say_data(&s, CHANNEL + 1, AS_OF, 20);
    say_readers(&s, CHANNEL + 1, (uint32_t[]){4, 5, 6}, 3);
    say_data(&s, CHANNEL + 1, 20, 40);
    run(&s);
    for (int i = 0; i < SUBS; i++) {
        CU_ASSERT_EQUAL(s.listeners[i].upper, 40);
    }
    CU_ASSERT_EQUAL(s.sessions, 1);
    stage_end(&s);
}

/* The first one's reset gives itself and the others up, amid the list. */
static void test_lost_and_given_up(void)
{
    struct stage s;
    stage_start(&s);
    say_readers(&s, CHANNEL, all, 3);
    say_data(&s, CHANNEL, AS_OF, AS_OF);
    run(&s);
    s.listeners[0].gives_up = s.listeners[0].gives_up_others = true;
    CU_ASSERT_PTR_NULL(lose(&s, BOUNDARY_DATA, CHANNEL));
    run(&s);
    CU_ASSERT_EQUAL(s.listeners[0].resets, 1);
    CU_ASSERT_EQUAL(s.listeners[1].resets, 0);
    CU_ASSERT_EQUAL(s.unsubscribes, 3);
    CU_ASSERT_EQUAL(s.requests_len, SUBS);
    stage_end(&s);
}

/* What a correct peer never takes back. */
static void test_lost_wrongly(void)
{
    struct stage s;
    stage_start(&s);
    err_t err = lose(&s, BOUNDARY_DATA, CHANNEL);
    CU_ASSERT_EQUAL(err_code(err), ERR_PROTOCOL);
    err_free(err);
    err = lose(&s, BOUNDARY_READERS, CHANNEL);
    CU_ASSERT_EQUAL(err_code(err), ERR_PROTOCOL);
    err_free(err);
    stage_end(&s);
}

/* ---- runs ------------------------------------------------------------------------------------ */

static struct carrier_small small(uint8_t kind, uint32_t stream, uint64_t a, uint64_t b,
                                  const void *bytes, uint32_t len)
{
    struct carrier_small m = {.word = kind, .stream = stream, .c = len, .len = len, .a = a,
                              .b = b};
    if (len > 0) {
        memcpy(m.bytes, bytes, len);
    }
    return m;
}

/* As a carrier in shared memory gives what came in a row. */
static int take_run(struct stage *s, const struct carrier_small *messages, uint32_t len)
{
    err_t err = boundary_client_host.run(&s->client->workers[0], only_link(s)->carrier, 0, 0,
                                         messages, len);
    int code = err == ERR_OK ? 0 : (int)err_code(err);
    err_free(err);
    return code;
}

static void test_run(void)
{
    struct stage s;
    const uint64_t word = 7;
    stage_start(&s);
    const struct carrier_small first[] = {
        small(BOUNDARY_READERS, CHANNEL, 0, 0, &all[1], 4),
        small(BOUNDARY_DATA, CHANNEL, AS_OF, 11, &word, 8),
        small(BOUNDARY_DATA, CHANNEL, 11, 12, NULL, 0),
        small(BOUNDARY_DATA, CHANNEL, 12, 12, &word, 8), /* a part, */
        small(BOUNDARY_DATA, CHANNEL, 12, 13, &word, 8), /* and what completes it */
        small(BOUNDARY_READERS, CHANNEL + 1, 0, 0, all, 12),
        small(BOUNDARY_DATA, CHANNEL, 13, 14, &word, 8),
        small(BOUNDARY_DATA, CHANNEL, 5, 10, &word, 8), /* had already */
    };
    CU_ASSERT_EQUAL(take_run(&s, first, 8), 0);
    CU_ASSERT_EQUAL(s.listeners[1].chunks, 5);
    CU_ASSERT_EQUAL(s.listeners[1].bytes, 32);
    CU_ASSERT_EQUAL(s.listeners[1].upper, 14);
    CU_ASSERT_EQUAL(s.listeners[0].chunks + s.listeners[2].chunks, 0);
    CU_ASSERT_EQUAL(metric_value(metric_counter(s.metrics,
                                                "tailrace_boundary_received_bytes_total",
                                                "worker=\"0\"", "")), 32);
    s.listeners[1].gives_up = true;
    const struct carrier_small last[] = {small(BOUNDARY_DATA, CHANNEL, 14, 15, &word, 8),
                                         small(BOUNDARY_DATA, CHANNEL, 15, 16, &word, 8)};
    CU_ASSERT_EQUAL(take_run(&s, last, 2), 0);
    CU_ASSERT_EQUAL(s.listeners[1].chunks, 6);
    CU_ASSERT_PTR_NULL(s.listeners[1].sub);
    stage_end(&s);
}

/* Each ends the session: an error is what tells the carrier so. */
static void test_bad_run(void)
{
    struct stage s;
    const uint64_t word = 7;
    stage_start(&s);
    struct carrier_small m[] = {small(BOUNDARY_READERS, CHANNEL, 0, 0, &all[1], 4),
                                small(BOUNDARY_DATA, CHANNEL, AS_OF, 11, &word, 8),
                                small(BOUNDARY_DATA, CHANNEL, 12, 13, &word, 8)};
    CU_ASSERT_EQUAL(take_run(&s, m, 3), ERR_PROTOCOL); /* a gap */
    m[2] = small(BOUNDARY_DATA, CHANNEL, 11, 10, &word, 8); /* backwards */
    CU_ASSERT_EQUAL(take_run(&s, &m[2], 1), ERR_PROTOCOL);
    m[2] = small(BOUNDARY_DATA, CHANNEL, 11, 12, &word, 8);
    m[2].c = 9; /* more than there is */
    CU_ASSERT_EQUAL(take_run(&s, &m[2], 1), ERR_PROTOCOL);
    m[2] = small(BOUNDARY_DATA, CHANNEL + 1, 11, 12, &word, 8); /* nobody's */
    CU_ASSERT_EQUAL(take_run(&s, &m[2], 1), ERR_PROTOCOL);
    m[2] = small(BOUNDARY_SUBSCRIBE, CHANNEL, 11, 12, &word, 8);
    CU_ASSERT_EQUAL(take_run(&s, &m[2], 1), ERR_PROTOCOL);
    CU_ASSERT_EQUAL(s.listeners[1].upper, 11);
    stage_end(&s);
}

static const struct test_case cases[] = {
    {"one message for several", test_many},
    {"readers nobody knows", test_unknown},
    {"a worker without subscriptions", test_nobody},
    {"given up amid a message", test_give_up_inside},
    {"one of several is refused", test_refused},
    {"bad lists", test_bad_lists},
    {"too many readers", test_too_many},
    {"a place to resume at, of one who does not", test_stray_resume},
    {"a lost chunk", test_lost},
    {"given up when a chunk is lost", test_lost_and_given_up},
    {"lost wrongly", test_lost_wrongly},
    {"small messages in a row", test_run},
    {"bad messages in a row", test_bad_run},
};
TEST_SUITE("ring/boundary channels", cases)
