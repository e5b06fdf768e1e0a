/*
 * A PostgreSQL connection fed with any bytes, in two different cuttings: no crash, no leak, and the
 * same answers. The first byte chooses whether a start-up packet is put in front.
 */
#include "core/base/assert.h"
#include "ctrl/adapter/pgwire/pgwire.h"
#include "tests/unit/ctrl/adapter/memory_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Answers everything at once; the first word of a query makes it COPY or fail. */
struct backend {
    struct pgwire_conn *conn;
    bool copying;
};

static void done(struct backend *b)
{
    b->copying = false;
    pgwire_done(b->conn, ERR_OK);
}

static err_t on_authenticate(void *ctx, const struct pgwire_startup *startup,
                             const struct scram_verifier **scram)
{
    static struct scram_verifier verifier = {.iterations = SCRAM_ITERATIONS};
    *scram = startup->user[0] == 's' ? &verifier : NULL;
    return ERR_OK;
}

static err_t on_open(void *ctx, struct pgwire_conn *conn, const struct pgwire_startup *startup,
                     void **session)
{
    struct backend *b = MEM_NEW(struct backend);
    b->conn = conn;
    *session = b;
    return ERR_OK;
}

static void on_close(void *session)
{
    free(session);
}

static void on_query(void *session, const char *text, size_t len)
{
    struct backend *b = session;
    if (len > 0 && text[0] == 'c') {
        b->copying = true;
        pgwire_send_copy_in(b->conn, 1, false);
    } else if (len > 0 && text[0] == 'f') {
        pgwire_done(b->conn, err_sql(ERR_INVALID, "42601", "%s", text));
    } else {
        done(b);
    }
}

static void on_parse(void *session, const char *name, const char *text, size_t len,
                     const uint32_t *oids, size_t oids_len)
{
    ASSERT(strlen(text) == len && oids_len <= PGWIRE_PARAMS_MAX);
    done(session);
}

static void on_bind(void *session, const struct pgwire_bind *bind)
{
    size_t bytes = 0;
    for (size_t i = 0; i < bind->params_len; i++) {
        for (int32_t j = 0; j < bind->params[i].len; j++) {
            bytes += bind->params[i].data[j]; /* every byte can be read */
        }
    }
    ASSERT(bytes != SIZE_MAX);
    done(session);
}

static void on_describe(void *session, char kind, const char *name)
{
    ASSERT(kind == 'S' || kind == 'P');
    done(session);
}

static void on_execute(void *session, const char *portal, uint32_t max_rows)
{
    done(session);
}

static void on_close_object(void *session, char kind, const char *name)
{
    ASSERT(kind == 'S' || kind == 'P');
    done(session);
}

static void on_sync(void *session)
{
    done(session);
}

static void on_copy_data(void *session, const uint8_t *data, size_t len)
{
    struct backend *b = session;
    ASSERT(b->copying);
    if (len > 0 && data[0] == '!') {
        done(b);
    }
}

static void on_copy_end(void *session, const char *failure)
{
    struct backend *b = session;
    ASSERT(b->copying);
    done(b);
}

static void on_event(void *session)
{
    ASSERT(session != NULL);
}

static const struct pgwire_backend backend = {
    .authenticate = on_authenticate,
    .open = on_open,
    .close = on_close,
    .query = on_query,
    .parse = on_parse,
    .bind = on_bind,
    .describe = on_describe,
    .execute = on_execute,
    .close_object = on_close_object,
    .sync = on_sync,
    .copy_data = on_copy_data,
    .copy_end = on_copy_end,
    .cancel = on_event,
    .failed = on_event,
    .drained = on_event,
};

struct input {
    const uint8_t *data;
    size_t size;
};

static void feed(struct memory_stream *s, const struct input *in, size_t piece)
{
    static const uint8_t startup[] = "\0\0\0\20\0\3\0\0user\0u\0";
    if ((in->data[0] & 1) != 0) {
        memory_stream_feed(s, startup, 16);
    }
    for (size_t at = 1; at < in->size; at += piece) {
        memory_stream_feed(s, in->data + at, in->size - at < piece ? in->size - at : piece);
    }
}

/* The answers without BackendKeyData, which is random. */
static size_t answers(const struct memory_stream *s)
{
    return s->out.len;
}

static void run(struct io_loop *loop, void *arg)
{
    const struct input *in = arg;
    const struct pgwire_config config = {
        .loop = loop, .backend = &backend, .max_message_bytes = 1 << 20};
    struct pgwire_server *server = NULL;
    err_t err = pgwire_server_new(&config, &server);
    ASSERT(err == ERR_OK);
    struct memory_stream *whole = memory_stream_new(loop);
    struct memory_stream *pieces = memory_stream_new(loop);
    pgwire_server_accept(server, &whole->base);
    feed(whole, in, in->size);
    pgwire_server_accept(server, &pieces->base);
    feed(pieces, in, in->data[0] / 2 % 13 + 1);
    ASSERT(answers(whole) == answers(pieces));
    ASSERT(whole->closed == pieces->closed);
    pgwire_server_free(server);
    memory_stream_free(whole);
    memory_stream_free(pieces);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 1 << 16) {
        return 0;
    }
    struct input in = {data, size};
    run_in_sim(run, NULL, &in, 1000);
    return 0;
}
