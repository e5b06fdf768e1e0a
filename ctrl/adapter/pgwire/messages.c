/*
 * pgwire: requests: their decoding, and which may come when.
 *
 * A message's body is read with core/base's reader, which notes a failure instead of reading beyond
 * the end; each decoder asks once, before anything is done with what it read. The layouts are those
 * of PostgreSQL's manual, "Message Formats". Strings and values point into the message.
 *
 * Errors: 08P01 for what no client may send, 22021 and 22023 for content. They end the request, not
 * the connection: the next message's place is known. Only a type that does not exist is fatal.
 */
#include "ctrl/adapter/pgwire/pgwire_internal.h"

#include "core/base/assert.h"
#include "core/base/utf8.h"

/* Integers of the protocol are big-endian; reader_* failures are checked once at the end. */
static uint16_t take_u16(struct reader *r)
{
    const uint8_t *p = reader_bytes(r, 2);
    return p == NULL ? 0 : (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t take_u32(struct reader *r)
{
    const uint8_t *p = reader_bytes(r, 4);
    return p == NULL ? 0 : pgwire_u32(p);
}

/* A NUL-terminated string in place; "" and failed when there is none. Borrowed: valid as long as
 * the message. */
static const char *take_cstr(struct reader *r, size_t *len)
{
    const uint8_t *start = r->data + r->at;
    const uint8_t *nul = r->failed || r->at == r->len ? NULL : memchr(start, 0, r->len - r->at);
    if (nul == NULL) {
        r->failed = true;
        *len = 0;
        return "";
    }
    *len = (size_t)(nul - start);
    r->at += *len + 1;
    return (const char *)start;
}

/* PostgreSQL's words: drivers' tests compare them. */
static err_t bad_format(const char *what)
{
    return err_sql(ERR_PROTOCOL, "08P01", "invalid %s message format", what);
}

/* Everything stored is UTF-8, so whatever comes in must be. */
static err_t check_text(const char *text, size_t len)
{
    if (!utf8_valid(text, len)) {
        return err_sql(ERR_INVALID, "22021", "invalid byte sequence for encoding \"UTF8\"");
    }
    return ERR_OK;
}

/* A name in a request: read, and valid UTF-8. */
static err_t take_name(struct reader *r, const char *what, const char **out)
{
    size_t len;
    *out = take_cstr(r, &len);
    if (r->failed) {
        return bad_format(what);
    }
    return check_text(*out, len);
}

/* A NUL inside the text ends it, and what follows makes the message malformed. */
static err_t do_query(struct pgwire_conn *conn, struct reader *r)
{
    ASSERT(conn->session != NULL);
    size_t len;
    const char *text = take_cstr(r, &len);
    if (r->failed || reader_left(r) != 0) {
        return bad_format("Query");
    }
    TRY(check_text(text, len));
    conn->server->config.backend->query(conn->session, text, len);
    return ERR_OK;
}

/* The count is checked against the bytes that are there before anything is allocated for it. */
static err_t do_parse(struct pgwire_conn *conn, struct reader *r)
{
    const char *name;
    size_t len;
    ASSERT(conn->session != NULL);
    TRY(take_name(r, "Parse", &name));
    const char *text = take_cstr(r, &len);
    uint16_t n = take_u16(r);
    if (r->failed || reader_left(r) != (size_t)n * 4) {
        return bad_format("Parse");
    }
    TRY(check_text(text, len));
    uint32_t *oids = mem_alloc(n * sizeof(*oids));
    for (uint16_t i = 0; i < n; i++) {
        oids[i] = take_u32(r);
    }
    conn->server->config.backend->parse(conn->session, name, text, len, oids, n);
    free(oids);
    return ERR_OK;
}

/* A counted list of format codes. */
static err_t take_formats(struct reader *r, int16_t **out, size_t *out_len)
{
    ASSERT(*out == NULL);
    /* The number of formats may be 0 (all text), 1 (for all) or one each: see check_bind. */
    uint16_t n = take_u16(r);
    if (r->failed || reader_left(r) < (size_t)n * 2) {
        return bad_format("Bind");
    }
    *out = mem_alloc(n * sizeof(**out));
    *out_len = n;
    for (uint16_t i = 0; i < n; i++) {
        (*out)[i] = (int16_t)take_u16(r);
        if ((*out)[i] != 0 && (*out)[i] != 1) {
            return err_sql(ERR_INVALID, "22023", "unsupported format code: %d", (*out)[i]);
        }
    }
    return ERR_OK;
}

/* Values are borrowed from the message. A length of -1 is NULL; -2 and below are nonsense. */
static err_t take_params(struct reader *r, struct pgwire_param **out, size_t *out_len)
{
    ASSERT(*out == NULL);
    uint16_t n = take_u16(r);
    if (r->failed || reader_left(r) < (size_t)n * 4) {
        return bad_format("Bind");
    }
    *out = mem_zalloc(n * sizeof(**out));
    *out_len = n;
    for (uint16_t i = 0; i < n; i++) {
        int32_t len = (int32_t)take_u32(r);
        (*out)[i].len = len;
        if (len < -1) {
            return bad_format("Bind");
        }
        (*out)[i].data = len < 0 ? NULL : reader_bytes(r, (size_t)len);
        if (r->failed) {
            return bad_format("Bind");
        }
    }
    return ERR_OK;
}

/* What the three lists say of each other; whether they fit the statement is the session's to
 * say. */
static err_t check_bind(const struct pgwire_bind *b, const struct reader *r)
{
    ASSERT(b->portal != NULL && b->statement != NULL);
    if (r->failed || reader_left(r) != 0) {
        return bad_format("Bind");
    }
    if (b->param_formats_len > 1 && b->param_formats_len != b->params_len) {
        return err_sql(ERR_PROTOCOL, "08P01",
                       "bind message has %zu parameter formats but %zu parameters",
                       b->param_formats_len, b->params_len);
    }
    return ERR_OK;
}

/* The lists are freed here: a session that keeps values copies them. */
static err_t do_bind(struct pgwire_conn *conn, struct reader *r)
{
    struct pgwire_bind b = {0};
    int16_t *param_formats = NULL;
    int16_t *result_formats = NULL;
    struct pgwire_param *params = NULL;
    ASSERT(conn->session != NULL);
    TRY(take_name(r, "Bind", &b.portal));
    TRY(take_name(r, "Bind", &b.statement));
    err_t err = take_formats(r, &param_formats, &b.param_formats_len);
    if (err == ERR_OK) {
        err = take_params(r, &params, &b.params_len);
    }
    if (err == ERR_OK) {
        err = take_formats(r, &result_formats, &b.result_formats_len);
    }
    if (err == ERR_OK) {
        err = check_bind(&b, r);
    }
    if (err == ERR_OK) {
        b.param_formats = param_formats;
        b.params = params;
        b.result_formats = result_formats;
        conn->server->config.backend->bind(conn->session, &b);
    }
    free(param_formats);
    free(result_formats);
    free(params);
    return err;
}

/* Describe and Close have the same body: a kind and a name. */
static err_t do_named(struct pgwire_conn *conn, char type, struct reader *r)
{
    const char *what = type == 'D' ? "Describe" : "Close";
    char kind = (char)reader_u8(r);
    const char *name;
    ASSERT(type == 'D' || type == 'C');
    TRY(take_name(r, what, &name));
    if (reader_left(r) != 0) {
        return bad_format(what);
    }
    if (kind != 'S' && kind != 'P') {
        return err_sql(ERR_PROTOCOL, "08P01", "invalid %s message subtype %d", what, kind);
    }
    if (type == 'D') {
        conn->server->config.backend->describe(conn->session, kind, name);
    } else {
        conn->server->config.backend->close_object(conn->session, kind, name);
    }
    return ERR_OK;
}

/* PostgreSQL reads the limit as signed and takes a negative one for none. */
static err_t do_execute(struct pgwire_conn *conn, struct reader *r)
{
    const char *portal;
    ASSERT(conn->session != NULL);
    TRY(take_name(r, "Execute", &portal));
    int32_t max_rows = (int32_t)take_u32(r);
    if (r->failed || reader_left(r) != 0) {
        return bad_format("Execute");
    }
    conn->server->config.backend->execute(conn->session, portal,
                                          max_rows < 0 ? 0 : (uint32_t)max_rows);
    return ERR_OK;
}

/* A message while the client sends COPY data. */
static void copy_message(struct pgwire_conn *conn, char type, struct reader *r)
{
    const struct pgwire_backend *backend = conn->server->config.backend;
    const char *reason;
    err_t err = ERR_OK;
    ASSERT(conn->copy_in);
    switch (type) {
    /* A message's worth of data; records need not end with it. */
    case 'd':
        backend->copy_data(conn->session, r->data, r->len);
        return;
    case 'c':
        conn->copy_in = false;
        backend->copy_end(conn->session, NULL);
        return;
    case 'f':
        err = take_name(r, "CopyFail", &reason);
        if (err == ERR_OK) {
            conn->copy_in = false;
            backend->copy_end(conn->session, reason);
        }
        break;
    case 'H':
    case 'S': /* a client may have sent them before it knew that COPY begins */
        return;
    default:
        err = err_sql(ERR_PROTOCOL, "08P01",
                      "unexpected message type 0x%02X during COPY from stdin",
                      (unsigned)(uint8_t)type);
    }
    if (err != ERR_OK) {
        pgwire_fatal(conn, err);
    }
}

/* The type is one of those pgwire_message let through. */
static err_t dispatch(struct pgwire_conn *conn, char type, struct reader *r)
{
    switch (type) {
    case 'Q': return do_query(conn, r);
    case 'P': return do_parse(conn, r);
    case 'B': return do_bind(conn, r);
    case 'D':
    case 'C': return do_named(conn, type, r);
    case 'E': return do_execute(conn, r);
    case 'S':
        if (r->len != 0) {
            return bad_format("Sync");
        }
        conn->server->config.backend->sync(conn->session);
        return ERR_OK;
    case 'F': /* fast-path calls: long obsolete, and one request as any other */
        return err_sql(ERR_UNSUPPORTED, "0A000", "function call messages are not supported");
    /* pgwire_message let only the types above through. */
    default: UNREACHABLE();
    }
}

/*
 * Which message may come when:
 *  idle            any request; X ends; the leftovers of a COPY are dropped
 *  skip_to_sync    everything is dropped up to Sync
 *  copy_in         d, c, f go to the session; H and S are dropped; the rest is fatal
 * A handler returns an error only when it did not reach the session; then the request ends here.
 */
void pgwire_message(struct pgwire_conn *conn, char type, const uint8_t *data, size_t len)
{
    struct reader r = reader_of(data, len);
    ASSERT(conn->session != NULL);
    if (conn->copy_in) {
        copy_message(conn, type, &r);
        return;
    }
    ASSERT(conn->request == 0);
    if (type == 'X') {
        pgwire_conn_drop(conn);
        return;
    }
    if (type == 'd' || type == 'c' || type == 'f') {
        return; /* the rest of a COPY that failed on our side */
    }
    if (type == '\0' || strchr("QPBDCESFH", type) == NULL) {
        pgwire_fatal(conn, err_sql(ERR_PROTOCOL, "08P01", "invalid frontend message type %d",
                                   (uint8_t)type));
        return;
    }
    if (conn->skip_to_sync && type != 'S') {
        return;
    }
    if (type == 'H') {
        pgwire_flush(conn);
        return;
    }
    if (conn->server->messages != NULL) {
        metric_add(conn->server->messages, 1);
    }
    /* From here until pgwire_done the next request waits. */
    conn->request = type;
    if (type == 'S') { /* what follows is a new series */
        conn->skip_to_sync = false;
    }
    err_t err = dispatch(conn, type, &r);
    if (err != ERR_OK) {
        ASSERT(conn->request == type); /* the session never saw it */
        conn->server->config.backend->failed(conn->session);
        pgwire_done(conn, err);
    }
}

/* An error in the extended protocol is answered by silence up to Sync: the client pipelined
 * requests that relied on the one that failed. Simple queries and Sync are answered by
 * ReadyForQuery. */
void pgwire_done(struct pgwire_conn *conn, err_t err)
{
    char request = conn->request;
    if (conn->phase == PGWIRE_DEAD) {
        err_free(err);
        return;
    }
    ASSERT(request != 0);
    bool failed = err != ERR_OK;
    if (failed) {
        pgwire_out_error(conn, 'E', "ERROR", err);
        err_free(err);
    }
    conn->request = 0;
    conn->copy_in = false;
    if (request == 'Q' || request == 'S' || request == 'F') {
        pgwire_out_ready(conn);
    } else if (failed) {
        conn->skip_to_sync = true;
    }
    pgwire_conn_process(conn);
}
