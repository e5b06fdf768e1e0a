/* A connection's protocol over a stream in memory, against a backend that only records. */
#include "core/base/assert.h"
#include "ctrl/adapter/pgwire/pgwire.h"
#include "tests/unit/ctrl/adapter/memory_stream.h"
#include "tests/unit/harness.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdio.h>

/* ---- a backend that records ------------------------------------------------------------------ */

struct world {
    struct io_loop *loop;
    struct pgwire_server *server;
    struct memory_stream *streams[8];
    size_t streams_len;
    struct buf trace; /* what the backend was asked, in order */
    struct pgwire_conn *conn;
    struct scram_verifier verifier;
    bool scram;
    bool defer; /* requests are not answered at once */
    bool refuse;
    uint32_t closed;
    struct pgwire_config config;
};

static void answer(struct world *w, err_t err)
{
    if (!w->defer) {
        pgwire_done(w->conn, err);
    }
}

static err_t on_authenticate(void *ctx, const struct pgwire_startup *startup,
                             const struct scram_verifier **scram)
{
    struct world *w = ctx;
    buf_printf(&w->trace, "auth(%s,%s) ", startup->user, startup->database);
    *scram = w->scram ? &w->verifier : NULL;
    return ERR_OK;
}

static err_t on_open(void *ctx, struct pgwire_conn *conn, const struct pgwire_startup *startup,
                     void **session)
{
    struct world *w = ctx;
    if (w->refuse) {
        return err_sql(ERR_NOT_FOUND, "3D000", "database \"%s\" does not exist",
                       startup->database);
    }
    for (size_t i = 0; i < startup->settings_len; i++) {
        buf_printf(&w->trace, "%s=%s ", startup->settings[i].name, startup->settings[i].value);
    }
    w->conn = conn;
    *session = w;
    pgwire_send_parameter(conn, "server_version", "15.0");
    return ERR_OK;
}

static void on_close(void *session)
{
    struct world *w = session;
    w->closed++;
}

static void on_query(void *session, const char *text, size_t len)
{
    struct world *w = session;
    buf_printf(&w->trace, "query(%.*s) ", (int)len, text);
    if (strncmp(text, "copy", 4) == 0) {
        pgwire_send_copy_in(w->conn, 2, false);
        return;
    }
    if (strcmp(text, "fail") == 0) {
        answer(w, err_position(err_hint(err_detail(err_sql(ERR_INVALID, "42601", "no"), "D"), "H"),
                               3));
        return;
    }
    const char *names[] = {"a", "b"};
    struct type types[] = {type_of(TYPE_INT4), type_of(TYPE_TEXT)};
    struct datum row[] = {{.i = 42}, {.null = true}};
    pgwire_send_row_description(w->conn, names, types, 2, NULL);
    pgwire_send_row(w->conn, types, row, 2, NULL);
    pgwire_send_command_complete(w->conn, "SELECT 1");
    answer(w, ERR_OK);
}

static void on_parse(void *session, const char *name, const char *text, size_t len,
                     const uint32_t *oids, size_t oids_len)
{
    struct world *w = session;
    buf_printf(&w->trace, "parse(%s,%.*s,%zu) ", name, (int)len, text, oids_len);
    pgwire_send_parse_complete(w->conn);
    answer(w, ERR_OK);
}

static void on_bind(void *session, const struct pgwire_bind *bind)
{
    struct world *w = session;
    buf_printf(&w->trace, "bind(%s,%s", bind->portal, bind->statement);
    for (size_t i = 0; i < bind->params_len; i++) {
        buf_printf(&w->trace, ",%.*s", bind->params[i].len < 0 ? 4 : bind->params[i].len,
                   bind->params[i].len < 0 ? "NULL" : (const char *)bind->params[i].data);
    }
    buf_append_str(&w->trace, ") ");
    if (strcmp(bind->statement, "missing") == 0) {
        answer(w, err_sql(ERR_NOT_FOUND, "26000", "no such statement"));
        return;
    }
    pgwire_send_bind_complete(w->conn);
    answer(w, ERR_OK);
}

static void on_describe(void *session, char kind, const char *name)
{
    struct world *w = session;
    buf_printf(&w->trace, "describe(%c,%s) ", kind, name);
    pgwire_send_no_data(w->conn);
    answer(w, ERR_OK);
}

static void on_execute(void *session, const char *portal, uint32_t max_rows)
{
    struct world *w = session;
    buf_printf(&w->trace, "execute(%s,%u) ", portal, max_rows);
    struct type types[] = {type_of(TYPE_INT4)};
    struct datum row[] = {{.i = 7}};
    int16_t formats[] = {1};
    pgwire_send_row(w->conn, types, row, 1, formats);
    pgwire_send_command_complete(w->conn, "SELECT 1");
    answer(w, ERR_OK);
}

static void on_close_object(void *session, char kind, const char *name)
{
    struct world *w = session;
    buf_printf(&w->trace, "close(%c,%s) ", kind, name);
    pgwire_send_close_complete(w->conn);
    answer(w, ERR_OK);
}

static void on_sync(void *session)
{
    struct world *w = session;
    buf_append_str(&w->trace, "sync ");
    answer(w, ERR_OK);
}

static void on_copy_data(void *session, const uint8_t *data, size_t len)
{
    struct world *w = session;
    buf_printf(&w->trace, "data(%.*s) ", (int)len, data);
    if (len == 3 && memcmp(data, "bad", 3) == 0) {
        pgwire_done(w->conn, err_sql(ERR_INVALID, "22P04", "bad data"));
    }
}

static void on_copy_end(void *session, const char *failure)
{
    struct world *w = session;
    buf_printf(&w->trace, "end(%s) ", failure != NULL ? failure : "");
    if (failure != NULL) {
        pgwire_done(w->conn, err_sql(ERR_CANCELLED, "57014", "%s", failure));
        return;
    }
    pgwire_send_command_complete(w->conn, "COPY 1");
    pgwire_done(w->conn, ERR_OK);
}

static void on_cancel(void *session)
{
    struct world *w = session;
    buf_append_str(&w->trace, "cancel ");
}

static void on_failed(void *session)
{
    struct world *w = session;
    buf_append_str(&w->trace, "failed ");
}

static void on_drained(void *session)
{
    struct world *w = session;
    buf_append_str(&w->trace, "drained ");
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
    .cancel = on_cancel,
    .failed = on_failed,
    .drained = on_drained,
};

/* ---- saying things --------------------------------------------------------------------------- */

static void put_u32(struct buf *b, uint32_t v)
{
    uint8_t bytes[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    buf_append(b, bytes, 4);
}

static void put_u16(struct buf *b, uint16_t v)
{
    uint8_t bytes[2] = {(uint8_t)(v >> 8), (uint8_t)v};
    buf_append(b, bytes, 2);
}

static void put_message(struct buf *b, char type, const void *body, size_t len)
{
    if (type != 0) {
        buf_append_byte(b, (uint8_t)type);
    }
    put_u32(b, (uint32_t)len + 4);
    buf_append(b, body, len);
}

static void put_text(struct buf *b, char type, const char *text)
{
    put_message(b, type, text, strlen(text) + 1);
}

static void put_startup(struct buf *b)
{
    static const char body[] = "\0\3\0\0user\0u\0database\0d\0application_name\0t\0";
    put_message(b, 0, body, sizeof(body));
}

static void put_bind(struct buf *b, const char *portal, const char *statement)
{
    struct buf body = {0};
    buf_append(&body, portal, strlen(portal) + 1);
    buf_append(&body, statement, strlen(statement) + 1);
    put_u16(&body, 1);
    put_u16(&body, 0);
    put_u16(&body, 2);
    put_u32(&body, 2);
    buf_append(&body, "12", 2);
    put_u32(&body, UINT32_MAX);
    put_u16(&body, 0);
    put_message(b, 'B', body.data, body.len);
    buf_free(&body);
}

static void put_execute(struct buf *b, const char *portal)
{
    struct buf body = {0};
    buf_append(&body, portal, strlen(portal) + 1);
    put_u32(&body, 5);
    put_message(b, 'E', body.data, body.len);
    buf_free(&body);
}

/* Types of the messages in out, in order; parameters and key data included. */
static void message_types(const struct buf *out, char *types, size_t cap)
{
    size_t n = 0;
    size_t at = 0;
    while (at + 5 <= out->len && n + 1 < cap) {
        const uint8_t *p = out->data + at;
        uint32_t len = (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
        types[n++] = (char)p[0];
        at += 1 + len;
    }
    types[n] = '\0';
    CU_ASSERT_EQUAL(at, out->len);
}

static bool contains(const struct buf *out, const char *text)
{
    return out->len > 0 && memmem(out->data, out->len, text, strlen(text)) != NULL;
}

static struct memory_stream *connect_one(struct world *w)
{
    struct memory_stream *s = memory_stream_new(w->loop);
    CU_ASSERT_FATAL(w->streams_len < ARRAY_LEN(w->streams));
    w->streams[w->streams_len++] = s;
    pgwire_server_accept(w->server, &s->base);
    return s;
}

static void feed(struct memory_stream *s, struct buf *b)
{
    memory_stream_feed(s, b->data, b->len);
    buf_clear(b);
}

static void begin(struct world *w, struct io_loop *loop)
{
    w->loop = loop;
    w->config.loop = loop;
    w->config.backend = &backend;
    w->config.ctx = w;
    err_t err = pgwire_server_new(&w->config, &w->server);
    CU_ASSERT_PTR_NULL_FATAL(err);
}

static void end(struct world *w)
{
    pgwire_server_free(w->server);
    for (size_t i = 0; i < w->streams_len; i++) {
        memory_stream_free(w->streams[i]);
    }
    buf_free(&w->trace);
}

static void expect_types(const struct memory_stream *s, const char *want)
{
    char types[256];
    message_types(&s->out, types, sizeof(types));
    CU_ASSERT_STRING_EQUAL(types, want);
    if (strcmp(types, want) != 0) {
        printf("messages %s, want %s\n", types, want);
    }
}

static void expect_trace(struct world *w, const char *want)
{
    CU_ASSERT_STRING_EQUAL(buf_cstr(&w->trace), want);
    if (strcmp(buf_cstr(&w->trace), want) != 0) {
        printf("trace [%s], want [%s]\n", buf_cstr(&w->trace), want);
    }
}

/* A case is a function of a world with a running loop. */
struct run {
    void (*fn)(struct world *w);
    struct world *w;
};

static void on_loop(struct io_loop *loop, void *arg)
{
    struct run *run = arg;
    begin(run->w, loop);
    run->fn(run->w);
}

static void after_loop(void *arg)
{
    struct run *run = arg;
    end(run->w);
}

static void with_world(void (*fn)(struct world *w), struct world *w)
{
    struct run run = {fn, w};
    run_in_sim(on_loop, after_loop, &run, 1000);
}

/* ---- cases ----------------------------------------------------------------------------------- */

static void simple(struct world *w)
{
    struct memory_stream *s = connect_one(w);
    struct buf b = {0};
    put_startup(&b);
    put_text(&b, 'Q', "select");
    put_text(&b, 'Q', "fail");
    feed(s, &b);
    expect_types(s, "RSKZTDCZEZ");
    CU_ASSERT_TRUE(contains(&s->out, "VERROR") && contains(&s->out, "C42601"));
    CU_ASSERT_TRUE(contains(&s->out, "DD") && contains(&s->out, "HH") && contains(&s->out, "P3"));
    expect_trace(w, "auth(u,d) application_name=t query(select) query(fail) ");
    put_message(&b, 'X', "", 0);
    feed(s, &b);
    CU_ASSERT_TRUE(s->closed);
    buf_free(&b);
}

static void test_simple(void)
{
    struct world w = {0};
    with_world(simple, &w);
    CU_ASSERT_EQUAL(w.closed, 1);
}

/* The same conversation byte by byte gives the same bytes. */
static void pieces(struct world *w)
{
    struct memory_stream *whole = connect_one(w);
    struct memory_stream *bytes = connect_one(w);
    struct buf b = {0};
    put_startup(&b);
    put_text(&b, 'Q', "select");
    memory_stream_feed(whole, b.data, b.len);
    for (size_t i = 0; i < b.len; i++) {
        memory_stream_feed(bytes, b.data + i, 1);
    }
    expect_types(bytes, "RSKZTDCZ");
    CU_ASSERT_EQUAL(whole->out.len, bytes->out.len);
    CU_ASSERT_EQUAL(pgwire_server_connections(w->server), 2);
    buf_free(&b);
}

static void test_pieces(void)
{
    struct world w = {0};
    with_world(pieces, &w);
}

static void extended(struct world *w)
{
    struct memory_stream *s = connect_one(w);
    struct buf b = {0};
    put_startup(&b);
    put_message(&b, 'P', "s1\0select\0\0\1\0\0\0\27", 16);
    put_bind(&b, "p1", "s1");
    put_text(&b, 'D', "Pp1");
    put_execute(&b, "p1");
    put_message(&b, 'S', "", 0);
    put_bind(&b, "p2", "missing"); /* fails: what follows is skipped up to Sync */
    put_execute(&b, "p2");
    put_text(&b, 'Q', "select");
    put_message(&b, 'H', "", 0);
    put_message(&b, 'S', "", 0);
    put_text(&b, 'C', "Ss1");
    put_message(&b, 'S', "", 0);
    feed(s, &b);
    expect_types(s, "RSKZ12nDCZEZ3Z");
    expect_trace(w, "auth(u,d) application_name=t parse(s1,select,1) bind(p1,s1,12,NULL) "
                    "describe(P,p1) execute(p1,5) sync bind(p2,missing,12,NULL) sync "
                    "close(S,s1) sync ");
    buf_free(&b);
}

static void test_extended(void)
{
    struct world w = {0};
    with_world(extended, &w);
}

/* Requests that arrive while one is under way wait for it, in order. */
static void deferred(struct world *w)
{
    struct memory_stream *s = connect_one(w);
    struct buf b = {0};
    w->defer = true;
    put_startup(&b);
    put_text(&b, 'Q', "one");
    put_text(&b, 'Q', "two");
    feed(s, &b);
    expect_trace(w, "auth(u,d) application_name=t query(one) ");
    pgwire_done(w->conn, ERR_OK);
    expect_trace(w, "auth(u,d) application_name=t query(one) query(two) ");
    pgwire_set_transaction(w->conn, 'T');
    pgwire_done(w->conn, ERR_OK);
    CU_ASSERT_EQUAL(s->out.data[s->out.len - 1], 'T');
    buf_free(&b);
}

static void test_deferred(void)
{
    struct world w = {0};
    with_world(deferred, &w);
}

/* One bad message on a fresh, started connection: FATAL or ERROR with this SQLSTATE. */
static void bad_message(struct world *w, const void *bytes, size_t len, const char *sqlstate,
                        bool fatal)
{
    struct memory_stream *s = connect_one(w);
    struct buf b = {0};
    char code[8];
    snprintf(code, sizeof(code), "C%s", sqlstate);
    put_startup(&b);
    feed(s, &b);
    buf_clear(&s->out);
    memory_stream_feed(s, bytes, len);
    CU_ASSERT_TRUE(contains(&s->out, code));
    CU_ASSERT_EQUAL(contains(&s->out, "VFATAL"), fatal);
    CU_ASSERT_EQUAL(s->closed, fatal);
    buf_free(&b);
}

static void hostile(struct world *w)
{
    bad_message(w, "Q\0\0\0\3", 5, "08P01", true);           /* length below 4 */
    bad_message(w, "Q\x7f\xff\xff\xff", 5, "08P01", true);   /* absurd length */
    bad_message(w, "\1\0\0\0\4", 5, "08P01", true);          /* unknown type */
    bad_message(w, "Q\0\0\0\6ab", 7, "08P01", false);        /* no NUL */
}

static void hostile_more(struct world *w)
{
    bad_message(w, "Q\0\0\0\6\xff\0", 7, "22021", false);       /* not UTF-8 */
    bad_message(w, "P\0\0\0\7\0\0\xff", 8, "08P01", false);     /* half a count */
    bad_message(w, "B\0\0\0\12\0\0\0\1\0\7", 11, "22023", false); /* format 7 */
    bad_message(w, "D\0\0\0\6X\0", 7, "08P01", false);          /* neither S nor P */
    bad_message(w, "E\0\0\0\7\0ab", 8, "08P01", false);         /* short row count */
    bad_message(w, "S\0\0\0\5x", 6, "08P01", false);            /* Sync with a body */
    bad_message(w, "F\0\0\0\4", 5, "0A000", false);             /* function call */
}

static void test_hostile(void)
{
    struct world w = {0};
    with_world(hostile, &w);
    struct world more = {0};
    with_world(hostile_more, &more);
}

static void bad_startup(struct world *w, const void *bytes, size_t len, const char *sqlstate)
{
    struct memory_stream *s = connect_one(w);
    char code[8];
    snprintf(code, sizeof(code), "C%s", sqlstate);
    memory_stream_feed(s, bytes, len);
    CU_ASSERT_TRUE(contains(&s->out, code) && contains(&s->out, "VFATAL"));
    CU_ASSERT_TRUE(s->closed);
}

static void startups(struct world *w)
{
    bad_startup(w, "\0\0\0\7", 4, "08P01");
    bad_startup(w, "\0\1\0\0", 4, "08P01");
    bad_startup(w, "\0\0\0\10\0\2\0\0", 8, "0A000");                  /* protocol 2 */
    bad_startup(w, "\0\0\0\11\0\3\0\0\0", 9, "28000");                /* no user */
    bad_startup(w, "\0\0\0\15\0\3\0\0user\0", 13, "08P01");           /* no value */
    bad_startup(w, "\0\0\0\20\0\3\0\0user\0\xff\0\0", 16, "22021");
    bad_startup(w, "\0\0\0\17\0\3\0\0user\0ux", 15, "08P01");         /* no terminator */
}

static void test_startups(void)
{
    struct world w = {0};
    with_world(startups, &w);
    CU_ASSERT_EQUAL(w.closed, 0);
}

static void negotiation(struct world *w)
{
    struct memory_stream *s = connect_one(w);
    struct buf b = {0};
    memory_stream_feed(s, "\0\0\0\10\4\xd2\x16\x2f", 8); /* SSLRequest */
    memory_stream_feed(s, "\0\0\0\10\4\xd2\x16\x30", 8); /* GSSENCRequest */
    CU_ASSERT_EQUAL_FATAL(s->out.len, 2);
    CU_ASSERT_EQUAL(memcmp(s->out.data, "NN", 2), 0);
    buf_clear(&s->out);
    static const char newer[] = "\0\3\0\2user\0u\0_pq_.x\0y\0";
    put_message(&b, 0, newer, sizeof(newer));
    feed(s, &b);
    expect_types(s, "vRSKZ");
    expect_trace(w, "auth(u,u) ");
    w->refuse = true;
    struct memory_stream *other = connect_one(w);
    put_startup(&b);
    feed(other, &b);
    expect_types(other, "RE");
    CU_ASSERT_TRUE(contains(&other->out, "C3D000"));
    buf_free(&b);
}

static void test_negotiation(void)
{
    struct world w = {0};
    with_world(negotiation, &w);
}

static void cancel(struct world *w)
{
    struct memory_stream *s = connect_one(w);
    struct buf b = {0};
    put_startup(&b);
    feed(s, &b);
    const uint8_t *key = memmem(s->out.data, s->out.len, "K\0\0\0\14", 5);
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    uint8_t request[16] = {0, 0, 0, 16, 4, 0xd2, 0x16, 0x2e};
    memcpy(request + 8, key + 5, 8);
    request[15] ^= 1;
    memory_stream_feed(connect_one(w), request, 16); /* the wrong secret */
    CU_ASSERT_FALSE(contains(&w->trace, "cancel"));
    request[15] ^= 1;
    struct memory_stream *asker = connect_one(w);
    memory_stream_feed(asker, request, 16);
    CU_ASSERT_TRUE(contains(&w->trace, "cancel"));
    CU_ASSERT_TRUE(asker->closed && asker->out.len == 0);
    buf_free(&b);
}

static void test_cancel(void)
{
    struct world w = {0};
    with_world(cancel, &w);
}

static void limit(struct world *w)
{
    struct buf b = {0};
    for (int i = 0; i < 3; i++) {
        struct memory_stream *s = connect_one(w);
        put_startup(&b);
        feed(s, &b);
        CU_ASSERT_EQUAL(contains(&s->out, "C53300"), i == 2);
    }
    buf_free(&b);
}

static void test_limit(void)
{
    struct world w = {.config = {.max_connections = 2}};
    with_world(limit, &w);
    CU_ASSERT_EQUAL(w.closed, 2);
}

static void copy(struct world *w)
{
    struct memory_stream *s = connect_one(w);
    struct buf b = {0};
    put_startup(&b);
    put_text(&b, 'Q', "copy");
    put_message(&b, 'd', "ab", 2);
    put_message(&b, 'S', "", 0); /* ignored while copying */
    put_message(&b, 'c', "", 0);
    put_text(&b, 'Q', "copy2");
    put_text(&b, 'f', "why");
    put_text(&b, 'Q', "copy3");
    put_message(&b, 'd', "bad", 3); /* we fail: the rest is ignored */
    put_message(&b, 'd', "more", 4);
    put_message(&b, 'c', "", 0);
    put_text(&b, 'Q', "select");
    feed(s, &b);
    expect_types(s, "RSKZGCZGEZGEZTDCZ");
    expect_trace(w, "auth(u,d) application_name=t query(copy) data(ab) end() query(copy2) "
                    "end(why) query(copy3) data(bad) query(select) ");
    put_text(&b, 'Q', "copy4");
    put_text(&b, 'Q', "select");
    feed(s, &b);
    CU_ASSERT_TRUE(s->closed && contains(&s->out, "C08P01"));
    buf_free(&b);
}

static void test_copy(void)
{
    struct world w = {0};
    with_world(copy, &w);
}

/* A client that does not read is not served further until it does. */
static void back_pressure(struct world *w)
{
    struct memory_stream *s = connect_one(w);
    struct buf b = {0};
    put_startup(&b);
    feed(s, &b);
    s->pending = PGWIRE_HIGH_WATER;
    CU_ASSERT_FALSE(pgwire_writable(w->conn));
    put_text(&b, 'Q', "one");
    put_text(&b, 'Q', "two");
    feed(s, &b);
    CU_ASSERT_TRUE(contains(&w->trace, "query(one)") && !contains(&w->trace, "query(two)"));
    char *flood = mem_zalloc(3 << 20);
    memset(flood, 'a', (3 << 20) - 1);
    put_text(&b, 'Q', flood);
    feed(s, &b);
    CU_ASSERT_TRUE(s->paused);
    s->pending = 0;
    s->base.handler->drain(s->base.arg);
    CU_ASSERT_TRUE(contains(&w->trace, "query(two)") && contains(&w->trace, "query(aaa"));
    CU_ASSERT_FALSE(s->paused);
    free(flood);
    buf_free(&b);
}

static void test_back_pressure(void)
{
    struct world w = {0};
    with_world(back_pressure, &w);
}

static void silent(struct world *w)
{
    connect_one(w);
}

static void after_silence(void *arg)
{
    struct run *run = arg;
    const struct memory_stream *s = run->w->streams[0];
    CU_ASSERT_TRUE(s->closed && contains(&s->out, "C08006"));
    after_loop(arg);
}

static void test_timeout(void)
{
    struct world w = {.config = {.startup_timeout_us = 500}};
    struct run run = {silent, &w};
    run_in_sim(on_loop, after_silence, &run, 2000);
}

static void drain_all(struct world *w)
{
    struct memory_stream *s = connect_one(w);
    struct buf b = {0};
    put_startup(&b);
    feed(s, &b);
    pgwire_server_drain(w->server);
    CU_ASSERT_TRUE(s->closed && s->finished && contains(&s->out, "C57P01"));
    struct memory_stream *late = connect_one(w);
    CU_ASSERT_TRUE(late->closed);
    buf_free(&b);
}

static void test_drain(void)
{
    struct world w = {0};
    with_world(drain_all, &w);
    CU_ASSERT_EQUAL(w.closed, 1);
}

static void hang_up(struct world *w)
{
    struct memory_stream *s = connect_one(w);
    struct buf b = {0};
    put_startup(&b);
    put_text(&b, 'Q', "copy");
    feed(s, &b);
    memory_stream_hang_up(s);
    CU_ASSERT_EQUAL(w->closed, 1);
    CU_ASSERT_EQUAL(pgwire_server_connections(w->server), 0);
    buf_free(&b);
}

static void test_hang_up(void)
{
    struct world w = {0};
    with_world(hang_up, &w);
}

/* ---- SCRAM: a client of our own, after RFC 5802 ---------------------------------------------- */

static void hmac(const uint8_t *key, const void *data, size_t len, uint8_t out[32])
{
    unsigned n = 32;
    HMAC(EVP_sha256(), key, 32, data, len, out, &n);
}

static void client_final(const char *password, const char *server_first, struct buf *out)
{
    char nonce[200];
    char salt64[64];
    unsigned iterations = 0;
    int got = sscanf(server_first, "r=%199[^,],s=%63[^,],i=%u", nonce, salt64, &iterations);
    CU_ASSERT_EQUAL_FATAL(got, 3);
    uint8_t salt[64];
    EVP_DecodeBlock(salt, (const uint8_t *)salt64, (int)strlen(salt64));
    uint8_t salted[32], key[32], stored[32], signature[32];
    PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt, SCRAM_SALT_LEN, (int)iterations,
                      EVP_sha256(), 32, salted);
    hmac(salted, "Client Key", 10, key);
    SHA256(key, 32, stored);
    struct buf auth = {0};
    buf_printf(&auth, "n=,r=fyko,%s,c=biws,r=%s", server_first, nonce);
    hmac(stored, auth.data, auth.len, signature);
    for (int i = 0; i < 32; i++) {
        key[i] ^= signature[i];
    }
    char proof[64];
    EVP_EncodeBlock((uint8_t *)proof, key, 32);
    buf_printf(out, "c=biws,r=%s,p=%s", nonce, proof);
    buf_free(&auth);
}

static struct memory_stream *scram_login(struct world *w, const char *password)
{
    struct memory_stream *s = connect_one(w);
    struct buf b = {0};
    struct buf body = {0};
    put_startup(&b);
    feed(s, &b);
    CU_ASSERT_TRUE(contains(&s->out, "SCRAM-SHA-256"));
    static const char first[] = "n,,n=,r=fyko";
    buf_append(&body, "SCRAM-SHA-256", 14);
    put_u32(&body, sizeof(first) - 1);
    buf_append(&body, first, sizeof(first) - 1);
    put_message(&b, 'p', body.data, body.len);
    buf_clear(&s->out);
    feed(s, &b);
    CU_ASSERT_FATAL(s->out.len > 9);
    buf_clear(&body);
    client_final(password, buf_cstr(&s->out) + 9, &body);
    put_message(&b, 'p', body.data, body.len);
    buf_clear(&s->out);
    feed(s, &b);
    buf_free(&b);
    buf_free(&body);
    return s;
}

static void scram(struct world *w)
{
    uint8_t salt[SCRAM_SALT_LEN] = "0123456789abcde";
    err_t err = scram_verifier_make("pencil", salt, SCRAM_ITERATIONS, &w->verifier);
    CU_ASSERT_PTR_NULL_FATAL(err);
    w->scram = true;
    struct memory_stream *good = scram_login(w, "pencil");
    expect_types(good, "RRSKZ");
    CU_ASSERT_TRUE(contains(&good->out, "v="));
    struct memory_stream *bad = scram_login(w, "pen");
    CU_ASSERT_TRUE(bad->closed && contains(&bad->out, "C28P01"));
    struct memory_stream *rude = connect_one(w);
    struct buf b = {0};
    put_startup(&b);
    put_text(&b, 'Q', "select");
    feed(rude, &b);
    CU_ASSERT_TRUE(rude->closed && contains(&rude->out, "C08P01"));
    struct memory_stream *odd = connect_one(w);
    put_startup(&b);
    put_text(&b, 'p', "PLAIN");
    feed(odd, &b);
    CU_ASSERT_TRUE(odd->closed && contains(&odd->out, "C08P01"));
    buf_free(&b);
}

static void test_scram(void)
{
    struct world w = {0};
    with_world(scram, &w);
    CU_ASSERT_EQUAL(w.closed, 1);
}

static const struct test_case cases[] = {
    {"simple query", test_simple},
    {"any pieces", test_pieces},
    {"extended query", test_extended},
    {"one request at a time", test_deferred},
    {"malformed messages", test_hostile},
    {"malformed start-up", test_startups},
    {"negotiation", test_negotiation},
    {"cancel", test_cancel},
    {"connection limit", test_limit},
    {"copy", test_copy},
    {"back-pressure", test_back_pressure},
    {"start-up timeout", test_timeout},
    {"drain", test_drain},
    {"hang up", test_hang_up},
    {"scram", test_scram},
};
TEST_SUITE("pgwire/conn", cases)
