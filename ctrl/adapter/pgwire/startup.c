/*
 * pgwire: before the first ReadyForQuery: TLS, cancel requests, parameters, passwords.
 *
 * Everything here comes from somebody unknown: packets are at most PGWIRE_STARTUP_MAX bytes, an
 * error is FATAL, and the time until ReadyForQuery is limited. A client says, in this order:
 *     [SSLRequest -> S or N] [GSSENCRequest -> N] StartupMessage
 *     [SASLInitialResponse, SASLResponse]                      when there is a password
 * or, on a connection for nothing else, CancelRequest.
 */
#include "ctrl/adapter/pgwire/pgwire_internal.h"

#include "core/base/assert.h"
#include "core/base/utf8.h"

/* Special "protocol versions" of the first packet. */
enum {
    REQUEST_CANCEL = 80877102,
    REQUEST_SSL = 80877103,
    REQUEST_GSSENC = 80877104,
};

/* The handshake is done: the client now begins again, with a start-up packet. */
static void on_tls_ready(void *arg, struct io_stream *stream)
{
    struct pgwire_conn *conn = arg;
    ASSERT(conn->phase == PGWIRE_TLS && conn->stream == stream);
    conn->phase = PGWIRE_STARTUP;
    conn->tls = true;
    pgwire_conn_process(conn);
}

/* 'S' or 'N' is the whole answer, no message. After 'N' the client may go on in the clear. */
static void answer_ssl(struct pgwire_conn *conn)
{
    struct tls_context *tls = conn->server->config.tls;
    ASSERT(conn->phase == PGWIRE_STARTUP);
    if (conn->tls) {
        pgwire_fatal(conn, err_sql(ERR_PROTOCOL, "08P01", "SSLRequest on an encrypted connection"));
        return;
    }
    if (tls == NULL) {
        io_stream_write(conn->stream, "N", 1);
        return;
    }
    /* Bytes sent in the clear behind the request could be an attacker's: CVE-2021-23222. */
    if (conn->in_at != conn->in.len) {
        pgwire_fatal(conn, err_sql(ERR_PROTOCOL, "08P01",
                                   "received unencrypted data after SSL request"));
        return;
    }
    io_stream_write(conn->stream, "S", 1);
    conn->phase = PGWIRE_TLS;
    struct io_stream *under = conn->stream;
    tls_start(tls, under, NULL, NULL, 0, &pgwire_stream_handler, conn, on_tls_ready,
              &conn->stream);
    io_stream_set_high_water(conn->stream, PGWIRE_HIGH_WATER / 2);
}

/* Splits "name\0value\0...\0\0" in conn->startup into settings. */
static err_t split_parameters(struct pgwire_conn *conn)
{
    size_t len = conn->startup.len;
    ASSERT(conn->settings_len == 0);
    if (len == 0 || conn->startup.data[len - 1] != '\0') {
        return err_sql(ERR_PROTOCOL, "08P01",
                       "invalid startup packet layout: expected terminator as last byte");
    }
    const char *at = (const char *)conn->startup.data;
    const char *end = at + len;
    if (!utf8_valid(at, len)) {
        return err_sql(ERR_INVALID, "22021", "invalid byte sequence for encoding \"UTF8\"");
    }
    while (at < end && *at != '\0') {
        const char *name = at;
        const char *value = name + strlen(name) + 1;
        if (value >= end) {
            return err_sql(ERR_PROTOCOL, "08P01", "startup packet has a name without a value");
        }
        at = value + strlen(value) + 1;
        struct pgwire_setting *s = VEC_PUSH(conn, settings);
        *s = (struct pgwire_setting){name, value};
    }
    if (at != end - 1) {
        return err_sql(ERR_PROTOCOL, "08P01",
                       "invalid startup packet layout: expected terminator as last byte");
    }
    return ERR_OK;
}

/* Fills conn->info; user and database leave the list of settings. PostgreSQL's "replication" asks
 * for a protocol we do not have; "_pq_." names options of later protocol versions, which
 * negotiate() has answered. */
static err_t take_parameters(struct pgwire_conn *conn)
{
    size_t kept = 0;
    ASSERT(conn->info.user == NULL);
    for (size_t i = 0; i < conn->settings_len; i++) {
        struct pgwire_setting s = conn->settings[i];
        if (strcmp(s.name, "user") == 0) {
            conn->info.user = s.value;
        } else if (strcmp(s.name, "database") == 0) {
            conn->info.database = s.value;
        } else if (strcmp(s.name, "replication") == 0) {
            if (strcmp(s.value, "false") != 0 && strcmp(s.value, "0") != 0) {
                return err_sql(ERR_UNSUPPORTED, "0A000",
                               "replication connections are not supported");
            }
        } else if (strncmp(s.name, "_pq_.", 5) != 0) {
            conn->settings[kept++] = s;
        }
    }
    conn->settings_len = kept;
    if (conn->info.user == NULL || conn->info.user[0] == '\0') {
        return err_sql(ERR_PERMISSION, "28000",
                       "no PostgreSQL user name specified in startup packet");
    }
    if (conn->info.database == NULL || conn->info.database[0] == '\0') {
        conn->info.database = conn->info.user;
    }
    conn->info.settings = conn->settings;
    conn->info.settings_len = kept;
    conn->info.peer = io_stream_peer(conn->stream);
    return ERR_OK;
}

/* A minor version above ours, or options we do not know: the client may go on with 3.0. */
static void negotiate(struct pgwire_conn *conn, uint32_t version)
{
    uint32_t unknown = 0;
    ASSERT(version >> 16 == 3);
    for (size_t i = 0; i < conn->settings_len; i++) {
        unknown += strncmp(conn->settings[i].name, "_pq_.", 5) == 0;
    }
    if ((version & 0xffff) == 0 && unknown == 0) {
        return;
    }
    pgwire_out_begin(conn, 'v');
    pgwire_out_u32(conn, 3 << 16);
    pgwire_out_u32(conn, unknown);
    for (size_t i = 0; i < conn->settings_len; i++) {
        if (strncmp(conn->settings[i].name, "_pq_.", 5) == 0) {
            pgwire_out_cstr(conn, conn->settings[i].name);
        }
    }
    pgwire_out_end(conn);
}

/* AuthenticationOk, the session's parameters, the cancel key, ReadyForQuery: in this order, in one
 * write. Only here does the connection count against the limit, and get a number. */
static void authenticated(struct pgwire_conn *conn)
{
    struct pgwire_server *server = conn->server;
    ASSERT(conn->session == NULL);
    pgwire_out_begin(conn, 'R');
    pgwire_out_u32(conn, 0);
    pgwire_out_end(conn);
    if (!pgwire_server_admit(server, conn)) {
        pgwire_fatal(conn, err_sql(ERR_LIMIT, "53300", "sorry, too many clients already"));
        return;
    }
    conn->info.pid = conn->pid;
    err_t err = server->config.backend->open(server->config.ctx, conn, &conn->info, &conn->session);
    if (err != ERR_OK) {
        ASSERT(conn->session == NULL);
        pgwire_fatal(conn, err);
        return;
    }
    ASSERT(conn->session != NULL);
    conn->phase = PGWIRE_OPEN;
    pgwire_out_begin(conn, 'K');
    pgwire_out_u32(conn, conn->pid);
    pgwire_out_u32(conn, conn->secret);
    pgwire_out_end(conn);
    pgwire_out_ready(conn);
    io_timer_cancel(server->config.loop, &conn->timeout);
}

/* Who is it, and how may he come in? Order: encryption, well-formedness, then the backend. */
static void start_session(struct pgwire_conn *conn, uint32_t version, const uint8_t *data,
                          size_t len)
{
    struct pgwire_server *server = conn->server;
    ASSERT(conn->startup.len == 0);
    if (server->config.require_tls && !conn->tls) {
        pgwire_fatal(conn, err_hint(err_sql(ERR_PERMISSION, "28000", "TLS encryption is required"),
                                    "Connect with sslmode=require."));
        return;
    }
    buf_append(&conn->startup, data, len);
    err_t err = split_parameters(conn);
    if (err == ERR_OK) {
        negotiate(conn, version);
        err = take_parameters(conn);
    }
    const struct scram_verifier *verifier = NULL;
    if (err == ERR_OK) {
        err = server->config.backend->authenticate(server->config.ctx, &conn->info, &verifier);
    }
    if (err != ERR_OK) {
        pgwire_fatal(conn, err);
        return;
    }
    if (verifier == NULL) {
        authenticated(conn);
        return;
    }
    conn->verifier = verifier;
    conn->phase = PGWIRE_SASL;
    pgwire_out_begin(conn, 'R');
    pgwire_out_u32(conn, 10); /* AuthenticationSASL, and the mechanisms there are */
    pgwire_out_cstr(conn, "SCRAM-SHA-256");
    pgwire_out_u8(conn, 0);
    pgwire_out_end(conn);
}

/* The first four bytes decide: a protocol version, or one of the special numbers. SSLRequest and
 * GSSENCRequest may come first and leave us waiting for the next packet. */
void pgwire_startup_packet(struct pgwire_conn *conn, const uint8_t *data, size_t len)
{
    ASSERT(len >= 4 && conn->phase == PGWIRE_STARTUP);
    uint32_t version = pgwire_u32(data);
    switch (version) {
    case REQUEST_SSL:
        if (len == 4) {
            answer_ssl(conn);
            return;
        }
        break;
    case REQUEST_GSSENC:
        if (len == 4) {
            io_stream_write(conn->stream, "N", 1);
            return;
        }
        break;
    case REQUEST_CANCEL:
        if (len == 12) {
            pgwire_server_cancel(conn->server, pgwire_u32(data + 4), pgwire_u32(data + 8));
            pgwire_conn_drop(conn);
            return;
        }
        break;
    /* Version 2 ended with PostgreSQL 14; a later major version than 3 does not exist. */
    default:
        if (version >> 16 == 3) {
            start_session(conn, version, data + 4, len - 4);
            return;
        }
        pgwire_fatal(conn, err_sql(ERR_UNSUPPORTED, "0A000",
                                   "unsupported frontend protocol %u.%u: server supports 3.0",
                                   version >> 16, version & 0xffff));
        return;
    }
    pgwire_fatal(conn, err_sql(ERR_PROTOCOL, "08P01", "invalid length of startup packet"));
}

/* SASLInitialResponse: mechanism, length, the client's first message. */
static err_t sasl_first(struct pgwire_conn *conn, const uint8_t *data, size_t len,
                        struct buf *answer)
{
    ASSERT(conn->verifier != NULL);
    const uint8_t *nul = memchr(data, 0, len);
    if (nul == NULL || (size_t)(nul - data) + 5 > len) {
        return err_sql(ERR_PROTOCOL, "08P01", "malformed SASLInitialResponse");
    }
    if (strcmp((const char *)data, "SCRAM-SHA-256") != 0) {
        return err_sql(ERR_PROTOCOL, "08P01", "client selected an invalid SASL mechanism");
    }
    size_t body_len = len - (size_t)(nul - data) - 5;
    /* The length may be -1 for "no first message", which SCRAM does not have. */
    if (pgwire_u32(nul + 1) != body_len) {
        return err_sql(ERR_PROTOCOL, "08P01", "malformed SASLInitialResponse");
    }
    uint8_t nonce[SCRAM_NONCE_LEN];
    io_random(io_loop_env(conn->server->config.loop), nonce, sizeof(nonce));
    return scram_first(&conn->scram, conn->verifier, nul + 5, body_len, nonce, answer);
}

/* Each way a password can be wrong gives the same message, naming the user as PostgreSQL does: it
 * must not tell whether the user exists. */
void pgwire_startup_password(struct pgwire_conn *conn, const uint8_t *data, size_t len)
{
    bool final = conn->phase == PGWIRE_SASL_FINAL;
    struct buf answer = {0};
    ASSERT(final || conn->phase == PGWIRE_SASL);
    err_t err = final ? scram_final(&conn->scram, data, len, &answer)
                      : sasl_first(conn, data, len, &answer);
    if (err == ERR_OK) {
        pgwire_out_begin(conn, 'R');
        pgwire_out_u32(conn, final ? 12 : 11); /* SASLFinal, SASLContinue */
        buf_append(&conn->out, answer.data, answer.len);
        pgwire_out_end(conn);
    }
    buf_free(&answer);
    /* scram.c does not know the user. */
    if (err != ERR_OK && strcmp(err_sqlstate(err), "28P01") == 0) {
        err_free(err);
        err = err_sql(ERR_PERMISSION, "28P01", "password authentication failed for user \"%s\"",
                      conn->info.user);
    }
    if (err != ERR_OK) {
        pgwire_fatal(conn, err);
    } else if (final) {
        authenticated(conn);
    } else {
        conn->phase = PGWIRE_SASL_FINAL;
    }
}
