/* A PostgreSQL client for simulated processes: see pgclient.h. Protocol 3.0. */
#include "tests/sim/pgclient.h"

#include "core/base/buf.h"
#include "core/base/mem.h"

#include <stdio.h>

enum { COLUMNS_MAX = 64 };

struct pgclient {
    struct io_stream *stream;
    const struct pgclient_handler *handler;
    void *arg;
    struct buf in;
    char sqlstate[6];
    char message[512];
    bool dead;    /* closed from inside a callback */
    int nesting;  /* callbacks under way */
};

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put_be32(struct buf *out, uint32_t v)
{
    const uint8_t bytes[] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    buf_append(out, bytes, 4);
}

static void client_free(struct pgclient *c)
{
    buf_free(&c->in);
    free(c);
}

static void send_message(struct pgclient *c, char type, const void *body, size_t len)
{
    struct buf out = {0};
    if (type != 0) {
        buf_append_byte(&out, (uint8_t)type);
    }
    put_be32(&out, (uint32_t)len + 4);
    buf_append(&out, body, len);
    io_stream_write(c->stream, out.data, out.len);
    buf_free(&out);
}

void pgclient_query(struct pgclient *c, const char *sql)
{
    ASSERT(!c->dead);
    c->sqlstate[0] = c->message[0] = '\0';
    send_message(c, 'Q', sql, strlen(sql) + 1);
}

static void take_error(struct pgclient *c, const uint8_t *body, size_t len)
{
    for (size_t at = 0; at < len && body[at] != 0;) {
        char field = (char)body[at++];
        const char *value = (const char *)body + at;
        size_t value_len = strnlen(value, len - at);
        if (field == 'C') {
            snprintf(c->sqlstate, sizeof(c->sqlstate), "%.5s", value);
        } else if (field == 'M') {
            snprintf(c->message, sizeof(c->message), "%.*s", (int)value_len, value);
        }
        at += value_len + 1;
    }
}

static void take_row(struct pgclient *c, const uint8_t *body, size_t len)
{
    ASSERT(len >= 2);
    size_t columns = (size_t)body[0] << 8 | body[1];
    char *copies[COLUMNS_MAX];
    ASSERT(columns <= COLUMNS_MAX);
    size_t at = 2;
    for (size_t i = 0; i < columns; i++) {
        ASSERT(at + 4 <= len);
        int32_t size = (int32_t)be32(body + at);
        at += 4;
        copies[i] = size < 0 ? NULL : mem_strndup((const char *)body + at, (size_t)size);
        at += size < 0 ? 0 : (size_t)size;
    }
    if (c->handler->row != NULL) {
        c->handler->row(c->arg, (const char *const *)copies, columns);
    }
    for (size_t i = 0; i < columns; i++) {
        free(copies[i]);
    }
}

static void take_copy_data(struct pgclient *c, const uint8_t *body, size_t len)
{
    char *text = mem_strndup((const char *)body, len);
    char *rest = text;
    while (rest != NULL && *rest != '\0' && !c->dead) {
        char *line = strsep(&rest, "\n");
        if (c->handler->line != NULL) {
            c->handler->line(c->arg, line);
        }
    }
    free(text);
}

static void handle(struct pgclient *c, char type, const uint8_t *body, size_t len)
{
    switch (type) {
    case 'E': take_error(c, body, len); break;
    case 'D': take_row(c, body, len); break;
    case 'd': take_copy_data(c, body, len); break;
    case 'Z': c->handler->ready(c->arg, c->sqlstate, c->message); break;
    default: break; /* parameters, tags, notices */
    }
}

static void on_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    struct pgclient *c = arg;
    buf_append(&c->in, data, len);
    c->nesting++;
    size_t at = 0;
    while (!c->dead && c->in.len - at >= 5) {
        size_t body = be32(c->in.data + at + 1) - 4;
        if (c->in.len - at - 5 < body) {
            break;
        }
        handle(c, (char)c->in.data[at], c->in.data + at + 5, body);
        at += 5 + body;
    }
    c->nesting--;
    if (c->dead) {
        client_free(c);
        return;
    }
    buf_consume(&c->in, at);
}

static void on_close(void *arg, err_t reason)
{
    struct pgclient *c = arg;
    err_free(reason);
    c->handler->closed(c->arg);
    client_free(c);
}

static const struct io_stream_handler stream_handler = {.data = on_data, .close = on_close};

static void on_connected(void *arg, struct io_stream *stream)
{
    struct pgclient *c = arg;
    struct buf body = {0};
    put_be32(&body, 196608);
    static const char parameters[] = "user\0tailrace\0database\0tailrace\0";
    buf_append(&body, parameters, sizeof(parameters));
    send_message(c, 0, body.data, body.len);
    buf_free(&body);
}

struct pgclient *pgclient_new(struct io_loop *loop, const char *address,
                              const struct pgclient_handler *handler, void *arg)
{
    struct pgclient *c = MEM_NEW(struct pgclient);
    c->handler = handler;
    c->arg = arg;
    err_t err = io_connect(loop, address, &stream_handler, c, on_connected, &c->stream);
    ASSERT(err == ERR_OK);
    return c;
}

void pgclient_close(struct pgclient *c)
{
    if (c == NULL) {
        return;
    }
    io_stream_close(c->stream);
    c->dead = true;
    if (c->nesting == 0) {
        client_free(c);
    }
}
