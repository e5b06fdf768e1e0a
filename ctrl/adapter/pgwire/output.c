/*
 * pgwire: the encoding of everything the server says.
 *
 * Answers gather in conn->out and leave when 64 KiB are together or the request ends. A session
 * that sends rows asks pgwire_writable between them; when the peer reads too slowly it stops and
 * goes on at backend->drained. Nothing here fails: writing to a connection that is gone goes
 * nowhere.
 */
#include "ctrl/adapter/pgwire/pgwire_internal.h"

#include "core/base/assert.h"

#include <stdio.h>

/* A message is built in conn->out between begin and end; its length is filled in by end. Only one
 * at a time is under construction, and nothing may flush in between. */
void pgwire_out_begin(struct pgwire_conn *conn, char type)
{
    buf_append_byte(&conn->out, (uint8_t)type);
    conn->message_at = conn->out.len;
    pgwire_out_u32(conn, 0);
}

/* Integers of the protocol, most significant byte first; they never fail. */
void pgwire_out_u8(struct pgwire_conn *conn, uint8_t v)
{
    buf_append_byte(&conn->out, v);
}

void pgwire_out_u16(struct pgwire_conn *conn, uint16_t v)
{
    uint8_t b[2] = {(uint8_t)(v >> 8), (uint8_t)v};
    buf_append(&conn->out, b, sizeof(b));
}

/* Big-endian, at any address. */
static void store_u32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

void pgwire_out_u32(struct pgwire_conn *conn, uint32_t v)
{
    uint8_t b[4];
    store_u32(b, v);
    buf_append(&conn->out, b, sizeof(b));
}

/* A NUL inside would end it early: names and messages have none, since text is checked on its way
 * in. */
void pgwire_out_cstr(struct pgwire_conn *conn, const char *s)
{
    ASSERT(s != NULL);
    buf_append(&conn->out, s, strlen(s) + 1);
}

/* Answers leave in pieces of 64 KiB or at the end of the request, whichever is first: a row of its
 * own would cost a system call each. */
void pgwire_out_end(struct pgwire_conn *conn)
{
    size_t len = conn->out.len - conn->message_at;
    ASSERT(len >= 4 && len <= INT32_MAX);
    store_u32(conn->out.data + conn->message_at, (uint32_t)len);
    if (conn->out.len >= PGWIRE_OUT_CHUNK) {
        pgwire_flush(conn);
    }
}

/* The stream copies: conn->out keeps its memory for the next answer. */
void pgwire_flush(struct pgwire_conn *conn)
{
    if (conn->out.len == 0) {
        return;
    }
    if (conn->stream != NULL) {
        io_stream_write(conn->stream, conn->out.data, conn->out.len);
        if (conn->server->bytes_out != NULL) {
            metric_add(conn->server->bytes_out, conn->out.len);
        }
    }
    buf_clear(&conn->out);
}

/* Advice: whoever goes on writing is not refused, memory grows. True for a connection that is gone,
 * so that loops end. */
bool pgwire_writable(const struct pgwire_conn *conn)
{
    return conn->stream == NULL || io_stream_pending(conn->stream) < PGWIRE_HIGH_WATER;
}

/* Empty fields are left out, as PostgreSQL does. */
static void out_field(struct pgwire_conn *conn, char code, const char *value)
{
    ASSERT(value != NULL);
    if (value[0] != '\0') {
        pgwire_out_u8(conn, (uint8_t)code);
        pgwire_out_cstr(conn, value);
    }
}

/* ErrorResponse and NoticeResponse have the same fields. S is localised, V is not; here both are
 * English. M must not be missing. */
void pgwire_out_error(struct pgwire_conn *conn, char type, const char *severity,
                      const struct err *err)
{
    ASSERT(err != NULL && (type == 'E' || type == 'N'));
    char position[16];
    pgwire_out_begin(conn, type);
    out_field(conn, 'S', severity);
    out_field(conn, 'V', severity);
    out_field(conn, 'C', err_sqlstate(err));
    out_field(conn, 'M', err_message(err)[0] != '\0' ? err_message(err) : "(no message)");
    out_field(conn, 'D', err_detail_get(err));
    out_field(conn, 'H', err_hint_get(err));
    out_field(conn, 'W', err_context_get(err));
    if (err_position_get(err) > 0) {
        snprintf(position, sizeof(position), "%d", err_position_get(err));
        out_field(conn, 'P', position);
    }
    pgwire_out_u8(conn, 0);
    pgwire_out_end(conn);
}

/* After it the client may send again; the letter lets psql show "=>", "=*>" or "=!>". */
void pgwire_out_ready(struct pgwire_conn *conn)
{
    ASSERT(conn->transaction != '\0');
    pgwire_out_begin(conn, 'Z');
    pgwire_out_u8(conn, (uint8_t)conn->transaction);
    pgwire_out_end(conn);
}

/* Only remembered; the client learns of it with the next ReadyForQuery. */
void pgwire_set_transaction(struct pgwire_conn *conn, char status)
{
    ASSERT(status == 'I' || status == 'T' || status == 'E');
    conn->transaction = status;
}

/* Also in the middle of a request: SET is told at once. */
void pgwire_send_parameter(struct pgwire_conn *conn, const char *name, const char *value)
{
    ASSERT(name != NULL && value != NULL);
    pgwire_out_begin(conn, 'S');
    pgwire_out_cstr(conn, name);
    pgwire_out_cstr(conn, value);
    pgwire_out_end(conn);
}

void pgwire_send_notice(struct pgwire_conn *conn, const char *severity, const struct err *err)
{
    pgwire_out_error(conn, 'N', severity, err);
}

/* Messages that say all by their type. */
static void send_empty(struct pgwire_conn *conn, char type)
{
    pgwire_out_begin(conn, type);
    pgwire_out_end(conn);
}

void pgwire_send_parse_complete(struct pgwire_conn *conn)
{
    send_empty(conn, '1');
}

void pgwire_send_bind_complete(struct pgwire_conn *conn)
{
    send_empty(conn, '2');
}

void pgwire_send_close_complete(struct pgwire_conn *conn)
{
    send_empty(conn, '3');
}

void pgwire_send_no_data(struct pgwire_conn *conn)
{
    send_empty(conn, 'n');
}

void pgwire_send_empty_query(struct pgwire_conn *conn)
{
    send_empty(conn, 'I');
}

void pgwire_send_portal_suspended(struct pgwire_conn *conn)
{
    send_empty(conn, 's');
}

void pgwire_send_copy_done(struct pgwire_conn *conn)
{
    send_empty(conn, 'c');
}

/* The tag is what psql prints, and how drivers learn the number of rows: "INSERT 0 3". */
void pgwire_send_command_complete(struct pgwire_conn *conn, const char *tag)
{
    ASSERT(tag[0] != '\0');
    pgwire_out_begin(conn, 'C');
    pgwire_out_cstr(conn, tag);
    pgwire_out_end(conn);
}

/* One oid a parameter, as the planner settled them. */
void pgwire_send_parameter_description(struct pgwire_conn *conn, const struct type *types,
                                       size_t len)
{
    ASSERT(len <= PGWIRE_PARAMS_MAX);
    pgwire_out_begin(conn, 't');
    pgwire_out_u16(conn, (uint16_t)len);
    for (size_t i = 0; i < len; i++) {
        pgwire_out_u32(conn, types[i].oid);
    }
    pgwire_out_end(conn);
}

/* pg_type.typlen of a result column: -1 for variable width. Clients size their buffers by it;
 * NUMERIC and DATE differ from our own widths. */
static int16_t type_length(const struct type *type)
{
    ASSERT(type->kind != 0);
    switch ((enum type_kind)type->kind) {
    case TYPE_OID: return 4;
    case TYPE_NUMERIC: return -1;
    case TYPE_DATE: return 4;
    default: break;
    }
    size_t width = type_width((enum type_kind)type->kind);
    return width == 0 ? -1 : (int16_t)width;
}

/* A statement that is only described (Describe of a name) has no formats yet: all text. */
void pgwire_send_row_description(struct pgwire_conn *conn, const char *const *names,
                                 const struct type *types, size_t len, const int16_t *formats)
{
    ASSERT(len <= PGWIRE_PARAMS_MAX);
    pgwire_out_begin(conn, 'T');
    pgwire_out_u16(conn, (uint16_t)len);
    for (size_t i = 0; i < len; i++) {
        pgwire_out_cstr(conn, names[i]);
        pgwire_out_u32(conn, 0); /* not a plain column of a table */
        pgwire_out_u16(conn, 0);
        pgwire_out_u32(conn, types[i].oid);
        pgwire_out_u16(conn, (uint16_t)type_length(&types[i]));
        pgwire_out_u32(conn, (uint32_t)types[i].typmod);
        pgwire_out_u16(conn, (uint16_t)(formats == NULL ? 0 : formats[i]));
    }
    pgwire_out_end(conn);
}

/* Values go straight into the output, their length is patched behind: nothing is copied twice. */
void pgwire_send_row(struct pgwire_conn *conn, const struct type *types,
                     const struct datum *values, size_t len, const int16_t *formats)
{
    ASSERT(len <= PGWIRE_PARAMS_MAX);
    pgwire_out_begin(conn, 'D');
    pgwire_out_u16(conn, (uint16_t)len);
    for (size_t i = 0; i < len; i++) {
        size_t at = conn->out.len;
        pgwire_out_u32(conn, UINT32_MAX); /* the length, filled in below; stays -1 for NULL */
        if (values[i].null) {
            continue;
        }
        if (formats != NULL && formats[i] == 1) {
            datum_send(&types[i], &values[i], &conn->out);
        } else {
            datum_print(&types[i], &values[i], &conn->out);
        }
        store_u32(conn->out.data + at, (uint32_t)(conn->out.len - at - 4));
    }
    pgwire_out_end(conn);
}

/* The overall format, then one for each column, which must be the same. */
static void send_copy_begin(struct pgwire_conn *conn, char type, size_t columns, bool binary)
{
    ASSERT(columns <= PGWIRE_PARAMS_MAX);
    pgwire_out_begin(conn, type);
    pgwire_out_u8(conn, binary);
    pgwire_out_u16(conn, (uint16_t)columns);
    for (size_t i = 0; i < columns; i++) {
        pgwire_out_u16(conn, binary);
    }
    pgwire_out_end(conn);
}

/* Flushed, for the client does not send a byte before it has seen this. */
void pgwire_send_copy_in(struct pgwire_conn *conn, size_t columns, bool binary)
{
    ASSERT(conn->request != 0 && !conn->copy_in);
    send_copy_begin(conn, 'G', columns, binary);
    conn->copy_in = true;
    pgwire_flush(conn);
}

void pgwire_send_copy_out(struct pgwire_conn *conn, size_t columns, bool binary)
{
    ASSERT(!conn->copy_in);
    send_copy_begin(conn, 'H', columns, binary);
}

/* A message need not hold one whole row; ours do. */
void pgwire_send_copy_data(struct pgwire_conn *conn, const void *data, size_t len)
{
    pgwire_out_begin(conn, 'd');
    buf_append(&conn->out, data, len);
    pgwire_out_end(conn);
}
