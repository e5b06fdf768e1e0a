/* core/io/tls: handshakes that succeed and fail, data both ways, back-pressure, the end. */
#include "core/base/buf.h"
#include "core/base/log.h"
#include "core/io/tls.h"
#include "ctrl/pki/pki.h"
#include "tests/unit/harness.h"

#include <openssl/ssl.h>
#include <stdio.h>
#include <sys/stat.h>

enum side { SERVER, CLIENT };

struct pair;

struct end {
    struct pair *pair;
    enum side side;
    struct io_stream *stream;
    struct tls_context *tls; /* NULL: plain */
    size_t received;
    uint32_t sum; /* of received bytes and their positions */
    size_t to_send;
    bool ready;
    bool closed;
    char reason[512]; /* "" when closed in order */
    char peer_name[128];
    uint8_t place[16000]; /* where it wants its bytes, if the pair says so */
    size_t placed;        /* bytes that came there */
};

/* A client that speaks TLS by itself, in ways that our streams do not. */
struct raw {
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in;  /* to be read by ssl, which owns both */
    BIO *out;
    size_t got; /* of plaintext */
    void (*speak)(struct end *end); /* the handshake is done */
};

/* A listener, a connection, TLS on both ends. */
struct pair {
    struct io_loop *loop;
    char dir[64];
    struct pki *pki;
    struct pki *other_pki;
    struct io_listener *listener;
    struct end ends[2];
    struct io_timer limit;
    struct io_timer later;
    void (*later_fn)(struct pair *pair);
    bool timed_out;
    size_t pending_max;

    /* the scenario */
    err_t (*make_contexts)(struct pair *pair);
    void (*on_ready)(struct end *end);
    void (*on_data)(struct end *end);
    bool plain_client; /* does not speak TLS */
    bool places;       /* both want their bytes in certain places */
    struct raw *raw;   /* NULL: none; else the plain client's */
    size_t early;      /* bytes the server reads before it starts TLS */
    uint8_t early_bytes[64];
};

/* ---- end of a run ---------------------------------------------------------------------------- */

static void finish(struct pair *pair)
{
    for (int i = 0; i < 2; i++) {
        if (!pair->ends[i].closed) {
            io_stream_close(pair->ends[i].stream);
        }
        tls_context_free(pair->ends[i].tls);
    }
    io_timer_cancel(pair->loop, &pair->limit);
    io_timer_cancel(pair->loop, &pair->later);
    io_listener_close(pair->listener);
    pki_free(pair->pki);
    pki_free(pair->other_pki);
    io_loop_stop(pair->loop);
}

static void later_fired(struct io_timer *timer)
{
    struct pair *pair = CONTAINER_OF(timer, struct pair, later);
    pair->later_fn(pair);
}

static void later(struct pair *pair, uint64_t ms, void (*fn)(struct pair *pair))
{
    pair->later.fire = later_fired;
    pair->later_fn = fn;
    io_timer_start(pair->loop, &pair->later, io_now_us(pair->loop) + ms * 1000);
}

/* ---- handlers -------------------------------------------------------------------------------- */

static uint8_t byte_at(size_t position)
{
    return (uint8_t)(position * 2654435761U >> 13);
}

static void send_some(struct end *end)
{
    uint8_t block[40000];
    while (end->to_send > 0 && io_stream_pending(end->stream) < 100000) {
        size_t len = end->to_send < sizeof(block) ? end->to_send : sizeof(block);
        for (size_t i = 0; i < len; i++) {
            block[i] = byte_at(end->to_send - i);
        }
        io_stream_write(end->stream, block, len);
        end->to_send -= len;
        size_t pending = io_stream_pending(end->stream);
        end->pair->pending_max =
            pending > end->pair->pending_max ? pending : end->pair->pending_max;
    }
}

static void raw_heard(struct end *end, const uint8_t *data, size_t len);

static void end_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    struct end *end = arg;
    for (size_t i = 0; i < len; i++) {
        end->sum += data[i] * (uint32_t)(end->received + i + 1);
    }
    end->received += len;
    end->placed += data == end->place ? len : 0;
    if (end->side == CLIENT && end->pair->raw != NULL) {
        raw_heard(end, data, len);
        return;
    }
    if (end->pair->on_data != NULL) {
        end->pair->on_data(end);
    }
}

static void end_drain(void *arg)
{
    send_some(arg);
}

static void end_close(void *arg, err_t reason)
{
    struct end *end = arg;
    struct pair *pair = end->pair;
    CU_ASSERT_FALSE(end->closed);
    end->closed = true;
    snprintf(end->reason, sizeof(end->reason), "%s", reason == ERR_OK ? "" : err_text(reason));
    err_free(reason);
    if (pair->ends[0].closed && pair->ends[1].closed) {
        finish(pair);
    }
}

/* As large as chance has it, now and then too small or none. */
static uint8_t *end_place(void *arg, size_t *len)
{
    struct end *end = arg;
    *len = end->received * 7919 % sizeof(end->place) + 1;
    return end->pair->places && *len % 5 != 0 ? end->place : NULL;
}

static const struct io_stream_handler end_handler = {
    .data = end_data, .drain = end_drain, .close = end_close, .place = end_place};

static void end_ready(void *arg, struct io_stream *stream)
{
    struct end *end = arg;
    end->ready = true;
    end->stream = stream;
    snprintf(end->peer_name, sizeof(end->peer_name), "%s", io_stream_peer_name(stream));
    if (end->pair->on_ready != NULL) {
        end->pair->on_ready(end);
    }
}

static void start_tls(struct end *end, struct io_stream *under, size_t early)
{
    tls_start(end->tls, under, NULL, end->pair->early_bytes, early, &end_handler, end, end_ready,
              &end->stream);
}

/* The server of a protocol that starts TLS later has read the first bytes itself. */
static void early_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    struct end *end = arg;
    CU_ASSERT_FATAL(len >= 1);
    size_t take = len < sizeof(end->pair->early_bytes) ? len : sizeof(end->pair->early_bytes);
    memcpy(end->pair->early_bytes, data, take);
    struct io_stream *under = end->stream;
    if (take < len) { /* the rest goes with them */
        uint8_t *all = mem_alloc(len);
        memcpy(all, data, len);
        tls_start(end->tls, under, NULL, all, len, &end_handler, end, end_ready, &end->stream);
        free(all);
        return;
    }
    start_tls(end, under, take);
}

static const struct io_stream_handler early_handler = {.data = early_data, .close = end_close};

static void accepted(void *arg, struct io_stream *stream)
{
    struct pair *pair = arg;
    struct end *end = &pair->ends[SERVER];
    end->stream = stream;
    if (pair->early > 0) {
        io_stream_set_handler(stream, &early_handler, end);
    } else {
        start_tls(end, stream, 0);
    }
}

static void connected(void *arg, struct io_stream *stream)
{
    struct end *end = arg;
    if (end->pair->plain_client) {
        io_stream_set_handler(stream, &end_handler, end);
        end_ready(end, stream);
    } else {
        start_tls(end, stream, 0);
    }
}

/* ---- a run ----------------------------------------------------------------------------------- */

static void limit_fired(struct io_timer *timer)
{
    struct pair *pair = CONTAINER_OF(timer, struct pair, limit);
    pair->timed_out = true;
    finish(pair);
}

static void run_start(struct io_loop *loop, void *arg)
{
    struct pair *pair = arg;
    pair->loop = loop;
    for (int i = 0; i < 2; i++) {
        pair->ends[i].pair = pair;
        pair->ends[i].side = (enum side)i;
    }
    char dir[80];
    snprintf(dir, sizeof(dir), "%s/a", pair->dir);
    CU_ASSERT_PTR_NULL_FATAL(pki_init(loop, dir, "env", &pair->pki));
    snprintf(dir, sizeof(dir), "%s/b", pair->dir);
    CU_ASSERT_PTR_NULL_FATAL(pki_init(loop, dir, "env", &pair->other_pki));
    err_t err = pair->make_contexts(pair);
    CU_ASSERT_PTR_NULL_FATAL(err);
    pair->limit.fire = limit_fired;
    io_timer_start(loop, &pair->limit, io_now_us(loop) + 20000000);
    CU_ASSERT_PTR_NULL_FATAL(io_listen(loop, "127.0.0.1:0", accepted, pair, &pair->listener));
    CU_ASSERT_PTR_NULL_FATAL(io_connect(loop, io_listener_address(pair->listener), &end_handler,
                                        &pair->ends[CLIENT], connected,
                                        &pair->ends[CLIENT].stream));
}

static void run(struct pair *pair)
{
    snprintf(pair->dir, sizeof(pair->dir), "/tmp/tailrace-tls-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(pair->dir));
    log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "test");
    struct io_env *env;
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL(io_main(env, run_start, pair));
    io_env_free(env);
    CU_ASSERT_FALSE(pair->timed_out);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", pair->dir);
    CU_ASSERT_EQUAL(system(command), 0);
}

/* ---- contexts -------------------------------------------------------------------------------- */

static err_t context(struct end *end, struct pki *pki, enum pki_role role, const char *ca_path,
                     const char *alpn)
{
    struct pki_files files = {0};
    if (pki != NULL) {
        TRY(pki_issue(pki, role, "test", &files));
    }
    struct tls_config config = {.certificate_path = files.certificate_path,
                                .key_path = files.key_path,
                                .ca_path = ca_path,
                                .require_peer = end->side == SERVER,
                                .alpn = alpn};
    err_t err = tls_context_new(&config, end->side == SERVER, &end->tls);
    pki_files_free(&files);
    return err;
}

static err_t both_good(struct pair *pair)
{
    const char *ca = pki_ca_path(pair->pki);
    TRY(context(&pair->ends[SERVER], pair->pki, PKI_STORAGED, ca, "h2"));
    return context(&pair->ends[CLIENT], pair->pki, PKI_COMPUTED, ca, "h2");
}

static err_t client_without_certificate(struct pair *pair)
{
    const char *ca = pki_ca_path(pair->pki);
    TRY(context(&pair->ends[SERVER], pair->pki, PKI_STORAGED, ca, NULL));
    return context(&pair->ends[CLIENT], NULL, PKI_COMPUTED, ca, NULL);
}

static err_t client_of_another_ca(struct pair *pair)
{
    const char *ca = pki_ca_path(pair->pki);
    TRY(context(&pair->ends[SERVER], pair->pki, PKI_STORAGED, ca, NULL));
    return context(&pair->ends[CLIENT], pair->other_pki, PKI_COMPUTED, ca, NULL);
}

static err_t server_of_another_ca(struct pair *pair)
{
    TRY(context(&pair->ends[SERVER], pair->other_pki, PKI_STORAGED, pki_ca_path(pair->pki), NULL));
    return context(&pair->ends[CLIENT], pair->pki, PKI_COMPUTED, pki_ca_path(pair->pki), NULL);
}

static err_t other_alpn(struct pair *pair)
{
    const char *ca = pki_ca_path(pair->pki);
    TRY(context(&pair->ends[SERVER], pair->pki, PKI_STORAGED, ca, "h2"));
    return context(&pair->ends[CLIENT], pair->pki, PKI_COMPUTED, ca, "http/1.1");
}

static err_t no_alpn(struct pair *pair)
{
    const char *ca = pki_ca_path(pair->pki);
    TRY(context(&pair->ends[SERVER], pair->pki, PKI_STORAGED, ca, "h2"));
    return context(&pair->ends[CLIENT], pair->pki, PKI_COMPUTED, ca, NULL);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void echo_data(struct end *end)
{
    if (end->side == SERVER) {
        io_stream_write(end->stream, "pong", 4);
    } else {
        io_stream_finish(end->stream);
        end->closed = true;
    }
}

static void client_pings(struct end *end)
{
    if (end->side == CLIENT) {
        io_stream_write(end->stream, "ping", 4);
    }
}

static void test_echo(void)
{
    struct pair pair = {.make_contexts = both_good, .on_ready = client_pings, .on_data = echo_data};
    run(&pair);
    CU_ASSERT_EQUAL(pair.ends[SERVER].received, 4);
    CU_ASSERT_EQUAL(pair.ends[CLIENT].received, 4);
    CU_ASSERT_STRING_EQUAL(pair.ends[SERVER].peer_name, "tailrace://env/computed/test");
    CU_ASSERT_STRING_EQUAL(pair.ends[CLIENT].peer_name, "tailrace://env/storaged/test");
    CU_ASSERT_STRING_EQUAL(pair.ends[SERVER].reason, ""); /* close_notify came */
}

static void test_early_bytes(void)
{
    struct pair pair = {
        .make_contexts = both_good, .on_ready = client_pings, .on_data = echo_data, .early = 1};
    run(&pair);
    CU_ASSERT_EQUAL(pair.ends[CLIENT].received, 4);
}

enum { BULK = 8000000 };

static void bulk_ready(struct end *end)
{
    end->to_send = BULK;
    io_stream_set_high_water(end->stream, 50000);
    send_some(end);
}

static void bulk_resume(struct pair *pair)
{
    io_stream_resume(pair->ends[SERVER].stream);
}

static void bulk_data(struct end *end)
{
    struct pair *pair = end->pair;
    if (end->side == SERVER && end->received > BULK / 2 && pair->later_fn == NULL) {
        io_stream_pause(end->stream);
        later(pair, 50, bulk_resume);
    }
    if (pair->ends[0].received == BULK && pair->ends[1].received == BULK) {
        io_stream_finish(pair->ends[CLIENT].stream);
        pair->ends[CLIENT].closed = true;
    }
}

static void bulk_both_ways(bool places)
{
    struct pair pair = {.make_contexts = both_good, .on_ready = bulk_ready, .on_data = bulk_data,
                        .places = places};
    run(&pair);
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(pair.ends[i].placed > BULK / 4, places);
    }
    uint32_t sum = 0;
    for (size_t i = 0; i < BULK; i++) {
        sum += byte_at(BULK - i) * (uint32_t)(i + 1);
    }
    CU_ASSERT_EQUAL(pair.ends[0].received, BULK);
    CU_ASSERT_EQUAL(pair.ends[1].received, BULK);
    CU_ASSERT_EQUAL(pair.ends[0].sum, sum);
    CU_ASSERT_EQUAL(pair.ends[1].sum, sum);
    CU_ASSERT(pair.pending_max < 100000 + 50000); /* what was written ahead, and no more */
}

static void test_bulk_both_ways(void)
{
    bulk_both_ways(false);
}

static void test_bulk_into_places(void)
{
    bulk_both_ways(true);
}

static void paused_data(struct end *end)
{
    if (end->side == SERVER) {
        io_stream_pause(end->stream);
    }
}

static void paused_check(struct pair *pair)
{
    struct end *server = &pair->ends[SERVER];
    CU_ASSERT(server->received > 0 && server->received <= 16384); /* one record, then silence */
    finish(pair);
}

static void paused_ready(struct end *end)
{
    if (end->side == CLIENT) {
        end->to_send = 90000;
        send_some(end);
        later(end->pair, 100, paused_check);
    }
}

static void test_pause_is_immediate(void)
{
    struct pair pair = {
        .make_contexts = both_good, .on_ready = paused_ready, .on_data = paused_data};
    run(&pair);
}

static void expect_reason(const struct end *end, const char *part)
{
    CU_ASSERT_PTR_NOT_NULL(strstr(end->reason, part));
    if (strstr(end->reason, part) == NULL) {
        printf("%s: \"%s\" not in \"%s\"\n", end->side == SERVER ? "server" : "client", part,
               end->reason);
    }
}

static void test_no_certificate(void)
{
    struct pair pair = {.make_contexts = client_without_certificate};
    run(&pair);
    CU_ASSERT_FALSE(pair.ends[SERVER].ready);
    expect_reason(&pair.ends[SERVER], "peer did not return a certificate");
    expect_reason(&pair.ends[CLIENT], "certificate required");
}

static void test_certificate_of_another_ca(void)
{
    struct pair pair = {.make_contexts = client_of_another_ca};
    run(&pair);
    CU_ASSERT_FALSE(pair.ends[SERVER].ready);
    expect_reason(&pair.ends[SERVER], "does not verify");
    expect_reason(&pair.ends[CLIENT], "alert");
}

static void test_server_of_another_ca(void)
{
    struct pair pair = {.make_contexts = server_of_another_ca};
    run(&pair);
    CU_ASSERT_FALSE(pair.ends[CLIENT].ready);
    expect_reason(&pair.ends[CLIENT], "does not verify");
    expect_reason(&pair.ends[SERVER], "alert");
}

static void test_alpn(void)
{
    struct pair pair = {.make_contexts = other_alpn};
    run(&pair);
    CU_ASSERT_FALSE(pair.ends[SERVER].ready || pair.ends[CLIENT].ready);
    expect_reason(&pair.ends[CLIENT], "no application protocol");
    struct pair none = {.make_contexts = no_alpn};
    run(&none);
    CU_ASSERT_FALSE(none.ends[SERVER].ready);
    expect_reason(&none.ends[SERVER], "did not agree to ALPN \"h2\"");
}

static void speak_plain(struct end *end)
{
    if (end->side == CLIENT) {
        io_stream_write(end->stream, "GET / HTTP/1.1\r\n\r\n", 18);
    }
}

static void test_not_tls(void)
{
    struct pair pair = {.make_contexts = both_good, .on_ready = speak_plain, .plain_client = true};
    run(&pair);
    CU_ASSERT_FALSE(pair.ends[SERVER].ready);
    expect_reason(&pair.ends[SERVER], "TLS handshake with 127.0.0.1");
    CU_ASSERT(pair.ends[SERVER].received == 0);
}

static void cut(struct end *end)
{
    if (end->side == CLIENT) {
        io_stream_close(end->stream);
        end->closed = true;
    }
}

static void test_cut_is_an_error(void)
{
    struct pair pair = {.make_contexts = both_good, .on_ready = cut};
    run(&pair);
    CU_ASSERT_STRING_NOT_EQUAL(pair.ends[SERVER].reason, "");
}

static void close_inside_data(struct end *end)
{
    if (end->side == SERVER) {
        io_stream_close(end->stream);
        end->closed = true;
    }
}

static void bulk_from_client(struct end *end)
{
    if (end->side == CLIENT) {
        bulk_ready(end);
    }
}

static void test_close_inside_data(void)
{
    struct pair pair = {
        .make_contexts = both_good, .on_ready = bulk_from_client, .on_data = close_inside_data};
    run(&pair);
    CU_ASSERT_STRING_NOT_EQUAL(pair.ends[CLIENT].reason, "");
}

/* ---- peers that speak TLS as ours do not ----------------------------------------------------- */

static err_t server_alone(struct pair *pair)
{
    struct pki_files files = {0};
    TRY(pki_issue(pair->pki, PKI_STORAGED, "test", &files));
    struct tls_config config = {.certificate_path = files.certificate_path,
                                .key_path = files.key_path};
    err_t err = tls_context_new(&config, true, &pair->ends[SERVER].tls);
    pki_files_free(&files);
    return err;
}

/* What OpenSSL has written goes out. */
static void raw_flush(struct end *end)
{
    char bytes[4096];
    int len;
    while ((len = BIO_read(end->pair->raw->out, bytes, sizeof(bytes))) > 0) {
        io_stream_write(end->stream, bytes, (size_t)len);
    }
}

static void raw_ready(struct end *end)
{
    struct raw *raw = end->pair->raw;
    if (end->side == SERVER) {
        return;
    }
    raw->ssl = SSL_new(raw->ctx);
    raw->in = BIO_new(BIO_s_mem());
    raw->out = BIO_new(BIO_s_mem());
    SSL_set_bio(raw->ssl, raw->in, raw->out);
    SSL_set_connect_state(raw->ssl);
    (void)SSL_do_handshake(raw->ssl);
    raw_flush(end);
}

static void raw_heard(struct end *end, const uint8_t *data, size_t len)
{
    struct raw *raw = end->pair->raw;
    char plain[4096];
    int got;
    CU_ASSERT_EQUAL(BIO_write(raw->in, data, (int)len), (int)len);
    bool before = SSL_is_init_finished(raw->ssl);
    while ((got = SSL_read(raw->ssl, plain, sizeof(plain))) > 0) {
        raw->got += (size_t)got;
    }
    raw_flush(end);
    if (!before && SSL_is_init_finished(raw->ssl)) {
        raw->speak(end);
    } else if (before && end->pair->on_data != NULL) {
        end->pair->on_data(end);
    }
}

/* The server's end says what came of it. */
static void run_raw(struct pair *pair, int version)
{
    pair->make_contexts = server_alone;
    pair->plain_client = true;
    pair->on_ready = raw_ready;
    pair->raw->ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(pair->raw->ctx, version);
    run(pair);
    SSL_free(pair->raw->ssl);
    SSL_CTX_free(pair->raw->ctx);
}

enum { UPDATES = 200, WORD = 10 };

/* Each asks for a new key of the other's, too. */
static void update_keys(struct end *end)
{
    for (int i = 0; i < UPDATES; i++) {
        CU_ASSERT_EQUAL(SSL_key_update(end->pair->raw->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        CU_ASSERT_EQUAL(SSL_write(end->pair->raw->ssl, "0123456789", WORD), WORD);
        raw_flush(end);
    }
}

static void echo_or_end(struct end *end)
{
    struct pair *pair = end->pair;
    if (end->side == SERVER) {
        io_stream_write(end->stream, "x", 1);
    } else if (pair->raw->got > 0 && pair->ends[SERVER].received == (size_t)UPDATES * WORD) {
        (void)SSL_shutdown(pair->raw->ssl);
        raw_flush(end);
        io_stream_finish(end->stream);
        end->closed = true;
    }
}

static void test_key_updates(void)
{
    struct raw raw = {.speak = update_keys};
    struct pair pair = {.raw = &raw, .on_data = echo_or_end};
    run_raw(&pair, TLS1_3_VERSION);
    CU_ASSERT_EQUAL(pair.ends[SERVER].received, (size_t)UPDATES * WORD);
    CU_ASSERT_STRING_EQUAL(pair.ends[SERVER].reason, "");
}

/* In the middle of a record: what is not authenticated yet is not delivered, and the end is no
 * orderly one though the connection's is. */
static void half_a_record(struct end *end)
{
    static const char zeros[1000];
    char record[1100];
    CU_ASSERT_EQUAL(SSL_write(end->pair->raw->ssl, zeros, sizeof(zeros)), (int)sizeof(zeros));
    int len = BIO_read(end->pair->raw->out, record, sizeof(record));
    CU_ASSERT_TRUE(len > (int)sizeof(zeros));
    io_stream_write(end->stream, record, (size_t)len / 2);
    io_stream_finish(end->stream);
    end->closed = true;
}

static void test_half_a_record(void)
{
    struct raw raw = {.speak = half_a_record};
    struct pair pair = {.raw = &raw};
    run_raw(&pair, TLS1_3_VERSION);
    CU_ASSERT_EQUAL(pair.ends[SERVER].received, 0);
    expect_reason(&pair.ends[SERVER], "without TLS close_notify");
}

/* Which can be renegotiated. */
static void test_older_version(void)
{
    struct raw raw = {0};
    struct pair pair = {.raw = &raw};
    run_raw(&pair, TLS1_2_VERSION);
    CU_ASSERT_FALSE(pair.ends[SERVER].ready);
    expect_reason(&pair.ends[SERVER], "unsupported protocol");
}

/* ---- contexts that cannot be ----------------------------------------------------------------- */

static void expect_no_context(struct tls_config config, bool server, const char *part)
{
    struct tls_context *tls = NULL;
    err_t err = tls_context_new(&config, server, &tls);
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_PTR_NOT_NULL(strstr(err_text(err), part));
    err_free(err);
}

static err_t bad_contexts(struct pair *pair)
{
    struct pki_files files;
    struct pki_files other;
    TRY(pki_issue(pair->pki, PKI_CLIENT, "a", &files));
    TRY(pki_issue(pair->pki, PKI_CLIENT, "b", &other));
    struct tls_config good = {.certificate_path = files.certificate_path,
                              .key_path = files.key_path,
                              .ca_path = files.ca_path};
    struct tls_config config = good;
    config.certificate_path = "/nowhere/x.crt";
    expect_no_context(config, true, "/nowhere/x.crt");
    config = good;
    config.key_path = other.key_path;
    expect_no_context(config, true, other.key_path);
    config = good;
    config.key_path = NULL;
    expect_no_context(config, true, "without a key");
    config = good;
    config.ca_path = files.key_path;
    expect_no_context(config, false, "CA");
    config = good;
    config.ca_path = NULL;
    config.require_peer = true;
    expect_no_context(config, true, "without a CA");
    expect_no_context((struct tls_config){0}, true, "needs a certificate");
    CU_ASSERT_EQUAL(chmod(files.key_path, 0640), 0);
    expect_no_context(good, true, "can be read by others");
    CU_ASSERT_EQUAL(chmod(files.key_path, 0400), 0);
    struct tls_context *tls;
    TRY(tls_context_new(&good, true, &tls));
    tls_context_free(tls);
    pki_files_free(&files);
    pki_files_free(&other);
    return both_good(pair);
}

static void test_bad_contexts(void)
{
    struct pair pair = {
        .make_contexts = bad_contexts, .on_ready = client_pings, .on_data = echo_data};
    run(&pair);
}

static const struct test_case cases[] = {
    {"echo with certificates on both sides", test_echo},
    {"bytes read before TLS started", test_early_bytes},
    {"bulk both ways with a pause", test_bulk_both_ways},
    {"bulk into places", test_bulk_into_places},
    {"a pause is immediate", test_pause_is_immediate},
    {"no certificate", test_no_certificate},
    {"certificate of another CA", test_certificate_of_another_ca},
    {"server of another CA", test_server_of_another_ca},
    {"ALPN", test_alpn},
    {"a peer that does not speak TLS", test_not_tls},
    {"a cut connection is an error", test_cut_is_an_error},
    {"close inside data", test_close_inside_data},
    {"keys updated all the time", test_key_updates},
    {"half a record", test_half_a_record},
    {"an older version", test_older_version},
    {"contexts that cannot be", test_bad_contexts},
};
TEST_SUITE("core/io/tls", cases)
